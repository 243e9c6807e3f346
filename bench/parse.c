#include "parse.h"

#include <string.h>

#include "error.h"
#include "option_values.h"

gdncp_status_t bench_parse_dtypes(const char *text, gdncp_dtype_t *dtypes, int *count_p)
{
    static const gdncp_dtype_t known[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};

    char name[OPTION_NAME_BYTES];
    int count = 0;

    for (const char *rest = text; option_next_name(&rest, name);) {
        const int before = count;

        for (int i = 0; i < BENCH_MAX_DTYPES && before < BENCH_MAX_DTYPES; i++) {
            if (strcmp(gdncp_dtype_name(known[i]), name) == 0) {
                dtypes[count++] = known[i];
            }
        }
        if (count == before) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "--dtype: expected bf16, f16, f32, or up to three with commas, "
                              "got '%s'",
                              text);
        }
    }
    *count_p = count;
    return GDNCP_OK;
}
