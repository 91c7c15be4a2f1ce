#!/bin/sh
# test_requests - `sweep --requests`: log-likelihoods obey the chain rule, equal those of the tasks' candidates under
# the same mask, and are greedy where bin/generate writes the same; rows that are none, files that cannot be written,
# and the class for lm-evaluation-harness (masked_lm.py).
program=sweep
. tests/expect.sh
model=model/default
requests() { "$bin/sweep" --model $model --requests "$@"; }

# the candidates of a task, dense and under a mask, and pairs of which a sum or an equality is known
"$bin/sweep" --model $model --data data/world --tasks copa --limit 6 --harness today --mask none,random --sparsity 40 --out "$tmp/s.csv" --details "$tmp/s.jsonl" \
    >/dev/null 2>"$tmp/e" || fail "sweep: $(cat "$tmp/e")"
"$bin/generate" --model $model --prompt "Anna watered the" --tokens 4 >"$tmp/text" 2>"$tmp/e" || fail "generate: $(cat "$tmp/e")"
/usr/bin/python3 - "$tmp" <<'PY' || fail "making requests"
import json, sys
tmp = sys.argv[1]
text = open(tmp + "/text").read().rstrip("\n")
start = "Anna watered the"
assert start in text, text
greedy = text[text.index(start) + len(start):]
pairs = [(start, greedy), (start, greedy[:-1] + "#"), ("Anna watered", " the tomato plant every day."), ("Anna watered", " the tomato"),
         ("Anna watered the tomato", " plant every day."), ("Anna watered ", "the tomato"), ("", "Anna watered"),
         ("</s>Anna watered", " the tomato")]
for line in open(tmp + "/s.jsonl"):
    d = json.loads(line)
    pairs += [(c.get("context", d["context"]), c["text"]) for c in d["candidates"]] if d["mask"] == "none" else []
with open(tmp + "/r.jsonl", "w") as f:
    for i, (a, b) in enumerate(pairs):
        print(json.dumps(dict(context=a, continuation=b) if i % 2 else [a, b]), file=f)
PY
requests "$tmp/r.jsonl" --bos on >"$tmp/greedy.jsonl" 2>"$tmp/e" || fail "requests: $(cat "$tmp/e")"
requests "$tmp/r.jsonl" --out "$tmp/none.jsonl" 2>"$tmp/e" || fail "requests: $(cat "$tmp/e")"
requests "$tmp/r.jsonl" --mask random --sparsity 40 --out "$tmp/random.jsonl" 2>"$tmp/e" || fail "requests: $(cat "$tmp/e")"
/usr/bin/python3 - "$tmp" "$bin/sweep" $model <<'PY' || fail "numbers: $(head -n 7 "$tmp/none.jsonl")"
import json, sys, types
tmp = sys.argv[1]
read = lambda name: [json.loads(l) for l in open(f"{tmp}/{name}.jsonl")]
near = lambda a, b: abs(a - b) < 2e-4
none, random, greedy, details = read("none"), read("random"), read("greedy"), read("s")
assert len(none) == len(random) == 8 + 12, (len(none), len(random))
assert greedy[0]["is_greedy"] and not greedy[1]["is_greedy"], greedy[:2]
ll = [r["log_likelihood"] for r in greedy]
assert near(ll[3], ll[7]) and near(ll[3], none[7]["log_likelihood"]) and not near(ll[3], none[3]["log_likelihood"]), greedy  # BOS once, asked for or written
for got in (none, random):
    ll = [r["log_likelihood"] for r in got]
    assert near(ll[2], ll[3] + ll[4]) and got[2]["tokens"] == got[3]["tokens"] + got[4]["tokens"], got[:7]  # p(ab) = p(a) p(b | a)
    assert near(ll[5], ll[3]), got[:7]  # a space at the end of the context is the continuation's
for mask, got in (("none", none), ("random", random)):
    want = [c for d in details if d["mask"] == mask for c in d["candidates"]]
    assert len(want) == 12 and all(near(a["log_likelihood"], b["log_likelihood"]) and a["tokens"] == b["tokens"] for a, b in zip(got[8:], want)), mask
    assert all(c["text"].startswith("  ") for c in want)  # today's COPA
assert not any(near(a["log_likelihood"], b["log_likelihood"]) for a, b in zip(none, random))
sys.path.insert(0, "tests")
from masked_lm import MaskedLM
asked = [types.SimpleNamespace(args=("Anna watered", " the tomato")), types.SimpleNamespace(args=("", "Anna watered"))]
answers = MaskedLM(sys.argv[2], "--model", sys.argv[3], "--mask", "random", "--sparsity", "40").loglikelihood(asked)
assert answers == [(random[i]["log_likelihood"], random[i]["is_greedy"]) for i in (3, 6)], answers
try:
    MaskedLM(sys.argv[2], "--model", "absent").loglikelihood(asked)
    raise SystemExit("no error of a model that is not there")
except RuntimeError as e:
    assert "absent" in str(e), e
PY

# all or nothing, and what is refused
cp "$tmp/none.jsonl" "$tmp/kept.jsonl"
row() {
    { head -n 2 "$tmp/r.jsonl"; printf '%s\n' "$2"; } >"$tmp/bad.jsonl"
    expect 1 "bad.jsonl:3: $1" --model $model --requests "$tmp/bad.jsonl" --out "$tmp/kept.jsonl"
}
row "not JSON" '{"context": "a"'
row 'no text "continuation"' '{"context": "a"}'
row 'no text "context"' '[3, "a"]'
row "its continuation is empty" '["a", ""]'
/usr/bin/python3 -c 'import json; print(json.dumps(["a " * 600 + "a", " b"]))' >"$tmp/long.jsonl"
expect 1 "the model has 512 positions; --over-long cut" --model $model --requests "$tmp/long.jsonl" --out "$tmp/kept.jsonl"
expect 0 "1 contexts are cut from the left" --model $model --requests "$tmp/long.jsonl" --over-long cut
cmp -s "$tmp/none.jsonl" "$tmp/kept.jsonl" || fail "a failed run changed the file"
: >"$tmp/empty.jsonl"
printf '{"context": "a", "continuation": " b"}\n\000\n{"context": "a", "continuation": " c"}\n' >"$tmp/zero.jsonl"
expect 1 "zero.jsonl:2: not JSON" --model $model --requests "$tmp/zero.jsonl"
{ printf '\357\273\277'; cat "$tmp/r.jsonl"; } >"$tmp/mark.jsonl"
for each in r mark; do "$bin/sweep" --model $model --requests "$tmp/$each.jsonl" --out "$tmp/$each.out" 2>"$tmp/e" || fail "$each: $(cat "$tmp/e")"; done
cmp -s "$tmp/r.out" "$tmp/mark.out" || fail "a byte-order mark changes requests"
expect 1 "empty.jsonl: holds no requests" --model $model --requests "$tmp/empty.jsonl"
expect 1 "absent.jsonl" --model $model --requests "$tmp/absent.jsonl"
expect 1 "--requests takes one mask, and 2 are named" --model $model --requests "$tmp/r.jsonl" --mask random --sparsity 20,40
expect 2 "--requests is measured by itself" --model $model --requests "$tmp/r.jsonl" --tasks copa --data data/world
expect 1 "no/such.tmp: cannot write" --model $model --requests "$tmp/r.jsonl" --out "$tmp/no/such"
exit $bad
