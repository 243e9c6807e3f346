#!/bin/bash
# launch_examples.sh EXAMPLES_FOLDER BUILD_FOLDER
# Runs the examples that launchers start. Where torchrun or Slurm is not there, a stand-in sets the
# variables that programs see; without mpirun its examples are left out, and that is said.
set -euo pipefail
examples=$1
build=$2
stand_ins=$(cd "$(dirname "$0")/stand_ins" && pwd)
swapped='2 ranks, 8 tokens each: read in order, swapped for attention'

# Open MPI's refusals: of root, of more ranks than cores, of binding them then.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none

expect() {
    local wanted=$1 got

    shift
    got=$(timeout 120 "$@") || { echo "$*: failed: $got"; exit 1; }
    [ "$got" = "$wanted" ] || { echo "$*: expected \"$wanted\", got \"$got\""; exit 1; }
}

if ! command -v torchrun >/dev/null; then
    echo "torchrun: a stand-in, as it is not installed"
    PATH=$PATH:$stand_ins
fi
expect "$swapped" "$examples/torchrun.sh" "$build/launched"

# Slurm's commands are of no use outside of a cluster.
echo "Slurm: a stand-in"
PATH=$stand_ins:$PATH SLURM_JOB_NODELIST=127.0.0.1 expect "$swapped" "$examples/slurm.sh" \
    "$build/launched"

if ! command -v mpirun >/dev/null; then
    echo "mpirun: left out, as it is not installed"
    exit 0
fi
expect "$swapped" "$examples/mpirun.sh" "$build/launched"
if [ -x "$build/mpi_all_gather" ]; then
    expect '2 ranks of MPI are as many of gdncp' mpirun -n 2 "$build/mpi_all_gather"
else
    echo "mpi_all_gather: left out, as MPI's headers are not installed"
fi
