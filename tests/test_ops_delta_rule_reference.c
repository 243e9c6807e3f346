/* The float64 reference of the gated delta rule: finite differences, golden numbers, grouping. */
#include "test_ops_delta_rule_check.h"

#include <math.h>

#include "op_case.h"

typedef struct loss_context {
    gdncp_delta_rule_reference_t rule;
    const double *grad_o;
    const double *grad_final_state;
    int64_t num_v;
    int64_t num_states;
    double *o;
    double *final_state;
} loss_context_t;

/* <grad_o, o> + <grad_final_state, final state>: its gradients are what the backward gives. */
static double loss(void *context)
{
    loss_context_t *const c = context;
    double sum = 0.0;

    assert_int_equal(gdncp_delta_rule_reference_forward(&c->rule, c->o, c->final_state), GDNCP_OK);
    for (int64_t i = 0; i < c->num_v; i++) {
        sum += c->grad_o[i] * c->o[i];
    }
    for (int64_t i = 0; i < c->num_states; i++) {
        sum += c->grad_final_state[i] * c->final_state[i];
    }
    return sum;
}

static void check_finite_differences(rule_case_t *rule_case)
{
    rule_reference_t reference = run_reference(rule_case);
    loss_context_t c = {.rule = reference_rule(rule_case),
                        .grad_o = doubles_of(rule_case->grad_o, rule_case_num_v(rule_case)),
                        .grad_final_state = doubles_of(rule_case->grad_final_state,
                                                       rule_case_num_states(rule_case)),
                        .num_v = rule_case_num_v(rule_case),
                        .num_states = rule_case_num_states(rule_case),
                        .o = doubles_of(NULL, rule_case_num_v(rule_case)),
                        .final_state = doubles_of(NULL, rule_case_num_states(rule_case))};
    const struct {
        const char *name;
        const double *input;
        int64_t count;
    } inputs[] = {{"q", c.rule.q, rule_case_num_q(rule_case)},
                  {"k", c.rule.k, rule_case_num_q(rule_case)},
                  {"v", c.rule.v, rule_case_num_v(rule_case)},
                  {"g", c.rule.g, rule_case_num_gates(rule_case)},
                  {"beta", c.rule.beta, rule_case_num_gates(rule_case)},
                  {"initial_state", c.rule.initial_state, rule_case_num_states(rule_case)}};

    for (int i = 0; i < 6; i++) {
        assert_gradient(inputs[i].name, loss, &c, (double *)(uintptr_t)inputs[i].input,
                        reference.outputs[2 + i], inputs[i].count);
    }
    free((void *)(uintptr_t)c.grad_o);
    free((void *)(uintptr_t)c.grad_final_state);
    free(c.o);
    free(c.final_state);
    free_reference_rule(&c.rule);
    free_reference(&reference);
}

static void gradients_are_finite_differences(void **state)
{
    static const rule_dims_t dims = {2, 4, 3, 2};
    static const int64_t lengths[] = {3, 0, 5};
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int l2norm = 0; l2norm < 2; l2norm++) {
        rule_case_t rule_case = rule_case_make(&dims, lengths, 3);

        rule_case_fill(&rule_case, &random, -0.3);
        rule_case.qk_l2norm = l2norm != 0;
        rule_case.scale = l2norm != 0 ? 0.0f : 0.7f;
        check_finite_differences(&rule_case);
        rule_case_free(&rule_case);
    }
}

static void checkpoints_do_not_show(void **state)
{
    static const rule_dims_t dims = {1, 1, 2, 2};
    static const int64_t lengths[] = {131}; /* more than two blocks of checkpoints */
    test_random_t random = test_random_start(__func__, 2);
    rule_case_t rule_case = rule_case_make(&dims, lengths, 1);

    (void)state;
    rule_case_fill(&rule_case, &random, -0.02);
    check_finite_differences(&rule_case);
    rule_case_free(&rule_case);
}

static void golden_files(void **state)
{
    static const char *const names[] = {"rule_basic", "rule_packed", "rule_gva_odd_length",
                                        "rule_correlated_keys", "rule_strong_decay"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        rule_case_t rule_case;
        rule_result_t expected;
        rule_output_t outputs[RULE_NUM_OUTPUTS];

        rule_case_load(names[i], &rule_case, &expected);
        rule_reference_t reference = run_reference(&rule_case);

        rule_result_outputs(&rule_case, &expected, outputs);
        for (int j = 0; j < RULE_NUM_OUTPUTS; j++) {
            assert_rms_ratio(outputs[j].name, outputs[j].values, reference.outputs[j],
                             outputs[j].count, GDNCP_TOLERANCE_F32);
        }
        free_reference(&reference);
        rule_result_free(&expected);
        rule_case_free(&rule_case);
    }
}

/* Heads 1..4 of 6 over key heads of three value heads each: what a rank that holds a part of the
 * heads asks for. Compared with all 6 heads. */
static void a_group_phase_takes_part_of_the_heads(void **state)
{
    static const rule_dims_t all_dims = {2, 6, 4, 4};
    static const rule_dims_t part_dims = {2, 4, 4, 4};
    static const int64_t lengths[] = {7};
    test_random_t random = test_random_start(__func__, 3);
    rule_case_t all = rule_case_make(&all_dims, lengths, 1);
    rule_case_t part = rule_case_make(&part_dims, lengths, 1);

    (void)state;
    rule_case_fill(&all, &random, -0.1);
    for (int64_t i = 0; i < rule_case_num_q(&all); i++) {
        part.q[i] = all.q[i];
        part.k[i] = all.k[i];
    }
    for (int64_t t = 0; t < 7; t++) {
        for (int64_t h = 0; h < 4; h++) {
            part.g[t * 4 + h] = all.g[t * 6 + h + 1];
            part.beta[t * 4 + h] = all.beta[t * 6 + h + 1];
            for (int64_t i = 0; i < 4; i++) {
                part.v[(t * 4 + h) * 4 + i] = all.v[(t * 6 + h + 1) * 4 + i];
            }
        }
    }
    for (int64_t i = 0; i < 4 * 16; i++) {
        part.initial_state[i] = all.initial_state[16 + i];
    }
    part.group_size = 3;
    part.group_phase = 1;
    rule_reference_t whole = run_reference(&all);
    rule_reference_t some = run_reference(&part);

    for (int64_t t = 0; t < 7; t++) {
        for (int64_t i = 0; i < 4 * 4; i++) {
            assert_true(some.outputs[0][t * 16 + i] == whole.outputs[0][t * 24 + 4 + i]);
        }
    }
    free_reference(&whole);
    free_reference(&some);
    rule_case_free(&all);
    rule_case_free(&part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(checkpoints_do_not_show),
        cmocka_unit_test(golden_files),
        cmocka_unit_test(a_group_phase_takes_part_of_the_heads),
    };

    return cmocka_run_group_tests_name("delta_rule_reference", tests, NULL, NULL);
}
