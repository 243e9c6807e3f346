/*
 * Runs the operators' tests on the device.
 *
 * A program tests/test_ops_<subject>.c is compiled a second time as test_cuda_<subject>, with
 * GDNCP_TEST_ON_DEVICE and with this header included first. Its calls of operators then become
 * calls of the functions below. Each copies the host memory that the arguments point to to the
 * device, gaps between tokens included; runs the operator there; and copies the outputs back. So a
 * program checks a kernel as it checks the CPU: same cases, tolerances and errors.
 *
 * - Tensors that overlap on the host overlap on the device. One that the test has spoilt by setting
 *   GDNCP_DEVICE_CUDA is one on the CPU. Lists such as cu_seqlens get their copies.
 * - gdncp_workspace_create() makes a workspace on the device. Without a workspace a call gets a new
 *   one, whose memory is NaN.
 * - Inputs, and after an error all memory, must have kept their bits.
 * - What is allocated here is not counted by gdncp_memory_track().
 * - test_set_num_threads(n) sets the emulator's schedule n: "threads do not change bits" becomes
 *   "the order of threads does not".
 *
 * The device is the emulator, unless GDNCP_CUDA says otherwise. Two variables change what a program
 * does:
 * GDNCP_TEST_SCHEDULES=n      each call runs n times (2 if its tensors are large), under different
 *                             schedules, and must give the same bits; from the second time on it
 *                             may neither allocate nor wait
 * GDNCP_TEST_DEVICE_OFFSET=n  memory lies n of its elements beyond a multiple of 256 bytes
 */
#ifndef GDNCP_TEST_ON_DEVICE_H
#define GDNCP_TEST_ON_DEVICE_H

#include <stdint.h>

void on_device_set_schedule(uint64_t seed);

#ifdef GDNCP_TEST_ON_DEVICE

#define gdncp_memory_track on_device_memory_track
#define gdncp_workspace_create on_device_workspace_create

#define gdncp_gate_forward on_device_gate_forward
#define gdncp_gate_backward on_device_gate_backward
#define gdncp_chunk_cumsum on_device_chunk_cumsum
#define gdncp_l2norm_forward on_device_l2norm_forward
#define gdncp_l2norm_backward on_device_l2norm_backward
#define gdncp_conv1d_forward on_device_conv1d_forward
#define gdncp_conv1d_backward on_device_conv1d_backward
#define gdncp_delta_rule_forward on_device_delta_rule_forward
#define gdncp_delta_rule_backward on_device_delta_rule_backward
#define gdncp_delta_rule_summary on_device_delta_rule_summary
#define gdncp_delta_rule_grad_summary on_device_delta_rule_grad_summary
#define gdncp_state_merge on_device_state_merge
#define gdncp_gated_rmsnorm_forward on_device_gated_rmsnorm_forward
#define gdncp_gated_rmsnorm_backward on_device_gated_rmsnorm_backward
#define gdncp_linear_forward on_device_linear_forward
#define gdncp_linear_backward_data on_device_linear_backward_data
#define gdncp_linear_backward_weight on_device_linear_backward_weight
#define gdncp_recurrent_step on_device_recurrent_step
#define gdncp_conv1d_update on_device_conv1d_update

#endif

#endif
