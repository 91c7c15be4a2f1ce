#!/usr/bin/env python3
"""zeroed.py SOURCE MASK OUT: the checkpoint SOURCE with the output weights of the units that MASK drops set to 0, so that nothing depends on them.
zeroed.py --compare SMALL ZEROED MASK: scores of the model compacted by MASK (a store of one task) are those of the other's kept units, every criterion
that both stores have; exit 1 and a line where one differs by more than 1 % of the larger of itself and its layer's root mean square."""
import json
import os
import shutil
import struct
import sys
import h5py
import numpy as np


def make(source, mask, out):
    shutil.copytree(source, out)
    path = f"{out}/model.safetensors"
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header, data = json.loads(f.read(size)), bytearray(f.read())
    with h5py.File(mask) as m:
        keep = {"self_attn.out_proj": m["mask/heads"][:], "fc2": m["mask/neurons"][:]}
    for name, t in header.items():
        for part, k in keep.items():
            if not name.endswith(f"{part}.weight"): continue
            begin, end = t["data_offsets"]
            w = np.frombuffer(data, np.uint8)[begin:end].view("<u2" if t["dtype"] in ("F16", "BF16") else "<u4").reshape(t["shape"]).copy()
            layer = int(name.split("layers.")[1].split(".")[0])
            w[:, np.repeat(k[layer] == 0, w.shape[1] // k.shape[1])] = 0
            data[begin:end] = w.tobytes()
    with open(path, "r+b") as f:
        f.seek(8 + size)
        f.write(data)


def compare(small, zeroed, mask):
    worst = count = 0
    with h5py.File(small) as a, h5py.File(zeroed) as b, h5py.File(mask) as m:
        for suffix in ("", "_compat"):
            for c in a[f"scores{suffix}"]:
                for kind in a[f"scores{suffix}/{c}"]:
                    name = f"scores{suffix}/{c}/{kind}"
                    if kind not in ("heads", "neurons") or a[name].ndim != 3 or name not in b: continue
                    keep = m[f"mask/{kind}"][:] == 1
                    for l in range(len(keep)):
                        got, want = a[name][:, l, : keep[l].sum()], b[name][:, l, keep[l]]
                        if not want.size: continue
                        scale = np.maximum(np.abs(want), np.sqrt((want**2).mean(1, keepdims=True)))
                        off = np.abs(got - want) / np.maximum(scale, 1e-30)
                        worst, count = max(worst, off.max()), count + off.size
                        if not off.max() <= 0.01: sys.exit(f"FAIL: {name}, layer {l}: off by {off.max():.2g}")
    if not count: sys.exit("FAIL: nothing to compare")
    print(f"{count} scores of kept units as in the source with the others' outputs at 0, within {worst:.1e}")


compare(*sys.argv[2:]) if sys.argv[1] == "--compare" else make(*sys.argv[1:])
