#!/bin/sh
# test_paper - experiments/paper.sh on a tiny model and little data: every part runs, a second run computes nothing, and
# the tables of the report follow from the CSV files as Python reads them; what is missing is "not run"; the page holds
# its pictures and needs no network, and headless Chromium (where it is) shows it.
bin=$(readlink -f "${BIN:-bin}") tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export BIN="$bin" OMP_NUM_THREADS=1 LC_ALL=C.UTF-8
fail() { echo "FAIL: $*"; exit 1; }
command -v gnuplot >/dev/null || { echo "SKIP test_paper: no gnuplot"; exit 77; }

# A model of 2 layers with the default model's tokenizer, the first documents of the tasks, three pages of text.
mkdir -p "$tmp/model" "$tmp/text" "$tmp/data"
cp model/default/vocab.json model/default/merges.txt "$tmp/model"
cut -c 1-400 data/world/wikitext/held-out.raw | awk '/^ = [^=].* = $/ && n++ == 3 {exit} 1' >"$tmp/pages.raw"
sed 's/^ *$//' "$tmp/pages.raw" >"$tmp/text/text.txt"  # pretrain parts documents by empty lines
"$bin/pretrain" --text "$tmp/text" --out "$tmp/model" --layers 3 --heads 4 --hidden 16 --ffn 32 --batch 512 --tokens 5120 \
    >"$tmp/log" 2>&1 || fail "pretrain: $(tail -n 1 "$tmp/log")"
for file in $(cd data/world && find copa piqa winogrande -type f); do
    mkdir -p "$tmp/data/$(dirname "$file")"
    head -n 40 "data/world/$file" >"$tmp/data/$file"
done

export EXAMPLES=12 LIMIT=3 EPOCHS=1 SPARSITIES=30,50 TEXT_SPARSITIES=40 CRITERIA=plainact,l2_norm,grad_norm,flap,random TOKENS=2
export ROUNDS=1 SHAPES="3x2x16x32x61x512 opt-175b"
paper() {
    experiments/paper.sh --model "$tmp/model" --data "$tmp/data" --wikitext "$tmp/pages.raw" --out "$tmp/out" \
        --calibrate "$tmp/text/text.txt" "$@" 2>"$tmp/e"
}
paper --estimate && grep -q '^estimate: about [1-9]' "$tmp/e" && [ ! -e "$tmp/out/sweep.csv" ] || fail "--estimate: $(cat "$tmp/e")"
paper || fail "the run: $(cat "$tmp/e")"
grep -q '^opt-175b: not timed: .* bytes of memory' "$tmp/e" || fail "a shape that is too large: $(cat "$tmp/e")"
grep -q '^rte: no folder in ' "$tmp/e" || fail "a task that is missing: $(cat "$tmp/e")"
grep -v '^#' "$tmp/out/sweep.csv" | wc -l >"$tmp/rows"
cp "$tmp/out/report.html" "$tmp/once.html"
touch "$tmp/began"
FIGURES= paper || fail "the rerun: $(cat "$tmp/e")"
grep -q "^estimate" "$tmp/e" && fail "a finished run estimates again"
again=$(find "$tmp/out" -newer "$tmp/began" -name '*.h5' ! -name aggregates.h5 ! -name 'shots_*.h5')
[ -z "$again" ] || fail "a second run computes again: $again"
grep -v '^#' "$tmp/out/sweep.csv" | wc -l | cmp -s - "$tmp/rows" || fail "a second run adds rows"
cmp -s "$tmp/once.html" "$tmp/out/report.html" || fail "a second run writes another report"
# What is there is drawn, and nothing computed: the same page; without the contextual sweep, a page that says so.
FIGURES= paper --draw || fail "--draw: $(cat "$tmp/e")"
cmp -s "$tmp/once.html" "$tmp/out/report.html" || fail "--draw of a whole run writes another report"
mkdir -p "$tmp/part/work"
cp "$tmp/out"/*.csv "$tmp/part"
cp "$tmp/out/work/sweep.csv" "$tmp/out/work/sweep.jsonl" "$tmp/part/work"
rm "$tmp/part/contextual.csv" "$tmp/part/shots_0.csv"
FIGURES="plots/paper_local_global.gp plots/paper_criteria_perplexity.gp" paper --draw --out "$tmp/part"
[ -e "$tmp/part/report.html" ] && [ ! -e "$tmp/part/work/scores.h5" ] || fail "--draw of a part: $(cat "$tmp/e")"
cmp -s "$tmp/out/tables/criteria_perplexity.csv" "$tmp/part/tables/criteria_perplexity.csv" || fail "--draw left out what was there"
[ ! -e "$tmp/part/tables/local_global.csv" ] && grep -q "not run" "$tmp/part/report.html" || fail "--draw of a part does not say what was not run"

/usr/bin/python3 - "$tmp/out" <<'PY' || exit 1
import csv, html.parser, math, os, re, statistics, subprocess, sys
out = sys.argv[1]

def read(path):
    return list(csv.DictReader(line for line in open(path) if not line.startswith("#")))

def rows(name, **where):
    return [r for r in read(f"{out}/{name}.csv") if all(r[k] in (v if isinstance(v, tuple) else (v,)) for k, v in where.items())]

def table(name):
    return list(csv.reader(open(f"{out}/tables/{name}.csv")))

def value(found, column="value"):
    row, = found
    return float(row[column])

def same(name, wanted, digits):
    """Each cell of a table, by its labels, is the number that wanted(row label, head) computes; None: it is blank."""
    head, *body = table(name)
    assert body, name
    for label, *cells in body:
        for column, cell in zip(head[1:], cells, strict=True):
            want = wanted(label, column)
            if want is None:
                assert cell == "", (name, label, column, cell)
            else:
                assert abs(float(cell) - want) <= 0.51 * 10 ** -digits, (name, label, column, cell, want)

text = dict(task="wikitext", metric="word_perplexity")
mean = dict(task="mean", metric="acc")
early, same_layer, ahead = dict(design="shadow"), dict(design="dejavu", lag="0"), dict(design="dejavu", lag="1")
designs = {"early plainact": dict(early, criterion="plainact"), "per layer l2_norm": dict(same_layer, criterion="l2_norm"),
           "per layer plainact": dict(same_layer, criterion="plainact"), "early l2_norm": dict(early, criterion="l2_norm"),
           "reference plainact": dict(mask="reference", criterion="plainact"),
           "reference l2_norm": dict(mask="reference", criterion="l2_norm")}
for scope in "local", "global":
    same(f"pair_{scope}", lambda p, c: value(rows("contextual", **text, **designs[c], scope=scope, sparsity=p)), 3)
assert [r[0] for r in table("pair_local")[1:]] == ["30", "40", "50"]
same("local_global", lambda p, c: value(rows("contextual", **text, **designs["early plainact"], scope=c, sparsity=p)), 3)

def criteria(metric, aggregate, factor):
    def cell(p, c):
        of = dict(mask="none", sparsity="0") if c == "dense" else dict(scope="global", sparsity=p)
        if c not in ("dense", "random"):
            of.update(mask="static", criterion=c, aggregate=aggregate)
        if c == "random":
            of.update(mask="random")
        return factor * value(rows("sweep", **metric, **of))
    return cell
same("criteria_perplexity", criteria(text, "all", 1), 3)
same("criteria_accuracy", criteria(mean, "task", 100), 2)
same("criteria_accuracy_all", criteria(mean, "all", 100), 2)
assert sorted(table("criteria_perplexity")[0]) == ["dense", "flap", "grad_norm", "l2_norm", "plainact", "random", "sparsity %"]

def neurons(metric, factor):
    def cell(p, c):
        of = dict(mask="none", sparsity="0") if c == "dense" else dict(scope="local", sparsity=p)
        if "really" in c:
            return 100 * value(rows("neurons", **metric, mask="random" if c[0] == "s" else "threshold:product", **of), "effective_neurons")
        if c == "random" or c.startswith("threshold"):
            of.update(mask=c)
        elif c != "dense":
            of.update(mask="static", criterion=c, aggregate="all")
        return factor * value(rows("neurons", **metric, **of))
    return cell
same("neurons_perplexity", neurons(text, 1), 2)
same("neurons_accuracy", neurons(mean, 100), 2)

# Units that put out their mean: the masks of criteria_perplexity, other values.
same("means_perplexity", lambda p, c: value(rows("means", **text, criterion=c, scope="global", sparsity=p)), 3)
assert sorted(table("means_perplexity")[0]) == ["flap", "grad_norm", "l2_norm", "plainact", "sparsity %"]
for r in rows("means", **text):
    zero, = rows("sweep", **text, mask="static", aggregate="all", criterion=r["criterion"], sparsity=r["sparsity"])
    assert r["ablate"][:5] == "mean:" and r["pruned_neurons"] == zero["pruned_neurons"] and r["value"] != zero["value"], (r, zero)

def few_shot(p, c):
    of = {"0-shot": "shots_0", "3-shot": "shots_3", "5-shot": "sweep"}[c]
    found = rows(of, **text, mask="static", aggregate="all", scope="global", sparsity=p)
    assert len(found) == 4
    return math.exp(statistics.mean(math.log(float(r["value"])) for r in found))
same("few_shot", few_shot, 3)
for p in "30", "50":
    for a, b in ("5", "none"), ("3", "none"), ("5", "3"):
        claim = rows("shots_claims", claim=f"scores of {a} shots over those of {b}", level="sparsity", sparsity=p)
        means = [few_shot(p, "0-shot" if k == "none" else f"{k}-shot") for k in (a, b)]
        assert abs(value(claim, "effect") - means[0] / means[1]) < 1e-9 and value(claim, "pairs") == 4, (p, a, b, claim)

def downstream(p, task):
    a, b = (value(rows("contextual", metric="acc", task=task, scope="global", sparsity=p, **designs[d]))
            for d in ("early plainact", "per layer l2_norm"))
    return 100 * (a - b)
same("downstream", downstream, 2)

def token(which, p, refresh):
    return value(rows("bench", metric="token_ms", model="model", scope="local", sparsity=p, refresh=refresh, **which), "amortised")
methods = {"early plainact": designs["early plainact"], "per layer l2_norm": dict(ahead, criterion="l2_norm")}
def teaser(p, c):
    both = list(methods.values())
    if "(" in c:
        refresh = "0" if "once" in c else "1"
        if c.startswith("difference"):
            return 100 * (token(both[0], p, refresh) / token(both[1], p, refresh) - 1)
        return token(methods[c.split(" ms ")[0]], p, refresh)
    acc = [100 * value(rows("contextual", **mean, scope="local", sparsity=p, **m)) for m in both]
    return acc[0] - acc[1] if c == "difference points" else acc[list(methods).index(c.replace(" accuracy %", ""))]
same("teaser", teaser, 2)

def times(which):
    def cell(p, c):
        def ms(**of):
            x = dict(tokens=p, sparsity="50") if which == "length" else dict(tokens="2", sparsity=p)
            x.update(of)
            return value(rows("work/latency/bench", metric="token_ms", model="3x2x16x32x61x512", **x), "amortised")
        per_layer, first = ms(design="dejavu"), ms(design="shadow")
        return {"dense": ms(mask="none", sparsity="0"), "static": ms(mask="static"), "per layer": per_layer, "early": first,
                "per layer over early %": 100 * (per_layer / first - 1)}[c]
    return cell
same("time_sparsity", times("sparsity"), 2)
same("time_length", times("length"), 2)
size = {r[0]: r[1:] for r in table("time_size")[1:]}
assert size["opt-66b"] == [""] * 5 and size["3x2x16x32x61x512"][1:4] == table("time_sparsity")[2][2:5]

def spearman(unit, column, of):
    return [float(r[column]) for r in rows("metrics", units=unit, by="predictor", criterion=("plainact", "l2_norm", "grad_norm"), **of) if r[column]]
def design(label, column):
    unit, kind = column.split()[:2]
    of = {"early": early, "full sequence": dict(design="sequence"), "per layer": same_layer}[label]
    x = spearman(unit, "joint_rho" if kind == "joint" else "within_rho", of)
    end = {"low": -1, "high": 1}.get(column.split()[-1], 0)
    return statistics.mean(x) + end * 4.302653 * statistics.stdev(x) / math.sqrt(3)  # Student's t, 2 degrees, 97.5 %
same("predictor_design", design, 3)

# The published formula, and nets as train built them.
L, H, E, F = 3, 4, 16, 32
costs = {(r["counted"], r["design"]): float(r["multiply_adds"]) for r in rows("costs", shape="model")}
assert costs["published", "dejavu"] == L * (E * 1024 + 1024 * (H + F)) and costs["published", "shadow"] == E * 1024 + 1024 * L * (H + F)
for name in "dejavu", "shadow":
    built = {u: value(rows("metrics", design=name, units=u, by="predictor", criterion="grad_norm"), "multiply_adds") for u in ("heads", "neurons")}
    assert costs["built", name] == sum(built.values()), (name, costs, built)
saved = {r[0]: (float(r[3]), float(r[6])) for r in table("costs")[1:]}
assert saved["opt-1.3b"][0] == 19.11 and saved["opt-175b"][0] == 19.76  # as the paper's table

# Spread of the scores, against the scores themselves.
scores = {}
for r in rows("head_scores", criterion="plainact", task="all"):
    scores[int(r["layer"]), int(r["head"])] = float(r["score"])
x = sorted(scores.values())
s = rows("score_stats", criterion="plainact", task="all", units="heads", layer="all")[0]
def quantile(q):
    at = q * (len(x) - 1)
    return x[int(at)] + (at - int(at)) * (x[min(int(at) + 1, len(x) - 1)] - x[int(at)])
assert int(s["count"]) == L * H and abs(float(s["mean"]) / statistics.mean(x) - 1) < 1e-6
assert abs(float(s["sd"]) / statistics.stdev(x) - 1) < 1e-6
for q in 0, 5, 25, 50, 90, 100:
    assert abs(float(s[f"q{q}"]) - quantile(q / 100)) <= 1e-6 * x[-1], (q, s, x)
assert abs(float(s["n25"]) - (quantile(.25) - x[0]) / (x[-1] - x[0])) < 1e-5
low, high = quantile(.25), quantile(.75)
assert int(s["outliers"]) == sum(v < low - 1.5 * (high - low) or v > high + 1.5 * (high - low) for v in x)
assert int(s["tied"]) == sum(x.count(v) > 1 for v in x)
variance = rows("head_scores", criterion="plainact", task="all", layer="1")
layer = value(rows("rank_variance", criterion="plainact", task="all", units="heads", layer="1"), "rank_variance")
assert abs(statistics.mean(float(r["rank_variance"]) for r in variance) / layer - 1) < 1e-6

# Claims on the published data, recomputed here.
ms = {(r["study"], r["model"], r["sparsity_percent"], r["generated_tokens"], r["mode"]): float(r["total_ms"]) for r in read("results/published/latency_a100.csv")}
ratio = lambda *k: 100 * (ms[k + ("dejavu",)] / ms[k + ("shadowllm",)] - 1)
claims = {r[0]: r[1:] for r in table("claims")[1:]}
def numbers(claim, column):
    return [float(v) for v in re.findall(r"[-+]?\d+\.\d+", claims[claim][column])]
assert numbers("16.07 % faster", 1) == [round(ratio("length", "opt-30b", "50", "128"), 2)] == [16.07]
assert numbers("13.95 % faster", 1) == [round(ratio("size", "opt-13b", "50", "128"), 2)] == [13.95]
sizes, sparsities, lengths = ([ratio(*k[:4]) for k in ms if k[0] == s and k[4] == "dejavu"] for s in ("size", "sparsity", "length"))
assert numbers("up to 20.6 % faster than per-layer predictors", 1) == [round(max(sparsities), 2), round(max(sizes), 2)]
assert numbers("21.25 % faster", 1)[:3] == [round(statistics.mean(v), 2) for v in (sizes, sparsities, lengths)]
assert claims["21.25 % faster"][2] == "no mean and no row gives it" and claims["13.95 % faster"][2].startswith("follows")
assert numbers("over 15 % better accuracy than earlier methods", 1) == [1.10, 1.48, 2.87, 5.19, 10.25]
assert claims["over 15 % better accuracy than earlier methods"][2] == "no difference of 15 points"
got = sorted(teaser(p, "difference points") for p in ("30", "50"))
assert all(abs(a - b) < 0.006 for a, b in zip(numbers("over 15 % better accuracy than earlier methods", 3), got, strict=True))
# Speeds of this run: those of the tables of times.
def speeds(name):
    head, *body = table(name)
    return [float(r[head.index("per layer over early %")]) for r in body if r[1]]
sparse, long, large = (speeds(f"time_{n}") for n in ("sparsity", "length", "size"))
assert [len(sparse), len(long), len(large)] == [2, 3, 1]
for claim, wanted in {"up to 20.6 % faster than per-layer predictors": [max(sparse), max(large)],
                      "16.07 % faster": [statistics.mean(long)], "13.95 % faster": [min(large)],
                      "21.25 % faster": [statistics.mean(v) for v in (large, sparse, long)]}.items():
    got = numbers(claim, 3)[:len(wanted)]
    assert all(abs(a - b) < 0.011 for a, b in zip(got, wanted, strict=True)), (claim, got, wanted)
# What bin/compare found, of a committed run with documents enough.
committed = [r for r in read("results/contextual/claims.csv") if r["level"] == "claim" and r["outcome"] == "word_perplexity"]
subprocess.run([os.environ["BIN"] + "/tables", "--spec", "experiments/paper/claims.json", "--in", "results/contextual",
                "--all", f"{out}/committed"], check=True)
claims = {r[0]: r[1:] for r in csv.reader(open(f"{out}/committed/claims.csv"))}
for claim, name in {"global masks beat local ones": "global over local, contextual",
                    "contextual masks beat static ones": "contextual (early predictor) over static (aggregate of all)"}.items():
    r, = (r for r in committed if r["claim"] == name)
    where = f" ({r['reason']})" if r["reason"] else ""
    assert claims[claim][4] == r["verdict"] + where, (claims[claim], r)
    effects = [float(e["effect"]) for e in read("results/contextual/claims.csv")
               if (e["claim"], e["level"], e["outcome"]) == (name, "sparsity", "word_perplexity") and e["effect"]]
    assert numbers(claim, 3) == [round(min(effects), 3), round(max(effects), 3)], (claims[claim], effects)

# The page: its tables are those of the CSV files, pictures are in it, and nothing is fetched.
class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tables, self.cell, self.ids, self.outside, self.links, self.pictures = {}, None, [], [], [], 0
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.outside += [v for k, v in attrs.items() if k in ("src", "href", "xlink:href") and not v.startswith(("#", "data:"))]
        self.links += [attrs["href"][1:]] if tag == "a" and "href" in attrs else []
        self.pictures += tag == "svg"
        if tag == "table":
            self.rows = self.tables[attrs["id"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = ""
    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data
    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
            self.cell = None
page = Page()
page.feed(open(f"{out}/report.html").read())
assert page.outside == [], page.outside
assert sorted(page.links) == sorted(i for i in page.ids if i.startswith("item-")) and len(page.links) >= 18, page.links
assert '<p id="run">This run: model ' in open(f"{out}/report.html").read(), "the page does not say which model"
assert len(page.ids) == len(set(page.ids)), "an id twice"
assert page.pictures >= 23, page.pictures
there = {f[:-4] for f in os.listdir(f"{out}/tables")}
assert there - set(page.tables) == set(), there - set(page.tables)
for name in there:
    wide = len(table(name)[0])
    shown = [r[:-1] + [""] * (wide - len(r) + 1) if r[-1] == "not run" and len(r) < wide else r for r in page.tables[name]]
    assert shown == table(name), name
print("tables follow")
PY

# The page is the one that the files give; a number that is changed is found.
"$bin/report" --in "$tmp/out" --out "$tmp/out/report.html" --check || fail "report --check"
sed -i '0,/61\.51/s//61.52/' "$tmp/out/report.html"
"$bin/report" --in "$tmp/out" --out "$tmp/out/report.html" --check 2>"$tmp/e" && fail "a changed number passes"
grep -q "report.html:[0-9]*: does not follow" "$tmp/e" || fail "report --check: $(cat "$tmp/e")"

# So are the committed pages and tables, where there are any.
for of in results/paper results/smollm2; do
    [ -e $of/report.html ] || continue
    "$bin/report" --in $of --out $of/report.html --check || fail "$of/report.html"
    mkdir "$tmp/committed"
    for tables in published claims here; do
        "$bin/tables" --spec "experiments/paper/$tables.json" --in $of --all "$tmp/committed" 2>"$tmp/e" || fail "$(cat "$tmp/e")"
    done
    diff -r "$tmp/committed" $of/tables >"$tmp/log" || fail "$of/tables: $(head -n 5 "$tmp/log")"
    rm -r "$tmp/committed"
done

# An empty folder: the published numbers, and "not run" for the rest, in words and in the pictures.
mkdir -p "$tmp/empty/tables"
"$bin/tables" --spec experiments/paper/published.json --all "$tmp/empty/tables" || fail "published tables"
"$bin/tables" --spec experiments/paper/here.json --in "$tmp/empty" --all "$tmp/empty/tables" 2>"$tmp/e" || fail "no runs: $(cat "$tmp/e")"
grep -q '^few_shot: not run: .*sweep.csv: cannot open' "$tmp/e" || fail "no runs: $(cat "$tmp/e")"
gnuplot -e "src='$tmp/empty'; dst='$tmp/empty/plots'" plots/paper_few_shot.gp >"$tmp/log" 2>&1 && [ ! -s "$tmp/log" ] &&
    [ "$(grep -c 'not run' "$tmp/empty/plots/paper_few_shot.svg")" = 1 ] || fail "figure without runs: $(cat "$tmp/log")"
"$bin/report" --in "$tmp/empty" --out "$tmp/empty/report.html" && grep -q 'not run: .*contextual.csv' "$tmp/empty/report.html" ||
    fail "report without runs"

# Contextual masks of more examples and documents than the rest: their rows and claims are of those, and the static
# sweep stays as it is.
rows_of() { grep -v '^#' "$1" | wc -l; }
CONTEXTUAL_EXAMPLES=14 CONTEXTUAL_LIMIT=4 FIGURES= paper || fail "contextual masks of their own: $(cat "$tmp/e")"
rows_of "$tmp/out/sweep.csv" | cmp -s - "$tmp/rows" || fail "contextual masks of their own: the static sweep has other rows"
/usr/bin/python3 - "$tmp/out" <<'PY' || exit 1
import csv, sys
out = sys.argv[1]
read = lambda path: [r for r in csv.DictReader(line for line in open(path) if not line.startswith("#"))]
drawn = read(f"{out}/contextual.csv")
assert {r["n"] for r in drawn if r["task"] in ("copa", "piqa", "winogrande")} == {"4"}, "documents of contextual.csv"
keys = ("mask", "criterion", "scope", "sparsity", "task", "design", "target", "features", "aggregate", "seed", "metric")
key = lambda r: tuple(r[k] for k in keys)
source = {key(r): r["value"] for r in read(f"{out}/work/contextual/contextual.csv")}
assert all(source[key(r)] == r["value"] for r in drawn), "contextual.csv is of another run"
before = {key(r): r["value"] for r in read(f"{out}/work/contextual.csv")}
assert any(before[key(r)] != r["value"] for r in drawn), "more documents change nothing"
nets = {(r["design"], r["lag"]) for r in read(f"{out}/metrics.csv")}
assert len(nets) == 4, nets
PY

# A model that does not fit the scores: one line, and what is there stays.
cp -r "$tmp/model" "$tmp/other"
printf '\001' | dd of="$tmp/other/model.safetensors" bs=1 seek=$(($(wc -c <"$tmp/other/model.safetensors") - 2)) conv=notrunc 2>/dev/null
FIGURES= experiments/paper.sh --model "$tmp/other" --data "$tmp/data" --wikitext "$tmp/pages.raw" --out "$tmp/out" 2>"$tmp/e" && fail "another model passes"
[ "$(grep -c '^score: failed: .*model_hash' "$tmp/e")" = 1 ] && [ -e "$tmp/out/sweep.csv" ] || fail "another model: $(cat "$tmp/e")"
experiments/paper.sh --model "$tmp/model" 2>/dev/null
[ $? = 2 ] || fail "usage"

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    { echo "SKIP: no Chromium; the page was not opened"; exit 0; }
"$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$tmp/chromium" --window-size=1250,2000 --dump-dom \
    "file://$tmp/empty/report.html" >"$tmp/dom" 2>/dev/null || { echo "SKIP: Chromium does not start here"; exit 0; }
[ "$(grep -c '<table' "$tmp/dom")" -ge 10 ] && grep -q '<svg' "$tmp/dom" || fail "Chromium shows no tables or pictures"
echo ok
