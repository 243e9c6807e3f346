/* The recurrent step against its float64 reference. */
#include <stdio.h>

#include "test_ops_recurrent_step_case.h"

static const int64_t lengths[] = {0, 1, 3, 0, 1, 2, 4, 1, 0};

enum { NUM_SEQUENCES = sizeof lengths / sizeof lengths[0], NUM_SLOTS = 40 };

static void offsets_of_lengths(int64_t *cu_seqlens)
{
    cu_seqlens[0] = 0;
    for (int i = 0; i < NUM_SEQUENCES; i++) {
        cu_seqlens[i + 1] = cu_seqlens[i] + lengths[i];
    }
}

static step_shape_t shape_of(const int64_t *cu_seqlens)
{
    return (step_shape_t){.dtype = GDNCP_F32,
                          .index_dtype = GDNCP_I64,
                          .num_key_heads = 2,
                          .num_value_heads = 4,
                          .dk = 12,
                          .dv = 20,
                          .num_slots = NUM_SLOTS,
                          .pads = 0.15,
                          .qk_l2norm = true,
                          .mean_g = -0.2,
                          .cu_seqlens = cu_seqlens,
                          .num_sequences = NUM_SEQUENCES};
}

static void check_shape(test_random_t *random, const step_shape_t *shape)
{
    step_case_t c = start_case(random, shape);

    check_step(&c);
    test_arena_free(&c.arena);
}

/* One slot a sequence, a row of slots, a row and accepted tokens. */
static void set_form(step_shape_t *shape, int64_t form)
{
    shape->row_length = form == 0 ? 0 : 5;
    shape->accepted = form == 2;
}

static void random_shapes(void **state)
{
    test_random_t random = test_random_start(__func__, 1);
    int64_t cu_seqlens[NUM_SEQUENCES + 1];

    (void)state;
    offsets_of_lengths(cu_seqlens);
    for (int64_t i = 0; i < test_size(60, 18); i++) {
        static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F16};
        step_shape_t shape = shape_of(cu_seqlens);

        set_form(&shape, i % 3);
        shape.dtype = dtypes[i / 3 % 3];
        shape.index_dtype = i / 9 % 2 == 0 ? GDNCP_I64 : GDNCP_I32;
        shape.num_key_heads = test_random_int(&random, 1, test_size(3, 2));
        shape.num_value_heads = shape.num_key_heads * test_random_int(&random, 1, test_size(3, 2));
        shape.dk = test_random_int(&random, 1, 40);
        shape.dv = test_random_int(&random, 1, test_size(40, 20));
        shape.gap = test_random_int(&random, 0, 3);
        shape.scale = i % 4 == 1 ? -0.3f : 0.0f;
        shape.qk_l2norm = i % 5 != 0;
        shape.mean_g = -3.0 * test_random_uniform(&random);
        check_shape(&random, &shape);
    }
}

static void head_dims_of_models(void **state)
{
    static const int64_t dims[][2] = {{128, 128}, {60, 100}, {96, 192},
                                      {256, 256}, {144, 20}, {300, 17}};
    test_random_t random = test_random_start(__func__, 2);
    int64_t cu_seqlens[NUM_SEQUENCES + 1];

    (void)state;
    offsets_of_lengths(cu_seqlens);
    /* Kernels for a device have key dims of up to 256. */
    for (int64_t i = 0; i < test_size(6, 5); i++) {
        step_shape_t shape = shape_of(cu_seqlens);

        set_form(&shape, i % 3);
        shape.num_value_heads = 2;
        shape.num_sequences = test_size(7, 3);
        shape.num_slots = 20;
        shape.dk = dims[i][0];
        shape.dv = dims[i][1];
        check_shape(&random, &shape);
    }
}

/* Value heads 2..6 of groups of three: the first group has one head here, the last two. */
static void a_part_of_the_heads(void **state)
{
    test_random_t random = test_random_start(__func__, 3);
    int64_t cu_seqlens[NUM_SEQUENCES + 1];

    (void)state;
    offsets_of_lengths(cu_seqlens);
    step_shape_t shape = shape_of(cu_seqlens);

    shape.num_key_heads = 4;
    shape.num_value_heads = 5;
    shape.group_size = 3;
    shape.group_phase = 2;
    check_shape(&random, &shape);
}

/* Gates that forget all at once, and none that forget anything. */
static void decay_from_none_to_all(void **state)
{
    static const double means[] = {0.0, -0.001, -30.0, -1000.0};
    test_random_t random = test_random_start(__func__, 4);
    int64_t cu_seqlens[NUM_SEQUENCES + 1];

    (void)state;
    offsets_of_lengths(cu_seqlens);
    for (int64_t i = 0; i < 4; i++) {
        step_shape_t shape = shape_of(cu_seqlens);

        set_form(&shape, i % 3);
        shape.mean_g = means[i];
        check_shape(&random, &shape);
    }
}

/* A slot that several sequences start from, and that none of them writes. */
static void sequences_may_start_from_one_slot(void **state)
{
    test_random_t random = test_random_start(__func__, 5);
    int64_t cu_seqlens[] = {0, 2, 5, 6};
    step_shape_t shape = shape_of(cu_seqlens);

    (void)state;
    shape.num_sequences = 3;
    shape.row_length = 4;
    shape.accepted = true;
    shape.pads = 0.0;
    step_case_t c = start_case(&random, &shape);

    for (int64_t n = 0; n < 3; n++) {
        c.num_accepted[n] = 4;
        for (int64_t i = 0; i < 4; i++) {
            c.slots[4 * n + i] = i == 3 ? 7 : 10 + 4 * n + i;
        }
    }
    memcpy(c.step.slots.data, c.slots, 12 * sizeof *c.slots);
    memcpy(c.step.num_accepted.data, c.num_accepted, 3 * sizeof *c.num_accepted);
    for (int64_t i = 7 * slot_size(&c); i < 8 * slot_size(&c); i++) {
        c.before[i] = (float)test_random_normal(&random);
        c.reference.states[i] = c.before[i];
    }
    check_step(&c);
    test_arena_free(&c.arena);
}

/* Without a token, a sequence, a slot or a head; and with nothing but pads. */
static void nothing_to_do(void **state)
{
    static const int64_t none[] = {0, 0, 0};
    static const int64_t some[] = {0, 2, 3};
    test_random_t random = test_random_start(__func__, 6);

    (void)state;
    for (int64_t form = 0; form < 3; form++) {
        step_shape_t shape = shape_of(none);

        set_form(&shape, form);
        shape.num_sequences = 2;
        shape.num_slots = 3;
        check_shape(&random, &shape);
        shape.num_sequences = 0;
        check_shape(&random, &shape);
        shape.num_sequences = 2;
        shape.cu_seqlens = some;
        shape.num_slots = 0;
        shape.pads = 1.0;
        check_shape(&random, &shape);
        shape.num_slots = 12;
        shape.pads = 0.0;
        shape.num_key_heads = 0;
        shape.num_value_heads = 0;
        check_shape(&random, &shape);
    }
}

static tested_op_t op_of(step_case_t *c)
{
    return (tested_op_t){.context = c,
                         .forward = run_step,
                         .backward = no_backward,
                         .check = check_step,
                         .workspace = &c->workspace,
                         .outputs = {{"o", &c->o}, {"states", &c->step.states}}};
}

static void threads_do_not_change_bits(void **state)
{
    test_random_t random = test_random_start(__func__, 7);
    int64_t cu_seqlens[NUM_SEQUENCES + 1];

    (void)state;
    offsets_of_lengths(cu_seqlens);
    for (int64_t form = 0; form < 3; form++) {
        step_shape_t shape = shape_of(cu_seqlens);

        set_form(&shape, form);
        step_case_t c = start_case(&random, &shape);
        const tested_op_t op = op_of(&c);

        check_threads_do_not_change_bits(&op);
        test_arena_free(&c.arena);
    }
}

static void a_workspace_is_reused(void **state)
{
    static const int64_t none[] = {0, 0};
    test_random_t random = test_random_start(__func__, 8);
    int64_t cu_seqlens[NUM_SEQUENCES + 1];
    step_shape_t shape = shape_of(none);

    (void)state;
    shape.num_sequences = 1;
    shape.num_slots = 1;
    step_case_t empty = start_case(&random, &shape);

    offsets_of_lengths(cu_seqlens);
    shape = shape_of(cu_seqlens);
    set_form(&shape, 2);
    step_case_t c = start_case(&random, &shape);
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
        cmocka_unit_test(head_dims_of_models),
        cmocka_unit_test(a_part_of_the_heads),
        cmocka_unit_test(decay_from_none_to_all),
        cmocka_unit_test(sequences_may_start_from_one_slot),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(a_workspace_is_reused),
    };

    return cmocka_run_group_tests_name("recurrent_step", tests, NULL, NULL);
}
