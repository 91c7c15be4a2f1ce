#!/bin/sh
# test_overlap - parts and the overlap check from the outside, on a set with one labelled split: a sweep under static or
# contextual masks refuses what was scored, or shown as a few-shot example, and says how much, unless it is allowed;
# another part is accepted. Pages of a text move with the seed.
program=
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=tests/golden/opt/pre one=$tmp/one both=$tmp/both text=data/world/wikitext/held-out.raw
mkdir -p "$one/copa" "$both/copa"
head -n 40 data/world/copa/train.jsonl >"$one/copa/train.jsonl"
cp "$one/copa/train.jsonl" "$both/copa/train.jsonl"
head -n 10 data/world/copa/val.jsonl >"$both/copa/val.jsonl"
data=$one

for option in 0/2 3/2 1 a/b; do
    says="--part $option: not i/n with 1 <= i <= n"
    expect 2 "$says" score --model $model --data "$data" --out "$tmp/x.h5" --part $option
    expect 2 "$says" sweep --model $model --data "$data" --tasks copa --part $option
    expect 2 "$says" tasks --data "$data" --part $option
done
says="part 1/50 of 40 documents is empty"
expect 1 "$says" score --model $model --data "$data" --tasks copa --out "$tmp/x.h5" --part 1/50
expect 1 "$says" sweep --model $model --data "$data" --tasks copa --part 1/50

quiet() { "$@" >"$tmp/o" 2>"$tmp/e"; }
why() { tail -n 1 "$tmp/e"; }
quiet "$bin"/score --model $model --data "$data" --tasks copa --shots 1 --over-long cut --examples 8 --part 1/2 \
    --criteria snip,plainact --out "$tmp/s.h5" || fail "score: $(why)"
quiet "$bin"/aggregate --store "$tmp/s.h5" --out "$tmp/a.h5" || fail "aggregate: $(why)"
quiet "$bin"/train --store "$tmp/s.h5" --model $model --criterion plainact --hidden 8 --epochs 2 --out "$tmp/p.h5" ||
    fail "train: $(why)"
cp "$tmp/s.h5" "$tmp/same.h5"
quiet "$bin"/aggregate --store "$tmp/same.h5" --out "$tmp/same.h5" || fail "aggregate in place: $(why)"

static="--mask none,random,static --scores $tmp/a.h5 --criterion snip --sparsity 40"
contextual="--mask contextual --sparsity 40 --predictor $tmp/p.h5"
sweep() { quiet "$bin"/sweep --model $model --data "$data" --tasks copa --over-long cut "$@"; }
accepted() {
    sweep "$@" || fail "sweep $*: $(why)"
    ! grep -q overlap "$tmp/e" || fail "sweep $*: says $(grep overlap "$tmp/e")"
}
refused() {
    file=$1
    shift
    sweep "$@" --out "$tmp/refused.csv" && fail "sweep $* was not refused"
    [ ! -e "$tmp/refused.csv" ] || fail "sweep $*: refused, but there is a file"
    saw="$file has seen documents that this sweep evaluates or shows as few-shot examples: [0-9]* of [0-9]* of copa"
    then="score one part (score --part 1/2) and sweep another (--part 2/2), or give --allow-overlap"
    why | grep -q "^sweep: $saw; $then\$" || fail "sweep $*: $(why)"
}

accepted --part 2/2 $static --out "$tmp/2.csv" --details "$tmp/2.jsonl"
accepted --part 2/2 $static --shots 2 --out "$tmp/2.csv" --details "$tmp/shots.jsonl"
accepted --part 2/2 $contextual --out "$tmp/2.csv"
accepted --mask none,random --sparsity 40 --scores "$tmp/a.h5" --predictor "$tmp/p.h5"
refused "$tmp/p.h5" --part 1/2 $contextual
refused "$tmp/p.h5" $contextual,"$tmp/p.h5" --seed 0,1
refused "$tmp/a.h5" --part 1/2 $static --limit 15 --estimate
refused "$tmp/same.h5" --part 1/2 --mask static --scores "$tmp/same.h5" --criterion snip --sparsity 40
refused "$tmp/a.h5" --part 1/2 --shots 2 $static --limit 1
refused "$tmp/a.h5" $static --limit 12 --seed 0,1
cp "$tmp/e" "$tmp/why"
sweep $static --limit 12 --seed 0,1 --allow-overlap --out "$tmp/all.csv" --details "$tmp/all.jsonl" ||
    fail "allowed: $(why)"
grep -q "^sweep: warning: $tmp/a.h5 has seen documents .* of copa (--allow-overlap)$" "$tmp/e" ||
    fail "--allow-overlap does not warn: $(cat "$tmp/e")"
sweep $contextual --part 1/2 --allow-overlap --out "$tmp/all.csv" || fail "--allow-overlap: $(why)"

# val is evaluated: no overlap, but for the few-shot examples, which come from train
data=$both
accepted $static --split val --out "$tmp/val.csv"
refused "$tmp/a.h5" $static --split val --shots 3
accepted $static --split val --shots 3 --part 2/2 --out "$tmp/val.csv"
data=$one

# two processes refuse alike
for r in 0 1; do
    OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=2 "$bin"/sweep --model $model --data "$data" --tasks copa \
        --over-long cut $static --out "$tmp/ranks.csv" >"$tmp/o.$r" 2>"$tmp/e.$r" &
done
wait
for r in 0 1; do
    tail -n 1 "$tmp/e.$r" | grep -q "has seen documents" || fail "process $r of two: $(cat "$tmp/e.$r")"
done
[ ! -e "$tmp/ranks.csv" ] || fail "two processes: refused, but there is a file"

# files that do not say what they have seen stay readable, with one warning
cp "$tmp/a.h5" "$tmp/olda.h5"
cp "$tmp/p.h5" "$tmp/oldp.h5"
/usr/bin/python3 -c 'import h5py, sys
for name in sys.argv[1:]:
    with h5py.File(name, "a") as f: del f["documents"]' "$tmp/olda.h5" "$tmp/oldp.h5"
sweep --mask static,contextual --scores "$tmp/olda.h5" --predictor "$tmp/oldp.h5" --criterion plainact --sparsity 40 ||
    fail "old files: $(why)"
grep -q 'warning: .*olda.h5 (like others) does not say which documents it was scored on' "$tmp/e" &&
    [ "$(grep -c 'does not say' "$tmp/e")" = 1 ] || fail "old files: $(cat "$tmp/e")"

# pages: by the seed, the same again, a larger limit extends a smaller one, and their numbers are places in the file
pages() {
    quiet "$bin"/sweep --model $model --wikitext $text --token-perplexity none --mask none --seed 0,1,2 --limit "$2" \
        --part "$3" --out "$tmp/$1.csv" --details "$tmp/$1.jsonl" || fail "pages: $(why)"
}
pages three 3 ""
pages again 3 ""
pages five 5 ""
pages half 3 1/2
pages other 3 2/2
cmp -s "$tmp/three.jsonl" "$tmp/again.jsonl" || fail "the pages of a seed are not the same again"

/usr/bin/python3 - "$tmp" $text <<'PY' || bad=1
import csv, json, re, sys, h5py
tmp, text = sys.argv[1:]
lines = lambda name: [json.loads(l) for l in open(f"{tmp}/{name}.jsonl")]
rows = lambda name: list(csv.DictReader(l for l in open(f"{tmp}/{name}.csv") if not l.startswith("#")))

# the record is the same in store, aggregates (in another file or in place) and predictor file
store, *others = [h5py.File(f"{tmp}/{n}.h5") for n in ("s", "a", "same", "p")]
ids_in = lambda f: [x.decode() for x in f["documents/copa/train/id"]]
seen, scored = set(ids_in(store)), {x.decode() for x in store["examples/id"]}
assert all(ids_in(f) == ids_in(store) for f in others)
assert len(scored) == 8 and scored < seen and len(seen) <= 16, seen
attrs = dict(others[2]["documents/copa/train"].attrs)
assert attrs["task"] == "copa" and attrs["split"] == "train" and attrs["files"] == "copa/train.jsonl"
assert attrs["hash"] == store["tasks/copa"].attrs["hash"] and store.attrs["part"] == "1/2"

# part 2/2 is the other half of the file, and its few-shot examples are of it, too
row = {str(r["idx"]): r["premise"].rstrip(".") for r in map(json.loads, open(tmp + "/one/copa/train.jsonl"))}
second = {d["id"] for d in lines("2")}
assert len(row) == 40 and len(second) == 20 and second < set(row) and not second & seen
blocks = [b for d in lines("shots") for b in d["context"].split("\n\n")]
assert len(blocks) == 3 * len(lines("shots")) > 0
assert all([i for i in row if b.startswith(row[i])][0] in second for b in blocks)

# the numbers that the refusal names: of seeds 0 and 1, 12 documents each
evaluated = {d["id"] for d in lines("all")}
assert 12 < len(evaluated) <= 24
assert f": {len(evaluated & seen)} of {len(evaluated)} of copa" in open(tmp + "/why").read(), (evaluated, seen)

# columns: a mask that follows from no scores is not marked
for r in rows("2"):
    assert r["part"] == "2/2" and r["allow_overlap"] == "0", r
for r in rows("all"):
    assert r["part"] == ("1/2" if r["mask"] == "contextual" else ""), r
    assert r["allow_overlap"] == str(int(r["mask"] in ("static", "contextual"))), r
assert {r["mask"] for r in rows("all")} == {"none", "random", "static", "contextual"}

# pages by the rule of the file format, read here by another hand
pages, page = [], []
for line in open(text, newline="").read().split("\n"):
    s = line.replace("= = =", "===").replace("= =", "==").strip()
    if s.startswith("= ") and s.endswith(" =") and page:
        pages.append("\n".join(page))
        page = []
    page.append(line)
pages = [p for p in pages + ["\n".join(page)] if p.strip()]
of = {}
for name in ("three", "five", "half", "other"):
    for d in lines(name):
        p = pages[d["id"]]
        assert d["words"] == len(re.split(r"\s+", p)) and d["bytes"] == len(p.encode()), d
        of.setdefault((name, d["seed"]), []).append(d["id"])
three, five, half, other = ([of[name, seed] for seed in range(3)] for name in ("three", "five", "half", "other"))
assert all(len(t) == 3 and t == sorted(t) and set(t) < set(f) and len(f) == 5 for t, f in zip(three, five))
assert len({tuple(t) for t in three}) == 3, three
assert not set(sum(half, [])) & set(sum(other, []))
PY
exit $bad
