#!/usr/bin/env python3
"""What the compiled kernels must be, read from their machine code. Prints a table of all kernels.

    kernel_gates.py --cuobjdump PROGRAM --rules FILE --architectures sm_80,sm_90a OBJECT...

A kernel is called <source without ending>.<name><template arguments>. Each line of the rules is a
pattern for whole names and what must hold for every kernel it matches:

    lean          no stack, no local memory, no load or store of it: nothing was spilled
    spills<=N     at most N loads and stores of local memory
    registers<=N  of a thread
    NAME>=N       at least N instructions of that name: HMMA (tensor core), LDSM (ldmatrix),
                  LDGSTS (cp.async), ...

What ends in @sm_80 (or @sm_80,sm_90a) must hold for these architectures alone.

A rule that matches no kernel of some architecture is an error too: the kernel was renamed, or is
not built any more. Kernels that no rule names are only shown.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys

COUNTED = ("HMMA", "LDSM", "LDGSTS")
LOCAL_MEMORY = ("LDL", "STL")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cuobjdump", default="cuobjdump")
    parser.add_argument("--rules", type=pathlib.Path, required=True)
    parser.add_argument("--architectures", required=True, help="that every object must have, with commas")
    parser.add_argument("objects", nargs="+", type=pathlib.Path)
    return parser.parse_args()


def demangle(symbols):
    """Names without return type, namespaces of gdncp, and parameters."""
    out = subprocess.run(["c++filt"], input="\n".join(symbols), text=True, check=True, capture_output=True).stdout
    names = []
    for line in out.splitlines():
        line = re.sub(r"\(anonymous namespace\)::|gdncp_cuda::", "", line)
        line = re.sub(r"\([a-z_ ]+\)(?=-?\d)", "", line)  # the types of template arguments
        names.append(re.sub(r"^void |\(.*\)$", "", line))
    return dict(zip(symbols, names))


def dump(cuobjdump, option, path):
    done = subprocess.run([cuobjdump, option, str(path)], text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{cuobjdump} {option} {path}: {done.stderr.strip()}")
    return done.stdout


def read_object(cuobjdump, path):
    """(architecture, symbol) to what is known of the kernel, as a Counter."""
    kernels = {}
    arch = symbol = None
    for line in dump(cuobjdump, "-res-usage", path).splitlines():
        if match := re.match(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r" Function (\S+):", line):
            symbol = match[1]
        elif symbol and (match := re.match(r"  REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line)):
            values = map(int, match.groups())
            kernels[arch, symbol] = collections.Counter(
                dict(zip(("registers", "stack", "shared", "local"), values)))
            symbol = None
    arch = kernel = None
    for line in dump(cuobjdump, "-sass", path).splitlines():
        if match := re.match(r"\s*arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function : (\S+)", line):
            kernel = kernels[arch, match[1]]
        elif kernel is not None and (match := re.match(r"\s*/\*\w{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9]*)", line)):
            kernel[match[1]] += 1
            kernel["instructions"] += 1
    stem = path.name.split(".")[0]
    names = demangle([symbol for _, symbol in kernels])
    return [(f"{stem}.{names[symbol]}", arch, kernel) for (arch, symbol), kernel in kernels.items()]


def read_rules(path):
    rules = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        for need in words[1:]:
            if not re.fullmatch(r"(lean|(spills|registers)<=\d+|[A-Z0-9]+>=\d+)(@sm_\w+(,sm_\w+)*)?", need):
                sys.exit(f"{path}:{number}: expected lean, spills<=N, registers<=N or NAME>=N, got '{need}'")
        if len(words) < 2:
            sys.exit(f"{path}:{number}: expected a pattern and what must hold, got '{line}'")
        rules.append((re.compile(words[0]), words[1:]))
    return rules


def spills(kernel):
    return sum(kernel[name] for name in LOCAL_MEMORY)


def broken(need, arch, kernel):
    """What is wrong, or None."""
    need, _, architectures = need.partition("@")
    if architectures and arch not in architectures.split(","):
        return None
    if need == "lean":
        if kernel["stack"] or kernel["local"] or spills(kernel):
            return (f"{kernel['stack']} bytes of stack, {kernel['local']} of local memory, "
                    f"{spills(kernel)} loads and stores of it")
    elif need.startswith("spills"):
        if spills(kernel) > int(need.split("<=")[1]):
            return f"{spills(kernel)} of them"
    elif need.startswith("registers"):
        if kernel["registers"] > int(need.split("<=")[1]):
            return f"{kernel['registers']} registers"
    else:
        name, least = need.split(">=")
        if kernel[name] < int(least):
            return f"{kernel[name]} of {name}"
    return None


def main():
    arguments = parse_arguments()
    architectures = arguments.architectures.split(",")
    rules = read_rules(arguments.rules)
    kernels = sorted((row for path in arguments.objects for row in read_object(arguments.cuobjdump, path)),
                     key=lambda row: row[:2])
    if not kernels:
        sys.exit("no kernel in " + " ".join(map(str, arguments.objects)))

    width = max(len(name) for name, _, _ in kernels)
    print(f"{'kernel':{width}} arch    regs  shared  stack  spills  instr" + "".join(f"  {n:>6}" for n in COUNTED))
    for name, arch, kernel in kernels:
        print(f"{name:{width}} {arch:7} {kernel['registers']:4}  {kernel['shared']:6}  {kernel['stack']:5}  "
              f"{spills(kernel):6}  {kernel['instructions']:5}" + "".join(f"  {kernel[n]:6}" for n in COUNTED))

    errors = []
    for pattern, needs in rules:
        for arch in architectures:
            matches = [(name, kernel) for name, a, kernel in kernels if a == arch and pattern.fullmatch(name)]
            if not matches:
                errors.append(f"no kernel for {arch} is called {pattern.pattern}")
            for name, kernel in matches:
                errors += [f"{name} for {arch}: expected {need}, got {what}"
                           for need in needs if (what := broken(need, arch, kernel))]
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
