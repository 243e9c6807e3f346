/* Many updates, one after the other, are the convolution of the tokens that were accepted. */
#include <math.h>
#include <string.h>

#include "compare.h"
#include "gdncp/ops_decode.h"
#include "random.h"
#include "test_ops_check.h"

#ifdef GDNCP_TEST_ON_DEVICE
enum { NUM_SEQUENCES = 3, CHANNELS = 2, LENGTH = 12 };
#else
enum { NUM_SEQUENCES = 5, CHANNELS = 7, LENGTH = 40 };
#endif

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
    int8_t is_known[NUM_SEQUENCES];        /* a call has seen the sequence */
    int64_t cu_seqlens[NUM_SEQUENCES + 1]; /* of a call */
    int64_t ends[NUM_SEQUENCES + 1];       /* the same of the whole sequences */
} stream_t;

static void start_stream(test_random_t *random, int64_t width, int64_t slot_rows, stream_t *s)
{
    const int64_t tokens[] = {NUM_SEQUENCES * LENGTH, CHANNELS};
    const int64_t weight[] = {CHANNELS, width};
    const int64_t window[] = {NUM_SEQUENCES, width - 1, CHANNELS};
    const int64_t pool[] = {NUM_SEQUENCES, slot_rows, CHANNELS};

    *s = (stream_t){.width = width};
    for (int64_t n = 0; n <= NUM_SEQUENCES; n++) {
        s->ends[n] = n * LENGTH;
    }
    s->whole = (gdncp_conv1d_t){.x = test_tensor(&s->arena, GDNCP_F32, 2, tokens, 0),
                                .weight = test_tensor(&s->arena, GDNCP_F32, 2, weight, 0),
                                .bias = test_tensor(&s->arena, GDNCP_F32, 1, weight, 0),
                                .cu_seqlens = s->ends,
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

/* Where the window is that the next call would read. */
static const float *next_window(const stream_t *s, int64_t sequence)
{
    const int64_t row = s->slots[sequence] * s->states.shape[1] + s->accepted[sequence] - 1;

    return (const float *)s->states.data + row * CHANNELS;
}

/* The whole sequences leave the same window; it holds copies of tokens. */
static void check_whole(stream_t *s)
{
    const int64_t size = (s->width - 1) * CHANNELS;
    const int64_t count = NUM_SEQUENCES * LENGTH * CHANNELS;
    double *const expected = test_doubles(&s->arena, count);

    for (int64_t i = 0; i < count; i++) {
        expected[i] = ((const float *)s->expected.data)[i];
    }
    assert_rms_ratio("y", s->y, expected, count, GDNCP_TOLERANCE_F32);
    for (int64_t n = 0; n < NUM_SEQUENCES; n++) {
        assert_memory_equal(next_window(s, n), (const float *)s->expected_window.data + n * size,
                            (size_t)size * sizeof(float));
    }
}

static void run_plain(stream_t *s, test_random_t *random, int64_t most)
{
    int64_t good[NUM_SEQUENCES];

    while (plan_call(s, random, false, most, good)) {
        run_call(s, false, good);
    }
}

static void plain_calls_are_the_whole_convolution(void **state)
{
    test_random_t random = test_random_start(__func__, 1);

    (void)state;
    for (int64_t width = 1; width <= 8; width += test_size(1, 3)) {
        stream_t s;

        start_stream(&random, width, width - 1, &s);
        run_plain(&s, &random, 1 + width % 4);
        check_whole(&s);
        test_arena_free(&s.arena);
    }
}

/* The same bits as one token at a time gives, all of them good. Prompts may come in a plain call.
 */
static void rejected_tokens_leave_no_trace(void **state)
{
    test_random_t random = test_random_start(__func__, 2);

    (void)state;
    for (int64_t round = 0; round < test_size(40, 8); round++) {
        const int64_t width = 1 + round % 8;
        const int64_t most = 1 + round * 5 / test_size(40, 8);
        test_random_t same = random;
        int64_t good[NUM_SEQUENCES];
        stream_t certain;
        stream_t guessed;

        start_stream(&random, width, width - 1, &certain);
        start_stream(&same, width, width - 1 + most - 1, &guessed);
        run_plain(&certain, &random, 1);
        if (round % 3 == 0 && plan_call(&guessed, &random, false, 10, good)) {
            run_call(&guessed, false, good);
        }
        while (plan_call(&guessed, &random, true, most, good)) {
            run_call(&guessed, true, good);
        }
        assert_memory_equal(guessed.y, certain.y,
                            (size_t)(NUM_SEQUENCES * LENGTH * CHANNELS) * sizeof(float));
        for (int64_t n = 0; n < NUM_SEQUENCES; n++) {
            assert_memory_equal(next_window(&guessed, n), next_window(&certain, n),
                                (size_t)((width - 1) * CHANNELS) * sizeof(float));
        }
        test_arena_free(&certain.arena);
        test_arena_free(&guessed.arena);
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
