/* The launchers that make up the table of operators' kernels, one a slot. */
#ifndef GDNCP_OP_KERNELS_CUDA_H
#define GDNCP_OP_KERNELS_CUDA_H

#include "kernel.h"
#include "op_kernels.h"
#include "workspace.h"

namespace GDNCP_KERNELS
{

gdncp_status_t gate_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                            const gdncp_tensor_t *beta, gdncp_workspace_t *workspace);
gdncp_status_t gate_backward(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                             const gdncp_tensor_t *grad_beta, const gdncp_gate_grads_t *grads,
                             gdncp_workspace_t *workspace);
gdncp_status_t chunk_cumsum(const gdncp_tensor_t *g, const int64_t *cu_seqlens,
                            const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                            int64_t chunk_size, const gdncp_tensor_t *out,
                            gdncp_workspace_t *workspace);
gdncp_status_t l2norm_forward(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *y,
                              gdncp_workspace_t *workspace);
gdncp_status_t l2norm_backward(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *grad_y,
                               const gdncp_tensor_t *grad_x, gdncp_workspace_t *workspace);
gdncp_status_t conv1d_forward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                              const gdncp_tensor_t *final_window, gdncp_workspace_t *workspace);
gdncp_status_t conv1d_backward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                               const gdncp_conv1d_grads_t *grads, gdncp_workspace_t *workspace);
gdncp_status_t delta_rule_forward(const struct gdncp_rule_problem *problem, const gdncp_tensor_t *o,
                                  const gdncp_tensor_t *final_state, gdncp_workspace_t *workspace);
gdncp_status_t delta_rule_backward(const struct gdncp_rule_problem *problem,
                                   const gdncp_tensor_t *grad_o,
                                   const gdncp_tensor_t *grad_final_state,
                                   const gdncp_delta_rule_grads_t *grads,
                                   gdncp_workspace_t *workspace);
gdncp_status_t delta_rule_summary(const struct gdncp_rule_problem *problem,
                                  const int64_t *sequences, const int64_t *sequences_cuda,
                                  int64_t num_selected, const gdncp_tensor_t *transition,
                                  const gdncp_tensor_t *contribution, gdncp_workspace_t *workspace);
gdncp_status_t delta_rule_grad_summary(const struct gdncp_rule_problem *problem,
                                       const int64_t *sequences, const int64_t *sequences_cuda,
                                       int64_t num_selected, const gdncp_tensor_t *grad_o,
                                       const gdncp_tensor_t *grad_final_state,
                                       const gdncp_tensor_t *grad_initial,
                                       gdncp_workspace_t *workspace);
gdncp_status_t state_merge(const gdncp_state_chains_t *merge, const gdncp_tensor_t *states,
                           gdncp_workspace_t *workspace);
gdncp_status_t gated_rmsnorm_forward(const gdncp_gated_rmsnorm_t *norm, const gdncp_tensor_t *y,
                                     gdncp_workspace_t *workspace);
gdncp_status_t gated_rmsnorm_backward(const gdncp_gated_rmsnorm_t *norm,
                                      const gdncp_tensor_t *grad_y,
                                      const gdncp_gated_rmsnorm_grads_t *grads,
                                      gdncp_workspace_t *workspace);
gdncp_status_t recurrent_step(const struct gdncp_step_problem *problem, const gdncp_tensor_t *o,
                              gdncp_workspace_t *workspace);
gdncp_status_t conv1d_update(const struct gdncp_update_problem *problem, const gdncp_tensor_t *y,
                             gdncp_workspace_t *workspace);
gdncp_status_t move_rows(const struct gdncp_row_moves *moves, gdncp_workspace_t *workspace);
gdncp_status_t linear(const struct gdncp_product *product, gdncp_workspace_t *workspace);

} /* namespace GDNCP_KERNELS */

#endif
