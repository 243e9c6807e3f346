/* Values of options. */
#ifndef GDNCP_BENCH_PARSE_H
#define GDNCP_BENCH_PARSE_H

#include <stdint.h>

#include "gdncp/status.h"
#include "gdncp/tensor.h"

enum { BENCH_MAX_DTYPES = 3 };

/* option: its name, for the sentence of an error. */
gdncp_status_t bench_parse_integer(const char *option, const char *text, int64_t minimum,
                                   int64_t maximum, int64_t *value_p);
gdncp_status_t bench_parse_int(const char *option, const char *text, int minimum, int maximum,
                               int *value_p);

/* Names with commas between; dtypes [BENCH_MAX_DTYPES]. */
gdncp_status_t bench_parse_dtypes(const char *text, gdncp_dtype_t *dtypes, int *count_p);

#endif
