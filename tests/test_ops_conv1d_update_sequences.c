/* Many updates, one after the other, are the convolution of the tokens that were accepted. */
#include <math.h>
#include <string.h>

#include "gdncp/ops_decode.h"
#include "random.h"
#include "test_ops_check.h"

enum { NUM_SEQUENCES = 5, CHANNELS = 7, LENGTH = 40 };

/* All tokens of all sequences, and how far calls have come. */
typedef struct stream {
    test_arena_t arena;
    int64_t width;
    gdncp_conv1d_t whole; /* the convolution of all tokens at once */
    gdncp_tensor_t expected, expected_window;
    gdncp_tensor_t states;
    float *y; /* [N, LENGTH, C] of accepted tokens */
    int64_t slots[NUM_SEQUENCES];
    int64_t accepted[NUM_SEQUENCES];
    int64_t done[NUM_SEQUENCES];
    int8_t is_known[NUM_SEQUENCES]; /* a call has seen the sequence */
    int64_t cu_seqlens[NUM_SEQUENCES + 1];
} stream_t;

static void start_stream(test_random_t *random, int64_t width, int64_t slot_rows, stream_t *s)
{
    static const int64_t cu_seqlens[] = {0, LENGTH, 2 * LENGTH, 3 * LENGTH, 4 * LENGTH, 5 * LENGTH};
    const int64_t tokens[] = {NUM_SEQUENCES * LENGTH, CHANNELS};
    const int64_t weight[] = {CHANNELS, width};
    const int64_t window[] = {NUM_SEQUENCES, width - 1, CHANNELS};
    const int64_t pool[] = {NUM_SEQUENCES, slot_rows, CHANNELS};

    *s = (stream_t){.width = width};
    s->whole = (gdncp_conv1d_t){.x = test_tensor(&s->arena, GDNCP_F32, 2, tokens, 0),
                                .weight = test_tensor(&s->arena, GDNCP_F32, 2, weight, 0),
                                .bias = test_tensor(&s->arena, GDNCP_F32, 1, weight, 0),
                                .cu_seqlens = cu_seqlens,
                                .num_sequences = NUM_SEQUENCES,
                                .activation = GDNCP_ACTIVATION_SILU};
    test_tensor_fill(&s->arena, random, 1.0, 0.0, &s->whole.x);
    test_tensor_fill(&s->arena, random, 1.0, 0.0, &s->whole.weight);
    test_tensor_fill(&s->arena, random, 1.0, 0.0, &s->whole.bias);
    s->expected = test_tensor(&s->arena, GDNCP_F32, 2, tokens, 0);
    s->expected_window = test_tensor(&s->arena, GDNCP_F32, 3, window, 0);
    assert_int_equal(gdncp_conv1d_forward(&s->whole, &s->expected, &s->expected_window, NULL),
                     GDNCP_OK);
    s->states = test_tensor(&s->arena, GDNCP_F32, 3, pool, 0);
    s->y = test_floats(&s->arena, NUM_SEQUENCES * LENGTH * CHANNELS);
    for (int64_t n = 0; n < NUM_SEQUENCES; n++) {
        s->slots[n] = NUM_SEQUENCES - 1 - n;
        s->accepted[n] = 1;
    }
}

/* The tokens of a call, those from good[n] on being wrong ones. */
static gdncp_tensor_t next_tokens(const stream_t *s, const int64_t *good, test_arena_t *arena)
{
    const int64_t shape[] = {s->cu_seqlens[NUM_SEQUENCES], CHANNELS};
    const gdncp_tensor_t x = test_tensor(arena, GDNCP_F32, 2, shape, 0);

    for (int64_t n = 0; n < NUM_SEQUENCES; n++) {
        for (int64_t t = s->cu_seqlens[n]; t < s->cu_seqlens[n + 1]; t++) {
            const int64_t position = s->done[n] + t - s->cu_seqlens[n];

            for (int64_t c = 0; c < CHANNELS; c++) {
                ((float *)x.data)[t * CHANNELS + c] =
                    t - s->cu_seqlens[n] < good[n]
                        ? ((float *)s->whole.x.data)[(n * LENGTH + position) * CHANNELS + c]
                        : 1000.0f;
            }
        }
    }
    return x;
}

static void run_call(stream_t *s, bool is_speculative, const int64_t *good)
{
    const int64_t count = NUM_SEQUENCES;
    test_arena_t arena = {0};
    const gdncp_tensor_t x = next_tokens(s, good, &arena);
    const gdncp_tensor_t y = test_tensor(&arena, GDNCP_F32, 2, x.shape, 0);
    const gdncp_conv1d_update_t update = {
        .x = x,
        .weight = s->whole.weight,
        .bias = s->whole.bias,
        .states = s->states,
        .slots = gdncp_tensor_contiguous(s->slots, GDNCP_I64, 1, &count),
        .has_initial_state = gdncp_tensor_contiguous(s->is_known, GDNCP_I8, 1, &count),
        .num_accepted =
            gdncp_tensor_contiguous(is_speculative ? s->accepted : NULL, GDNCP_I64, 1, &count),
        .cu_seqlens = s->cu_seqlens,
        .num_sequences = NUM_SEQUENCES,
        .activation = GDNCP_ACTIVATION_SILU};

    assert_int_equal(gdncp_conv1d_update(&update, &y, NULL), GDNCP_OK);
    for (int64_t n = 0; n < NUM_SEQUENCES; n++) {
        if (s->cu_seqlens[n + 1] > s->cu_seqlens[n]) {
            memcpy(s->y + (n * LENGTH + s->done[n]) * CHANNELS,
                   (float *)y.data + s->cu_seqlens[n] * CHANNELS,
                   (size_t)(good[n] * CHANNELS) * sizeof(float));
            s->accepted[n] = is_speculative ? good[n] : 1;
            s->done[n] += good[n];
            s->is_known[n] = 1;
        }
    }
    test_arena_free(&arena);
}

/* Tokens of the next call, `most` a sequence at most; returns whether any are left. */
static bool plan_call(stream_t *s, test_random_t *random, bool is_speculative, int64_t most,
                      int64_t *good)
{
    bool any = false;

    for (int64_t n = 0; n < NUM_SEQUENCES; n++) {
        const int64_t left = LENGTH - s->done[n];
        const int64_t length = test_random_int(random, 0, left < most ? left : most);

        any = any || left > 0;
        good[n] = is_speculative && length > 0 ? test_random_int(random, 1, length) : length;
        s->cu_seqlens[n + 1] = s->cu_seqlens[n] + length;
    }
    return any;
}

/* The window that the next call would read is the one that the whole sequences leave. */
static void check_stream(const stream_t *s)
{
    const size_t bytes = (size_t)((s->width - 1) * CHANNELS) * sizeof(float);

    assert_memory_equal(s->y, s->expected.data,
                        (size_t)(NUM_SEQUENCES * LENGTH * CHANNELS) * sizeof(float));
    for (int64_t n = 0; n < NUM_SEQUENCES; n++) {
        const int64_t row = s->slots[n] * s->states.shape[1] + s->accepted[n] - 1;

        assert_memory_equal((float *)s->states.data + row * CHANNELS,
                            (float *)s->expected_window.data + n * (s->width - 1) * CHANNELS,
                            bytes);
    }
}

static void plain_calls_are_the_whole_convolution(void **state)
{
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int64_t width = 1; width <= 8; width++) {
        int64_t good[NUM_SEQUENCES];
        stream_t s;

        start_stream(&random, width, width - 1, &s);
        while (plan_call(&s, &random, false, 1 + width % 4, good)) {
            run_call(&s, false, good);
        }
        check_stream(&s);
        test_arena_free(&s.arena);
    }
}

/* What was rejected leaves no trace. The first call may be one of certain tokens only. */
static void rejected_tokens_leave_no_trace(void **state)
{
    test_random_t random = test_random_start(__func__, 2);

    (void)state;
    for (int64_t round = 0; round < 40; round++) {
        const int64_t width = 1 + round % 8;
        const int64_t most = 1 + round / 8;
        int64_t good[NUM_SEQUENCES];
        stream_t s;

        start_stream(&random, width, width - 1 + most - 1, &s);
        if (round % 3 == 0 && plan_call(&s, &random, false, 10, good)) {
            run_call(&s, false, good);
        }
        while (plan_call(&s, &random, true, most, good)) {
            run_call(&s, true, good);
        }
        check_stream(&s);
        test_arena_free(&s.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_calls_are_the_whole_convolution),
        cmocka_unit_test(rejected_tokens_leave_no_trace),
    };

    return cmocka_run_group_tests_name("conv1d_update_sequences", tests, NULL, NULL);
}
