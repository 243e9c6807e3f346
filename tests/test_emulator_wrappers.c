/* The wrappers of kernel.h in the emulator, against plain loops by the layouts of the PTX manual.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emulator_control.h"
#include "gdncp/device.h"
#include "random.h"
#include "wrappers.h"

enum { LANES = 32, MAX_WORDS = 10, RANDOM_BLOCKS = 16 };

static float as_float(uint32_t word)
{
    float value;

    memcpy(&value, &word, sizeof value);
    return value;
}

static uint32_t as_word(float value)
{
    uint32_t word;

    memcpy(&word, &value, sizeof word);
    return word;
}

static int number_of(const char *name)
{
    int number = 0;

    while (strcmp(wrapper_number(number)->name, name) != 0) {
        number++;
    }
    return number;
}

/* in [blocks, 32, num_in] -> out [blocks, 32, num_out] */
static void run(const char *name, int64_t blocks, const uint32_t *in, uint32_t *out)
{
    const int number = number_of(name);
    const wrapper_t *const wrapper = wrapper_number(number);
    const size_t lanes = (size_t)blocks * LANES;
    const size_t in_bytes = lanes * (size_t)wrapper->num_in * sizeof *in;
    const size_t out_bytes = lanes * (size_t)wrapper->num_out * sizeof *out;
    void *device_in = NULL;
    void *device_out = NULL;

    assert_int_equal(gdncp_device_alloc(GDNCP_DEVICE_CUDA, in_bytes, &device_in), GDNCP_OK);
    assert_int_equal(gdncp_device_alloc(GDNCP_DEVICE_CUDA, out_bytes, &device_out), GDNCP_OK);
    assert_int_equal(gdncp_device_copy(GDNCP_DEVICE_CUDA, device_in, in, in_bytes, NULL), GDNCP_OK);
    assert_int_equal(wrapper_launch_emulated(number, blocks, device_in, device_out, NULL),
                     GDNCP_OK);
    assert_int_equal(gdncp_device_copy(GDNCP_DEVICE_CUDA, out, device_out, out_bytes, NULL),
                     GDNCP_OK);
    gdncp_device_free(GDNCP_DEVICE_CUDA, device_in);
    gdncp_device_free(GDNCP_DEVICE_CUDA, device_out);
}

/* out of one warp, from its in */
typedef void reference_t(const uint32_t *in, uint32_t *out);

/* Random words, under a few schedules. */
static void check_random(const char *name, reference_t *reference,
                         uint32_t (*draw)(test_random_t *random, int place))
{
    const wrapper_t *const wrapper = wrapper_number(number_of(name));
    const int num_in = LANES * wrapper->num_in;
    const int num_out = LANES * wrapper->num_out;
    test_random_t random = test_random_start(name, 1);
    uint32_t in[RANDOM_BLOCKS * LANES * MAX_WORDS];
    uint32_t out[RANDOM_BLOCKS * LANES * MAX_WORDS];

    for (uint64_t seed = 0; seed < 4; seed++) {
        emulator_set_schedule(seed);
        for (int i = 0; i < RANDOM_BLOCKS * num_in; i++) {
            in[i] = draw(&random, i % wrapper->num_in);
        }
        run(name, RANDOM_BLOCKS, in, out);
        for (int block = 0; block < RANDOM_BLOCKS; block++) {
            uint32_t expected[LANES * MAX_WORDS];

            reference(in + block * num_in, expected);
            assert_memory_equal(out + block * num_out, expected,
                                (size_t)num_out * sizeof expected[0]);
        }
    }
}

static uint32_t draw_bits(test_random_t *random, int place)
{
    (void)place;
    return (uint32_t)test_random_u64(random);
}

static void shuffle_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        out[lane] = in[2 * (in[2 * lane + 1] % LANES)];
    }
}

static void shuffle_xor_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 5; i++) {
            out[5 * lane + i] = in[lane ^ 1 << i];
        }
    }
}

static void shuffle_up_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 5; i++) {
            out[5 * lane + i] = in[lane < 1 << i ? lane : lane - (1 << i)];
        }
    }
}

static void shuffle_down_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 5; i++) {
            out[5 * lane + i] = in[lane + (1 << i) < LANES ? lane + (1 << i) : lane];
        }
    }
}

static void shuffles_move_words(void **state)
{
    (void)state;
    check_random("shuffle", shuffle_reference, draw_bits);
    check_random("shuffle_xor", shuffle_xor_reference, draw_bits);
    check_random("shuffle_up", shuffle_up_reference, draw_bits);
    check_random("shuffle_down", shuffle_down_reference, draw_bits);
}

/* Element (row, column) of matrix i, of which lane 8 i + row brings the row. */
static uint32_t element_of(const uint32_t *in, int i, int row, int column)
{
    return in[4 * (8 * i + row) + column / 2] >> 16 * (column % 2) & 0xffff;
}

static void ldmatrix_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 4; i++) {
            const int column = 2 * (lane % 4);

            out[4 * lane + i] =
                element_of(in, i, lane / 4, column) | element_of(in, i, lane / 4, column + 1) << 16;
        }
    }
}

static void ldmatrix_trans_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 4; i++) {
            const int row = 2 * (lane % 4);

            out[4 * lane + i] =
                element_of(in, i, row, lane / 4) | element_of(in, i, row + 1, lane / 4) << 16;
        }
    }
}

static void ldmatrix_deals_out_elements(void **state)
{
    (void)state;
    check_random("ldmatrix_x4", ldmatrix_reference, draw_bits);
    check_random("ldmatrix_x4_trans", ldmatrix_trans_reference, draw_bits);
}

static void cp_async_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        memset(out + 4 * lane, 0, 16);
        memcpy(out + 4 * lane, in + 8 * lane, in[8 * lane + 4] % 17);
    }
}

static void cp_async_fills_with_zeros(void **state)
{
    (void)state;
    check_random("cp_async_16", cp_async_reference, draw_bits);
}

/* Of binary formats with so many bits of mantissa: by its definition. */
static double value_of(uint32_t bits, int exponent_bits, int mantissa_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = (int)(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
    const double mantissa = (double)(bits & ((1u << mantissa_bits) - 1));
    const double sign = bits >> (exponent_bits + mantissa_bits) & 1 ? -1.0 : 1.0;

    if (exponent == (1 << exponent_bits) - 1) {
        return mantissa != 0.0 ? (double)NAN : sign * (double)INFINITY;
    }
    if (exponent == 0) {
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    }
    return sign * ldexp(mantissa + ldexp(1.0, mantissa_bits), exponent - bias - mantissa_bits);
}

static double f16_value(uint32_t bits)
{
    return value_of(bits & 0xffff, 5, 10);
}

static double bf16_value(uint32_t bits)
{
    return value_of(bits & 0xffff, 8, 7);
}

/* All pairs (i, i + 32768 modulo 65536). */
static void check_widening(const char *name, double (*value)(uint32_t bits))
{
    enum { WORDS = 65536 };
    uint32_t *const in = malloc(WORDS * sizeof *in);
    uint32_t *const out = malloc(2 * WORDS * sizeof *out);

    for (uint32_t i = 0; i < WORDS; i++) {
        in[i] = i | (i ^ 0x8000) << 16;
    }
    run(name, WORDS / LANES, in, out);
    for (uint32_t i = 0; i < 2 * WORDS; i++) {
        const double expected = value(in[i / 2] >> 16 * (i % 2));

        if (isnan(expected)) {
            assert_true(isnan(as_float(out[i])));
        } else {
            assert_int_equal(out[i], as_word((float)expected));
        }
    }
    free(in);
    free(out);
}

static void all_16_bit_values_widen(void **state)
{
    (void)state;
    emulator_set_schedule(0);
    check_widening("f16_to_float", f16_value);
    check_widening("bf16_to_float", bf16_value);
}

/* Both neighbours of every border between two values, and the border itself, which goes to the
 * even one. `largest` is the last finite value's bits. */
static void check_narrowing(const char *name, double (*value)(uint32_t bits), uint32_t largest)
{
    enum { PER_VALUE = 4 };
    const size_t count = (size_t)(largest + 1) * PER_VALUE;
    const size_t padded = (count + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
    uint32_t *const in = calloc(padded, sizeof *in);
    uint32_t *const out = calloc(padded, sizeof *out);
    const double step_at_end = value(largest) - value(largest - 1);

    for (uint32_t bits = 0; bits <= largest; bits++) {
        const double next = bits < largest ? value(bits + 1) : value(largest) + step_at_end;
        const float border = (float)((value(bits) + next) / 2.0);
        uint32_t *const four = in + (size_t)bits * PER_VALUE;

        four[0] = as_word((float)value(bits));
        four[1] = as_word(nextafterf(border, 0.0f));
        four[2] = as_word(-border);
        four[3] = as_word(nextafterf(border, INFINITY));
    }
    run(name, (int64_t)(padded / (2 * LANES)), in, out);
    for (uint32_t bits = 0; bits <= largest; bits++) {
        const uint32_t *const four = out + (size_t)bits * PER_VALUE;
        const double next = bits < largest ? value(bits + 1) : (double)INFINITY;
        const double even = bits % 2 == 0 ? value(bits) : next;

        assert_int_equal(four[0], as_word((float)value(bits)));
        assert_int_equal(four[1], as_word((float)value(bits)));
        assert_int_equal(four[2], as_word((float)-even));
        assert_int_equal(four[3], as_word((float)next));
    }
    free(in);
    free(out);
}

static void check_special(const char *name)
{
    uint32_t in[2 * LANES] = {0x7fc00000, 0xff800001, 0x7f800000, 0xff800000,
                              0x80000000, 0,          1,          0x80000001};
    uint32_t out[2 * LANES];

    run(name, 1, in, out);
    assert_true(isnan(as_float(out[0])) && isnan(as_float(out[1])));
    assert_memory_equal(&out[2], &in[2], 4 * sizeof in[0]);
    if (strcmp(name, "to_tf32") != 0) {
        assert_int_equal(out[6], 0);
        assert_int_equal(out[7], 0x80000000);
    }
}

static void rounding_is_to_the_nearest_even(void **state)
{
    (void)state;
    emulator_set_schedule(0);
    check_narrowing("float_to_f16", f16_value, 0x7bff);
    check_narrowing("float_to_bf16", bf16_value, 0x7f7f);
    check_special("float_to_f16");
    check_special("float_to_bf16");
}

/* Ties go away from zero. Normal numbers only. */
static void tf32_reference(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        int exponent;
        const double fraction = frexp((double)as_float(in[lane]), &exponent);
        const double mantissa = ldexp(fraction, 11);
        const double rounded = floor(fabs(mantissa) + 0.5);

        out[lane] = as_word((float)ldexp(copysign(rounded, mantissa), exponent - 11));
    }
}

/* Half of them ties. */
static uint32_t draw_tf32(test_random_t *random, int place)
{
    const uint32_t bits = as_word((float)test_random_normal(random));

    (void)place;
    return test_random_int(random, 0, 1) == 0 ? bits : (bits & 0xffffe000) | 0x1000;
}

static void tf32_rounds_ties_away(void **state)
{
    (void)state;
    check_random("to_tf32", tf32_reference, draw_tf32);
    emulator_set_schedule(0);
    check_special("to_tf32");
}

/* d of the warp from a [16, 16], b [16, 8]: the order of sums is that of k. */
static void multiply(const uint32_t *in, int depth, float a[16][16], float b[16][8], uint32_t *out)
{
    for (int lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + (i >= 2 ? 8 : 0);
            const int column = lane % 4 * 2 + (i & 1);
            float sum = as_float(in[10 * lane + 6 + i]);

            for (int k = 0; k < depth; k++) {
                sum += a[row][k] * b[k][column];
            }
            out[4 * lane + i] = as_word(sum);
        }
    }
}

/* a0..a7 and b0..b3 as the manual numbers them, two in a register. */
static void multiply_16_bit(const uint32_t *in, double (*value)(uint32_t bits), uint32_t *out)
{
    float a[16][16];
    float b[16][8];

    for (int lane = 0; lane < LANES; lane++) {
        const uint32_t *const own = in + 10 * lane;
        const int group = lane >> 2;
        const int in_group = lane % 4;

        for (int i = 0; i < 8; i++) {
            const bool is_upper = i == 0 || i == 1 || i == 4 || i == 5;
            const int row = is_upper ? group : group + 8;
            const int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);

            a[row][column] = (float)value(own[i / 2] >> 16 * (i % 2));
        }
        for (int i = 0; i < 4; i++) {
            const int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);

            b[row][group] = (float)value(own[4 + i / 2] >> 16 * (i % 2));
        }
    }
    multiply(in, 16, a, b, out);
}

static void mma_bf16_reference(const uint32_t *in, uint32_t *out)
{
    multiply_16_bit(in, bf16_value, out);
}

static void mma_f16_reference(const uint32_t *in, uint32_t *out)
{
    multiply_16_bit(in, f16_value, out);
}

static void mma_tf32_reference(const uint32_t *in, uint32_t *out)
{
    float a[16][16];
    float b[16][8];

    for (int lane = 0; lane < LANES; lane++) {
        const uint32_t *const own = in + 10 * lane;
        const int group = lane >> 2;
        const int in_group = lane % 4;

        for (int i = 0; i < 4; i++) {
            const int row = i == 0 || i == 2 ? group : group + 8;
            const int column = i < 2 ? in_group : in_group + 4;

            a[row][column] = as_float(own[i] & 0xffffe000);
        }
        b[in_group][group] = as_float(own[4] & 0xffffe000);
        b[in_group + 4][group] = as_float(own[5] & 0xffffe000);
    }
    multiply(in, 8, a, b, out);
}

/* Two normals rounded down to 16 bits, or a float32 of d. */
static uint32_t draw_bf16_pair(test_random_t *random, int place)
{
    const uint32_t low = as_word((float)test_random_normal(random));
    const uint32_t high = as_word((float)test_random_normal(random));

    return place < 6 ? low >> 16 | (high & 0xffff0000) : low;
}

/* Sign, exponent and mantissa at random, but for infinities and NaN. */
static uint32_t draw_f16_pair(test_random_t *random, int place)
{
    const uint32_t words = (uint32_t)test_random_u64(random);

    return place < 6 ? words & ~0x40004000u : as_word((float)test_random_normal(random));
}

/* The bits that tf32 has not are there, and must not be seen. */
static uint32_t draw_float(test_random_t *random, int place)
{
    (void)place;
    return as_word((float)test_random_normal(random));
}

static void mma_multiplies_matrices(void **state)
{
    (void)state;
    check_random("mma_bf16", mma_bf16_reference, draw_bf16_pair);
    check_random("mma_f16", mma_f16_reference, draw_f16_pair);
    check_random("mma_tf32", mma_tf32_reference, draw_float);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shuffles_move_words),
        cmocka_unit_test(ldmatrix_deals_out_elements),
        cmocka_unit_test(cp_async_fills_with_zeros),
        cmocka_unit_test(all_16_bit_values_widen),
        cmocka_unit_test(rounding_is_to_the_nearest_even),
        cmocka_unit_test(tf32_rounds_ties_away),
        cmocka_unit_test(mma_multiplies_matrices),
    };

    return cmocka_run_group_tests_name("wrappers in the emulator", tests, NULL, NULL);
}
