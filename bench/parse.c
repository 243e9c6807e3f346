#include "parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

gdncp_status_t bench_parse_integer(const char *option, const char *text, int64_t minimum,
                                   int64_t maximum, int64_t *value_p)
{
    char *end;

    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < minimum || value > maximum) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected an integer %" PRId64 "..%" PRId64 ", got '%s'", option,
                          minimum, maximum, text);
    }
    *value_p = value;
    return GDNCP_OK;
}

gdncp_status_t bench_parse_int(const char *option, const char *text, int minimum, int maximum,
                               int *value_p)
{
    int64_t value = 0;
    const gdncp_status_t status = bench_parse_integer(option, text, minimum, maximum, &value);

    if (status == GDNCP_OK) {
        *value_p = (int)value;
    }
    return status;
}

gdncp_status_t bench_parse_dtypes(const char *text, gdncp_dtype_t *dtypes, int *count_p)
{
    static const gdncp_dtype_t known[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};

    int count = 0;

    for (const char *item = text; item != NULL;) {
        const size_t length = strcspn(item, ",");
        const int before = count;

        for (int i = 0; i < BENCH_MAX_DTYPES && before < BENCH_MAX_DTYPES; i++) {
            const char *const name = gdncp_dtype_name(known[i]);

            if (strlen(name) == length && strncmp(name, item, length) == 0) {
                dtypes[count++] = known[i];
            }
        }
        if (count == before) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "--dtype: expected bf16, f16, f32, or up to three with commas, "
                              "got '%s'",
                              text);
        }
        item = item[length] == ',' ? item + length + 1 : NULL;
    }
    *count_p = count;
    return GDNCP_OK;
}
