/* Bad dumps and bad options: one sentence that names what is wrong, exit status 1, nothing left. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "run_dump.h"
#include "run_tool.h"

#define MAX_PARTS 4

static void check_dump(const char *what, const char *path, const char *const *parts)
{
    run_ended_t ended = run_tool((const char *const[]){path, NULL});

    run_check_error(&ended, what, parts);
    run_release(&ended);
    run_remove_written();
}

typedef struct changed_case {
    const char *golden;
    run_change_t change;
    const char *parts[MAX_PARTS];
} changed_case_t;

static const changed_case_t changed_cases[] = {
    /* metadata */
    {"rule_basic", {.key = "kind"}, {"'kind'", "got none"}},
    {"rule_basic", {.key = "kind", .value = "conv"}, {"'kind'", "layer or rule", "'conv'"}},
    {"rule_basic", {.key = "key_head_dim"}, {"'key_head_dim'", "got none"}},
    {"rule_basic", {.key = "key_head_dim", .value = "0"}, {"'key_head_dim'", "'0'"}},
    {"rule_basic", {.key = "key_head_dim", .value = "-4"}, {"'key_head_dim'", "'-4'"}},
    {"rule_basic", {.key = "key_head_dim", .value = "32x"}, {"'key_head_dim'", "'32x'"}},
    {"rule_basic",
     {.key = "value_head_dim", .value = "99999999999999999999"},
     {"'value_head_dim'", "99999999999999999999"}},
    {"rule_basic",
     {.key = "num_key_heads", .value = "3"},
     {"'num_value_heads'", "multiple of the 3"}},
    {"rule_basic",
     {.key = "num_value_heads", .value = "4"},
     {"'v'", "[192, 4, 32]", "[192, 2, 32]"}},
    {"rule_basic", {.key = "qk_l2norm", .value = "2"}, {"'qk_l2norm'", "'2'"}},
    {"rule_basic", {.key = "scale", .value = "-1"}, {"'scale'", "'-1'"}},
    {"rule_basic", {.key = "scale", .value = "nan"}, {"'scale'", "'nan'"}},
    {"layer_qwen3_next", {.key = "family"}, {"'family'", "got none"}},
    {"layer_qwen3_next", {.key = "family", .value = "mamba2"}, {"'family'", "qwen3_5", "mamba2"}},
    {"layer_qwen3_next",
     {.key = "family", .value = "olmo_hybrid"},
     {"grad.in_proj_ba.weight", "olmo_hybrid"}},
    {"layer_qwen3_next", {.key = "norm_eps", .value = "0"}, {"'norm_eps'", "'0'"}},
    {"layer_qwen3_next",
     {.key = "allow_neg_eigval", .value = "yes"},
     {"'allow_neg_eigval'", "'yes'"}},
    {"layer_qwen3_next", {.key = "num_key_heads", .value = "3"}, {"metadata", "num_value_heads"}},
    {"layer_qwen3_next",
     {.key = "hidden_size", .value = "1048576"},
     {"'param.in_proj_qkvz.weight'", "1048576", "[384, 64]"}},
    {"layer_qwen3_next", {.key = "conv_kernel_dim", .value = "5"}, {"'param.conv1d.weight'", "5]"}},
    /* tensors */
    {"rule_basic", {.tensor = "q", .leave_out = true}, {"'q'", "got none"}},
    {"rule_basic", {.tensor = "final_state", .leave_out = true}, {"'final_state'", "got none"}},
    {"rule_basic", {.tensor = "grad.g", .leave_out = true}, {"'grad.g'", "got none"}},
    {"rule_basic",
     {.tensor = "beta", .cut_first_dimension = true},
     {"'beta'", "[192, 2]", "[191, 2]"}},
    {"rule_basic", {.tensor = "v", .dtype = GDNCP_F64}, {"'v'", "f32", "f64"}},
    {"rule_basic", {.tensor = "k", .index = 70, .f32 = NAN}, {"'k'", "nan at [1, 0, 6]"}},
    {"rule_basic",
     {.tensor = "grad_o", .index = 0, .f32 = INFINITY},
     {"'grad_o'", "inf at [0, 0, 0]"}},
    {"rule_basic", {.tensor = "grad.q", .index = 1, .f32 = NAN}, {"'grad.q'", "nan at [0, 0, 1]"}},
    {"layer_qwen3_next",
     {.tensor = "param.A_log", .leave_out = true},
     {"'param.A_log'", "got none"}},
    {"layer_qwen3_next", {.tensor = "grad.A_log", .leave_out = true}, {"'grad.A_log'", "got none"}},
    {"layer_qwen3_next",
     {.tensor = "hidden_states", .leave_out = true},
     {"'hidden_states'", "got none"}},
    {"layer_qwen3_next",
     {.tensor = "param.A_log", .rename = "param.conv1d.bias"},
     {"'param.conv1d.bias'", "qwen3_next"}},
    {"layer_qwen3_next",
     {.tensor = "param.A_log", .cut_first_dimension = true},
     {"'param.A_log'", "[4]", "[3]"}},
    {"layer_qwen3_next",
     {.tensor = "param.dt_bias", .dtype = GDNCP_BF16},
     {"'param.dt_bias'", "f32", "bf16"}},
    {"layer_qwen3_next",
     {.tensor = "param.out_proj.weight", .index = 130, .f32 = NAN},
     {"'param.out_proj.weight'", "nan at [1, 2]"}},
    {"layer_qwen3_next",
     {.tensor = "hidden_states", .index = 64, .f32 = -INFINITY},
     {"'hidden_states'", "-inf at [0, 1, 0]"}},
    {"layer_qwen3_next",
     {.tensor = "output", .index = 5, .f32 = NAN},
     {"'output'", "nan at [0, 0, 5]"}},
    /* documents */
    {"rule_packed", {.tensor = "cu_seqlens", .index = 0, .i64 = 1}, {"'cu_seqlens'", "got 1"}},
    {"rule_packed",
     {.tensor = "cu_seqlens", .index = 2, .i64 = 9},
     {"'cu_seqlens'", "15", "got 9"}},
    {"rule_packed",
     {.tensor = "cu_seqlens", .index = 5, .i64 = 301},
     {"'cu_seqlens'", "300", "301"}},
    {"rule_packed", {.tensor = "cu_seqlens", .index = 1, .i64 = -1}, {"'cu_seqlens'", "got -1"}},
    {"rule_packed", {.tensor = "cu_seqlens", .dtype = GDNCP_I32}, {"'cu_seqlens'", "i64", "i32"}},
    {"layer_qwen3_5_packed",
     {.tensor = "cu_seqlens", .index = 4, .i64 = 400},
     {"'cu_seqlens'", "384", "400"}},
    /* padded packs */
    {"rule_packed",
     {.tensor = "cu_seqlens", .rename = "cu_seqlens_padded", .index = 5, .i64 = 301},
     {"'cu_seqlens_padded'", "room", "sequence 4"}},
    {"rule_packed",
     {.tensor = "cu_seqlens", .rename = "cu_seqlens_padded", .cut_first_dimension = true},
     {"'cu_seqlens_padded'", "expected 5 elements", "got 6"}},
    {"layer_qwen3_5_batch2",
     {.tensor = "param.A_log", .rename = "cu_seqlens_padded"},
     {"'cu_seqlens_padded'", "a batch of 1"}},
};

static void test_changed_dumps(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof changed_cases / sizeof changed_cases[0]; i++) {
        const changed_case_t *const c = &changed_cases[i];
        const char *parts[MAX_PARTS + 2] = {"gdncp-run: ", NULL};

        memcpy(&parts[1], c->parts, sizeof c->parts);
        check_dump(c->parts[0], run_write_changed(c->golden, &c->change), parts);
    }
}

/* A change that changes nothing passes: the cases above fail for what they change. */
static void test_unchanged_dump(void **state)
{
    run_ended_t ended =
        run_tool((const char *const[]){run_write_changed("rule_basic", &(run_change_t){0}), NULL});

    (void)state;
    assert_int_equal(ended.status, 0);
    run_release(&ended);
    run_remove_written();
}

static void test_tokens_of_a_padded_pack(void **state)
{
    run_ended_t ended = run_tool(
        (const char *const[]){run_write_padded("rule_packed", 300), "--tokens", "100", NULL});

    (void)state;
    assert_int_not_equal(ended.status, 0);
    assert_non_null(strstr(ended.err, "--tokens: "));
    assert_non_null(strstr(ended.err, "padded pack, got 100"));
    run_release(&ended);
    run_remove_written();
}

static void test_damaged_files(void **state)
{
    static const char *const parts[] = {"gdncp-run: ", "gdncp_test_run_", NULL};

    (void)state;
    check_dump("empty", run_write_bytes("rule_basic", 0, NULL), parts);
    check_dump("half a length", run_write_bytes("rule_basic", 4, NULL), parts);
    check_dump("half a header", run_write_bytes("rule_basic", 300, NULL), parts);
    check_dump("half a tensor", run_write_bytes("layer_qwen3_next", -100, NULL), parts);
    check_dump("a huge header",
               run_write_bytes("rule_basic", 5000, "\xff\xff\xff\xff\xff\xff\xff\x7f"), parts);
    check_dump("an empty header", run_write_bytes("rule_basic", 5000, "\0\0\0\0\0\0\0\0"), parts);
    check_dump("no file", "/nonexistent/dump.safetensors",
               (const char *const[]){"/nonexistent/dump.safetensors", NULL});
    check_dump("a folder", "/tmp", (const char *const[]){"/tmp", NULL});
}

typedef struct option_case {
    const char *arguments[7]; /* FILE stands for a good dump */
    const char *parts[MAX_PARTS];
} option_case_t;

static const option_case_t option_cases[] = {
    {{NULL}, {"FILE", "--help"}},
    {{"FILE", "FILE"}, {"FILE", "got 2", "--help"}},
    {{"FILE", "--ranks", "0"}, {"--ranks", "1..64", "'0'", "--help"}},
    {{"FILE", "--ranks", "65"}, {"--ranks", "'65'"}},
    {{"FILE", "--ranks", "two"}, {"--ranks", "'two'"}},
    {{"FILE", "--ranks"}, {"--ranks", "needs a value"}},
    {{"FILE", "--layout", "zigzag"}, {"--layout", "dual_chunk_swap", "'zigzag'"}},
    {{"FILE", "--layout", "from_positions"}, {"--layout", "'from_positions'"}},
    {{"FILE", "--strategy", "gather"}, {"--strategy", "states", "'gather'"}},
    {{"FILE", "--strategy", "states,states"}, {"--strategy", "'states,states'"}},
    {{"FILE", "--strategy", "states,"}, {"--strategy", "'states,'"}},
    {{"FILE", "--strategy", ""}, {"--strategy"}},
    {{"FILE", "--dtype", "f16"}, {"--dtype", "f32 or bf16", "'f16'"}},
    {{"FILE", "--rule-dtype", "f16"}, {"--rule-dtype", "f32 or bf16", "'f16'"}},
    {{"FILE", "--rule-dtype", "bf16"}, {"--rule-dtype", "f32 where --dtype is f32"}},
    {{"FILE", "--device", "gpu"}, {"--device", "cpu, cuda or emulated", "'gpu'"}},
    {{"FILE", "--tokens", "0"}, {"--tokens", "'0'"}},
    {{"FILE", "--tokens", "99999999999999999999"}, {"--tokens", "99999999999999999999"}},
    {{"FILE", "--iterations", "0"}, {"--iterations", "'0'"}},
    {{"FILE", "--transport", "tcp"}, {"--transport", "ucx, threads or nccl", "'tcp'"}},
    {{"FILE", "--transport", "nccl"}, {"--transport", "--device cpu", "got nccl"}},
    {{"FILE", "--frobnicate"}, {"--frobnicate", "--help"}},
    {{"FILE", "-x"}, {"'-x'"}},
    {{"FILE", "--json=1"}, {"--json=1"}},
    {{"FILE", "--trace", "/nonexistent/trace.json"}, {"--trace", "/nonexistent/trace.json"}},
    /* A sequence of 192 tokens. */
    {{"FILE", "--ranks", "5"}, {"cu_seqlens", "multiple", "192"}},
    {{"FILE", "--ranks", "8", "--tokens", "4", "--layout", "contiguous"}, {"num_ranks", "8", "4"}},
};

static void test_options(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof option_cases / sizeof option_cases[0]; i++) {
        const option_case_t *const c = &option_cases[i];
        const char *arguments[8] = {NULL};
        const char *parts[MAX_PARTS + 2] = {"gdncp-run: ", NULL};

        for (int a = 0; a < 7 && c->arguments[a] != NULL; a++) {
            const bool is_file = strcmp(c->arguments[a], "FILE") == 0;
            arguments[a] = is_file ? run_golden("rule_basic") : c->arguments[a];
        }
        memcpy(&parts[1], c->parts, sizeof c->parts);
        run_ended_t ended = run_tool(arguments);
        run_check_error(&ended, c->parts[0], parts);
        /* One line. */
        assert_ptr_equal(strchr(ended.err, '\n'), ended.err + strlen(ended.err) - 1);
        run_release(&ended);
    }
}

/* With --json a failure is an object too. */
static void test_json_failure(void **state)
{
    const char *const arguments[] = {"/nonexistent/dump", "--json", "--ranks", "4", NULL};
    run_ended_t ended = run_tool(arguments);
    json_t *const object = run_json(&ended, "a failure");

    (void)state;
    assert_int_equal(ended.status, 1);
    assert_true(json_is_false(json_object_get(object, "ok")));
    assert_int_equal(json_integer_value(json_object_get(object, "ranks")), 4);
    assert_int_equal(json_array_size(json_object_get(object, "results")), 0);
    assert_non_null(
        strstr(json_string_value(json_object_get(object, "error")), "/nonexistent/dump"));
    assert_non_null(strstr(ended.err, "/nonexistent/dump"));
    json_decref(object);
    run_release(&ended);
}

/* A dump that expects something else: the tool says FAIL, and which result it is. */
static void test_wrong_expectation(void **state)
{
    const run_change_t change = {.tensor = "grad.norm.weight", .index = 3, .f32 = 9.0f};
    const char *const arguments[] = {run_write_changed("layer_qwen3_next", &change), "--json",
                                     NULL};
    run_ended_t ended = run_tool(arguments);
    json_t *const object = run_json(&ended, "a wrong expectation");
    size_t index;
    json_t *result;

    (void)state;
    assert_int_equal(ended.status, 1);
    assert_true(json_is_false(json_object_get(object, "ok")));
    assert_int_equal(json_array_size(json_object_get(object, "results")), 2);
    json_array_foreach(json_object_get(object, "results"), index, result)
    {
        const char *name;
        json_t *error;

        assert_true(json_is_false(json_object_get(result, "ok")));
        json_object_foreach(json_object_get(result, "errors"), name, error)
        {
            const bool is_wrong = strcmp(name, "grad.norm.weight") == 0;
            assert_int_equal(json_is_false(json_object_get(error, "ok")), is_wrong);
        }
    }
    json_decref(object);
    run_release(&ended);

    ended = run_tool((const char *const[]){arguments[0], NULL});
    assert_int_equal(ended.status, 1);
    assert_non_null(strstr(ended.out, "\nFAIL\n"));
    run_release(&ended);
    run_remove_written();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changed_dumps),
        cmocka_unit_test(test_unchanged_dump),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_json_failure),
        cmocka_unit_test(test_wrong_expectation),
        cmocka_unit_test(test_tokens_of_a_padded_pack),
    };

    return cmocka_run_group_tests(tests, run_set_up, run_tear_down);
}
