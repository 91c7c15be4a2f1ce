#!/bin/sh
# test_harness - `sweep --harness today` beside lm-evaluation-harness 0.4.13 itself (harness_peer.py): every document of
# the seven tasks and every page of a text, on a small OPT whose tokenizer puts </s> before a text, as the published
# ones do, and without it. Needs a PYTHON with torch and lm_eval, and ../shared.
program=sweep
. tests/expect.sh
python=${PYTHON:-python3} model=../shared/models/opt-en-8m data=../shared/data n=${DOCUMENTS:-6}
expect 2 "the published code has the harness of 2022" --model x --tasks copa --data x --harness today --mode compat
expect 2 "not one of 2022" --model x --tasks copa --data x --harness 2023
[ -d $model ] && [ -d $data ] || { echo "SKIP: no $model and $data"; exit 77; }
"$python" -c 'import lm_eval, torch, transformers' 2>/dev/null || { echo "SKIP: $python has no lm_eval or torch (PYTHON names another)"; exit 77; }

# first documents of each task, one of them longer than the model's positions; three pages, the first of several windows
for file in copa/val openbookqa/dev winogrande/train_s rte/train-first-1000 hellaswag/val-first-1000 arc_easy/train; do
    mkdir -p "$tmp/data/${file%/*}"
    head -n "$n" $data/$file.jsonl >"$tmp/data/${file%/*}/val.jsonl"
done
mkdir "$tmp/data/piqa"
"$python" - $data/piqa "$n" >"$tmp/data/piqa/val.jsonl" <<'PY'
import json, sys
rows = zip(open(sys.argv[1] + "/valid.jsonl"), open(sys.argv[1] + "/valid-labels.lst"), range(int(sys.argv[2])))
for row, label, i in rows:
    r = json.loads(row) | dict(label=int(label))
    if i == 1: r["goal"] = " ".join(f"{k}, {r['goal']}" for k in range(60))
    if i == 2: r["goal"] += " \u00e9t\u00e9 "
    if i == 3: r["sol1"] = "\u00e9\u00e8\u00ea </s>" + r["sol1"]
    print(json.dumps(r))
PY
"$python" -c 'import sys; t = open(sys.argv[1]).read(); print(t[t.index("\n = "):][:9000], "\n = Two = \n The old man walked into the house . \n", end="")' $data/wikitext2/wiki.valid.raw >"$tmp/data/text.raw"
mkdir "$tmp/model"
for file in config.json merges.txt model.safetensors vocab.json; do ln -s "$(readlink -f $model)/$file" "$tmp/model"; done
printf '{"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>", "add_bos_token": true}\n' >"$tmp/model/tokenizer_config.json"

# beside BOS [OPTIONS]: both with and without the token before a text
beside() {
    rm -f "$tmp/s.csv" "$tmp/s.jsonl"
    "$bin/sweep" --model "$tmp/model" --data "$tmp/data" --tasks all --wikitext "$tmp/data/text.raw" --token-perplexity none --harness today --bos "$1" \
        --over-long cut --out "$tmp/s.csv" --details "$tmp/s.jsonl" >"$tmp/o" 2>"$tmp/e" || fail "sweep --bos $1: $(cat "$tmp/e")"
    HF_HUB_OFFLINE=1 "$python" tests/harness_peer.py "$tmp/model" "$tmp/data" "$tmp/peer.jsonl" "$2" >"$tmp/log" 2>&1 || fail "lm_eval: $(tail -n 5 "$tmp/log")"
    "$python" - "$tmp" "$1" "$n" <<'PY' || fail "--bos $1"
import json, sys
read = lambda name: [json.loads(l) for l in open(f"{sys.argv[1]}/{name}.jsonl")]
ours, theirs, worst, tasks = {}, read("peer"), 0, {}
for d in read("s"):
    ours.setdefault(d["task"], []).append(d)
for t in theirs:
    d = ours[t["task"]][t["place"]]
    lls = [d["log_likelihood"]] if t["task"] == "wikitext" else [c["log_likelihood"] for c in d["candidates"]]
    assert len(lls) == len(t["lls"]), (d, t)
    off = max(abs(a - b) / (1 if len(lls) > 1 else 100) for a, b in zip(lls, t["lls"]))
    assert off < 2e-4, (off, lls, t)
    worst = max(worst, off)
    tasks[t["task"]] = tasks.get(t["task"], 0) + 1
    if t["task"] == "wikitext":
        assert (d["words"], d["bytes"]) == (t["words"], t["bytes"]), (d, t)
        continue
    assert (d["prediction"] == d["gold"]) == t["acc"], (d, t)
    assert t["acc_norm"] is None or (d["prediction_norm"] == d["gold"]) == t["acc_norm"], (d, t)
    for c, (context, text) in zip(d["candidates"], t["texts"]):
        assert c["text"] == text and c.get("context", d["context"]) == context, (c, context, text)
assert len(tasks) == 8 and all(n == (3 if t == "wikitext" else int(sys.argv[3])) for t, n in tasks.items()), tasks
print(f"--bos {sys.argv[2]}: {len(theirs)} documents, largest difference {worst:.1e}")
PY
}
beside auto ""
beside off ",add_bos_token=False"
exit $bad
