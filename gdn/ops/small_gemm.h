/* Products of small float32 matrices: the kernels all operators that multiply are built on. */
#ifndef GDNCP_SMALL_GEMM_H
#define GDNCP_SMALL_GEMM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * C = A B, or C += A B with `accumulate`: A [m, k], B [k, n], C [m, n].
 *
 * Row-major; ld* is the number of elements between rows. Any size may be 0. An element of C is
 * one sum over k in order, so its bits depend on its row of A and column of B only.
 */
void gdncp_gemm(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                int64_t ldb, bool accumulate, float *c, int64_t ldc);

/* C = A' B, or C += A' B: A [k, m], B [k, n], C [m, n]. */
void gdncp_gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                   int64_t ldb, bool accumulate, float *c, int64_t ldc);

/* Triangles go by so many rows. */
#define GDNCP_TRIANGLE_BLOCK 16

/* C = A B or C += A B, and C = A' B or C += A' B, for a lower triangular A [m, m]. Above its
 * diagonal only what lies in the blocks on it is read, and must be zero. B and C [m, n]. */
void gdncp_gemm_lower(int64_t m, int64_t n, const float *a, int64_t lda, const float *b,
                      int64_t ldb, bool accumulate, float *c, int64_t ldc);
void gdncp_gemm_lower_tn(int64_t m, int64_t n, const float *a, int64_t lda, const float *b,
                         int64_t ldb, bool accumulate, float *c, int64_t ldc);

/* The lower triangle of C = A B, and the rest of the blocks on its diagonal: A [m, k], B [k, m],
 * C [m, m]. */
void gdncp_gemm_pairs(int64_t m, int64_t k, const float *a, int64_t lda, const float *b,
                      int64_t ldb, float *c, int64_t ldc);

/* dst [columns, rows] = the transpose of src [rows, columns]. */
void gdncp_transpose(int64_t rows, int64_t columns, const float *src, int64_t src_ld, float *dst,
                     int64_t dst_ld);

#endif
