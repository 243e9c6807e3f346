/* Loops over float32 rows that compilers turn into vector code. */
#ifndef GDNCP_VECTOR_MATH_H
#define GDNCP_VECTOR_MATH_H

#include <stdint.h>

/* values[i] <- e^values[i], within 2 units in the last place; below the smallest float32: 0. */
void gdncp_vector_exp(float *values, int64_t count);

/* The sum of x[i] y[i] in double, in an order that depends on count only. */
double gdncp_vector_dot(const float *x, const float *y, int64_t count);

/* The sum of x[i]^2: the same bits as gdncp_vector_dot() of x and itself, in less time. */
double gdncp_vector_square(const float *x, int64_t count);

/* dst[i, :] = factors[i] src[i, :] for rows of `width`; ld: elements between rows. */
void gdncp_scale_rows(int64_t rows, int64_t width, const float *factors, const float *src,
                      int64_t src_ld, float *dst, int64_t dst_ld);

/* x = factor x for rows of `width`, `ld` elements apart. */
void gdncp_scale(int64_t rows, int64_t width, int64_t ld, float factor, float *x);

/* dst += src. */
void gdncp_add(int64_t count, const float *src, float *dst);

#endif
