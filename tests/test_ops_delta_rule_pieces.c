/* Long sequences that threads share in pieces: where they are cut, and that nothing shows it but
 * the last bits. */
#include "test_ops_delta_rule_check.h"

#include <math.h>
#include <string.h>

#include "delta_rule_pieces.h"
#include "op_case.h"
#include "op_parallel.h"
#include "threads.h"
#include "workspace.h"

/* A case in which some sequences are cut, and where. */
typedef struct pieces_case {
    const char *what;
    rule_dims_t dims;
    int64_t lengths[6];
    int64_t num_sequences;
    int64_t group_size;
    int64_t group_phase;
    int num_threads;
    int64_t forward_tokens;
    int64_t backward_tokens;
} pieces_case_t;

static const pieces_case_t cases[] = {
    {"one", {1, 1, 24, 128}, {6500}, 1, 0, 0, 16, 512, 512},
    {"among others", {1, 2, 16, 72}, {0, 70, 5000, 1, 1100, 0}, 6, 0, 0, 16, 1024, 512},
    {"two", {2, 2, 20, 12}, {3072, 3073}, 2, 0, 0, 24, 1024, 1024},
    {"a part of the heads", {4, 5, 20, 16}, {3000, 130}, 2, 3, 2, 48, 512, 512},
};

#define NUM_CASES (sizeof cases / sizeof cases[0])

/* Tokens change states so little that those at the start of a piece matter at its end. */
static rule_case_t make_case(const pieces_case_t *c, test_random_t *random)
{
    rule_case_t rule_case = rule_case_make(&c->dims, c->lengths, c->num_sequences);

    rule_case_fill(&rule_case, random, -0.001);
    for (int64_t i = 0; i < rule_case_num_gates(&rule_case); i++) {
        rule_case.beta[i] *= 0.03f;
    }
    rule_case.group_size = c->group_size;
    rule_case.group_phase = c->group_phase;
    return rule_case;
}

static gdncp_rule_problem_t problem_of(const gdncp_delta_rule_t *rule)
{
    gdncp_rule_problem_t problem;

    assert_int_equal(
        gdncp_rule_problem_make(rule, GDNCP_RULE_Q | GDNCP_RULE_ANY_LAYOUT, NULL, &problem),
        GDNCP_OK);
    return problem;
}

/* Set the threads of a case, and fail unless that cuts it as it says. */
static void cut(const pieces_case_t *c, const rule_case_t *rule_case)
{
    test_set_num_threads(c->num_threads);
    if (gdncp_parallel_num_threads(INT64_MAX) < c->num_threads) {
        skip(); /* no OpenMP */
    }
    const gdncp_delta_rule_t rule = rule_case_f32(rule_case);
    const gdncp_rule_problem_t problem = problem_of(&rule);

    assert_int_equal(gdncp_rule_forward_piece_tokens(&problem), c->forward_tokens);
    assert_int_equal(gdncp_rule_backward_piece_tokens(&problem), c->backward_tokens);
}

static void in_each_dtype(void **state)
{
    test_random_t random = test_random_start(__func__, 121);

    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        rule_case_t rule_case = make_case(&cases[i], &random);

        cut(&cases[i], &rule_case);
        check_against_reference(cases[i].what, &rule_case, GDNCP_F32, (int64_t)i, &tolerances_f32);
        if (i < 2) {
            check_against_reference(cases[i].what, &rule_case, GDNCP_BF16, (int64_t)i,
                                    &tolerances_bf16);
        }
        rule_case_free(&rule_case);
    }
}

/* Places that no sequence has stay NaN. */
static void check_saved_states(const gdncp_tensor_t *got, const gdncp_tensor_t *expected)
{
    const int64_t size = got->shape[1] * got->shape[2] * got->shape[3];

    for (int64_t place = 0; place < got->shape[0]; place++) {
        const float *const values = (const float *)got->data + place * size;
        double *const reference = doubles_of((const float *)expected->data + place * size, size);

        if (isnan(reference[0])) {
            assert_true(isnan(values[0]));
        } else {
            assert_rms_ratio("saved state", values, reference, size, GDNCP_TOLERANCE_F32);
        }
        free(reference);
    }
}

/* Saved states are those of a forward without cuts, each in the same place, and a backward may
 * start from them. */
static void saved_states(void **state)
{
    test_random_t random = test_random_start(__func__, 122);

    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        rule_case_t rule_case = make_case(&cases[i], &random);
        rule_result_t whole_result = rule_result_make(&rule_case);
        rule_result_t result = rule_result_make(&rule_case);
        test_arena_t arena = {0};
        rule_call_t whole = rule_call_over(&rule_case, &whole_result);
        rule_call_t pieces = rule_call_over(&rule_case, &result);

        whole.rule.saved_states = rule_saved_states(&arena, &rule_case);
        pieces.rule.saved_states = rule_saved_states(&arena, &rule_case);
        test_set_num_threads(1);
        rule_call_run(&whole);
        cut(&cases[i], &rule_case);
        rule_call_run(&pieces);
        rule_reference_t reference = reference_from(&rule_case, &whole_result);

        check_result(cases[i].what, &rule_case, &result, &reference, &tolerances_f32);
        check_saved_states(&pieces.rule.saved_states, &whole.rule.saved_states);
        test_arena_free(&arena);
        free_reference(&reference);
        rule_result_free(&whole_result);
        rule_result_free(&result);
        rule_case_free(&rule_case);
    }
}

/* A backward in pieces starts from saved states at their borders. */
static void saved_states_at_borders_are_read(void **state)
{
    test_random_t random = test_random_start(__func__, 123);
    rule_case_t rule_case = make_case(&cases[0], &random);

    (void)state;
    cut(&cases[0], &rule_case);
    check_saved_states_are_read(&rule_case);
    rule_case_free(&rule_case);
}

/* Absent states are zeros, and those that nobody wants are not written. */
static void states_are_optional(void **state)
{
    test_random_t random = test_random_start(__func__, 124);

    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        rule_case_t rule_case = make_case(&cases[i], &random);
        rule_result_t zeros = rule_result_make(&rule_case);
        rule_result_t absent = rule_result_make(&rule_case);
        const size_t bytes = (size_t)rule_case_num_states(&rule_case) * sizeof(float);
        const rule_call_t with = rule_call_over(&rule_case, &zeros);
        rule_call_t without = rule_call_over(&rule_case, &absent);

        memset(rule_case.initial_state, 0, bytes);
        memset(rule_case.grad_final_state, 0, bytes);
        without.rule.initial_state.data = NULL;
        without.final_state.data = NULL;
        without.grad_final_state.data = NULL;
        without.grads.initial_state.data = NULL;
        cut(&cases[i], &rule_case);
        rule_call_run(&with);
        rule_call_run(&without);
        memcpy(absent.final_state, zeros.final_state, bytes);
        memcpy(absent.grad_initial_state, zeros.grad_initial_state, bytes);
        rule_result_check_equal(&rule_case, &zeros, &absent);
        rule_result_free(&zeros);
        rule_result_free(&absent);
        rule_case_free(&rule_case);
    }
}

/* The gradient of the initial states may take the place of that of the final ones, and a second
 * call on a workspace allocates nothing and finds no trace of what its memory held. */
static void in_place_and_on_a_workspace(void **state)
{
    test_random_t random = test_random_start(__func__, 125);
    rule_case_t rule_case = make_case(&cases[1], &random);
    rule_result_t apart = rule_result_make(&rule_case);
    rule_result_t in_place = rule_result_make(&rule_case);
    float *const poisoned = in_place.grad_initial_state;
    gdncp_workspace_t *workspace = NULL;
    gdncp_workspace_t *inner = NULL;
    gdncp_memory_usage_t usage = {0};
    void *memory = NULL;

    (void)state;
    cut(&cases[1], &rule_case);
    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_workspace_create(&workspace), GDNCP_OK);
    rule_case_run(&rule_case, GDNCP_F32, 0, workspace, &apart);
    const int64_t allocations = usage.num_allocations;

    assert_int_equal(gdncp_workspace_reserve(workspace, 1, &memory), GDNCP_OK);
    memset(memory, 0xff, 100000);
    assert_int_equal(gdncp_workspace_inner(workspace, &inner), GDNCP_OK);
    assert_int_equal(gdncp_workspace_reserve(inner, 1, &memory), GDNCP_OK);
    memset(memory, 0xff, 100000);
    in_place.grad_initial_state = rule_case.grad_final_state;
    rule_case_run(&rule_case, GDNCP_F32, 0, workspace, &in_place);
    assert_int_equal(usage.num_allocations, allocations);
    rule_result_check_equal(&rule_case, &apart, &in_place);
    gdncp_workspace_destroy(workspace);
    gdncp_memory_track(NULL);
    assert_int_equal(usage.current_bytes, 0);
    in_place.grad_initial_state = poisoned;
    rule_result_free(&apart);
    rule_result_free(&in_place);
    rule_case_free(&rule_case);
}

/* The gate is made once, for the pack, and its gradient comes last. */
static void a_gate_inside(void **state)
{
    test_random_t random = test_random_start(__func__, 126);
    rule_case_t rule_case = make_case(&cases[0], &random);
    rule_result_t apart_result = rule_result_make(&rule_case);
    rule_result_t inside_result = rule_result_make(&rule_case);
    test_arena_t arena = {0};
    const rule_call_t apart = rule_call_over(&rule_case, &apart_result);
    rule_call_t inside = rule_call_over(&rule_case, &inside_result);
    const gdncp_gate_t gate = {.a = apart.rule.g,
                               .b = test_tensor(&arena, GDNCP_F32, 2, apart.rule.g.shape, 0)};
    gdncp_gate_grads_t grads[2];

    (void)state;
    test_tensor_fill(&arena, &random, 1.0, -4.0, &gate.b);
    for (int i = 0; i < 2; i++) {
        grads[i] = (gdncp_gate_grads_t){.a = test_tensor(&arena, GDNCP_F32, 2, gate.a.shape, 0),
                                        .b = test_tensor(&arena, GDNCP_F32, 2, gate.b.shape, 0)};
    }
    cut(&cases[0], &rule_case);
    inside.rule.gate = &gate;
    inside.rule.g = test_tensor(&arena, GDNCP_F32, 2, gate.a.shape, 0);
    inside.rule.beta = test_tensor(&arena, GDNCP_F32, 2, gate.b.shape, 0);
    inside.grads.gate = &grads[0];
    rule_call_run(&inside);
    assert_int_equal(gdncp_gate_forward(&gate, &apart.rule.g, &apart.rule.beta, NULL), GDNCP_OK);
    rule_call_run(&apart);
    assert_int_equal(gdncp_gate_backward(&gate, &apart.grads.g, &apart.grads.beta, &grads[1], NULL),
                     GDNCP_OK);
    assert_tensor_bits_equal("o", &apart.o, &inside.o);
    assert_tensor_bits_equal("grads.q", &apart.grads.q, &inside.grads.q);
    assert_tensor_bits_equal("grads.a", &grads[1].a, &grads[0].a);
    assert_tensor_bits_equal("grads.b", &grads[1].b, &grads[0].b);
    test_arena_free(&arena);
    rule_result_free(&apart_result);
    rule_result_free(&inside_result);
    rule_case_free(&rule_case);
}

/* The same number of threads gives the same bits again. One thread cuts nothing, and its bits are
 * those of two or three, which have no reason to cut either; cuts give others. */
static void bits_depend_on_cuts_alone(void **state)
{
    test_random_t random = test_random_start(__func__, 127);

    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        rule_case_t rule_case = make_case(&cases[i], &random);
        const gdncp_delta_rule_t rule = rule_case_f32(&rule_case);
        const gdncp_rule_problem_t problem = problem_of(&rule);
        rule_result_t results[5];

        for (int j = 0; j < 5; j++) {
            results[j] = rule_result_make(&rule_case);
            test_set_num_threads(j + 1);
            if (j < 3) {
                assert_int_equal(gdncp_rule_forward_piece_tokens(&problem), 0);
                assert_int_equal(gdncp_rule_backward_piece_tokens(&problem), 0);
            } else {
                cut(&cases[i], &rule_case);
            }
            rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &results[j]);
        }
        rule_result_check_equal(&rule_case, &results[0], &results[1]);
        rule_result_check_equal(&rule_case, &results[0], &results[2]);
        rule_result_check_equal(&rule_case, &results[3], &results[4]);
        assert_memory_not_equal(results[0].o, results[3].o,
                                (size_t)rule_case_num_v(&rule_case) * sizeof(float));
        assert_memory_not_equal(results[0].grad_k, results[3].grad_k,
                                (size_t)rule_case_num_q(&rule_case) * sizeof(float));
        for (int j = 0; j < 5; j++) {
            rule_result_free(&results[j]);
        }
        rule_case_free(&rule_case);
    }
}

/* Tokens of a piece at 128 x 128, by README.md's counts. */
static void where_sequences_are_cut(void **state)
{
    static const struct {
        int num_threads;
        int64_t key_heads;
        int64_t value_heads;
        int64_t lengths[3];
        int64_t forward_tokens;
        int64_t backward_tokens;
    } rows[] = {
        {64, 1, 2, {65536}, 2048, 1024},
        {64, 2, 2, {65536}, 2048, 2048},
        {64, 1, 1, {8192}, 512, 512},
        {64, 1, 1, {4096}, 512, 0},
        {64, 1, 1, {2500}, 0, 0},
        {64, 8, 8, {65536}, 8192, 8192},
        {64, 16, 16, {65536}, 0, 16384},
        {64, 32, 32, {65536}, 0, 0},
        {16, 2, 2, {65536}, 8192, 8192},
        {16, 4, 4, {65536}, 0, 16384},
        {8, 1, 1, {65536}, 8192, 0},
        {8, 2, 2, {65536}, 0, 0},
        {2, 1, 1, {65536}, 0, 0},
        {1, 1, 1, {65536}, 0, 0},
        {64, 1, 1, {65536, 65536, 65536}, 3072, 3072},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t cu_seqlens[4] = {0};
        gdncp_delta_rule_t rule = {.cu_seqlens = cu_seqlens};
        gdncp_rule_problem_t problem = {.rule = &rule,
                                        .num_key_heads = rows[i].key_heads,
                                        .num_value_heads = rows[i].value_heads,
                                        .dk = 128,
                                        .dv = 128,
                                        .group_size = rows[i].value_heads / rows[i].key_heads,
                                        .longest = rows[i].lengths[0]};

        for (int j = 0; j < 3 && rows[i].lengths[j] > 0; j++) {
            problem.num_tokens += rows[i].lengths[j];
            cu_seqlens[++rule.num_sequences] = problem.num_tokens;
        }
        test_set_num_threads(rows[i].num_threads);
        if (gdncp_parallel_num_threads(INT64_MAX) < rows[i].num_threads) {
            skip(); /* no OpenMP */
        }
        print_message("%d threads, %d heads, %d tokens\n", rows[i].num_threads,
                      (int)rows[i].value_heads, (int)problem.num_tokens);
        assert_int_equal(gdncp_rule_forward_piece_tokens(&problem), rows[i].forward_tokens);
        assert_int_equal(gdncp_rule_backward_piece_tokens(&problem), rows[i].backward_tokens);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_sequences_are_cut),
        cmocka_unit_test(in_each_dtype),
        cmocka_unit_test(saved_states),
        cmocka_unit_test(saved_states_at_borders_are_read),
        cmocka_unit_test(states_are_optional),
        cmocka_unit_test(in_place_and_on_a_workspace),
        cmocka_unit_test(a_gate_inside),
        cmocka_unit_test(bits_depend_on_cuts_alone),
    };

    return cmocka_run_group_tests_name("delta_rule_pieces", tests, NULL, NULL);
}
