#!/bin/bash
# hosts.sh PROGRAM
# Four hosts, each a network and process name space of its own on one bridge, lose one of them: its
# rank is killed, or its cable is cut. All others must hear of it, from sockets alone, and go on.
set -euo pipefail
. "$(dirname "$0")/namespace_hosts.sh"

num_hosts=4
victim=2
timeout_ms=10000

enter_namespaces "$@"
program=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
make_hosts $num_hosts 2gbit

# A rank is the first process of its name space, so that no other rank can see it.
start_rank() {
    exec_on_host "$1" env RANK="$1" WORLD_SIZE=$num_hosts MASTER_ADDR=10.77.0.1 MASTER_PORT=29500 \
        UCX_TLS=tcp,self GDNCP_TIMEOUT=$timeout_ms UCX_LOG_LEVEL=fatal \
        unshare --pid --fork --kill-child "$program" "$victim" >"$out/$1" 2>&1 &
    ranks[$1]=$!
}

wait_for_word() { # word, seconds, ranks that say it
    for ((tries = 0; tries < $2 * 20; tries++)); do
        [[ $(grep -l "^$1" "$out"/[0-9] | wc -l) -ge $3 ]] && return 0
        sleep 0.05
    done
    echo "no '$1' from $3 ranks in $2 s:"
    tail -n +1 "$out"/[0-9]
    exit 1
}

expect_loss() { # since when, longest ms
    local begin=$1 longest=$2 rank
    for rank in 0 1 3; do
        read -r _ at status sentence < <(grep '^ended' "$out/$rank")
        echo "rank $rank after $((at - begin)) ms: $status $sentence"
        if [[ $status != GDNCP_ERR_PEER_LOST || $sentence != *"rank $victim is lost"* ]] ||
            ((at - begin > longest)); then
            echo "expected GDNCP_ERR_PEER_LOST of rank $victim within $longest ms"
            exit 1
        fi
        grep -q "^left $((rank < victim ? rank : rank - 1)) of 3" "$out/$rank" || {
            echo "rank $rank did not go on: $(<"$out/$rank")"
            exit 1
        }
    done
}

for ((i = 0; i < num_hosts; i++)); do start_rank $i; done
wait_for_word ready 30 $num_hosts
grep -q '^ready.*tcp' "$out/0" || { echo "not over TCP: $(<"$out/0")"; exit 1; }
begin=$(date +%s%3N)
kill -9 "${ranks[victim]}"
wait_for_word left 20 3
echo "killed:"
expect_loss "$begin" 3000
wait "${ranks[@]}" || true

rm -f "$out"/[0-9]
for ((i = 0; i < num_hosts; i++)); do start_rank $i; done
wait_for_word ready 30 $num_hosts
begin=$(date +%s%3N)
ip link set "port$victim" down
wait_for_word left 30 3
echo "cut off:"
expect_loss "$begin" $timeout_ms
wait_for_word left 30 4
grep -q '^left 0 of 1' "$out/$victim" || { echo "cut off: $(<"$out/$victim")"; exit 1; }
wait "${ranks[@]}" || true
