#!/bin/sh
# Two ranks by mpirun, of a program that knows nothing of MPI. Ranks on several machines (--host) also
# need the address of rank 0's: -x MASTER_ADDR=...
#
#     mpirun.sh PROGRAM
set -eu
exec mpirun -n 2 "$1"
