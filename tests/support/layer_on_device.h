/*
 * Runs the tests of layers on the device.
 *
 * A program tests/test_layer_<subject>.c is compiled a second time as test_cuda_layer_<subject>,
 * with GDNCP_TEST_ON_DEVICE and with this header included first. The rules, cores and layers that
 * it makes are then on the device, in a stream of the calling thread; each run copies the host
 * memory that its arguments point to to the device and its outputs back. Operators that the program
 * calls itself stay on the CPU: they are what it compares with.
 *
 * - All host memory that is no output must have kept its bits.
 * - From the second run of a direction on, runs may neither allocate nor wait for the device.
 * - What is allocated for the copies is not counted by gdncp_memory_track().
 *
 * The device is the emulator, unless GDNCP_CUDA says otherwise. With GDNCP_TEST_SCHEDULES=n each
 * run is made n times, under different orders of threads, and must give the same bits; with
 * GDNCP_TEST_DEVICE_OFFSET=n tensors lie n elements beyond what allocations are aligned to.
 */
#ifndef GDNCP_TEST_LAYER_ON_DEVICE_H
#define GDNCP_TEST_LAYER_ON_DEVICE_H

#ifdef GDNCP_TEST_ON_DEVICE

#define gdncp_memory_track layer_on_device_memory_track

#define gdncp_cp_rule_create layer_on_device_rule_create
#define gdncp_cp_rule_destroy layer_on_device_rule_destroy
#define gdncp_cp_rule_forward layer_on_device_rule_forward
#define gdncp_cp_rule_backward layer_on_device_rule_backward

#define gdncp_cp_core_create layer_on_device_core_create
#define gdncp_cp_core_destroy layer_on_device_core_destroy
#define gdncp_cp_core_forward layer_on_device_core_forward
#define gdncp_cp_core_backward layer_on_device_core_backward

#define gdncp_layer_create layer_on_device_create
#define gdncp_layer_destroy layer_on_device_destroy
#define gdncp_layer_forward layer_on_device_forward
#define gdncp_layer_backward layer_on_device_backward

#endif

#endif
