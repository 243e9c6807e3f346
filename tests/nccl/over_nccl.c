#include "over_nccl.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "emulator_control.h"
#include "gdncp/nccl.h"

nccl_stand_in_t *test_nccl_stand_in(void)
{
    nccl_stand_in_control_t *find = NULL;
    void *const library = dlopen(GDNCP_NCCL_STAND_IN, RTLD_NOW | RTLD_LOCAL);

    assert_non_null(library);
    void *const symbol = dlsym(library, "nccl_stand_in_control");

    assert_non_null(symbol);
    memcpy(&find, &symbol, sizeof find);
    setenv("GDNCP_NCCL_LIBRARY", GDNCP_NCCL_STAND_IN, 1);
    memset(find(), 0, sizeof(nccl_stand_in_t));
    nccl_stand_in_t *const stand_in = find();

    stand_in->queue = emulator_queue_peer_work;
    stand_in->num_polls = 2;
    stand_in->fault_rank = -1;
    stand_in->abort_is_remote = true;
    return stand_in;
}

typedef struct wrapped {
    test_rank_body_t body;
    void *context;
} wrapped_t;

static void run_over_nccl(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const wrapped_t *const wrapped = context;

    if (gdncp_comm_use_nccl(comm) != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    } else if (gdncp_comm_transport(comm) != GDNCP_TRANSPORT_NCCL) {
        snprintf(problem, size, "a communicator with NCCL says that it is none");
    } else {
        wrapped->body(wrapped->context, comm, problem, size);
    }
}

#undef test_run_ranks

void test_run_ranks_over_nccl(const char *what, int ranks, test_rank_body_t body, void *context)
{
    const nccl_stand_in_t *const stand_in = test_nccl_stand_in();

    test_run_ranks(what, ranks, run_over_nccl, &(wrapped_t){.body = body, .context = context});
    assert_int_equal(stand_in->num_sends, stand_in->num_recvs);
    assert_int_equal(stand_in->num_mismatched, 0);
    assert_int_equal(stand_in->num_unconnected, 0);
    assert_int_equal(stand_in->num_comms, 0);
}
