/* The state relay: its bytes for any number of ranks, and its results against a plain walk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gdncp/comm.h"
#include "gdncp/layout.h"
#include "gdncp/memory.h"
#include "random.h"
#include "rank_threads.h"
#include "relay.h"
#include "test_comm_relay_steps.h"

#define MAX_RANKS 8

static gdncp_layout_t *one_sequence(gdncp_layout_kind_t kind, int64_t tokens, int ranks)
{
    const int64_t cu_seqlens[] = {0, tokens};
    gdncp_layout_t *layout = NULL;

    assert_int_equal(gdncp_layout_create(kind, cu_seqlens, 1, ranks, &layout), GDNCP_OK);
    return layout;
}

/* 2H(dk dk + dk dv) + 2H dk dv elements forward, 4H dk dv backward, on every rank. */
static void bytes_do_not_grow_with_ranks(void **state)
{
    const gdncp_layout_kind_t kinds[] = {GDNCP_LAYOUT_DUAL_CHUNK_SWAP, GDNCP_LAYOUT_CONTIGUOUS};
    const int64_t shapes[][2] = {{4, 4}, {3, 6}, {8, 2}}; /* dk, dv */

    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        for (size_t shape = 0; shape < 3; shape++) {
            const int64_t transition = shapes[shape][0] * shapes[shape][0];
            const int64_t states = shapes[shape][0] * shapes[shape][1];

            for (int ranks = 1; ranks <= 40; ranks++) {
                gdncp_layout_t *const layout = one_sequence(kinds[kind], 4 * ranks, ranks);

                for (int64_t heads = 1; heads <= 10; heads++) {
                    const int64_t forward_bound = 4 * 2 * heads * (transition + 2 * states);
                    const int64_t backward_bound = 4 * 4 * heads * states;

                    for (int rank = 0; rank < ranks; rank++) {
                        gdncp_relay_schedule_t *schedule = NULL;

                        assert_int_equal(gdncp_relay_schedule_create(layout, rank,
                                                                     GDNCP_RELAY_OWNERS, heads,
                                                                     transition, states, &schedule),
                                         GDNCP_OK);
                        const int64_t forward = gdncp_relay_bytes_sent(schedule, false);
                        const int64_t backward = gdncp_relay_bytes_sent(schedule, true);

                        if (forward > forward_bound || backward > backward_bound) {
                            fail_msg("%s, %d ranks, %lld heads, rank %d: %lld bytes forward (bound "
                                     "%lld), %lld backward (bound %lld)",
                                     gdncp_layout_kind_name(kinds[kind]), ranks, (long long)heads,
                                     rank, (long long)forward, (long long)forward_bound,
                                     (long long)backward, (long long)backward_bound);
                        }
                        gdncp_relay_schedule_destroy(schedule);
                    }
                }
                gdncp_layout_destroy(layout);
            }
        }
    }
}

/* Of one sequence on N ranks: everyone's summaries to everyone, or one state over each border that
 * two ranks share. */
static void other_forms_send_what_they_say(void **state)
{
    enum { HEADS = 3, TRANSITION = 16, STATE = 8, STATE_BYTES = HEADS * STATE * 4 };

    (void)state;
    for (int ranks = 2; ranks <= 9; ranks++) {
        gdncp_layout_t *const layout = one_sequence(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, 4 * ranks, ranks);

        for (int rank = 0; rank < ranks; rank++) {
            const bool has_ends = rank == 0;
            const bool has_one = rank == ranks - 1; /* segment: its two touch */
            const int64_t middle_bytes = HEADS * TRANSITION * 4 + STATE_BYTES;
            const int64_t borders = has_one || has_ends ? 1 : 2;
            gdncp_relay_schedule_t *schedule = NULL;

            assert_int_equal(gdncp_relay_schedule_create(layout, rank, GDNCP_RELAY_ALL_GATHER,
                                                         HEADS, TRANSITION, STATE, &schedule),
                             GDNCP_OK);
            assert_int_equal(gdncp_relay_bytes_sent(schedule, false),
                             (ranks - 1) *
                                 (has_ends ? STATE_BYTES : (has_one ? 1 : 2) * middle_bytes));
            assert_int_equal(gdncp_relay_bytes_sent(schedule, true),
                             (ranks - 1) * borders * STATE_BYTES);
            gdncp_relay_schedule_destroy(schedule);
            assert_int_equal(gdncp_relay_schedule_create(layout, rank, GDNCP_RELAY_CHAIN, HEADS,
                                                         TRANSITION, STATE, &schedule),
                             GDNCP_OK);
            assert_int_equal(gdncp_relay_bytes_sent(schedule, false), borders * STATE_BYTES);
            assert_int_equal(gdncp_relay_bytes_sent(schedule, true), borders * STATE_BYTES);
            gdncp_relay_schedule_destroy(schedule);
        }
        gdncp_layout_destroy(layout);
    }
}

static void forms_have_names(void **state)
{
    gdncp_relay_form_t form = GDNCP_RELAY_OWNERS;

    (void)state;
    for (int i = GDNCP_RELAY_OWNERS; i <= GDNCP_RELAY_CHAIN; i++) {
        assert_int_equal(
            gdncp_relay_form_from_name(gdncp_relay_form_name((gdncp_relay_form_t)i), &form),
            GDNCP_OK);
        assert_int_equal(form, i);
    }
    assert_string_equal(gdncp_relay_form_name((gdncp_relay_form_t)3), "?");
    assert_int_equal(gdncp_relay_form_from_name("ring", &form), GDNCP_ERR_INVALID_ARGUMENT);
    assert_string_equal(gdncp_last_error(),
                        "form: expected owners, all_gather or chain, got \"ring\"");
    assert_int_equal(gdncp_relay_form_from_name(NULL, &form), GDNCP_ERR_INVALID_ARGUMENT);
    assert_string_equal(gdncp_last_error(), "form: expected owners, all_gather or chain, got NULL");
    assert_int_equal(form, GDNCP_RELAY_CHAIN);
}

static void one_rank_moves_nothing(void **state)
{
    gdncp_layout_t *const layout = one_sequence(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, 8, 1);
    gdncp_relay_schedule_t *schedule = NULL;

    (void)state;
    for (int form = GDNCP_RELAY_OWNERS; form <= GDNCP_RELAY_CHAIN; form++) {
        assert_int_equal(
            gdncp_relay_schedule_create(layout, 0, (gdncp_relay_form_t)form, 3, 4, 4, &schedule),
            GDNCP_OK);
        assert_int_equal(gdncp_relay_bytes_sent(schedule, false), 0);
        assert_int_equal(gdncp_relay_bytes_sent(schedule, true), 0);
        assert_int_equal(schedule->num_slots, 0);
        gdncp_relay_schedule_destroy(schedule);
    }
    gdncp_layout_destroy(layout);
}

/* What all ranks send is what all ranks expect, pair by pair. */
static void every_message_has_a_receiver(void **state)
{
    test_random_t random = test_random_start("every_message_has_a_receiver", 11);

    (void)state;
    for (int round = 0; round < 60; round++) {
        const int ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const int64_t heads = test_random_int(&random, 1, 5);
        const gdncp_relay_form_t form = (gdncp_relay_form_t)(round % 3);
        int64_t cu_seqlens[4] = {0};
        gdncp_layout_t *layout = NULL;
        int64_t sent[MAX_RANKS][MAX_RANKS][4] = {{{0}}};
        int64_t expected[MAX_RANKS][MAX_RANKS][4] = {{{0}}};
        int64_t handed[MAX_RANKS][MAX_RANKS][2] = {{{0}}};
        int64_t awaited[MAX_RANKS][MAX_RANKS][2] = {{{0}}};

        for (int i = 0; i < 3; i++) {
            cu_seqlens[i + 1] = cu_seqlens[i] + test_random_int(&random, i == 0 ? 8 : 0, 40);
        }
        assert_int_equal(
            gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP_FLAT, cu_seqlens, 3, ranks, &layout),
            GDNCP_OK);
        for (int rank = 0; rank < ranks; rank++) {
            gdncp_relay_schedule_t *schedule = NULL;

            assert_int_equal(
                gdncp_relay_schedule_create(layout, rank, form, heads, 4, 2, &schedule), GDNCP_OK);
            const gdncp_plan_t *const plans[] = {
                schedule->forward.gather, schedule->forward.scatter, schedule->backward.gather,
                schedule->backward.scatter};

            for (int p = 0; p < 4; p++) {
                int64_t count;
                const gdncp_message_t *const messages = gdncp_plan_messages(plans[p], &count);

                for (int64_t i = 0; i < count; i++) {
                    sent[rank][messages[i].peer][p] = messages[i].send_bytes;
                    expected[messages[i].peer][rank][p] = messages[i].recv_bytes;
                }
            }
            for (int way = 0; way < 2; way++) {
                const gdncp_relay_walk_t *const walk =
                    way == 0 ? &schedule->forward : &schedule->backward;

                for (int64_t i = 0; i < walk->num_chains; i++) {
                    const gdncp_relay_chain_t *const chain = &walk->chains[i];

                    if (chain->send_to >= 0) {
                        handed[rank][chain->send_to][way]++;
                    }
                    if (chain->receive_from >= 0) {
                        awaited[chain->receive_from][rank][way]++;
                    }
                }
            }
            gdncp_relay_schedule_destroy(schedule);
        }
        assert_memory_equal(sent, expected, sizeof sent);
        assert_memory_equal(handed, awaited, sizeof handed);
        gdncp_layout_destroy(layout);
    }
}

/* M is 2 x 2, a state 2 x 1; small integers, so that float32 is exact in any order. */
static gdncp_status_t combine_2x2(void *context, const float *transition, const float *contribution,
                                  const float *in, bool transposed, float *out)
{
    (void)context;
    for (int i = 0; i < 2; i++) {
        out[i] = contribution[i];
        for (int j = 0; transition != NULL && j < 2; j++) {
            out[i] += transition[transposed ? 2 * j + i : 2 * i + j] * in[j];
        }
    }
    return GDNCP_OK;
}

typedef struct case_data {
    gdncp_layout_t *layout;
    gdncp_relay_form_t form;
    int64_t heads;
    float *transitions;   /* [all segments, heads, 4] */
    float *contributions; /* [all segments, heads, 2] U, and the state at the end of first ones */
    float *gradients;     /* [all segments, heads, 2] D */
    float *states;        /* [all segments, heads, 2] expected state at the start */
    float *adjoints;      /* [all segments, heads, 2] expected gradient at the end */
} case_data_t;

static float *random_integers(test_random_t *random, int64_t count)
{
    float *const values = malloc((size_t)(count + 1) * sizeof *values);

    for (int64_t i = 0; i < count; i++) {
        values[i] = (float)test_random_int(random, -1, 1);
    }
    return values;
}

static void walk_plainly(case_data_t *data)
{
    const int64_t sequences = gdncp_layout_num_sequences(data->layout);

    for (int64_t sequence = 0; sequence < sequences; sequence++) {
        int64_t length;
        const int64_t *const chain = gdncp_layout_sequence_chain(data->layout, sequence, &length);

        for (int64_t head = 0; head < data->heads; head++) {
            for (int64_t c = 1; c < length; c++) {
                const int64_t before = chain[c - 1] * data->heads + head;

                combine_2x2(NULL, c > 1 ? data->transitions + 4 * before : NULL,
                            data->contributions + 2 * before, data->states + 2 * before, false,
                            data->states + 2 * (chain[c] * data->heads + head));
            }
            for (int64_t c = length - 2; c >= 0; c--) {
                const int64_t after = chain[c + 1] * data->heads + head;

                combine_2x2(NULL, c < length - 2 ? data->transitions + 4 * after : NULL,
                            data->gradients + 2 * after, data->adjoints + 2 * after, true,
                            data->adjoints + 2 * (chain[c] * data->heads + head));
            }
        }
    }
}

static float *rows_of(const case_data_t *data, const float *all, int64_t first,
                      const int64_t *segments, int64_t count, int64_t width, float *out)
{
    for (int64_t i = 0; i < count; i++) {
        memcpy(out, all + (first + segments[i]) * data->heads * width,
               (size_t)(data->heads * width) * sizeof *out);
        out += data->heads * width;
    }
    return out;
}

/* Whether one of the rank's segments that are listed is padding. */
static bool lists_padding(const case_data_t *data, int64_t first, const int64_t *list,
                          int64_t count)
{
    bool found = false;

    for (int64_t i = 0; i < count; i++) {
        found |= gdncp_layout_segments(data->layout)[first + list[i]].is_padding;
    }
    return found;
}

static const char *check_rank(const case_data_t *data, gdncp_comm_t *comm)
{
    const int rank = gdncp_comm_rank(comm);
    gdncp_relay_schedule_t *schedule = NULL;
    gdncp_relay_t *relay = NULL;
    gdncp_comm_counters_t counters;
    relay_steps_t steps = {.step = combine_2x2};
    int64_t count;
    const int64_t first = gdncp_layout_rank_segments(data->layout, rank, &count) -
                          gdncp_layout_segments(data->layout);
    const size_t row_bytes = (size_t)(count * data->heads * 2) * sizeof(float);

    if (gdncp_relay_schedule_create(data->layout, rank, data->form, data->heads, 4, 2, &schedule) ||
        gdncp_relay_create(comm, schedule, GDNCP_DEVICE_CPU, NULL, relay_steps_combine, &steps,
                           &relay)) {
        return gdncp_last_error();
    }
    steps.schedule = schedule;
    float *const outgoing = malloc((size_t)(gdncp_relay_outgoing_elements(schedule, false) +
                                            gdncp_relay_outgoing_elements(schedule, true) + 1) *
                                   sizeof(float));
    float *const kept = malloc((size_t)(gdncp_relay_kept_elements(schedule) + 1) * sizeof(float));
    float *const incoming = malloc(row_bytes + 1);
    const char *problem = NULL;

    if (lists_padding(data, first, schedule->forward_segments, schedule->num_forward) ||
        lists_padding(data, first, schedule->backward_segments, schedule->num_backward)) {
        problem = "states of padding are wanted";
    }
    for (int repeat = 0; repeat < 3 && problem == NULL; repeat++) {
        float *const end = rows_of(data, data->contributions, first, schedule->forward_segments,
                                   schedule->num_forward, 2, outgoing);

        rows_of(data, data->transitions, first, schedule->forward_segments, schedule->num_middle, 4,
                end);
        memset(incoming, 0xff, row_bytes);
        gdncp_comm_reset_counters(comm);
        if (gdncp_relay_forward(relay, outgoing, kept, incoming)) {
            problem = gdncp_last_error();
        } else if (memcmp(incoming, data->states + first * data->heads * 2, row_bytes) != 0) {
            problem = "wrong states";
        }
        gdncp_comm_counters(comm, &counters);
        if (counters.bytes_sent != gdncp_relay_bytes_sent(schedule, false)) {
            problem = "wrong bytes forward";
        }
        rows_of(data, data->gradients, first, schedule->backward_segments, schedule->num_backward,
                2, outgoing);
        memset(incoming, 0xff, row_bytes);
        gdncp_comm_reset_counters(comm);
        if (problem == NULL && gdncp_relay_backward(relay, outgoing, kept, incoming)) {
            problem = gdncp_last_error();
        } else if (problem == NULL &&
                   memcmp(incoming, data->adjoints + first * data->heads * 2, row_bytes) != 0) {
            problem = "wrong gradients";
        }
        gdncp_comm_counters(comm, &counters);
        if (counters.bytes_sent != gdncp_relay_bytes_sent(schedule, true)) {
            problem = "wrong bytes backward";
        }
        if (steps.num_runs > (repeat + 1) * (relay_steps_most_runs(&schedule->forward) +
                                             relay_steps_most_runs(&schedule->backward))) {
            problem = "chains that could be walked at once were not";
        }
    }
    free(outgoing);
    free(kept);
    free(incoming);
    gdncp_relay_destroy(relay);
    gdncp_relay_schedule_destroy(schedule);
    return problem;
}

static void run_rank(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const char *const found = check_rank(context, comm);

    if (found != NULL) {
        snprintf(problem, size, "%s", found);
    }
}

static void relay_equals_a_plain_walk(void **state)
{
    test_random_t random = test_random_start("relay_equals_a_plain_walk", 12);

    (void)state;
    for (int round = 0; round < 60; round++) {
        const int ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const gdncp_layout_kind_t kind = (gdncp_layout_kind_t)test_random_int(&random, 0, 3);
        const int64_t multiple = kind == GDNCP_LAYOUT_DUAL_CHUNK_SWAP ? 2 * ranks : 1;
        case_data_t data = {.heads = test_random_int(&random, 1, 6)};
        int64_t cu_seqlens[5] = {0};
        int64_t slots[5] = {0};

        for (int i = 0; i < 4; i++) {
            const int64_t slot = multiple * test_random_int(&random, i == 0 ? MAX_RANKS : 0, 20);
            const int64_t length = round % 2 == 0 ? slot : test_random_int(&random, 0, slot);

            slots[i + 1] = slots[i] + slot;
            cu_seqlens[i + 1] = cu_seqlens[i] + length;
        }
        assert_int_equal(
            gdncp_layout_create_padded(kind, cu_seqlens, slots, 4, ranks, &data.layout), GDNCP_OK);
        const int64_t rows = gdncp_layout_num_segments(data.layout) * data.heads;

        data.transitions = random_integers(&random, 4 * rows);
        data.contributions = random_integers(&random, 2 * rows);
        data.gradients = random_integers(&random, 2 * rows);
        data.states = calloc((size_t)rows, 2 * sizeof(float));
        data.adjoints = calloc((size_t)rows, 2 * sizeof(float));
        walk_plainly(&data);
        for (int form = GDNCP_RELAY_OWNERS; form <= GDNCP_RELAY_CHAIN; form++) {
            data.form = (gdncp_relay_form_t)form;
            test_run_ranks(gdncp_relay_form_name(data.form), ranks, run_rank, &data);
        }
        free(data.transitions);
        free(data.contributions);
        free(data.gradients);
        free(data.states);
        free(data.adjoints);
        gdncp_layout_destroy(data.layout);
    }
}

/* What a rank sends for one layer of Qwen3.5-397B, forward and backward, halo included. */
static int64_t layer_bytes_sent(const gdncp_layout_t *layout, int rank)
{
    enum { HEADS = 64, DIM = 128, CHANNELS = 2 * 16 * DIM + HEADS * DIM, HALO = 3 };
    gdncp_relay_schedule_t *schedule = NULL;
    gdncp_plan_t *halo = NULL;
    gdncp_plan_t *halo_back = NULL;

    assert_int_equal(gdncp_relay_schedule_create(layout, rank, GDNCP_RELAY_OWNERS, HEADS, DIM * DIM,
                                                 DIM * DIM, &schedule),
                     GDNCP_OK);
    assert_int_equal(
        gdncp_plan_conv_halo(layout, rank, GDNCP_BF16, CHANNELS, CHANNELS, HALO, &halo), GDNCP_OK);
    assert_int_equal(gdncp_plan_transpose(halo, GDNCP_PLAN_ADD, &halo_back), GDNCP_OK);
    const int64_t bytes = gdncp_relay_bytes_sent(schedule, false) +
                          gdncp_relay_bytes_sent(schedule, true) + gdncp_plan_bytes_sent(halo) +
                          gdncp_plan_bytes_sent(halo_back);

    gdncp_plan_destroy(halo);
    gdncp_plan_destroy(halo_back);
    gdncp_relay_schedule_destroy(schedule);
    return bytes;
}

/* The figures of README.md, from the plans themselves. */
static void a_large_model_on_many_ranks(void **state)
{
    const struct {
        int64_t tokens;
        int ranks;
        int step; /* every how many ranks are looked at */
        int64_t megabytes;
    } cases[] = {{1 << 18, 8, 1, 35}, {1 << 20, 64, 1, 41}, {1 << 20, 1024, 31, 42}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gdncp_layout_t *const layout =
            one_sequence(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cases[i].tokens, cases[i].ranks);
        int64_t most = 0;

        for (int rank = 0; rank < cases[i].ranks; rank += cases[i].step) {
            const int64_t bytes = layer_bytes_sent(layout, rank);

            most = bytes > most ? bytes : most;
        }
        assert_int_equal((most + 500000) / 1000000, cases[i].megabytes);
        gdncp_layout_destroy(layout);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_do_not_grow_with_ranks),
        cmocka_unit_test(a_large_model_on_many_ranks),
        cmocka_unit_test(other_forms_send_what_they_say),
        cmocka_unit_test(forms_have_names),
        cmocka_unit_test(one_rank_moves_nothing),
        cmocka_unit_test(every_message_has_a_receiver),
        cmocka_unit_test(relay_equals_a_plain_walk),
    };

    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
