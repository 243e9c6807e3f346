/* The update of the convolution against its float64 reference. */
#include "test_ops_conv1d_update_case.h"

/* Sequences without tokens among them; no more than `most` tokens each, if that is not negative. */
static int64_t random_lengths(test_random_t *random, int64_t most, int64_t *cu_seqlens)
{
    const int64_t num_sequences = test_random_int(random, 1, test_size(MAX_SEQUENCES, 6));

    cu_seqlens[0] = 0;
    for (int64_t n = 0; n < num_sequences; n++) {
        const int64_t kind = test_random_int(random, 0, 5);
        const int64_t length = kind < 3 ? 1 : test_random_int(random, 0, kind < 5 ? 8 : 30);

        cu_seqlens[n + 1] = cu_seqlens[n] + (most >= 0 && length > most ? most : length);
    }
    return num_sequences;
}

static update_shape_t random_shape(test_random_t *random, int64_t round, int64_t *cu_seqlens)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
    const int64_t more_rows = test_random_int(random, 0, 6);
    update_shape_t shape = {.dtype = dtypes[round % 3],
                            .index_dtype = round % 4 < 2 ? GDNCP_I64 : GDNCP_I32,
                            .wide = round % 5 == 0,
                            .channels = test_random_int(random, 1, 40),
                            .width = 1 + round % 8,
                            .gap = test_random_int(random, 0, 3),
                            .bias = round % 7 < 4,
                            .has_initial_state = round % 5 < 2,
                            .accepted = round % 2 == 0,
                            .pads = round % 3 == 0 ? 0.0 : 0.2,
                            .activation =
                                round % 3 < 2 ? GDNCP_ACTIVATION_SILU : GDNCP_ACTIVATION_NONE,
                            .cu_seqlens = cu_seqlens};

    shape.slot_rows = shape.width - 1 + more_rows;
    shape.num_sequences = random_lengths(random, shape.accepted ? more_rows + 1 : -1, cu_seqlens);
    shape.num_slots = shape.num_sequences + test_random_int(random, 0, 5);
    return shape;
}

static void random_shapes(void **state)
{
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int64_t round = 0; round < test_size(240, 24); round++) {
        int64_t cu_seqlens[MAX_SEQUENCES + 1];
        const update_shape_t shape = random_shape(&random, round, cu_seqlens);
        update_case_t c;

        start_case(&random, &shape, &c);
        check_update(&c);
        test_arena_free(&c.arena);
    }
}

/* More than one tile of channels and more than one block of sequences. */
static void many_channels(void **state)
{
    test_random_t random = test_random_start(__func__, 2);

    (void)state;
    for (int64_t round = 0; round < test_size(4, 2); round++) {
        int64_t cu_seqlens[MAX_SEQUENCES + 1];
        update_shape_t shape = random_shape(&random, 2 * round + 1, cu_seqlens);
        update_case_t c;

        for (int64_t n = 0; n <= MAX_SEQUENCES; n++) {
            cu_seqlens[n] = 2 * n;
        }
        shape.channels = test_size(1050, 120) + 37 * round;
        shape.num_sequences = test_size(MAX_SEQUENCES, 3);
        shape.num_slots = MAX_SEQUENCES;
        start_case(&random, &shape, &c);
        check_update(&c);
        test_arena_free(&c.arena);
    }
}

/* A NaN reaches the outputs of the W tokens that see it and no more. */
static void a_nan_is_forgotten(void **state)
{
    static const int64_t cu_seqlens[] = {0, 12};
    test_random_t random = test_random_start(__func__, 6);

    (void)state;
    for (int64_t width = 1; width <= 8; width++) {
        const update_shape_t shape = {.index_dtype = GDNCP_I64,
                                      .channels = 2,
                                      .width = width,
                                      .slot_rows = width - 1,
                                      .num_slots = 1,
                                      .cu_seqlens = cu_seqlens,
                                      .num_sequences = 1};
        update_case_t c;

        start_case(&random, &shape, &c);
        ((float *)c.update.x.data)[2 * 2] = NAN; /* channel 0 of token 2 */
        assert_int_equal(run_update(&c), GDNCP_OK);
        for (int64_t t = 0; t < 12; t++) {
            const float *const y = (const float *)c.y.data + 2 * t;

            assert_true(isnan(y[0]) == (t >= 2 && t < 2 + width));
            assert_false(isnan(y[1]));
        }
        test_arena_free(&c.arena);
    }
}

/* Whatever their numbers are: here those of a slot that a call with tokens would move. */
static void sequences_without_tokens_keep_their_slot(void **state)
{
    static const int64_t none[] = {0, 0};
    test_random_t random = test_random_start(__func__, 7);
    const update_shape_t shape = {.index_dtype = GDNCP_I64,
                                  .channels = 5,
                                  .width = 4,
                                  .slot_rows = 5,
                                  .num_slots = 2,
                                  .accepted = true,
                                  .cu_seqlens = none,
                                  .num_sequences = 1};
    update_case_t c;

    (void)state;
    start_case(&random, &shape, &c);
    test_random_fill(&random, c.before, shape.num_slots * slot_size(&c));
    assert_int_equal(run_update(&c), GDNCP_OK);
    assert_memory_equal(c.update.states.data, c.before, pool_bytes(&c));
    test_arena_free(&c.arena);
}

static void nothing_to_do(void **state)
{
    static const int64_t none[] = {0, 0, 0};
    static const int64_t some[] = {0, 2, 3};
    test_random_t random = test_random_start(__func__, 3);
    update_shape_t shape = {.index_dtype = GDNCP_I64,
                            .channels = 5,
                            .width = 4,
                            .slot_rows = 5,
                            .num_slots = 2,
                            .cu_seqlens = none,
                            .num_sequences = 2};
    update_case_t c;

    (void)state;
    for (int i = 0; i < 2; i++) {
        shape.accepted = i == 1;
        start_case(&random, &shape, &c);
        check_update(&c);
        test_arena_free(&c.arena);
    }
    shape.num_sequences = 0;
    start_case(&random, &shape, &c);
    check_update(&c);
    test_arena_free(&c.arena);
    shape.num_sequences = 2;
    shape.cu_seqlens = some;
    shape.pads = 1.0;
    shape.num_slots = 0;
    start_case(&random, &shape, &c);
    check_update(&c);
    test_arena_free(&c.arena);
    shape.pads = 0.0;
    shape.num_slots = 2;
    shape.channels = 0;
    start_case(&random, &shape, &c);
    check_update(&c);
    test_arena_free(&c.arena);
}

static tested_op_t op_of(update_case_t *c)
{
    return (tested_op_t){.context = c,
                         .forward = run_update,
                         .backward = no_backward,
                         .check = check_update,
                         .workspace = &c->workspace,
                         .outputs = {{"y", &c->y}, {"states", &c->update.states}}};
}

static void threads_do_not_change_bits(void **state)
{
    test_random_t random = test_random_start(__func__, 4);

    (void)state;
    for (int64_t round = 0; round < test_size(6, 2); round++) {
        int64_t cu_seqlens[MAX_SEQUENCES + 1];
        update_shape_t shape = random_shape(&random, round, cu_seqlens);
        update_case_t c;

        shape.channels += test_size(1050, 0);
        start_case(&random, &shape, &c);
        const tested_op_t op = op_of(&c);

        check_threads_do_not_change_bits(&op);
        test_arena_free(&c.arena);
    }
}

static void a_workspace_is_reused(void **state)
{
    static const int64_t none[] = {0, 0};
    test_random_t random = test_random_start(__func__, 5);
    int64_t cu_seqlens[MAX_SEQUENCES + 1];
    update_shape_t shape = random_shape(&random, 4, cu_seqlens);
    update_case_t empty;
    update_case_t c;

    (void)state;
    start_case(&random, &shape, &c);
    shape.cu_seqlens = none;
    shape.num_sequences = 1;
    shape.num_slots = 1;
    start_case(&random, &shape, &empty);
    const tested_op_t empty_op = op_of(&empty);
    const tested_op_t op = op_of(&c);

    check_workspace_is_reused(&empty_op, &op);
    test_arena_free(&c.arena);
    test_arena_free(&empty.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_shapes),
        cmocka_unit_test(many_channels),
        cmocka_unit_test(a_nan_is_forgotten),
        cmocka_unit_test(sequences_without_tokens_keep_their_slot),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(a_workspace_is_reused),
    };

    return cmocka_run_group_tests_name("conv1d_update", tests, NULL, NULL);
}
