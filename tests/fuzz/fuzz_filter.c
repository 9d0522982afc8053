/* Any bytes as the contents of a filter block: parsed and asked. */
#include "lsm/table/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sdb_filter filter;
    if (sdb_filter_parse(storm_bytes(data, size), &filter) != STORM_OK)
        return 0;
    for (uint64_t i = 0; i < 64; i++)
        (void)sdb_filter_may_contain(&filter, i * UINT64_C(0x9e3779b97f4a7c15));
    (void)sdb_filter_may_contain(&filter, UINT64_MAX);
    return 0;
}
