/*
 * Real layers against their dumps: every family, 1 to 8 ranks that are threads, both strategies,
 * output and all gradients; and what strategy "states" may send.
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
#include "gdncp/layer.h"
#include "gdncp/memory.h"
#include "gdncp/safetensors.h"
#include "op_case.h"
#include "padded_layout.h"
#include "random.h"
#include "rank_threads.h"
#include "tolerances.h"

#define MAX_RANKS 8

/* A dump in canonical form. */
typedef struct dump {
    gdncp_safetensors_t *file;
    gdncp_family_t family;
    gdncp_layer_config_t config;
    int64_t tokens; /* of all rows of the batch */
    int64_t num_sequences;
    int64_t *cu_seqlens;
    float *params[GDNCP_NUM_PARAMETERS];
} dump_t;

static int64_t metadata_integer(const gdncp_safetensors_t *file, const char *key)
{
    return strtoll(gdncp_safetensors_metadata(file, key), NULL, 10);
}

static gdncp_tensor_t get(const dump_t *dump, const char *prefix, const char *name)
{
    char full[128];
    gdncp_tensor_t tensor;

    snprintf(full, sizeof full, "%s%s", prefix, name);
    assert_int_equal(gdncp_safetensors_get(dump->file, full, &tensor), GDNCP_OK);
    return tensor;
}

static int64_t parameter_elements(const gdncp_layer_shape_t *shape, int parameter)
{
    int64_t dims[2];
    int ndim;

    assert_int_equal(gdncp_parameter_shape(shape, (gdncp_parameter_t)parameter, &ndim, dims),
                     GDNCP_OK);
    return ndim == 2 ? dims[0] * dims[1] : dims[0];
}

static void read_sequences(dump_t *dump)
{
    const gdncp_tensor_t hidden = get(dump, "", "hidden_states");
    gdncp_tensor_t packed;

    dump->tokens = hidden.shape[0] * hidden.shape[1];
    if (gdncp_safetensors_get(dump->file, "cu_seqlens", &packed) == GDNCP_OK) {
        dump->num_sequences = packed.shape[0] - 1;
    } else {
        dump->num_sequences = hidden.shape[0];
        packed.data = NULL;
    }
    dump->cu_seqlens = calloc((size_t)dump->num_sequences + 1, sizeof(int64_t));
    for (int64_t i = 0; i <= dump->num_sequences; i++) {
        dump->cu_seqlens[i] =
            packed.data != NULL ? ((const int64_t *)packed.data)[i] : i * hidden.shape[1];
    }
}

static dump_t dump_open(const char *name)
{
    char path[512];
    dump_t dump = {.file = NULL};
    gdncp_layer_shape_t *const shape = &dump.config.shape;

    snprintf(path, sizeof path, "%s/%s.safetensors", GDNCP_TEST_DATA, name);
    assert_int_equal(gdncp_safetensors_open(path, &dump.file), GDNCP_OK);
    assert_int_equal(
        gdncp_family_from_name(gdncp_safetensors_metadata(dump.file, "family"), &dump.family),
        GDNCP_OK);
    *shape = (gdncp_layer_shape_t){
        .hidden_size = metadata_integer(dump.file, "hidden_size"),
        .num_key_heads = metadata_integer(dump.file, "num_key_heads"),
        .num_value_heads = metadata_integer(dump.file, "num_value_heads"),
        .key_head_dim = metadata_integer(dump.file, "key_head_dim"),
        .value_head_dim = metadata_integer(dump.file, "value_head_dim"),
        .conv_kernel_dim = metadata_integer(dump.file, "conv_kernel_dim"),
    };
    dump.config.allow_neg_eigval = metadata_integer(dump.file, "allow_neg_eigval") != 0;
    dump.config.norm_eps = strtof(gdncp_safetensors_metadata(dump.file, "norm_eps"), NULL);
    read_sequences(&dump);
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        dump.params[i] = malloc((size_t)parameter_elements(shape, i) * sizeof(float));
    }
    for (int64_t i = 0; i < gdncp_family_num_tensors(dump.family); i++) {
        gdncp_family_tensor_t tensor;

        assert_int_equal(gdncp_family_tensor(dump.family, shape, i, &tensor), GDNCP_OK);
        const gdncp_tensor_t weights = get(&dump, "param.", tensor.name);

        assert_int_equal(gdncp_family_gather(dump.family, shape, i, sizeof(float), weights.data,
                                             (void *const *)dump.params),
                         GDNCP_OK);
    }
    return dump;
}

static void dump_close(dump_t *dump)
{
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        free(dump->params[i]);
    }
    free(dump->cu_seqlens);
    gdncp_safetensors_close(dump->file);
}

/* Results of all ranks: tokens where they belong in the pack, each rank's parameter gradients. */
typedef struct results {
    float *output;
    float *grad_hidden;
    float *grads[MAX_RANKS][GDNCP_NUM_PARAMETERS];
    gdncp_comm_counters_t forward[MAX_RANKS];
    gdncp_comm_counters_t backward[MAX_RANKS];
} results_t;

/* What all ranks do: the same config, strategy included. */
typedef struct run {
    const dump_t *dump;
    const gdncp_layout_t *layout;
    gdncp_layer_config_t config;
    results_t *results;
} run_t;

static gdncp_layer_params_t params_of(const gdncp_layer_shape_t *shape, float *const *memory)
{
    gdncp_tensor_t tensors[GDNCP_NUM_PARAMETERS];

    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        int64_t dims[2];
        int ndim;

        gdncp_parameter_shape(shape, (gdncp_parameter_t)i, &ndim, dims);
        tensors[i] = gdncp_tensor_contiguous(memory[i], GDNCP_F32, ndim, dims);
    }
    return (gdncp_layer_params_t){
        .in_proj_weight = tensors[GDNCP_PARAMETER_IN_PROJ_WEIGHT],
        .out_proj_weight = tensors[GDNCP_PARAMETER_OUT_PROJ_WEIGHT],
        .core =
            {
                .conv_weight = tensors[GDNCP_PARAMETER_CONV_WEIGHT],
                .A_log = tensors[GDNCP_PARAMETER_A_LOG],
                .dt_bias = tensors[GDNCP_PARAMETER_DT_BIAS],
                .norm_weight = tensors[GDNCP_PARAMETER_NORM_WEIGHT],
            },
    };
}

static float *poisoned(int64_t count)
{
    float *const values = malloc((size_t)(count + 1) * sizeof *values);

    test_poison(values, count);
    return values;
}

static void run_layer(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const run_t *const run = context;
    const gdncp_layer_shape_t *const shape = &run->config.shape;
    const int rank = gdncp_comm_rank(comm);
    const int64_t tokens = gdncp_layout_rank_tokens(run->layout, rank);
    const int64_t dims[] = {tokens, shape->hidden_size};
    const int64_t count = tokens * shape->hidden_size;
    const size_t row_bytes = (size_t)shape->hidden_size * sizeof(float);
    const gdncp_tensor_t hidden_states = get(run->dump, "", "hidden_states");
    const gdncp_tensor_t grad_output = get(run->dump, "", "grad_output");
    float *const buffers[] = {poisoned(count), poisoned(count), poisoned(count), poisoned(count)};
    gdncp_tensor_t views[4];
    int64_t *const positions = malloc((size_t)(tokens + 1) * sizeof *positions);
    gdncp_memory_usage_t usage = {0};
    gdncp_layer_t *layer = NULL;
    gdncp_layer_saved_t *saved = NULL;
    int64_t allocations = 0;

    test_own_positions(run->layout, rank, positions);
    for (int i = 0; i < 4; i++) {
        views[i] = gdncp_tensor_contiguous(buffers[i], GDNCP_F32, 2, dims);
    }
    for (int64_t t = 0; t < tokens; t++) {
        const int64_t offset = positions[t] * shape->hidden_size;

        if (positions[t] >= 0) { /* else it is padding, and stays NaN */
            memcpy(buffers[0] + t * shape->hidden_size, (const float *)hidden_states.data + offset,
                   row_bytes);
            memcpy(buffers[2] + t * shape->hidden_size, (const float *)grad_output.data + offset,
                   row_bytes);
        }
    }
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        run->results->grads[rank][i] = poisoned(parameter_elements(shape, i));
    }
    const gdncp_layer_params_t params = params_of(shape, run->dump->params);
    const gdncp_layer_params_t grads = params_of(shape, run->results->grads[rank]);

    gdncp_memory_track(&usage);
    gdncp_status_t status = gdncp_layer_create(comm, run->layout, &run->config, &layer);

    if (status == GDNCP_OK) {
        status = gdncp_layer_saved_create(layer, &saved);
    }
    /* Twice: the second run must find all memory there. */
    for (int repeat = 0; repeat < 2 && status == GDNCP_OK; repeat++) {
        allocations = usage.num_allocations;
        gdncp_comm_reset_counters(comm);
        status = gdncp_layer_forward(layer, &params, &views[0], saved, &views[1]);
        gdncp_comm_counters(comm, &run->results->forward[rank]);
        gdncp_comm_reset_counters(comm);
        if (status == GDNCP_OK) {
            status = gdncp_layer_backward(layer, &params, &views[0], saved, &views[2], &views[3],
                                          &grads);
        }
        gdncp_comm_counters(comm, &run->results->backward[rank]);
    }
    if (status == GDNCP_OK) {
        status = gdncp_layer_check(layer);
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s: %s", gdncp_status_string(status), gdncp_last_error());
    } else if (usage.num_allocations != allocations) {
        snprintf(problem, size, "%lld allocations in the second run",
                 (long long)(usage.num_allocations - allocations));
    }
    for (int64_t t = 0; t < tokens; t++) {
        const int64_t offset = positions[t] * shape->hidden_size;

        if (positions[t] >= 0) {
            memcpy(run->results->output + offset, buffers[1] + t * shape->hidden_size, row_bytes);
            memcpy(run->results->grad_hidden + offset, buffers[3] + t * shape->hidden_size,
                   row_bytes);
        }
    }
    if (!test_padding_is_zero(positions, tokens, shape->hidden_size, buffers[1]) ||
        !test_padding_is_zero(positions, tokens, shape->hidden_size, buffers[3])) {
        snprintf(problem, size, "padding that is not zero");
    }
    gdncp_layer_saved_destroy(saved);
    gdncp_layer_destroy(layer);
    gdncp_memory_track(NULL);
    if (usage.current_bytes != 0) {
        snprintf(problem, size, "%lld bytes leaked", (long long)usage.current_bytes);
    }
    free(positions);
    for (int i = 0; i < 4; i++) {
        free(buffers[i]);
    }
}

static void check_param_grads(const dump_t *dump, const results_t *results, int ranks)
{
    const gdncp_layer_shape_t *const shape = &dump->config.shape;
    float *sums[GDNCP_NUM_PARAMETERS];

    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        const int64_t count = parameter_elements(shape, i);

        sums[i] = malloc((size_t)count * sizeof(float));
        for (int64_t j = 0; j < count; j++) {
            double sum = 0.0;

            for (int rank = 0; rank < ranks; rank++) {
                sum += results->grads[rank][i][j];
            }
            sums[i][j] = (float)sum;
        }
    }
    for (int64_t i = 0; i < gdncp_family_num_tensors(dump->family); i++) {
        gdncp_family_tensor_t tensor;

        assert_int_equal(gdncp_family_tensor(dump->family, shape, i, &tensor), GDNCP_OK);
        const gdncp_tensor_t expected = get(dump, "grad.", tensor.name);
        const bool cancels =
            strcmp(tensor.name, "A_log") == 0 || strcmp(tensor.name, "dt_bias") == 0;
        float *const family = poisoned(gdncp_tensor_num_elements(&expected));

        assert_int_equal(gdncp_family_scatter(dump->family, shape, i, sizeof(float),
                                              (const void *const *)sums, family),
                         GDNCP_OK);
        test_check_tensor(tensor.name, family, &expected,
                          cancels ? GDNCP_TOLERANCE_F32_CANCELLING : GDNCP_TOLERANCE_F32);
        free(family);
    }
    for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
        free(sums[i]);
    }
}

/* 2 Hv dk (dk + dv) 4 + 2 Hv dk dv 4 forward and 4 Hv dk dv 4 backward for each sequence, and the
 * halo: W - 1 tokens before each of at most two segments a sequence. */
static void check_bytes_of_states(const dump_t *dump, const results_t *results, int ranks)
{
    const gdncp_layer_shape_t *const shape = &dump->config.shape;
    const int64_t heads = shape->num_value_heads * shape->key_head_dim;
    const int64_t channels = 2 * shape->num_key_heads * shape->key_head_dim +
                             shape->num_value_heads * shape->value_head_dim;
    const int64_t halo = 2 * (shape->conv_kernel_dim - 1) * channels * 4;
    const int64_t forward = 2 * heads * (shape->key_head_dim + shape->value_head_dim) * 4 +
                            2 * heads * shape->value_head_dim * 4 + halo;
    const int64_t backward = 4 * heads * shape->value_head_dim * 4 + halo;

    for (int rank = 0; rank < ranks; rank++) {
        assert_true(results->forward[rank].bytes_sent <= dump->num_sequences * forward);
        assert_true(results->backward[rank].bytes_sent <= dump->num_sequences * backward);
    }
}

/* Run a layer, and compare what all ranks make of it with the dump. */
static results_t run_and_check(const dump_t *dump, const gdncp_layout_t *layout,
                               gdncp_strategy_t strategy)
{
    const int64_t elements = dump->tokens * dump->config.shape.hidden_size;
    const int ranks = gdncp_layout_num_ranks(layout);
    results_t results = {.output = poisoned(elements), .grad_hidden = poisoned(elements)};
    run_t run = {.dump = dump, .layout = layout, .config = dump->config, .results = &results};

    run.config.strategy = strategy;
    test_run_ranks(gdncp_strategy_name(strategy), ranks, run_layer, &run);

    const gdncp_tensor_t output = get(dump, "", "output");
    const gdncp_tensor_t grad_hidden = get(dump, "", "grad_hidden_states");

    test_check_tensor("output", results.output, &output, GDNCP_TOLERANCE_F32);
    test_check_tensor("grad_hidden_states", results.grad_hidden, &grad_hidden, GDNCP_TOLERANCE_F32);
    check_param_grads(dump, &results, ranks);
    return results;
}

static void free_results(results_t *results, int ranks)
{
    for (int rank = 0; rank < ranks; rank++) {
        for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
            free(results->grads[rank][i]);
        }
    }
    free(results->output);
    free(results->grad_hidden);
}

static void check_run(const dump_t *dump, gdncp_layout_kind_t kind, int ranks,
                      gdncp_strategy_t strategy)
{
    gdncp_layout_t *layout = NULL;

    assert_int_equal(
        gdncp_layout_create(kind, dump->cu_seqlens, dump->num_sequences, ranks, &layout), GDNCP_OK);
    results_t results = run_and_check(dump, layout, strategy);

    if (strategy == GDNCP_STRATEGY_STATES) {
        check_bytes_of_states(dump, &results, ranks);
    }
    free_results(&results, ranks);
    gdncp_layout_destroy(layout);
}

/* With padding that is NaN and without: both as the dump has it, and the same bits. */
static void check_padded(const dump_t *dump, const gdncp_layout_t *layout,
                         gdncp_strategy_t strategy)
{
    const gdncp_layer_shape_t *const shape = &dump->config.shape;
    const size_t bytes = (size_t)(dump->tokens * shape->hidden_size) * sizeof(float);
    const int ranks = gdncp_layout_num_ranks(layout);
    gdncp_layout_t *bare = NULL;

    assert_int_equal(gdncp_layout_without_padding(layout, &bare), GDNCP_OK);
    results_t with = run_and_check(dump, layout, strategy);
    results_t without = run_and_check(dump, bare, strategy);

    assert_memory_equal(with.output, without.output, bytes);
    assert_memory_equal(with.grad_hidden, without.grad_hidden, bytes);
    for (int rank = 0; rank < ranks; rank++) {
        assert_int_equal(with.forward[rank].bytes_sent, without.forward[rank].bytes_sent);
        assert_int_equal(with.backward[rank].bytes_sent, without.backward[rank].bytes_sent);
        for (int i = 0; i < GDNCP_NUM_PARAMETERS; i++) {
            assert_memory_equal(with.grads[rank][i], without.grads[rank][i],
                                (size_t)parameter_elements(shape, i) * sizeof(float));
        }
    }
    free_results(&with, ranks);
    free_results(&without, ranks);
    gdncp_layout_destroy(bare);
}

static bool divides(const dump_t *dump, int ranks)
{
    for (int64_t i = 0; i < dump->num_sequences; i++) {
        if ((dump->cu_seqlens[i + 1] - dump->cu_seqlens[i]) % (2 * ranks) != 0) {
            return false;
        }
    }
    return true;
}

static void check_dump(const char *name)
{
    const int rank_counts[] = {2, 1, 3, 4, 8};
    dump_t dump = dump_open(name);

    for (int64_t i = 0; i < test_size(5, 1); i++) {
        for (int strategy = 0; strategy < 2; strategy++) {
            if (divides(&dump, rank_counts[i])) {
                check_run(&dump, GDNCP_LAYOUT_DUAL_CHUNK_SWAP, rank_counts[i],
                          (gdncp_strategy_t)strategy);
            }
            if (test_size(true, !divides(&dump, rank_counts[i]))) {
                check_run(&dump, GDNCP_LAYOUT_CONTIGUOUS_FLAT, rank_counts[i],
                          (gdncp_strategy_t)strategy);
            }
        }
    }
    dump_close(&dump);
}

static void qwen3_next(void **state)
{
    (void)state;
    check_dump("layer_qwen3_next");
}

static void qwen3_next_d128(void **state)
{
    (void)state;
#if defined(GDNCP_TEST_ON_DEVICE) && defined(__SANITIZE_ADDRESS__)
    skip(); /* it takes as long as the others together */
#endif
    check_dump("layer_qwen3_next_d128");
}

static void qwen3_5_batch2(void **state)
{
    (void)state;
    check_dump("layer_qwen3_5_batch2");
}

static void qwen3_5_packed(void **state)
{
    (void)state;
    check_dump("layer_qwen3_5_packed");
}

static void olmo_hybrid(void **state)
{
    (void)state;
    check_dump("layer_olmo_hybrid");
}

static void padding_is_ignored(void **state)
{
    test_random_t random = test_random_start("padding_is_ignored", 61);
    dump_t dump = dump_open("layer_qwen3_5_packed");

    (void)state;
    for (int ranks = (int)test_size(1, 2); ranks <= test_size(4, 2); ranks *= 2) {
        /* On a device, where all takes long, one kind with few segments. */
        for (int kind = (int)test_size(0, GDNCP_LAYOUT_DUAL_CHUNK_SWAP);
             kind <= test_size(GDNCP_LAYOUT_FROM_POSITIONS, GDNCP_LAYOUT_DUAL_CHUNK_SWAP); kind++) {
            gdncp_layout_t *const layout = test_padded_layout(
                &random, (gdncp_layout_kind_t)kind, dump.cu_seqlens, dump.num_sequences, ranks);

            check_padded(&dump, layout, GDNCP_STRATEGY_STATES);
            check_padded(&dump, layout, GDNCP_STRATEGY_HEADS);
            gdncp_layout_destroy(layout);
        }
    }
    dump_close(&dump);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qwen3_next),     cmocka_unit_test(qwen3_next_d128),
        cmocka_unit_test(qwen3_5_batch2), cmocka_unit_test(qwen3_5_packed),
        cmocka_unit_test(olmo_hybrid),    cmocka_unit_test(padding_is_ignored),
    };

    return cmocka_run_group_tests_name("layer golden", tests, NULL, NULL);
}
