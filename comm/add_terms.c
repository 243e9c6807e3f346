#include "add_terms.h"

#include <assert.h>
#include <string.h>

#include "half.h"
#include "vector_clones.h"

/* Both terms of a pair are read at once, which keeps the memory busier than one after the other. */
#define DEFINE_ADDITIONS(name, clones, sum_t, term_t, widen)                                       \
    clones static void add_##name(sum_t *total, const term_t *term, int64_t count)                 \
    {                                                                                              \
        for (int64_t i = 0; i < count; i++) {                                                      \
            total[i] += widen(term[i]);                                                            \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    clones static void add_pair_##name(sum_t *total, const term_t *a, const term_t *b,             \
                                       int64_t count)                                              \
    {                                                                                              \
        for (int64_t i = 0; i < count; i++) {                                                      \
            total[i] = widen(a[i]) + widen(b[i]);                                                  \
        }                                                                                          \
    }

DEFINE_ADDITIONS(f64, GDNCP_VECTOR_CLONES, double, double, )
DEFINE_ADDITIONS(f32, GDNCP_VECTOR_CLONES, float, float, )
DEFINE_ADDITIONS(bf16, GDNCP_HALF_CLONES, float, uint16_t, gdncp_bf16_to_f32)
DEFINE_ADDITIONS(f16, GDNCP_HALF_CLONES, float, uint16_t, gdncp_f16_to_f32)

void gdncp_total_begin(gdncp_total_t *total, gdncp_dtype_t dtype, const void *term, int64_t count)
{
    if (dtype == GDNCP_F64) {
        memcpy(total->sum.f64, term, (size_t)count * sizeof total->sum.f64[0]);
        return;
    }
    const gdncp_status_t status = gdncp_convert_to_f32(dtype, term, count, total->sum.f32);

    assert(status == GDNCP_OK);
    (void)status;
}

void gdncp_total_add(gdncp_total_t *total, gdncp_dtype_t dtype, const void *term, int64_t count)
{
    switch (dtype) {
    case GDNCP_F64:
        add_f64(total->sum.f64, term, count);
        break;
    case GDNCP_F32:
        add_f32(total->sum.f32, term, count);
        break;
    case GDNCP_BF16:
        add_bf16(total->sum.f32, term, count);
        break;
    default:
        assert(dtype == GDNCP_F16);
        add_f16(total->sum.f32, term, count);
    }
}

void gdncp_total_begin_pair(gdncp_total_t *total, gdncp_dtype_t dtype, const void *a, const void *b,
                            int64_t count)
{
    switch (dtype) {
    case GDNCP_F64:
        add_pair_f64(total->sum.f64, a, b, count);
        break;
    case GDNCP_F32:
        add_pair_f32(total->sum.f32, a, b, count);
        break;
    case GDNCP_BF16:
        add_pair_bf16(total->sum.f32, a, b, count);
        break;
    default:
        assert(dtype == GDNCP_F16);
        add_pair_f16(total->sum.f32, a, b, count);
    }
}

const void *gdncp_total_round(gdncp_total_t *total, gdncp_dtype_t dtype, int64_t count)
{
    if (dtype == GDNCP_F64) {
        return total->sum.f64;
    }
    if (dtype == GDNCP_F32) {
        return total->sum.f32;
    }
    const gdncp_status_t status =
        gdncp_convert_from_f32(total->sum.f32, count, dtype, total->rounded);

    assert(status == GDNCP_OK);
    (void)status;
    return total->rounded;
}
