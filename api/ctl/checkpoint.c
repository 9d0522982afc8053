/* stormctl checkpoint: a second store beside the first. */
#include <stdio.h>

#include "ctl.h"

const struct ctl_option ctl_checkpoint_options[] = {
    {"config", "FILE", "the server's configuration file, for how tables are written"},
    {"json", NULL, "write one JSON object"},
    {NULL, NULL, NULL},
};

static enum ctl_exit put_result(const struct ctl_call *call, uint64_t revision)
{
    const char *dir = call->operands[1];
    uint64_t bytes = ctl_directory_bytes(dir);
    char number[CTL_NUMBER_MAX], size[CTL_NUMBER_MAX];
    if (ctl_flag(call, "json"))
        return ctl_put_json(json_pack("{s:o, s:o}", "revision", ctl_json_number(revision), "bytes",
                                      ctl_json_number(bytes)),
                            CTL_OK);
    printf("%s: revision %s, %s\n", dir, ctl_count_text(number, revision),
           ctl_size_text(size, bytes));
    return CTL_OK;
}

enum ctl_exit ctl_checkpoint(const struct ctl_call *call)
{
    struct ctl_store store;
    uint64_t revision;
    enum ctl_exit code = ctl_open(call, CTL_ALONE, &store, NULL, 0);
    if (code != CTL_OK)
        return code;
    storm_status status = storm_checkpoint(store.db, call->operands[1], &revision);
    if (status == STORM_EXISTS)
        ctl_say("%s exists already; a checkpoint makes its directory itself", call->operands[1]);
    if (status != STORM_OK)
        code = status == STORM_EXISTS ? CTL_FAILED : ctl_fail(&store, status, "make a checkpoint");
    code = ctl_close(&store, code);
    return code == CTL_OK ? put_result(call, revision) : code;
}
