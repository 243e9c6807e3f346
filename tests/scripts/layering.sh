#!/bin/bash
# layering.sh CC BOX_FILE...
# A box's sources can include the headers of the boxes below it and no others. A BOX_FILE is named
# for its box and holds its folders, an empty line, and the folders that its sources include from.
set -euo pipefail
cc=$1
shift
failed=0

own_folders() { sed '/^$/q' "$1" | sed '/^$/d'; }
visible_folders() { sed '1,/^$/d' "$1"; }
headers_of() { own_folders "$1" | while read -r folder; do find "$folder" -maxdepth 1 -name '*.h'; done; }

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
        done < <(grep -HnE '^ *# *include *"[^"]*/' "$folder"/*.[ch] 2>/dev/null |
            grep -vE 'include *"gdncp/[^/"]*"' || true)
    done < <(own_folders "$box")
    for other in "$@"; do
        while read -r header; do
            name=$(basename "$header")
            num_pairs=$((num_pairs + 1))
            if printf '%s\n' "${visible[@]}" | grep -qxF "$(dirname "$header")"; then
                printf '#include "%s"\n' "$name" |
                    "$cc" -std=gnu11 -fsyntax-only "${flags[@]}" -x c - ||
                    complain "$(basename "$box") cannot include $name of $(basename "$other")"
            elif printf '#include "%s"\n' "$name" |
                "$cc" -fsyntax-only "${flags[@]}" -x c - 2>/dev/null; then
                complain "$(basename "$box") can include $name of $(basename "$other")"
            fi
        done < <(headers_of "$other")
    done
done

# What the architecture forbids, by name, in case all folders became visible to all.
expect_hidden() { # box, box that it must not see
    local own
    own=$(own_folders "$2" | head -n 1)
    if visible_folders "$1" | grep -qxF "$own"; then
        complain "$(basename "$1") sees the folder of $(basename "$2")"
    fi
}
declare -A file_of
for box in "$@"; do
    file_of[$(basename "$box")]=$box
done
for pair in layouts:common layouts:comm layouts:ops layouts:layer common:layouts common:comm \
    common:ops common:layer comm:ops comm:layer ops:layouts ops:comm ops:layer; do
    expect_hidden "${file_of[${pair%:*}]}" "${file_of[${pair#*:}]}"
done

echo "$num_pairs pairs of a box and a header"
exit $failed
