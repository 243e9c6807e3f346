/*
 * The gated delta rule across ranks against the operator dumps: documents that cross ranks
 * anywhere, initial and final states and their gradients, both strategies.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "compare.h"
#include "error.h"
#include "gdncp/layer.h"
#include "gdncp/ops.h"
#include "gdncp/safetensors.h"
#include "op_case.h"
#include "padded_layout.h"
#include "random.h"
#include "rank_threads.h"
#include "tolerances.h"

#define MAX_RANKS 8

/* Inputs, upstream gradients, and results in the order of `names`. */
enum { Q, K, V, G, BETA, INITIAL, NUM_INPUTS };
static const char *const input_names[] = {"q", "k", "v", "g", "beta", "initial_state"};

typedef struct dump {
    gdncp_safetensors_t *file;
    gdncp_tensor_t inputs[NUM_INPUTS];
    gdncp_tensor_t grads[NUM_INPUTS];
    gdncp_tensor_t o;
    gdncp_tensor_t final_state;
    gdncp_tensor_t grad_o;
    gdncp_tensor_t grad_final_state;
    const int64_t *cu_seqlens;
    int64_t num_sequences;
    int64_t tokens;
    gdncp_cp_rule_config_t config;
    bool is_hard; /* correlated keys or strong decay */
} dump_t;

static gdncp_tensor_t get(const dump_t *dump, const char *prefix, const char *name)
{
    char full[64];
    gdncp_tensor_t tensor;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    assert_int_equal(gdncp_safetensors_get(dump->file, full, &tensor), GDNCP_OK);
    return tensor;
}

static dump_t dump_open(const char *name)
{
    char path[512];
    dump_t dump = {.is_hard = strcmp(name, "rule_correlated_keys") == 0 ||
                              strcmp(name, "rule_strong_decay") == 0};

    snprintf(path, sizeof path, "%s/%s.safetensors", GDNCP_TEST_DATA, name);
    assert_int_equal(gdncp_safetensors_open(path, &dump.file), GDNCP_OK);
    for (int i = 0; i < NUM_INPUTS; i++) {
        dump.inputs[i] = get(&dump, "", input_names[i]);
        dump.grads[i] = get(&dump, "grad.", input_names[i]);
    }
    dump.o = get(&dump, "", "o");
    dump.final_state = get(&dump, "", "final_state");
    dump.grad_o = get(&dump, "", "grad_o");
    dump.grad_final_state = get(&dump, "", "grad_final_state");
    const gdncp_tensor_t cu_seqlens = get(&dump, "", "cu_seqlens");

    dump.cu_seqlens = cu_seqlens.data;
    dump.num_sequences = cu_seqlens.shape[0] - 1;
    dump.tokens = dump.inputs[Q].shape[0];
    dump.config = (gdncp_cp_rule_config_t){
        .num_key_heads = dump.inputs[Q].shape[1],
        .num_value_heads = dump.inputs[V].shape[1],
        .key_head_dim = dump.inputs[Q].shape[2],
        .value_head_dim = dump.inputs[V].shape[2],
        .qk_l2norm = true,
    };
    return dump;
}

/* What all ranks write, in the order of the pack. */
typedef struct results {
    float *o;
    float *final_state;
    float *grads[NUM_INPUTS];
} results_t;

/* What all ranks do: the same config, strategy included. */
typedef struct run {
    const dump_t *dump;
    const gdncp_layout_t *layout;
    gdncp_cp_rule_config_t config;
    results_t *results;
} run_t;

static int64_t row_elements(const gdncp_tensor_t *tensor)
{
    return gdncp_tensor_num_elements(tensor) / tensor->shape[0];
}

static float *poisoned(int64_t count)
{
    float *const values = malloc((size_t)(count + 1) * sizeof *values);

    test_poison(values, count);
    return values;
}

/* This rank's rows of a tensor of the pack. Those of padding are NaN. */
static gdncp_tensor_t local_rows(const gdncp_tensor_t *all, const int64_t *positions,
                                 int64_t tokens, bool copy)
{
    const int64_t row = row_elements(all);
    int64_t shape[3] = {tokens, all->shape[1], all->ndim == 3 ? all->shape[2] : 1};
    float *const rows = poisoned(tokens * row);

    for (int64_t t = 0; copy && t < tokens; t++) {
        if (positions[t] >= 0) {
            memcpy(rows + t * row, (const float *)all->data + positions[t] * row,
                   (size_t)row * sizeof(float));
        }
    }
    return gdncp_tensor_contiguous(rows, GDNCP_F32, all->ndim, shape);
}

/* Returns whether the rows of padding are zeros. */
static bool put_rows(const gdncp_tensor_t *local, const int64_t *positions, float *all)
{
    const int64_t tokens = local->shape[0];
    const int64_t row = tokens > 0 ? row_elements(local) : 0;

    for (int64_t t = 0; t < tokens; t++) {
        if (positions[t] >= 0) {
            memcpy(all + positions[t] * row, (const float *)local->data + t * row,
                   (size_t)row * sizeof(float));
        }
    }
    return test_padding_is_zero(positions, tokens, row, local->data);
}

/* Copy the states of one end that belong to this rank; the others stay as they are. */
static void copy_own_states(const gdncp_cp_rule_t *rule, const dump_t *dump, int rank,
                            int (*owner)(const gdncp_cp_rule_t *, int64_t, int64_t),
                            const float *from, float *to)
{
    const int64_t heads = dump->config.num_value_heads;
    const int64_t size = dump->config.key_head_dim * dump->config.value_head_dim;

    for (int64_t i = 0; i < dump->num_sequences * heads; i++) {
        if (owner(rule, i / heads, i % heads) == rank) {
            memcpy(to + i * size, from + i * size, (size_t)size * sizeof(float));
        }
    }
}

static gdncp_tensor_t poisoned_like(const gdncp_tensor_t *tensor)
{
    return gdncp_tensor_contiguous(poisoned(gdncp_tensor_num_elements(tensor)), GDNCP_F32,
                                   tensor->ndim, tensor->shape);
}

static gdncp_status_t run_rule(const run_t *run, int rank, gdncp_cp_rule_t *rule,
                               gdncp_cp_rule_saved_t *saved, const int64_t *positions,
                               int64_t tokens)
{
    const dump_t *const dump = run->dump;
    gdncp_tensor_t in[NUM_INPUTS];
    gdncp_tensor_t out[NUM_INPUTS];
    const gdncp_tensor_t o = local_rows(&dump->o, positions, tokens, false);
    const gdncp_tensor_t grad_o = local_rows(&dump->grad_o, positions, tokens, true);
    const gdncp_tensor_t final_state = poisoned_like(&dump->final_state);
    const gdncp_tensor_t grad_final = poisoned_like(&dump->final_state);

    for (int i = 0; i < INITIAL; i++) {
        in[i] = local_rows(&dump->inputs[i], positions, tokens, true);
        out[i] = local_rows(&dump->inputs[i], positions, tokens, false);
    }
    /* States that do not enter here are NaN here: reading one would show. */
    in[INITIAL] = poisoned_like(&dump->inputs[INITIAL]);
    out[INITIAL] = poisoned_like(&dump->inputs[INITIAL]);
    copy_own_states(rule, dump, rank, gdncp_cp_rule_initial_state_rank, dump->inputs[INITIAL].data,
                    in[INITIAL].data);
    copy_own_states(rule, dump, rank, gdncp_cp_rule_final_state_rank, dump->grad_final_state.data,
                    grad_final.data);

    const gdncp_cp_rule_inputs_t inputs = {.q = in[Q],
                                           .k = in[K],
                                           .v = in[V],
                                           .g = in[G],
                                           .beta = in[BETA],
                                           .initial_state = in[INITIAL]};
    const gdncp_cp_rule_grads_t grads = {.q = out[Q],
                                         .k = out[K],
                                         .v = out[V],
                                         .g = out[G],
                                         .beta = out[BETA],
                                         .initial_state = out[INITIAL]};
    gdncp_status_t status = gdncp_cp_rule_forward(rule, &inputs, saved, &o, &final_state);

    if (status == GDNCP_OK) {
        status = gdncp_cp_rule_backward(rule, &inputs, saved, &grad_o, &grad_final, &grads);
    }
    bool padding_is_zero = put_rows(&o, positions, run->results->o);

    for (int i = 0; i < INITIAL; i++) {
        padding_is_zero &= put_rows(&out[i], positions, run->results->grads[i]);
    }
    if (status == GDNCP_OK && !padding_is_zero) {
        status = gdncp_fail(GDNCP_ERR_INTERNAL, "padding that is not zero");
    }
    copy_own_states(rule, dump, rank, gdncp_cp_rule_final_state_rank, final_state.data,
                    run->results->final_state);
    copy_own_states(rule, dump, rank, gdncp_cp_rule_initial_state_rank, out[INITIAL].data,
                    run->results->grads[INITIAL]);
    for (int i = 0; i < NUM_INPUTS; i++) {
        free(in[i].data);
        free(out[i].data);
    }
    free(o.data);
    free(grad_o.data);
    free(final_state.data);
    free(grad_final.data);
    return status;
}

static void run_rank(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const run_t *const run = context;
    const int rank = gdncp_comm_rank(comm);
    const int64_t tokens = gdncp_layout_rank_tokens(run->layout, rank);
    int64_t *const positions = malloc((size_t)(tokens + 1) * sizeof *positions);
    gdncp_cp_rule_t *rule = NULL;
    gdncp_cp_rule_saved_t *saved = NULL;
    gdncp_status_t status = gdncp_cp_rule_create(comm, run->layout, &run->config, &rule);

    test_own_positions(run->layout, rank, positions);
    if (status == GDNCP_OK) {
        status = gdncp_cp_rule_saved_create(rule, &saved);
    }
    if (status == GDNCP_OK) {
        status = run_rule(run, rank, rule, saved, positions, tokens);
    }
    if (status == GDNCP_OK) {
        status = gdncp_cp_rule_check(rule);
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    gdncp_cp_rule_saved_destroy(saved);
    gdncp_cp_rule_destroy(rule);
    free(positions);
}

static void check_run(const dump_t *dump, const gdncp_layout_t *layout, gdncp_strategy_t strategy)
{
    const int ranks = gdncp_layout_num_ranks(layout);
    const double tolerance = dump->is_hard ? GDNCP_TOLERANCE_F32_CANCELLING : GDNCP_TOLERANCE_F32;
    results_t results = {
        .o = poisoned(gdncp_tensor_num_elements(&dump->o)),
        .final_state = poisoned(gdncp_tensor_num_elements(&dump->final_state)),
    };

    for (int i = 0; i < NUM_INPUTS; i++) {
        results.grads[i] = poisoned(gdncp_tensor_num_elements(&dump->inputs[i]));
    }
    run_t run = {.dump = dump, .layout = layout, .config = dump->config, .results = &results};

    run.config.strategy = strategy;
    test_run_ranks(gdncp_strategy_name(strategy), ranks, run_rank, &run);
    test_check_tensor("o", results.o, &dump->o, tolerance);
    test_check_tensor("final_state", results.final_state, &dump->final_state, tolerance);
    for (int i = 0; i < NUM_INPUTS; i++) {
        test_check_tensor(input_names[i], results.grads[i], &dump->grads[i],
                          i == G ? GDNCP_TOLERANCE_F32_CANCELLING : tolerance);
        free(results.grads[i]);
    }
    free(results.o);
    free(results.final_state);
}

/* Stripes of so many tokens of the pack, dealt out to the ranks in turn. */
static gdncp_layout_t *striped(const dump_t *dump, int64_t width, int ranks)
{
    int64_t *const positions = malloc((size_t)dump->tokens * sizeof *positions);
    int64_t rank_tokens[MAX_RANKS] = {0};
    gdncp_layout_t *layout = NULL;
    int64_t filled = 0;

    for (int rank = 0; rank < ranks; rank++) {
        for (int64_t position = 0; position < dump->tokens; position++) {
            if (position / width % ranks == rank) {
                positions[filled++] = position;
                rank_tokens[rank]++;
            }
        }
    }
    assert_int_equal(gdncp_layout_from_positions(dump->cu_seqlens, dump->num_sequences, ranks,
                                                 positions, rank_tokens, &layout),
                     GDNCP_OK);
    free(positions);
    return layout;
}

static void check_dump(const char *name)
{
    const int rank_counts[] = {3, 2, 1, 5, 8};
    const gdncp_layout_kind_t kinds[] = {GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT,
                                         GDNCP_LAYOUT_CONTIGUOUS_FLAT, GDNCP_LAYOUT_CONTIGUOUS};
    dump_t dump = dump_open(name);

    for (int64_t i = 0; i < test_size(5, 2); i++) {
        for (int strategy = 0; strategy < 2; strategy++) {
            /* On the device another layout for each number of ranks. */
            for (int64_t kind = test_size(0, i); kind < test_size(3, i + 1); kind++) {
                gdncp_layout_t *layout = NULL;

                assert_int_equal(gdncp_layout_create(kinds[kind], dump.cu_seqlens,
                                                     dump.num_sequences, rank_counts[i], &layout),
                                 GDNCP_OK);
                check_run(&dump, layout, (gdncp_strategy_t)strategy);
                gdncp_layout_destroy(layout);
            }
        }
    }
    gdncp_safetensors_close(dump.file);
}

static void basic(void **state)
{
    (void)state;
    check_dump("rule_basic");
}

static void gva_odd_length(void **state)
{
    (void)state;
    check_dump("rule_gva_odd_length");
}

static void d60(void **state)
{
    (void)state;
    check_dump("rule_d60");
}

static void no_decay_initial_state(void **state)
{
    (void)state;
    check_dump("rule_no_decay_initial_state");
}

static void strong_decay(void **state)
{
    (void)state;
    check_dump("rule_strong_decay");
}

static void negative_eigenvalues(void **state)
{
    (void)state;
    check_dump("rule_negative_eigenvalues");
}

static void correlated_keys(void **state)
{
    (void)state;
    check_dump("rule_correlated_keys");
}

static void packed(void **state)
{
    (void)state;
    check_dump("rule_packed");
}

static void striped_tokens(void **state)
{
    const int64_t width = test_size(1, 16); /* one token: every segment is one long */
    dump_t dump = dump_open("rule_packed");

    (void)state;
    for (int ranks = 2; ranks <= test_size(4, 2); ranks += 2) {
        gdncp_layout_t *const layout = striped(&dump, width, ranks);

        check_run(&dump, layout, GDNCP_STRATEGY_STATES);
        check_run(&dump, layout, GDNCP_STRATEGY_HEADS);
        gdncp_layout_destroy(layout);
    }
    gdncp_safetensors_close(dump.file);
}

/* Random tensors of [rows, ...] in a dump. */
static gdncp_tensor_t random_tensor(test_random_t *random, int ndim, const int64_t *shape)
{
    gdncp_tensor_t tensor = gdncp_tensor_contiguous(NULL, GDNCP_F32, ndim, shape);
    const int64_t count = gdncp_tensor_num_elements(&tensor);

    tensor.data = poisoned(count);
    test_random_fill(random, tensor.data, count);
    return tensor;
}

/* What the operator itself makes of a dump's inputs, on one rank. */
static void fill_expected(dump_t *dump)
{
    const gdncp_delta_rule_t rule = {
        .q = dump->inputs[Q],
        .k = dump->inputs[K],
        .v = dump->inputs[V],
        .g = dump->inputs[G],
        .beta = dump->inputs[BETA],
        .initial_state = dump->inputs[INITIAL],
        .cu_seqlens = dump->cu_seqlens,
        .num_sequences = dump->num_sequences,
        .qk_l2norm = true,
    };

    dump->o = poisoned_like(&dump->inputs[V]);
    dump->final_state = poisoned_like(&dump->inputs[INITIAL]);
    for (int i = 0; i < NUM_INPUTS; i++) {
        dump->grads[i] = poisoned_like(&dump->inputs[i]);
    }
    const gdncp_delta_rule_grads_t grads = {.q = dump->grads[Q],
                                            .k = dump->grads[K],
                                            .v = dump->grads[V],
                                            .g = dump->grads[G],
                                            .beta = dump->grads[BETA],
                                            .initial_state = dump->grads[INITIAL]};

    assert_int_equal(gdncp_delta_rule_forward(&rule, &dump->o, &dump->final_state, NULL), GDNCP_OK);
    assert_int_equal(
        gdncp_delta_rule_backward(&rule, &dump->grad_o, &dump->grad_final_state, &grads, NULL),
        GDNCP_OK);
}

/* Under each kind of layout, padded with what is NaN. */
static void check_padded(test_random_t *random, const dump_t *dump, int ranks)
{
    /* On a device, where all takes long, none that cuts sequences into many segments. */
    const int last_kind =
        (int)test_size(GDNCP_LAYOUT_FROM_POSITIONS, GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT);

    for (int kind = 0; kind <= last_kind; kind += (int)test_size(1, 3)) {
        gdncp_layout_t *const layout = test_padded_layout(
            random, (gdncp_layout_kind_t)kind, dump->cu_seqlens, dump->num_sequences, ranks);

        check_run(dump, layout, GDNCP_STRATEGY_STATES);
        check_run(dump, layout, GDNCP_STRATEGY_HEADS);
        gdncp_layout_destroy(layout);
    }
}

/* Final states are those after the last token that is no padding. */
static void padding_is_ignored(void **state)
{
    test_random_t random = test_random_start("padding_is_ignored", 42);
    dump_t dump = dump_open("rule_packed");

    (void)state;
    for (int ranks = 1; ranks <= 4; ranks *= 2) {
        check_padded(&random, &dump, ranks);
    }
    gdncp_safetensors_close(dump.file);
}

/* The middle one of three ranks holds nothing, and takes part all the same. */
static gdncp_layout_t *with_an_idle_rank(const dump_t *dump)
{
    int64_t *const positions = malloc((size_t)dump->tokens * sizeof *positions);
    const int64_t rank_tokens[] = {dump->tokens / 2, 0, dump->tokens - dump->tokens / 2};
    gdncp_layout_t *layout = NULL;

    for (int64_t i = 0; i < dump->tokens; i++) {
        positions[i] = i;
    }
    assert_int_equal(gdncp_layout_from_positions(dump->cu_seqlens, dump->num_sequences, 3,
                                                 positions, rank_tokens, &layout),
                     GDNCP_OK);
    free(positions);
    return layout;
}

/* Three value heads a key head, so that ranks cut groups, and a sequence without tokens, whose
 * state must pass through. */
static void uneven_groups_and_an_empty_sequence(void **state)
{
    enum { TOKENS = 53, SEQUENCES = 3, KEYS = 2, VALUES = 6, DK = 8, DV = 4 };
    static const int64_t cu_seqlens[] = {0, 20, 20, TOKENS};
    const int64_t key_shape[] = {TOKENS, KEYS, DK};
    const int64_t value_shape[] = {TOKENS, VALUES, DV};
    const int64_t gate_shape[] = {TOKENS, VALUES};
    const int64_t state_shape[] = {SEQUENCES, VALUES, DK, DV};
    test_random_t random = test_random_start("uneven_groups_and_an_empty_sequence", 41);
    dump_t dump = {.cu_seqlens = cu_seqlens, .num_sequences = SEQUENCES, .tokens = TOKENS};

    (void)state;
    dump.config = (gdncp_cp_rule_config_t){.num_key_heads = KEYS,
                                           .num_value_heads = VALUES,
                                           .key_head_dim = DK,
                                           .value_head_dim = DV,
                                           .qk_l2norm = true};
    dump.inputs[Q] = random_tensor(&random, 3, key_shape);
    dump.inputs[K] = random_tensor(&random, 3, key_shape);
    dump.inputs[V] = random_tensor(&random, 3, value_shape);
    dump.inputs[G] = random_tensor(&random, 2, gate_shape);
    dump.inputs[BETA] = random_tensor(&random, 2, gate_shape);
    dump.inputs[INITIAL] = random_tensor(&random, 4, state_shape);
    dump.grad_o = random_tensor(&random, 3, value_shape);
    dump.grad_final_state = random_tensor(&random, 4, state_shape);
    for (int64_t i = 0; i < TOKENS * VALUES; i++) {
        ((float *)dump.inputs[G].data)[i] = (float)-test_random_uniform(&random);
        ((float *)dump.inputs[BETA].data)[i] = (float)test_random_uniform(&random);
    }
    fill_expected(&dump);
    for (int ranks = 1; ranks <= test_size(MAX_RANKS, 2); ranks++) {
        gdncp_layout_t *layout = NULL;

        assert_int_equal(
            gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, SEQUENCES, ranks, &layout),
            GDNCP_OK);
        check_run(&dump, layout, GDNCP_STRATEGY_STATES);
        check_run(&dump, layout, GDNCP_STRATEGY_HEADS);
        gdncp_layout_destroy(layout);
    }
    gdncp_layout_t *const idle = with_an_idle_rank(&dump);

    check_run(&dump, idle, GDNCP_STRATEGY_STATES);
    check_run(&dump, idle, GDNCP_STRATEGY_HEADS);
    gdncp_layout_destroy(idle);
    check_padded(&random, &dump, 2); /* there may be padding where there are no tokens */
    for (int i = 0; i < NUM_INPUTS; i++) {
        free(dump.inputs[i].data);
        free(dump.grads[i].data);
    }
    free(dump.o.data);
    free(dump.final_state.data);
    free(dump.grad_o.data);
    free(dump.grad_final_state.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic),
        cmocka_unit_test(gva_odd_length),
        cmocka_unit_test(d60),
        cmocka_unit_test(no_decay_initial_state),
        cmocka_unit_test(strong_decay),
        cmocka_unit_test(negative_eigenvalues),
        cmocka_unit_test(correlated_keys),
        cmocka_unit_test(packed),
        cmocka_unit_test(striped_tokens),
        cmocka_unit_test(padding_is_ignored),
        cmocka_unit_test(uneven_groups_and_an_empty_sequence),
    };

    return cmocka_run_group_tests_name("rule across ranks", tests, NULL, NULL);
}
