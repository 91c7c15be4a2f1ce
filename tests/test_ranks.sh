#!/bin/sh
# test_ranks - bin/sweep as several processes, by the launcher's variables and, where it is installed, by mpirun: the
# rows and details of one process, whatever the number, also when a process is killed at work or all of them are and
# another number resumes.
bin=${BIN:-build/opt/bin} model=model/default data=data/world dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
. tests/needs.sh
OMP_NUM_THREADS=1
export OMP_NUM_THREADS
fail() { echo "FAIL: $*"; tail -n 3 "$dir"/log*; exit 1; }
"$bin/score" --model $model --data $data --tasks copa,winogrande --shots 0 --examples 6 --criteria snip,l2_norm --out "$dir/s.h5" >"$dir/log" 2>&1 &&
    "$bin/aggregate" --store "$dir/s.h5" --out "$dir/a.h5" >>"$dir/log" 2>&1 &&
    "$bin/train" --store "$dir/s.h5" --model $model --hidden 16 --epochs 2 --out "$dir/p.h5" >>"$dir/log" 2>&1 || fail "score, aggregate, train"
sweep() {
    out=$1
    shift
    exec "$@" "$bin/sweep" --model $model --data $data --tasks copa,winogrande --limit 5 --mask none,random,static,contextual --seed 0,1 --scores "$dir/a.h5" --predictor "$dir/p.h5" \
        --criterion snip,l2_norm --sparsity 0,30,60 --out "$dir/$out.csv" --details "$dir/$out.jsonl"
}
same() {
    grep -v '^#' "$dir/$1.csv" >"$dir/$1.rows"
    cmp "$dir/one.rows" "$dir/$1.rows" && cmp "$dir/one.jsonl" "$dir/$1.jsonl" || fail "$2"
    [ ! -e "$dir/$1.csv.parts" ] || fail "$2: the folder of parts is left"
}
(sweep one) >"$dir/log" 2>&1 || fail "one process"
grep -v '^#' "$dir/one.csv" >"$dir/one.rows"
[ "$(wc -l <"$dir/one.rows")" -ge 100 ] || fail "only $(wc -l <"$dir/one.rows") rows"
for k in 2 3; do
    r=0
    while [ $r -lt $k ]; do
        (OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=$k; export OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE; sweep of$k) >"$dir/log.$r" 2>&1 &
        r=$((r + 1))
    done
    wait
    [ ! -s "$dir/log.1" ] || ! grep -q '%' "$dir/log.1" || fail "a worker prints rows"
    same of$k "$k processes"
done
# a worker dies at work, process 0 finishes; then everything dies and one process resumes
begin() { (SLURM_PROCID=$1 SLURM_NTASKS=2; export SLURM_PROCID SLURM_NTASKS; sweep "$2") >"$dir/log.$1" 2>&1 & }
has_parts() { [ "$(find "$dir/$1.csv.parts" -name 'part-*' | wc -l)" -ge "$2" ]; }
begin 0 dead
zero=$!
begin 1 dead
kill_at_work $! has_parts dead 4
wait $zero || fail "process 0 beside a dead worker"
same dead "a dead worker"
for try in 1 2 3 4 5 6 7 8 9 10; do  # again where all was done before the kill
    rm -rf "$dir"/all.*
    begin 0 all
    zero=$!
    begin 1 all
    worker=$!
    kill_at_work $zero has_parts all 6
    kill -9 $worker 2>/dev/null
    wait
    [ -d "$dir/all.csv.parts" ] && break
done
[ -d "$dir/all.csv.parts" ] || fail "nothing was left to go on with in $try tries"
cp -r "$dir/all.csv.parts" "$dir/kept"
(sweep all) >"$dir/log" 2>&1 || fail "the run that resumes"
same all "a killed run, gone on with by one process"
for rest in "$dir/kept" "$(mktemp -d "$dir/empty.XXXXXX")"; do  # killed when every row was there, before or while it removed the parts
    mv "$rest" "$dir/all.csv.parts"
    (sweep all) >"$dir/log" 2>&1 || fail "the run with nothing to do"
    same all "a run killed at its end"
done
if mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    (sweep mpi mpirun --allow-run-as-root --oversubscribe -n 2) >"$dir/log" 2>&1 || fail "mpirun"
    same mpi "mpirun"
else echo "SKIP test_ranks: Open MPI is not installed; the launcher's variables were set by hand"
fi
