/* The benchmarks of each group. */
#ifndef GDNCP_COMM_GROUPS_H
#define GDNCP_COMM_GROUPS_H

#include "comm_bench.h"

/* comm_plans.c */
extern const comm_benchmark_t comm_bench_cp2hp;
extern const comm_benchmark_t comm_bench_cp2hp_transpose;
extern const comm_benchmark_t comm_bench_hp2cp;
extern const comm_benchmark_t comm_bench_hp2cp_transpose;
extern const comm_benchmark_t comm_bench_relayout;
extern const comm_benchmark_t comm_bench_relayout_transpose;
extern const comm_benchmark_t comm_bench_all_gather;
extern const comm_benchmark_t comm_bench_all_gather_transpose;
extern const comm_benchmark_t comm_bench_conv_halo;
extern const comm_benchmark_t comm_bench_conv_halo_transpose;

/* comm_relay.c */
extern const comm_benchmark_t comm_bench_relay_owners;
extern const comm_benchmark_t comm_bench_relay_all_gather;
extern const comm_benchmark_t comm_bench_relay_chain;

/* comm_parts.c */
extern const comm_benchmark_t comm_bench_pack;
extern const comm_benchmark_t comm_bench_unpack;
extern const comm_benchmark_t comm_bench_memcpy;
extern const comm_benchmark_t comm_bench_copy;
extern const comm_benchmark_t comm_bench_ping_pong;

#endif
