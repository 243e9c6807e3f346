#!/bin/sh
# Two ranks of this machine by torchrun, which starts programs of any language. On several machines add
# --nnodes, --node-rank and --master-addr, as for Python.
#
#     torchrun.sh PROGRAM
set -eu
exec torchrun --no-python --nproc-per-node 2 "$1"
