/* tile_mma.h, one function at a time: which element each lane holds, which pieces of it enter a
 * product, and what is read and written where. */
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
#include "random.h"
#include "tile_kernels.h"
#include "tolerances.h"

enum { SIZE = 16, NUM_LANE_ELEMENTS = TILE_LANES * TILE_LANE_ELEMENTS, NUM_DRAWS = 4 };

typedef struct memory {
    unsigned char bytes[TILE_MEMORY_BYTES];
} memory_t;

typedef struct matrix {
    float x[SIZE][SIZE];
} matrix_t;

static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};

static int row_of(int lane_element)
{
    const int lane = lane_element / TILE_LANE_ELEMENTS;

    return lane / 4 + 8 * (lane_element / 2 % 2);
}

static int column_of(int lane_element)
{
    const int lane = lane_element / TILE_LANE_ELEMENTS;

    return 8 * (lane_element / 4 % 2) + lane % 4 * 2 + lane_element % 2;
}

static void to_lanes(const matrix_t *matrix, float *lanes)
{
    for (int i = 0; i < NUM_LANE_ELEMENTS; i++) {
        lanes[i] = matrix->x[row_of(i)][column_of(i)];
    }
}

static matrix_t from_lanes(const float *lanes)
{
    matrix_t matrix;

    for (int i = 0; i < NUM_LANE_ELEMENTS; i++) {
        matrix.x[row_of(i)][column_of(i)] = lanes[i];
    }
    return matrix;
}

static void *to_device(const void *host, size_t bytes)
{
    void *device = NULL;

    assert_int_equal(gdncp_device_alloc(GDNCP_DEVICE_CUDA, bytes, &device), GDNCP_OK);
    assert_int_equal(gdncp_device_copy(GDNCP_DEVICE_CUDA, device, host, bytes, NULL), GDNCP_OK);
    return device;
}

static void from_device(void *device, void *host, size_t bytes)
{
    assert_int_equal(gdncp_device_copy(GDNCP_DEVICE_CUDA, host, device, bytes, NULL), GDNCP_OK);
    gdncp_device_free(GDNCP_DEVICE_CUDA, device);
}

/* What is not part of a block is NaN, and spoils each result that it gets into. */
static void poison(memory_t *memory)
{
    memset(memory, 0xff, sizeof *memory);
}

static int draw_multiple(test_random_t *random, int unit, int low, int high)
{
    return unit * (int)test_random_int(random, low / unit, high / unit);
}

/* A block whose first element, rows and planes begin at multiples of `unit` elements. */
static tile_block_t draw_block(test_random_t *random, int unit)
{
    const int ld = draw_multiple(random, unit, SIZE, SIZE + 3 * unit + 8);

    return (tile_block_t){.first = draw_multiple(random, unit, 0, 3 * unit),
                          .ld = ld,
                          .plane = SIZE * ld + draw_multiple(random, unit, 0, 2 * unit)};
}

/* Elements that are read or written in pairs are aligned to them, and rows of ldmatrix to 16 bytes.
 */
static int unit_of(tile_reading_t reading, bool is_left)
{
    switch (reading) {
    case TILE_LOAD:
        return is_left ? 2 : 1;
    case TILE_LOAD_ACROSS:
        return is_left ? 1 : 2;
    case TILE_SET:
        return 1;
    default:
        return 8;
    }
}

/* Half of the numbers lie halfway between two of a format, where there are two ways to round; sizes
 * are such that the pieces of one are no subnormal of another. */
static float draw_number(test_random_t *random, gdncp_dtype_t dtype)
{
    const int bits = dtype == GDNCP_BF16 ? 8 : 11;
    const double size = ldexp(1.0, (int)test_random_int(random, -6, 6));
    const double sign = test_random_int(random, 0, 1) == 0 ? 1.0 : -1.0;

    if (test_random_int(random, 0, 1) == 0) {
        return (float)(size * test_random_normal(random));
    }
    const int64_t whole = test_random_int(random, 1 << (bits - 1), (1 << bits) - 1);

    return (float)(sign * size * ((double)whole + 0.5));
}

static matrix_t draw_matrix(test_random_t *random, gdncp_dtype_t dtype)
{
    matrix_t matrix;

    for (int i = 0; i < SIZE * SIZE; i++) {
        matrix.x[i / SIZE][i % SIZE] = draw_number(random, dtype);
    }
    return matrix;
}

/* To bf16, ties to the even one, or to tf32, ties away from zero: as kernel.h says. */
static float rounded(float x, gdncp_dtype_t dtype)
{
    const int bits = dtype == GDNCP_BF16 ? 8 : 11;
    int exponent;
    const double mantissa = ldexp(frexp((double)x, &exponent), bits);

    return (float)ldexp(dtype == GDNCP_BF16 ? rint(mantissa) : round(mantissa), exponent - bits);
}

/* pieces[0] is x rounded, pieces[1] what is left of it, rounded. */
static void split(float x, gdncp_dtype_t dtype, float pieces[2])
{
    pieces[0] = rounded(x, dtype);
    pieces[1] = rounded(x - pieces[0], dtype);
}

/* Memory with a matrix in it, of this dtype, in so many pieces, each in a plane of its own. */
static void write_block(const tile_block_t *block, gdncp_dtype_t dtype, int num_pieces,
                        bool is_transposed, const matrix_t *matrix, memory_t *memory)
{
    const int bytes = (int)gdncp_dtype_size(dtype);

    poison(memory);
    for (int i = 0; i < SIZE * SIZE; i++) {
        const int row = i / SIZE;
        const int column = i % SIZE;
        float pieces[2] = {is_transposed ? matrix->x[column][row] : matrix->x[row][column], 0.0f};

        if (num_pieces == 2) {
            split(pieces[0], dtype, pieces);
        }
        for (int piece = 0; piece < num_pieces; piece++) {
            const int at = block->first + row * block->ld + column + piece * block->plane;

            gdncp_convert_from_f32(&pieces[piece], 1, dtype, memory->bytes + at * bytes);
        }
    }
}

static void write_operand(const tile_operand_t *operand, bool is_transposed, const matrix_t *matrix,
                          memory_t *memory)
{
    if (operand->reading < TILE_LOAD_PLANES) {
        write_block(&operand->block, GDNCP_F32, 1, is_transposed, matrix, memory);
    } else {
        write_block(&operand->block, GDNCP_BF16, operand->pieces, is_transposed, matrix, memory);
    }
}

/* One combination of how operands are read. */
typedef struct product_case {
    gdncp_dtype_t dtype;
    tile_operand_t a;
    tile_operand_t b;
} product_case_t;

static matrix_t multiply(product_case_t *test, const matrix_t *a, const matrix_t *b,
                         const matrix_t *d)
{
    const bool a_is_transposed =
        test->a.reading == TILE_LOAD_ACROSS || test->a.reading == TILE_LOAD_PLANES_ACROSS;
    const bool b_is_transposed =
        test->b.reading != TILE_LOAD && test->b.reading != TILE_LOAD_PLANES;
    memory_t memory[2];
    float lanes[NUM_LANE_ELEMENTS];

    write_operand(&test->a, a_is_transposed, a, &memory[0]);
    write_operand(&test->b, b_is_transposed, b, &memory[1]);
    to_lanes(d, lanes);
    test->a.block.memory = to_device(&memory[0], sizeof memory[0]);
    test->b.block.memory = to_device(&memory[1], sizeof memory[1]);
    float *const device_lanes = to_device(lanes, sizeof lanes);

    assert_int_equal(tile_product(test->dtype, &test->a, &test->b, device_lanes, NULL), GDNCP_OK);
    from_device(device_lanes, lanes, sizeof lanes);
    from_device(test->b.block.memory, &memory[1], sizeof memory[1]);
    from_device(test->a.block.memory, &memory[0], sizeof memory[0]);
    return from_lanes(lanes);
}

/* Calls check for each dtype and each way to read two operands. */
static void each_product(const char *name, void (*check)(product_case_t *test, test_random_t *))
{
    test_random_t random = test_random_start(name, 81);

    for (int n = 0; n < 3 * 5 * 5 * 2 * 2 * NUM_DRAWS; n++) {
        const gdncp_dtype_t dtype = dtypes[n % 3];
        const tile_reading_t reading_a = n / 3 % 5;
        const tile_reading_t reading_b = n / 15 % 5;
        const bool has_planes = reading_a >= TILE_LOAD_PLANES || reading_b >= TILE_LOAD_PLANES;

        if (has_planes && dtype != GDNCP_BF16) {
            continue;
        }
        product_case_t test = {
            .dtype = dtype,
            .a = {draw_block(&random, unit_of(reading_a, true)), reading_a, 1 + n / 75 % 2},
            .b = {draw_block(&random, unit_of(reading_b, false)), reading_b, 1 + n / 150 % 2}};

        emulator_set_schedule((uint64_t)(n / 300));
        check(&test, &random);
    }
    emulator_set_schedule(0);
}

/* Element by element; a zero of either sign is one. */
static void check_equal(const product_case_t *test, const matrix_t *got, const matrix_t *expected)
{
    for (int i = 0; i < SIZE * SIZE; i++) {
        const float x = got->x[i / SIZE][i % SIZE];
        const float y = expected->x[i / SIZE][i % SIZE];

        if (!(x == y)) {
            fail_msg("dtype %d, readings %d and %d, pieces %d and %d: (%d, %d): expected %a, "
                     "got %a",
                     test->dtype, test->a.reading, test->b.reading, test->a.pieces, test->b.pieces,
                     i / SIZE, i % SIZE, (double)y, (double)x);
        }
    }
}

static float sum_of_pieces(const tile_operand_t *operand, gdncp_dtype_t dtype, float x)
{
    float pieces[2];

    split(x, dtype, pieces);
    return operand->pieces == 2 ? pieces[0] + pieces[1] : pieces[0];
}

/* Times a matrix that moves rows or columns, each operand comes back as the sum of its pieces. */
static void check_pieces(product_case_t *test, test_random_t *random)
{
    const matrix_t x = draw_matrix(random, test->dtype);
    const int shift = (int)test_random_int(random, 0, SIZE - 1);
    const matrix_t zero = {{{0.0f}}};
    matrix_t moves = zero;
    matrix_t left = zero;
    matrix_t right = zero;

    for (int i = 0; i < SIZE; i++) {
        moves.x[i][(i + shift) % SIZE] = 1.0f;
        for (int j = 0; j < SIZE; j++) {
            left.x[i][(j + shift) % SIZE] = sum_of_pieces(&test->a, test->dtype, x.x[i][j]);
            right.x[i][j] = sum_of_pieces(&test->b, test->dtype, x.x[(i + shift) % SIZE][j]);
        }
    }
    const matrix_t got_left = multiply(test, &x, &moves, &zero);
    const matrix_t got_right = multiply(test, &moves, &x, &zero);

    check_equal(test, &got_left, &left);
    check_equal(test, &got_right, &right);
}

static void operands_are_read_in_pieces(void **state)
{
    (void)state;
    each_product(__func__, check_pieces);
}

/* Sums of one depth: small products first, and none of two low pieces. */
static void check_order(product_case_t *test, test_random_t *random)
{
    const matrix_t a = draw_matrix(random, test->dtype);
    const matrix_t b = draw_matrix(random, test->dtype);
    const matrix_t d = draw_matrix(random, test->dtype);
    matrix_t diagonal = {{{0.0f}}};
    matrix_t expected;

    for (int i = 0; i < SIZE; i++) {
        diagonal.x[i][i] = a.x[i][i];
        for (int j = 0; j < SIZE; j++) {
            float of_a[2];
            float of_b[2];
            float sum = d.x[i][j];

            split(a.x[i][i], test->dtype, of_a);
            split(b.x[i][j], test->dtype, of_b);
            if (test->a.pieces == 2) {
                sum += of_a[1] * of_b[0];
            }
            if (test->b.pieces == 2) {
                sum += of_a[0] * of_b[1];
            }
            expected.x[i][j] = sum + of_a[0] * of_b[0];
        }
    }
    const matrix_t got = multiply(test, &diagonal, &b, &d);

    check_equal(test, &got, &expected);
}

static void small_products_are_added_first(void **state)
{
    (void)state;
    each_product(__func__, check_order);
}

/*
 * With u the roundoff of the format: an operand of one piece is wrong by u of itself, and of two by
 * u u. The product that is left out, of two low pieces, is u u of the two. Each of the sums, of a
 * product or of d, is rounded to float32 once.
 */
static double product_bound(const product_case_t *test)
{
    const double u = test->dtype == GDNCP_BF16 ? GDNCP_ROUNDOFF_BF16 : GDNCP_ROUNDOFF_TF32;
    const double of_a = test->a.pieces == 2 ? u * u : u;
    const double of_b = test->b.pieces == 2 ? u * u : u;
    const double left_out = test->a.pieces == 2 && test->b.pieces == 2 ? u * u : 0.0;

    return of_a + of_b + of_a * of_b + left_out;
}

static void check_bound(product_case_t *test, test_random_t *random)
{
    const matrix_t a = draw_matrix(random, test->dtype);
    const matrix_t b = draw_matrix(random, test->dtype);
    const matrix_t d = draw_matrix(random, test->dtype);
    const matrix_t got = multiply(test, &a, &b, &d);
    const double num_sums = SIZE * (test->a.pieces + test->b.pieces - 1);
    const double of_products = product_bound(test);

    for (int i = 0; i < SIZE * SIZE; i++) {
        const int row = i / SIZE;
        const int column = i % SIZE;
        double exact = (double)d.x[row][column];
        double size = 0.0;

        for (int k = 0; k < SIZE; k++) {
            const double product = (double)a.x[row][k] * (double)b.x[k][column];

            exact += product;
            size += fabs(product);
        }
        const double of_sums = num_sums * GDNCP_ROUNDOFF_F32 *
                               (fabs((double)d.x[row][column]) + (1.0 + of_products) * size);

        if (!(fabs((double)got.x[row][column] - exact) <= of_products * size + of_sums)) {
            fail_msg("dtype %d, readings %d and %d, pieces %d and %d: (%d, %d): expected %a, "
                     "got %a",
                     test->dtype, test->a.reading, test->b.reading, test->a.pieces, test->b.pieces,
                     row, column, exact, (double)got.x[row][column]);
        }
    }
}

static void products_are_within_their_bound(void **state)
{
    (void)state;
    each_product(__func__, check_bound);
}

static void run_move(tile_move_t move, tile_block_t block, memory_t *memory, float *lanes)
{
    float *const device_lanes = to_device(lanes, NUM_LANE_ELEMENTS * sizeof *lanes);

    block.memory = to_device(memory, sizeof *memory);
    assert_int_equal(tile_move(move, &block, device_lanes, NULL), GDNCP_OK);
    from_device(block.memory, memory, sizeof *memory);
    from_device(device_lanes, lanes, NUM_LANE_ELEMENTS * sizeof *lanes);
}

static const struct {
    tile_move_t move;
    gdncp_dtype_t dtype; /* of memory */
    int unit;            /* of its alignment, see draw_block() */
    int num_pieces;
    bool is_read;
    bool is_transposed;
} moves[] = {
    {TILE_READ_F32, GDNCP_F32, 1, 1, true, false},
    {TILE_READ_ACROSS_F32, GDNCP_F32, 1, 1, true, true},
    {TILE_READ_BF16, GDNCP_BF16, 8, 1, true, false},
    {TILE_READ_ACROSS_BF16, GDNCP_BF16, 8, 1, true, true},
    {TILE_STORE_F32, GDNCP_F32, 1, 1, false, false},
    {TILE_STORE_BF16, GDNCP_BF16, 1, 1, false, false},
    {TILE_STORE_F16, GDNCP_F16, 1, 1, false, false},
    {TILE_STORE_PIECES_F32, GDNCP_F32, 2, 1, false, false},
    {TILE_STORE_PIECES_BF16, GDNCP_BF16, 2, 2, false, false},
};

/* Every element, to the bit; nothing else is read or written. */
static void tiles_are_read_and_written(void **state)
{
    test_random_t random = test_random_start(__func__, 82);

    (void)state;
    for (int n = 0; n < 8 * (int)(sizeof moves / sizeof moves[0]); n++) {
        const int i = n / 8;
        const gdncp_dtype_t dtype = moves[i].dtype;
        const tile_block_t block = draw_block(&random, moves[i].unit);
        matrix_t matrix = draw_matrix(&random, dtype);
        memory_t expected;
        memory_t memory;
        float expected_lanes[NUM_LANE_ELEMENTS];
        float lanes[NUM_LANE_ELEMENTS];

        for (int j = 0; j < SIZE * SIZE && moves[i].is_read && dtype == GDNCP_BF16; j++) {
            matrix.x[j / SIZE][j % SIZE] = rounded(matrix.x[j / SIZE][j % SIZE], dtype);
        }
        write_block(&block, dtype, moves[i].num_pieces, moves[i].is_transposed, &matrix, &expected);
        to_lanes(&matrix, expected_lanes);
        poison(&memory);
        memset(lanes, 0xff, sizeof lanes);
        if (moves[i].is_read) {
            memory = expected;
        } else {
            memcpy(lanes, expected_lanes, sizeof lanes);
        }
        emulator_set_schedule((uint64_t)(n % 8));
        run_move(moves[i].move, block, &memory, lanes);
        assert_memory_equal(&memory, &expected, sizeof memory);
        assert_memory_equal(lanes, expected_lanes, sizeof lanes);
    }
    emulator_set_schedule(0);
}

static void a_cleared_tile_is_zero(void **state)
{
    const float zeros[NUM_LANE_ELEMENTS] = {0.0f};
    memory_t memory;
    float lanes[NUM_LANE_ELEMENTS];

    (void)state;
    poison(&memory);
    memset(lanes, 0xff, sizeof lanes);
    run_move(TILE_CLEAR, (tile_block_t){.ld = SIZE}, &memory, lanes);
    assert_memory_equal(lanes, zeros, sizeof lanes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operands_are_read_in_pieces),
        cmocka_unit_test(small_products_are_added_first),
        cmocka_unit_test(products_are_within_their_bound),
        cmocka_unit_test(tiles_are_read_and_written),
        cmocka_unit_test(a_cleared_tile_is_zero),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("tile_mma", tests, NULL, NULL);
}
