#!/bin/bash
# hosts.sh PROGRAM
# Four hosts, each a network and process name space of its own on one bridge, lose one of them: its
# rank is killed, or its cable is cut. All others must hear of it, from sockets alone, and go on.
set -euo pipefail
program=$1
name=gdncp$$
hosts=4
victim=2
timeout_ms=10000
out=$(mktemp -d)

cleanup() {
    set +e
    kill -9 $(jobs -p) 2>/dev/null
    wait 2>/dev/null
    for ((i = 0; i < hosts; i++)); do ip netns delete "$name-$i" 2>/dev/null; done
    ip netns delete "$name-hub" 2>/dev/null
    rm -rf "$out"
}

if ! ip netns add "$name-hub" 2>/dev/null; then
    echo "no network name spaces here: not run"
    rm -rf "$out"
    exit 77
fi
trap cleanup EXIT

ip -n "$name-hub" link add bridge type bridge
ip -n "$name-hub" link set bridge up
for ((i = 0; i < hosts; i++)); do
    ip netns add "$name-$i"
    ip -n "$name-hub" link add "host$i" type veth peer name eth0 netns "$name-$i"
    ip -n "$name-hub" link set "host$i" master bridge up
    ip -n "$name-$i" address add "10.77.0.$((i + 1))/24" dev eth0
    ip -n "$name-$i" link set eth0 up
    ip -n "$name-$i" link set lo up
done

# A rank is the first process of its name space, so that no other rank can see it.
start_rank() {
    RANK=$1 WORLD_SIZE=$hosts MASTER_ADDR=10.77.0.1 MASTER_PORT=29500 UCX_TLS=tcp,self \
        GDNCP_TIMEOUT=$timeout_ms UCX_LOG_LEVEL=fatal \
        nsenter --net="/run/netns/$name-$1" unshare --pid --fork --kill-child \
        "$program" "$victim" >"$out/$1" 2>&1 &
    echo $! >"$out/$1.pid"
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

for ((i = 0; i < hosts; i++)); do start_rank $i; done
wait_for_word ready 30 $hosts
grep -q '^ready.*tcp' "$out/0" || { echo "not over TCP: $(<"$out/0")"; exit 1; }
begin=$(date +%s%3N)
kill -9 "$(<"$out/$victim.pid")"
wait_for_word left 20 3
echo "killed:"
expect_loss "$begin" 3000
wait

rm -f "$out"/[0-9]
for ((i = 0; i < hosts; i++)); do start_rank $i; done
wait_for_word ready 30 $hosts
begin=$(date +%s%3N)
ip -n "$name-hub" link set "host$victim" down
wait_for_word left 30 3
echo "cut off:"
expect_loss "$begin" $timeout_ms
wait_for_word left 30 4
grep -q '^left 0 of 1' "$out/$victim" || { echo "cut off: $(<"$out/$victim")"; exit 1; }
wait
