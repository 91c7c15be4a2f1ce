#!/bin/sh
# test_prune - bin/prune from the outside: a compacted checkpoint has the perplexity, the accuracy and the greedy text
# of its source under the same mask, and is scored, aggregated, swept, verified and compacted again; scores of another
# model, a folder that exists, a full disk and two at once are refused, with nothing left that looks whole.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=model/default data=data/world text=data/world/wikitext/held-out.raw

"$bin/score" --model $model --data $data --tasks copa,rte --shots 0 --examples 3 --criteria snip --out "$tmp/s.h5" >/dev/null 2>&1 || fail "score"
"$bin/aggregate" --store "$tmp/s.h5" --out "$tmp/s.h5" >/dev/null 2>&1 || fail "aggregate"
rule="--scores $tmp/s.h5 --criterion snip --scope global --units both --sparsity 60"
expect 0 "are gone" prune --model $model $rule --out "$tmp/small"
expect 0 "of 1024 a layer" info --model "$tmp/small"
expect 0 "mask static snip global both 60 %" info --model "$tmp/small"

# values NAME ARGUMENT... : the values of a sweep, in order
values() {
    name=$1
    shift
    "$bin/sweep" --data $data --tasks copa,rte --limit 6 --wikitext $text --token-perplexity none --out "$tmp/$name.csv" "$@" >/dev/null 2>&1 || fail "sweep $*"
    awk -F, '/^#/ {next} !c["metric"] {for (i = 1; i <= NF; i++) c[$i] = i; next} {print $c["task"], $c["metric"], $c["value"]}' "$tmp/$name.csv" >"$tmp/$name"
}
same() {
    paste "$tmp/$1" "$tmp/$2" | awk '$1 != $4 || $2 != $5 || !($3 - $6 <= 1e-5 * $6 && $6 - $3 <= 1e-5 * $6) {bad = 1; print} END {exit bad || NR < 6}' || fail "$1 and $2 differ"
}
values compacted --model "$tmp/small" --mask none
values by_rule --model $model --mask static --aggregate all $rule
values by_file --model $model --mask "file:$tmp/small/mask.h5"
# zeros in the place of what is pruned: an ordinary checkpoint
expect 0 "are zeros" prune --model $model $rule --form zeroed --out "$tmp/zeros"
expect 0 "zeroed        from $model" info --model "$tmp/zeros"
grep -q 'per_layer\|auto_map' "$tmp/zeros/config.json" && fail "the zeroed model is not an ordinary one"
[ -e "$tmp/zeros/modeling_pruned.py" ] && fail "the zeroed model brings code"
values zeroed_by_prune --model "$tmp/zeros" --mask none
same compacted by_rule
same zeroed_by_prune by_rule
same compacted by_file

# a sweep runs such masks as compacted models on the CPU, by zeroing elsewhere: the same log-likelihoods
if has_cuda "compacted against zeroed in a sweep"; then
    for device in cpu cuda; do
        "$bin/sweep" --model $model --data $data --tasks copa --limit 2 --mask static $rule --device $device --details "$tmp/$device.jsonl" --out "$tmp/$device.csv" >/dev/null 2>&1 || fail "sweep --device $device"
        grep -o 'log_likelihood":[-0-9.]*' "$tmp/$device.jsonl" | cut -d: -f2 >"$tmp/$device"
    done
    paste "$tmp/cpu" "$tmp/cuda" | awk '!(($1 - $2) ^ 2 <= (1e-5 * $2) ^ 2) {bad = 1; print} END {exit bad || NR != 4}' || fail "compacted and zeroed differ"
fi
for kind in "--temperature 0" "--temperature 0 --mask random --units neurons --sparsity 10"; do
    "$bin/generate" --model "$tmp/small" --prompt "Anna watered the" --tokens 20 $kind >"$tmp/g1" 2>/dev/null || fail "generate"
    [ "$(wc -c <"$tmp/g1")" -gt 40 ] || fail "generate: no text"
done
"$bin/generate" --model $model --mask static $rule --prompt "Anna watered the" --tokens 20 >"$tmp/g2" 2>/dev/null
"$bin/generate" --model "$tmp/small" --prompt "Anna watered the" --tokens 20 >"$tmp/g1" 2>/dev/null
cmp -s "$tmp/g1" "$tmp/g2" || fail "generate: another text than under the mask"
expect 0 "everything holds" verify --model "$tmp/small" --inputs 1 --context 12 --steps 3

# scored, aggregated, pruned by its own scores, and compacted again
"$bin/score" --model "$tmp/small" --data $data --tasks copa --shots 0 --examples 3 --criteria snip,jacov,epenas --mode both --store-type fp16 --out "$tmp/t.h5" >/dev/null 2>"$tmp/e" || fail "score: $(cat "$tmp/e")"
"$bin/aggregate" --store "$tmp/t.h5" --out "$tmp/t.h5" --csv "$tmp" >/dev/null 2>"$tmp/e" || fail "aggregate: $(cat "$tmp/e")"
/usr/bin/python3 tests/compacted.py "$tmp/small" "$tmp/t.h5" || fail "losses of the compacted model are not those of numpy"
# its scores are those of the source where nothing depends on what is gone: the means of grasp too, whose layers differ
# in size
/usr/bin/python3 tests/zeroed.py $model "$tmp/small/mask.h5" "$tmp/zeroed" || fail "zeroed.py"
for name in small zeroed; do
    "$bin/score" --model "$tmp/$name" --data $data --tasks copa --shots 0 --examples 2 --criteria grasp,plainact,fisher --mode both --out "$tmp/$name.h5" >/dev/null 2>"$tmp/e" || fail "score: $(cat "$tmp/e")"
done
/usr/bin/python3 tests/zeroed.py --compare "$tmp/small.h5" "$tmp/zeroed.h5" "$tmp/small/mask.h5" || fail "scores of the compacted model are not those of the source"
grep -qi nan "$tmp/head_scores.csv" && fail "scores of heads that are gone"
own="--mask static --scores $tmp/t.h5 --criterion snip --sparsity 30"
expect 0 "are gone" prune --model "$tmp/small" $own --dense-layers 0 --out "$tmp/smaller"
values twice --model "$tmp/smaller" --mask none
values masked --model "$tmp/small" --aggregate all --dense-layers 0 $own
same twice masked
grep -q '"before": {' "$tmp/smaller/compaction.json" || fail "compaction.json forgets the first mask"
# predictors of it, by the outputs of heads, some of which are gone: what a pass shows them is what the store holds
expect 0 "snip       neurons" train --model "$tmp/small" --store "$tmp/t.h5" --criterion snip --design dejavu --hidden 8 --epochs 2 --out "$tmp/p.h5"
expect 0 "everything holds" verify --model "$tmp/small" --mask contextual --predictor "$tmp/p.h5" --sparsity 40 --inputs 1 --context 12 --steps 3

# other types of weights; a model of the same shape whose scores these are not
expect 0 "are gone" prune --model $model --mask none --weights bf16 --out "$tmp/bf16"
expect 0 "100 bfloat16" info --model "$tmp/bf16"
grep -q per_layer "$tmp/bf16/config.json" && fail "lists in a config that needs none"
expect 1 "scores of another model than $tmp/bf16, though of the same shape" generate --model "$tmp/bf16" --prompt x --tokens 1 --mask static $rule
expect 1 "scores of another model than $tmp/bf16, though of the same shape" prune --model "$tmp/bf16" $rule --out "$tmp/x"
expect 1 "scores of another model than $tmp/bf16, though of the same shape" sweep --model "$tmp/bf16" --data $data --tasks copa --limit 1 --mask static $rule
expect 1 "scores of another model than $tmp/small" sweep --model "$tmp/small" --data $data --tasks copa --limit 1 --mask static $rule

# bad input
expect 1 "$tmp/small: exists" prune --model $model $rule --out "$tmp/small/"
expect 2 "needs --scores" prune --model $model --out "$tmp/x"
expect 2 "not one of none, random" prune --model $model --mask contextual --out "$tmp/x"
expect 2 "a percentage from 0 to 100" prune --model $model --mask random --sparsity 101 --out "$tmp/x"
expect 1 "the model has 6 layers" prune --model $model --mask random --dense-layers 7 --out "$tmp/x"
expect 1 "cannot write" prune --model $model --mask random --out "$tmp/none/x"
(ulimit -f 2000; "$bin/prune" --model $model --mask random --out "$tmp/x" >/dev/null 2>"$tmp/e") && fail "a full disk goes unnoticed"
[ "$(wc -l <"$tmp/e")" -eq 1 ] && grep -q 'cannot write' "$tmp/e" || fail "full disk: $(cat "$tmp/e")"
mkdir "$tmp/x.tmp" && : >"$tmp/x.tmp/config.json.tmp"  # what a killed run leaves
expect 0 "are gone" prune --model $model --mask random --out "$tmp/x"
[ -e "$tmp/x.tmp" ] && fail "the temporary folder stays"
ls "$tmp/x" | tr '\n' ' ' | grep -qx 'compaction.json config.json mask.h5 merges.txt model.safetensors modeling_pruned.py vocab.json ' || fail "files of the checkpoint: $(ls "$tmp/x")"
# companions of the source are kept as they are
mkdir "$tmp/source" && cp $model/config.json $model/model.safetensors $model/vocab.json $model/merges.txt "$tmp/source"
echo '{"bos_token": "</s>", "add_bos_token": true}' >"$tmp/source/tokenizer_config.json"
for file in special_tokens_map added_tokens generation_config; do echo "{}" >"$tmp/source/$file.json"; done
expect 0 "are gone" prune --model "$tmp/source" --mask random --out "$tmp/kept"
for file in vocab.json merges.txt tokenizer_config.json special_tokens_map.json added_tokens.json generation_config.json; do
    cmp -s "$tmp/source/$file" "$tmp/kept/$file" || fail "$file of the source is not kept"
done
sed -i 's/"num_attention_heads_per_layer": \[/&8,/' "$tmp/x/config.json"
expect 1 "is not a list of 6 numbers, one per layer" info --model "$tmp/x"
exit $bad
