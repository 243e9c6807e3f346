/* Bootstraps by a fork group, and by the variables of a launcher. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/time.h>

#include "bootstrap_checks.h"
#include "deadline.h"
#include "rendezvous_internal.h"

static int gather_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    static const size_t sizes[] = {1, 8, 1000, 300000, 0, 3};

    (void)context;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *const in = malloc(sizes[i] + 1);
        unsigned char *const out = malloc(sizes[i] * (size_t)bootstrap->size + 1);

        memset(in, bootstrap->rank + 1, sizes[i]);
        memset(out, 0xa5, sizes[i] * (size_t)bootstrap->size + 1);
        if (bootstrap->all_gather(bootstrap->context, in, out, sizes[i]) != 0) {
            printf("%s\n", gdncp_last_error());
            return 1;
        }
        for (size_t k = 0; k < sizes[i] * (size_t)bootstrap->size; k++) {
            if (out[k] != k / sizes[i] + 1) {
                return 2;
            }
        }
        if (out[sizes[i] * (size_t)bootstrap->size] != 0xa5) {
            return 3;
        }
        free(in);
        free(out);
    }
    return 0;
}

static void fork_group_gathers(void **state)
{
    (void)state;
    for (int size = 1; size <= 5; size++) {
        assert_int_equal(run_forked(size, gather_body, NULL), 0);
    }
}

static int death_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const int dying = *(const int *)context;
    const int64_t begin = gdncp_now_ms();
    char word[32];
    int64_t value = 1;
    int64_t all[4];

    if (bootstrap->rank == dying) {
        raise(SIGKILL);
    }
    snprintf(word, sizeof word, "rank %d closed", dying);
    const bool told = is_error(bootstrap->all_gather(bootstrap->context, &value, all, sizeof value),
                               GDNCP_ERR_PEER_LOST, word) &&
                      is_error(bootstrap->all_gather(bootstrap->context, &value, all, sizeof value),
                               GDNCP_ERR_PEER_LOST, "earlier");
    return !told || gdncp_now_ms() - begin > 5000;
}

static void death_in_a_fork_group_is_told(void **state)
{
    (void)state;
    for (int dying = 0; dying < 4; dying++) {
        assert_int_equal(run_forked(4, death_body, &dying), 1);
    }
}

static void die(int number)
{
    (void)number;
    raise(SIGKILL);
}

/* Rank 1 has said its part and dies before it is answered, which rank 0 alone can see: it goes, and
 * rank 2, for which all went well, is told why in its next all-gather. */
static int death_before_the_answer_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const struct itimerval timer = {.it_value = {.tv_usec = 50000}};
    int64_t value = 1;
    int64_t all[3];

    (void)context;
    if (bootstrap->rank == 1) {
        signal(SIGALRM, die);
        setitimer(ITIMER_REAL, &timer, NULL);
    }
    if (bootstrap->rank == 0) {
        sleep_ms(400);
    }
    const int first = bootstrap->all_gather(bootstrap->context, &value, all, sizeof value);
    if (bootstrap->rank == 0) {
        return !is_error(first, GDNCP_ERR_PEER_LOST, "rank 1 closed");
    }
    sleep_ms(400);
    return first != 0 ||
           !is_error(bootstrap->all_gather(bootstrap->context, &value, all, sizeof value),
                     GDNCP_ERR_PEER_LOST, "rank 1 closed");
}

static void death_before_the_answer_is_told(void **state)
{
    (void)state;
    assert_int_equal(run_forked(3, death_before_the_answer_body, NULL), 1);
}

static int different_bytes_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    char in[16] = {0};
    char out[64];

    (void)context;
    return !is_error(
        bootstrap->all_gather(bootstrap->context, in, out, bootstrap->rank == 2 ? 16 : 8),
        GDNCP_ERR_MISMATCH, "rank 2 gives 16");
}

static void different_sizes_are_told(void **state)
{
    (void)state;
    assert_int_equal(run_forked(4, different_bytes_body, NULL), 0);
}

static int absent_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const int64_t begin = gdncp_now_ms();
    char in = 0;
    char out[3];

    (void)context;
    if (bootstrap->rank == 2) {
        sleep_ms(1500);
        return 0;
    }
    const bool told = is_error(bootstrap->all_gather(bootstrap->context, &in, out, 1),
                               GDNCP_ERR_TIMEOUT, "rank 2 did not answer");
    return !told || gdncp_now_ms() - begin < 200 || gdncp_now_ms() - begin > 1400;
}

static void absent_rank_is_told(void **state)
{
    (void)state;
    setenv("GDNCP_TIMEOUT", "300", 1);
    assert_int_equal(run_forked(3, absent_body, NULL), 0);
    unsetenv("GDNCP_TIMEOUT");
}

static void arguments_of_fork_groups_are_checked(void **state)
{
    gdncp_fork_group_t *group = NULL;
    gdncp_bootstrap_t bootstrap = {.rank = -5};

    (void)state;
    assert_int_equal(gdncp_fork_group_create(0, &group), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "size"));
    assert_null(group);
    assert_int_equal(gdncp_fork_group_create(2, &group), GDNCP_OK);
    assert_int_equal(gdncp_fork_group_join(group, 2, &bootstrap), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "rank"));
    assert_int_equal(gdncp_fork_group_join(group, 1, &bootstrap), GDNCP_OK);
    assert_int_equal(bootstrap.rank, 1);
    assert_int_equal(bootstrap.size, 2);
    bootstrap.rank = -5;
    assert_int_equal(gdncp_fork_group_join(group, 0, &bootstrap), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "group"));
    assert_int_equal(bootstrap.rank, -5);
    gdncp_fork_group_destroy(group);
    gdncp_fork_group_destroy(NULL);
}

static const char *const launcher_variables[] = {
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "PMI_RANK",
    "PMI_SIZE",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "GDNCP_PORT",
};

static void clear_environment(void)
{
    for (size_t i = 0; i < sizeof launcher_variables / sizeof launcher_variables[0]; i++) {
        unsetenv(launcher_variables[i]);
    }
}

/* The rank and size from "NAME=value" pairs. */
typedef struct environment_case {
    const char *variables[4];
    gdncp_status_t status;
    const char *word; /* of the error */
    int rank;
    int size;
} environment_case_t;

static void set_variables(const char *const *pairs, size_t count)
{
    clear_environment();
    for (size_t i = 0; i < count && pairs[i] != NULL; i++) {
        char name[64];
        const char *const equals = strchr(pairs[i], '=');

        snprintf(name, sizeof name, "%.*s", (int)(equals - pairs[i]), pairs[i]);
        setenv(name, equals + 1, 1);
    }
}

static void ranks_come_from_the_environment(void **state)
{
    static const environment_case_t cases[] = {
        {{NULL}, GDNCP_OK, NULL, 0, 1},
        {{"RANK=3", "WORLD_SIZE=8"}, GDNCP_OK, NULL, 3, 8},
        {{"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2"}, GDNCP_OK, NULL, 1, 2},
        {{"PMI_RANK=1", "PMI_SIZE=4"}, GDNCP_OK, NULL, 1, 4},
        {{"SLURM_PROCID=5", "SLURM_NTASKS=6"}, GDNCP_OK, NULL, 5, 6},
        {{"RANK=0", "WORLD_SIZE=2", "SLURM_PROCID=5", "SLURM_NTASKS=6"}, GDNCP_OK, NULL, 0, 2},
        {{"RANK=3"}, GDNCP_ERR_INVALID_ARGUMENT, "WORLD_SIZE", 0, 0},
        {{"WORLD_SIZE=3"}, GDNCP_ERR_INVALID_ARGUMENT, "RANK", 0, 0},
        {{"RANK=", "WORLD_SIZE=3"}, GDNCP_ERR_INVALID_ARGUMENT, "RANK", 0, 0},
        {{"RANK=8", "WORLD_SIZE=8"}, GDNCP_ERR_INVALID_ARGUMENT, "RANK: expected", 0, 0},
        {{"RANK=-1", "WORLD_SIZE=8"}, GDNCP_ERR_INVALID_ARGUMENT, "RANK: expected", 0, 0},
        {{"RANK=1x", "WORLD_SIZE=8"}, GDNCP_ERR_INVALID_ARGUMENT, "\"1x\"", 0, 0},
        {{"RANK=0", "WORLD_SIZE=0"}, GDNCP_ERR_INVALID_ARGUMENT, "WORLD_SIZE", 0, 0},
        {{"RANK=0", "WORLD_SIZE=99999999999999999999"},
         GDNCP_ERR_INVALID_ARGUMENT,
         "WORLD_SIZE",
         0,
         0},
        {{"PMI_RANK=1"}, GDNCP_ERR_INVALID_ARGUMENT, "PMI_SIZE", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int rank = -7;
        int size = -7;

        set_variables(cases[i].variables, 4);
        assert_int_equal(gdncp_environment_rank(&rank, &size), cases[i].status);
        if (cases[i].status == GDNCP_OK) {
            assert_int_equal(rank, cases[i].rank);
            assert_int_equal(size, cases[i].size);
        } else {
            assert_non_null(strstr(gdncp_last_error(), cases[i].word));
            assert_int_equal(rank, -7);
            assert_int_equal(size, -7);
        }
    }
    clear_environment();
}

static void meeting_places_are_checked(void **state)
{
    static const environment_case_t cases[] = {
        {{"RANK=0", "WORLD_SIZE=2", "MASTER_PORT=70000"}, GDNCP_OK, "MASTER_PORT", 0, 0},
        {{"RANK=0", "WORLD_SIZE=2", "GDNCP_PORT=x"}, GDNCP_OK, "GDNCP_PORT", 0, 0},
        {{"RANK=0", "WORLD_SIZE=2", "MASTER_PORT=29500", "GDNCP_PORT=29500"},
         GDNCP_OK,
         "GDNCP_PORT: expected another port",
         0,
         0},
        {{"RANK=0", "WORLD_SIZE=4", "LOCAL_WORLD_SIZE=2"}, GDNCP_OK, "MASTER_ADDR", 0, 0},
        {{"RANK=3"}, GDNCP_OK, "WORLD_SIZE", 0, 0},
    };
    gdncp_comm_t *comm = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        set_variables(cases[i].variables, 4);
        assert_int_equal(gdncp_comm_create_from_environment(NULL, &comm),
                         GDNCP_ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(gdncp_last_error(), cases[i].word));
        assert_null(comm);
    }
    clear_environment();
}

static void ports_avoid_the_masters(void **state)
{
    (void)state;
    for (int master_port = 9990; master_port < 30010; master_port++) {
        for (int distance = -10; distance <= 10; distance++) {
            const uint64_t job =
                (uint64_t)(master_port - 10000 + distance + 20000 - 2 * GDNCP_RENDEZVOUS_PORTS);
            const int port = gdncp_rendezvous_port(job, master_port);

            assert_in_range(port, 10000, 30000 - GDNCP_RENDEZVOUS_PORTS);
            assert_true(master_port < port || master_port >= port + GDNCP_RENDEZVOUS_PORTS);
        }
    }
}

static void no_launcher_is_one_rank(void **state)
{
    gdncp_comm_t *comm = NULL;

    (void)state;
    clear_environment();
    assert_int_equal(gdncp_comm_create_from_environment(NULL, &comm), GDNCP_OK);
    assert_int_equal(gdncp_comm_size(comm), 1);
    assert_int_equal(gdncp_comm_transport(comm), GDNCP_TRANSPORT_SELF);
    gdncp_comm_destroy(comm);
}

/* Processes started with the variables of a launcher; the fork group is not used. */
typedef struct launched {
    const char *rank_name;
    const char *size_name;
    int master_port; /* 0: no MASTER_* variables */
} launched_t;

static int launched_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const launched_t *const launched = context;
    char text[32];

    clear_environment();
    snprintf(text, sizeof text, "%d", bootstrap->rank);
    setenv(launched->rank_name, text, 1);
    snprintf(text, sizeof text, "%d", bootstrap->size);
    setenv(launched->size_name, text, 1);
    if (launched->master_port != 0) {
        snprintf(text, sizeof text, "%d", launched->master_port);
        setenv("MASTER_ADDR", "127.0.0.1", 1);
        setenv("MASTER_PORT", text, 1);
    }
    for (int round = 0; round < 3; round++) {
        const gdncp_comm_options_t options = {.timeout_ms = 20000};
        gdncp_comm_t *comm = NULL;

        if (gdncp_comm_create_from_environment(&options, &comm) != GDNCP_OK ||
            gdncp_comm_barrier(comm) != GDNCP_OK) {
            printf("rank %d, round %d: %s\n", bootstrap->rank, round, gdncp_last_error());
            return 1;
        }
        const bool right =
            gdncp_comm_rank(comm) == bootstrap->rank && gdncp_comm_size(comm) == bootstrap->size;
        gdncp_comm_destroy(comm);
        if (!right) {
            return 2;
        }
    }
    return 0;
}

static void launched_ranks_meet(void **state)
{
    int listener = -1;
    launched_t launched = {"RANK", "WORLD_SIZE", free_port(&listener)};

    (void)state;
    assert_int_equal(run_forked(3, launched_body, &launched), 0);
    /* torchrun's store listens at MASTER_PORT: nobody of ours came by. */
    struct pollfd entry = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&entry, 1, 0), 0);
    close(listener);
    launched = (launched_t){"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", 0};
    assert_int_equal(run_forked(2, launched_body, &launched), 0);
    launched = (launched_t){"SLURM_PROCID", "SLURM_NTASKS", 0};
    assert_int_equal(run_forked(2, launched_body, &launched), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fork_group_gathers),
        cmocka_unit_test(death_in_a_fork_group_is_told),
        cmocka_unit_test(death_before_the_answer_is_told),
        cmocka_unit_test(different_sizes_are_told),
        cmocka_unit_test(absent_rank_is_told),
        cmocka_unit_test(arguments_of_fork_groups_are_checked),
        cmocka_unit_test(ranks_come_from_the_environment),
        cmocka_unit_test(meeting_places_are_checked),
        cmocka_unit_test(ports_avoid_the_masters),
        cmocka_unit_test(no_launcher_is_one_rank),
        cmocka_unit_test(launched_ranks_meet),
    };

    return cmocka_run_group_tests_name("bootstrap", tests, NULL, NULL);
}
