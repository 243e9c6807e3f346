/* Products of small float32 matrices on libxsmm's just-in-time kernels. */
#include "small_gemm.h"

#include <limits.h>

#include <libxsmm.h>

/* Side of the square blocks a transpose goes by: a block of each side stays in the first cache. */
#define TRANSPOSE_BLOCK 16

static void clear(int64_t m, int64_t n, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            c[i * ldc + j] = 0.0f;
        }
    }
}

/* Where libxsmm has no kernel: other processors, rows too far apart. a_row and a_column: strides of
 * the [m, k] view of A. */
static void multiply_plain(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
                           int64_t a_column, const float *b, int64_t ldb, bool accumulate, float *c,
                           int64_t ldc)
{
    if (!accumulate) {
        clear(m, n, c, ldc);
    }
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < k; l++) {
            const float factor = a[i * a_row + l * a_column];

            for (int64_t j = 0; j < n; j++) {
                c[i * ldc + j] += factor * b[l * ldb + j];
            }
        }
    }
}

/*
 * libxsmm is column-major: it sees our C as C' [n, m] = B' [n, k] (A or A')' [k, m], so B comes
 * first, and an A stored as [k, m] is its transposed second operand.
 */
static void multiply(bool a_is_transposed, int64_t m, int64_t n, int64_t k, const float *a,
                     int64_t lda, const float *b, int64_t ldb, bool accumulate, float *c,
                     int64_t ldc)
{
    if (m == 0 || n == 0) {
        return;
    }
    if (k == 0) {
        if (!accumulate) {
            clear(m, n, c, ldc);
        }
        return;
    }
    const libxsmm_blasint xsmm_lda = (libxsmm_blasint)ldb;
    const libxsmm_blasint xsmm_ldb = (libxsmm_blasint)lda;
    const libxsmm_blasint xsmm_ldc = (libxsmm_blasint)ldc;
    const float alpha = 1.0f;
    const float beta = accumulate ? 1.0f : 0.0f;
    const int flags = a_is_transposed ? LIBXSMM_GEMM_FLAG_TRANS_B : LIBXSMM_GEMM_FLAG_NONE;
    const int prefetch = LIBXSMM_PREFETCH_NONE;
    const bool fits = lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX;
    const libxsmm_smmfunction kernel =
        fits
            ? libxsmm_smmdispatch((libxsmm_blasint)n, (libxsmm_blasint)m, (libxsmm_blasint)k,
                                  &xsmm_lda, &xsmm_ldb, &xsmm_ldc, &alpha, &beta, &flags, &prefetch)
            : NULL;

    if (kernel != NULL) {
        kernel(b, a, c);
    } else {
        multiply_plain(m, n, k, a, a_is_transposed ? 1 : lda, a_is_transposed ? lda : 1, b, ldb,
                       accumulate, c, ldc);
    }
}

void gdncp_gemm(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                int64_t ldb, bool accumulate, float *c, int64_t ldc)
{
    multiply(false, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
}

void gdncp_gemm_tn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b,
                   int64_t ldb, bool accumulate, float *c, int64_t ldc)
{
    multiply(true, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
}

static int64_t smaller(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

void gdncp_transpose(int64_t rows, int64_t columns, const float *src, int64_t src_ld, float *dst,
                     int64_t dst_ld)
{
    for (int64_t i = 0; i < rows; i += TRANSPOSE_BLOCK) {
        const int64_t row_end = smaller(i + TRANSPOSE_BLOCK, rows);

        for (int64_t j = 0; j < columns; j += TRANSPOSE_BLOCK) {
            const int64_t column_end = smaller(j + TRANSPOSE_BLOCK, columns);

            for (int64_t column = j; column < column_end; column++) {
                for (int64_t row = i; row < row_end; row++) {
                    dst[column * dst_ld + row] = src[row * src_ld + column];
                }
            }
        }
    }
}
