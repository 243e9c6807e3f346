/* What a run reports: the JSON, its numbers, the table, the timeline. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "gdncp/safetensors.h"
#include "run_tool.h"
#include "tolerances.h"

static json_t *run_to_json(const char *const *arguments, int status)
{
    run_ended_t ended = run_tool(arguments);
    json_t *const object = run_json(&ended, arguments[0]);

    if (ended.status != status) {
        fail_msg("%s: expected status %d, got %d\n%s%s", arguments[0], status, ended.status,
                 ended.out, ended.err);
    }
    run_release(&ended);
    return object;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *const text = json_string_value(json_object_get(object, key));

    if (text == NULL) {
        fail_msg("%s: expected text", key);
    }
    return text;
}

static void check_array(const json_t *result, const char *key, size_t ranks)
{
    const json_t *const array = json_object_get(result, key);

    assert_int_equal(json_array_size(array), ranks);
    for (size_t r = 0; r < ranks; r++) {
        assert_true(json_is_integer(json_array_get(array, r)));
        assert_true(json_integer_value(json_array_get(array, r)) >= 0);
    }
}

static void check_error(const json_t *errors, const char *name, double tolerance)
{
    const json_t *const error = json_object_get(errors, name);

    if (error == NULL) {
        fail_msg("%s: expected an error of that name", name);
    }
    assert_true(json_is_number(json_object_get(error, "max")));
    assert_true(json_is_number(json_object_get(error, "rms_ratio")));
    assert_true(json_number_value(json_object_get(error, "tolerance")) == tolerance);
    assert_true(json_number_value(json_object_get(error, "rms_ratio")) <= tolerance);
}

typedef struct expected_error {
    const char *name;
    double tolerance;
} expected_error_t;

static void check_results(const json_t *object, size_t ranks, const expected_error_t *expected)
{
    static const char *const strategies[] = {"states", "heads"};
    static const char *const arrays[] = {"bytes_sent_forward", "bytes_sent_backward",
                                         "messages_sent_forward", "messages_sent_backward",
                                         "peak_bytes"};
    const json_t *const results = json_object_get(object, "results");

    assert_int_equal(json_array_size(results), 2);
    for (size_t s = 0; s < 2; s++) {
        const json_t *const result = json_array_get(results, s);
        size_t count = 0;

        assert_string_equal(text_of(result, "strategy"), strategies[s]);
        assert_true(json_is_true(json_object_get(result, "ok")));
        for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
            check_array(result, arrays[i], ranks);
        }
        assert_true(json_integer_value(json_array_get(json_object_get(result, "peak_bytes"), 0)) >
                    1000);
        assert_true(json_number_value(json_object_get(result, "ms_forward")) > 0.0);
        assert_true(json_number_value(json_object_get(result, "ms_backward")) > 0.0);
        for (; expected[count].name != NULL; count++) {
            check_error(json_object_get(result, "errors"), expected[count].name,
                        expected[count].tolerance);
            check_error(json_object_get(result, "errors_one_rank"), expected[count].name,
                        expected[count].tolerance);
        }
        assert_int_equal(json_object_size(json_object_get(result, "errors")), count);
    }
}

static void test_layer_json(void **state)
{
    static const expected_error_t expected[] = {
        {"output", GDNCP_TOLERANCE_F32},
        {"grad.hidden_states", GDNCP_TOLERANCE_F32},
        {"grad.in_proj_qkvz.weight", GDNCP_TOLERANCE_F32},
        {"grad.in_proj_ba.weight", GDNCP_TOLERANCE_F32},
        {"grad.conv1d.weight", GDNCP_TOLERANCE_F32},
        {"grad.A_log", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.dt_bias", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.norm.weight", GDNCP_TOLERANCE_F32},
        {"grad.out_proj.weight", GDNCP_TOLERANCE_F32},
        {NULL, 0},
    };
    const char *const arguments[] = {
        run_golden("layer_qwen3_next"), "--json", "--ranks", "4", "--iterations", "3", NULL};
    json_t *const object = run_to_json(arguments, 0);

    (void)state;
    assert_string_equal(text_of(object, "file"), arguments[0]);
    assert_int_equal(json_integer_value(json_object_get(object, "ranks")), 4);
    assert_string_equal(text_of(object, "layout"), "dual_chunk_swap");
    assert_string_equal(text_of(object, "dtype"), "f32");
    assert_true(json_is_true(json_object_get(object, "ok")));
    assert_int_equal(json_integer_value(json_object_get(object, "tokens")), 384);
    assert_true(strlen(text_of(object, "lanes")) > 0);
    check_results(object, 4, expected);
    json_decref(object);
}

static void test_rule_json(void **state)
{
    /* Nearly parallel keys: the tool measures that in the inputs. */
    static const expected_error_t expected[] = {
        {"output", GDNCP_TOLERANCE_F32_CANCELLING},
        {"final_state", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.q", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.k", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.v", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.g", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.beta", GDNCP_TOLERANCE_F32_CANCELLING},
        {"grad.initial_state", GDNCP_TOLERANCE_F32_CANCELLING},
        {NULL, 0},
    };
    const char *const arguments[] = {run_golden("rule_correlated_keys"), "--json", "--transport",
                                     "threads", NULL};
    json_t *const object = run_to_json(arguments, 0);

    (void)state;
    assert_string_equal(text_of(object, "transport"), "threads");
    check_results(object, 2, expected);
    json_decref(object);
}

/* Only the dumps that need it get the wider tolerance. */
static void test_rule_tolerances(void **state)
{
    static const struct {
        const char *name;
        double tolerance;
    } cases[] = {
        {"rule_basic", GDNCP_TOLERANCE_F32},
        {"rule_correlated_keys", GDNCP_TOLERANCE_F32_CANCELLING},
        {"rule_d60", GDNCP_TOLERANCE_F32},
        {"rule_gva_odd_length", GDNCP_TOLERANCE_F32},
        {"rule_negative_eigenvalues", GDNCP_TOLERANCE_F32},
        {"rule_no_decay_initial_state", GDNCP_TOLERANCE_F32},
        {"rule_packed", GDNCP_TOLERANCE_F32},
        {"rule_strong_decay", GDNCP_TOLERANCE_F32_CANCELLING},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const arguments[] = {
            run_golden(cases[i].name), "--json", "--ranks", "1", "--layout", "contiguous", NULL};
        json_t *const object = run_to_json(arguments, 0);
        const json_t *const errors =
            json_object_get(json_array_get(json_object_get(object, "results"), 0), "errors");

        check_error(errors, "grad.v", cases[i].tolerance);
        check_error(errors, "grad.g", GDNCP_TOLERANCE_F32_CANCELLING);
        json_decref(object);
    }
}

static int64_t metadata_integer(const gdncp_safetensors_t *file, const char *key)
{
    const char *const text = gdncp_safetensors_metadata(file, key);

    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

/* No rank sends more than its two chunks' summaries and states, times the sequences, and the halo.
 */
static void check_states_bytes(const char *name, int64_t sequences, const char *ranks)
{
    const char *const arguments[] = {run_golden(name), "--json", "--strategy", "states",
                                     "--ranks",        ranks,    NULL};
    json_t *const object = run_to_json(arguments, 0);
    const json_t *const result = json_array_get(json_object_get(object, "results"), 0);
    gdncp_safetensors_t *file;

    assert_int_equal(gdncp_safetensors_open(arguments[0], &file), GDNCP_OK);
    const int64_t hv = metadata_integer(file, "num_value_heads");
    const int64_t hk = metadata_integer(file, "num_key_heads");
    const int64_t dk = metadata_integer(file, "key_head_dim");
    const int64_t dv = metadata_integer(file, "value_head_dim");
    const int64_t width = metadata_integer(file, "conv_kernel_dim");
    const int64_t halo =
        width > 0 ? 2 * (width - 1) * (2 * hk * dk + hv * dv) * (int64_t)sizeof(float) : 0;
    const int64_t forward = sequences * (2 * hv * dk * (dk + dv) * 4 + 2 * hv * dk * dv * 4 + halo);
    const int64_t backward = sequences * (4 * hv * dk * dv * 4 + halo);
    const json_t *const sent_forward = json_object_get(result, "bytes_sent_forward");
    const json_t *const sent_backward = json_object_get(result, "bytes_sent_backward");

    for (size_t r = 0; r < json_array_size(sent_forward); r++) {
        const int64_t f = json_integer_value(json_array_get(sent_forward, r));
        const int64_t b = json_integer_value(json_array_get(sent_backward, r));

        if (f > forward || b > backward || f <= 0 || b <= 0) {
            fail_msg("%s on %s ranks, rank %zu: sent %lld and %lld bytes, at most %lld and %lld",
                     name, ranks, r, (long long)f, (long long)b, (long long)forward,
                     (long long)backward);
        }
    }
    gdncp_safetensors_close(file);
    json_decref(object);
}

static void test_states_bytes(void **state)
{
    static const char *const ranks[] = {"2", "4", "8"};

    (void)state;
    for (size_t r = 0; r < sizeof ranks / sizeof ranks[0]; r++) {
        check_states_bytes("layer_qwen3_next", 1, ranks[r]);
        check_states_bytes("layer_qwen3_next_d128", 1, ranks[r]);
        check_states_bytes("layer_olmo_hybrid", 1, ranks[r]);
        check_states_bytes("layer_qwen3_5_batch2", 2, ranks[r]);
        check_states_bytes("layer_qwen3_5_packed", 4, ranks[r]);
        check_states_bytes("rule_basic", 1, ranks[r]);
    }
}

/* With more tokens from the same weights: the states do not send more. */
static void test_tokens(void **state)
{
    static const char *const lengths[] = {"128", "384", "2048"};
    int64_t sent[3];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const char *const arguments[] = {run_golden("layer_qwen3_next"), "--json", "--tokens",
                                         lengths[i], NULL};
        json_t *const object = run_to_json(arguments, 0);
        const json_t *const result = json_array_get(json_object_get(object, "results"), 0);

        assert_int_equal(json_integer_value(json_object_get(object, "tokens")), atoi(lengths[i]));
        assert_string_equal(text_of(object, "reference"), i == 1 ? "dump" : "one rank in f32");
        sent[i] =
            json_integer_value(json_array_get(json_object_get(result, "bytes_sent_forward"), 0));
        json_decref(object);
    }
    assert_int_equal(sent[0], sent[2]);
    assert_int_equal(sent[1], sent[2]);
}

/* Batch rows and documents: rows are repeated each, documents cut or the last one repeated. */
static void test_tokens_of_packs(void **state)
{
    static const struct {
        const char *name;
        const char *tokens;
        int64_t all_tokens;
        int64_t sequences;
    } cases[] = {
        {"layer_qwen3_5_batch2", "256", 512, 2}, {"layer_qwen3_5_batch2", "64", 128, 2},
        {"layer_qwen3_5_packed", "512", 512, 4}, {"layer_qwen3_5_packed", "80", 80, 2},
        {"rule_packed", "400", 400, 5},          {"rule_packed", "50", 50, 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const arguments[] = {run_golden(cases[i].name),
                                         "--json",
                                         "--tokens",
                                         cases[i].tokens,
                                         "--layout",
                                         "contiguous_flat",
                                         "--transport",
                                         "threads",
                                         NULL};
        json_t *const object = run_to_json(arguments, 0);

        assert_int_equal(json_integer_value(json_object_get(object, "tokens")),
                         cases[i].all_tokens);
        assert_int_equal(json_integer_value(json_object_get(object, "sequences")),
                         cases[i].sequences);
        json_decref(object);
    }
}

static void test_bf16(void **state)
{
    static const expected_error_t expected[] = {
        {"output", GDNCP_TOLERANCE_BF16_OUTPUT},
        {"final_state", GDNCP_TOLERANCE_BF16_OUTPUT},
        {"grad.q", GDNCP_TOLERANCE_BF16_GRADIENT},
        {"grad.k", GDNCP_TOLERANCE_BF16_GRADIENT},
        {"grad.v", GDNCP_TOLERANCE_BF16_GRADIENT},
        {"grad.g", GDNCP_TOLERANCE_BF16_GATE_GRADIENT},
        {"grad.beta", GDNCP_TOLERANCE_BF16_GATE_GRADIENT},
        {"grad.initial_state", GDNCP_TOLERANCE_BF16_GRADIENT},
        {NULL, 0},
    };
    const char *const arguments[] = {run_golden("rule_basic"), "--json", "--dtype", "bf16", NULL};
    json_t *const object = run_to_json(arguments, 0);
    const json_t *const errors =
        json_object_get(json_array_get(json_object_get(object, "results"), 0), "errors");

    (void)state;
    assert_string_equal(text_of(object, "dtype"), "bf16");
    assert_string_equal(text_of(object, "reference"), "one rank in f32");
    check_results(object, 2, expected);
    /* It has run in bf16 indeed. */
    assert_true(json_number_value(json_object_get(json_object_get(errors, "output"), "rms_ratio")) >
                1e-4);
    json_decref(object);
}

static void test_one_strategy(void **state)
{
    const char *const arguments[] = {run_golden("rule_basic"), "--json", "--strategy", "heads",
                                     NULL};
    json_t *const object = run_to_json(arguments, 0);
    const json_t *const results = json_object_get(object, "results");

    (void)state;
    assert_int_equal(json_array_size(results), 1);
    assert_string_equal(text_of(json_array_get(results, 0), "strategy"), "heads");
    json_decref(object);
}

static void test_table(void **state)
{
    static const char *const parts[] = {
        "qwen3_next",        "hidden size 64",
        "384 in 1 sequence", "2, dual_chunk_swap, 192 tokens",
        "transport  ucx (",  "strategy states",
        "strategy heads",    "grad.in_proj_qkvz.weight",
        "time of backward",  "peak memory",
        "\nPASS\n",
    };
    const char *const arguments[] = {run_golden("layer_qwen3_next"), NULL};
    run_ended_t ended = run_tool(arguments);

    (void)state;
    assert_int_equal(ended.status, 0);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strstr(ended.out, parts[i]) == NULL) {
            fail_msg("expected '%s' in:\n%s", parts[i], ended.out);
        }
    }
    assert_string_equal(ended.err, "");
    run_release(&ended);
}

/* Every rank is a process of the timeline, with a name and events of the tool's and the library's.
 */
static void check_trace(const char *transport)
{
    static const char *const spans[] = {"states forward", "states backward", "heads forward",
                                        "heads backward"};
    char path[64];
    const char *const arguments[] = {run_golden("layer_qwen3_next"),
                                     "--json",
                                     "--ranks",
                                     "3",
                                     "--trace",
                                     path,
                                     "--iterations",
                                     "2",
                                     "--transport",
                                     transport,
                                     NULL};
    int named[3] = {0};
    int spanned[3][4] = {{0}};
    int inside[3] = {0};
    size_t index;
    json_t *event;

    snprintf(path, sizeof path, "/tmp/gdncp_test_run_trace_%d.json", (int)getpid());
    json_decref(run_to_json(arguments, 0));
    json_t *const trace = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    unlink(path);
    assert_true(json_is_object(trace));
    json_array_foreach(json_object_get(trace, "traceEvents"), index, event)
    {
        const int64_t rank = json_integer_value(json_object_get(event, "pid"));
        const char *const name = text_of(event, "name");

        assert_in_range(rank, 0, 2);
        assert_int_equal(json_integer_value(json_object_get(event, "tid")), rank);
        if (strcmp(text_of(event, "ph"), "M") == 0) {
            assert_string_equal(name, "process_name");
            named[rank]++;
            continue;
        }
        assert_string_equal(text_of(event, "ph"), "X");
        assert_true(json_number_value(json_object_get(event, "dur")) >= 0.0);
        assert_true(json_is_number(json_object_get(event, "ts")));
        inside[rank] += strcmp(text_of(event, "cat"), "gdncp") == 0;
        for (int i = 0; i < 4; i++) {
            spanned[rank][i] += strcmp(name, spans[i]) == 0;
        }
    }
    for (int r = 0; r < 3; r++) {
        assert_int_equal(named[r], 1);
        assert_true(inside[r] > 0);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(spanned[r][i], 3); /* a warm-up and two iterations */
        }
    }
    json_decref(trace);
}

static void test_trace(void **state)
{
    (void)state;
    check_trace("ucx");
    check_trace("threads");
}

static void test_help_and_version(void **state)
{
    static const char *const options[] = {"--ranks",      "--layout", "--strategy", "--dtype",
                                          "--rule-dtype", "--device", "--tokens",   "--iterations",
                                          "--transport",  "--trace",  "--json",     "--help",
                                          "--version"};
    run_ended_t help = run_tool((const char *const[]){"--help", NULL});
    run_ended_t version = run_tool((const char *const[]){"--version", NULL});

    (void)state;
    assert_int_equal(help.status, 0);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        assert_non_null(strstr(help.out, options[i]));
    }
    assert_int_equal(version.status, 0);
    assert_non_null(strstr(version.out, gdncp_version()));
    run_release(&version);
    run_release(&help);
}

static int set_up(void **state)
{
    (void)state;
    run_adopt_orphans();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_json),
        cmocka_unit_test(test_rule_json),
        cmocka_unit_test(test_rule_tolerances),
        cmocka_unit_test(test_states_bytes),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_tokens_of_packs),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_one_strategy),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_help_and_version),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
