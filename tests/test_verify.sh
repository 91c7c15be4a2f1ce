#!/bin/sh
# test_verify - bin/verify from the outside: every kind of mask on the default model, mask files, 16-bit and other
# architectures, bad options.
program=verify
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=model/default
small="--inputs 2 --context 16 --steps 5"

expect 0 "everything holds" --model $model $small --mask none
expect 0 "everything holds" --model $model $small --mask random --scope local --sparsity 25
expect 0 "41.67 % of heads, 0.00 % of neurons" --model $model $small --mask random --units heads
expect 0 "everything holds" --model $model --inputs 1 --context 8 --steps 3 --mask oracle --text data/world/wikitext/held-out.raw
"$bin"/score --model $model --data data/world --tasks copa,rte --shots 0 --examples 6 --criteria plainact --out "$tmp/s.h5" >/dev/null 2>&1
"$bin"/aggregate --store "$tmp/s.h5" --out "$tmp/s.h5" >/dev/null 2>&1
"$bin"/train --store "$tmp/s.h5" --model $model --hidden 8 --epochs 2 --out "$tmp/p.h5" >/dev/null 2>&1
expect 0 "everything holds" --model $model $small --mask static --scores "$tmp/s.h5" --scope hybrid --sparsity 80
expect 0 "reads head outputs of layer 0; features: early" --model $model $small --mask contextual --predictor "$tmp/p.h5"
expect 0 "everything holds" --model $model $small --mask contextual --predictor "$tmp/p.h5" --predictor-weights fp16 --scope local --refresh 2 --text data/world/wikitext/held-out.raw
for name in pre post odd half bf16; do expect 0 "everything holds" --model tests/golden/opt/$name --inputs 2 --context 6 --steps 4 --mask random --dense-layers 0; done
/usr/bin/python3 - "$tmp/mask.h5" <<'PY'
import h5py, numpy as np, sys
with h5py.File(sys.argv[1], "w") as f:
    heads, neurons = np.ones((6, 8), np.uint8), np.ones((6, 1024), np.uint8)
    heads[0], neurons[5] = 0, 0
    f["mask/heads"], f["mask/neurons"] = heads, neurons
PY
expect 0 "16.67 % of heads, 16.67 % of neurons" --model $model $small --mask file:"$tmp/mask.h5"
expect 1 "FAIL" --model $model $small --mask random --tolerance 1e-12
expect 2 "--model is required" --mask random
expect 2 "not one of none, random" --model $model --mask foo
expect 2 "needs --predictor" --model $model --mask contextual
expect 2 "not one of fp32" --model $model --mask contextual --predictor "$tmp/p.h5" --predictor-weights int8
expect 2 "a percentage from 0 to 100" --model $model --sparsity 101
expect 2 "the model has 512 positions" --model $model --context 600
expect 1 "trained on sound scores" --model $model $small --mask contextual --predictor "$tmp/p.h5" --mode compat
exit $bad
