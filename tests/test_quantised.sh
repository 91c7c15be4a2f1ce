#!/bin/sh
# test_quantised - programs with weights in blocks: --weights q8_0 and q4_0 of every program that loads a model for
# masks, bytes of a token against a closed form, what verify and info say, stores and rows that name the weights, a GGUF
# file in blocks: its memory, prune, the same text at any thread count; refusals.
. tests/expect.sh
. tests/needs.sh
needs_h5py
model=model/default data=data/world text=data/world/wikitext/held-out.raw shape=2x4x64x160x61x50 mixed=tests/golden/gguf/mixed.gguf
export OMP_WAIT_POLICY=passive

run() { name=$1; shift; "$bin/$name" "$@" >"$tmp/o" 2>"$tmp/e" || fail "$name $*: $(tail -n 3 "$tmp/e")"; }

# ---- bytes of a token
run bench --shape $shape --weights fp32,q8_0,q4_0 --mask none,random --dense-layers 0 --prompt 4 --tokens 3 --rounds 1 --out "$tmp/bench.csv"
/usr/bin/python3 - "$tmp/bench.csv" <<'PY' || bad=1
import csv, sys
rows = [r for r in csv.DictReader(l for l in open(sys.argv[1]) if not l.startswith("#")) if r["metric"] == "token_ms"]
L, H, E, F, V = 2, 4, 64, 160, 61
for name, b in (("fp32", 4), ("q8_0", 34 / 32), ("q4_0", 18 / 32)):
    # matrices, and vectors in fp32: biases and norms; embedding: the head, and a row, beside a row of positions
    layer = lambda heads, neurons: b * (4 * E * E * heads + 2 * E * F * neurons) + 4 * (3 * E * heads + E + F * neurons + E + 4 * E)
    outer = b * (V * E + E) + 4 * (E + 2 * E)
    dense, half = [next(r for r in rows if r["weights"] == name and r["mask"] == m) for m in ("none", "random")]
    want = L * layer(1, 1) + outer
    assert float(dense["weight_bytes"]) == want, (name, dense["weight_bytes"], want)
    want = L * layer(0.5, 0.5) + outer
    assert abs(float(half["weight_bytes"]) / want - 1) < 1e-6, (name, half["weight_bytes"], want)
PY

# ---- the memory that a model is refused for: fp16 has transposed copies under masks, blocks are turned already
huge=12800x72x9216x36864x50272x2048
for kind in fp16 q8_0 q4_0; do
    expect 1 "needs" bench --shape $huge --weights $kind --mask none,random --prompt 4 --tokens 3
    /usr/bin/python3 - "$tmp/e" $huge $kind <<'PY' || bad=1
import re, sys
text, shape, kind = open(sys.argv[1]).read(), sys.argv[2], sys.argv[3]
L, H, E, F, V, P = map(int, shape.split("x"))
b, vector = {"fp16": (2, 2), "q8_0": (34 / 32, 4), "q4_0": (18 / 32, 4)}[kind]  # bytes of a matrix's number; of a vector's or a position's
weights = b * (V * E + L * (4 * E * E + 2 * E * F)) + vector * ((P + 2) * E + L * (9 * E + F) + 2 * E)
copies = L * (E * E + E * F) * 2 if kind == "fp16" else 0
m = re.search(r"weights needs (\d+) bytes of memory \(\S+ GB: weights (\S+), copies for masks (\S+),", text)
assert m and weights + copies < int(m[1]) < 1.02 * (weights + copies), (kind, weights + copies, text)
assert m[2] == f"{weights / 1e9:.1f}" and m[3] == f"{copies / 1e9:.1f}", (kind, weights, copies, text)
PY
done

# ---- a checkpoint that is quantised on loading
for kind in q8_0 q4_0; do
    expect 0 "weights $kind, against the checkpoint's numbers: logits off by" verify --model $model --weights $kind --inputs 2 --context 16 --steps 4 --mask random --text $text
    grep -q "perplexity of the inputs' tokens" "$tmp/o" && grep -q "everything holds" "$tmp/o" || fail "verify --weights $kind: $(cat "$tmp/o")"
    sed -n 's/.*logits off by \([^ ]*\) of.*/\1/p' "$tmp/o" >>"$tmp/off"
done
awk 'NR == 1 {a = $1} NR == 2 {b = $1} END {exit !(a > 0 && a < 0.05 && b > 2 * a && b < 1)}' "$tmp/off" || fail "q8_0 and q4_0 change logits by $(cat "$tmp/off")"
expect 0 "everything holds" verify --model $model --weights fp32 --inputs 1 --context 4 --steps 2 --mask none
grep -q "against the checkpoint" "$tmp/o" && fail "fp32 is said to change the numbers"
run sweep --model $model --weights q4_0 --data $data --tasks copa --limit 3 --mask none,random --sparsity 50 --out "$tmp/sweep.csv"
run sweep --model $model --data $data --tasks copa --limit 3 --mask none,random --sparsity 50 --out "$tmp/sweep.csv"
[ "$(grep -c '"default, weights q4_0"' "$tmp/sweep.csv")" -eq "$(grep -c ',default,' "$tmp/sweep.csv")" ] || fail "rows of a sweep: $(cat "$tmp/sweep.csv")"
run generate --model $model --weights q8_0 --prompt "Anna watered" --tokens 6 --mask random
score="--model $model --data $data --tasks copa --shots 0 --criteria snip,fisher,plainact,wanda,nwot,grasp --out $tmp/s.h5"
run score $score --weights q8_0 --examples 3
expect 1 "weights is q8_0 there, as stored here" score $score --examples 4
run score $score --examples 3 --out "$tmp/fp32.h5"
/usr/bin/python3 - "$tmp" <<'PY' || bad=1
import h5py, numpy as np, sys
a, b = (h5py.File(f"{sys.argv[1]}/{f}.h5")["scores"] for f in ("s", "fp32"))
for c in b:
    for kind in b[c]:
        x, y = a[c][kind][:].ravel(), b[c][kind][:].ravel()
        r = np.corrcoef(x, y)[0, 1]
        assert 0.98 < r <= 1 and (c == "nwot" or not np.array_equal(x, y)), (c, kind, r)
PY

# ---- a GGUF file in blocks
expect 0 "4 of them, whose columns units read, run turned in Q8_0: 6,528 bytes" info --model $mixed
expect 0 "weights in blocks, against the checkpoint's numbers" verify --model $mixed --inputs 2 --context 8 --steps 4 --mask random
for threads in 1 2; do
    OMP_NUM_THREADS=$threads run generate --model $mixed --prompt "The old man" --tokens 12
    mv "$tmp/o" "$tmp/text.$threads"
done
cmp -s "$tmp/text.1" "$tmp/text.2" || fail "another text with another number of threads"
run prune --model $mixed --mask random --sparsity 50 --out "$tmp/pruned"
expect 0 "float32" info --model "$tmp/pruned"
ldd "$bin/bench" | grep -q libasan && sanitized=1 || sanitized=
OMP_NUM_THREADS=1 /usr/bin/python3 - "$bin" "$tmp" $sanitized <<'PY' || bad=1
# Peak memory of a model in Q4_0: four more layers take their bytes of the file, their turned matrices and their K and V,
# and nothing else. What info says is turned is what that formula has.
import numpy as np, os, struct, subprocess, sys
bin, tmp, *sanitized = sys.argv[1:]
def write(path, L, E, F, V, H=4, K=2):
    text = lambda s: struct.pack("<Q", len(s)) + s.encode()
    keys = {"block_count": L, "embedding_length": E, "feed_forward_length": F, "attention.head_count": H, "attention.head_count_kv": K, "context_length": 64}
    meta = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    meta += [text("llama." + k) + struct.pack("<II", 4, v) for k, v in keys.items()]
    meta += [text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)]
    W = E // H * K
    tensors = [("token_embd.weight", V, E), ("output_norm.weight", 1, E)]
    for l in range(L):
        tensors += [(f"blk.{l}.{n}.weight", r, c) for n, r, c in (("attn_norm", 1, E), ("ffn_norm", 1, E), ("attn_q", E, E), ("attn_k", W, E), ("attn_v", W, E),
                    ("attn_output", E, E), ("ffn_gate", F, E), ("ffn_up", F, E), ("ffn_down", E, F))]
    head, data, at, r = [], [], 0, np.random.default_rng(1)
    for name, rows, cols in tensors:
        if rows == 1:
            b, type, dims = np.ones(cols, "<f4").tobytes(), 0, [cols]
        else:
            block = r.integers(0, 256, (rows * cols // 32, 18), dtype=np.uint8)
            block[:, :2] = np.frombuffer(np.float16(0.02).tobytes(), np.uint8)
            b, type, dims = block.tobytes(), 2, [cols, rows]
        head.append(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type, at))
        data.append(b + bytes(-len(b) % 32))
        at += len(data[-1])
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)) + b"".join(meta) + b"".join(head)
    with open(path, "wb") as f:
        f.write(start + bytes(-len(start) % 32) + b"".join(data))
def layer(E, F, tokens, H=4, K=2):
    W = E // H * K
    matrices = (2 * E * E + 2 * W * E + 3 * E * F) * 18 / 32
    moved = (E * E + W * E) * 18 / 32  # rows of q and k, in the order of the rotation here
    return matrices + moved + 2 * 4 * E + turned(E, F) + 2 * tokens * W * 4
turned = lambda E, F: (E * E + E * F) * 34 / 32
def peak(path, *more):
    p = subprocess.Popen([f"{bin}/bench", "--model", path, "--mask", "none,random", "--prompt", "24", "--tokens", "4", "--rounds", "1", *more], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(p.pid, 0)
    assert status == 0, path
    return used.ru_maxrss * 1024
E, F, V = 1024, 2816, 4096
used = []
for L in (2, 6):
    write(f"{tmp}/{L}.gguf", L, E, F, V)
    used.append(peak(f"{tmp}/{L}.gguf"))
got, want = used[1] - used[0], 4 * layer(E, F, 28)
print(f"four layers in blocks {got / 2**20:.2f} MiB, file, turned matrices, K and V {want / 2**20:.2f} MiB")
# pages that come and go are 2 % at most; a copy of the smallest matrix in 16 bits is 9 %. Sanitizers take memory of their own
assert sanitized or abs(got / want - 1) < 0.05, (got, want)
said = subprocess.run([f"{bin}/info", "--model", f"{tmp}/6.gguf"], capture_output=True, text=True).stdout
assert f"12 of them, whose columns units read, run turned in Q8_0: {6 * turned(E, F):,.0f} bytes" in said, said
PY

# ---- refusals
expect 2 "--weights int8: not one of fp32|fp16|bf16|q8_0|q4_0" verify --model $model --weights int8
expect 1 "--weights q8_0: with --activations bf16" generate --model $model --weights q8_0 --activations bf16 --prompt x
expect 1 "--weights q4_0: rows of 35 numbers are no whole blocks of 32" bench --shape 2x5x35x53x61x50 --weights q4_0 --prompt 4 --tokens 3
has_cuda "weights in blocks and a GPU" || exit $bad
expect 1 "--weights q4_0: not on cuda:0; weights in blocks are read by the CPU only" bench --shape $shape --weights q4_0 --prompt 4 --tokens 3 --device cuda
run bench --model $mixed --device cuda --mask none --prompt 2 --tokens 2 --rounds 1
exit $bad
