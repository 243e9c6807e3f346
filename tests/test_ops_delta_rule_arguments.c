/* Arguments of the gated delta rule: each wrong one is named before anything is written. */
#include "test_ops_delta_rule_check.h"

#include <math.h>

#include "op_case.h"
#include "test_block.h"

#define NUM_SEQUENCES 2

typedef struct call_context {
    rule_case_t rule_case;
    rule_result_t result;
    float *transition;
    gdncp_delta_rule_t rule;
    gdncp_tensor_t o;
    gdncp_tensor_t final_state;
    gdncp_tensor_t grad_o;
    gdncp_tensor_t grad_final_state;
    gdncp_delta_rule_grads_t grads;
    gdncp_tensor_t transition_out;
    const int64_t *sequences;
    int64_t num_selected;
} call_context_t;

static call_context_t start_call(void)
{
    static const rule_dims_t dims = {2, 4, 8, 4};
    static const int64_t lengths[NUM_SEQUENCES] = {2, 4};
    static const int64_t square[] = {NUM_SEQUENCES, 4, 8, 8};
    test_random_t random = test_random_start("arguments", 41);
    call_context_t c = {.rule_case = rule_case_make(&dims, lengths, NUM_SEQUENCES),
                        .transition = test_block_alloc(NUM_SEQUENCES * 4 * 8 * 8 * sizeof(float)),
                        .num_selected = NUM_SEQUENCES};

    rule_case_fill(&c.rule_case, &random, -0.1);
    c.result = rule_result_make(&c.rule_case);
    const rule_call_t call = rule_call_over(&c.rule_case, &c.result);

    c.rule = call.rule;
    c.o = call.o;
    c.final_state = call.final_state;
    c.grad_o = call.grad_o;
    c.grad_final_state = call.grad_final_state;
    c.grads = call.grads;
    c.transition_out = gdncp_tensor_contiguous(c.transition, GDNCP_F32, 4, square);
    return c;
}

static void end_call(call_context_t *c)
{
    rule_result_free(&c->result);
    rule_case_free(&c->rule_case);
    test_block_free(c->transition);
}

static gdncp_status_t forward(void *context)
{
    call_context_t *const c = context;

    return gdncp_delta_rule_forward(&c->rule, &c->o, &c->final_state, NULL);
}

static gdncp_status_t backward(void *context)
{
    call_context_t *const c = context;

    return gdncp_delta_rule_backward(&c->rule, &c->grad_o, &c->grad_final_state, &c->grads, NULL);
}

static gdncp_status_t summary(void *context)
{
    call_context_t *const c = context;

    return gdncp_delta_rule_summary(&c->rule, c->sequences, NULL, c->num_selected,
                                    &c->transition_out, &c->final_state, NULL);
}

static gdncp_status_t grad_summary(void *context)
{
    call_context_t *const c = context;

    return gdncp_delta_rule_grad_summary(&c->rule, c->sequences, NULL, c->num_selected, &c->grad_o,
                                         &c->grad_final_state, &c->final_state, NULL);
}

typedef gdncp_status_t (*call_t)(void *context);

static const struct {
    call_t call;
    bool reads_q;
} calls[] = {{forward, true}, {backward, true}, {summary, false}, {grad_summary, true}};

#define NUM_CALLS (sizeof calls / sizeof calls[0])

static void tensors_of_the_rule(void **state)
{
    call_context_t c = start_call();
    const test_argument_t q = {.name = "q", .tensor = &c.rule.q};
    const test_argument_t k = {.name = "k", .tensor = &c.rule.k, .defines_shape = true};
    const test_argument_t v = {.name = "v", .tensor = &c.rule.v, .defines_shape = true};
    const test_argument_t g = {.name = "g", .tensor = &c.rule.g, .contiguous = true};
    const test_argument_t beta = {.name = "beta", .tensor = &c.rule.beta, .contiguous = true};

    (void)state;
    for (size_t i = 0; i < NUM_CALLS; i++) {
        test_argument_errors(&k, calls[i].call, &c);
        test_argument_errors(&v, calls[i].call, &c);
        test_argument_errors(&g, calls[i].call, &c);
        test_argument_errors(&beta, calls[i].call, &c);
        if (calls[i].reads_q) {
            test_argument_errors(&q, calls[i].call, &c);
        }
        c.rule.v.shape[0]--;
        assert_argument_error(calls[i].call(&c), GDNCP_ERR_INVALID_ARGUMENT, "v");
        c.rule.v.shape[0]++;
    }
    end_call(&c);
}

static void states_and_outputs(void **state)
{
    call_context_t c = start_call();
    const struct {
        call_t call;
        test_argument_t argument;
    } all[] = {
        {forward, {"initial_state", &c.rule.initial_state, true, false, true}},
        {backward, {"initial_state", &c.rule.initial_state, true, false, true}},
        {forward, {"o", &c.o, false, false, false}},
        {forward, {"final_state", &c.final_state, true, false, true}},
        {backward, {"grad_o", &c.grad_o, false, false, false}},
        {backward, {"grad_final_state", &c.grad_final_state, true, false, true}},
        {backward, {"grads.q", &c.grads.q, false, false, false}},
        {backward, {"grads.k", &c.grads.k, false, false, false}},
        {backward, {"grads.v", &c.grads.v, false, false, false}},
        {backward, {"grads.g", &c.grads.g, false, false, true}},
        {backward, {"grads.beta", &c.grads.beta, false, false, true}},
        {backward, {"grads.initial_state", &c.grads.initial_state, true, false, true}},
        {summary, {"transition", &c.transition_out, true, false, true}},
        {summary, {"contribution", &c.final_state, false, false, true}},
        {grad_summary, {"grad_o", &c.grad_o, false, false, false}},
        {grad_summary, {"grad_final_state", &c.grad_final_state, true, false, true}},
        {grad_summary, {"grad_initial", &c.final_state, false, false, true}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        test_argument_errors(&all[i].argument, all[i].call, &c);
    }
    end_call(&c);
}

static void sequences_and_numbers(void **state)
{
    static const int64_t starts_late[] = {1, 2, 6};
    static const int64_t decreases[] = {0, 7, 6};
    static const int64_t ends_early[] = {0, 2, 5};
    call_context_t c = start_call();
    const gdncp_delta_rule_t good = c.rule;

    (void)state;
    for (size_t i = 0; i < NUM_CALLS; i++) {
        const call_t call = calls[i].call;

        c.rule.cu_seqlens = NULL;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "cu_seqlens");
        c.rule.cu_seqlens = starts_late;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "cu_seqlens");
        c.rule.cu_seqlens = decreases;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "cu_seqlens");
        c.rule.cu_seqlens = ends_early;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "cu_seqlens");
        c.rule = good;
        c.rule.num_sequences = -1;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "num_sequences");
        c.rule = good;
        c.rule.scale = NAN;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "scale");
        c.rule = good;
        c.rule.group_size = -1;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "group_size");
        c.rule.group_size = 2;
        c.rule.group_phase = 2;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "group_phase");
        c.rule.group_phase = -1;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "group_phase");
        /* Four value heads from phase 1 in groups of two need three key heads. */
        c.rule.group_phase = 1;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "k");
        c.rule = good;
        c.rule.v.shape[1] = 3;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "v");
        c.rule = good;
        c.rule.v.shape[2] = 0;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "v");
        c.rule = good;
        c.rule.k.shape[2] = 0;
        c.rule.q.shape[2] = 0;
        assert_argument_error(call(&c), GDNCP_ERR_INVALID_ARGUMENT, "k");
        c.rule = good;
    }
    end_call(&c);
}

static void selections(void **state)
{
    static const int64_t beyond[] = {0, NUM_SEQUENCES};
    static const int64_t negative[] = {-1, 0};
    static const call_t with_selection[] = {summary, grad_summary};
    call_context_t c = start_call();

    (void)state;
    for (int i = 0; i < 2; i++) {
        c.sequences = beyond;
        assert_argument_error(with_selection[i](&c), GDNCP_ERR_INVALID_ARGUMENT, "sequences");
        c.sequences = negative;
        assert_argument_error(with_selection[i](&c), GDNCP_ERR_INVALID_ARGUMENT, "sequences");
        c.num_selected = -1;
        assert_argument_error(with_selection[i](&c), GDNCP_ERR_INVALID_ARGUMENT, "num_selected");
        c.sequences = NULL;
        c.num_selected = 1;
        assert_argument_error(with_selection[i](&c), GDNCP_ERR_INVALID_ARGUMENT, "num_selected");
        c.num_selected = NUM_SEQUENCES;
    }
    end_call(&c);
}

/* What a forward may leave for a backward. Six tokens leave no state. */
static void saved_states(void **state)
{
    const call_t both[] = {forward, backward};
    const int64_t shape[] = {1, 4, 8, 4};
    call_context_t c = start_call();

    (void)state;
    c.rule.saved_states = gdncp_tensor_contiguous(c.transition, GDNCP_F32, 4, shape);
    for (int i = 0; i < 2; i++) {
        if (test_device() != GDNCP_DEVICE_CPU) {
            assert_argument_error(both[i](&c), GDNCP_ERR_NOT_SUPPORTED, "saved_states");
            continue;
        }
        assert_argument_error(both[i](&c), GDNCP_ERR_INVALID_ARGUMENT, "saved_states");
        c.rule.saved_states.shape[0] = 0;
        c.rule.saved_states.dtype = GDNCP_BF16;
        assert_argument_error(both[i](&c), GDNCP_ERR_INVALID_ARGUMENT, "saved_states");
        c.rule.saved_states.dtype = GDNCP_F32;
        assert_int_equal(both[i](&c), GDNCP_OK);
        c.rule.saved_states.shape[0] = 1;
    }
    end_call(&c);
}

static void layouts_of_states(void **state)
{
    call_context_t c = start_call();

    (void)state;
    for (size_t i = 0; i < NUM_CALLS; i++) {
        c.rule.state_layout = (gdncp_state_layout_t)2;
        assert_argument_error(calls[i].call(&c), GDNCP_ERR_INVALID_ARGUMENT, "state_layout");
        c.rule.state_layout = GDNCP_STATE_DV_DK;
        if (calls[i].call == summary || calls[i].call == grad_summary) {
            assert_argument_error(calls[i].call(&c), GDNCP_ERR_NOT_SUPPORTED, "state_layout");
        } else {
            /* States of the other layout's shape. */
            assert_argument_error(calls[i].call(&c), GDNCP_ERR_INVALID_ARGUMENT, "initial_state");
        }
    }
    end_call(&c);
}

static void null_arguments(void **state)
{
    call_context_t c = start_call();

    (void)state;
    assert_argument_error(gdncp_delta_rule_forward(NULL, &c.o, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "rule");
    assert_argument_error(gdncp_delta_rule_forward(&c.rule, NULL, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "o");
    assert_argument_error(gdncp_delta_rule_backward(NULL, &c.grad_o, NULL, &c.grads, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "rule");
    assert_argument_error(gdncp_delta_rule_backward(&c.rule, &c.grad_o, NULL, NULL, NULL),
                          GDNCP_ERR_INVALID_ARGUMENT, "grads");
    assert_argument_error(
        gdncp_delta_rule_summary(NULL, NULL, NULL, 2, &c.transition_out, &c.final_state, NULL),
        GDNCP_ERR_INVALID_ARGUMENT, "rule");
    assert_argument_error(
        gdncp_delta_rule_grad_summary(NULL, NULL, NULL, 2, &c.grad_o, NULL, &c.final_state, NULL),
        GDNCP_ERR_INVALID_ARGUMENT, "rule");
    end_call(&c);
}

/* Without a transition, the summary starts from the initial state and so checks it. */
static void summary_without_a_transition(void **state)
{
    call_context_t c = start_call();
    const test_argument_t initial_state = {.name = "initial_state",
                                           .tensor = &c.rule.initial_state,
                                           .optional = true,
                                           .contiguous = true};

    (void)state;
    c.transition_out.data = NULL;
    test_argument_errors(&initial_state, summary, &c);
    end_call(&c);
}

/* The last tensor to be checked is wrong: none of the others was written. */
static void nothing_is_written_on_an_error(void **state)
{
    call_context_t c = start_call();
    rule_output_t outputs[RULE_NUM_OUTPUTS];

    (void)state;
    c.final_state.shape[3]++;
    assert_int_equal(forward(&c), GDNCP_ERR_INVALID_ARGUMENT);
    c.grads.initial_state.shape[3]++;
    assert_int_equal(backward(&c), GDNCP_ERR_INVALID_ARGUMENT);
    rule_result_outputs(&c.rule_case, &c.result, outputs);
    for (int i = 0; i < RULE_NUM_OUTPUTS; i++) {
        for (int64_t j = 0; j < outputs[i].count; j++) {
            assert_true(isnan(outputs[i].values[j]));
        }
    }
    end_call(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_of_the_rule),
        cmocka_unit_test(states_and_outputs),
        cmocka_unit_test(sequences_and_numbers),
        cmocka_unit_test(selections),
        cmocka_unit_test(saved_states),
        cmocka_unit_test(layouts_of_states),
        cmocka_unit_test(null_arguments),
        cmocka_unit_test(summary_without_a_transition),
        cmocka_unit_test(nothing_is_written_on_an_error),
    };

    return cmocka_run_group_tests_name("delta_rule_arguments", tests, NULL, NULL);
}
