/* Errors of the update's arguments: what is wrong is named, and nothing is written. */
#include "test_ops_conv1d_update_case.h"

static const int64_t offsets[] = {0, 2, 5};

enum { NUM_SLOTS = 6, WIDTH = 4, ROWS = 5 };

static void start_good_case(bool has_initial_state, update_case_t *c)
{
    test_random_t random = test_random_start(__func__, 1);
    const update_shape_t shape = {.dtype = GDNCP_BF16,
                                  .index_dtype = GDNCP_I64,
                                  .channels = 3,
                                  .width = WIDTH,
                                  .slot_rows = ROWS,
                                  .num_slots = NUM_SLOTS,
                                  .bias = true,
                                  .has_initial_state = has_initial_state,
                                  .accepted = true,
                                  .cu_seqlens = offsets,
                                  .num_sequences = 2};

    start_case(&random, &shape, c);
}

/* All lists are there and all their numbers are read. */
static void start_error_case(update_case_t *c)
{
    start_good_case(true, c);
    for (int64_t n = 0; n < 2; n++) {
        c->has_initial_state[n] = 1;
        ((int64_t *)c->update.num_accepted.data)[n] = 1 + n;
    }
}

static gdncp_status_t call(void *context)
{
    const update_case_t *const c = context;

    return gdncp_conv1d_update(&c->update, &c->y, c->workspace);
}

/* The call names the argument and writes neither the output nor the pool. */
static void check_names(update_case_t *c, const char *name)
{
    memcpy(c->update.states.data, c->before, pool_bytes(c));
    assert_argument_error(call(c), GDNCP_ERR_INVALID_ARGUMENT, name);
    assert_tensor_untouched("y", &c->y);
    assert_memory_equal(c->update.states.data, c->before, pool_bytes(c));
}

static void tensors_are_checked(void **state)
{
    update_case_t c;

    (void)state;
    start_error_case(&c);
    const test_argument_t arguments[] = {
        {.name = "x", .tensor = &c.update.x, .defines_shape = true},
        {.name = "weight", .tensor = &c.update.weight, .contiguous = true},
        {.name = "bias", .tensor = &c.update.bias, .contiguous = true, .optional = true},
        {.name = "states", .tensor = &c.update.states, .defines_shape = true, .contiguous = true},
        {.name = "num_accepted",
         .tensor = &c.update.num_accepted,
         .contiguous = true,
         .optional = true},
        {.name = "has_initial_state",
         .tensor = &c.update.has_initial_state,
         .contiguous = true,
         .optional = true},
        {.name = "y", .tensor = &c.y},
    };

    test_each_argument(arguments, sizeof arguments / sizeof arguments[0], call, &c);
    test_arena_free(&c.arena);
}

static void the_list_of_slots_is_checked(void **state)
{
    update_case_t c;

    (void)state;
    start_error_case(&c);
    gdncp_tensor_t *const slots = &c.update.slots;
    const gdncp_tensor_t good = *slots;

    slots->ndim = 2;
    check_names(&c, "slots");
    *slots = good;
    slots->dtype = GDNCP_BF16;
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

static void slots_have_rows_enough(void **state)
{
    update_case_t c;

    (void)state;
    start_error_case(&c);
    c.update.states.shape[2]--;
    check_names(&c, "states");
    c.update.states.shape[2]++;
    /* Three tokens that may be taken back need two rows more than the window. */
    c.update.states.shape[1] = ROWS - 1;
    c.update.states.strides[0] = (ROWS - 1) * 3;
    check_names(&c, "states");
    c.update.states.shape[1] = WIDTH - 2;
    c.update.states.strides[0] = (WIDTH - 2) * 3;
    check_names(&c, "states");
    c.update.num_accepted.data = NULL;
    check_names(&c, "states");
    c.update.states.shape[1] = ROWS - 1;
    c.update.states.strides[0] = (ROWS - 1) * 3;
    assert_int_equal(call(&c), GDNCP_OK);
    test_arena_free(&c.arena);
}

#ifdef GDNCP_TEST_ON_DEVICE

/* The host does not see the numbers: a sequence with one out of range is a pad. */
static void numbers_out_of_range_are_pads(void **state)
{
    static const int64_t slots[] = {NUM_SLOTS, INT64_MAX, INT64_MIN};
    static const int64_t accepted[] = {0, -1, ROWS - WIDTH + 3, INT64_MAX, INT64_MIN};

    (void)state;
    for (int i = 0; i < 8; i++) {
        update_case_t c;

        start_good_case(false, &c);
        if (i < 3) {
            ((int64_t *)c.update.slots.data)[1] = slots[i];
        } else {
            ((int64_t *)c.update.num_accepted.data)[1] = accepted[i - 3];
        }
        c.slots[1] = -1; /* as the reference sees it */
        check_update(&c);
        test_arena_free(&c.arena);
    }
}

#else

static void numbers_in_lists_are_checked(void **state)
{
    update_case_t c;

    (void)state;
    start_error_case(&c);
    int64_t *const slots = c.update.slots.data;
    int64_t *const accepted = c.update.num_accepted.data;

    slots[0] = 4;
    slots[1] = 4;
    check_names(&c, "slots");
    slots[1] = NUM_SLOTS;
    check_names(&c, "slots");
    slots[1] = INT64_MAX;
    check_names(&c, "slots");
    slots[1] = 5;
    accepted[1] = 0;
    check_names(&c, "num_accepted");
    accepted[1] = ROWS - WIDTH + 3;
    check_names(&c, "num_accepted");
    /* What is not read may be anything. */
    c.has_initial_state[1] = 0;
    assert_int_equal(call(&c), GDNCP_OK);
    c.has_initial_state[1] = 1;
    slots[1] = -1;
    assert_int_equal(call(&c), GDNCP_OK);
    slots[0] = -1;
    assert_int_equal(call(&c), GDNCP_OK);
    test_arena_free(&c.arena);
}

#endif

static void other_arguments_are_checked(void **state)
{
    update_case_t c;

    (void)state;
    start_error_case(&c);
    const gdncp_conv1d_update_t good = c.update;

    c.update.cu_seqlens = NULL;
    check_names(&c, "cu_seqlens");
    c.update.cu_seqlens = (const int64_t[]){0, 6, 5};
    check_names(&c, "cu_seqlens");
    c.update = good;
    c.update.num_sequences = -1;
    check_names(&c, "num_sequences");
    c.update = good;
    c.update.activation = (gdncp_activation_t)2;
    check_names(&c, "activation");
    c.update = good;
    assert_argument_error(gdncp_conv1d_update(NULL, &c.y, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "update");
    assert_argument_error(gdncp_conv1d_update(&c.update, NULL, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "y");
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(the_list_of_slots_is_checked),
        cmocka_unit_test(slots_have_rows_enough),
#ifdef GDNCP_TEST_ON_DEVICE
        cmocka_unit_test(numbers_out_of_range_are_pads),
#else
        cmocka_unit_test(numbers_in_lists_are_checked),
#endif
        cmocka_unit_test(other_arguments_are_checked),
    };

    return cmocka_run_group_tests_name("conv1d_update_arguments", tests, NULL, NULL);
}
