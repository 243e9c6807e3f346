/* Many calls of the recurrent step, one after the other, are the gated delta rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "gdncp/ops_decode.h"
#include "op_case.h"
#include "rule_case.h"
#include "tolerances.h"

/* A pool with `columns` slots for each sequence of a rule; the first ones hold initial states. */
typedef struct pool {
    const rule_case_t *rule_case;
    test_arena_t arena;
    int64_t columns;
    int64_t *slots;      /* [N, columns], of slot n * columns + i */
    int64_t *accepted;   /* [N] */
    int64_t *done;       /* [N], tokens that are certain */
    int64_t *cu_seqlens; /* [N + 1], of a call */
    float *states;
    float *o; /* [T, Hv, dv], in the order of the rule */
} pool_t;

static int64_t state_size(const rule_case_t *rule_case)
{
    return rule_case->num_value_heads * rule_case->key_dim * rule_case->value_dim;
}

static pool_t start_pool(const rule_case_t *rule_case, int64_t columns)
{
    const int64_t num_sequences = rule_case->num_sequences;
    const int64_t size = state_size(rule_case);
    pool_t pool = {.rule_case = rule_case, .columns = columns};

    pool.slots = test_arena_alloc(&pool.arena, num_sequences * columns * 8);
    pool.accepted = test_arena_alloc(&pool.arena, num_sequences * 8);
    pool.done = test_arena_alloc(&pool.arena, num_sequences * 8);
    pool.cu_seqlens = test_arena_alloc(&pool.arena, (num_sequences + 1) * 8);
    pool.states = test_floats(&pool.arena, num_sequences * columns * size);
    pool.o = test_floats(&pool.arena, rule_case_num_v(rule_case));
    for (int64_t n = 0; n < num_sequences; n++) {
        pool.accepted[n] = 1;
        pool.done[n] = 0;
        memcpy(pool.states + n * columns * size, rule_case->initial_state + n * size,
               (size_t)size * sizeof(float));
        for (int64_t i = 0; i < columns; i++) {
            pool.slots[n * columns + i] = n * columns + i;
        }
    }
    return pool;
}

static int64_t tokens_left(const pool_t *pool, int64_t sequence)
{
    const int64_t *const cu_seqlens = pool->rule_case->cu_seqlens;

    return cu_seqlens[sequence + 1] - cu_seqlens[sequence] - pool->done[sequence];
}

/* One tensor of a call: of each sequence the next tokens of `of`, tokens of `width` elements. */
static float *next_tokens(const pool_t *pool, test_arena_t *arena, const float *of, int64_t width)
{
    const rule_case_t *const rule_case = pool->rule_case;
    float *const tokens = test_floats(arena, pool->cu_seqlens[rule_case->num_sequences] * width);

    for (int64_t n = 0; n < rule_case->num_sequences; n++) {
        const int64_t first = rule_case->cu_seqlens[n] + pool->done[n];
        const int64_t length = pool->cu_seqlens[n + 1] - pool->cu_seqlens[n];

        memcpy(tokens + pool->cu_seqlens[n] * width, of + first * width,
               (size_t)(length * width) * sizeof(float));
    }
    return tokens;
}

static gdncp_tensor_t tensor_of(float *values, const gdncp_tensor_t *like, int64_t num_tokens)
{
    gdncp_tensor_t tensor = *like;

    tensor.data = values;
    tensor.shape[0] = num_tokens;
    return tensor;
}

/* The next tokens of each sequence, as many as cu_seqlens says; slots [N, columns] if there is more
 * than one. Tokens from `good[n]` on are wrong ones. */
static void run_call(pool_t *pool, const int64_t *good)
{
    const rule_case_t *const rule_case = pool->rule_case;
    const gdncp_delta_rule_t rule = rule_case_f32(rule_case);
    const int64_t num_sequences = rule_case->num_sequences;
    const int64_t num_tokens = pool->cu_seqlens[num_sequences];
    const int64_t keys = rule_case->num_key_heads * rule_case->key_dim;
    const int64_t heads = rule_case->num_value_heads;
    const int64_t values = heads * rule_case->value_dim;
    const int64_t pool_shape[] = {num_sequences * pool->columns, heads, rule_case->key_dim,
                                  rule_case->value_dim};
    const int64_t rows[] = {num_sequences, pool->columns};
    const bool is_speculative = pool->columns > 1;
    test_arena_t arena = {0};
    float *const k = next_tokens(pool, &arena, rule_case->k, keys);
    float *const v = next_tokens(pool, &arena, rule_case->v, values);
    float *const o = test_floats(&arena, num_tokens * values);

    for (int64_t n = 0; n < num_sequences; n++) {
        for (int64_t t = pool->cu_seqlens[n] + good[n]; t < pool->cu_seqlens[n + 1]; t++) {
            for (int64_t i = 0; i < keys; i++) {
                k[t * keys + i] = (float)(t + i % 3);
            }
            for (int64_t i = 0; i < values; i++) {
                v[t * values + i] = 100.0f;
            }
        }
    }
    const gdncp_recurrent_step_t step = {
        .q = tensor_of(next_tokens(pool, &arena, rule_case->q, keys), &rule.q, num_tokens),
        .k = tensor_of(k, &rule.k, num_tokens),
        .v = tensor_of(v, &rule.v, num_tokens),
        .g = tensor_of(next_tokens(pool, &arena, rule_case->g, heads), &rule.g, num_tokens),
        .beta =
            tensor_of(next_tokens(pool, &arena, rule_case->beta, heads), &rule.beta, num_tokens),
        .states = gdncp_tensor_contiguous(pool->states, GDNCP_F32, 4, pool_shape),
        .slots = gdncp_tensor_contiguous(pool->slots, GDNCP_I64, is_speculative ? 2 : 1, rows),
        .num_accepted =
            gdncp_tensor_contiguous(is_speculative ? pool->accepted : NULL, GDNCP_I64, 1, rows),
        .cu_seqlens = pool->cu_seqlens,
        .num_sequences = num_sequences,
        .qk_l2norm = rule.qk_l2norm};
    const gdncp_tensor_t out = tensor_of(o, &rule.v, num_tokens);

    assert_int_equal(gdncp_recurrent_step(&step, &out, NULL), GDNCP_OK);
    for (int64_t n = 0; n < num_sequences; n++) {
        if (pool->cu_seqlens[n + 1] > pool->cu_seqlens[n]) {
            memcpy(pool->o + (rule_case->cu_seqlens[n] + pool->done[n]) * values,
                   o + pool->cu_seqlens[n] * values, (size_t)(good[n] * values) * sizeof(float));
            pool->accepted[n] = good[n];
            pool->done[n] += good[n];
        }
    }
    test_arena_free(&arena);
}

/* Calls until all tokens are done: each takes up to `most` of a sequence, a number at random, of
 * which a number at random is good if there are columns to go back to. */
static void run_all(pool_t *pool, int64_t most, test_random_t *random)
{
    const int64_t num_sequences = pool->rule_case->num_sequences;
    int64_t *const good = test_arena_alloc(&pool->arena, num_sequences * 8);
    bool is_done = false;

    while (!is_done) {
        is_done = true;
        pool->cu_seqlens[0] = 0;
        for (int64_t n = 0; n < num_sequences; n++) {
            const int64_t left = tokens_left(pool, n);
            const int64_t length = test_random_int(random, 0, left < most ? left : most);

            is_done = is_done && left == 0;
            pool->cu_seqlens[n + 1] = pool->cu_seqlens[n] + length;
            good[n] = pool->columns > 1 && length > 0 ? test_random_int(random, 1, length) : length;
        }
        run_call(pool, good);
    }
}

/* The state after a sequence's last token. */
static const float *final_state(const pool_t *pool, int64_t sequence)
{
    return pool->states +
           (sequence * pool->columns + pool->accepted[sequence] - 1) * state_size(pool->rule_case);
}

/* Where there is one slot a sequence, `accepted` says nothing. */
static void end_in_the_first_column(pool_t *pool)
{
    for (int64_t n = 0; n < pool->rule_case->num_sequences && pool->columns == 1; n++) {
        pool->accepted[n] = 1;
    }
}

static void check_equal(const pool_t *a, const pool_t *b)
{
    const rule_case_t *const rule_case = a->rule_case;

    assert_memory_equal(a->o, b->o, (size_t)rule_case_num_v(rule_case) * sizeof(float));
    for (int64_t n = 0; n < rule_case->num_sequences; n++) {
        assert_memory_equal(final_state(a, n), final_state(b, n),
                            (size_t)state_size(rule_case) * sizeof(float));
    }
}

static double *doubles_of(test_arena_t *arena, const float *values, int64_t count)
{
    double *const copy = test_doubles(arena, count);

    for (int64_t i = 0; i < count; i++) {
        copy[i] = values[i];
    }
    return copy;
}

static void check_close(pool_t *pool, const float *o, const float *states)
{
    const rule_case_t *const rule_case = pool->rule_case;
    const int64_t size = state_size(rule_case);
    double *const expected = doubles_of(&pool->arena, states, rule_case_num_states(rule_case));

    assert_rms_ratio("o", pool->o, doubles_of(&pool->arena, o, rule_case_num_v(rule_case)),
                     rule_case_num_v(rule_case), GDNCP_TOLERANCE_F32);
    for (int64_t n = 0; n < rule_case->num_sequences; n++) {
        assert_rms_ratio("final state", final_state(pool, n), expected + n * size, size,
                         GDNCP_TOLERANCE_F32);
    }
}

static void golden_files(void **state)
{
    static const char *const names[] = {
        "rule_basic",          "rule_correlated_keys",      "rule_d60",
        "rule_gva_odd_length", "rule_negative_eigenvalues", "rule_no_decay_initial_state",
        "rule_packed",         "rule_strong_decay"};
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int64_t i = 0; i < test_size(8, 1); i++) {
        rule_case_t rule_case;
        rule_result_t expected;

        rule_case_load(names[i], &rule_case, &expected);
        pool_t pool = start_pool(&rule_case, 1);

        run_all(&pool, 40, &random);
        end_in_the_first_column(&pool);
        check_close(&pool, expected.o, expected.final_state);
        test_arena_free(&pool.arena);
        rule_result_free(&expected);
        rule_case_free(&rule_case);
    }
}

static rule_case_t make_case(test_random_t *random)
{
    const rule_dims_t dims = {test_size(2, 1), test_size(4, 2), 24, 20};
    const int64_t lengths[] = {test_size(70, 5), 1, test_size(129, 9), 0, test_size(33, 4)};
    rule_case_t rule_case = rule_case_make(&dims, lengths, 5);

    rule_case_fill(&rule_case, random, -0.05);
    return rule_case;
}

static void single_steps_are_the_chunked_rule(void **state)
{
    test_random_t random = test_random_start(__func__, 2);
    rule_case_t rule_case = make_case(&random);
    rule_result_t chunked = rule_result_make(&rule_case);
    pool_t pool = start_pool(&rule_case, 1);

    (void)state;
    rule_case_run(&rule_case, GDNCP_F32, 0, NULL, &chunked);
    run_all(&pool, 1, &random);
    end_in_the_first_column(&pool);
    check_close(&pool, chunked.o, chunked.final_state);
    test_arena_free(&pool.arena);
    rule_result_free(&chunked);
    rule_case_free(&rule_case);
}

static void tokens_may_come_in_any_number_of_calls(void **state)
{
    test_random_t random = test_random_start(__func__, 3);
    rule_case_t rule_case = make_case(&random);
    pool_t one_by_one = start_pool(&rule_case, 1);
    pool_t several = start_pool(&rule_case, 1);

    (void)state;
    run_all(&one_by_one, 1, &random);
    run_all(&several, 50, &random);
    end_in_the_first_column(&one_by_one);
    end_in_the_first_column(&several);
    check_equal(&one_by_one, &several);
    test_arena_free(&one_by_one.arena);
    test_arena_free(&several.arena);
    rule_case_free(&rule_case);
}

static void rejected_tokens_leave_no_trace(void **state)
{
    test_random_t random = test_random_start(__func__, 4);

    (void)state;
    for (int64_t columns = 2; columns < test_size(7, 4); columns++) {
        rule_case_t rule_case = make_case(&random);
        pool_t certain = start_pool(&rule_case, 1);
        pool_t guessed = start_pool(&rule_case, columns);

        run_all(&certain, 1, &random);
        end_in_the_first_column(&certain);
        run_all(&guessed, columns, &random);
        check_equal(&certain, &guessed);
        test_arena_free(&certain.arena);
        test_arena_free(&guessed.arena);
        rule_case_free(&rule_case);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files),
        cmocka_unit_test(single_steps_are_the_chunked_rule),
        cmocka_unit_test(tokens_may_come_in_any_number_of_calls),
        cmocka_unit_test(rejected_tokens_leave_no_trace),
    };

    return cmocka_run_group_tests_name("recurrent_step_sequences", tests, NULL, NULL);
}
