/* Walks along chains of segments: argument checks, dispatch, and the CPU. */
#include "gdncp/ops.h"

#include <inttypes.h>
#include <string.h>

#include "error.h"
#include "op_checks.h"
#include "op_parallel.h"
#include "small_gemm.h"

/* Columns that an item has at least where a chain's are divided among threads. */
#define MIN_COLUMNS 32

static bool is_member(const gdncp_tensor_t *states, const gdncp_tensor_t *tensor)
{
    return states->data != NULL && states->data == tensor->data;
}

static gdncp_status_t check_states(const gdncp_state_chains_t *merge, const gdncp_tensor_t *states)
{
    const gdncp_tensor_t *const contribution = &merge->contribution;
    const gdncp_status_t status =
        gdncp_op_check_tensor("states", states, contribution->device, GDNCP_F32,
                              GDNCP_OP_CONTIGUOUS, 3, contribution->shape);

    if (status == GDNCP_OK &&
        (is_member(states, contribution) || is_member(states, &merge->transition) ||
         is_member(states, &merge->in))) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "states: expected memory of its own, got that of %s",
                          is_member(states, &merge->in)     ? "in"
                          : is_member(states, contribution) ? "contribution"
                                                            : "transition");
    }
    return status;
}

static gdncp_status_t check_tensors(const gdncp_state_chains_t *merge, const gdncp_tensor_t *states,
                                    const gdncp_workspace_t *workspace,
                                    const gdncp_op_kernels_t **kernels_p)
{
    const gdncp_tensor_t *const contribution = &merge->contribution;
    gdncp_status_t status = gdncp_op_check_ndim("contribution", contribution, 3);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("contribution", contribution, workspace, kernels_p);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("contribution", contribution, contribution->device,
                                       GDNCP_F32, GDNCP_OP_CONTIGUOUS, 3, contribution->shape);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t dk = contribution->shape[1];
    const int64_t state[] = {dk, contribution->shape[2]};
    const int64_t transitions[] = {merge->transition.shape[0], dk, dk};

    status = gdncp_op_check_optional("transition", &merge->transition, contribution->device,
                                     GDNCP_F32, GDNCP_OP_CONTIGUOUS, 3, transitions);
    if (status == GDNCP_OK) {
        status = gdncp_op_check_optional("in", &merge->in, contribution->device, GDNCP_F32,
                                         GDNCP_OP_CONTIGUOUS, 2, state);
    }
    return status == GDNCP_OK ? check_states(merge, states) : status;
}

/* Steps of a chain that have an M. */
static int64_t num_products(const gdncp_state_chain_t *chain)
{
    return chain->count - 1 + chain->continues;
}

/* Rows `first` and those that follow it, `count` > 0 of them in all. */
static gdncp_status_t check_rows(const char *what, int64_t index, int64_t first, int64_t count,
                                 int64_t num_rows, bool backward)
{
    const int64_t most = backward ? first + 1 : num_rows - first;

    if (first < 0 || first >= num_rows || count > most) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "chains: expected the %" PRId64 " rows of %s %s %" PRId64
                          " at index %" PRId64 " to be among %" PRId64 ", got others",
                          count, what, backward ? "down from" : "from", first, index, num_rows);
    }
    return GDNCP_OK;
}

static gdncp_status_t check_chain(const gdncp_state_chains_t *merge, int64_t index)
{
    const gdncp_state_chain_t *const chain = &merge->chains[index];

    if (chain->count <= 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "chains: expected count > 0 at index %" PRId64 ", got %" PRId64, index,
                          chain->count);
    }
    if (chain->continues != 0 && chain->continues != 1) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "chains: expected continues of 0 or 1 at index %" PRId64 ", got %" PRId64,
                          index, chain->continues);
    }
    if (chain->continues == 1 && gdncp_op_is_absent(&merge->in)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "in: expected the state that the chain at index %" PRId64
                          " goes on from, got none",
                          index);
    }
    const gdncp_status_t status = check_rows("contribution", index, chain->first, chain->count,
                                             merge->contribution.shape[0], merge->backward);

    if (status != GDNCP_OK || num_products(chain) == 0) {
        return status;
    }
    if (gdncp_op_is_absent(&merge->transition)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "transition: expected %" PRId64 " of the chain at index %" PRId64
                          ", got none",
                          num_products(chain), index);
    }
    return check_rows("transition", index, chain->transition, num_products(chain),
                      merge->transition.shape[0], merge->backward);
}

static gdncp_status_t check_chains(const gdncp_state_chains_t *merge)
{
    gdncp_status_t status = GDNCP_OK;

    if (merge->num_chains < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "num_chains: expected >= 0, got %" PRId64,
                          merge->num_chains);
    }
    if (merge->num_chains > 0 && merge->chains == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "chains: expected a list of %" PRId64 ", got NULL", merge->num_chains);
    }
    if (merge->num_chains > 0 && merge->contribution.device == GDNCP_DEVICE_CUDA &&
        merge->chains_cuda == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "chains_cuda: expected a list of %" PRId64 " in device memory, got NULL",
                          merge->num_chains);
    }
    for (int64_t i = 0; i < merge->num_chains && status == GDNCP_OK; i++) {
        status = check_chain(merge, i);
    }
    return status;
}

typedef struct merge_walk {
    const gdncp_state_chains_t *merge;
    float *states;
    int64_t dk;
    int64_t dv;
    int64_t num_parts; /* that the columns of a chain's states are in */
} merge_walk_t;

/* One step for columns [first, first + width) of the state; `in` is NULL where it has no M. */
static void take_step(const merge_walk_t *walk, const float *transition, const float *contribution,
                      const float *in, float *out, int64_t width)
{
    const int64_t dk = walk->dk;
    const int64_t dv = walk->dv;

    for (int64_t i = 0; i < dk; i++) {
        memcpy(out + i * dv, contribution + i * dv, (size_t)width * sizeof *out);
    }
    if (in == NULL) {
        return;
    }
    if (walk->merge->backward) {
        gdncp_gemm_tn(dk, width, dk, transition, dk, in, dv, true, out, dv);
    } else {
        gdncp_gemm(dk, width, dk, transition, dk, in, dv, true, out, dv);
    }
}

static void walk_part(void *context, int64_t item, int thread)
{
    const merge_walk_t *const walk = context;
    const gdncp_state_chains_t *const merge = walk->merge;
    const gdncp_state_chain_t *const chain = &merge->chains[item / walk->num_parts];
    const int64_t part = item % walk->num_parts;
    const int64_t first = part * walk->dv / walk->num_parts;
    const int64_t width = (part + 1) * walk->dv / walk->num_parts - first;
    const int64_t size = walk->dk * walk->dv;
    const int64_t direction = merge->backward ? -1 : 1;
    const float *const contributions = merge->contribution.data;
    const float *transition = merge->transition.data;
    const float *previous = chain->continues ? (const float *)merge->in.data + first : NULL;

    (void)thread;
    if (num_products(chain) > 0) {
        transition += chain->transition * walk->dk * walk->dk;
    }
    for (int64_t j = 0; j < chain->count; j++) {
        const int64_t offset = (chain->first + direction * j) * size + first;

        take_step(walk, transition, contributions + offset, previous, walk->states + offset, width);
        if (previous != NULL && j + 1 < chain->count) {
            transition += direction * walk->dk * walk->dk;
        }
        previous = walk->states + offset;
    }
}

static void walk_chains(const gdncp_state_chains_t *merge, float *states)
{
    merge_walk_t walk = {.merge = merge,
                         .states = states,
                         .dk = merge->contribution.shape[1],
                         .dv = merge->contribution.shape[2]};
    const int64_t most = walk.dv > MIN_COLUMNS ? walk.dv / MIN_COLUMNS : 1;
    const int threads = gdncp_parallel_num_threads(merge->num_chains * most);
    const int64_t wanted = (threads + merge->num_chains - 1) / merge->num_chains;

    walk.num_parts = wanted < most ? wanted : most;
    gdncp_parallel_for(merge->num_chains * walk.num_parts, threads, walk_part, &walk);
}

gdncp_status_t gdncp_state_merge(const gdncp_state_chains_t *merge, const gdncp_tensor_t *states,
                                 gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status;

    if (merge == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "merge: expected chains, got NULL");
    }
    status = check_tensors(merge, states, workspace, &kernels);
    if (status == GDNCP_OK) {
        status = check_chains(merge);
    }
    if (status != GDNCP_OK || merge->num_chains == 0 ||
        gdncp_tensor_num_elements(&merge->contribution) == 0) {
        return status;
    }
    if (kernels != NULL) {
        return kernels->state_merge(merge, states, workspace);
    }
    walk_chains(merge, states->data);
    return GDNCP_OK;
}
