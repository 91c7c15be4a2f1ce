#!/bin/sh
# test_sweep - bin/sweep from the outside: killed runs that go on, reruns that add nothing, two processes, mask files,
# details that recompute to the rows, compat rules, bad options.
program=sweep
. tests/expect.sh
. tests/needs.sh
needs_h5py
sweep=$bin/sweep model=../shared/models/opt-en-8m data=../shared/data

expect 0 "usage: sweep" --help
expect 0 "scopes: local global hybrid" --list
expect 2 "unknown option" --sparsty 10
expect 2 "--model is required" --tasks copa
expect 2 "nothing to measure" --model x
expect 2 "unknown task foo" --model x --tasks foo --data x
expect 2 "not one of none, random" --model x --tasks copa --data x --mask foo
expect 2 "needs --scores" --model x --tasks copa --data x --mask static
expect 2 "unknown criterion foo" --model x --tasks copa --data x --criterion foo
expect 2 "a percentage from 0 to 100" --model x --tasks copa --data x --sparsity 101
expect 2 "always global" --model x --tasks copa --data x --mask static --scores x --mode compat --scope local
expect 2 "never acted" --model x --tasks copa --data x --mask static --scores x --mode compat --units both
expect 1 "x/config.json: " --model x --tasks copa --data x
[ -d $model ] && [ -d $data ] || { echo "SKIP: no $model and $data: only options were tested"; exit $bad; }

exec=
run() { $exec "$sweep" --model $model --data $data --tasks copa,winogrande --limit 8 --mask none,random --units heads --sparsity 0,30,60 "$@"; }

run --out "$tmp/a.csv" --details "$tmp/a.jsonl" >/dev/null 2>&1 || fail "the undisturbed run failed"
cp "$tmp/a.csv" "$tmp/whole.csv"
run --out "$tmp/a.csv" --details "$tmp/a.jsonl" >/dev/null 2>"$tmp/e" || fail "the rerun failed"
grep -q "all of them present" "$tmp/e" || fail "a rerun computes again: $(cat "$tmp/e")"
cmp -s "$tmp/a.csv" "$tmp/whole.csv" || fail "a rerun changed the file"

for n in 1 2 3 4 5 6 7; do
    had=$(rows "$tmp/k.csv" 2>/dev/null | wc -l)
    exec=exec run --out "$tmp/k.csv" --details "$tmp/k.jsonl" >/dev/null 2>&1 &
    kill_at_work $! grown "$tmp/k.csv" "$had"
done
run --out "$tmp/k.csv" --details "$tmp/k.jsonl" >/dev/null 2>&1 || fail "the resumed run failed"
rows "$tmp/a.csv" >"$tmp/1"
rows "$tmp/k.csv" >"$tmp/2"
cmp -s "$tmp/1" "$tmp/2" || fail "a killed and resumed sweep differs from an undisturbed one: $(diff "$tmp/1" "$tmp/2" | head -n 4)"
cmp -s "$tmp/a.jsonl" "$tmp/k.jsonl" || fail "details of a killed and resumed sweep differ"

# Details by an independent hand: predictions, accuracies and counts of mask files, in Python.
/usr/bin/python3 - "$tmp" <<'PY' || bad=1
import csv, json, sys, h5py, numpy as np
tmp = sys.argv[1]
rows = list(csv.DictReader(l for l in open(tmp + "/a.csv") if not l.startswith("#")))
hits, norm, by_bytes = {}, {}, {}
for line in open(tmp + "/a.jsonl"):
    d = json.loads(line)
    key = (d["task"], d["mask"], d["sparsity"])
    ll = [c["log_likelihood"] for c in d["candidates"]]
    texts = [c["text"].removeprefix(" ") for c in d["candidates"]]
    per_byte = [x / len(t.encode()) for x, t in zip(ll, texts)]
    per_character = [x / len(t) for x, t in zip(ll, texts)]
    assert [(c["bytes"], c["characters"]) for c in d["candidates"]] == [(len(t.encode()), len(t)) for t in texts], d
    assert d["prediction_bytes"] == per_byte.index(max(per_byte)), d
    assert d["prediction_norm"] == per_character.index(max(per_character)), d
    hits.setdefault(key, []).append(ll.index(max(ll)) == d["gold"])
    norm.setdefault(key, []).append(per_character.index(max(per_character)) == d["gold"])
    by_bytes.setdefault(key, []).append(per_byte.index(max(per_byte)) == d["gold"])
seen = 0
for r in rows:
    key = (r["task"], r["mask"], r["sparsity"])
    for metric, table in (("acc", hits), ("acc_norm", norm), ("acc_bytes", by_bytes)):
        if r["metric"] == metric and r["task"] != "mean":
            h = np.array(table[key], float)
            assert len(h) == int(r["n"]) == 8, key
            assert abs(h.mean() - float(r["value"])) < 1e-9, (key, metric)
            assert abs(h.std(ddof=1) / 8 ** .5 - float(r["stderr"])) < 1e-5, (key, metric)
            seen += 1
    if r["mask"] == "random":
        k = int(float(r["sparsity"]) * 56 / 100)  # 7 prunable layers of 8 heads
        assert abs(float(r["effective_heads"]) - k / 64) < 1e-5 and float(r["effective_neurons"]) == 0, r
assert seen == 24, seen
mean = [float(r["value"]) for r in rows if r["task"] == "mean" and r["metric"] == "acc" and r["mask"] == "none"][0]
assert abs(mean - np.mean([np.mean(hits[(t, "none", "0")]) for t in ("copa", "winogrande")])) < 1e-9
with h5py.File(tmp + "/mask.h5", "w") as f:
    heads, neurons = np.ones((8, 8), np.uint8), np.ones((8, 1024), np.uint8)
    heads[0, :3] = 0
    neurons[5, ::2] = 0
    f["mask/heads"], f["mask/neurons"] = heads, neurons
PY
field() { rows "$1" | awk -F, -v c="$2" 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == c) k = i} NR == 2 {print $k}'; }
"$sweep" --model $model --data $data --tasks copa --limit 4 --mask file:"$tmp/mask.h5" --out "$tmp/m.csv" >/dev/null 2>&1 || fail "a mask file was refused"
[ "$(field "$tmp/m.csv" effective_heads)" = 0.046875 ] && [ "$(field "$tmp/m.csv" effective_neurons)" = 0.0625 ] || fail "a mask file does not act as it is: $(tail -n 1 "$tmp/m.csv")"
"$sweep" --model $model --data $data --tasks copa --limit 4 --mask file:"$tmp/mask.h5" --mode compat --out "$tmp/mc.csv" >/dev/null 2>&1
[ "$(field "$tmp/mc.csv" effective_neurons)" = 0 ] || fail "compat applies an FFN mask"

# Three documents that are all wrong: the geometric mean is 0 and has no standard error, though the metric before it has
# one.
"$sweep" --model $model --data $data --tasks openbookqa,rte --limit 3 --shots 2 --out "$tmp/g.csv" >/dev/null 2>&1 || fail "three documents were refused"
rows "$tmp/g.csv" | awk -F, '$3 == "mean" && $5 == "acc" {mean = $7 > 0} $5 == "acc_gmean" {geometric = $6 == 0 && $7 == ""} END {exit !(mean && geometric)}' ||
    fail "an undefined standard error is filled in: $(grep ,mean, "$tmp/g.csv")"

# Two pages beside one document: the text's rows are those of --limit 2, the task's those of --limit 1.
text() { "$sweep" --model $model --data $data --tasks copa --wikitext $data/wikitext2/wiki.valid.raw --token-perplexity none "$@" >/dev/null 2>&1; }
text --limit 1 --pages 2 --out "$tmp/p.csv" && text --limit 2 --out "$tmp/p2.csv" && text --limit 1 --out "$tmp/p1.csv" || fail "--pages was refused"
{ rows "$tmp/p1.csv" | grep ,copa,; rows "$tmp/p2.csv" | grep ,wikitext,; } >"$tmp/1"
rows "$tmp/p.csv" | grep -e ,copa, -e ,wikitext, >"$tmp/2"
[ -s "$tmp/1" ] && cmp -s "$tmp/1" "$tmp/2" || fail "--pages counts something else than the pages: $(diff "$tmp/1" "$tmp/2")"
# The first 40 words of each page, as Python splits them, are a text of their own.
text --limit 1 --pages 2 --page-words 40 --out "$tmp/w.csv" || fail "--page-words was refused"
/usr/bin/python3 - $data/wikitext2/wiki.valid.raw "$tmp/cut.raw" <<'PY'
import re, sys
pages = [p for p in re.split(r"\n(?= = [^=].* = \n)", open(sys.argv[1]).read()) if p.strip()]
open(sys.argv[2], "w").write("\n".join("".join(re.split(r"(\s+)", page)[:2 * 40 - 1]) for page in pages))
PY
"$sweep" --model $model --wikitext "$tmp/cut.raw" --token-perplexity none --limit 2 --out "$tmp/w2.csv" >/dev/null 2>&1 || fail "a text of cut pages"
values() { rows "$1" | awk -F, '$3 == "wikitext" {print $5, $6, $7, $8}'; }
[ "$(values "$tmp/w.csv" | wc -l)" = 2 ] && [ "$(values "$tmp/w.csv")" = "$(values "$tmp/w2.csv")" ] ||
    fail "--page-words: $(values "$tmp/w.csv") is not $(values "$tmp/w2.csv")"
cmp -s "$tmp/p1.csv" "$tmp/p2.csv" && fail "one page measures what two do"
# rows of a version whose acc_norm was by bytes: nothing is added to them
sed '/,acc_bytes/d' "$tmp/a.csv" >"$tmp/old.csv"
cp "$tmp/old.csv" "$tmp/whole.csv"
run --out "$tmp/old.csv" >/dev/null 2>"$tmp/e" && fail "rows of two definitions of acc_norm in one file"
grep -q "old.csv: its acc_norm is by bytes" "$tmp/e" && cmp -s "$tmp/old.csv" "$tmp/whole.csv" || fail "old acc_norm: $(cat "$tmp/e")"

# a folder of fewer tasks: all are those that are there
mkdir -p "$tmp/some"
ln -s "$(readlink -f $data/copa)" "$tmp/some/copa"
"$sweep" --model $model --data "$tmp/some" --tasks all --limit 2 >"$tmp/o" 2>"$tmp/e" || fail "a folder of one task: $(cat "$tmp/e")"
[ "$(grep -c 'piqa: not in .*/some, left out' "$tmp/e")" = 1 ] && [ "$(grep -c 'left out' "$tmp/e")" = 6 ] && grep -q ',copa,val,acc,' "$tmp/o" ||
    fail "tasks that are not there: $(cat "$tmp/e" "$tmp/o")"
expect 1 "some/piqa: cannot read this folder" --model $model --data "$tmp/some" --tasks piqa
expect 1 "holds none of the tasks" --model $model --data "$tmp" --tasks all

# a text from a pipe is read once, for pages and windows and every seed; a comma in the name of a file
printf ' = One = \n The old man walked .\n = Two = \n She said no .\n' >"$tmp/text.raw"
mkfifo "$tmp/fifo"
cat "$tmp/text.raw" >"$tmp/fifo" &
"$sweep" --model $model --wikitext "$tmp/fifo" --seed 0,1 2>"$tmp/e" | grep -v '^#' >"$tmp/1"
"$sweep" --model $model --wikitext "$tmp/text.raw" --seed 0,1 2>"$tmp/e" | grep -v '^#' >"$tmp/2"
[ "$(grep -c perplexity "$tmp/1")" = 6 ] && cmp -s "$tmp/1" "$tmp/2" || fail "a pipe: $(cat "$tmp/1" "$tmp/e")"
cp "$tmp/mask.h5" "$tmp/lr=1,seed=2.h5"
"$sweep" --model $model --data $data --tasks copa --limit 2 --mask "none,file:$tmp/lr=1,seed=2.h5" 2>"$tmp/e" | grep -q ',file,' || fail "a comma: $(cat "$tmp/e")"

exec 9<>"$tmp/a.csv"
if command -v flock >/dev/null; then
    flock 9
    run --out "$tmp/a.csv" >/dev/null 2>"$tmp/e" && fail "two processes wrote one file"
    grep -q "another process writes to it" "$tmp/e" || fail "the lock is not named: $(cat "$tmp/e")"
fi
# the estimate alone counts what is there and what is not, and writes nothing
run --out "$tmp/e.csv" --estimate >/dev/null 2>"$tmp/e" || fail "--estimate"
grep -q '^sweep: 0 values present, [0-9]* to compute: ' "$tmp/e" && [ ! -e "$tmp/e.csv" ] || fail "--estimate: $(cat "$tmp/e")"
exit $bad
