#!/bin/bash
# gates_catch.sh GATES CUOBJDUMP OBJECT
# The gates pass kernels that are as the rules say, and name each that is not. OBJECT: of planted.cu.
set -euo pipefail
gates=$1
cuobjdump=$2
object=$3

if [ ! -f "$object" ]; then
    echo "$object was not built"
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

run() { # architectures, rules...
    local -r architectures=$1
    shift
    printf '%s\n' "$@" >"$folder/rules"
    "$gates" --cuobjdump "$cuobjdump" --rules "$folder/rules" --architectures "$architectures" "$object"
}

passes() {
    run "$@" >"$folder/out" 2>&1 || {
        cat "$folder/out"
        echo "expected to pass: $*"
        failed=1
    }
}

fails() { # what it says, then as run
    local -r sentence=$1
    shift
    if run "$@" >"$folder/out" 2>&1; then
        echo "expected to fail: $*"
        failed=1
    elif ! grep -qE -- "$sentence" "$folder/out"; then
        cat "$folder/out"
        echo "expected the sentence '$sentence' of: $*"
        failed=1
    fi
}

passes sm_90a 'planted\.fast lean registers<=64 HMMA>=1 LDSM>=1 LDGSTS>=1'
passes sm_90a '# nothing' ''
passes sm_90a 'planted\.spilled spills<=100000 lean@sm_80 lean@sm_80,sm_100'
fails 'planted\.spilled for sm_90a: expected spills<=3, got [0-9]+ of them' sm_90a 'planted\.spilled spills<=3'
fails 'planted\.spilled for sm_90a: expected lean@sm_80,sm_90a, got' sm_90a 'planted\.spilled lean@sm_80,sm_90a'
fails 'planted\.spilled for sm_90a: expected lean, got' sm_90a 'planted\.spilled lean'
fails 'planted\.indexed for sm_90a: expected lean, got' sm_90a 'planted\.indexed lean'
fails 'planted\.indexed for' sm_90a 'planted\..* lean'
fails 'expected registers<=8, got [0-9]+ registers' sm_90a 'planted\.fast registers<=8'
fails 'planted\.spilled for sm_90a: expected HMMA>=1, got 0 of HMMA' sm_90a 'planted\.spilled HMMA>=1'
fails 'expected HMMA>=2, got 1 of HMMA' sm_90a 'planted\.fast HMMA>=2'
fails 'expected LDSM>=2, got 1 of LDSM' sm_90a 'planted\.fast LDSM>=2'
fails 'expected LDGSTS>=2, got 1 of LDGSTS' sm_90a 'planted\.fast LDGSTS>=2'
fails 'no kernel for sm_90a is called planted\\\.gone' sm_90a 'planted\.gone lean'
fails 'no kernel for sm_80 is called' sm_90a,sm_80 'planted\.fast lean'
fails "expected lean, spills<=N, registers<=N or NAME>=N, got 'quick'" sm_90a 'planted\.fast quick'
fails 'expected a pattern and what must hold' sm_90a 'planted\.fast'
exit $failed
