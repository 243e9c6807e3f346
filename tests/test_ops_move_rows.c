/* Rows moved between matrices, on the CPU and on the device, against a loop over elements. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/device.h"
#include "move_rows.h"
#include "random.h"

enum { MAX_ROWS = 12, MAX_COLUMNS = 40, MAX_GAP = 8, OFFSET = 4 };
enum { MAX_ELEMENTS = OFFSET + MAX_ROWS * (MAX_COLUMNS + MAX_GAP) };

/* A matrix inside a block of its dtype: rows a stride apart, from element `offset` on. */
typedef struct matrix {
    gdncp_dtype_t dtype;
    int64_t columns;
    int64_t stride;
    int64_t offset;
    char bytes[MAX_ELEMENTS * sizeof(float)];
} matrix_t;

/* The moves of one case; from or to is left out where has_from or has_to is not set. */
typedef struct moves_case {
    matrix_t src;
    bool has_src;
    matrix_t dst;
    int64_t count;
    int64_t from[MAX_ROWS];
    int64_t to[MAX_ROWS];
    bool has_from;
    bool has_to;
} moves_case_t;

static void *element(matrix_t *matrix, int64_t row, int64_t column)
{
    const int64_t index = matrix->offset + row * matrix->stride + column;

    return matrix->bytes + (size_t)index * gdncp_dtype_size(matrix->dtype);
}

static void expect(moves_case_t *test)
{
    for (int64_t i = 0; i < test->count; i++) {
        const int64_t from = test->has_from ? test->from[i] : i;
        const int64_t to = test->has_to ? test->to[i] : i;

        for (int64_t c = 0; c < test->dst.columns; c++) {
            float value = 0.0f;

            if (test->has_src && from >= 0) {
                gdncp_convert_to_f32(test->src.dtype, element(&test->src, from, c), 1, &value);
            }
            gdncp_convert_from_f32(&value, 1, test->dst.dtype, element(&test->dst, to, c));
        }
    }
}

static void check(gdncp_status_t status)
{
    assert_int_equal(status, GDNCP_OK);
}

static void *upload(gdncp_device_kind_t device, const matrix_t *matrix)
{
    void *memory = NULL;

    check(gdncp_device_alloc(device, sizeof matrix->bytes, &memory));
    check(gdncp_device_copy(device, memory, matrix->bytes, sizeof matrix->bytes, NULL));
    return memory;
}

static gdncp_tensor_t view(gdncp_device_kind_t device, const matrix_t *matrix, void *memory)
{
    const int64_t shape[] = {MAX_ROWS, matrix->columns};
    gdncp_tensor_t tensor = gdncp_tensor_contiguous(
        (char *)memory + (size_t)matrix->offset * gdncp_dtype_size(matrix->dtype), matrix->dtype, 2,
        shape);

    tensor.device = device;
    tensor.strides[0] = matrix->stride;
    return tensor;
}

/* The case on a device: dst becomes what the operator makes of it, gaps and all. */
static void run(moves_case_t *test, gdncp_device_kind_t device)
{
    void *const src = upload(device, &test->src);
    void *const dst = upload(device, &test->dst);
    gdncp_workspace_t *workspace = NULL;
    gdncp_device_list_t from = {0};
    gdncp_device_list_t to = {0};

    check(gdncp_workspace_create_on(device, NULL, &workspace));
    check(gdncp_device_list_copy(device, test->from, test->count, NULL, &from));
    check(gdncp_device_list_copy(device, test->to, test->count, NULL, &to));
    gdncp_row_moves_t moves = {.dst = view(device, &test->dst, dst),
                               .from = test->has_from ? &from : NULL,
                               .to = test->has_to ? &to : NULL,
                               .count = test->count};

    if (test->has_src) {
        moves.src = view(device, &test->src, src);
    }
    check(gdncp_move_rows(&moves, workspace));
    check(gdncp_device_copy(device, test->dst.bytes, dst, sizeof test->dst.bytes, NULL));
    check(gdncp_stream_synchronize(device, NULL));
    gdncp_device_list_destroy(&from);
    gdncp_device_list_destroy(&to);
    gdncp_workspace_destroy(workspace);
    gdncp_device_free(device, src);
    gdncp_device_free(device, dst);
}

static matrix_t random_matrix(test_random_t *random, gdncp_dtype_t dtype, int64_t columns)
{
    matrix_t matrix = {.dtype = dtype, .columns = columns};
    const bool is_aligned = test_random_int(random, 0, 1) == 0;

    matrix.stride = columns + (is_aligned ? 4 * test_random_int(random, 0, MAX_GAP / 4)
                                          : test_random_int(random, 0, MAX_GAP));
    matrix.offset = is_aligned ? 0 : test_random_int(random, 0, OFFSET);
    for (int64_t i = 0; i < MAX_ELEMENTS; i++) {
        const float value = (float)test_random_normal(random);

        gdncp_convert_from_f32(&value, 1, dtype,
                               matrix.bytes + (size_t)i * gdncp_dtype_size(dtype));
    }
    return matrix;
}

/* Distinct rows to write to; rows to read from, or none. */
static void random_lists(test_random_t *random, moves_case_t *test)
{
    test->has_from = test_random_int(random, 0, 1) == 1;
    test->has_to = test_random_int(random, 0, 1) == 1;
    for (int64_t i = 0; i < MAX_ROWS; i++) {
        const int64_t other = test_random_int(random, 0, i);

        test->from[i] = test_random_int(random, -1, MAX_ROWS - 1);
        test->to[i] = test->to[other];
        test->to[other] = i;
    }
}

static void check_device(gdncp_device_kind_t device, const char *name)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    test_random_t random = test_random_start(name, 71);

    for (int i = 0; i < 200; i++) {
        const gdncp_dtype_t other = dtypes[test_random_int(&random, 0, 2)];
        const int64_t way = test_random_int(&random, 0, 2); /* from F32, to F32, or neither */
        const int64_t columns = i % 2 == 0 ? 4 * test_random_int(&random, 0, MAX_COLUMNS / 4)
                                           : test_random_int(&random, 0, MAX_COLUMNS);
        moves_case_t expected = {.count = test_random_int(&random, 0, MAX_ROWS)};

        expected.src = random_matrix(&random, way == 0 ? GDNCP_F32 : other, columns);
        expected.dst = random_matrix(&random, way == 1 ? GDNCP_F32 : other, columns);
        expected.has_src = test_random_int(&random, 0, 7) > 0;
        random_lists(&random, &expected);
        moves_case_t got = expected;

        expect(&expected);
        run(&got, device);
        assert_memory_equal(got.dst.bytes, expected.dst.bytes, sizeof got.dst.bytes);
    }
}

static void rows_move_on_the_cpu(void **state)
{
    (void)state;
    check_device(GDNCP_DEVICE_CPU, "rows_move_on_the_cpu");
}

static void rows_move_on_the_device(void **state)
{
    (void)state;
    if (gdncp_device_check(GDNCP_DEVICE_CUDA) != GDNCP_OK) {
        skip();
    }
    check_device(GDNCP_DEVICE_CUDA, "rows_move_on_the_device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_move_on_the_cpu),
        cmocka_unit_test(rows_move_on_the_device),
    };

#ifdef GDNCP_HAVE_EMULATOR
    setenv("GDNCP_CUDA", "emulated", 0);
#endif
    return cmocka_run_group_tests_name("move rows", tests, NULL, NULL);
}
