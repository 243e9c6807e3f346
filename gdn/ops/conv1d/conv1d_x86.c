#include "conv1d_x86.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include "lanes_x86.h"

#define WIDTH GDNCP_CONV1D_X86_WIDTH
#define TOGETHER GDNCP_CONV1D_TOGETHER
#define LANES GDNCP_X86_LANES
#define INLINE GDNCP_AVX512_BF16 __attribute__((always_inline)) static inline

bool gdncp_conv1d_x86_serves(const gdncp_conv1d_t *conv, const gdncp_tensor_t *outer)
{
    return conv->weight.shape[1] == WIDTH && outer->dtype == conv->x.dtype &&
           gdncp_x86_has_avx512_bf16();
}

/* Elements of a row from c on. */
INLINE __m512 load(const gdncp_dtype_t dtype, const void *row, int64_t c, __mmask16 lanes)
{
    switch (dtype) {
    case GDNCP_F32:
        return _mm512_maskz_loadu_ps(lanes, (const float *)row + c);
    case GDNCP_BF16:
        return gdncp_x86_load_bf16((const uint16_t *)row + c, lanes);
    default:
        return gdncp_x86_load_f16((const uint16_t *)row + c, lanes);
    }
}

INLINE void store(const gdncp_dtype_t dtype, void *row, int64_t c, __mmask16 lanes, __m512 x)
{
    switch (dtype) {
    case GDNCP_F32:
        _mm512_mask_storeu_ps((float *)row + c, lanes, x);
        break;
    case GDNCP_BF16:
        gdncp_x86_store_bf16((uint16_t *)row + c, lanes, x);
        break;
    default:
        gdncp_x86_store_f16((uint16_t *)row + c, lanes, x);
        break;
    }
}

/* 1 / (1 + exp(-x)) to 4e-7 for x in [-87, 87]; others count as these, a NaN as any. */
INLINE __m512 sigmoid_of_limited(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 magic = _mm512_set1_ps(0x1.8p23f); /* added, it rounds to an integer */
    const __m512 log2_e = _mm512_set1_ps(0x1.715476p0f);
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i magnitude =
        _mm512_min_epi32(_mm512_andnot_si512(sign, bits), _mm512_set1_epi32(0x42ae0000)); /* 87 */
    const __m512 limited =
        _mm512_castsi512_ps(_mm512_or_si512(magnitude, _mm512_and_si512(sign, bits)));
    const __m512 shifted = _mm512_fnmadd_ps(limited, log2_e, magic);
    /* -x log2(e) is n + r with |r| <= 1/2; 2^r by the best polynomial of degree 5, to 1.1e-7. */
    const __m512 n = _mm512_sub_ps(shifted, magic);
    const __m512 r = _mm512_fnmsub_ps(limited, log2_e, n);
    const __m512i two_to_n = _mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23),
                                              _mm512_castps_si512(one));
    __m512 p = _mm512_set1_ps(0x1.5bba14p-10f);

    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.3cea88p-7f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.c6b752p-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ebf9bcp-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62e42ap-1f));
    p = _mm512_fmadd_ps(p, r, one);

    /* A division takes as long as ten other instructions: one step of Newton's is good to 2^-24. */
    const __m512 divisor = _mm512_fmadd_ps(p, _mm512_castsi512_ps(two_to_n), one);
    const __m512 near = _mm512_rcp14_ps(divisor);

    return _mm512_fmadd_ps(near, _mm512_fnmadd_ps(near, divisor, one), near);
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

/* dtype, silu and tokens are constants where this and what follows are inlined. */
INLINE void forward_lanes(const gdncp_dtype_t dtype, const bool silu, const int tokens,
                          const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_x86_rows_t *rows,
                          int64_t c, __mmask16 lanes)
{
    const __m512 bias = _mm512_loadu_ps(taps->bias + c);
    __m512 weight[WIDTH];
    __m512 x[WIDTH - 1 + TOGETHER];

    for (int i = 0; i < WIDTH; i++) {
        weight[i] = _mm512_loadu_ps(taps->weight[i] + c);
    }
    for (int i = 0; i < WIDTH - 1 + tokens; i++) {
        x[i] = load(dtype, rows->x[i], c, lanes);
    }
    for (int n = 0; n < tokens; n++) {
        const __m512 u = weighted_sum(weight, bias, x + n);

        store(dtype, rows->out[n], c, lanes, silu ? _mm512_mul_ps(u, sigmoid_of_limited(u)) : u);
    }
}

INLINE void backward_lanes(const gdncp_dtype_t dtype, const bool silu, const int tokens,
                           const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_x86_rows_t *rows,
                           int64_t c, __mmask16 lanes)
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
        x[i] = load(dtype, rows->x[i], c, lanes);
    }
    for (int i = 0; i < WIDTH - 1; i++) {
        grad_u[i] = _mm512_loadu_ps(rows->last_grad_u[i] + c);
    }
    for (int n = 0; n < tokens; n++) {
        const __m512 grad_y = load(dtype, rows->grad_y[n], c, lanes);

        if (silu) {
            const __m512 one = _mm512_set1_ps(1.0f);
            const __m512 u = weighted_sum(weight, bias, x + n);
            const __m512 open = sigmoid_of_limited(u);
            const __m512 rest = _mm512_add_ps(one, _mm512_fnmadd_ps(u, open, u));

            grad_u[WIDTH - 1 + n] = _mm512_mul_ps(grad_y, _mm512_mul_ps(open, rest));
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
        store(dtype, rows->out[n], c, lanes, grad_x);
    }
    for (int i = 0; i < WIDTH - 1; i++) {
        _mm512_storeu_ps(rows->last_grad_u[i] + c, grad_u[tokens + i]);
    }
}

INLINE void forward_rows(const gdncp_dtype_t dtype, const bool silu, const int tokens,
                         const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_x86_rows_t *rows)
{
    int64_t c = 0;

    for (; c + LANES <= rows->count; c += LANES) {
        forward_lanes(dtype, silu, tokens, taps, rows, c, GDNCP_X86_ALL_LANES);
    }
    if (c < rows->count) {
        forward_lanes(dtype, silu, tokens, taps, rows, c, gdncp_x86_first_lanes(rows->count - c));
    }
}

INLINE void backward_rows(const gdncp_dtype_t dtype, const bool silu, const int tokens,
                          const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_x86_rows_t *rows)
{
    int64_t c = 0;

    for (; c + LANES <= rows->count; c += LANES) {
        backward_lanes(dtype, silu, tokens, taps, rows, c, GDNCP_X86_ALL_LANES);
    }
    if (c < rows->count) {
        backward_lanes(dtype, silu, tokens, taps, rows, c, gdncp_x86_first_lanes(rows->count - c));
    }
}

/* function(dtype, silu, tokens, taps, rows), with what rows say as constants. */
#define CALL_OF_DTYPE(dtype, function, taps, rows)                                                 \
    if ((rows)->tokens == 1 && (rows)->silu) {                                                     \
        function(dtype, true, 1, taps, rows);                                                      \
    } else if ((rows)->tokens == 1) {                                                              \
        function(dtype, false, 1, taps, rows);                                                     \
    } else if ((rows)->silu) {                                                                     \
        function(dtype, true, TOGETHER, taps, rows);                                               \
    } else {                                                                                       \
        function(dtype, false, TOGETHER, taps, rows);                                              \
    }

GDNCP_AVX512_BF16 void gdncp_conv1d_x86_forward(const gdncp_conv1d_taps_t *taps,
                                                const gdncp_conv1d_x86_rows_t *rows)
{
    if (rows->dtype == GDNCP_F32) {
        CALL_OF_DTYPE(GDNCP_F32, forward_rows, taps, rows)
    } else if (rows->dtype == GDNCP_BF16) {
        CALL_OF_DTYPE(GDNCP_BF16, forward_rows, taps, rows)
    } else {
        CALL_OF_DTYPE(GDNCP_F16, forward_rows, taps, rows)
    }
}

GDNCP_AVX512_BF16 void gdncp_conv1d_x86_backward(const gdncp_conv1d_taps_t *taps,
                                                 const gdncp_conv1d_x86_rows_t *rows)
{
    if (rows->dtype == GDNCP_F32) {
        CALL_OF_DTYPE(GDNCP_F32, backward_rows, taps, rows)
    } else if (rows->dtype == GDNCP_BF16) {
        CALL_OF_DTYPE(GDNCP_BF16, backward_rows, taps, rows)
    } else {
        CALL_OF_DTYPE(GDNCP_F16, backward_rows, taps, rows)
    }
}

#else

#include <assert.h>

bool gdncp_conv1d_x86_serves(const gdncp_conv1d_t *conv, const gdncp_tensor_t *outer)
{
    (void)conv, (void)outer;
    return false;
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
