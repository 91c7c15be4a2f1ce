#!/bin/sh
# test_published - results/published: the totals of its files, and values that the paper and its result files state,
# which have to follow from the rows.
exec /usr/bin/python3 - <<'PY'
import csv, statistics

def rows(name):
    return list(csv.DictReader(open(f"results/published/{name}.csv")))

quality, latency, rho = rows("quality"), rows("latency_a100"), rows("predictor_spearman")
assert (len(quality), len(latency), len(rho)) == (3465, 57, 225)

def pick(of, column, **wanted):
    return [float(r[column]) for r in of if all(r[k] == str(v) for k, v in wanted.items())]

# Perplexities as the result files print them, to two digits: criterion, method, mode, percent.
def ppl(model, criterion, method, mode, p, **more):
    return pick(quality, "value", model=model, criterion=criterion, method=method, mode=mode, head_percent=p,
                metric="word_perplexity", **more)

def near(value, want, digits=2):
    return abs(value - want) <= 0.51 * 10 ** -digits

def close(values, want, digits=2):
    assert values and all(near(v, want, digits) for v in values), (values, want)

for criterion, at in {"fisher": (16.80, 20.28, 88.68), "plainact": (17.74, 29.22, 67.76),
                      "l2_norm": (17.92, 138.02, 852.98), "grasp": (19.10, 54.44, 113.80)}.items():
    for p, want in zip((15, 35, 60), at):
        values = ppl("opt-1.3b", criterion, "original", "perlayer", p, score_file=f"{criterion}_all_5")
        assert any(near(v, want) for v in values), (criterion, p, values)  # some were measured twice
close(ppl("opt-1.3b", "plainact", "predictorL", "global", 45, score_file="plainact_all_5"), 25.53)
close(ppl("opt-1.3b", "plainact", "predictorL", "perlayer", 20, score_file="plainact_all_5"), 17.71)
for shots, want in (0, 31.82), (3, 22.89), (5, 21.44):
    values = ppl("opt-1.3b", "fisher", "original", "perlayer", 40, score_file=f"fisher_all_{shots}")
    assert any(near(v, want) for v in values), (shots, values)
main = dict(study="all_ind_aggrzcp_res_opt30b_main")
close(ppl("opt-30b", "plainact", "predictorL", "global", 50, **main), 12.13)
close(ppl("opt-30b", "l2_norm", "dejavu", "global", 50, **main), 35.05)
close(ppl("opt-30b", "l2_norm", "dejavu", "perlayer", 50, **main), 95.49)
close(ppl("opt-13b", "plainact", "predictorL", "perlayer", 25), 1711.68)

# Mean accuracy of the seven tasks, OPT-13B; the copied row.
published = (30, 61.51, 60.42), (40, 61.40, 59.92), (50, 61.19, 58.32), (60, 58.55, 53.37), (70, 56.97, 46.71)
for p, early, per_layer in published:
    for criterion, method, want in ("plainact", "predictorL", early), ("l2_norm", "dejavu", per_layer):
        values = pick(quality, "value", model="opt-13b", metric="acc", criterion=criterion, method=method,
                      head_percent=p)
        assert len(values) == 7
        close([100 * statistics.mean(values)], want)
copied = [pick(quality, "value", model="opt-13b", task="hellaswag", metric="acc", method="dejavu", head_percent=p)
          for p in (60, 70)]
assert copied[0] == copied[1]
# Static masks are the same in both modes, wherever both have one run each.
for criterion in "fisher", "plainact", "snip":
    for p in 70, 80, 90:
        both = [ppl("opt-1.3b", criterion, "original", mode, p, score_file=f"{criterion}_all_5")
                for mode in ("perlayer", "global")]
        assert both[0][:1] == both[1][:1], (criterion, p)

# Times: the ratios that the paper quotes.
def ms(mode, study, model="opt-30b", sparsity=50, tokens=128):
    value, = pick(latency, "total_ms", mode=mode, study=study, model=model, sparsity_percent=sparsity,
                  generated_tokens=tokens)
    return value

def slower(*key, **more):
    return round(100 * (ms("dejavu", *key, **more) / ms("shadowllm", *key, **more) - 1), 2)

assert slower("length") == 16.07 and (ms("dejavu", "length"), ms("shadowllm", "length")) == (2102, 1811)
assert slower("size", model="opt-13b") == 13.95
assert slower("size", model="opt-1.3b") == 21.34
assert slower("sparsity", sparsity=90) == 23.77
assert [ms("dejavu", s) for s in ("size", "sparsity", "length")] == [2095, 2099, 2102]

# Rank correlations of the early predictor, heads.
for criterion, want in {"grasp": 0.013, "fisher": 0.683, "plainact": 0.922, "l2_norm": 0.979, "snip": 0.999}.items():
    close(pick(rho, "spearman", study="criterion", unit="head", design="b1e", criterion=criterion), want, 3)
mean = {d: statistics.mean(pick(rho, "spearman", study="design", criterion="plainact", design=d))
        for d in ("b1e", "ble", "b1e_seq")}
assert {d: round(m, 3) for d, m in mean.items()} == {"b1e": 0.865, "ble": 0.856, "b1e_seq": 0.823}
print("ok")
PY
