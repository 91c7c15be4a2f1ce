# claims_check.py DETAILS CLAIMS TABLE.csv - every number of a table of claims (bin/compare --claims) against NumPy:
# effects and seeds from the lines, intervals, standard errors and p values by a bootstrap of its own, Holm's
# correction, smallest effects, verdicts and primary outcomes.
import csv, functools, json, sys
import numpy as np

DRAWS = 10000  # beside the 20,000 of the table
TOLERANCE = 0.14  # of quantiles, in standard errors: 0.027 is that of 10,000 draws, 0.033 that of the difference
lines = [json.loads(l) for l in open(sys.argv[1])]
spec = json.load(open(sys.argv[2]))
rows = list(csv.DictReader(l for l in open(sys.argv[3]) if l[0] != "#"))
margin = dict(acc=0.01, gold_ll_per_byte=0.002, word_perplexity=0.01) | spec.get("margins", {})

# weights of the documents: in each draw as many of each task as there are, with replacement
documents = sorted({(d["task"], str(d["id"])) for d in lines})
place = {d: i for i, d in enumerate(documents)}
task_of = np.array([t for t, _ in documents])
rng, weights = np.random.default_rng(11), np.ones((DRAWS + 1, len(documents)))  # the first: every document once
for t in set(task_of):
    n = (task_of == t).sum()
    weights[1:, task_of == t] = rng.multinomial(n, [1 / n] * n, DRAWS)

# one mask at one seed and sparsity -> outcome -> document -> (value, size)
masks, totals = {}, {}
for d in lines:
    text = d["task"] == "wikitext"
    key = (d["mask"], d["aggregate"], d["sparsity"], d["seed"], text)
    if text:
        values = dict(word_perplexity=(d["log_likelihood"], d["words"]))
    else:
        gold = d["candidates"][d["gold"]]
        values = dict(acc=(d["prediction"] == d["gold"], 1), gold_ll_per_byte=(gold["log_likelihood"], gold["bytes"]))
    for outcome, v in values.items():
        masks.setdefault(key, {}).setdefault(outcome, {})[place[d["task"], str(d["id"])]] = v
    totals.setdefault(key, {})[d["task"]] = np.array([d["pruned_heads"], d["pruned_neurons"]])


@functools.cache
def mean(key, outcome):
    """In every draw: mean over the tasks of sum w value / sum w size."""
    seen = masks[key][outcome]
    at = np.array(sorted(seen))
    value, size = np.array([seen[i] for i in at], float).T
    tasks = [task_of[at] == t for t in sorted(set(task_of[at]))]
    return np.mean([(weights[:, at[of]] @ value[of]) / (weights[:, at[of]] @ size[of]) for of in tasks], axis=0)


def pairs(claim, outcome, sparsity):
    """Pairs of keys with equal totals, and how many there are without."""
    text, good, left = outcome == "word_perplexity", [], 0

    def of(side, key):
        want = claim[side]
        return (key[0] == want["mask"] and (text or want.get("aggregate", key[1]) == key[1]) and key[4] == text and
                sparsity in (key[2], "all"))
    for a, b in ((a, b) for a in masks for b in masks if of("a", a) and of("b", b) and a[2:] == b[2:]):
        if (sum(totals[a].values()) == sum(totals[b].values())).all():
            good.append((a, b))
        else:
            left += 1
    return good, left


def near(got, want, tolerance): return abs(float(got) - want) <= tolerance


Z = 1.959963984540054 + 0.8416212335729143  # quantiles of the normal distribution at 0.975 and 0.8
tests = []
for r in rows:
    claim, outcome = next(c for c in spec["claims"] if c["claim"] == r["claim"]), r["outcome"]
    good, left = pairs(claim, outcome, r["sparsity"])
    assert (int(r["pairs"]), int(r["left_out"])) == (len(good), left), r
    if not good:
        assert r["verdict"] == ("not compared" if left else "not run") and r["effect"] == r["low"] == r["p"] == "", r
        continue
    assert int(r["documents"]) == len({i for a, _ in good for i in masks[a][outcome]}), r
    if r["level"] == "claim" and (left or r["verdict"] == "mixed"):
        assert r["effect"] == r["low"] == r["p"] == "", r
        continue
    a, b = ([mean(k[side], outcome) for k in good] for side in (0, 1))
    draws = np.mean([x - y for x, y in zip(a, b)], axis=0)
    seeds = [np.mean([(x - y)[0] for x, y, k in zip(a, b, good) if k[0][3] == s]) for s in {k[0][3] for k in good}]
    ratio = outcome == "word_perplexity"
    def shown(x): return np.exp(-x) if ratio else x
    assert near(r["effect"], shown(draws[0]), 1e-8), r
    assert near(r["a"], shown(np.mean([x[0] for x in a])), 1e-7), r
    assert near(r["b"], shown(np.mean([x[0] for x in b])), 1e-7), r
    assert near(r["seed_low"], min(map(shown, seeds)), 1e-8) and near(r["seed_high"], max(map(shown, seeds)), 1e-8), r

    error, (low, high) = draws[1:].std(ddof=1), np.quantile(draws[1:], (0.025, 0.975))
    got_low, got_high = float(r["low"]), float(r["high"])
    m = margin[outcome]
    inside = 1 - m < got_low and got_high < 1 + m if ratio else -m < got_low and got_high < m
    if ratio: got_low, got_high = -np.log(got_high), -np.log(got_low)
    tolerance = TOLERANCE * error + (1 / len(documents) if outcome == "acc" else 0)  # accuracies come in steps
    assert near(got_low, low, tolerance) and near(got_high, high, tolerance), (r, low, high)
    assert near(r["stderr"], error, 0.05 * error), (r, error)
    smallest = Z * float(r["stderr"]) if error else 1 - 0.05 ** (1 / int(r["documents"]))
    assert near(r["smallest"], np.expm1(smallest) if ratio else smallest, 1e-8), r
    if r["level"] != "sparsity":
        assert r["p"] == r["p_holm"] == "", r
        continue
    below, above = (draws[1:] <= 1e-12).sum(), (draws[1:] >= -1e-12).sum()
    p = min(1, 2 * (1 + min(below, above)) / (DRAWS + 1))
    assert near(r["p"], p, 9 * np.sqrt(p / DRAWS)) and float(r["p"]) >= 2 / 20001 - 1e-9, (r, p)
    tests.append((float(r["p"]), r, "no difference" if inside else None, draws[0]))

# Holm: the smallest of n p values times n, the next times n - 1, .. and none less than one before
least = 0
for i, (p, r, verdict, effect) in enumerate(sorted(tests, key=lambda t: t[0])):
    least = max(least, min(1, (len(tests) - i) * p))
    assert near(r["p_holm"], least, 1e-8), (r, least)
    assert r["verdict"] == (verdict or ("undecided" if least >= 0.05 else "holds" if effect > 0 else "reversed")), r

# over the sparsities, and which outcomes are primary
by_sparsity = [r for r in rows if r["level"] == "sparsity"]
for own in (r for r in rows if r["level"] == "claim" and r["verdict"] != "not run"):
    each = [r for r in by_sparsity if (r["claim"], r["outcome"]) == (own["claim"], own["outcome"])]
    verdicts = {r["verdict"] for r in each}
    both = {"holds", "reversed"} <= verdicts
    assert own["verdict"] == (verdicts.pop() if len(verdicts) == 1 else "mixed" if both else "undecided"), own
    said = ", ".join(f"{v} at {n}" for v in ("holds", "reversed") if (n := [r["verdict"] for r in each].count(v)))
    if own["verdict"] in ("undecided", "mixed") and said and not own["reason"].startswith("totals"):
        assert own["reason"] == f"{said} of {len(each)} sparsities", own
    for r in [*each, own]:
        accuracy = [x for x in by_sparsity if (x["claim"], x["outcome"]) == (r["claim"], "acc")]
        enough = all(x["smallest"] and float(x["smallest"]) <= margin["acc"] for x in accuracy
                     if r["sparsity"] in (x["sparsity"], "all"))
        primary = dict(acc=enough, gold_ll_per_byte=not enough, word_perplexity=True)
        assert r["primary"] == ("yes" if primary[r["outcome"]] else "no"), r
