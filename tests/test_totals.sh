#!/bin/sh
# test_totals - the integer columns of bin/sweep: masks of every scope lose equally many heads and neurons, the totals
# are counts x scored positions by an independent count of the details' tokens, a local scope by floors loses fewer, and
# static masks of both aggregates come in one run.
bin=${BIN:-build/opt/bin} model=model/default data=data/world tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
"$bin/score" --model $model --data $data --tasks copa,rte --shots 0 --examples 4 --criteria snip --out "$tmp/s.h5" >"$tmp/log" 2>&1 &&
    "$bin/aggregate" --store "$tmp/s.h5" --out "$tmp/a.h5" >"$tmp/log" 2>&1 || fail "scores: $(tail -n 1 "$tmp/log")"
sweep() {
    name=$1
    shift
    "$bin/sweep" --model $model --data $data --tasks copa,rte --limit 3 --scope local,global,hybrid --sparsity 30,70 --scores "$tmp/a.h5" --criterion snip \
        --token-perplexity none --out "$tmp/$name.csv" --details "$tmp/$name.jsonl" "$@" >"$tmp/log" 2>&1 || fail "sweep $name: $(tail -n 1 "$tmp/log")"
}
sweep spread --wikitext $data/wikitext/held-out.raw --limit 2 --mask random,static --aggregate task,all --mask-span decode
sweep floor --mask random --local-counts floor
sweep compat --mask random --mode compat
cp "$tmp/spread.csv" "$tmp/before"
sweep spread --wikitext $data/wikitext/held-out.raw --limit 2 --mask random,static --aggregate task,all --mask-span decode
cmp -s "$tmp/spread.csv" "$tmp/before" || fail "a rerun computes again"
for list in task,task mean task,all,task; do
    "$bin/sweep" --model $model --data $data --tasks copa --mask static --scores "$tmp/a.h5" --aggregate $list >"$tmp/log" 2>&1
    [ $? = 2 ] && grep -q -- "--aggregate $list" "$tmp/log" || fail "--aggregate $list: $(cat "$tmp/log")"
done
/usr/bin/python3 - "$tmp" <<'PY' || exit 1
import collections, csv, json, sys
tmp = sys.argv[1]
L, H, F = 6, 8, 1024  # the default model; the first layer is dense
def read(name):
    rows = [r for r in csv.DictReader(l for l in open(f"{tmp}/{name}.csv") if l[0] != "#") if r["metric"] in ("acc", "word_perplexity")]
    return rows, [json.loads(l) for l in open(f"{tmp}/{name}.jsonl")]
spread, lines = read("spread")
floor, floor_lines = read("floor")
compat, compat_lines = read("compat")

# positions that are scored: the tokens of candidates
def positions(lines, task):
    one = next(d for d in lines if d["task"] == task)
    same = [d for d in lines if d["row"] == one["row"] and d["task"] == task]
    return sum(c["tokens"] for d in same for c in d["candidates"])

for rows, of, per_layer in ((spread, lines, False), (floor, floor_lines, True)):
    for r in rows:
        if r["task"] in ("wikitext", "mean"): continue
        p, n = int(r["sparsity"]), positions(of, r["task"])
        for kind, U in (("heads", H), ("neurons", F)):
            want = (L - 1) * (p * U // 100) if per_layer and r["scope"] == "local" else p * (L - 1) * U // 100
            assert int(r["pruned_" + kind]) == want * n, (r, want, n)
            assert abs(float(r["effective_" + kind]) - want / (L * U)) < 1e-12, r
        assert r["local_counts"] == ("" if r["scope"] != "local" else "floor" if per_layer else "spread"), r
for r in compat:  # published: the floor of every layer, then the first one runs again; neurons all run
    if r["scope"] == "local" and r["task"] != "mean":
        assert int(r["pruned_heads"]) == (L - 1) * (int(r["sparsity"]) * H // 100) * positions(compat_lines, r["task"]) and r["pruned_neurons"] == "0", r
        assert r["local_counts"] == "floor", r

# equal totals of all scopes and sources, per task, of the mean and of the text
totals = collections.defaultdict(set)
for r in spread: totals[r["task"], r["sparsity"]].add((r["pruned_heads"], r["pruned_neurons"]))
assert len(totals) == 8 and all(len(t) == 1 for t in totals.values()), totals
for p in ("30", "70"):
    (mean,), copa, rte = totals["mean", p], *(next(iter(totals[t, p])) for t in ("copa", "rte"))
    assert [int(x) for x in mean] == [int(a) + int(b) for a, b in zip(copa, rte)]
# both aggregates: of the tasks and their mean two rows, of the text one
count = collections.Counter((r["task"], r["aggregate"]) for r in spread if r["mask"] == "static")
assert count == {(t, a): 6 for t in ("copa", "rte", "mean") for a in ("task", "all")} | {("wikitext", "all"): 6}, count
hashes = {(r["task"], r["aggregate"]): r["scores_hash"] for r in spread if r["mask"] == "static"}
assert hashes["copa", "task"] != hashes["rte", "task"] and hashes["copa", "all"] == hashes["rte", "all"] == hashes["wikitext", "all"]
# the lines of the details carry the totals and choices of their row
for d in lines:
    r = next(r for r in spread if all(r[k] == str(d[k]) for k in ("task", "mask", "scope", "sparsity", "aggregate", "seed")))
    assert d["pruned_heads"] == int(r["pruned_heads"]) and d["pruned_neurons"] == int(r["pruned_neurons"]) and d["local_counts"] == r["local_counts"], d
PY
echo ok
