/* All benchmarks, in the order in which they run. */
#include <stddef.h>

#include "comm_groups.h"

const comm_benchmark_t *const comm_registry[] = {
    &comm_bench_memcpy,
    &comm_bench_copy,
    &comm_bench_pack,
    &comm_bench_unpack,
    &comm_bench_ping_pong,
    &comm_bench_cp2hp,
    &comm_bench_cp2hp_transpose,
    &comm_bench_hp2cp,
    &comm_bench_hp2cp_transpose,
    &comm_bench_relayout,
    &comm_bench_relayout_transpose,
    &comm_bench_all_gather,
    &comm_bench_all_gather_transpose,
    &comm_bench_conv_halo,
    &comm_bench_conv_halo_transpose,
    &comm_bench_relay_owners,
    &comm_bench_relay_all_gather,
    &comm_bench_relay_chain,
    NULL,
};
