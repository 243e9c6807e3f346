#include "conv1d_x86.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include "inline_math_x86.h"
#include "token_rows.h"

#define WIDTH GDNCP_CONV1D_X86_WIDTH
#define TOGETHER GDNCP_CONV1D_TOGETHER
#define LANES GDNCP_X86_LANES
#define INLINE GDNCP_AVX512_BF16_INLINE

bool gdncp_conv1d_x86_serves(const gdncp_conv1d_t *conv)
{
    return conv->weight.shape[1] == WIDTH && gdncp_x86_has_avx512_bf16();
}

bool gdncp_conv1d_x86_streams(const gdncp_tensor_t *out)
{
    const int64_t least_bytes = INT64_C(64) << 20;

    return out->dtype == GDNCP_F32 &&
           gdncp_tensor_num_elements(out) >= least_bytes / (int64_t)sizeof(float);
}

void gdncp_conv1d_x86_fence(void)
{
    _mm_sfence();
}

/* For each position, bias + sum_i weight[i] x[n + i], in order of i. */
INLINE __m512 weighted_sum(const __m512 *weight, __m512 bias, const __m512 *x)
{
    __m512 sum = bias;

    for (int i = 0; i < WIDTH; i++) {
        sum = _mm512_fmadd_ps(weight[i], x[i], sum);
    }
    return sum;
}

INLINE void store_out(const gdncp_dtype_t dtype, const gdncp_conv1d_x86_rows_t *rows, int n,
                      int64_t c, __mmask16 lanes, __m512 x)
{
    float *const out = (float *)rows->out[n] + c;

    if (dtype == GDNCP_F32 && rows->streams && lanes == GDNCP_X86_ALL_LANES &&
        (uintptr_t)out % GDNCP_LINE_BYTES == 0) {
        _mm512_stream_ps(out, x);
    } else {
        gdncp_x86_store(dtype, rows->out[n], c, lanes, x);
    }
}

/* backward, dtypes, silu and tokens are constants where this and what follows are inlined. */
INLINE void forward_lanes(const gdncp_dtype_t dtype, const gdncp_dtype_t outer, const bool silu,
                          const int tokens, const gdncp_conv1d_taps_t *taps,
                          const gdncp_conv1d_x86_rows_t *rows, int64_t c, __mmask16 lanes)
{
    const __m512 bias = _mm512_loadu_ps(taps->bias + c);
    __m512 weight[WIDTH];
    __m512 x[WIDTH - 1 + TOGETHER];

    for (int i = 0; i < WIDTH; i++) {
        weight[i] = _mm512_loadu_ps(taps->weight[i] + c);
    }
    for (int i = 0; i < WIDTH - 1 + tokens; i++) {
        x[i] = gdncp_x86_load(dtype, rows->x[i], c, lanes);
    }
    for (int n = 0; n < tokens; n++) {
        const __m512 u = weighted_sum(weight, bias, x + n);

        store_out(outer, rows, n, c, lanes, silu ? gdncp_x86_silu_for(outer, u) : u);
    }
}

INLINE void backward_lanes(const gdncp_dtype_t dtype, const gdncp_dtype_t outer, const bool silu,
                           const int tokens, const gdncp_conv1d_taps_t *taps,
                           const gdncp_conv1d_x86_rows_t *rows, int64_t c, __mmask16 lanes)
{
    const __m512 bias = _mm512_loadu_ps(taps->bias + c);
    __m512 weight[WIDTH];
    __m512 x[WIDTH - 1 + TOGETHER];
    __m512 grad_u[WIDTH - 1 + TOGETHER];
    __m512 bias_sum = _mm512_loadu_ps(rows->sums[WIDTH] + c);

    for (int i = 0; i < WIDTH; i++) {
        weight[i] = _mm512_loadu_ps(taps->weight[i] + c);
    }
    for (int i = 0; i < WIDTH - 1 + tokens; i++) {
        x[i] = gdncp_x86_load(dtype, rows->x[i], c, lanes);
    }
    for (int i = 0; i < WIDTH - 1; i++) {
        grad_u[i] = _mm512_loadu_ps(rows->last_grad_u[i] + c);
    }
    for (int n = 0; n < tokens; n++) {
        const __m512 grad_y = gdncp_x86_load(outer, rows->grad_y[n], c, lanes);

        if (silu) {
            const __m512 u = weighted_sum(weight, bias, x + n);

            grad_u[WIDTH - 1 + n] = _mm512_mul_ps(grad_y, gdncp_x86_split_silu_for(outer, u).slope);
        } else {
            grad_u[WIDTH - 1 + n] = grad_y;
        }
    }
    for (int i = 0; i < WIDTH; i++) {
        __m512 sum = _mm512_loadu_ps(rows->sums[i] + c);

        for (int n = 0; n < tokens; n++) {
            sum = _mm512_fmadd_ps(x[n + i], grad_u[WIDTH - 1 + n], sum);
        }
        _mm512_storeu_ps(rows->sums[i] + c, sum);
    }
    for (int n = 0; n < tokens; n++) {
        bias_sum = _mm512_add_ps(bias_sum, grad_u[WIDTH - 1 + n]);
    }
    _mm512_storeu_ps(rows->sums[WIDTH] + c, bias_sum);
    for (int n = 0; n < tokens; n++) {
        __m512 grad_x = _mm512_mul_ps(weight[WIDTH - 1], grad_u[n]);

        for (int i = 1; i < WIDTH; i++) {
            grad_x = _mm512_fmadd_ps(weight[WIDTH - 1 - i], grad_u[n + i], grad_x);
        }
        store_out(dtype, rows, n, c, lanes, grad_x);
    }
    for (int i = 0; i < WIDTH - 1; i++) {
        _mm512_storeu_ps(rows->last_grad_u[i] + c, grad_u[tokens + i]);
    }
}

INLINE void one_vector(const bool backward, const gdncp_dtype_t dtype, const gdncp_dtype_t outer,
                       const bool silu, const int tokens, const gdncp_conv1d_taps_t *taps,
                       const gdncp_conv1d_x86_rows_t *rows, int64_t c, __mmask16 lanes)
{
    if (backward) {
        backward_lanes(dtype, outer, silu, tokens, taps, rows, c, lanes);
    } else {
        forward_lanes(dtype, outer, silu, tokens, taps, rows, c, lanes);
    }
}

INLINE void all_vectors(const bool backward, const gdncp_dtype_t dtype, const gdncp_dtype_t outer,
                        const bool silu, const int tokens, const gdncp_conv1d_taps_t *taps,
                        const gdncp_conv1d_x86_rows_t *rows)
{
    int64_t c = 0;

    for (; c + LANES <= rows->count; c += LANES) {
        one_vector(backward, dtype, outer, silu, tokens, taps, rows, c, GDNCP_X86_ALL_LANES);
    }
    if (c < rows->count) {
        one_vector(backward, dtype, outer, silu, tokens, taps, rows, c,
                   gdncp_x86_first_lanes(rows->count - c));
    }
}

INLINE void all_vectors_of_dtypes(const bool backward, const gdncp_dtype_t dtype,
                                  const gdncp_dtype_t outer, const gdncp_conv1d_taps_t *taps,
                                  const gdncp_conv1d_x86_rows_t *rows)
{
    if (rows->tokens == 1 && rows->silu) {
        all_vectors(backward, dtype, outer, true, 1, taps, rows);
    } else if (rows->tokens == 1) {
        all_vectors(backward, dtype, outer, false, 1, taps, rows);
    } else if (rows->silu) {
        all_vectors(backward, dtype, outer, true, TOGETHER, taps, rows);
    } else {
        all_vectors(backward, dtype, outer, false, TOGETHER, taps, rows);
    }
}

/* With what rows say as constants. */
INLINE void run(const bool backward, const gdncp_conv1d_taps_t *taps,
                const gdncp_conv1d_x86_rows_t *rows)
{
    if (rows->dtype == GDNCP_F32) {
        all_vectors_of_dtypes(backward, GDNCP_F32, GDNCP_F32, taps, rows);
    } else if (rows->dtype == GDNCP_BF16 && rows->outer == GDNCP_BF16) {
        all_vectors_of_dtypes(backward, GDNCP_BF16, GDNCP_BF16, taps, rows);
    } else if (rows->dtype == GDNCP_BF16) {
        all_vectors_of_dtypes(backward, GDNCP_BF16, GDNCP_F32, taps, rows);
    } else if (rows->outer == GDNCP_F16) {
        all_vectors_of_dtypes(backward, GDNCP_F16, GDNCP_F16, taps, rows);
    } else {
        all_vectors_of_dtypes(backward, GDNCP_F16, GDNCP_F32, taps, rows);
    }
}

GDNCP_AVX512_BF16 void gdncp_conv1d_x86_forward(const gdncp_conv1d_taps_t *taps,
                                                const gdncp_conv1d_x86_rows_t *rows)
{
    run(false, taps, rows);
}

GDNCP_AVX512_BF16 void gdncp_conv1d_x86_backward(const gdncp_conv1d_taps_t *taps,
                                                 const gdncp_conv1d_x86_rows_t *rows)
{
    run(true, taps, rows);
}

#else

#include <assert.h>

bool gdncp_conv1d_x86_serves(const gdncp_conv1d_t *conv)
{
    (void)conv;
    return false;
}

bool gdncp_conv1d_x86_streams(const gdncp_tensor_t *out)
{
    (void)out;
    return false;
}

void gdncp_conv1d_x86_fence(void)
{
}

void gdncp_conv1d_x86_forward(const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_x86_rows_t *rows)
{
    (void)taps, (void)rows;
    assert(!"another processor");
}

void gdncp_conv1d_x86_backward(const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_x86_rows_t *rows)
{
    (void)taps, (void)rows;
    assert(!"another processor");
}

#endif
