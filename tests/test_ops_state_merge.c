/* Walks along chains of segments: S <- M S + U, and backward S <- M' S + U. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/ops.h"
#include "op_case.h"
#include "threads.h"
#include "tolerances.h"

enum { NUM_CHAINS = 4, NUM_ROWS = 11, NUM_TRANSITIONS = 7, UNUSED_ROW = 5 };

typedef struct merge_case {
    test_arena_t arena;
    gdncp_state_chain_t chains[NUM_CHAINS];
    gdncp_state_chains_t merge;
    gdncp_tensor_t states;
    const double *m;  /* [NUM_TRANSITIONS, dk, dk] */
    const double *u;  /* [NUM_ROWS, dk, dv] */
    const double *in; /* [dk, dv] */
} merge_case_t;

/* Two chains that continue, two that start; one of either has one step. Backward they go over the
 * same rows from the other end. Transition 3 is nobody's. */
static void list_chains(merge_case_t *c, bool backward)
{
    static const gdncp_state_chain_t forward[NUM_CHAINS] = {
        {.first = 0, .count = 1}, {.first = 1, .count = 4}, {6, 4, 2, 1}, {8, 6, 1, 1}};
    static const gdncp_state_chain_t from_the_end[NUM_CHAINS] = {
        {.first = 0, .count = 1}, {4, 2, 4, 0}, {7, 5, 2, 1}, {8, 6, 1, 1}};

    for (int i = 0; i < NUM_CHAINS; i++) {
        c->chains[i] = backward ? from_the_end[i] : forward[i];
    }
    c->merge.backward = backward;
}

/* The size of M keeps the states of a chain from growing. */
static void start_case(merge_case_t *c, test_random_t *random, int64_t dk, int64_t dv)
{
    const int64_t transitions[] = {NUM_TRANSITIONS, dk, dk};
    const int64_t states[] = {NUM_ROWS, dk, dv};
    gdncp_state_chains_t *const merge = &c->merge;

    *c = (merge_case_t){.merge = {.chains = c->chains, .num_chains = NUM_CHAINS}};
    list_chains(c, false);
    merge->transition = test_tensor(&c->arena, GDNCP_F32, 3, transitions, 0);
    merge->contribution = test_tensor(&c->arena, GDNCP_F32, 3, states, 0);
    merge->in = test_tensor(&c->arena, GDNCP_F32, 2, states + 1, 0);
    c->states = test_tensor(&c->arena, GDNCP_F32, 3, states, 0);
    c->m = test_tensor_fill(&c->arena, random, 1.0 / sqrt((double)dk), 0.0, &merge->transition);
    c->u = test_tensor_fill(&c->arena, random, 1.0, 0.0, &merge->contribution);
    c->in = test_tensor_fill(&c->arena, random, 1.0, 0.0, &merge->in);
}

static gdncp_status_t run(void *context)
{
    merge_case_t *const c = context;

    return gdncp_state_merge(&c->merge, &c->states, NULL);
}

/* out = u + M in, or M' in; in == NULL: u. */
static void take_step(const merge_case_t *c, const double *m, const double *u, const double *in,
                      double *out)
{
    const int64_t dk = c->states.shape[1];
    const int64_t dv = c->states.shape[2];

    for (int64_t i = 0; i < dk; i++) {
        for (int64_t j = 0; j < dv; j++) {
            out[i * dv + j] = u[i * dv + j];
            for (int64_t l = 0; in != NULL && l < dk; l++) {
                out[i * dv + j] += m[c->merge.backward ? l * dk + i : i * dk + l] * in[l * dv + j];
            }
        }
    }
}

/* [NUM_ROWS, dk, dv]; NaN in rows that no chain has. */
static double *expected_states(merge_case_t *c)
{
    const int64_t dk = c->states.shape[1];
    const int64_t size = dk * c->states.shape[2];
    const int64_t direction = c->merge.backward ? -1 : 1;
    double *const states = test_doubles(&c->arena, NUM_ROWS * size);

    for (int i = 0; i < NUM_CHAINS; i++) {
        const gdncp_state_chain_t *const chain = &c->chains[i];
        const double *in = chain->continues ? c->in : NULL;
        int64_t transition = chain->transition;

        for (int64_t j = 0; j < chain->count; j++) {
            const int64_t row = chain->first + direction * j;

            take_step(c, c->m + transition * dk * dk, c->u + row * size, in, states + row * size);
            transition += in != NULL ? direction : 0;
            in = states + row * size;
        }
    }
    return states;
}

static gdncp_tensor_t row_of(const gdncp_tensor_t *states, int64_t row)
{
    const int64_t *const shape = states->shape + 1;
    float *const data = states->data;

    return gdncp_tensor_contiguous(data + row * shape[0] * shape[1], GDNCP_F32, 2, shape);
}

static void check_merge(merge_case_t *c)
{
    const int64_t size = c->states.shape[1] * c->states.shape[2];
    const double *const expected = expected_states(c);

    assert_int_equal(run(c), GDNCP_OK);
    for (int64_t row = 0; row < NUM_ROWS; row++) {
        const gdncp_tensor_t state = row_of(&c->states, row);

        if (row == UNUSED_ROW || row > 8) {
            assert_tensor_untouched("states", &state);
        } else {
            assert_tensor_close("states", &state, expected + row * size, GDNCP_TOLERANCE_F32);
        }
    }
}

static void results_match_float64(void **state)
{
    static const int64_t dims[][2] = {{1, 1},   {24, 48},  {60, 100}, {96, 192},
                                      {100, 7}, {128, 66}, {256, 40}};
    test_random_t random = test_random_start(__func__, 51);

    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        for (int backward = 0; backward < 2; backward++) {
            merge_case_t c;

            start_case(&c, &random, dims[i][0], dims[i][1]);
            list_chains(&c, backward != 0);
            check_merge(&c);
            test_arena_free(&c.arena);
        }
    }
}

/* However many threads there are for a chain's columns. */
static void threads_do_not_change_bits(void **state)
{
    test_random_t random = test_random_start(__func__, 52);
    merge_case_t c;

    (void)state;
    start_case(&c, &random, 40, 150);
    test_set_num_threads(1);
    assert_int_equal(run(&c), GDNCP_OK);
    const gdncp_tensor_t one = c.states;

    for (int threads = 2; threads <= 9; threads += 7) {
        c.states = test_tensor(&c.arena, GDNCP_F32, 3, one.shape, 0);
        test_set_num_threads(threads);
        assert_int_equal(run(&c), GDNCP_OK);
        for (int64_t row = 0; row < UNUSED_ROW; row++) {
            const gdncp_tensor_t expected = row_of(&one, row);
            const gdncp_tensor_t got = row_of(&c.states, row);

            assert_tensor_bits_equal("states", &got, &expected);
        }
    }
    test_set_num_threads(1);
    test_arena_free(&c.arena);
}

/* <y, M x> = <M' y, x>: the two directions are each other's transpose. */
static void directions_are_transposes(void **state)
{
    const gdncp_state_chain_t one_step = {.count = 1, .continues = 1};
    test_random_t random = test_random_start(__func__, 53);
    merge_case_t c[2];
    double products[2] = {0.0, 0.0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        start_case(&c[i], &random, 32, 24);
        c[i].chains[0] = one_step;
        c[i].merge.num_chains = 1;
        c[i].merge.backward = i == 1;
        for (int64_t j = 0; j < 32 * 24; j++) {
            ((float *)c[i].merge.contribution.data)[j] = 0.0f;
        }
    }
    c[1].merge.transition = c[0].merge.transition;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(&c[i]), GDNCP_OK);
        for (int64_t j = 0; j < 32 * 24; j++) {
            products[i] += (double)((const float *)c[i].states.data)[j] * c[1 - i].in[j];
        }
    }
    assert_true(fabs(products[0] - products[1]) <= GDNCP_TOLERANCE_F32 * fabs(products[0]));
    test_arena_free(&c[0].arena);
    test_arena_free(&c[1].arena);
}

/* Chains that start with one step need neither M nor a state to go on from. */
static void what_no_step_needs_is_optional(void **state)
{
    test_random_t random = test_random_start(__func__, 54);
    merge_case_t c;

    (void)state;
    start_case(&c, &random, 8, 4);
    c.merge.transition = (gdncp_tensor_t){.data = NULL};
    c.merge.in = (gdncp_tensor_t){.data = NULL};
    c.merge.num_chains = 1;
    assert_int_equal(run(&c), GDNCP_OK);
    const gdncp_tensor_t first = row_of(&c.states, 0);

    assert_tensor_close("states", &first, c.u, 0.0);
    c.merge.chains = NULL;
    c.merge.num_chains = 0;
    assert_int_equal(run(&c), GDNCP_OK);
    test_arena_free(&c.arena);
}

static void tensors_are_checked(void **state)
{
    test_random_t random = test_random_start(__func__, 55);
    merge_case_t c;

    (void)state;
    start_case(&c, &random, 8, 4);
    gdncp_state_chains_t *const merge = &c.merge;
    const gdncp_state_chains_t good = *merge;
    const gdncp_tensor_t states = c.states;
    const test_argument_t arguments[] = {
        {.name = "transition",
         .tensor = &merge->transition,
         .defines_shape = true,
         .contiguous = true},
        {.name = "contribution",
         .tensor = &merge->contribution,
         .defines_shape = true,
         .contiguous = true},
        {.name = "in", .tensor = &merge->in, .contiguous = true},
        {.name = "states", .tensor = &c.states, .contiguous = true},
    };

    test_each_argument(arguments, sizeof arguments / sizeof arguments[0], run, &c);
    for (int i = 1; i < 3; i++) {
        merge->transition.shape[i]--;
        assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "transition");
        *merge = good;
    }
    c.states.data = merge->contribution.data;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "states");
    c.states.data = merge->transition.data;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "states");
    c.states.data = merge->in.data;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "states");
    assert_argument_error(gdncp_state_merge(NULL, &states, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "merge");
    assert_argument_error(gdncp_state_merge(merge, NULL, NULL), GDNCP_ERR_INVALID_ARGUMENT,
                          "states");
    test_arena_free(&c.arena);
}

static void chains_are_checked(void **state)
{
    /* In the place of the third chain, forward and backward. */
    static const gdncp_state_chain_t wrong[][2] = {
        {{6, 4, 0, 1}, {7, 5, -1, 1}},        /* no steps */
        {{6, 4, 2, 2}, {7, 5, 2, -1}},        /* continues or not */
        {{-1, 4, 2, 1}, {NUM_ROWS, 5, 2, 1}}, /* rows of contributions: where they begin, end */
        {{10, 4, 2, 1}, {0, 5, 2, 1}},
        {{6, -1, 2, 1}, {7, NUM_TRANSITIONS, 2, 1}}, /* of transitions */
        {{6, 6, 2, 1}, {7, 0, 2, 1}},
        {{6, 5, 4, 0}, {7, 1, 4, 0}}, /* of a chain that starts */
    };
    test_random_t random = test_random_start(__func__, 56);
    merge_case_t c;

    (void)state;
    start_case(&c, &random, 8, 4);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (int backward = 0; backward < 2; backward++) {
            list_chains(&c, backward != 0);
            c.chains[2] = wrong[i][backward];
            assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "chains");
        }
    }
    list_chains(&c, false);
    c.merge.num_chains = -1;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "num_chains");
    c.merge.num_chains = NUM_CHAINS;
    c.merge.chains = NULL;
    assert_argument_error(run(&c), GDNCP_ERR_INVALID_ARGUMENT, "chains");
    test_arena_free(&c.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_match_float64),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(directions_are_transposes),
        cmocka_unit_test(what_no_step_needs_is_optional),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(chains_are_checked),
    };

    return cmocka_run_group_tests_name("state_merge", tests, NULL, NULL);
}
