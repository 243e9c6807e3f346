#!/bin/bash
# headers_alone.sh CC CXX INCLUDE_FOLDER
# Every public header compiles by itself, as C11 and as C++17, and gdncp.h includes each of them.
set -euo pipefail
cc=$1
cxx=$2
include=$3
failed=0

compile() { # what, header, command...
    local -r what=$1 header=$2
    shift 2
    if ! printf '#include "gdncp/%s"\nextern int not_empty;\n' "$header" | "$@" -Wall -Wextra -Werror -pedantic \
        -fsyntax-only -I "$include" -; then
        echo "gdncp/$header does not compile by itself as $what"
        failed=1
    fi
}

if [ "$cxx" = missing ]; then
    echo "no C++ compiler: install g++"
    exit 1
fi
for path in "$include"/gdncp/*.h; do
    header=$(basename "$path")
    compile C11 "$header" "$cc" -std=c11 -x c
    compile C++17 "$header" "$cxx" -std=c++17 -x c++
    if [ "$header" != gdncp.h ] && ! grep -qx "#include \"$header\"" "$include/gdncp/gdncp.h"; then
        echo "gdncp/gdncp.h does not include $header"
        failed=1
    fi
done
exit $failed
