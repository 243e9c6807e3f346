#!/bin/bash
# Programs over four hosts made of network namespaces: one rank a host, found through torchrun's
# variables.
#
#     namespaces.sh LANES PROGRAM...
#
# LANES runs first, and fails unless all lanes are TCP: UCX would use shared memory across network
# namespaces.
set -euo pipefail
. "$(dirname "$0")/namespace_hosts.sh"

num_hosts=4

# One rank on each host; fails if one of them does.
run_on_hosts() {
    local ranks=() failed=0 host rank

    for ((host = 0; host < num_hosts; host++)); do
        on_host $host env RANK=$host WORLD_SIZE=$num_hosts LOCAL_RANK=0 MASTER_ADDR=10.77.0.1 \
            MASTER_PORT=29500 UCX_TLS=tcp,self "$@" &
        ranks+=($!)
    done
    for rank in "${ranks[@]}"; do
        wait "$rank" || failed=1
    done
    return $failed
}

enter_namespaces "$@"
make_hosts $num_hosts 2gbit
run_on_hosts "$1" tcp/link0
for program in "${@:2}"; do
    run_on_hosts "$program"
done
