#!/bin/sh
# test_predictor - bin/train from the outside. Scores that are a function of what a design reads are recovered on
# held-out documents (rho > 0.95, above the means), the task of an example is recovered and no more, and noise is not;
# the numbers printed follow from the predictions written; a killed training resumes to the same bits, as does any
# number of threads; bad input is one clear line.
bin=${BIN:-build/opt/bin} out=$(mktemp -d) model=tests/golden/opt/pre
trap 'rm -rf "$out"' EXIT
fail() { echo "FAIL: $*"; tail -n 5 "$out/log"; exit 1; }
python=/usr/bin/python3
. tests/needs.sh
needs_h5py
export OMP_WAIT_POLICY=passive  # spinning threads take a hundred times what these small nets do where cores are busy
store=$out/store.h5
$python tests/planted.py "$store" "$("$bin/info" --model $model | sed -n 's/^hash *//p')" || fail "planted.py"
train() { "$bin/train" --store "$store" --model $model --threads 1 "$@" >"$out/log" 2>&1; }  # nets so small gain nothing from more; a later --threads counts

# planted DESIGN CRITERION OPTION...: the criterion is recovered
planted() {
    design=$1 criterion=$2
    shift 2
    rm -f "$out/p.h5"
    train --design "$design" --criterion "$criterion" --hidden 48 --lr 0.005 --out "$out/p.h5" --predictions "$out/pred.h5" "$@" || fail "$design $*"
    $python tests/planted.py --check "$store" "$out/pred.h5" "$out/p.h5" "$design" >"$out/found" || fail "$design $*: numbers"
    cat "$out/found"
    awk '$4 <= 0.95 || $4 <= $5 + 0.08 || $4 <= $6 + 0.08 {bad = 1} END {exit bad || NR != 2}' "$out/found" || fail "$design $*: not recovered"
    [ "$design" = dejavu-lowrank ] || ! grep -q 'BETTER\|WORSE' "$out/log" || fail "$design $*: not above the means"
}
planted shadow early
planted shadow early --target layer
planted dejavu same
planted dejavu residual --features ahead
planted dejavu-lowrank lowrank
planted sequence tokens

# the same of a compacted model, whose layers have 0, 3 and 4 heads, 20, 5 and 32 neurons: numbers of the units that are
# there only
$python - "$out/mask.h5" <<'PY'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], "w") as f:
    f["mask/heads"] = np.array([[0, 0, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]], np.uint8)
    f["mask/neurons"] = np.array([[u % 8 < 5 for u in range(32)], [u % 7 == 3 for u in range(32)], [1] * 32], np.uint8)
PY
"$bin/prune" --model $model --mask "file:$out/mask.h5" --out "$out/small" >"$out/log" 2>&1 || fail "prune"
whole_store=$store whole_model=$model store=$out/small.h5 model=$out/small
$python tests/planted.py "$store" "$("$bin/info" --model $model | sed -n 's/^hash *//p')" "$out/mask.h5" || fail "planted.py"
planted shadow early
planted shadow early --target layer
planted dejavu residual --features ahead
planted dejavu-lowrank lowrank
planted shadow early --mode compat --epochs 100
store=$whole_store model=$whole_model

rm -f "$out/p.h5"
train --criterion noise,task --out "$out/p.h5" --predictions "$out/pred.h5" || fail "noise"
[ "$(grep -c '^noise.*\(NO BETTER\|WORSE\) than the static mean' "$out/log")" = 2 ] || fail "noise was predicted"
[ "$(grep -c '^task.*[0-9] \(NO BETTER\|WORSE\) than the task mean' "$out/log")" = 2 ] || fail "the task is not all that was predicted"
$python tests/planted.py --check "$store" "$out/pred.h5" "$out/p.h5" shadow >"$out/found" || fail "noise and task: numbers"
grep -q "^$(awk 'NR == 1 {print $7}' "$out/found") test examples of both kinds are of tasks without training examples" "$out/log" || fail "tasks without training examples are not counted"
awk '$2 == "task" && $4 <= $5 + 0.05 {bad = 1} END {exit bad}' "$out/found" || fail "the task was not predicted: $(cat "$out/found")"

# compat: 80/20 for heads, 90/10 for neurons, the last epoch
train --mode compat --criterion early --epochs 7 --out "$out/compat.h5" --predictions "$out/pred.h5" || fail "compat"
$python - "$out/pred.h5" "$out/compat.h5" <<'PY' || fail "compat parts"
import sys, h5py
p, t = h5py.File(sys.argv[1])["predictions/early"], h5py.File(sys.argv[2])["predictors/early"]
assert p["index"].shape == (128,) and p["heads"].shape == (128, 3, 4) and p["neurons_index"].shape == (64,) and p["neurons"].shape == (64, 3, 32)
assert set(p["neurons_index"][:]) <= set(p["index"][:])
assert t["heads"].attrs["epoch_kept"] == 7 and t["heads/loss"].shape == (7, 2)
PY

# of three documents one is held out: no standard error, and no verdict but that
"$bin/score" --model model/default --data data/world --tasks copa --shots 0 --examples 3 --criteria snip --out "$out/three.h5" >"$out/log" 2>&1 || fail "three documents"
"$bin/train" --store "$out/three.h5" --model model/default --criterion snip --epochs 1 --out "$out/few.h5" >"$out/log" 2>&1 || fail "three documents"
[ "$(grep -c 'TOO FEW test documents to compare with the static mean, TOO FEW test documents to compare with the task mean$' "$out/log")" = 2 ] && ! grep -qi ' nan' "$out/log" || fail "three documents"

# a training that is killed once a state is there resumes and ends with the same bits, and the thread count does not
# matter; where it had finished before the kill, again
options="--criterion early,same --epochs 300 --batch 8 --save-every 0"
train $options --threads 1 --curve "$out/whole.csv" --out "$out/whole.h5" || fail "whole"
has_state() { ls "$out"/killed.h5.work/*.state >/dev/null 2>&1; }
for try in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$out"/killed.h5*
    "$bin/train" --store "$store" --model $model $options --threads 2 --out "$out/killed.h5" >"$out/log" 2>&1 &
    kill_at_work $! has_state
    [ ! -e "$out/killed.h5" ] && has_state && break
done
has_state || fail "no state to go on from in $try tries"
train $options --threads 2 --out "$out/killed.h5" || fail "going on"
$python tests/h5same.py "$out/whole.h5" "$out/killed.h5" || fail "a killed training ends elsewhere"
[ "$(ls -A "$out" | grep -c 'killed.h5.')" = 0 ] || fail "something is left behind: $(ls -A "$out")"
[ "$(grep -c '^early,heads,,' "$out/whole.csv")" = 300 ] || fail "loss curve"
# a state that is damaged is computed again
train $options --threads 2 --seed 2 --out "$out/seed.h5" || fail "seed"
$python tests/h5same.py "$out/whole.h5" "$out/seed.h5" >/dev/null && fail "the seed changes nothing"
# a finished file is extended: what is there is not trained again
cp "$out/whole.h5" "$out/more.h5"
train --criterion noise --epochs 300 --batch 8 --out "$out/more.h5" || fail "extending"
train --criterion early,noise,same --epochs 300 --batch 8 --out "$out/more.h5" || fail "complete"
grep -q 'complete, nothing to train' "$out/log" || fail "trains what is there"
# early stop ends before the epochs do
train --criterion noise --epochs 1000 --early-stop 3 --curve "$out/stop.csv" --out "$out/stop.h5" || fail "early stop"
[ "$(grep -c '^noise,heads' "$out/stop.csv")" -lt 200 ] || fail "does not stop early"

# bad input: exit 1 (2: usage) and one line that says what
bad() {
    want=$1 status=$2
    shift 2
    "$bin/train" --store "$store" --model $model --out "$out/bad.h5" "$@" >"$out/stdout" 2>"$out/log"
    got=$?
    [ $got = "$status" ] && [ "$(wc -l <"$out/log")" = 1 ] && grep -q -- "$want" "$out/log" && [ ! -e "$out/bad.h5" ] || fail "exit $got, not $status with: $want"
}
bad 'scored on another model' 1 --model tests/golden/opt/odd
bad 'no criterion plainact .*there are: early lowrank noise' 1 --criterion plainact
bad 'dejavu-lowrank learns the top of every layer' 1 --design dejavu-lowrank --target global
bad 'not one of shadow|dejavu' 2 --design shallow
bad 'cannot open' 1 --store "$out/nothing.h5"
bad 'not made by bin/score' 1 --store "$out/whole.h5"
head -c 60000 "$store" >"$out/half.h5"
bad 'half.h5: cannot read the file' 1 --store "$out/half.h5"
cp "$store" "$out/few.h5"
$python -c "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); del f['features/head_output'], f['scores_compat']" "$out/few.h5"
bad '/features/head_output is missing' 1 --store "$out/few.h5"
bad 'only scores of --mode sound are there' 1 --store "$out/few.h5" --mode compat
cp "$store" "$out/nan.h5"
$python -c "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); f['scores/early/heads'][7, 2, 1] = float('nan')" "$out/nan.h5"
bad '/scores/early/heads: row 7, layer 2, unit 1 is nan' 1 --store "$out/nan.h5" --criterion early
rm -rf "$out"/bad.h5*
"$bin/train" --store "$store" --model $model --criterion early --epochs 2 --seed 5 --out "$out/whole.h5" >/dev/null 2>"$out/log" && fail "other settings into a finished file"
grep -q 'whole.h5: made with .*, not .*; give the same settings, or another --out' "$out/log" || fail "other settings"
# a full disk: the file-size limit has the same effect
(ulimit -f 64; "$bin/train" --store "$store" --model $model --criterion early --epochs 2 --out "$out/full.h5" >/dev/null 2>"$out/log") && fail "a full disk goes unnoticed"
[ "$(wc -l <"$out/log")" = 1 ] && grep -q 'cannot write' "$out/log" && [ ! -e "$out/full.h5" ] || fail "full disk"
echo ok
