#!/bin/sh
# test_claims - bin/compare from the outside: details with planted effects (claims_planted.py) get the verdicts that
# follow from how they were made, and every number is checked with NumPy (claims_check.py); what it refuses.
. tests/expect.sh
. tests/needs.sh
needs_h5py
export BIN=$bin

/usr/bin/python3 tests/claims_planted.py "$tmp" || { fail "claims_planted.py"; exit 1; }
d=$tmp/planted.jsonl c=$tmp/claims.json
expect 0 "not run: nobody" compare --details "$d" --claims "$c" --out "$tmp/planted.csv"
cp "$tmp/o" "$tmp/table"
expect 0 "" compare --details "$tmp/seeds.jsonl" --claims "$tmp/seeds.json" --out "$tmp/seeds.csv"
check() { /usr/bin/python3 tests/claims_check.py "$@" || fail "numbers of $1"; }
check "$d" "$c" "$tmp/planted.csv"
check "$tmp/seeds.jsonl" "$tmp/seeds.json" "$tmp/seeds.csv"

# verdicts of accuracy, log-likelihood per byte and perplexity, over the sparsities
verdicts() { grep -v '^#' "$1" | /usr/bin/python3 -c 'import csv, sys
by = {}
for r in csv.DictReader(sys.stdin): r["level"] == "claim" and by.setdefault(r["claim"], []).append(r["verdict"])
for claim in by: print(claim, *by[claim], sep=": ")'; }
verdicts "$tmp/planted.csv" >"$tmp/1"
cat >"$tmp/2" <<END
none: no difference: no difference: no difference
small: undecided: undecided: undecided
large: holds: holds: holds
large, swapped: reversed: reversed: reversed
two signs: mixed: mixed: mixed
other totals: not compared: not compared: not compared
other totals at one: undecided: undecided: undecided
nobody: not run: not run: not run
static (task): holds: holds: reversed
static (all): reversed: reversed: reversed
one outcome: holds
END
cmp -s "$tmp/1" "$tmp/2" || fail "verdicts: $(diff "$tmp/1" "$tmp/2")"
said() { grep -q "$1" "$tmp/table" || fail "not in the table: $1"; }
said 'left out of "other totals at one", because totals of .* differ: 2 pairs on the tasks, 2 on the text'
said 'acc has too few documents in [1-9][0-9]* of 17 tests'

# two seeds with the same documents and effects say what one of them says; drawn apart they would seem to say more
expect 0 "" compare --details "$tmp/seeds.jsonl" --a mask=good --b mask=base --out "$tmp/c.csv"
/usr/bin/python3 - "$tmp" <<'PY' || fail "two seeds on the same documents: $(cat "$tmp/o")"
import csv, json, sys, numpy as np
rows = csv.DictReader(l for l in open(sys.argv[1] + "/c.csv") if l[0] != "#")
rows = [r for r in rows if r["outcome"] == "word_perplexity"]
seed0, seed1, both, own = rows
assert [r["level"] for r in rows] == ["pair", "pair", "sparsity", "claim"] and "seed=1" in seed1["pair"]
for r in (seed1, both):
    assert all(abs(float(seed0[k]) - float(r[k])) < 1e-9 for k in ("effect", "stderr", "low", "high")), rows
pages = {}
for line in open(sys.argv[1] + "/seeds.jsonl"):
    d = json.loads(line)
    if d["task"] == "wikitext" and d["seed"] == 0 and d["mask"] in ("good", "base"):
        pages.setdefault(d["mask"], {})[d["id"]] = (d["log_likelihood"], d["words"])
difference = np.array([pages["good"][i][0] - pages["base"][i][0] for i in pages["good"]])
words = np.array([w for _, w in pages["good"].values()])
i, j = np.random.default_rng(2).integers(40, size=(2, 10000, 40))
one, apart = (difference[i].sum(1) / words[i].sum(1) for i in (i, j))
together = float(both["stderr"])
assert 0.9 < together / one.std() < 1.1 and ((one + apart) / 2).std() < 0.8 * together, both
PY

# the same bits whatever the threads, and whatever the order of the files
for n in 1 2; do
    rm -f "$tmp/c.csv"
    OMP_NUM_THREADS=$n "$bin"/compare --details "$d" --claims "$c" --out "$tmp/c.csv" >/dev/null 2>&1
    mv "$tmp/c.csv" "$tmp/$n" || fail "no table with $n threads"
done
cmp -s "$tmp/1" "$tmp/2" || fail "two threads give other bits than one"
head -n 3000 "$d" >"$tmp/first.jsonl"
tail -n +3001 "$d" >"$tmp/second.jsonl"
expect 0 "" compare --details "$tmp/second.jsonl,$tmp/first.jsonl" --claims "$c" --out "$tmp/c.csv"
verdicts "$tmp/c.csv" >"$tmp/2"
verdicts "$tmp/planted.csv" | cmp -s - "$tmp/2" || fail "two files: $(cat "$tmp/2")"

# tables, and what is said of few draws and few documents
expect 0 '| large | gold ll/byte A - B |' compare --details "$d" --claims "$c" --table markdown
[ "$(grep -c '^|' "$tmp/o")" = 33 ] && [ "$(grep '^|' "$tmp/o" | awk -F'|' '{print NF}' | sort -u)" = 10 ] ||
    fail "Markdown: $(cat "$tmp/o")"
few="no p value of 900 draws passes a correction over 47 tests; take --draws 1880"
expect 0 "$few" compare --details "$d" --claims "$c" --draws 900
grep -q '^only 900 draws' "$tmp/o" || fail "few draws: $(cat "$tmp/o")"
grep -E '"id": ("[012]"|[012]),' "$d" >"$tmp/few.jsonl"
expect 2 "100 and more" compare --details "$d" --claims "$c" --draws 99

# many claims: 20,000 draws could show none of 600 true ones, as 600 x 2 / 20001 > 0.05; by itself it takes more
/usr/bin/python3 - "$c" "$tmp/many.json" <<'PY'
import json, sys
large = next(c for c in json.load(open(sys.argv[1]))["claims"] if c["claim"] == "large")
json.dump({"claims": [{**large, "claim": "large %d" % i, "outcomes": ["word_perplexity"]} for i in range(300)]},
          open(sys.argv[2], "w"))
PY
many() { expect 0 "" compare --details "$d" --claims "$tmp/many.json" --out "$tmp/many.csv" "$@"; }
said_of_many() { verdicts "$tmp/many.csv" | sed 's/.*: //' | sort | uniq -c | tr -s ' '; }
many --draws 20000
[ "$(said_of_many)" = " 300 undecided" ] || fail "many claims, 20000 draws: $(said_of_many)"
many
[ "$(said_of_many)" = " 300 holds" ] || fail "many claims, as many draws as they take: $(said_of_many)"
few="undecided (few documents: 3 of copa, 10 are wanted)"
expect 0 "$few" compare --details "$tmp/few.jsonl" --claims "$c" --out "$tmp/few.csv"
cat "$tmp/o" "$tmp/few.csv" | grep -qi 'nan\|inf' && fail "numbers of few documents: $(cat "$tmp/o")"

# accuracy by prediction_norm, which is wrong everywhere: that none of 320 documents differs says something
# (1 - 0.05^(1/320) < 0.01), that none of 80 does says nothing
norm() { expect 0 "$1" compare --details "$2" --metric acc_norm --a mask=good --b mask=base; }
norm "0.0093     2    0    320  +0.0000..+0.0000  no difference" "$d"
norm "0.0368     2    0     80  +0.0000..+0.0000  undecided (no document differs, but they are few)" "$tmp/seeds.jsonl"

# by prediction_bytes, which is right everywhere; lines of a version that knew only the one by bytes, as prediction_norm
by_bytes() {
    expect 0 "" compare --details "$2" --metric acc_bytes --draws 100 --a mask=good --b mask=base --out "$tmp/c.csv"
    [ "$(rows "$tmp/c.csv" | awk -F, 'NR == 1 {for (i = 1; i <= NF; i++) if ($i == "a") k = i} $3 == "acc_bytes" {print $k}' |
        sort -u)" = "$1" ] || fail "acc_bytes of $2: $(cat "$tmp/c.csv")"
}
by_bytes 1 "$d"
sed 's/"prediction_bytes": 1, //' "$d" >"$tmp/old.jsonl"
by_bytes 0 "$tmp/old.jsonl"
expect 1 "old.jsonl:1: its prediction_norm is by bytes" compare --details "$tmp/old.jsonl" --metric acc_norm --a mask=good --b mask=base

# one comparison: aggregate is a matter of tasks; pairs of equal totals only
expect 0 "reversed" compare --details "$d" --a mask=static,aggregate=task --b mask=base
expect 1 'b: aggregate is "task" and "all" in lines' compare --details "$d" --a mask=base --b mask=static
expect 0 "not compared (totals of pruned units differ)" compare --details "$d" --a mask=fewer --b mask=base
expect 1 "they agree in none" compare --details "$d" --a mask=absent --b mask=base

# what is refused, in one line
expect 1 "no claim has pairs" compare --details "$d" --claims experiments/claims.json
expect 1 "nothing.jsonl" compare --details "$tmp/nothing.jsonl" --claims "$c" --out "$tmp/no.csv"
[ ! -e "$tmp/no.csv" ] || fail "a table of missing details"
expect 1 "nothing.json" compare --details "$d" --claims "$tmp/nothing.json"
expect 2 "is wanted" compare --details "$d"
expect 2 "leave out --a" compare --details "$d" --claims "$c" --a mask=base
expect 2 "unknown field colour" compare --details "$d" --a colour=red --b mask=base
expect 2 "field mask twice" compare --details "$d" --a mask=base,mask=good --b mask=base
refused() {
    printf '%s' "$2" >"$tmp/bad.json"
    expect 1 "bad.json: $1" compare --details "$d" --claims "$tmp/bad.json"
}
n='"claim": "x"' x='"a": {"mask": "good"}, "b": {"mask": "base"}'
printf '{"claims": [' >"$tmp/bad.json"
expect 1 "bad.json:1: not JSON" compare --details "$d" --claims "$tmp/bad.json"
refused "key claims: a list of claims is wanted" '{"claims": []}'
refused "unknown key margin; there are note margins claims" "{\"margin\": 1, \"claims\": [{$n, $x}]}"
refused "margins: acc: a number between 0 and 1" "{\"margins\": {\"acc\": \"a\"}, \"claims\": [{$n, $x}]}"
refused "claim 1: key claim: what is claimed" "{\"claims\": [{$x}]}"
refused "claim 1 (x): b: fields and their values" "{\"claims\": [{$n, \"a\": {\"mask\": \"good\"}}]}"
refused "claim 2 (x): stands twice" "{\"claims\": [{$n, $x}, {$n, $x}]}"
refused "claim 1 (x): unknown key mach" "{\"claims\": [{$n, $x, \"mach\": []}]}"
refused "claim 1 (x): a: unknown field colour" "{\"claims\": [{$n, \"a\": {\"colour\": \"red\"}, \"b\": {}}]}"
refused "claim 1 (x): match: unknown field colour" "{\"claims\": [{$n, $x, \"match\": [\"colour\"]}]}"
refused "claim 1 (x): outcomes: unknown outcome speed" "{\"claims\": [{$n, $x, \"outcomes\": [\"speed\"]}]}"
printf '%s' "{\"claims\": [{$n, $x, \"match\": [\"sparsity\"]}]}" >"$tmp/bad.json"
expect 1 'x: b: seed is "0" and "1"' compare --details "$d" --claims "$tmp/bad.json"

# details that do not fit: one line of them changed, or a part of them missing
unfit() { expect 1 "$1" compare --details "${2:-$tmp/bad.jsonl}" --a mask=good --b mask=base; }
line() {
    { head -n 40 "$tmp/seeds.jsonl"; sed -n 41p "$tmp/seeds.jsonl" | sed "$2"; } >"$tmp/bad.jsonl"
    unfit "bad.jsonl:41: $1"
}
line "no field aggregate: made by an older sweep; run the sweep again" 's/"aggregate": "", //'
line "no whole numbers pruned_heads and pruned_neurons: made by an older sweep" 's/"pruned_heads": [0-9]*, //'
line "no field scope; details of bin/sweep are wanted" 's/"scope": "local", //'
line "neither a document nor a page" 's/"gold": 1/"gold": 2/'
line "not JSON" 's/{/[/'
line "pruned_heads and pruned_neurons of copa differ from those of a line before" \
    's/"task": "piqa"/"task": "copa"/;s/"pruned_heads": [0-9]*/"pruned_heads": 5/'
{ head -n 40 "$tmp/seeds.jsonl"; printf '\000\n'; sed 1,40d "$tmp/seeds.jsonl"; } >"$tmp/bad.jsonl"
unfit "bad.jsonl:41: not JSON"
head -c 5000 "$tmp/seeds.jsonl" >"$tmp/bad.jsonl"
unfit "the last line is not whole"
grep -v '"mask": "base".*"task": "copa", "id": "7"' "$tmp/seeds.jsonl" >"$tmp/bad.jsonl"
unfit "copa 7 was measured under one mask of a pair only"
sed 's/"prediction": 1/"prediction": 0/' "$tmp/seeds.jsonl" >"$tmp/bad.jsonl"
unfit "stands twice with the same mask and different values" "$tmp/seeds.jsonl,$tmp/bad.jsonl"
sed 's/"words": 1/"words": 2/' "$tmp/seeds.jsonl" >"$tmp/bad.jsonl"
unfit "these lines are of different data" "$tmp/seeds.jsonl,$tmp/bad.jsonl"

exit $bad
