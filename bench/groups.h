/* The benchmarks of each group. */
#ifndef GDNCP_BENCH_GROUPS_H
#define GDNCP_BENCH_GROUPS_H

#include "bench.h"

/* bench_rule.c */
extern const bench_benchmark_t bench_rule_training;
extern const bench_benchmark_t bench_rule_forward;
extern const bench_benchmark_t bench_rule_backward;
extern const bench_benchmark_t bench_summary;
extern const bench_benchmark_t bench_state_merge;

/* bench_rows.c */
extern const bench_benchmark_t bench_gate_forward;
extern const bench_benchmark_t bench_gate_backward;
extern const bench_benchmark_t bench_gate_sums_forward;
extern const bench_benchmark_t bench_gate_sums_backward;
extern const bench_benchmark_t bench_l2norm_forward;
extern const bench_benchmark_t bench_l2norm_backward;
extern const bench_benchmark_t bench_gated_rmsnorm_forward;
extern const bench_benchmark_t bench_gated_rmsnorm_backward;
extern const bench_benchmark_t bench_mamba2_norm_forward;
extern const bench_benchmark_t bench_mamba2_norm_backward;

/* bench_conv1d.c */
extern const bench_benchmark_t bench_conv1d_forward;
extern const bench_benchmark_t bench_conv1d_backward;

/* bench_linear.c */
extern const bench_benchmark_t bench_linear_forward;
extern const bench_benchmark_t bench_linear_backward_data;
extern const bench_benchmark_t bench_linear_backward_weight;

/* bench_decode.c */
extern const bench_benchmark_t bench_recurrent_step;
extern const bench_benchmark_t bench_conv1d_update;

#endif
