/* The table of errors and the documents made from it. See errors.h. */
#include "errors.h"

#define API_ERROR(code, status, title, hint, meaning) {#code, status, title, hint, meaning},
const struct api_error_kind api_error_kinds[API_ERROR_COUNT] = {
#include "errors.def"
};
#undef API_ERROR

static void add_member(struct api_text *text, const char *name, struct storm_slice value)
{
    api_text_addf(text, ",\"%s\":", name);
    api_text_add_json(text, value);
}

void api_error_write(const struct api_error *error, struct api_text *text)
{
    const struct api_error_kind *kind = &api_error_kinds[error->code];
    const char *hint = error->hint == NULL ? kind->hint : error->hint;
    api_text_addf(text, "{\"type\":\"/docs/errors#%s\",\"title\":\"%s\",\"status\":%u", kind->code,
                  kind->title, kind->status);
    api_text_addf(text, ",\"code\":\"%s\"", kind->code);
    add_member(text, "detail", error->detail);
    if (hint[0] != '\0')
        add_member(text, "hint", storm_text(hint));
    if (error->extras != NULL)
        api_text_adds(text, error->extras);
    if (error->request_id != NULL)
        add_member(text, "request_id", storm_text(error->request_id));
    api_text_adds(text, "}\n");
}

enum api_error_code api_error_of(storm_status status)
{
    switch (status) {
    case STORM_NOT_FOUND:
        return API_ERROR_key_not_found;
    case STORM_CONFLICT:
        return API_ERROR_precondition_failed;
    case STORM_INVALID:
        return API_ERROR_not_storable;
    case STORM_TOO_LARGE:
        return API_ERROR_value_too_large;
    case STORM_BUSY:
    case STORM_NO_MEMORY:
        return API_ERROR_overloaded;
    case STORM_NO_SPACE:
        return API_ERROR_disk_full;
    case STORM_CORRUPT:
        return API_ERROR_corruption_detected;
    case STORM_READ_ONLY:
        return API_ERROR_read_only;
    case STORM_COMMIT_UNKNOWN:
        return API_ERROR_commit_unknown;
    case STORM_CLOSED:
        return API_ERROR_shutting_down;
    default:
        return API_ERROR_internal;
    }
}
