#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "deadline.h"
#include "gdncp/status.h"
#include "random.h"
#include "watch.h"

#define MAX_RANKS 34
#define TIMEOUT_MS 20000

/* All ranks of a communicator in one process, which sees no process end: only sockets tell. */
typedef struct fleet {
    int size;
    gdncp_watch_t *watches[MAX_RANKS]; /* NULL: gone */
} fleet_t;

/* As if each rank were on a machine of its own: they meet over TCP. */
static void move_apart(gdncp_watch_address_t *addresses, int size)
{
    for (int rank = 0; rank < size; rank++) {
        addresses[rank].net_namespace = (uint64_t)rank + 1;
        addresses[rank].num_hosts = 1;
        memset(addresses[rank].hosts, 0, sizeof addresses[rank].hosts);
        addresses[rank].hosts[0].family = 4;
        memcpy(addresses[rank].hosts[0].bytes, (uint8_t[]){127, 0, 0, 1}, 4);
    }
}

static void look_all(const fleet_t *fleet)
{
    for (int rank = 0; rank < fleet->size; rank++) {
        if (fleet->watches[rank] != NULL) {
            gdncp_watch_look(fleet->watches[rank], gdncp_now_ms(), true);
        }
    }
}

static void open_fleet(fleet_t *fleet, int size, bool apart, gdncp_watch_address_t *addresses)
{
    *fleet = (fleet_t){.size = size};
    for (int rank = 0; rank < size; rank++) {
        assert_int_equal(gdncp_watch_open(&fleet->watches[rank]), GDNCP_OK);
        addresses[rank] = *gdncp_watch_address(fleet->watches[rank]);
    }
    if (apart) {
        move_apart(addresses, size);
    }
}

static void connect_rank(fleet_t *fleet, int rank, const gdncp_watch_address_t *addresses)
{
    assert_int_equal(gdncp_watch_connect(fleet->watches[rank], rank, fleet->size, addresses,
                                         sizeof *addresses, TIMEOUT_MS),
                     GDNCP_OK);
}

static bool all_settled(const fleet_t *fleet)
{
    for (int rank = 0; rank < fleet->size; rank++) {
        if (fleet->watches[rank] != NULL && !gdncp_watch_is_settled(fleet->watches[rank])) {
            return false;
        }
    }
    return true;
}

static void settle(const fleet_t *fleet)
{
    const int64_t deadline = gdncp_deadline_after(TIMEOUT_MS);

    while (!all_settled(fleet)) {
        assert_true(gdncp_now_ms() < deadline);
        look_all(fleet);
    }
}

static void start_fleet(fleet_t *fleet, int size, bool apart)
{
    gdncp_watch_address_t addresses[MAX_RANKS];

    open_fleet(fleet, size, apart, addresses);
    for (int rank = 0; rank < size; rank++) {
        connect_rank(fleet, rank, addresses);
    }
    settle(fleet);
}

/* Without a good-bye, as a process that dies. */
static void kill_rank(fleet_t *fleet, int rank)
{
    gdncp_watch_destroy(fleet->watches[rank]);
    fleet->watches[rank] = NULL;
}

static void stop_fleet(fleet_t *fleet)
{
    for (int rank = 0; rank < fleet->size; rank++) {
        kill_rank(fleet, rank);
    }
}

static gdncp_status_t verdict(gdncp_watch_t *watch)
{
    return gdncp_watch_verdict(watch, false, 0, INT64_MAX);
}

/* Serve all until each has a verdict; the milliseconds that took. */
static int64_t wait_for_verdicts(const fleet_t *fleet, const char *word)
{
    const int64_t begin = gdncp_now_ms();

    for (int rank = 0; rank < fleet->size; rank++) {
        while (fleet->watches[rank] != NULL && verdict(fleet->watches[rank]) == GDNCP_OK) {
            assert_true(gdncp_now_ms() - begin < 5000);
            look_all(fleet);
        }
        if (fleet->watches[rank] != NULL) {
            assert_int_equal(verdict(fleet->watches[rank]), GDNCP_ERR_PEER_LOST);
            assert_non_null(strstr(gdncp_last_error(), word));
        }
    }
    return gdncp_now_ms() - begin;
}

static void a_death_is_told_to_all(void **state)
{
    static const int sizes[] = {2, 3, 4, 5, 8, 12, 33};
    fleet_t fleet;
    char word[64];
    int64_t longest_ms = 0;

    (void)state;
    for (int i = 0; i < 2 * (int)(sizeof sizes / sizeof sizes[0]); i++) {
        const int size = sizes[i / 2];

        for (int victim = 0; victim<size; victim += size> 12 ? 11 : 1) {
            start_fleet(&fleet, size, i % 2 == 1);
            for (int rank = 0; rank < size; rank++) {
                assert_int_equal(verdict(fleet.watches[rank]), GDNCP_OK);
            }
            kill_rank(&fleet, victim);
            snprintf(word, sizeof word, "rank %d is lost: its connection closed", victim);
            const int64_t took_ms = wait_for_verdicts(&fleet, word);
            longest_ms = took_ms > longest_ms ? took_ms : longest_ms;
            for (int rank = 0; rank < size; rank++) {
                assert_true(rank == victim || gdncp_watch_is_gone(fleet.watches[rank], victim));
                assert_false(rank != victim &&
                             gdncp_watch_is_gone(fleet.watches[rank], (victim + 1) % size));
            }
            stop_fleet(&fleet);
        }
    }
    printf("a death was known everywhere after %lld ms at most\n", (long long)longest_ms);
    assert_true(longest_ms < 1000);
}

static void a_death_is_told_only_after_last_words(void **state)
{
    fleet_t fleet;

    (void)state;
    start_fleet(&fleet, 2, false);
    kill_rank(&fleet, 1);
    wait_for_verdicts(&fleet, "rank 1 is lost");
    const int64_t now_ms = gdncp_now_ms();
    /* What was waited for since just now. */
    assert_int_equal(gdncp_watch_verdict(fleet.watches[0], true, now_ms, now_ms + 19), GDNCP_OK);
    assert_int_equal(gdncp_watch_verdict(fleet.watches[0], false, now_ms, now_ms + 499), GDNCP_OK);
    assert_int_equal(gdncp_watch_verdict(fleet.watches[0], true, now_ms, now_ms + 20),
                     GDNCP_ERR_PEER_LOST);
    assert_int_equal(gdncp_watch_verdict(fleet.watches[0], false, now_ms, now_ms + 500),
                     GDNCP_ERR_PEER_LOST);
    stop_fleet(&fleet);
}

static void leaving_is_no_death(void **state)
{
    enum { SIZE = 7, LEAVER = 3 };
    fleet_t fleet;

    (void)state;
    start_fleet(&fleet, SIZE, false);
    gdncp_watch_leave(fleet.watches[LEAVER], "it was bored");
    kill_rank(&fleet, LEAVER);
    const int64_t deadline = gdncp_deadline_after(5000);
    for (int rank = 0; rank < SIZE; rank++) {
        while (rank != LEAVER && !gdncp_watch_is_gone(fleet.watches[rank], LEAVER)) {
            assert_true(gdncp_now_ms() < deadline);
            look_all(&fleet);
        }
    }
    look_all(&fleet);
    for (int rank = 0; rank < SIZE; rank++) {
        if (rank == LEAVER) {
            continue;
        }
        assert_int_equal(verdict(fleet.watches[rank]), GDNCP_OK);
        assert_int_equal(gdncp_watch_explain(fleet.watches[rank], (LEAVER + 1) % SIZE), GDNCP_OK);
        assert_int_equal(gdncp_watch_explain(fleet.watches[rank], LEAVER), GDNCP_ERR_PEER_LOST);
        assert_non_null(
            strstr(gdncp_last_error(), "rank 3 destroyed its communicator, after: it was bored"));
    }
    stop_fleet(&fleet);
}

static void an_abort_is_told_to_all(void **state)
{
    fleet_t fleet;

    (void)state;
    start_fleet(&fleet, MAX_RANKS, true);
    gdncp_watch_abort(fleet.watches[4], "the sky fell");
    gdncp_watch_abort(fleet.watches[4], "again");
    assert_int_equal(verdict(fleet.watches[4]), GDNCP_ERR_PEER_LOST);
    assert_non_null(strstr(gdncp_last_error(), "aborted by this rank"));
    wait_for_verdicts(&fleet, "aborted");
    for (int rank = 0; rank < MAX_RANKS; rank++) {
        verdict(fleet.watches[rank]);
        assert_true(rank == 4 ||
                    strstr(gdncp_last_error(),
                           "rank 4 aborted the communicator, after: the sky fell") != NULL);
        /* At once: nothing that it sent before is waited for. */
        assert_int_equal(gdncp_watch_verdict(fleet.watches[rank], false, 7, 7),
                         GDNCP_ERR_PEER_LOST);
    }
    stop_fleet(&fleet);
}

/* Before it connected to anybody, and after some had connected to it. */
static void a_death_while_connecting_is_told(void **state)
{
    enum { SIZE = 5 };
    gdncp_watch_address_t addresses[MAX_RANKS];
    fleet_t fleet;
    char word[64];

    (void)state;
    for (int apart = 0; apart < 2; apart++) {
        for (int victim = 0; victim < SIZE; victim++) {
            open_fleet(&fleet, SIZE, apart == 1, addresses);
            for (int rank = 0; rank < SIZE; rank++) {
                if (rank == victim) {
                    kill_rank(&fleet, victim);
                } else {
                    connect_rank(&fleet, rank, addresses);
                    gdncp_watch_look(fleet.watches[rank], gdncp_now_ms(), true);
                }
            }
            snprintf(word, sizeof word, "rank %d is lost", victim);
            wait_for_verdicts(&fleet, word);
            settle(&fleet);
            stop_fleet(&fleet);
        }
    }
}

/* The first address of each rank leads nowhere. */
static void other_addresses_are_tried(void **state)
{
    enum { SIZE = 3 };
    gdncp_watch_address_t addresses[MAX_RANKS];
    fleet_t fleet;

    (void)state;
    open_fleet(&fleet, SIZE, true, addresses);
    for (int rank = 0; rank < SIZE; rank++) {
        addresses[rank].hosts[1] = addresses[rank].hosts[0];
        memcpy(addresses[rank].hosts[0].bytes, (uint8_t[]){255, 255, 255, 254}, 4);
        addresses[rank].num_hosts = 2;
    }
    for (int rank = 0; rank < SIZE; rank++) {
        connect_rank(&fleet, rank, addresses);
    }
    settle(&fleet);
    for (int rank = 0; rank < SIZE; rank++) {
        assert_int_equal(verdict(fleet.watches[rank]), GDNCP_OK);
    }
    stop_fleet(&fleet);
}

/* Strangers are not let in, and keep nobody out. */
static void strangers_are_turned_away(void **state)
{
    gdncp_watch_address_t addresses[MAX_RANKS];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const char noise[64] = "GET / HTTP/1.1";
    int strangers[40];
    fleet_t fleet;

    (void)state;
    open_fleet(&fleet, 3, false, addresses);
    const int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "gdncp-watch-%016llx",
                                (unsigned long long)addresses[1].token);
    for (int i = 0; i < 40; i++) {
        strangers[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(
            connect(strangers[i], (struct sockaddr *)&name,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1) + (socklen_t)length),
            0);
        /* The last ones say nothing at all. */
        assert_true(i >= 30 || send(strangers[i], noise, sizeof noise, MSG_NOSIGNAL) > 0);
    }
    for (int rank = 0; rank < 3; rank++) {
        connect_rank(&fleet, rank, addresses);
    }
    settle(&fleet);
    for (int rank = 0; rank < 3; rank++) {
        assert_int_equal(verdict(fleet.watches[rank]), GDNCP_OK);
    }
    for (int i = 0; i < 40; i++) {
        close(strangers[i]);
    }
    stop_fleet(&fleet);
}

/* One rank that agrees, in a thread. */
typedef struct agreeing {
    pthread_t thread;
    gdncp_watch_t *watch;
    int rank;
    int64_t delay_ms;
    int64_t timeout_ms;
    bool leaves; /* at once, while others may not have agreed yet */
    gdncp_status_t status;
    char sentence[400];
    const bool *lost;
} agreeing_t;

static void *agree_thread(void *context)
{
    agreeing_t *const agreeing = context;
    char record[64];

    nanosleep(&(struct timespec){.tv_sec = agreeing->delay_ms / 1000,
                                 .tv_nsec = agreeing->delay_ms % 1000 * 1000000},
              NULL);
    snprintf(record, sizeof record, "record of rank %d", agreeing->rank);
    agreeing->status = gdncp_watch_agree(agreeing->watch, record, (size_t)(10 + agreeing->rank),
                                         agreeing->timeout_ms, &agreeing->lost);
    snprintf(agreeing->sentence, sizeof agreeing->sentence, "%s", gdncp_last_error());
    if (agreeing->leaves) {
        gdncp_watch_leave(agreeing->watch, "");
    }
    return NULL;
}

static void start_agreeing(agreeing_t *all, const fleet_t *fleet, int64_t timeout_ms,
                           test_random_t *random)
{
    for (int rank = 0; rank < fleet->size; rank++) {
        all[rank] = (agreeing_t){.watch = fleet->watches[rank],
                                 .rank = rank,
                                 .delay_ms = (int64_t)(test_random_u64(random) % 20),
                                 .timeout_ms = timeout_ms,
                                 .leaves = test_random_u64(random) % 2 == 0};
    }
}

/* All that agree have the same set and all records of the others. */
static void check_agreed(const agreeing_t *all, const fleet_t *fleet, const bool *expected)
{
    for (int rank = 0; rank < fleet->size; rank++) {
        if (expected[rank]) {
            continue;
        }
        if (all[rank].status != GDNCP_OK) {
            fail_msg("rank %d: %s", rank, all[rank].sentence);
        }
        assert_memory_equal(all[rank].lost, expected, (size_t)fleet->size * sizeof *expected);
        for (int other = 0; other < fleet->size; other++) {
            size_t bytes = 0;
            char record[64];

            if (!expected[other]) {
                snprintf(record, sizeof record, "record of rank %d", other);
                assert_memory_equal(gdncp_watch_record(fleet->watches[rank], other, &bytes), record,
                                    10);
                assert_int_equal(bytes, 10 + other);
            }
        }
    }
}

static void survivors_agree(void **state)
{
    test_random_t random = test_random_start("watch", 20266);
    agreeing_t all[MAX_RANKS];
    fleet_t fleet;

    (void)state;
    for (int round = 0; round < 40; round++) {
        /* Now and then more than a mesh has, with fewer lost than would part the others. */
        const bool is_large = round % 8 == 7;
        const int size = is_large ? MAX_RANKS : 1 + (int)(test_random_u64(&random) % 9);
        bool lost[MAX_RANKS] = {false};

        start_fleet(&fleet, size, round % 4 == 0);
        start_agreeing(all, &fleet, TIMEOUT_MS, &random);
        for (int rank = 0; rank + 1 < size; rank++) {
            lost[rank] = is_large ? rank % 9 == round % 9 : test_random_u64(&random) % 4 == 0;
            if (lost[rank] && rank % 2 == 0) {
                gdncp_watch_leave(fleet.watches[rank], "");
            }
            if (lost[rank]) {
                kill_rank(&fleet, rank);
            }
        }
        for (int rank = 0; rank < size; rank++) {
            if (!lost[rank]) {
                pthread_create(&all[rank].thread, NULL, agree_thread, &all[rank]);
            }
        }
        for (int rank = 0; rank < size; rank++) {
            if (!lost[rank]) {
                pthread_join(all[rank].thread, NULL);
            }
        }
        check_agreed(all, &fleet, lost);
        stop_fleet(&fleet);
    }
}

/* A rank that is stopped, and wakes when the others have gone on. */
static void late_ranks_are_given_up(void **state)
{
    enum { SIZE = 5, LATE = 2 };
    test_random_t random = test_random_start("watch, late", 20267);
    const bool lost[SIZE] = {[LATE] = true};
    agreeing_t all[MAX_RANKS];
    fleet_t fleet;

    (void)state;
    start_fleet(&fleet, SIZE, false);
    start_agreeing(all, &fleet, 300, &random);
    const int64_t begin = gdncp_now_ms();
    for (int rank = 0; rank < SIZE; rank++) {
        if (rank != LATE) {
            pthread_create(&all[rank].thread, NULL, agree_thread, &all[rank]);
        }
    }
    for (int rank = 0; rank < SIZE; rank++) {
        if (rank != LATE) {
            pthread_join(all[rank].thread, NULL);
        }
    }
    assert_true(gdncp_now_ms() - begin >= 300);
    assert_true(gdncp_now_ms() - begin < 3000);
    check_agreed(all, &fleet, lost);
    agree_thread(&all[LATE]);
    assert_int_equal(all[LATE].status, GDNCP_ERR_PEER_LOST);
    assert_non_null(strstr(all[LATE].sentence, "given up by the others"));
    assert_int_equal(verdict(fleet.watches[LATE]), GDNCP_ERR_PEER_LOST);
    stop_fleet(&fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_death_is_told_to_all),
        cmocka_unit_test(a_death_is_told_only_after_last_words),
        cmocka_unit_test(leaving_is_no_death),
        cmocka_unit_test(an_abort_is_told_to_all),
        cmocka_unit_test(a_death_while_connecting_is_told),
        cmocka_unit_test(other_addresses_are_tried),
        cmocka_unit_test(strangers_are_turned_away),
        cmocka_unit_test(survivors_agree),
        cmocka_unit_test(late_ranks_are_given_up),
    };

    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
