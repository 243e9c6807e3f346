/*
 * test_run_ranks() for tests whose ranks are the processes of a launcher.
 *
 * Every process runs the whole test, so that all prepare the same cases; of these, those for as
 * many ranks as there are processes are run, each process being one rank, over one communicator.
 */
#include "rank_threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static gdncp_comm_t *comm;
static int num_cases;

/* Not the program's tests that have no ranks, as many times as there are processes. */
__attribute__((constructor)) static void choose_tests(void)
{
    cmocka_set_test_filter(GDNCP_TESTS_OF_RANKS);
}

/* A launcher must not take a test for passed that has run nothing. */
static void end_ranks(void)
{
    const int rank = gdncp_comm_rank(comm);

    if (rank == 0) {
        printf("%d cases over %d processes\n", num_cases, gdncp_comm_size(comm));
    }
    gdncp_comm_destroy(comm);
    if (num_cases == 0) {
        fprintf(stderr, "rank %d: expected cases for as many ranks as processes, got none\n", rank);
        fflush(NULL);
        _exit(1);
    }
}

static void find_ranks(void)
{
    if (gdncp_comm_create_from_environment(NULL, &comm) != GDNCP_OK) {
        fprintf(stderr, "%s\n", gdncp_last_error());
        exit(1);
    }
    atexit(end_ranks);
}

void test_run_ranks(const char *what, int ranks, test_rank_body_t body, void *context)
{
    char problem[1200] = "";
    gdncp_status_t status;

    if (comm == NULL) {
        find_ranks();
    }
    if (ranks != gdncp_comm_size(comm)) {
        return;
    }
    num_cases++;
    body(context, comm, problem, sizeof problem);
    if (problem[0] != '\0') {
        print_error("%s, %d processes, rank %d: %s\n", what, ranks, gdncp_comm_rank(comm), problem);
    }
    status = gdncp_comm_agree(comm, problem[0] == '\0' ? GDNCP_OK : GDNCP_ERR_INTERNAL);
    assert_int_equal(status, GDNCP_OK);
}
