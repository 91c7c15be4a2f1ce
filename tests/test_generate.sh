#!/bin/sh
# test_generate - bin/generate on files of prompts: each text is that of its prompt alone, whatever the batch, dense,
# masked and sampled; the lines of JSON hold the ids and the log-probabilities that an OPT forward pass in float64 numpy
# gives them; bad files are named with the line.
. tests/expect.sh
. tests/needs.sh
program=generate model=model/default
printf 'Anna watered the\r\n\nThe man went to the market because he\nOne\nBen\nIn the evening\n' >"$tmp/p.txt"
printf '"Anna watered the"\n{"prompt": "The man went to the market because he", "id": 7}\n"One"\n{"prompt": "Ben"}\n"In the evening"' >"$tmp/p.jsonl"
same() { cmp -s "$tmp/$1" "$tmp/$2" || fail "$1 and $2 differ: $(diff "$tmp/$1" "$tmp/$2" | head -n 4)"; }

for how in "" "--mask random --sparsity 40" "--temperature 0.8 --top-k 40"; do
    : >"$tmp/alone"
    i=0
    grep . "$tmp/p.txt" | tr -d '\r' | while read -r line; do
        "$bin/generate" --model $model --prompt "$line" --tokens 12 $how $([ "${how#--temp}" = "$how" ] || echo "--seed $i") >>"$tmp/alone" 2>/dev/null
        i=$((i + 1))
    done
    [ "$(wc -l <"$tmp/alone")" -ge 5 ] || fail "prompts alone: $(cat "$tmp/alone")"
    for batch in 1 3 8; do
        expect 0 "Anna watered the" --model $model --prompts "$tmp/p.txt" --batch $batch --tokens 12 $how
        cp "$tmp/o" "$tmp/batch"
        same batch alone
    done
done
"$bin/generate" --model $model --prompts "$tmp/p.txt" --tokens 12 >"$tmp/text"
"$bin/generate" --model $model --prompts "$tmp/p.jsonl" --tokens 12 >"$tmp/json"
same json text
"$bin/generate" --model $model --prompts - --tokens 12 <"$tmp/p.txt" >"$tmp/input"
same input text

expect 0 '"number": 4' --model $model --prompts "$tmp/p.jsonl" --tokens 12 --json
cp "$tmp/o" "$tmp/lines"
if /usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null; then
    /usr/bin/python3 - $model "$tmp/lines" "$tmp/text" <<'PY' || fail "the lines of JSON"
import json, sys
sys.path.insert(0, "tests")
import numpy as np
from numpy_opt import Opt
model, lines, text = sys.argv[1:]
opt, worst = Opt(model), 0
config = json.load(open(model + "/config.json"))
said = [json.loads(line) for line in open(lines)]
assert len(said) == 5 and [s["number"] for s in said] == list(range(5))
assert "".join(s["prompt"] + s["text"] + "\n" for s in said) == open(text).read()
for s in said:
    ids, n = np.array(s["prompt_ids"] + s["ids"]), len(s["prompt_ids"])
    assert s["prompt_ids"][0] == config["bos_token_id"] and len(s["ids"]) == len(s["log_probabilities"]) <= 12
    lp = opt.log_probabilities(ids)[n - 1 :]
    mine = lp[np.arange(len(s["ids"])), ids[n:]]
    assert (lp[: len(s["ids"])].argmax(1) == ids[n:]).all()
    assert s["ends"] == ("tokens" if len(s["ids"]) == 12 else "token")
    if s["ends"] == "token": assert lp[-1].argmax() == config["eos_token_id"]
    worst = max(worst, np.abs(mine - s["log_probabilities"]).max())
assert worst < 2e-5, worst
PY
else
    echo "no numpy: log-probabilities are not compared"
fi

# unions of masks: the batch decides what a prompt becomes; a batch of one runs its own
"$bin"/score --model $model --data data/world --tasks copa --shots 0 --examples 8 --criteria l2_norm --out "$tmp/s.h5" >/dev/null 2>"$tmp/e" || fail "score: $(cat "$tmp/e")"
"$bin"/train --store "$tmp/s.h5" --model $model --hidden 32 --epochs 20 --design shadow --out "$tmp/p.h5" >/dev/null 2>"$tmp/e" || fail "train: $(cat "$tmp/e")"
contextual="--model $model --prompts $tmp/p.txt --tokens 12 --mask contextual --predictor $tmp/p.h5 --scope local --sparsity 60"
for batch in 1 5; do
    for way in own union auto; do
        expect 0 "Anna watered the" $contextual --batch $batch --batch-masks $way --stats
        cp "$tmp/o" "$tmp/$way.$batch"
        sed -n 's/.*pruned: \([0-9.]*\) % of the heads, \([0-9.]*\) % of the neurons.*/\1 \2/p' "$tmp/e" >"$tmp/pruned.$way.$batch"
    done
done
same own.1 own.5
same own.1 union.1
same own.1 auto.1
awk 'NR == FNR {h = $1; n = $2; next} {exit !($1 <= h && $2 < n)}' "$tmp/pruned.own.5" "$tmp/pruned.union.5" || fail "a union prunes $(cat "$tmp/pruned.union.5") %, own masks $(cat "$tmp/pruned.own.5") %"
expect 2 "prompts have masks of their own with --mask contextual only" --model $model --prompts "$tmp/p.txt" --mask random --batch-masks union

expect 2 "--prompt or --prompts is required, and not both" --model $model
expect 2 "--prompt or --prompts is required, and not both" --model $model --prompt a --prompts "$tmp/p.txt"
expect 1 "nowhere: cannot open" --model $model --prompts nowhere
echo >"$tmp/empty"
{ printf '\357\273\277'; cat "$tmp/p.txt"; } >"$tmp/mark.txt"
"$bin/generate" --model $model --prompts "$tmp/mark.txt" --tokens 12 | cmp -s - "$tmp/text" || fail "a byte-order mark is taken for text"
expect 1 "$tmp/empty: holds no prompt; give one a line" --model $model --prompts "$tmp/empty"
printf '"a"\n{"text": 3}\n' >"$tmp/bad.jsonl"
expect 1 "$tmp/bad.jsonl:2: neither a text nor an object with a text \"prompt\"" --model $model --prompts "$tmp/bad.jsonl"
printf '"a"\n{"text": \n' >"$tmp/bad.jsonl"
expect 1 "$tmp/bad.jsonl:2: not valid JSON" --model $model --prompts "$tmp/bad.jsonl"
head -c 20000 /dev/zero | tr '\0' a >"$tmp/long"
expect 1 "the prompt of line 1 has" --model $model --prompts "$tmp/long"
exit $bad
