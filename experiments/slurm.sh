#!/bin/sh
#SBATCH --job-name=units --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --time=12:00:00 --output=%x-%j.log
# slurm.sh - the whole job of one model on a Slurm cluster: sbatch experiments/slurm.sh MODEL DATA OUT. One process per
# GPU; examples and sweep points are shared out, and the results are those of one process. What a job that ran out of
# time has finished is kept: submit it again. A model that needs several GPUs: --ntasks-per-node=1 and
# DEVICE=cuda:0,1,2,3. Without GPUs: DEVICE=cpu. By Open MPI instead of srun: mpirun -n K bin/score ...
# TEXT: the text whose perplexity is measured; EXAMPLES, LIMIT: fewer examples to score, fewer documents to sweep.
set -eu
model=$1 data=$2 out=$3 device=${DEVICE:-cuda} text=${TEXT:-$2/wikitext2/wiki.test.raw}
mkdir -p "$out"
srun bin/score --model "$model" --data "$data" --tasks all --shots 5 --examples "${EXAMPLES:-500}" --criteria all --device "$device" --out "$out/scores.h5"
bin/aggregate --store "$out/scores.h5" --out "$out/aggregates.h5" --csv "$out"
bin/train --store "$out/scores.h5" --model "$model" --criterion plainact,l2_norm --metrics "$out/predictors.csv" --out "$out/predictors.h5"
srun bin/sweep --model "$model" --data "$data" --tasks all --wikitext "$text" --limit "${LIMIT:-0}" --mask none,random,static,contextual --scores "$out/aggregates.h5" \
    --predictor "$out/predictors.h5" --criterion plainact,l2_norm --device "$device" --out "$out/sweep.csv" --details "$out/sweep.jsonl"
