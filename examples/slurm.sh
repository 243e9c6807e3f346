#!/bin/sh
#SBATCH --ntasks=2
# Two ranks of a Slurm job, which meet on the machine of rank 0.
#
#     sbatch slurm.sh PROGRAM
set -eu
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
exec srun "$1"
