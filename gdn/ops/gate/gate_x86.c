#include "gate_x86.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include "inline_math_x86.h"

#define LANES GDNCP_X86_LANES
#define TOGETHER (GDNCP_X86_TOGETHER / 2) /* each has two exponentials */
#define INLINE GDNCP_AVX512_BF16_INLINE

bool gdncp_gate_x86_serves(const gdncp_gate_t *gate)
{
    return gate->a.dtype != GDNCP_F32 && gdncp_x86_has_avx512_bf16();
}

/* x = a + dt_bias, and what exp(-|x|) is the exponential of. dtype, has_parameters and vectors are
 * constants where this and what follows are inlined. */
INLINE void load_x(const gdncp_dtype_t dtype, const int vectors,
                   const gdncp_gate_elements_t *elements, int64_t i, __mmask16 lanes, __m512 *x,
                   __m512 *exponents)
{
    for (int v = 0; v < vectors; v++) {
        const int64_t at = i + v * LANES;

        x[v] = _mm512_add_ps(gdncp_x86_load(dtype, elements->a, at, lanes),
                             _mm512_maskz_loadu_ps(lanes, elements->dt_bias + at));
        exponents[v] = gdncp_x86_limited_negative(x[v]);
    }
}

INLINE void forward_lanes(const gdncp_dtype_t dtype, const bool has_parameters, const int vectors,
                          const gdncp_gate_elements_t *elements, int64_t i, __mmask16 lanes)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 exps[2 * TOGETHER]; /* of -b, then of -|x| */
    __m512 *const exps_of_x = exps + vectors;
    __m512 x[TOGETHER];
    __m512 g[TOGETHER];

    for (int v = 0; v < vectors; v++) {
        const __m512 b = gdncp_x86_load(dtype, elements->b, i + v * LANES, lanes);

        exps[v] = gdncp_x86_limit_exponent(_mm512_xor_ps(b, _mm512_set1_ps(-0.0f)));
    }
    if (has_parameters) {
        load_x(dtype, vectors, elements, i, lanes, x, exps_of_x);
    }
    gdncp_x86_exp_of_limited(has_parameters ? 2 * vectors : vectors, exps);
    for (int v = 0; v < vectors; v++) {
        const __m512 beta = _mm512_div_ps(one, _mm512_add_ps(one, exps[v]));

        _mm512_mask_storeu_ps(elements->beta + i + v * LANES, lanes,
                              _mm512_mul_ps(_mm512_set1_ps(elements->beta_scale), beta));
    }
    if (has_parameters) {
        gdncp_x86_softplus(vectors, x, exps_of_x, g);
    }
    for (int v = 0; v < vectors; v++) {
        const int64_t at = i + v * LANES;

        _mm512_mask_storeu_ps(
            elements->g + at, lanes,
            has_parameters ? _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, elements->rate + at), g[v])
                           : gdncp_x86_load(dtype, elements->a, at, lanes));
    }
}

/* sums[0..] += x. */
INLINE void add_to_sums(double *sums, __mmask16 lanes, __m512 x)
{
    const __mmask8 low = (__mmask8)lanes;
    const __mmask8 high = (__mmask8)(lanes >> 8);
    const __m512d low_sum = _mm512_maskz_loadu_pd(low, sums);
    const __m512d high_sum = _mm512_maskz_loadu_pd(high, sums + 8);

    _mm512_mask_storeu_pd(sums, low,
                          _mm512_add_pd(low_sum, _mm512_cvtps_pd(_mm512_castps512_ps256(x))));
    _mm512_mask_storeu_pd(sums + 8, high,
                          _mm512_add_pd(high_sum, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))));
}

INLINE void backward_lanes(const gdncp_dtype_t dtype, const bool has_parameters, const int vectors,
                           const gdncp_gate_elements_t *elements, int64_t i, __mmask16 lanes)
{
    __m512 exps[2 * TOGETHER]; /* of -|b|, then of -|x| */
    __m512 *const exps_of_x = exps + vectors;
    __m512 x[TOGETHER];
    __m512 softplus[TOGETHER];

    for (int v = 0; v < vectors; v++) {
        exps[v] =
            gdncp_x86_limited_negative(gdncp_x86_load(dtype, elements->b, i + v * LANES, lanes));
    }
    if (has_parameters) {
        load_x(dtype, vectors, elements, i, lanes, x, exps_of_x);
    }
    gdncp_x86_exp_of_limited(has_parameters ? 2 * vectors : vectors, exps);
    for (int v = 0; v < vectors; v++) {
        const int64_t at = i + v * LANES;
        /* sigmoid'(b) = e / (1 + e)^2 with e = exp(-|b|): nothing cancels. */
        const __m512 divisor = _mm512_add_ps(_mm512_set1_ps(1.0f), exps[v]);
        const __m512 slope = _mm512_div_ps(exps[v], _mm512_mul_ps(divisor, divisor));
        const __m512 grad_open =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, elements->grad_beta + at),
                          _mm512_set1_ps(elements->beta_scale));

        gdncp_x86_store(dtype, elements->grad_b, at, lanes, _mm512_mul_ps(grad_open, slope));
    }
    if (has_parameters) {
        gdncp_x86_softplus(vectors, x, exps_of_x, softplus);
    }
    for (int v = 0; v < vectors; v++) {
        const int64_t at = i + v * LANES;
        __m512 grad_a = _mm512_maskz_loadu_ps(lanes, elements->grad_g + at);

        if (has_parameters) {
            const __m512 scaled =
                _mm512_mul_ps(grad_a, _mm512_maskz_loadu_ps(lanes, elements->rate + at));

            grad_a = _mm512_mul_ps(scaled, gdncp_x86_sigmoid_of_exp(x[v], exps_of_x[v]));
            add_to_sums(elements->A_log_sums + at, lanes, _mm512_mul_ps(scaled, softplus[v]));
            add_to_sums(elements->dt_bias_sums + at, lanes, grad_a);
        }
        gdncp_x86_store(dtype, elements->grad_a, at, lanes, grad_a);
    }
}

INLINE void some_vectors(const bool backward, const gdncp_dtype_t dtype, const bool has_parameters,
                         const int vectors, const gdncp_gate_elements_t *elements, int64_t i,
                         __mmask16 lanes)
{
    if (backward) {
        backward_lanes(dtype, has_parameters, vectors, elements, i, lanes);
    } else {
        forward_lanes(dtype, has_parameters, vectors, elements, i, lanes);
    }
}

INLINE void all_vectors(const bool backward, const gdncp_dtype_t dtype, const bool has_parameters,
                        const gdncp_gate_elements_t *elements)
{
    const int64_t count = elements->count;
    int64_t i = 0;

    for (; i + TOGETHER * LANES <= count; i += TOGETHER * LANES) {
        some_vectors(backward, dtype, has_parameters, TOGETHER, elements, i, GDNCP_X86_ALL_LANES);
    }
    for (; i < count; i += LANES) {
        some_vectors(backward, dtype, has_parameters, 1, elements, i,
                     gdncp_x86_first_lanes(count - i));
    }
}

INLINE void all_vectors_of_dtype(const bool backward, const gdncp_dtype_t dtype,
                                 const gdncp_gate_elements_t *elements)
{
    if (elements->rate != NULL) {
        all_vectors(backward, dtype, true, elements);
    } else {
        all_vectors(backward, dtype, false, elements);
    }
}

/* With what elements say as constants. */
INLINE void run(const bool backward, const gdncp_gate_elements_t *elements)
{
    if (elements->dtype == GDNCP_BF16) {
        all_vectors_of_dtype(backward, GDNCP_BF16, elements);
    } else {
        all_vectors_of_dtype(backward, GDNCP_F16, elements);
    }
}

GDNCP_AVX512_BF16 void gdncp_gate_x86_forward(const gdncp_gate_elements_t *elements)
{
    run(false, elements);
}

GDNCP_AVX512_BF16 void gdncp_gate_x86_backward(const gdncp_gate_elements_t *elements)
{
    run(true, elements);
}

#else

#include <assert.h>

bool gdncp_gate_x86_serves(const gdncp_gate_t *gate)
{
    (void)gate;
    return false;
}

void gdncp_gate_x86_forward(const gdncp_gate_elements_t *elements)
{
    (void)elements;
    assert(!"another processor");
}

void gdncp_gate_x86_backward(const gdncp_gate_elements_t *elements)
{
    (void)elements;
    assert(!"another processor");
}

#endif
