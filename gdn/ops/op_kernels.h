/* The operators' kernels for CUDA tensors, as one table that each backend fills whole. */
#ifndef GDNCP_OP_KERNELS_H
#define GDNCP_OP_KERNELS_H

#include "backend.h"
#include "gdncp/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct gdncp_product;
struct gdncp_row_moves;
struct gdncp_rule_problem;
struct gdncp_step_problem;
struct gdncp_update_problem;

/* Each slot is called with arguments that the public function of its name has checked, and queues
 * its work in the workspace's stream. It neither waits for the device nor allocates, but for
 * growing the workspace. Absent optional outputs are NULL. */
typedef struct gdncp_op_kernels {
    gdncp_status_t (*gate_forward)(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                                   const gdncp_tensor_t *beta, gdncp_workspace_t *workspace);
    gdncp_status_t (*gate_backward)(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                    const gdncp_tensor_t *grad_beta,
                                    const gdncp_gate_grads_t *grads, gdncp_workspace_t *workspace);
    gdncp_status_t (*chunk_cumsum)(const gdncp_tensor_t *g, const int64_t *cu_seqlens,
                                   const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                                   int64_t chunk_size, const gdncp_tensor_t *out,
                                   gdncp_workspace_t *workspace);
    gdncp_status_t (*l2norm_forward)(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *y,
                                     gdncp_workspace_t *workspace);
    gdncp_status_t (*l2norm_backward)(const gdncp_tensor_t *x, float eps,
                                      const gdncp_tensor_t *grad_y, const gdncp_tensor_t *grad_x,
                                      gdncp_workspace_t *workspace);
    gdncp_status_t (*conv1d_forward)(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                                     const gdncp_tensor_t *final_window,
                                     gdncp_workspace_t *workspace);
    gdncp_status_t (*conv1d_backward)(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                                      const gdncp_conv1d_grads_t *grads,
                                      gdncp_workspace_t *workspace);
    gdncp_status_t (*delta_rule_forward)(const struct gdncp_rule_problem *problem,
                                         const gdncp_tensor_t *o, const gdncp_tensor_t *final_state,
                                         gdncp_workspace_t *workspace);
    gdncp_status_t (*delta_rule_backward)(const struct gdncp_rule_problem *problem,
                                          const gdncp_tensor_t *grad_o,
                                          const gdncp_tensor_t *grad_final_state,
                                          const gdncp_delta_rule_grads_t *grads,
                                          gdncp_workspace_t *workspace);
    gdncp_status_t (*delta_rule_summary)(const struct gdncp_rule_problem *problem,
                                         const int64_t *sequences, const int64_t *sequences_cuda,
                                         int64_t num_selected, const gdncp_tensor_t *transition,
                                         const gdncp_tensor_t *contribution,
                                         gdncp_workspace_t *workspace);
    gdncp_status_t (*delta_rule_grad_summary)(const struct gdncp_rule_problem *problem,
                                              const int64_t *sequences,
                                              const int64_t *sequences_cuda, int64_t num_selected,
                                              const gdncp_tensor_t *grad_o,
                                              const gdncp_tensor_t *grad_final_state,
                                              const gdncp_tensor_t *grad_initial,
                                              gdncp_workspace_t *workspace);
    gdncp_status_t (*state_merge)(const gdncp_state_chains_t *merge, const gdncp_tensor_t *states,
                                  gdncp_workspace_t *workspace);
    gdncp_status_t (*gated_rmsnorm_forward)(const gdncp_gated_rmsnorm_t *norm,
                                            const gdncp_tensor_t *y, gdncp_workspace_t *workspace);
    gdncp_status_t (*gated_rmsnorm_backward)(const gdncp_gated_rmsnorm_t *norm,
                                             const gdncp_tensor_t *grad_y,
                                             const gdncp_gated_rmsnorm_grads_t *grads,
                                             gdncp_workspace_t *workspace);
    gdncp_status_t (*linear)(const struct gdncp_product *product, gdncp_workspace_t *workspace);
    gdncp_status_t (*recurrent_step)(const struct gdncp_step_problem *problem,
                                     const gdncp_tensor_t *o, gdncp_workspace_t *workspace);
    gdncp_status_t (*move_rows)(const struct gdncp_row_moves *moves, gdncp_workspace_t *workspace);
    gdncp_status_t (*conv1d_update)(const struct gdncp_update_problem *problem,
                                    const gdncp_tensor_t *y, gdncp_workspace_t *workspace);
} gdncp_op_kernels_t;

/* Those of a backend. */
const gdncp_op_kernels_t *gdncp_op_kernels_of(const gdncp_backend_t *backend);

extern const gdncp_op_kernels_t gdncp_op_kernels_cuda;     /* in builds with GDNCP_CUDA */
extern const gdncp_op_kernels_t gdncp_op_kernels_emulated; /* in builds with GDNCP_EMULATOR */

#ifdef __cplusplus
}
#endif

#endif
