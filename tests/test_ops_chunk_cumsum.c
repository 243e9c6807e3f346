#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "gdncp/ops.h"
#include "op_case.h"
#include "random.h"
#include "threads.h"

/* One call: g, its values, and where it is cut. */
typedef struct cumsum_case {
    test_arena_t arena;
    gdncp_tensor_t g, out;
    const double *values; /* [T, Hv] */
    const int64_t *cu_seqlens;
    int64_t num_sequences;
    int64_t chunk_size;
} cumsum_case_t;

static cumsum_case_t start_case(test_random_t *random, const int64_t *cu_seqlens,
                                int64_t num_sequences, int64_t num_heads, int64_t chunk_size,
                                int64_t gap)
{
    const int64_t shape[2] = {cu_seqlens[num_sequences], num_heads};
    cumsum_case_t c = {
        .cu_seqlens = cu_seqlens, .num_sequences = num_sequences, .chunk_size = chunk_size};

    c.g = test_tensor(&c.arena, GDNCP_F32, 2, shape, gap);
    c.out = test_tensor(&c.arena, GDNCP_F32, 2, shape, 2 * gap);
    c.values = test_tensor_fill(&c.arena, random, 1.0, -1.0, &c.g);
    return c;
}

static gdncp_status_t run(void *context)
{
    const cumsum_case_t *const c = context;

    return gdncp_chunk_cumsum(&c->g, c->cu_seqlens, NULL, c->num_sequences, c->chunk_size, &c->out,
                              NULL);
}

/* The same sum in the same precision: equal in each bit. */
static void check_sums(cumsum_case_t *c)
{
    const int64_t num_heads = c->g.shape[1];
    const float *const out = test_tensor_values(&c->arena, &c->out);

    for (int64_t n = 0; n < c->num_sequences; n++) {
        for (int64_t h = 0; h < num_heads; h++) {
            double sum = 0.0;

            for (int64_t t = c->cu_seqlens[n]; t < c->cu_seqlens[n + 1]; t++) {
                if ((t - c->cu_seqlens[n]) % c->chunk_size == 0) {
                    sum = 0.0;
                }
                sum += c->values[t * num_heads + h];
                assert_true(out[t * num_heads + h] == (float)sum);
            }
        }
    }
}

static void sums_start_anew_at_chunks_and_sequences(void **state)
{
    static const int64_t chunk_sizes[] = {1, 2, 7, 64, 100, INT64_MAX};
    static const int64_t packs[][8] = {
        {0, 0, 0, 0, 0, 0, 0, 0},
        {0, 1, 1, 3, 6, 6, 70, 70},
        {0, 0, 64, 128, 129, 321, 700, 1000},
        {0, 5000, 5000, 5000, 5000, 5000, 5000, 9001},
    };
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int pack = 0; pack < 4; pack++) {
        for (int i = 0; i < 6; i++) {
            cumsum_case_t c = start_case(&random, packs[pack], 7, test_random_int(&random, 1, 70),
                                         chunk_sizes[i], test_random_int(&random, 0, 2));

            assert_int_equal(run(&c), GDNCP_OK);
            check_sums(&c);
            test_arena_free(&c.arena);
        }
    }
}

static void sums_may_replace_g(void **state)
{
    static const int64_t cu_seqlens[] = {0, 63, 200};
    test_random_t random = test_random_start(__func__, 4);
    cumsum_case_t c = start_case(&random, cu_seqlens, 2, 21, 16, 0);

    (void)state;
    c.out = c.g;
    assert_int_equal(run(&c), GDNCP_OK);
    check_sums(&c);
    test_arena_free(&c.arena);
}

static void threads_do_not_change_bits(void **state)
{
    static const int64_t cu_seqlens[] = {0, 333, 5000};
    test_random_t random = test_random_start(__func__, 2);
    cumsum_case_t c = start_case(&random, cu_seqlens, 2, 5, 64, 0);
    const gdncp_tensor_t one = c.out;

    (void)state;
    test_set_num_threads(1);
    assert_int_equal(run(&c), GDNCP_OK);
    c.out = test_tensor(&c.arena, GDNCP_F32, 2, one.shape, 0);
    test_set_num_threads(4);
    assert_int_equal(run(&c), GDNCP_OK);
    assert_tensor_bits_equal("out", &c.out, &one);
    test_arena_free(&c.arena);
}

static void arguments_are_checked(void **state)
{
    static const int64_t cu_seqlens[] = {0, 2, 5};
    static const int64_t decreasing[] = {0, 6, 5};
    test_random_t random = test_random_start(__func__, 3);
    cumsum_case_t c = start_case(&random, cu_seqlens, 2, 3, 4, 1);
    const test_argument_t g = {.name = "g", .tensor = &c.g, .defines_shape = true};
    const test_argument_t out = {.name = "out", .tensor = &c.out};

    (void)state;
    test_argument_errors(&g, run, &c);
    test_argument_errors(&out, run, &c);
    c.out = test_tensor(&c.arena, GDNCP_F32, 2, c.g.shape, 0);
    c.chunk_size = 0;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "chunk_size");
    c.chunk_size = 4;
    c.cu_seqlens = decreasing;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "cu_seqlens");
    c.cu_seqlens = NULL;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "cu_seqlens");
    c.cu_seqlens = cu_seqlens;
    c.num_sequences = -1;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "num_sequences");
    assert_tensor_untouched("out", &c.out);
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_start_anew_at_chunks_and_sequences),
        cmocka_unit_test(sums_may_replace_g),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(arguments_are_checked),
    };

    return cmocka_run_group_tests_name("chunk_cumsum", tests, NULL, NULL);
}
