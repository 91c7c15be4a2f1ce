#!/bin/sh
# test_memory - peak memory of score does not depend on the number of examples: within 10 %, since large pages come and
# go by 2 MiB, 2.5 %, while the store of the many examples alone is 20 % (epenas, which needs every gradient twice, is
# on); and what it estimates before the start, memory and size of the store, is right within a factor of 1.5.
bin=${BIN:-build/opt/bin} out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
ldd "$bin/score" | grep -q libasan && { echo "SKIP test_memory: sanitizers take memory of their own"; exit 77; }
OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive exec /usr/bin/python3 - "$bin/score" "$out" <<'PY'
import os, re, subprocess, sys
score, out = sys.argv[1:]
unit = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

def run(each):
    store = f"{out}/{each}.h5"
    # 256 tokens: ten examples fill a batch
    args = [score, "--model", "model/default", "--data", "data/world", "--tasks", "copa,piqa", "--shots", "0", "--examples", str(each),
            "--criteria", "epenas", "--batch-tokens", "256", "--out", store]
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    text = p.stdout.read()
    _, status, used = os.wait4(p.pid, 0)
    if status: sys.exit(f"FAIL: score: {text}")
    said = re.search(r"memory ([\d.]+) (.iB); store ([\d.]+) (.iB)", text)
    peak, size = used.ru_maxrss * 1024, os.path.getsize(store)
    for what, value, estimate in ("memory", peak, float(said[1]) * unit[said[2]]), ("store", size, float(said[3]) * unit[said[4]]):
        if not 1 / 1.5 <= value / estimate <= 1.5: sys.exit(f"FAIL: {2 * each} examples: {what}: {value} bytes, estimated {estimate:.0f}")
    return peak

few, many = run(5), run(500)
print(f"10 examples {few / 2**20:.1f} MiB, 1,000 examples {many / 2**20:.1f} MiB")
if abs(many / few - 1) > 0.1: sys.exit("FAIL: peak memory differs by more than 10 %")
PY
