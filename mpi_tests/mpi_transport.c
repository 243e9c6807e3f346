/* The conformance suite on one rank of a launcher's job; the argument is the number of ranks. */
#include "conformance_transport.h"

static gdncp_comm_t *create(void)
{
    gdncp_comm_t *comm = NULL;

    if (gdncp_comm_create_from_environment(NULL, &comm) != GDNCP_OK) {
        fprintf(stderr, "%s\n", gdncp_last_error());
        exit(1);
    }
    return comm;
}

int main(int argc, char **argv)
{
    const uint64_t seed = 20265;
    const int expected_size = argc > 1 ? atoi(argv[1]) : 1;
    int num_failures = 0;
    int rank = 0;
    int size = 0;

    if (gdncp_environment_rank(&rank, &size) != GDNCP_OK || size != expected_size) {
        fprintf(stderr, "expected %d ranks, got %d: %s\n", expected_size, size, gdncp_last_error());
        return 1;
    }
    for (int i = 0; i < NUM_CONFORMANCE_CASES; i++) {
        gdncp_comm_t *const comm = create();

        if (conformance_cases[i].timeout_ms > 0) {
            comm->timeout_ms = conformance_cases[i].timeout_ms;
        }
        num_failures += gdncp_comm_rank(comm) != rank || gdncp_comm_size(comm) != size;
        num_failures += run_conformance_case(&conformance_cases[i], comm, seed);
        gdncp_comm_destroy(comm);
    }
    if (rank == 0) {
        printf("%d cases on %d ranks, seed %llu: %s\n", NUM_CONFORMANCE_CASES, size,
               (unsigned long long)seed, num_failures == 0 ? "all passed" : "failures");
    }
    return num_failures > 0;
}
