#!/bin/bash
# exported_symbols.sh CC NM INCLUDE_FOLDER LIBRARY
# The library exports the functions that its headers mark GDNCP_API, and nothing else.
set -euo pipefail
cc=$1
nm=$2
include=$3
library=$4

# One declaration a line; the name is what stands before the first parenthesis of its parameters.
declared() {
    printf '#include "gdncp/gdncp.h"\n' | "$cc" -E -P -I "$include" -x c - | tr '\n' ' ' |
        sed 's/;/;\n/g' | grep -F 'visibility("default")' |
        sed -E 's/.*__attribute__\(\(visibility\("default"\)\)\)//; s/^[^(]*[ *]([a-z0-9_]+)\(.*/\1/' |
        LC_ALL=C sort
}

# Type A is the name of the symbol version.
exported() {
    "$nm" -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
        LC_ALL=C sort
}

if [ "$(declared | wc -l)" -lt 50 ]; then
    echo "no more than $(declared | wc -l) GDNCP_API functions found in the headers"
    exit 1
fi
if ! diff <(declared) <(exported); then
    echo "< declared GDNCP_API and not exported   > exported and not declared"
    exit 1
fi
