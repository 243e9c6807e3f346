#!/bin/bash
# needed_libraries.sh PROGRAM...
# Programs and libraries load on a machine without CUDA and NCCL: they name no library of theirs as
# needed. The runtime is linked statically, and what is used of the rest is opened when asked for.
set -euo pipefail
failed=0

for program in "$@"; do
    if ! needed=$(ldd "$program"); then
        echo "$program does not load"
        failed=1
    elif grep -E 'lib(cu[a-z]+|nccl|nv[a-zA-Z-]+)\.so|not found' <<<"$needed"; then
        echo "$program needs the libraries above"
        failed=1
    fi
    # A sanitizer's runtime alone would satisfy a list that was not read.
    grep -q 'libc\.so' <<<"$needed" || {
        echo "$program: no C library in '$needed'"
        failed=1
    }
done
exit $failed
