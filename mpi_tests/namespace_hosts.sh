# Hosts made of network namespaces, for a script that sources this file.
#
#     enter_namespaces "$@"       run the script anew where it may make hosts; else it is skipped
#     make_hosts NUMBER RATE      links of that speed, all on one bridge
#     on_host HOST COMMAND...
#     exec_on_host HOST COMMAND...   in place of the shell, so that $! of a job is the command's
#
# Host h has the address 10.77.0.(h + 1) on link0, whose other end is port$h where the script runs.
# All namespaces hang on processes in a process namespace of their own, so that nothing is left of them
# when the script ends, whatever ends it.

hosts=() # process ids of their holders

skip() { echo "$(basename "$0"): skipped: $*"; exit 77; }

enter_namespaces() {
    local inside=(unshare --net --mount --pid --fork --kill-child --mount-proc) tool reason

    if [ "${GDNCP_INSIDE_NAMESPACES:-}" = "$0" ]; then
        return
    fi
    [ "$(id -u)" = 0 ] || skip "only root makes network namespaces, got user $(id -un)"
    for tool in ip tc unshare nsenter; do
        command -v "$tool" >/dev/null || skip "$tool is not installed"
    done
    reason=$("${inside[@]}" sh -c 'ip link add probe type bridge && mount -t sysfs sysfs /sys' 2>&1) ||
        skip "namespaces with bridges and a /sys of their own cannot be made: ${reason//$'\n'/ }"
    GDNCP_INSIDE_NAMESPACES=$0 exec "${inside[@]}" "$0" "$@"
}

exec_on_host() { exec nsenter --target "${hosts[$1]}" --net --mount --uts -- "${@:2}"; }
on_host() { (exec_on_host "$@"); }

# A host is a process that waits in namespaces of its own, with a /sys that shows its own links.
make_host() {
    local host=$1 rate=$2 tries

    unshare --net --mount --uts sh -c \
        "mount -t sysfs sysfs /sys && hostname host$host && exec sleep infinity" &
    hosts+=($!)
    for ((tries = 0; tries < 200; tries++)); do
        [ "$(on_host "$host" hostname 2>/dev/null)" = "host$host" ] && break
        sleep 0.05
    done
    ip link add "port$host" type veth peer name link0 netns "${hosts[$host]}"
    ip link set "port$host" master bridge0 up
    tc qdisc add dev "port$host" root tbf rate "$rate" burst 1mb latency 50ms
    on_host "$host" tc qdisc add dev link0 root tbf rate "$rate" burst 1mb latency 50ms
    on_host "$host" ip addr add "10.77.0.$((host + 1))/24" dev link0
    on_host "$host" ip link set lo up
    on_host "$host" ip link set link0 up
}

make_hosts() {
    local host

    ip link add bridge0 type bridge
    ip link set bridge0 up
    for ((host = 0; host < $1; host++)); do
        make_host "$host" "$2"
    done
}
