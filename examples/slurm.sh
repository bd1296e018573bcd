#!/bin/bash
# Train on several machines of a cluster that is run by Slurm:   sbatch examples/slurm.sh
#
# Two machines with eight GPUs each, one process for each GPU. On machines without GPUs leave out --gpus-per-node and
# --device cuda, take --preset mnist (attention is a recipe for GPUs), and ask for a few processes with several cores each. Sampling and evaluation take the same launchers.
# Without Slurm:
#
#     mpiexec -n 4 minidiff train --preset mnist                               one machine
#     mpiexec -n 16 --hostfile hosts minidiff train --preset mnist             a list of machines, as MPI wants it
#
# A run that was stopped goes on with any number of processes:   --resume
#
#SBATCH --job-name=minidiff
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120           # two minutes before the end: time to save a checkpoint
#SBATCH --requeue

set -euo pipefail
OUT=${OUT:-runs/attention}

# A job that was put back into the queue finds its own checkpoints.
RESUME=""
if compgen -G "$OUT/checkpoints/step_*.npz" > /dev/null; then RESUME="--resume"; fi

# pmix is Open MPI's way to be started by Slurm; MPICH and Intel MPI take pmi2.
srun --mpi="${MPI_KIND:-pmix}" minidiff train --preset attention --data cifar10 --device cuda --out "$OUT" $RESUME
