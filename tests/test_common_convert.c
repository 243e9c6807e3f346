#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/tensor.h"
#include "half.h"
#include "half_reference.h"
#include "random.h"

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static void sizes_and_names(void **state)
{
    static const struct {
        gdncp_dtype_t dtype;
        size_t size;
        const char *name;
    } cases[] = {
        {GDNCP_F32, 4, "f32"},         {GDNCP_BF16, 2, "bf16"},       {GDNCP_F16, 2, "f16"},
        {GDNCP_F64, 8, "f64"},         {GDNCP_I8, 1, "i8"},           {GDNCP_I16, 2, "i16"},
        {GDNCP_I32, 4, "i32"},         {GDNCP_I64, 8, "i64"},         {GDNCP_U8, 1, "u8"},
        {GDNCP_F8_E4M3, 1, "f8_e4m3"}, {GDNCP_F8_E5M2, 1, "f8_e5m2"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(gdncp_dtype_size(cases[i].dtype), cases[i].size);
        assert_string_equal(gdncp_dtype_name(cases[i].dtype), cases[i].name);
    }
    assert_int_equal(gdncp_dtype_size((gdncp_dtype_t)11), 0);
    assert_string_equal(gdncp_dtype_name((gdncp_dtype_t)-1), "?");
}

static void contiguous_strides_are_row_major(void **state)
{
    float data[24];
    const gdncp_tensor_t tensor =
        gdncp_tensor_contiguous(data, GDNCP_F32, 3, (const int64_t[]){2, 3, 4});
    const gdncp_tensor_t scalar = gdncp_tensor_contiguous(data, GDNCP_F32, 0, NULL);

    (void)state;
    assert_ptr_equal(tensor.data, data);
    assert_int_equal(tensor.device, GDNCP_DEVICE_CPU);
    assert_int_equal(tensor.strides[0], 12);
    assert_int_equal(tensor.strides[1], 4);
    assert_int_equal(tensor.strides[2], 1);
    assert_int_equal(gdncp_tensor_num_elements(&tensor), 24);
    assert_int_equal(gdncp_tensor_num_elements(&scalar), 1);
}

/* Every 16-bit value is a float32 exactly, so it must come back as itself; NaN as some NaN. */
static void check_all_16_bit_values(gdncp_dtype_t dtype, uint16_t exponent_mask)
{
    for (uint32_t i = 0; i <= 0xffff; i++) {
        const uint16_t value = (uint16_t)i;
        uint16_t back = 0xdead;
        float wide = NAN;

        assert_int_equal(gdncp_convert_to_f32(dtype, &value, 1, &wide), GDNCP_OK);
        assert_int_equal(gdncp_convert_from_f32(&wide, 1, dtype, &back), GDNCP_OK);
        if ((value & exponent_mask) == exponent_mask && (value & 0x7fff) != exponent_mask) {
            assert_true(isnan(wide));
            assert_int_equal(back & exponent_mask, exponent_mask);
            assert_int_not_equal(back & 0x7fff, exponent_mask);
        } else {
            assert_int_equal(back, value);
        }
    }
}

static void sixteen_bit_values_come_back(void **state)
{
    (void)state;
    check_all_16_bit_values(GDNCP_BF16, 0x7f80);
    check_all_16_bit_values(GDNCP_F16, 0x7c00);
}

/* Rows are converted several elements at a time, where the processor can: as one by one. */
static void rows_are_converted_as_elements_are(void **state)
{
    enum { count = 1 << 16 };
    static float wide[count];
    static uint16_t narrow[count];
    test_random_t random = test_random_start("rows_are_converted_as_elements_are", 13);

    (void)state;
    for (gdncp_dtype_t dtype = GDNCP_BF16; dtype <= GDNCP_F16; dtype++) {
        for (int i = 0; i < count; i++) {
            narrow[i] = (uint16_t)i;
        }
        assert_int_equal(gdncp_convert_to_f32(dtype, narrow, count, wide), GDNCP_OK);
        for (int i = 0; i < count; i++) {
            float alone;

            (void)gdncp_convert_to_f32(dtype, &narrow[i], 1, &alone);
            assert_int_equal(bits_of(wide[i]), bits_of(alone));
            wide[i] = float_of((uint32_t)test_random_int(&random, 0, UINT32_MAX));
        }
        assert_int_equal(gdncp_convert_from_f32(wide, count, dtype, narrow), GDNCP_OK);
        for (int i = 0; i < count; i++) {
            uint16_t alone;

            (void)gdncp_convert_from_f32(&wide[i], 1, dtype, &alone);
            assert_int_equal(narrow[i], alone);
        }
    }
}

static void known_values(void **state)
{
    static const struct {
        gdncp_dtype_t dtype;
        uint32_t f32;
        uint16_t narrow;
    } cases[] = {
        {GDNCP_BF16, 0x3f800000, 0x3f80}, /* 1 */
        {GDNCP_BF16, 0x3f808000, 0x3f80}, /* tie, down to even */
        {GDNCP_BF16, 0x3f818000, 0x3f82}, /* tie, up to even */
        {GDNCP_BF16, 0x3f808001, 0x3f81}, /* just above the tie */
        {GDNCP_BF16, 0x7f7fffff, 0x7f80}, /* the largest float32 rounds to infinity */
        {GDNCP_BF16, 0xff800000, 0xff80}, /* -infinity */
        {GDNCP_BF16, 0x80000000, 0x8000}, /* -0 */
        {GDNCP_BF16, 0x00008000, 0x0000}, /* subnormal tie, down to even */
        {GDNCP_BF16, 0x00018000, 0x0002}, /* subnormal tie, up to even */
        {GDNCP_BF16, 0x7f800001, 0x7fc0}, /* NaN whose mantissa is cut off: still NaN */
        {GDNCP_F16, 0xff800001, 0xfe00},  /* the same */
        {GDNCP_F16, 0x3f800000, 0x3c00},  /* 1 */
        {GDNCP_F16, 0x3f801000, 0x3c00},  /* tie, down to even */
        {GDNCP_F16, 0x3f803000, 0x3c02},  /* tie, up to even */
        {GDNCP_F16, 0x477fe000, 0x7bff},  /* 65504, the largest */
        {GDNCP_F16, 0x477ff000, 0x7c00},  /* 65520, rounds to infinity */
        {GDNCP_F16, 0x33800000, 0x0001},  /* 2^-24, the smallest */
        {GDNCP_F16, 0x33000000, 0x0000},  /* 2^-25, tie, down to even */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const float wide = float_of(cases[i].f32);
        uint16_t narrow = 0xdead;

        assert_int_equal(gdncp_convert_from_f32(&wide, 1, cases[i].dtype, &narrow), GDNCP_OK);
        assert_int_equal(narrow, cases[i].narrow);
    }
}

/* bf16 must be the nearer of the two neighbours of a random float32. */
static void bf16_is_nearest(void **state)
{
    test_random_t random = test_random_start("bf16_is_nearest", 11);

    (void)state;
    for (int i = 0; i < 100000; i++) {
        const float wide = (float)(test_random_normal(&random) * 1e3);
        const double below = float_of(bits_of(wide) & 0xffff0000u);
        const double above = float_of((bits_of(wide) & 0xffff0000u) + 0x10000u);
        uint16_t narrow = 0;
        float back = NAN;

        gdncp_convert_from_f32(&wide, 1, GDNCP_BF16, &narrow);
        gdncp_convert_to_f32(GDNCP_BF16, &narrow, 1, &back);
        const double error = fabs((double)back - wide);
        assert_true(error <= fabs(below - wide) && error <= fabs(above - wide));
    }
}

static void wide_types(void **state)
{
    enum { count = 37 };
    test_random_t random = test_random_start("wide_types", 12);
    float values[count];
    float back[count];
    double wide[count];

    (void)state;
    test_random_fill(&random, values, count);
    assert_int_equal(gdncp_convert_from_f32(values, count, GDNCP_F64, wide), GDNCP_OK);
    for (int i = 0; i < count; i++) {
        assert_true(wide[i] == values[i]);
    }
    memset(back, 0xff, sizeof back);
    assert_int_equal(gdncp_convert_to_f32(GDNCP_F64, wide, count, back), GDNCP_OK);
    assert_memory_equal(back, values, sizeof values);
    memset(back, 0xff, sizeof back);
    assert_int_equal(gdncp_convert_to_f32(GDNCP_F32, values, count, back), GDNCP_OK);
    assert_memory_equal(back, values, sizeof values);
    assert_int_equal(gdncp_convert_to_f32(GDNCP_F32, back, count, back), GDNCP_OK);
    assert_int_equal(gdncp_convert_from_f32(back, count, GDNCP_F32, back), GDNCP_OK);
    assert_memory_equal(back, values, sizeof values);
    memset(back, 0xff, sizeof back);
    assert_int_equal(gdncp_convert_from_f32(values, count, GDNCP_F32, back), GDNCP_OK);
    assert_memory_equal(back, values, sizeof values);
}

/* All 16-bit values at once, in runs of every length and alignment that vector code may split. */
static void runs_widen_as_single_elements_do(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_BF16, GDNCP_F16};
    enum { most = 67, guard = 5 };
    static uint16_t all[0x10000];

    (void)state;
    for (uint32_t i = 0; i <= 0xffff; i++) {
        all[i] = (uint16_t)i;
    }
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        int64_t count = 0;

        for (int64_t begin = 0; begin < 0x10000; begin += count) {
            float wide[most + 2 * guard];
            const int64_t shift = begin % guard;

            count = 1 + begin % most;
            count = begin + count > 0x10000 ? 0x10000 - begin : count;
            memset(wide, 0xff, sizeof wide);
            gdncp_convert_to_f32(dtypes[d], &all[begin], count, &wide[shift]);
            for (int64_t i = 0; i < count; i++) {
                const float expected = half_to_f32(dtypes[d], all[begin + i]);

                if (isnan(expected)) {
                    assert_true(isnan(wide[shift + i]));
                } else {
                    assert_int_equal(bits_of(wide[shift + i]), bits_of(expected));
                }
            }
            assert_int_equal(bits_of(wide[shift + count]), 0xffffffff);
        }
    }
}

/* Every sign, exponent and upper mantissa, with the lower mantissas around which rounding turns. */
static void runs_narrow_to_nearest_even(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_BF16, GDNCP_F16};
    static const uint32_t lows[] = {0x0000, 0x0001, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000,
                                    0x3000, 0x7fff, 0x8000, 0x8001, 0xf000, 0xffff};
    enum { num_lows = sizeof lows / sizeof lows[0] };

    (void)state;
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        for (uint32_t high = 0; high <= 0xffff; high++) {
            float wide[num_lows + 16];
            uint16_t narrow[num_lows + 17];
            const int shift = (int)(high % 16);

            for (int i = 0; i < num_lows; i++) {
                wide[shift + i] = float_of(high << 16 | lows[i]);
            }
            memset(narrow, 0xa5, sizeof narrow);
            gdncp_convert_from_f32(&wide[shift], num_lows, dtypes[d], &narrow[16 - shift]);
            for (int i = 0; i < num_lows; i++) {
                const uint16_t expected = half_from_f32(dtypes[d], wide[shift + i]);
                const uint16_t got = narrow[16 - shift + i];

                if (half_is_nan(dtypes[d], expected)) {
                    assert_true(half_is_nan(dtypes[d], got));
                } else {
                    assert_int_equal(got, expected);
                }
            }
            assert_int_equal(narrow[16 - shift + num_lows], 0xa5a5);
        }
    }
}

/* The functions for single elements, which processors without such instructions run. */
static void elements_are_converted_as_rows_are(void **state)
{
    test_random_t random = test_random_start("elements_are_converted_as_rows_are", 14);

    (void)state;
    for (uint32_t i = 0; i <= 0xffff; i++) {
        const uint16_t half = (uint16_t)i;
        const float expected = half_to_f32(GDNCP_F16, half);
        const float wide = float_of(i << 16 | (uint32_t)test_random_int(&random, 0, 0xffff));
        const uint16_t bf16 = half_from_f32(GDNCP_BF16, wide);
        const uint16_t f16 = half_from_f32(GDNCP_F16, wide);

        assert_true(isnan(expected) ? isnan(gdncp_f16_to_f32(half))
                                    : bits_of(gdncp_f16_to_f32(half)) == bits_of(expected));
        assert_true(half_is_nan(GDNCP_BF16, bf16) ? half_is_nan(GDNCP_BF16, gdncp_f32_to_bf16(wide))
                                                  : gdncp_f32_to_bf16(wide) == bf16);
        assert_true(half_is_nan(GDNCP_F16, f16) ? half_is_nan(GDNCP_F16, gdncp_f32_to_f16(wide))
                                                : gdncp_f32_to_f16(wide) == f16);
    }
}

static void integers_are_refused(void **state)
{
    int32_t integer = 1;
    float value = 2.0f;

    (void)state;
    assert_int_equal(gdncp_convert_to_f32(GDNCP_I32, &integer, 1, &value),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_string_equal(gdncp_last_error(), "dtype: expected f32, bf16, f16 or f64, got i32");
    assert_int_equal(gdncp_convert_from_f32(&value, 1, (gdncp_dtype_t)99, &integer),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_string_equal(gdncp_last_error(), "dtype: expected f32, bf16, f16 or f64, got ?");
    assert_int_equal(integer, 1);
    assert_true(value == 2.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_names),
        cmocka_unit_test(contiguous_strides_are_row_major),
        cmocka_unit_test(sixteen_bit_values_come_back),
        cmocka_unit_test(rows_are_converted_as_elements_are),
        cmocka_unit_test(known_values),
        cmocka_unit_test(bf16_is_nearest),
        cmocka_unit_test(runs_widen_as_single_elements_do),
        cmocka_unit_test(runs_narrow_to_nearest_even),
        cmocka_unit_test(elements_are_converted_as_rows_are),
        cmocka_unit_test(wide_types),
        cmocka_unit_test(integers_are_refused),
    };

    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
