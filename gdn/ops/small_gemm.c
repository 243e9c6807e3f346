/* Products of small float32 matrices on libxsmm's just-in-time kernels. */
#include "small_gemm.h"

#include <limits.h>
#include <string.h>

#include <libxsmm.h>

#include "inline_math.h"

/* Kernels that a thread keeps at hand, a power of two. */
#define KERNEL_SLOTS 256

static int64_t smaller(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

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

/* What libxsmm makes a kernel for; no padding, so that it compares as bytes. */
typedef struct kernel_key {
    int32_t m;
    int32_t n;
    int32_t k;
    int32_t lda;
    int32_t ldb;
    int32_t ldc;
    int32_t a_is_transposed;
    int32_t accumulate;
} kernel_key_t;

/*
 * libxsmm is column-major: it sees our C as C' [n, m] = B' [n, k] (A or A')' [k, m], so B comes
 * first, and an A stored as [k, m] is its transposed second operand.
 */
static libxsmm_smmfunction make_kernel(const kernel_key_t *key)
{
    const float alpha = 1.0f;
    const float beta = key->accumulate ? 1.0f : 0.0f;
    const int flags = key->a_is_transposed ? LIBXSMM_GEMM_FLAG_TRANS_B : LIBXSMM_GEMM_FLAG_NONE;
    const int prefetch = LIBXSMM_PREFETCH_NONE;

    return libxsmm_smmdispatch(key->n, key->m, key->k, &key->ldb, &key->lda, &key->ldc, &alpha,
                               &beta, &flags, &prefetch);
}

/* A number that tells most keys apart. */
static uint32_t hash_key(const kernel_key_t *key)
{
    uint32_t hash = (uint32_t)key->m;

    hash = hash * 31 + (uint32_t)key->n;
    hash = hash * 31 + (uint32_t)key->k;
    hash = hash * 31 + (uint32_t)key->lda;
    hash = hash * 31 + (uint32_t)key->ldb;
    hash = hash * 31 + (uint32_t)key->ldc;
    hash = hash * 4 + (uint32_t)(key->a_is_transposed * 2 + key->accumulate);
    return (hash * 0x9e3779b1u) >> 16;
}

/* The kernel, or NULL. libxsmm's own search takes as long as its smallest products; kernels live
 * as long as the process, so a slot never goes stale. */
static libxsmm_smmfunction find_kernel(const kernel_key_t *key)
{
    static _Thread_local struct {
        kernel_key_t key;
        libxsmm_smmfunction kernel;
    } slots[KERNEL_SLOTS];
    const uint32_t slot = hash_key(key) % KERNEL_SLOTS;

    if (slots[slot].kernel == NULL || memcmp(&slots[slot].key, key, sizeof *key) != 0) {
        slots[slot].key = *key;
        slots[slot].kernel = make_kernel(key);
    }
    return slots[slot].kernel;
}

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
    const bool fits = lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX;
    const kernel_key_t key = {.m = (int32_t)m,
                              .n = (int32_t)n,
                              .k = (int32_t)k,
                              .lda = (int32_t)lda,
                              .ldb = (int32_t)ldb,
                              .ldc = (int32_t)ldc,
                              .a_is_transposed = a_is_transposed,
                              .accumulate = accumulate};
    const libxsmm_smmfunction kernel = fits ? find_kernel(&key) : NULL;

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

void gdncp_gemm_lower(int64_t m, int64_t n, const float *a, int64_t lda, const float *b,
                      int64_t ldb, bool accumulate, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i += GDNCP_TRIANGLE_BLOCK) {
        const int64_t end = smaller(i + GDNCP_TRIANGLE_BLOCK, m);

        multiply(false, end - i, n, end, a + i * lda, lda, b, ldb, accumulate, c + i * ldc, ldc);
    }
}

void gdncp_gemm_lower_tn(int64_t m, int64_t n, const float *a, int64_t lda, const float *b,
                         int64_t ldb, bool accumulate, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i += GDNCP_TRIANGLE_BLOCK) {
        const int64_t end = smaller(i + GDNCP_TRIANGLE_BLOCK, m);

        multiply(true, end - i, n, m - i, a + i * lda + i, lda, b + i * ldb, ldb, accumulate,
                 c + i * ldc, ldc);
    }
}

void gdncp_gemm_pairs(int64_t m, int64_t k, const float *a, int64_t lda, const float *b,
                      int64_t ldb, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i += GDNCP_TRIANGLE_BLOCK) {
        const int64_t end = smaller(i + GDNCP_TRIANGLE_BLOCK, m);

        multiply(false, end - i, end, k, a + i * lda, lda, b, ldb, false, c + i * ldc, ldc);
    }
}

/* Eight floats of a row. */
typedef float octet_t __attribute__((vector_size(32)));

/* dst[j][i] = src[i][j] for an 8 by 8 block: neighbours are interleaved by ones, twos and fours. */
GDNCP_ALWAYS_INLINE void transpose_octets(const float *src, int64_t src_ld, float *dst,
                                          int64_t dst_ld)
{
    octet_t a[8];
    octet_t b[8];

    for (int i = 0; i < 8; i++) {
        memcpy(&a[i], src + i * src_ld, sizeof a[i]);
    }
    for (int i = 0; i < 8; i += 2) {
        b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = i; j < i + 2; j++) {
            a[j] = __builtin_shufflevector(b[j], b[j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[j + 2] = __builtin_shufflevector(b[j], b[j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    }
    for (int j = 0; j < 4; j++) {
        b[j] = __builtin_shufflevector(a[j], a[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        b[j + 4] = __builtin_shufflevector(a[j], a[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int i = 0; i < 8; i++) {
        memcpy(dst + i * dst_ld, &b[i], sizeof b[i]);
    }
}

GDNCP_VECTOR_CLONES
static void transpose(int64_t rows, int64_t columns, const float *src, int64_t src_ld, float *dst,
                      int64_t dst_ld)
{
    const int64_t whole_rows = rows & ~(int64_t)7;
    const int64_t whole_columns = columns & ~(int64_t)7;

    for (int64_t j = 0; j < whole_columns; j += 8) {
        for (int64_t i = 0; i < whole_rows; i += 8) {
            transpose_octets(src + i * src_ld + j, src_ld, dst + j * dst_ld + i, dst_ld);
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; j++) {
            dst[j * dst_ld + i] = src[i * src_ld + j];
        }
    }
}

void gdncp_transpose(int64_t rows, int64_t columns, const float *src, int64_t src_ld, float *dst,
                     int64_t dst_ld)
{
    transpose(rows, columns, src, src_ld, dst, dst_ld);
}
