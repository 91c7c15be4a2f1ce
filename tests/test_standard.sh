#!/bin/sh
# test_standard - compacted models of equal widths in every layer and zeroed ones are ordinary checkpoints, others bring
# code: transformers loads them, and their logits are those of the source with the pruned units set to zero (or their
# means) there (tests/standard.py). PYTHON: an interpreter with torch, transformers and h5py.
. tests/expect.sh
PYTHON=${PYTHON:-python3} data=data/world means=
"$PYTHON" -c 'import torch, transformers, h5py' 2>/dev/null || { echo "SKIP test_standard: $PYTHON has no torch, transformers and h5py (set PYTHON)"; exit 77; }
"$PYTHON" tests/standard.py make tests/golden/llama/llama "$tmp/source" 2>"$tmp/e" || fail "making a model: $(cat "$tmp/e")"

# pruned NAME MODEL OPTION...: pruned to equal widths, scored, and compared
pruned() {
    name=$1 model=$2
    shift 2
    "$bin/prune" --model "$model" --mask random --scope local --local-counts floor --dense-layers 0 --sparsity 50 --out "$tmp/$name" "$@" >"$tmp/e" 2>&1 || fail "prune $name: $(tail -n 1 "$tmp/e")"
    "$bin/score" --model "$tmp/$name" --data $data --tasks copa --shots 0 --examples 2 --criteria random --over-long cut --out "$tmp/$name.h5" >"$tmp/e" 2>&1 ||
        fail "score $name: $(tail -n 1 "$tmp/e")"
    "$PYTHON" tests/standard.py compare "$model" "$tmp/$name" "$tmp/$name.h5" $means 2>"$tmp/e" || fail "$name: $(tail -n 3 "$tmp/e")"
}
pruned opt tests/golden/opt/pre --units neurons
pruned llama tests/golden/llama/llama --group-heads
pruned neox tests/golden/gelu/parallel --units neurons
pruned six "$tmp/source" --sparsity 20 # 5 of 6 heads, of which 24 is no multiple
grep -q '"model_type": "mistral"' "$tmp/six/config.json" || fail "a Llama of 5 heads and width 24, which transformers refuses"
# zeros in the place of what is pruned
pruned zeroed tests/golden/llama/llama --scope global --form zeroed
# widths that differ, with the code that prune puts there: layers without heads, query heads that read K/V heads in
# unequal numbers
for each in "tests/golden/opt/pre --sparsity 90" "tests/golden/llama/llama --sparsity 70" "$tmp/source --sparsity 90"; do
    pruned differ ${each%% *} --scope global ${each#* }
    grep -q modeling_pruned.Pruned "$tmp/differ/config.json" || fail "$each: no layers that differ"
    rm -r "$tmp/differ" "$tmp/differ.h5"
done
# biases that hold means, in the two families whose configurations have them
for kind in opt llama; do
    source=tests/golden/llama/llama few="--group-heads" means=$tmp/$kind.means.h5
    [ $kind = opt ] && source=tests/golden/opt/pre few="--units neurons"
    "$bin/score" --model $source --data $data --tasks copa --shots 0 --examples 3 --criteria flap --over-long cut --out "$means" >"$tmp/e" 2>&1 &&
        "$bin/aggregate" --store "$means" --out "$means" >"$tmp/e" 2>&1 || fail "means of $kind: $(tail -n 1 "$tmp/e")"
    pruned mean_$kind $source $few --bias --scores "$means"
done
exit $bad
