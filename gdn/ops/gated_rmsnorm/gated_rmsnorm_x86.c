#include "gated_rmsnorm_x86.h"

#include <assert.h>

#include "inline_math_x86.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <math.h>

#define LANES GDNCP_X86_LANES
#define ALL GDNCP_X86_ALL_LANES
#define INLINE GDNCP_AVX512_BF16_INLINE
#define MAX_ROWS (GDNCP_ROW_ELEMENTS / LANES)

bool gdncp_gated_rmsnorm_x86_serves(const gdncp_gated_rmsnorm_t *norm, const gdncp_tensor_t *outer)
{
    const int64_t d = norm->x.shape[2];

    const gdncp_dtype_t dtype = norm->z.dtype;

    return d % LANES == 0 && (dtype == GDNCP_BF16 || dtype == GDNCP_F16) &&
           (norm->x.dtype == dtype || norm->x.dtype == GDNCP_F32) && outer->dtype == dtype &&
           gdncp_x86_has_avx512_bf16();
}

/* From the sums of rows' squares: all are begun before one is needed, so that none waits for the
 * square root and the division of another. */
static void inverse_rms(const gdncp_norm_rows_t *rows, float *sums)
{
    for (int64_t first = 0; first < rows->count; first += rows->d) {
        float *const sum = &sums[first / rows->d];

        *sum = 1.0f / sqrtf(*sum / (float)rows->d + rows->eps);
    }
}

INLINE __m512 weight_at(const gdncp_norm_rows_t *rows, int64_t i)
{
    return _mm512_add_ps(_mm512_loadu_ps(rows->weight + i), _mm512_set1_ps(rows->weight_offset));
}

/* grad_weight[i..] += x y. */
INLINE void add_to_grad_weight(const gdncp_norm_rows_t *rows, int64_t i, __m512 x, __m512 y)
{
    float *const sum = rows->grad_weight + i;

    _mm512_storeu_ps(sum, _mm512_fmadd_ps(x, y, _mm512_loadu_ps(sum)));
}

/* Dtypes are constants where this and what follows are inlined: of x and its gradient, and of all
 * others. */
INLINE float square_of_row(const gdncp_dtype_t x_dtype, const gdncp_norm_rows_t *rows,
                           int64_t first)
{
    __m512 sum = _mm512_setzero_ps();

    for (int64_t i = first; i < first + rows->d; i += LANES) {
        const __m512 x = gdncp_x86_load(x_dtype, rows->x, i, ALL);

        sum = _mm512_fmadd_ps(x, x, sum);
    }
    return _mm512_reduce_add_ps(sum);
}

INLINE void forward(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                    const gdncp_norm_rows_t *rows)
{
    float scales[MAX_ROWS];

    for (int64_t first = 0; first < rows->count; first += rows->d) {
        scales[first / rows->d] = square_of_row(x_dtype, rows, first);
    }
    inverse_rms(rows, scales);
    for (int64_t first = 0; first < rows->count; first += rows->d) {
        const __m512 scale = _mm512_set1_ps(scales[first / rows->d]);

        for (int64_t i = 0; i < rows->d; i += LANES) {
            const __m512 x = gdncp_x86_load(x_dtype, rows->x, first + i, ALL);
            const __m512 z = gdncp_x86_load(dtype, rows->z, first + i, ALL);
            const __m512 normed = _mm512_mul_ps(_mm512_mul_ps(scale, x), weight_at(rows, i));
            const __m512 gate = gdncp_x86_silu_for(dtype, z);

            gdncp_x86_store(dtype, rows->y, first + i, ALL, _mm512_mul_ps(normed, gate));
        }
    }
}

/* Keeps x SiLU(z) of a row. Returns the sum of their squares. */
INLINE float gate_row(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                      const gdncp_norm_rows_t *rows, int64_t first)
{
    __m512 sum = _mm512_setzero_ps();

    for (int64_t i = first; i < first + rows->d; i += LANES) {
        const __m512 x = gdncp_x86_load(x_dtype, rows->x, i, ALL);
        const __m512 z = gdncp_x86_load(dtype, rows->z, i, ALL);
        const __m512 gated = _mm512_mul_ps(x, gdncp_x86_silu_for(dtype, z));

        _mm512_storeu_ps(rows->scratch + i, gated);
        sum = _mm512_fmadd_ps(gated, gated, sum);
    }
    return _mm512_reduce_add_ps(sum);
}

INLINE void forward_gate_first(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                               const gdncp_norm_rows_t *rows)
{
    float scales[MAX_ROWS];

    for (int64_t first = 0; first < rows->count; first += rows->d) {
        scales[first / rows->d] = gate_row(x_dtype, dtype, rows, first);
    }
    inverse_rms(rows, scales);
    for (int64_t first = 0; first < rows->count; first += rows->d) {
        const __m512 scale = _mm512_set1_ps(scales[first / rows->d]);

        for (int64_t i = 0; i < rows->d; i += LANES) {
            const __m512 gated = _mm512_loadu_ps(rows->scratch + first + i);

            gdncp_x86_store(dtype, rows->y, first + i, ALL,
                            _mm512_mul_ps(gated, _mm512_mul_ps(scale, weight_at(rows, i))));
        }
    }
}

/* All of a row but grad_x, for which it keeps the gradient of x times the inverse RMS. Returns the
 * sum of these times x. */
INLINE float backward_row(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                          const gdncp_norm_rows_t *rows, int64_t first, __m512 scale)
{
    __m512 along = _mm512_setzero_ps();

    for (int64_t i = 0; i < rows->d; i += LANES) {
        const __m512 x = gdncp_x86_load(x_dtype, rows->x, first + i, ALL);
        const __m512 grad_y = gdncp_x86_load(dtype, rows->grad_y, first + i, ALL);
        const gdncp_x86_silu_parts_t silu =
            gdncp_x86_split_silu_for(x_dtype, gdncp_x86_load(dtype, rows->z, first + i, ALL));
        const __m512 weight = weight_at(rows, i);
        const __m512 normed = _mm512_mul_ps(scale, x);
        const __m512 grad_scaled = _mm512_mul_ps(grad_y, silu.value);
        const __m512 grad_normed = _mm512_mul_ps(grad_scaled, weight);

        _mm512_storeu_ps(rows->scratch + first + i, grad_normed);
        add_to_grad_weight(rows, i, grad_scaled, normed);
        gdncp_x86_store(
            dtype, rows->grad_z, first + i, ALL,
            _mm512_mul_ps(_mm512_mul_ps(grad_y, normed), _mm512_mul_ps(weight, silu.slope)));
        along = _mm512_fmadd_ps(grad_normed, x, along);
    }
    return _mm512_reduce_add_ps(along);
}

INLINE void backward(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                     const gdncp_norm_rows_t *rows)
{
    float scales[MAX_ROWS];
    float alongs[MAX_ROWS];

    for (int64_t first = 0; first < rows->count; first += rows->d) {
        scales[first / rows->d] = square_of_row(x_dtype, rows, first);
    }
    inverse_rms(rows, scales);
    for (int64_t first = 0; first < rows->count; first += rows->d) {
        const float scale = scales[first / rows->d];
        const float along = backward_row(x_dtype, dtype, rows, first, _mm512_set1_ps(scale));

        alongs[first / rows->d] = scale * scale * along / (float)rows->d;
    }
    for (int64_t first = 0; first < rows->count; first += rows->d) {
        const __m512 scale = _mm512_set1_ps(scales[first / rows->d]);
        const __m512 along = _mm512_set1_ps(alongs[first / rows->d]);

        for (int64_t i = first; i < first + rows->d; i += LANES) {
            const __m512 x = gdncp_x86_load(x_dtype, rows->x, i, ALL);
            const __m512 grad_normed = _mm512_loadu_ps(rows->scratch + i);

            gdncp_x86_store(x_dtype, rows->grad_x, i, ALL,
                            _mm512_mul_ps(scale, _mm512_fnmadd_ps(along, x, grad_normed)));
        }
    }
}

/* Keeps SiLU(z) and its slope of a row. Returns the sum of (x SiLU(z))^2. */
INLINE float split_row(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                       const gdncp_norm_rows_t *rows, int64_t first)
{
    __m512 sum = _mm512_setzero_ps();

    for (int64_t i = first; i < first + rows->d; i += LANES) {
        const gdncp_x86_silu_parts_t silu =
            gdncp_x86_split_silu_for(x_dtype, gdncp_x86_load(dtype, rows->z, i, ALL));
        const __m512 gated = _mm512_mul_ps(gdncp_x86_load(x_dtype, rows->x, i, ALL), silu.value);

        _mm512_storeu_ps(rows->scratch + i, silu.value);
        _mm512_storeu_ps(rows->scratch + rows->count + i, silu.slope);
        sum = _mm512_fmadd_ps(gated, gated, sum);
    }
    return _mm512_reduce_add_ps(sum);
}

/* The weight's gradient. Returns the sum of grad_y weight x SiLU(z). */
INLINE float backward_row_gate_first(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                                     const gdncp_norm_rows_t *rows, int64_t first, __m512 scale)
{
    __m512 along = _mm512_setzero_ps();

    for (int64_t i = 0; i < rows->d; i += LANES) {
        const __m512 x = gdncp_x86_load(x_dtype, rows->x, first + i, ALL);
        const __m512 grad_y = gdncp_x86_load(dtype, rows->grad_y, first + i, ALL);
        const __m512 gated = _mm512_mul_ps(x, _mm512_loadu_ps(rows->scratch + first + i));

        add_to_grad_weight(rows, i, grad_y, _mm512_mul_ps(scale, gated));
        along = _mm512_fmadd_ps(_mm512_mul_ps(grad_y, weight_at(rows, i)), gated, along);
    }
    return _mm512_reduce_add_ps(along);
}

INLINE void backward_gate_first(const gdncp_dtype_t x_dtype, const gdncp_dtype_t dtype,
                                const gdncp_norm_rows_t *rows)
{
    float scales[MAX_ROWS];
    float alongs[MAX_ROWS];

    for (int64_t first = 0; first < rows->count; first += rows->d) {
        scales[first / rows->d] = split_row(x_dtype, dtype, rows, first);
    }
    inverse_rms(rows, scales);
    for (int64_t first = 0; first < rows->count; first += rows->d) {
        const float scale = scales[first / rows->d];
        const float along =
            backward_row_gate_first(x_dtype, dtype, rows, first, _mm512_set1_ps(scale));

        alongs[first / rows->d] = scale * scale * along / (float)rows->d;
    }
    for (int64_t first = 0; first < rows->count; first += rows->d) {
        const __m512 scale = _mm512_set1_ps(scales[first / rows->d]);
        const __m512 along = _mm512_set1_ps(alongs[first / rows->d]);

        for (int64_t i = 0; i < rows->d; i += LANES) {
            const __m512 x = gdncp_x86_load(x_dtype, rows->x, first + i, ALL);
            const __m512 grad_y = gdncp_x86_load(dtype, rows->grad_y, first + i, ALL);
            const __m512 value = _mm512_loadu_ps(rows->scratch + first + i);
            const __m512 slope = _mm512_loadu_ps(rows->scratch + rows->count + first + i);
            const __m512 grad_normed = _mm512_mul_ps(grad_y, weight_at(rows, i));
            const __m512 grad_gated =
                _mm512_mul_ps(scale, _mm512_fnmadd_ps(along, _mm512_mul_ps(x, value), grad_normed));

            gdncp_x86_store(x_dtype, rows->grad_x, first + i, ALL,
                            _mm512_mul_ps(grad_gated, value));
            gdncp_x86_store(dtype, rows->grad_z, first + i, ALL,
                            _mm512_mul_ps(grad_gated, _mm512_mul_ps(x, slope)));
        }
    }
}

#define CALL_OF_DTYPES(function, rows)                                                             \
    if ((rows)->x_dtype == GDNCP_BF16) {                                                           \
        function(GDNCP_BF16, GDNCP_BF16, rows);                                                    \
    } else if ((rows)->x_dtype == GDNCP_F16) {                                                     \
        function(GDNCP_F16, GDNCP_F16, rows);                                                      \
    } else if ((rows)->dtype == GDNCP_BF16) {                                                      \
        function(GDNCP_F32, GDNCP_BF16, rows);                                                     \
    } else {                                                                                       \
        function(GDNCP_F32, GDNCP_F16, rows);                                                      \
    }

/* The function that rows want, with their dtypes as constants. */
#define CALL(function, gate_first_function, rows)                                                  \
    if ((rows)->gate_first) {                                                                      \
        CALL_OF_DTYPES(gate_first_function, rows)                                                  \
    } else {                                                                                       \
        CALL_OF_DTYPES(function, rows)                                                             \
    }

GDNCP_AVX512_BF16 void gdncp_gated_rmsnorm_x86_forward(const gdncp_norm_rows_t *rows)
{
    assert(rows->count / rows->d <= MAX_ROWS);
    CALL(forward, forward_gate_first, rows)
}

GDNCP_AVX512_BF16 void gdncp_gated_rmsnorm_x86_backward(const gdncp_norm_rows_t *rows)
{
    assert(rows->count / rows->d <= MAX_ROWS);
    CALL(backward, backward_gate_first, rows)
}

#else

bool gdncp_gated_rmsnorm_x86_serves(const gdncp_gated_rmsnorm_t *norm, const gdncp_tensor_t *outer)
{
    (void)norm, (void)outer;
    return false;
}

void gdncp_gated_rmsnorm_x86_forward(const gdncp_norm_rows_t *rows)
{
    (void)rows;
    assert(!"another processor");
}

void gdncp_gated_rmsnorm_x86_backward(const gdncp_norm_rows_t *rows)
{
    (void)rows;
    assert(!"another processor");
}

#endif
