#!/bin/bash
# layering.sh CC CXX EMULATOR BOX_FILE...
# A box's sources can include the headers of the boxes below it and no others. A BOX_FILE is named
# for its box and holds its folders, an empty line, and the folders that its sources include from.
set -euo pipefail
cc=$1
cxx=$2
emulator=$3
shift 3
failed=0

own_folders() { sed '/^$/q' "$1" | sed '/^$/d'; }
visible_folders() { sed '1,/^$/d' "$1"; }
is_visible() { grep -xF "$1" <(visible_folders "$2") >/dev/null; } # folder, box file
# All but those that need the CUDA toolkit.
headers_of() {
    own_folders "$1" | while read -r folder; do
        find "$folder" -maxdepth 1 -name '*.h' -exec grep -L '<cuda_' {} +
    done
}

# Headers for kernels are C++, and see the emulator's side of themselves.
compile() { # header, flags...
    local header=$1
    shift
    if grep -q "namespace GDNCP_KERNELS" "$header"; then
        printf '#include "%s"\n' "$(basename "$header")" |
            "$cxx" -std=gnu++17 -fsyntax-only "$@" -I"$emulator" -x c++ -
    else
        printf '#include "%s"\n' "$(basename "$header")" |
            "$cc" -std=gnu11 -fsyntax-only "$@" -x c -
    fi
}

complain() {
    echo "$1"
    failed=1
}

# Headers are included by their bare name, so a name that occurs twice could hide another box's.
while read -r name; do
    complain "two boxes have a header named $name"
done < <(for box in "$@"; do headers_of "$box"; done | xargs -r -n 1 basename | sort | uniq -d)

num_pairs=0
for box in "$@"; do
    mapfile -t visible < <(visible_folders "$box")
    flags=("${visible[@]/#/-I}")
    while read -r folder; do
        while read -r line; do
            complain "an include must be a bare name or gdncp/name: $line"
        done < <(grep -HnE '^ *# *include *"[^"]*/' "$folder"/*.[ch] "$folder"/*.cu 2>/dev/null |
            grep -vE 'include *"gdncp/[^/"]*"' || true)
    done < <(own_folders "$box")
    for other in "$@"; do
        while read -r header; do
            name=$(basename "$header")
            num_pairs=$((num_pairs + 1))
            if is_visible "$(dirname "$header")" "$box"; then
                compile "$header" "${flags[@]}" ||
                    complain "$(basename "$box") cannot include $name of $(basename "$other")"
            elif compile "$header" "${flags[@]}" 2>/dev/null; then
                complain "$(basename "$box") can include $name of $(basename "$other")"
            fi
        done < <(headers_of "$other")
    done
done

# The arrows of the architecture, in case the folders above are not what they should be.
declare -A below=(
    [status]=""
    [common]="status"
    [device]="status common"
    [layouts]="status"
    [comm]="status common device layouts"
    [ops]="status common device"
    [layer]="status common device layouts comm ops"
)
for box in "$@"; do
    name=$(basename "$box")
    for other in "$@"; do
        other_name=$(basename "$other")
        sees=no
        if is_visible "$(sed -n 1p "$other")" "$box"; then
            sees=yes
        fi
        should=no
        if [[ " $name ${below[$name]} " == *" $other_name "* ]]; then
            should=yes
        fi
        if [ $sees != $should ]; then
            complain "does $name see the folder of $other_name: expected $should, got $sees"
        fi
    done
done

echo "$num_pairs pairs of a box and a header"
exit $failed
