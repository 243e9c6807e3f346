/* Errors of the recurrent step's arguments: what is wrong is named, and nothing is written. */
#include "test_ops_recurrent_step_case.h"

static const int64_t offsets[] = {0, 2, 5};

enum { NUM_SLOTS = 12, ROW = 3 };

static step_case_t start_error_case(int64_t row_length)
{
    test_random_t random = test_random_start(__func__, 1);
    const step_shape_t shape = {.dtype = GDNCP_BF16,
                                .index_dtype = GDNCP_I64,
                                .num_key_heads = 2,
                                .num_value_heads = 4,
                                .dk = 3,
                                .dv = 5,
                                .num_slots = NUM_SLOTS,
                                .row_length = row_length,
                                .accepted = row_length > 0,
                                .cu_seqlens = offsets,
                                .num_sequences = 2};

    return start_case(&random, &shape);
}

static gdncp_status_t call(void *context)
{
    const step_case_t *const c = context;

    return gdncp_recurrent_step(&c->step, &c->o, c->workspace);
}

/* The call names the argument and writes neither the output nor the pool. */
static void check_names(step_case_t *c, const char *name)
{
    const size_t bytes = (size_t)(c->shape.num_slots * slot_size(c)) * sizeof(float);

    memcpy(c->step.states.data, c->before, bytes);
    assert_argument_error(call(c), GDNCP_ERR_INVALID_ARGUMENT, name);
    assert_tensor_untouched("o", &c->o);
    assert_memory_equal(c->step.states.data, c->before, bytes);
}

static void tensors_are_checked(void **state)
{
    step_case_t c = start_error_case(ROW);
    const test_argument_t arguments[] = {
        {.name = "q", .tensor = &c.step.q},
        {.name = "k", .tensor = &c.step.k, .defines_shape = true},
        {.name = "v", .tensor = &c.step.v, .defines_shape = true},
        {.name = "g", .tensor = &c.step.g, .contiguous = true},
        {.name = "beta", .tensor = &c.step.beta, .contiguous = true},
        {.name = "states", .tensor = &c.step.states, .defines_shape = true, .contiguous = true},
        {.name = "num_accepted",
         .tensor = &c.step.num_accepted,
         .contiguous = true,
         .optional = true},
        {.name = "o", .tensor = &c.o},
    };

    (void)state;
    test_each_argument(arguments, sizeof arguments / sizeof arguments[0], call, &c);
    test_arena_free(&c.arena);
}

static void states_have_the_shape_of_the_heads(void **state)
{
    step_case_t c = start_error_case(ROW);

    (void)state;
    for (int i = 1; i < 4; i++) {
        c.step.states.shape[i]--;
        check_names(&c, "states");
        c.step.states.shape[i]++;
    }
    test_arena_free(&c.arena);
}

static void lists_of_slots_are_checked(void **state)
{
    static const int64_t row_lengths[] = {0, ROW};

    (void)state;
    for (int i = 0; i < 2; i++) {
        step_case_t c = start_error_case(row_lengths[i]);
        gdncp_tensor_t *const slots = &c.step.slots;
        const gdncp_tensor_t good = *slots;

        slots->ndim = 3;
        check_names(&c, "slots");
        *slots = good;
        slots->dtype = GDNCP_F32;
        check_names(&c, "slots");
        *slots = good;
        slots->shape[0]--;
        check_names(&c, "slots");
        *slots = good;
        slots->strides[0]++;
        check_names(&c, "slots");
        *slots = good;
        slots->data = NULL;
        check_names(&c, "slots");
        *slots = good;
        slots->device = GDNCP_DEVICE_CUDA;
        check_names(&c, "slots");
        test_arena_free(&c.arena);
    }
}

static void forms_are_checked(void **state)
{
    step_case_t row = start_error_case(ROW);
    step_case_t single = start_error_case(0);

    (void)state;
    /* Three tokens of sequence 1. */
    row.step.slots.shape[1] = 2;
    row.step.slots.strides[0] = 2;
    check_names(&row, "slots");
    single.step.num_accepted = row.step.num_accepted;
    check_names(&single, "num_accepted");
    test_arena_free(&row.arena);
    test_arena_free(&single.arena);
}

#ifdef GDNCP_TEST_ON_DEVICE

/* The host does not see the numbers: those out of range are pads. */
static void numbers_out_of_range_are_pads(void **state)
{
    static const int64_t wrong[] = {NUM_SLOTS, INT64_MAX, INT64_MIN};
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int64_t i = 0; i < 3; i++) {
        step_case_t c = start_error_case(i == 0 ? 0 : ROW);
        int64_t *const slots = c.step.slots.data;
        const int64_t entry = test_random_int(&random, 0, c.step.slots.ndim == 1 ? 1 : 2);

        /* The reference takes a pad. */
        slots[entry] = wrong[i];
        c.slots[entry] = -1;
        check_step(&c);
        test_arena_free(&c.arena);
    }
}

static void accepted_tokens_out_of_range_are_pads(void **state)
{
    static const int64_t wrong[] = {0, -1, ROW + 1, INT64_MAX, INT64_MIN};

    (void)state;
    for (int i = 0; i < 5; i++) {
        step_case_t c = start_error_case(ROW);

        ((int64_t *)c.step.num_accepted.data)[1] = wrong[i];
        c.num_accepted[1] = 1;
        c.slots[ROW] = -1;
        check_step(&c);
        test_arena_free(&c.arena);
    }
}

static void wide_keys_are_not_supported(void **state)
{
    test_random_t random = test_random_start(__func__, 1);
    const step_shape_t shape = {.dtype = GDNCP_F32,
                                .index_dtype = GDNCP_I64,
                                .num_key_heads = 1,
                                .num_value_heads = 1,
                                .dk = 257,
                                .dv = 4,
                                .num_slots = 2,
                                .cu_seqlens = offsets,
                                .num_sequences = 2};
    step_case_t c = start_case(&random, &shape);

    (void)state;
    assert_argument_error(call(&c), GDNCP_ERR_NOT_SUPPORTED, "k");
    assert_tensor_untouched("o", &c.o);
    test_arena_free(&c.arena);
}

#else

static void numbers_in_lists_are_checked(void **state)
{
    step_case_t c = start_error_case(ROW);
    int64_t *const slots = c.step.slots.data;
    int64_t *const accepted = c.step.num_accepted.data;

    (void)state;
    for (int64_t i = 0; i < 2 * ROW; i++) {
        slots[i] = i;
    }
    accepted[0] = 3;
    accepted[1] = 1;
    assert_int_equal(call(&c), GDNCP_OK);
    memset(c.o.data, 0xff, (size_t)(c.o.shape[0] * c.o.strides[0]) * 2);

    accepted[1] = 0;
    check_names(&c, "num_accepted");
    accepted[1] = ROW + 1;
    check_names(&c, "num_accepted");
    accepted[1] = 1;
    /* A written slot and one that is only read. */
    slots[5] = NUM_SLOTS;
    check_names(&c, "slots");
    slots[5] = 5;
    slots[2] = NUM_SLOTS;
    check_names(&c, "slots");
    /* A slot that two sequences write, one that a later one reads, one that an earlier one does. */
    slots[2] = 2;
    slots[4] = 1;
    check_names(&c, "slots");
    slots[4] = 2;
    check_names(&c, "slots");
    slots[4] = 4;
    accepted[0] = 1;
    c.step.cu_seqlens = (const int64_t[]){0, 3, 5};
    accepted[1] = 3;
    slots[5] = 2;
    check_names(&c, "slots");
    /* A slot that nobody needs. */
    accepted[1] = 1;
    assert_int_equal(call(&c), GDNCP_OK);
    /* Pads may be named twice, and a row may name a slot again. */
    slots[1] = -1;
    slots[4] = -1;
    assert_int_equal(call(&c), GDNCP_OK);
    slots[1] = 0;
    assert_int_equal(call(&c), GDNCP_OK);
    /* A row that starts from a pad claims none of its slots. */
    slots[0] = -1;
    slots[1] = 3;
    assert_int_equal(call(&c), GDNCP_OK);
    test_arena_free(&c.arena);
}

static void one_slot_a_sequence_is_its_own(void **state)
{
    step_case_t c = start_error_case(0);
    int64_t *const slots = c.step.slots.data;

    (void)state;
    slots[0] = 4;
    slots[1] = 4;
    check_names(&c, "slots");
    slots[1] = NUM_SLOTS;
    check_names(&c, "slots");
    slots[1] = INT64_MAX;
    check_names(&c, "slots");
    test_arena_free(&c.arena);
}

#endif

static void other_arguments_are_checked(void **state)
{
    step_case_t c = start_error_case(ROW);
    const gdncp_recurrent_step_t good = c.step;

    (void)state;
    c.step.cu_seqlens = NULL;
    check_names(&c, "cu_seqlens");
    c.step.cu_seqlens = (const int64_t[]){0, 6, 5};
    check_names(&c, "cu_seqlens");
    c.step = good;
    c.step.num_sequences = -1;
    check_names(&c, "num_sequences");
    c.step = good;
    c.step.scale = NAN;
    check_names(&c, "scale");
    c.step = good;
    c.step.group_size = -1;
    check_names(&c, "group_size");
    c.step = good;
    c.step.group_phase = 2;
    check_names(&c, "group_phase");
    c.step = good;
    assert_argument_error(gdncp_recurrent_step(NULL, &c.o, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "step");
    assert_argument_error(gdncp_recurrent_step(&c.step, NULL, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "o");
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(states_have_the_shape_of_the_heads),
        cmocka_unit_test(lists_of_slots_are_checked),
        cmocka_unit_test(forms_are_checked),
#ifdef GDNCP_TEST_ON_DEVICE
        cmocka_unit_test(numbers_out_of_range_are_pads),
        cmocka_unit_test(accepted_tokens_out_of_range_are_pads),
        cmocka_unit_test(wide_keys_are_not_supported),
#else
        cmocka_unit_test(numbers_in_lists_are_checked),
        cmocka_unit_test(one_slot_a_sequence_is_its_own),
#endif
        cmocka_unit_test(other_arguments_are_checked),
    };

    return cmocka_run_group_tests_name("recurrent_step_arguments", tests, NULL, NULL);
}
