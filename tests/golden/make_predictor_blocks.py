# make_predictor_blocks - references for --predictor-weights q8_0 -> tests/golden/predictor_blocks.h5: two nets, and what
# they predict once the package gguf has put those of their matrices in Q8_0 whose rows are whole blocks of 32. numpy in
# float64. Usage: python3 tests/golden/make_predictor_blocks.py (gguf 0.19.0, numpy, h5py)
#
# /x [examples, E]; /KIND/{w1 [hidden, E], b1, w2 [L * U, hidden], b2} in float32, /KIND/scores [examples, L * U] of the
# nets in blocks, /KIND/wide of those in float32. Inputs are scaled to [0, 1], as predictors do.
import os
import h5py, numpy as np
from gguf import GGMLQuantizationType, quants

EXAMPLES, E, L, H, F = 5, 64, 3, 4, 96
Q8_0 = GGMLQuantizationType.Q8_0
r = np.random.default_rng(16)


def in_blocks(w):
    return quants.dequantize(quants.quantize(w, Q8_0), Q8_0).reshape(w.shape) if w.shape[1] % 32 == 0 else w


def scores(x, w1, b1, w2, b2):
    w1, b1, w2, b2 = (a.astype(np.float64) for a in (w1, b1, w2, b2))
    x = (x - x.min(1, keepdims=True)) / (x.max(1, keepdims=True) - x.min(1, keepdims=True))
    return np.maximum(x @ w1.T + b1, 0) @ w2.T + b2


x = r.standard_normal((EXAMPLES, E)).astype("<f4")
with h5py.File(os.path.join(os.path.dirname(__file__), "predictor_blocks.h5"), "w") as f:
    f["x"] = x
    for kind, hidden, units in (("heads", 40, H), ("neurons", 32, F)):  # rows of 40: w2 of heads stays float32
        draw = lambda *shape: (r.standard_normal(shape) * 0.3).astype("<f4")
        net = {"w1": draw(hidden, E), "b1": draw(hidden), "w2": draw(L * units, hidden), "b2": draw(L * units)}
        for name, w in net.items(): f[f"{kind}/{name}"] = w
        f[f"{kind}/wide"] = scores(x.astype(np.float64), **net)
        f[f"{kind}/scores"] = scores(x.astype(np.float64), in_blocks(net["w1"]), net["b1"], in_blocks(net["w2"]), net["b2"])
