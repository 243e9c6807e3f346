/* Sums of what several ranks contribute: each addition in float32, rounded once. */
#ifndef GDNCP_ADD_TERMS_H
#define GDNCP_ADD_TERMS_H

#include "gdncp/tensor.h"

/* Elements that are added at a time: a total and its terms stay in the first cache. */
enum { GDNCP_TOTAL_ELEMENTS = 2048 };

typedef struct gdncp_total {
    union {
        float f32[GDNCP_TOTAL_ELEMENTS];
        double f64[GDNCP_TOTAL_ELEMENTS]; /* of f64, whose sums are not rounded */
    } sum;
    uint16_t rounded[GDNCP_TOTAL_ELEMENTS];
} gdncp_total_t;

/*
 * Begin a total with its first term or its first two, and add more. dtype is F32, BF16, F16 or F64,
 * the same in all calls for a total, as is count, which is at most GDNCP_TOTAL_ELEMENTS. NaN stays
 * NaN.
 */
void gdncp_total_begin(gdncp_total_t *total, gdncp_dtype_t dtype, const void *term, int64_t count);
void gdncp_total_begin_pair(gdncp_total_t *total, gdncp_dtype_t dtype, const void *a, const void *b,
                            int64_t count);
void gdncp_total_add(gdncp_total_t *total, gdncp_dtype_t dtype, const void *term, int64_t count);

/* The total in dtype, rounded to nearest even; it lies in *total. */
const void *gdncp_total_round(gdncp_total_t *total, gdncp_dtype_t dtype, int64_t count);

#endif
