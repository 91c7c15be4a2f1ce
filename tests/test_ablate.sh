#!/bin/sh
# test_ablate - units that put out their mean instead of 0: prune --bias against numpy (tests/ablated.py), a sweep under
# the same mask against the pruned model, with the mask everywhere and from the end of the context on, on CUDA run on
# the CPU too; passes over live units (verify); refusals.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=tests/golden/opt/pre data=data/world
score() { "$bin"/score --data $data --tasks copa,rte --shots 0 --examples 3 --seed 5 "$@" >"$tmp/e" 2>&1 || fail "score $*: $(tail -n 1 "$tmp/e")"; }
score --model $model --criteria flap,snip --out "$tmp/s.h5"
"$bin"/aggregate --store "$tmp/s.h5" --out "$tmp/a.h5" >"$tmp/e" 2>&1 || fail "aggregate: $(tail -n 1 "$tmp/e")"
rule="--mask static --scores $tmp/a.h5 --criterion snip --sparsity 50"
"$bin"/prune --model $model $rule --bias --out "$tmp/small" >"$tmp/e" 2>&1 || fail "prune: $(tail -n 1 "$tmp/e")"
score --model "$tmp/small" --criteria random --out "$tmp/small.h5"
/usr/bin/python3 tests/ablated.py $model "$tmp/small/mask.h5" "$tmp/a.h5" "$tmp/small.h5" || bad=1

sweep() { out=$1; shift; "$bin"/sweep --data $data --tasks copa --limit 6 --allow-overlap --out "$tmp/$out.csv" --details "$tmp/$out.jsonl" "$@" >"$tmp/e" 2>&1 || fail "sweep $*: $(tail -n 1 "$tmp/e")"; }
sweep small --model "$tmp/small" --mask none
sweep mean --model $model $rule --aggregate all --ablate mean
sweep zero --model $model $rule --aggregate all
# from the end of the context on, by zeroing; and everywhere but for the context's first tokens
sweep decode --model $model $rule --aggregate all --ablate mean --mask-span decode
sweep plain --model $model $rule --aggregate all --mask-span decode
same="small mean"
if has_cuda "ablation on CUDA"; then
    sweep cuda --model $model $rule --aggregate all --ablate mean --device cuda
    sweep cuda_decode --model $model $rule --aggregate all --ablate mean --mask-span decode --device cuda
    same="$same cuda"
fi
/usr/bin/python3 - "$tmp" $same <<'END' || bad=1
import csv, json, os, sys
tmp, *same = sys.argv[1:]
read = lambda name: [c["log_likelihood"] for l in open(f"{tmp}/{name}.jsonl") for c in json.loads(l)["candidates"]]
off = lambda a, b: max(abs(x - y) / abs(y) for x, y in zip(read(a), read(b)))
for name in same[1:]: assert off(name, "small") < 2e-5, (name, off(name, "small"))
if "cuda" in same: assert off("cuda_decode", "decode") < 2e-5, off("cuda_decode", "decode")
for a, b in (("mean", "zero"), ("decode", "plain"), ("decode", "mean")): assert off(a, b) > 1e-4, (a, b, off(a, b))
rows = lambda name: list(csv.DictReader(l for l in open(f"{tmp}/{name}.csv") if not l.startswith("#")))
assert {r["ablate"][:5] for r in rows("mean")} == {"mean:"} and {r["ablate"] for r in rows("zero")} == {""}
END

# gated neurons; the layers have no biases until means are written into them. A Mistral has none in transformers
mkdir "$tmp/mistral" && cp tests/golden/llama/llama/* "$tmp/mistral" && sed -i 's/"model_type": "llama"/"model_type": "mistral"/' "$tmp/mistral/config.json"
for model in tests/golden/llama/llama "$tmp/mistral"; do
    kind=$(basename "$model")
    score --model "$model" --criteria flap,snip --over-long cut --out "$tmp/$kind.h5"
    "$bin"/aggregate --store "$tmp/$kind.h5" --out "$tmp/$kind.h5" >"$tmp/e" 2>&1 || fail "aggregate: $(tail -n 1 "$tmp/e")"
    own="--mask static --scores $tmp/$kind.h5 --criterion snip --sparsity 50 --dense-layers 0"
    "$bin"/prune --model "$model" $own --bias --out "$tmp/gated" >"$tmp/o" 2>&1 || fail "prune $kind: $(tail -n 1 "$tmp/o")"
    said=$(grep -c "only programs of this project" "$tmp/o")
    [ "$kind $said" = "llama 0" ] || [ "$kind $said" = "mistral 1" ] || fail "who loads a $kind with means: $(cat "$tmp/o")"
    grep -q '"mlp_bias": true' "$tmp/gated/config.json" || fail "$kind: no biases for means"
    sweep "small_$kind" --model "$tmp/gated" --mask none
    sweep "zero_$kind" --model "$model" $own --aggregate all
    sweep "mean_$kind" --model "$model" $own --aggregate all --ablate mean
    same="small_$kind mean_$kind"
    if has_cuda "ablation on CUDA"; then  # by zeroing, not by a compacted model
        sweep "cuda_$kind" --model "$model" $own --aggregate all --ablate mean --device cuda
        same="$same cuda_$kind"
    fi
    /usr/bin/python3 - "$tmp" "zero_$kind" $same <<'END' || fail "means of a $kind"
import json, sys
tmp, zero, small, *same = sys.argv[1:]
read = lambda name: [c["log_likelihood"] for l in open(f"{tmp}/{name}.jsonl") for c in json.loads(l)["candidates"]]
off = lambda a, b: max(abs(x - y) / abs(y) for x, y in zip(read(a), read(b)))
for name in same: assert len(read(name)) == len(read(small)) == 12 and off(name, small) < 2e-5, (name, off(name, small))
assert off(small, zero) > 1e-4
END
    rm -r "$tmp/gated"
done
model=tests/golden/opt/pre

for kind in "random" "static --criterion snip"; do
    expect 0 "everything holds" verify --model $model --mask $kind --scores "$tmp/a.h5" --ablate mean --sparsity 40 --context 12 --steps 4 --inputs 2
done
"$bin"/bench --model $model --mask static --scores "$tmp/a.h5" --criterion snip --ablate mean --prompt 8 --tokens 2 --rounds 1 --out "$tmp/b.csv" >"$tmp/e" 2>&1 || fail "bench: $(tail -n 1 "$tmp/e")"
/usr/bin/python3 -c 'import csv, sys; assert {r["ablate"] for r in csv.DictReader(l for l in open(sys.argv[1]) if l[0] != "#")} == {"mean"}' "$tmp/b.csv" ||
    fail "bench does not say what units put out: $(tail -n 1 "$tmp/b.csv")"
"$bin"/aggregate --store "$tmp/small.h5" --out "$tmp/none.h5" >"$tmp/e" 2>&1
score --model $model --criteria snip --out "$tmp/old.h5"
"$bin"/aggregate --store "$tmp/old.h5" --out "$tmp/old.h5" >"$tmp/e" 2>&1
expect 1 "no means of units' values, which come with flap: bin/score --criteria flap" sweep --model $model --data $data --tasks copa --mask random --scores "$tmp/old.h5" --ablate mean
expect 2 "--ablate mean needs --scores" sweep --model $model --data $data --tasks copa --mask random --ablate mean
expect 2 "prune writes means into biases; use --bias" prune --model $model $rule --ablate mean --out "$tmp/x"
expect 2 "--bias needs --scores" prune --model $model --mask random --bias --out "$tmp/x"
expect 2 "--bias: published masks put out zero" prune --model $model $rule --mode compat --bias --out "$tmp/x"
[ -e "$tmp/x" ] && fail "a model where prune refuses"
expect 0 "are gone" prune --model $model --mask random --scores "$tmp/a.h5" --bias --out "$tmp/random"
/usr/bin/python3 - "$tmp" <<'END' || fail "compaction.json does not say which means"
import json, sys
made = [json.load(open(f"{sys.argv[1]}/{name}/compaction.json")) for name in ("random", "small")]
assert made[0]["scores"] == f"{sys.argv[1]}/a.h5" and made[0]["means_hash"] == made[1]["means_hash"] != "", made
mean = next(l for l in open(f"{sys.argv[1]}/mean.csv") if "mean:" in l).split("mean:")[1].split(",")[0]
assert made[0]["means_hash"].startswith(mean), (made[0]["means_hash"], mean)  # the means of the sweep
END
expect 1 "scores of another model" prune --model $model --mask random --scores "$tmp/none.h5" --bias --out "$tmp/x"
expect 2 "published masks put out zero" sweep --model $model --data $data --tasks copa --mask random --scores "$tmp/a.h5" --ablate mean --mode compat
exit $bad
