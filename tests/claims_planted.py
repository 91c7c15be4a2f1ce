# claims_planted.py FOLDER - details of made-up sweeps with planted effects and their claims, for tests/test_claims.sh:
# planted.jsonl and claims.json, seeds.jsonl and seeds.json.
import json, sys
import numpy as np

folder = sys.argv[1]
TASKS, DOCS, PAGES = ("copa", "piqa"), 160, 60
HEAD = dict(mode="sound", mask="", criterion="plainact", design="", target="", lag="", hidden="", scope="local",
            units="both", mask_span="decode", refresh="128", aggregate="", local_counts="spread", part="")


def lines(out, head, right, gold, page, heads=1000, docs=range(DOCS), pages=range(PAGES)):
    """The lines of one mask. right(task, i): 0 or 1; gold(task, i): nats per byte; page(i): nats per word."""
    head, neurons = HEAD | head, 8 * heads
    for k, task in enumerate(TASKS):
        for i in docs:
            size = 12 + (7 * i + k) % 9  # bytes of the gold candidate
            candidates = [dict(text="x", log_likelihood=-50.0, tokens=3, bytes=9),
                          dict(text="y", log_likelihood=gold(task, i) * size, tokens=4, bytes=size)]
            print(json.dumps(head | dict(pruned_heads=heads + k, pruned_neurons=neurons, task=task, id=str(i), gold=1,
                                         candidates=candidates, prediction=int(right(task, i)), prediction_bytes=1,
                                         prediction_norm=0)),
                  file=out)
    for i in pages if head["aggregate"] != "task" else ():
        words = 100 + (13 * i) % 50
        print(json.dumps(head | dict(pruned_heads=heads + 7, pruned_neurons=neurons + 7, task="wikitext", id=i,
                                     words=words, bytes=5 * words, tokens=2 * words, log_likelihood=words * page(i))),
              file=out)


rng = np.random.default_rng(5)
base = {t: (rng.random(DOCS) < 0.6, rng.normal(-1.5, 0.4, DOCS)) for t in TASKS}
text = rng.normal(-3.0, 0.3, PAGES)


def mask(out, shift, spread, flips, heads=1000, **head):
    """The base mask and an effect; documents differ by much more, which pairs take out. shift: nats per byte and word;
    spread: of that over documents; flips: the share of documents that become right (less than 0: wrong)."""
    key = [head["seed"], int(head["sparsity"]), int(1e6 * abs(shift)), int(1e6 * spread), shift > 0]
    own = np.random.default_rng(key)
    noise, paged = {t: own.normal(shift, spread, DOCS) for t in TASKS}, own.normal(shift, spread, PAGES)
    flipped = {t: own.random(DOCS) < abs(flips) for t in TASKS}
    lines(out, head, right=lambda t, i: flips > 0 if flipped[t][i] else base[t][0][i],
          gold=lambda t, i: base[t][1][i] + noise[t][i], page=lambda i: text[i] + paged[i], heads=heads)


def planted():
    with open(f"{folder}/planted.jsonl", "w") as out:
        for seed, sparsity in ((s, p) for s in (0, 1) for p in ("30", "50")):
            of, sign = dict(seed=seed, sparsity=sparsity), 1 if sparsity == "30" else -1
            mask(out, 0, 0, 0, mask="base", **of)
            mask(out, 0, 0.002, 0, mask="same", **of)                        # nothing, precisely measured
            mask(out, 0.005, 0.1, 0.02, mask="little", **of)                 # less than the sample can show
            mask(out, 0.1, 0.1, 0.5, mask="good", **of)                      # much
            mask(out, 0.1 * sign, 0.1, 0.5 * sign, mask="mixed", **of)
            mask(out, 0.1, 0.1, 0.5, heads=999, mask="fewer", **of)          # much, of other totals
            mask(out, 0.1, 0.1, 0.5, heads=1000 if sign > 0 else 999, mask="half", **of)
            mask(out, 0.1, 0.05, 0.5, mask="static", aggregate="task", **of)
            mask(out, -0.1, 0.05, -0.5, mask="static", aggregate="all", **of)
    claims = [dict(claim=c, a=dict(mask=a), b=dict(mask=b)) for c, a, b in
              (("none", "same", "base"), ("small", "little", "base"), ("large", "good", "base"),
               ("large, swapped", "base", "good"), ("two signs", "mixed", "base"), ("other totals", "fewer", "base"),
               ("other totals at one", "half", "base"), ("nobody", "absent", "base"))]
    for aggregate in ("task", "all"):
        static = dict(mask="static", aggregate=aggregate)
        claims.append(dict(claim=f"static ({aggregate})", a=static, b=dict(mask="base")))
    claims.append(dict(claim="one outcome", a=dict(mask="good"), b=dict(mask="base"),
                       match=["scope", "sparsity", "seed"], outcomes=["acc"]))
    json.dump(dict(note="planted", claims=claims), open(f"{folder}/claims.json", "w"))


def seeds():
    """Two seeds that saw the same documents, with the same effects: no more is known than from one seed. And two seeds
    of which the second saw half of the documents of the first."""
    own = np.random.default_rng(8)
    effect, page = {t: own.normal(0.01, 0.3, 60) for t in TASKS}, own.normal(0.01, 0.3, 60)
    with open(f"{folder}/seeds.jsonl", "w") as out:
        for seed in (0, 1):
            other = 20 * seed
            for name, scale, first in (("good", 1, 0), ("base", 0, 0), ("good2", 1, other), ("base2", 0, other)):
                seen = range(first, first + 40)
                lines(out, dict(mask=name, sparsity="50", seed=seed), docs=seen, pages=seen,
                      right=lambda t, i: scale * effect[t][i] > 0, gold=lambda t, i: scale * effect[t][i] - 2,
                      page=lambda i: scale * page[i] - 3)
    claims = [dict(claim="same documents", a=dict(mask="good"), b=dict(mask="base")),
              dict(claim="other documents", a=dict(mask="good2"), b=dict(mask="base2"))]
    margins = dict(acc=0.05, gold_ll_per_byte=0.01, word_perplexity=0.02)
    json.dump(dict(margins=margins, claims=claims), open(f"{folder}/seeds.json", "w"))


planted()
seeds()
