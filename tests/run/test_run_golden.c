/* Every golden file on 1 to 8 ranks with both strategies: inside the tolerances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "run_dump.h"
#include "run_tool.h"
#include "tolerances.h"

static const char *transport = "ucx";
static const char *device = "cpu";

typedef struct golden {
    const char *name;
    int64_t divisor; /* what divides the length of every sequence */
} golden_t;

static const golden_t goldens[] = {
    {"layer_olmo_hybrid", 256},           {"layer_qwen3_5_batch2", 192},
    {"layer_qwen3_5_packed", 16},         {"layer_qwen3_next", 384},
    {"layer_qwen3_next_d128", 512},       {"rule_basic", 192},
    {"rule_correlated_keys", 256},        {"rule_d60", 75},
    {"rule_gva_odd_length", 163},         {"rule_negative_eigenvalues", 256},
    {"rule_no_decay_initial_state", 256}, {"rule_packed", 1},
    {"rule_strong_decay", 256},
};

/* In 16 bits, ranks that exchange states differ from one rank by float32 rounding and a few halos;
 * under "heads" the gradients of shared key heads are rounded on each rank before they are added.
 */
static void check_against_one_rank(const json_t *result)
{
    const char *name;
    json_t *error;

    if (strcmp(json_string_value(json_object_get(result, "strategy")), "states") != 0) {
        return;
    }
    assert_true(json_object_size(json_object_get(result, "errors_one_rank")) > 0);
    json_object_foreach(json_object_get(result, "errors_one_rank"), name, error)
    {
        const double ratio = json_number_value(json_object_get(error, "rms_ratio"));
        const double tolerance = strcmp(name, "grad.conv1d.weight") == 0
                                     ? GDNCP_TOLERANCE_BF16_RANKS_CONV
                                     : GDNCP_TOLERANCE_BF16_RANKS;

        if (!(ratio <= tolerance)) {
            fail_msg("%s to one rank: RMS ratio %.3g, tolerance %.3g", name, ratio, tolerance);
        }
    }
}

static void check_run_of_rule(const char *name, int ranks, const char *layout, const char *dtype,
                              const char *rule_dtype)
{
    char text[16];
    const char *const arguments[] = {name[0] == '/' ? name : run_golden(name),
                                     "--ranks",
                                     text,
                                     "--layout",
                                     layout,
                                     "--dtype",
                                     dtype,
                                     "--rule-dtype",
                                     rule_dtype,
                                     "--device",
                                     device,
                                     "--transport",
                                     transport,
                                     "--json",
                                     NULL};

    snprintf(text, sizeof text, "%d", ranks);
    run_ended_t ended = run_tool(arguments);
    json_t *const object = run_json(&ended, name);

    if (ended.status != 0 || !json_is_true(json_object_get(object, "ok"))) {
        fail_msg("%s on %d ranks, %s, %s, %s: status %d\n%s%s", name, ranks, layout, dtype, device,
                 ended.status, ended.out, ended.err);
    }
    assert_int_equal(json_array_size(json_object_get(object, "results")), 2);
    assert_string_equal(json_string_value(json_object_get(object, "rule_dtype")), rule_dtype);
    if (strcmp(dtype, "bf16") == 0) {
        check_against_one_rank(json_array_get(json_object_get(object, "results"), 0));
    }
    assert_string_equal(json_string_value(json_object_get(object, "reference")),
                        strcmp(dtype, "f32") == 0    ? "dump"
                        : strcmp(device, "cpu") == 0 ? "one rank in f32"
                                                     : "one rank in f32 on the cpu");
    assert_string_equal(json_string_value(json_object_get(object, "device")), device);
    assert_string_equal(json_string_value(json_object_get(object, "device_name")), device);
    assert_string_equal(json_string_value(json_object_get(object, "transport")), transport);
    assert_string_equal(ended.err, "");
    json_decref(object);
    run_release(&ended);
}

static void check_run(const char *name, int ranks, const char *layout, const char *dtype)
{
    check_run_of_rule(name, ranks, layout, dtype, "f32");
}

static void test_golden(void **state)
{
#ifdef __SANITIZE_ADDRESS__
    static const int ranks[] = {2, 3}; /* it takes several times as long */
#else
    static const int ranks[] = {1, 2, 3, 4, 8};
#endif

    (void)state;
    for (size_t f = 0; f < sizeof goldens / sizeof goldens[0]; f++) {
        for (size_t r = 0; r < sizeof ranks / sizeof ranks[0]; r++) {
            const bool divides = goldens[f].divisor % (2 * ranks[r]) == 0;

            check_run(goldens[f].name, ranks[r],
                      divides ? "dual_chunk_swap" : "dual_chunk_swap_flat", "f32");
        }
    }
}

/* The emulator takes thousands of times as long as a GPU. Every dump, and on how many ranks changes
 * from dump to dump and from transport to transport; both strategies are in each run. Over NCCL,
 * which is for more than one rank, every other dump. */
static void test_emulated(void **state)
{
    static const int ranks[] = {2, 4, 1};
    const bool is_nccl = strcmp(transport, "nccl") == 0;
    const size_t first = strcmp(transport, "threads") == 0 ? 1 : 0;
    const size_t num_counts = is_nccl ? 2 : 3;
#ifdef __SANITIZE_ADDRESS__
    const size_t begin = 2; /* a layer, and rules of odd and of many lengths */
    const size_t step = 3;
#else
    const size_t begin = 0;
    const size_t step = is_nccl ? 2 : 1;
#endif

    (void)state;
    for (size_t f = begin; f < sizeof goldens / sizeof goldens[0]; f += step) {
        const int count = ranks[(f / step + first) % num_counts];
        const bool divides = goldens[f].divisor % (2 * count) == 0;

        check_run(goldens[f].name, count, divides ? "dual_chunk_swap" : "dual_chunk_swap_flat",
                  "f32");
    }
}

static void test_emulated_bf16(void **state)
{
    static const char *const names[] = {"layer_qwen3_5_packed", "layer_olmo_hybrid",
                                        "rule_gva_odd_length"};
#ifdef __SANITIZE_ADDRESS__
    const size_t count = 1;
#else
    const size_t count = sizeof names / sizeof names[0];
#endif

    (void)state;
    for (size_t f = 0; f < count; f++) {
        check_run(names[f], 2, "dual_chunk_swap_flat", "bf16");
    }
    check_run_of_rule(names[0], 2, "dual_chunk_swap_flat", "bf16", "bf16");
}

static void test_layouts(void **state)
{
    static const char *const names[] = {"rule_packed", "rule_gva_odd_length", "rule_d60",
                                        "layer_qwen3_5_packed"};
    static const char *const layouts[] = {"contiguous", "contiguous_flat", "dual_chunk_swap_flat",
                                          "striped_flat"};

    (void)state;
    for (size_t f = 0; f < sizeof names / sizeof names[0]; f++) {
        for (size_t l = 0; l < sizeof layouts / sizeof layouts[0]; l++) {
            check_run(names[f], l % 2 == 0 ? 3 : 5, layouts[l], "f32");
        }
    }
}

/* As the dump without padding, whose results are expected. */
static void test_padded(void **state)
{
    static const struct {
        const char *name;
        int64_t tokens;
    } packs[] = {{"rule_packed", 300}, {"layer_qwen3_5_packed", 384}};

    (void)state;
    for (size_t f = 0; f < sizeof packs / sizeof packs[0]; f++) {
        const char *const path = run_write_padded(packs[f].name, packs[f].tokens);

        check_run(path, 4, "dual_chunk_swap", "f32");
        check_run(path, 3, "contiguous_flat", "f32");
        check_run(path, 1, "contiguous", "f32");
        run_remove_written();
    }
}

static void test_bf16(void **state)
{
    (void)state;
    for (size_t f = 0; f < sizeof goldens / sizeof goldens[0]; f++) {
        const bool divides = goldens[f].divisor % 16 == 0;

        check_run(goldens[f].name, 4, "dual_chunk_swap_flat", "bf16");
        check_run(goldens[f].name, 8, divides ? "dual_chunk_swap" : "contiguous", "bf16");
    }
}

static void test_bf16_inside(void **state)
{
    (void)state;
    for (size_t f = 0; strncmp(goldens[f].name, "layer", 5) == 0; f++) {
        check_run_of_rule(goldens[f].name, 4, "dual_chunk_swap_flat", "bf16", "bf16");
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),      cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_padded),      cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_bf16_inside),
    };

    const struct CMUnitTest emulated_tests[] = {
        cmocka_unit_test(test_emulated),
        cmocka_unit_test(test_emulated_bf16),
    };

    if (argc > 1) {
        transport = argv[1];
    }
    if (argc > 2) {
        device = argv[2];
        return cmocka_run_group_tests(emulated_tests, run_set_up, run_tear_down);
    }
    return cmocka_run_group_tests(tests, run_set_up, run_tear_down);
}
