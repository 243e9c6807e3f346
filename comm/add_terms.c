#include "add_terms.h"

#include <assert.h>
#include <string.h>

#include "half.h"
#include "vector_clones.h"

GDNCP_ALWAYS_INLINE float load(gdncp_dtype_t dtype, const void *terms, int64_t i)
{
    switch (dtype) {
    case GDNCP_BF16:
        return gdncp_bf16_to_f32(((const uint16_t *)terms)[i]);
    case GDNCP_F16:
        return gdncp_f16_to_f32(((const uint16_t *)terms)[i]);
    default:
        return ((const float *)terms)[i];
    }
}

/* total = a + b, or, where a is NULL, total + b. Both terms of a pair are read at once, which keeps
 * the memory busier than one after the other. dtype is a constant where this is called. */
GDNCP_ALWAYS_INLINE void add_as(gdncp_dtype_t dtype, const void *a, const void *b, int64_t count,
                                float *total)
{
    if (a == NULL) {
        for (int64_t i = 0; i < count; i++) {
            total[i] += load(dtype, b, i);
        }
    } else {
        for (int64_t i = 0; i < count; i++) {
            total[i] = load(dtype, a, i) + load(dtype, b, i);
        }
    }
}

GDNCP_VECTOR_CLONES
static void add_bf16(const void *a, const void *b, int64_t count, float *total)
{
    add_as(GDNCP_BF16, a, b, count, total);
}

GDNCP_VECTOR_CLONES
static void add_f16(const void *a, const void *b, int64_t count, float *total)
{
    add_as(GDNCP_F16, a, b, count, total);
}

GDNCP_VECTOR_CLONES
static void add_f32(const void *a, const void *b, int64_t count, float *total)
{
    add_as(GDNCP_F32, a, b, count, total);
}

GDNCP_VECTOR_CLONES
static void add_f64(const double *a, const double *b, int64_t count, double *total)
{
    for (int64_t i = 0; i < count; i++) {
        total[i] = a[i] + b[i];
    }
}

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

static void add(gdncp_total_t *total, gdncp_dtype_t dtype, const void *a, const void *b,
                int64_t count)
{
    switch (dtype) {
    case GDNCP_F64:
        add_f64(a != NULL ? a : total->sum.f64, b, count, total->sum.f64);
        break;
    case GDNCP_F32:
        add_f32(a, b, count, total->sum.f32);
        break;
    case GDNCP_BF16:
        add_bf16(a, b, count, total->sum.f32);
        break;
    default:
        assert(dtype == GDNCP_F16);
        add_f16(a, b, count, total->sum.f32);
    }
}

void gdncp_total_begin_pair(gdncp_total_t *total, gdncp_dtype_t dtype, const void *a, const void *b,
                            int64_t count)
{
    add(total, dtype, a, b, count);
}

void gdncp_total_add(gdncp_total_t *total, gdncp_dtype_t dtype, const void *term, int64_t count)
{
    add(total, dtype, NULL, term, count);
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
