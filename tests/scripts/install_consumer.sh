#!/bin/bash
# install_consumer.sh CMAKE CC BUILD_FOLDER EXAMPLES_FOLDER [FLAG]
# Installs, moves what was installed, and builds and runs the examples from where it then is, by
# pkg-config and by find_package(). FLAG: of the sanitizer that the library was built with.
set -euo pipefail
cmake=$1
cc=$2
build=$3
examples=$4
flag=${5:-}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Memory that a library of others keeps to the end is no concern of this test.
export ASAN_OPTIONS=detect_leaks=0

"$cmake" --install "$build" --prefix "$folder/installed" >"$folder/log" || {
    cat "$folder/log"
    exit 1
}
mv "$folder/installed" "$folder/moved"
prefix=$folder/moved
if grep -rIlF -e "$folder/installed" -e "$build" "$prefix"; then
    echo "the files above name the folder of the build, or the one that was installed to"
    exit 1
fi

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name gdncp.pc)")
export PKG_CONFIG_PATH
libdir=$(pkg-config --variable=libdir gdncp)
read -r -a flags < <(pkg-config --cflags --libs gdncp)
"$cc" -std=c11 -Wall -Wextra -Werror -pthread ${flag:+"$flag"} "$examples/minimal.c" "${flags[@]}" \
    -Wl,-rpath,"$libdir" -o "$folder/minimal"
"$folder/minimal"

"$cmake" -S "$examples" -B "$folder/build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$flag" \
    -DCMAKE_PREFIX_PATH="$prefix" >"$folder/log"
"$cmake" --build "$folder/build" >"$folder/log" || {
    cat "$folder/log"
    exit 1
}
"$folder/build/minimal"
"$folder/build/layer"
"$(dirname "$0")/launch_examples.sh" "$examples" "$folder/build"

# Programs that were installed find what they need from there, too.
for tool in "$prefix"/bin/*; do
    if [ -x "$tool" ] && ldd "$tool" | grep 'not found'; then
        echo "$(basename "$tool") does not find its libraries"
        exit 1
    fi
done
