/* The meeting of ranks at a port: who is let in, who is turned away, and who is waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "bootstrap_checks.h"
#include "rendezvous_internal.h"

/* What one process of a meeting pretends to be. */
typedef struct guest {
    int rank;
    int size;
    uint64_t job;
    int64_t delay_ms;
    gdncp_status_t status; /* expected */
    const char *word;      /* of the error */
} guest_t;

typedef struct meeting {
    int port;
    int num_ports;
    int64_t timeout_ms;
    const guest_t *guests; /* one a process */
} meeting_t;

static int meeting_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const meeting_t *const meeting = context;
    const guest_t *const guest = &meeting->guests[bootstrap->rank];
    const gdncp_rendezvous_t place = {.address = "127.0.0.1",
                                      .first_port = meeting->port,
                                      .num_ports = meeting->num_ports,
                                      .job = guest->job};
    gdncp_star_t star = {0};

    sleep_ms(guest->delay_ms);
    if (gdncp_star_init(&star, guest->rank, guest->size, meeting->timeout_ms) != GDNCP_OK) {
        return 3;
    }
    gdncp_status_t status = gdncp_rendezvous(&place, &star);
    bool right = guest->status == GDNCP_OK ? status == GDNCP_OK
                                           : is_error((int)status, guest->status, guest->word);
    if (status == GDNCP_OK) {
        uint64_t jobs[4] = {0};

        right = right && gdncp_star_all_gather(&star, &guest->job, jobs, sizeof guest->job) == 0;
        for (int rank = 0; rank < guest->size; rank++) {
            right = right && jobs[rank] == guest->job;
        }
    }
    gdncp_star_close(&star);
    if (!right) {
        printf("rank %d: %s: %s\n", guest->rank, gdncp_status_string(status), gdncp_last_error());
    }
    return !right;
}

static void hold_meeting(const guest_t *guests, int num_guests, int64_t timeout_ms)
{
    meeting_t meeting = {
        .port = free_port(NULL), .num_ports = 1, .timeout_ms = timeout_ms, .guests = guests};

    assert_int_equal(run_forked(num_guests, meeting_body, &meeting), 0);
}

static void rank_that_comes_twice_is_refused(void **state)
{
    static const guest_t guests[] = {
        {0, 3, 1, 0, GDNCP_OK, NULL},
        {1, 3, 1, 0, GDNCP_OK, NULL},
        {1, 3, 1, 300, GDNCP_ERR_MISMATCH, "rank 1 came twice"},
        {2, 3, 1, 800, GDNCP_OK, NULL},
    };

    (void)state;
    hold_meeting(guests, 4, 10000);
}

static void other_size_is_refused(void **state)
{
    static const guest_t guests[] = {
        {0, 2, 1, 0, GDNCP_ERR_TIMEOUT, "rank 1 has size 3 where rank 0 has 2"},
        {1, 3, 1, 0, GDNCP_ERR_MISMATCH, "size 3"},
    };

    (void)state;
    hold_meeting(guests, 2, 800);
}

static void late_rank_zero_is_waited_for(void **state)
{
    static const guest_t guests[] = {
        {0, 3, 1, 700, GDNCP_OK, NULL},
        {1, 3, 1, 0, GDNCP_OK, NULL},
        {2, 3, 1, 0, GDNCP_OK, NULL},
    };

    (void)state;
    hold_meeting(guests, 3, 10000);
}

static void absent_rank_zero_is_told(void **state)
{
    static const guest_t guests[] = {
        {1, 2, 1, 0, GDNCP_ERR_TIMEOUT, "looked 0.4 s in vain for rank 0"},
    };

    (void)state;
    hold_meeting(guests, 1, 400);
}

/* Two jobs on one machine whose ports begin alike. */
static void jobs_keep_apart(void **state)
{
    static const guest_t guests[] = {
        {0, 2, 1, 0, GDNCP_OK, NULL},
        {0, 2, 2, 200, GDNCP_OK, NULL},
        {1, 2, 2, 400, GDNCP_OK, NULL},
        {1, 2, 1, 900, GDNCP_OK, NULL},
    };
    meeting_t meeting = {
        .port = free_port(NULL), .num_ports = 4, .timeout_ms = 10000, .guests = guests};

    (void)state;
    assert_int_equal(run_forked(4, meeting_body, &meeting), 0);
}

static int connect_to_port(int port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    for (int attempt = 0; attempt < 100; attempt++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);

        if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
            return fd;
        }
        close(fd);
        sleep_ms(20);
    }
    return -1;
}

static int haunted_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const meeting_t *const meeting = context;
    const char noise[64] = "GET / HTTP/1.1\r\n\r\n";

    if (bootstrap->rank != 2) {
        return meeting_body(bootstrap, context);
    }
    /* One stranger says nothing, one hangs up, one talks of something else. */
    const int silent = connect_to_port(meeting->port);
    close(connect_to_port(meeting->port));
    const int noisy = connect_to_port(meeting->port);
    gdncp_rendezvous_reply_t reply = {0};
    if (send(noisy, noise, sizeof noise, MSG_NOSIGNAL) != (ssize_t)sizeof noise ||
        recv(noisy, &reply, sizeof reply, MSG_WAITALL) != (ssize_t)sizeof reply) {
        return 1;
    }
    sleep_ms(800);
    close(silent);
    close(noisy);
    return reply.status != GDNCP_ERR_TRANSPORT || strstr(reply.sentence, "not of this job") == NULL;
}

static void strangers_are_turned_away(void **state)
{
    static const guest_t guests[] = {
        {0, 2, 1, 0, GDNCP_OK, NULL},
        {1, 2, 1, 500, GDNCP_OK, NULL},
    };
    meeting_t meeting = {
        .port = free_port(NULL), .num_ports = 1, .timeout_ms = 10000, .guests = guests};

    (void)state;
    assert_int_equal(run_forked(3, haunted_body, &meeting), 0);
}

static void taken_port_is_told(void **state)
{
    int listener = -1;
    const gdncp_rendezvous_t place = {
        .address = "127.0.0.1", .first_port = free_port(&listener), .num_ports = 1};
    const gdncp_rendezvous_t nowhere = {
        .address = "no.such.host.invalid", .first_port = 1, .num_ports = 1};
    gdncp_star_t star = {0};

    (void)state;
    assert_int_equal(gdncp_star_init(&star, 0, 2, 300), GDNCP_OK);
    assert_true(is_error((int)gdncp_rendezvous(&place, &star), GDNCP_ERR_TRANSPORT, "in use"));
    assert_true(is_error((int)gdncp_rendezvous(&nowhere, &star), GDNCP_ERR_TRANSPORT,
                         "no.such.host.invalid"));
    gdncp_star_close(&star);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rank_that_comes_twice_is_refused),
        cmocka_unit_test(other_size_is_refused),
        cmocka_unit_test(late_rank_zero_is_waited_for),
        cmocka_unit_test(absent_rank_zero_is_told),
        cmocka_unit_test(jobs_keep_apart),
        cmocka_unit_test(strangers_are_turned_away),
        cmocka_unit_test(taken_port_is_told),
    };

    return cmocka_run_group_tests_name("bootstrap_meeting", tests, NULL, NULL);
}
