/* Lists of dtypes. */
#ifndef GDNCP_BENCH_PARSE_H
#define GDNCP_BENCH_PARSE_H

#include "gdncp/status.h"
#include "gdncp/tensor.h"

enum { BENCH_MAX_DTYPES = 3 };

/* Names with commas between; dtypes [BENCH_MAX_DTYPES]. */
gdncp_status_t bench_parse_dtypes(const char *text, gdncp_dtype_t *dtypes, int *count_p);

#endif
