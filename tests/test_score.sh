#!/bin/sh
# test_score - bin/score and bin/aggregate as processes, on a tiny model and made-up task files: kill -9 at random
# moments, thread and batch sizes, several processes, extension, refusals, full disk, two at once. Datasets are compared
# by tests/h5same.py (h5py).
set -u
export OMP_WAIT_POLICY=passive  # processes that wait for each other share two cores
BIN=${BIN:-build/opt/bin}
score=$BIN/score model=tests/golden/opt/pre
python=/usr/bin/python3
bin=$BIN
. tests/needs.sh
needs_h5py
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
same() { $python tests/h5same.py "$@" || fail "$3"; }

mkdir -p "$dir/data/copa" "$dir/data/piqa"
awk -v d="$dir/data" 'BEGIN {
  split("cat dog bird fish", animal); split("ran slept ate hid", did)
  for (i = 0; i < 40; i++) {
    a = animal[i % 4 + 1]; v = did[int(i / 4) % 4 + 1]; w = did[(int(i / 4) + 1) % 4 + 1]
    printf "{\"premise\": \"The %s %s %d.\", \"choice1\": \"It %s.\", \"choice2\": \"It %s then.\", \"question\": \"%s\", \"label\": %d, \"idx\": %d}\n", a, v, i, v, w, i % 3 ? "cause" : "effect", i % 2, i > d "/copa/train.jsonl"
    printf "{\"goal\": \"Feed a %s %d\", \"sol1\": \"It %s.\", \"sol2\": \"Then %s it.\"}\n", a, i, v, w > d "/piqa/train.jsonl"
    print i % 2 > d "/piqa/train-labels.lst"
  }
}'
run() { out=$1; shift; "$score" --model $model --data "$dir/data" --shots 1 --mode both --threads 2 --out "$dir/$out" "$@" >"$dir/log" 2>&1; }
must() { run "$@" || fail "$* : $(tail -n 1 "$dir/log")"; }
refused() { text=$1; shift; run "$@" && fail "$* was not refused"; grep -q "$text" "$dir/log" || fail "$* : no '$text' in: $(tail -n 1 "$dir/log")"; }

"$score" --list | grep -q '^snip: ' || fail "--list does not show snip"
must whole.h5 --tasks piqa,copa --examples 12 --criteria all
[ ! -e "$dir/whole.h5.parts" ] && [ ! -e "$dir/whole.h5.lock" ] && [ ! -e "$dir/whole.h5.tmp" ] || fail "something is left beside the store"
grep -q '^estimate: 24 of 24' "$dir/log" || fail "no estimate is printed"

# the same numbers whatever the threads, the batches, the processes
must one.h5 --tasks copa,piqa --examples 12 --criteria all --threads 1 --batch-tokens 300
same "$dir/whole.h5" "$dir/one.h5" "threads and batches change the store"
pids=
for r in 0 1 2; do
  PMI_RANK=$r PMI_SIZE=3 "$score" --model $model --data "$dir/data" --shots 1 --mode both --threads 1 --batch-tokens 300 --tasks piqa,copa --examples 12 --criteria all --out "$dir/three.h5" >"$dir/log.$r" 2>&1 &
  pids="$pids $!"
done
for pid in $pids; do wait $pid || fail "one of three processes: $(cat "$dir"/log.?)"; done
same "$dir/whole.h5" "$dir/three.h5" "three processes change the store: $(cat "$dir"/log.?)"

# today's conventions: the first documents of the file, BOS, one text with two spaces before COPA's candidate
must today.h5 --tasks copa --examples 2 --criteria snip --harness today --bos on --shots 0
"$BIN/tasks" --model $model --encode "The cat ran 0 therefore  it ran." >"$dir/ids" || fail "tasks --encode"
$python - "$dir" <<'PY' || fail "texts of today's harness"
import sys, h5py
with h5py.File(sys.argv[1] + "/today.h5") as f:
    e = f["examples"]
    assert [i.decode() for i in e["id"][:]] == ["0", "1"], e["id"][:]
    ids = e["tokens"][: e["offset"][1]].tolist()
    assert ids == [2] + [int(l.split()[0]) for l in open(sys.argv[1] + "/ids")], ids
PY
refused 'harness is today there, 2022 here' today.h5 --tasks copa --examples 2 --criteria snip --bos on --shots 0

# a part: the same whatever the processes; another part does not fit into the store
must part.h5 --tasks copa,piqa --examples 7 --criteria snip --part 2/3
pids=
for r in 0 1; do
  PMI_RANK=$r PMI_SIZE=2 "$score" --model $model --data "$dir/data" --shots 1 --mode both --threads 1 --batch-tokens 300 --tasks copa,piqa --examples 7 --criteria snip --part 2/3 --out "$dir/part2.h5" >"$dir/log.$r" 2>&1 &
  pids="$pids $!"
done
for pid in $pids; do wait $pid || fail "one of two processes: $(cat "$dir"/log.?)"; done
same "$dir/part.h5" "$dir/part2.h5" "two processes change the store of a part: $(cat "$dir"/log.?)"
must part.h5 --tasks copa,piqa --examples 9 --criteria snip --part 2/3
refused 'part is 2/3 there, 1/3 here; give another --out' part.h5 --tasks copa --examples 9 --criteria snip --part 1/3
refused 'part is 2/3 there, 1/1 here' part.h5 --tasks copa --examples 9 --criteria snip
refused 'part is 1/1 there, 2/3 here' one.h5 --tasks copa --part 2/3

# killed at 20 random moments of the time that a run takes; a stubborn user runs the same command again until it is done
start=$(date +%s%3N)
must killed.h5 --tasks piqa,copa --examples 12 --criteria all --batch-tokens 250
kills=0 runs=0 at=7 took=$(($(date +%s%3N) - start))
[ $took -lt 999 ] || took=999
while [ $kills -lt 20 ]; do
  rm -rf "$dir"/killed.h5*
  for again in 1 2 3 4 5 6 7 8; do
    at=$(((at * 1103515245 + 12345) % 2147483648))
    "$score" --model $model --data "$dir/data" --shots 1 --mode both --threads 2 --batch-tokens 250 --tasks piqa,copa --examples 12 --criteria all --out "$dir/killed.h5" >"$dir/log" 2>&1 &
    pid=$!
    sleep "0.$(printf %03d $((at / 65536 % took)))"
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null
    runs=$((runs + 1))
    [ -e "$dir/killed.h5" ] && break
  done
  must killed.h5 --tasks piqa,copa --examples 12 --criteria all --batch-tokens 250
  must killed.h5 --tasks piqa,copa --examples 12 --criteria all --batch-tokens 250
  [ ! -e "$dir/killed.h5.parts" ] || fail "part files are left after the kills"
  same "$dir/whole.h5" "$dir/killed.h5" "a killed run ends in other numbers"
done
echo "$kills kills in $runs runs"

# extended step by step: the same as at once, and what is there is not computed again
must grown.h5 --tasks copa --examples 5 --criteria snip,l2_norm
must grown.h5 --tasks copa --examples 5 --criteria all
grep -q '^estimate: 5 of 5' "$dir/log" || fail "a new criterion: $(grep estimate "$dir/log")"
must grown.h5 --tasks piqa --examples 12 --criteria snip
must grown.h5 --tasks copa --examples 12 --criteria snip
same "$dir/whole.h5" "$dir/grown.h5" "an extended store differs from one computed at once"
must grown.h5 --tasks copa --examples 3 --criteria snip
grep -q 'nothing to compute' "$dir/log" || fail "a finished store is computed again"
must removal.h5 --tasks copa --examples 3 --criteria snip,removal --removal-neurons 1
must removal.h5 --tasks copa --examples 4 --criteria removal --removal-neurons 2
must removal2.h5 --tasks copa --examples 4 --criteria removal,snip --removal-neurons 2
same "$dir/removal2.h5" "$dir/removal.h5" "extended removal scores differ"

# what does not fit is refused by name and the store stays
cp "$dir/grown.h5" "$dir/before.h5"
refused 'seed is 1 there, 2 here' grown.h5 --tasks copa --seed 2
refused 'shots is 1 there, 0 here' grown.h5 --tasks copa --shots 0
refused 'mode is both there, sound here' grown.h5 --tasks copa --mode sound
refused 'store_type is fp32 there' grown.h5 --tasks copa --store-type fp16
cmp -s "$dir/before.h5" "$dir/grown.h5" || fail "a refused command changed the store"

# bad input
refused 'unknown criterion nosuch' x.h5 --criteria nosuch
refused 'unknown task nosuch' x.h5 --tasks nosuch
refused 'not an HDF5 file' data/copa/train.jsonl --tasks copa
refused 'cannot write' none/x.h5 --tasks copa
refused 'longer than the model' x.h5 --tasks copa --shots 9
must x.h5 --tasks copa --shots 9 --over-long cut --examples 2 --criteria snip
grep -q '2 over-long ones cut' "$dir/log" || fail "cut examples are not counted"
mkdir "$dir/y.h5.parts"; echo 'seed=9' >"$dir/y.h5.parts/plan"
refused 'unfinished run of another command' y.h5 --tasks copa --criteria snip
[ ! -e "$dir/x.h5.lock" ] || fail "the lock file stays"

# a file that may not grow stands for a full disk: at the parts, and at the store
for blocks in 8 90; do
  (ulimit -f $blocks; run full.h5 --tasks piqa,copa --examples 12 --criteria all) && fail "a full disk goes unnoticed at $blocks blocks"
  [ "$(grep -c '^score: .*cannot write' "$dir/log")" = 1 ] || fail "a full disk is not said in one line: $(tail -n 3 "$dir/log")"
  [ ! -e "$dir/full.h5" ] || fail "a store that is not whole looks whole"
done
cp "$dir/full.h5.parts/plan" "$dir/plan"
sed -i 's/^code=.*/code=older/' "$dir/full.h5.parts/plan"
refused 'there code=older; here code=' full.h5 --tasks piqa,copa --examples 12 --criteria all
cp "$dir/plan" "$dir/full.h5.parts/plan"
must full.h5 --tasks piqa,copa --examples 12 --criteria all
same "$dir/whole.h5" "$dir/full.h5" "after a full disk the numbers differ"

# two at once: the first holds the store, stopped, while the second looks
"$score" --model $model --data "$dir/data" --shots 1 --tasks piqa,copa --examples 40 --criteria all --mode both --out "$dir/two.h5" >"$dir/log.1" 2>&1 &
pid=$!
await $pid test -s "$dir/two.h5.lock" && kill -STOP $pid || fail "nobody holds the store: $(tail -n 1 "$dir/log.1")"
refused 'another process' two.h5 --tasks piqa --examples 4
kill -CONT $pid
wait $pid || fail "one of two processes: $(tail -n 1 "$dir/log.1")"

# 16 bit
must half.h5 --tasks piqa,copa --examples 12 --criteria all --store-type fp16
grep -q '^16 bit: /scores/snip/heads .* rank correlation' "$dir/log" || fail "the loss of 16 bit is not printed"
same "$dir/whole.h5" "$dir/half.h5" "16-bit scores are off" half

# the picture of criteria/FILES.md: of 16-bit scores the same as of 32-bit ones
plot=${PYTHON:-$python}
if "$plot" -c 'import h5py, pandas, matplotlib' 2>/dev/null; then
  for name in whole half; do
    sed -n '/^```python$/,/^```$/p' criteria/FILES.md | grep -v '^```' >"$dir/plot.py"
    printf 'table.to_pickle("%s.pkl")\n' $name >>"$dir/plot.py"
    sed -i "s,results/demo/scores.h5,$name.h5," "$dir/plot.py"
    (cd "$dir" && MPLBACKEND=agg "$plot" plot.py && [ -s fisher.png ]) || fail "the ten lines of criteria/FILES.md"
  done
  (cd "$dir" && "$plot" -c 'import pandas, numpy; a, b = map(pandas.read_pickle, ("whole.pkl", "half.pkl")); numpy.testing.assert_allclose(a, b, rtol=1e-3)') || fail "the numbers that criteria/FILES.md plots"
else
  echo "SKIP the picture of criteria/FILES.md: $plot has no h5py, pandas and matplotlib"
fi

# aggregates against numpy, in place and apart
"$BIN/aggregate" --store "$dir/removal.h5" --out "$dir/removal.h5" --csv "$dir/csv" >"$dir/log" 2>&1 || fail "aggregate: $(tail -n 1 "$dir/log")"
"$BIN/aggregate" --store "$dir/whole.h5" --out "$dir/aggregates.h5" >"$dir/log" 2>&1 || fail "aggregate: $(tail -n 1 "$dir/log")"
$python tests/h5aggregates.py "$dir/removal.h5" "$dir/removal.h5" || fail "aggregates of removal.h5"
$python tests/h5aggregates.py "$dir/whole.h5" "$dir/aggregates.h5" || fail "aggregates of whole.h5"
must compat.h5 --mode compat --tasks copa --examples 3 --criteria snip,grad_norm,removal --removal-neurons 2
"$BIN/aggregate" --store "$dir/compat.h5" --out "$dir/compat.h5" >"$dir/log" 2>&1 || fail "aggregate: $(tail -n 1 "$dir/log")"
grep -q '^compat, heads: agreement with exact removal' "$dir/log" || fail "the agreement of compat scores alone is missing"
$python tests/h5aggregates.py "$dir/compat.h5" "$dir/compat.h5" || fail "aggregates of compat.h5"
for f in rank_variance head_scores score_stats correlation removal; do [ -s "$dir/csv/$f.csv" ] || fail "$f.csv is missing"; done
"$BIN/aggregate" --store "$dir/whole.h5" --out "$dir/grown.h5" >"$dir/log" 2>&1 && fail "aggregate writes over another store"
cp "$dir/removal.h5" "$dir/before.h5"
for blocks in 2 20 $(($(stat -c %s "$dir/removal.h5") / 2048)); do
  (ulimit -f $blocks; "$BIN/aggregate" --store "$dir/removal.h5" --out "$dir/removal.h5" >"$dir/log" 2>&1) && fail "aggregate: a full disk goes unnoticed at $blocks blocks"
  [ "$(grep -c '^aggregate: .*cannot write' "$dir/log")" = 1 ] || fail "aggregate: a full disk is not said in one line at $blocks blocks: $(tail -n 3 "$dir/log")"
done
cmp -s "$dir/before.h5" "$dir/removal.h5" || fail "aggregate: a full disk changed the store"
echo "all passed"
