#!/bin/bash
# Trains on two machines under slurm: sbatch examples/slurm.sh graph=fb15k237 discriminator=complex
# When slurm starts the job again, after a machine has failed or by `scontrol requeue`, it goes on with its run. Five
# minutes before its time is over it gets SIGTERM, saves and ends.
#SBATCH --job-name=advkge
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
set -euo pipefail

ranks=4  # on each machine
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / ranks))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# A folder of the job's own. It may be on a disk that the machines share, or on one that each has for itself.
srun --kill-on-bad-exit=1 torchrun --nnodes="$SLURM_NNODES" --nproc-per-node="$ranks" \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:29400" \
    launch/train.py "$@" hydra.run.dir="$PWD/outputs/slurm_$SLURM_JOB_ID" resume=auto
