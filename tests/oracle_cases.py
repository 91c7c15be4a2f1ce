#!/usr/bin/env python3
"""oracle_cases.py SCORE ORACLE_DIR DATA KINDS SEEDS - the comparisons of test_oracle.sh, which calls it: for every seed, kind and
storage type a random checkpoint, scored by SCORE with 0 and 5 shots and compared by the oracle. KINDS and SEEDS are lists with commas;
KINDS "small": two cases. Prints a line per comparison, what is far, and the count; exit 1 if something is far.
JOBS (2): checkpoints at a time, each on one thread.

What makes it quick changes nothing that is compared: torch is imported once, and the oracle's loss, the mean log probability of the
continuation's tokens, multiplies the rows of these tokens by the head, not those of the whole prompt. Each checkpoint's shortest
example is computed by the oracle as it is, too, and everything must agree to 1e-9. Removal, some 700 forward passes, has a checkpoint
of its own with the first 2,000 merges of the vocabulary.

epenas is a mean of logarithms of correlations: where one of these is nearly zero, an error of single precision becomes a large one.
A unit beyond the oracle's tolerance is not far if float64 itself is as unsure of it: if it is off by at most EPENAS_MOVES times what
it moves when the weights change by at most half a unit of single precision (the largest of DRAWS draws). It is named all the same."""
import contextlib
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import traceback
import warnings

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
import torch

SCORE, ORACLE, DATA = sys.argv[1:4]
sys.path.insert(0, ORACLE)
import oracle

torch.set_num_threads(1)
warnings.filterwarnings("ignore", "Converting a tensor", UserWarning)
OPT = ("pre", "post", "odd")  # these have published formulas, too
MANY, ROWS, ONE = "piqa,copa,openbookqa,winogrande,arc_easy", "rte,winogrande", "copa,openbookqa"
EPENAS_TOLERANCE, EPENAS_MOVES, DRAWS = 2e-3, 8, 8  # the oracle's tolerance of epenas; a pass rounds some ten times as often as weights do
original = oracle.load


class Embedding:
    """The embedding of the oracle's models, read as ever; as a head it passes the hidden state through."""

    def __init__(self, table):
        self.table = table
        self.T = torch.eye(table.shape[1], dtype=table.dtype)

    def __getitem__(self, ids):
        return self.table[ids]


def few_rows(directory):
    """The oracle's model, whose loss computes the logits of the continuation alone."""
    model = original(directory)
    table = model.w["embed_tokens.weight"]
    own = None if model.c.get("tie_word_embeddings") else model.w.pop("lm_head.weight", None)
    head = table if own is None else own
    model.w["embed_tokens.weight"] = Embedding(table)

    def loss(ids, tctx, **kw):
        hidden, taps = model.forward(ids, **kw)
        T = len(ids)
        lp = torch.log_softmax(hidden[tctx - 1:T - 1] @ head.T, -1)
        return -lp[torch.arange(T - tctx), ids[tctx:]].mean(), taps

    model.loss = loss
    return model


def check_few_rows(directory, store):
    """On the store's shortest example few_rows gives what the oracle gives."""
    import h5py
    with h5py.File(store) as f:
        tokens, offset, context = (f["examples"][k][:] for k in ("tokens", "offset", "context_length"))
    i = int(np.argmin(offset[1:] - offset[:-1]))
    ids = torch.tensor(tokens[offset[i]:offset[i + 1]].astype(np.int64))
    parts = [oracle.scores(load(directory), ids, int(context[i])) for load in (original, few_rows)]
    want, got = ([p[0], *p[1].values(), *(x for D in p[2:4] for pair in D.values() for x in pair if x is not None)] for p in parts)
    for a, b in zip(want, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9 * np.abs(a).max())


def small_tokenizer(folder, merges=2000):
    """OPT's tokenizer cut to its first merges."""
    os.makedirs(folder)
    whole = os.path.join(ORACLE, "../data/opt_tokenizer")
    with open(os.path.join(whole, "merges.txt"), encoding="utf-8") as f:
        lines = f.read().split("\n")[:merges + 1]  # and the line of the version
    made = {line.replace(" ", "") for line in lines}
    with open(os.path.join(whole, "vocab.json"), encoding="utf-8") as f:
        vocab = json.load(f)
    kept = [k for k in sorted(vocab, key=vocab.get) if len(k) == 1 or k in made or (k[0] == "<" and k[-1] == ">")]
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({k: i for i, k in enumerate(kept)}, f)
    return folder


def nudged(directory, draw):
    """The oracle's model with every weight changed by at most half a unit of single precision."""
    g = torch.Generator().manual_seed(draw)
    model = few_rows(directory)
    noise = lambda w: w * (1 + 2.0 ** -24 * (2 * torch.rand(w.shape, generator=g, dtype=w.dtype) - 1))
    embedding = model.w.pop("embed_tokens.weight")
    model.w = {name: noise(w) for name, w in model.w.items()}
    model.w["embed_tokens.weight"] = Embedding(noise(embedding.table))
    return model


def unsure(got, want, moves):
    """How many units are beyond the tolerance, and whether each is as unsure in float64: moves [draws, L, n]."""
    size = np.maximum(np.abs(want), np.sqrt((want ** 2).mean(-1, keepdims=True)))
    off = np.abs(got - want)
    beyond = ~(off <= EPENAS_TOLERANCE * size)
    return beyond.sum(), bool((off[beyond] <= EPENAS_MOVES * np.abs(moves - want).max(0)[beyond]).all())


def second_look(store, directory, line):
    """Of a line "FAR  epenas TASK UNIT ...": what is printed instead, or None: it is far."""
    import h5py
    task, unit = line.split()[2:4]
    if unit not in ("heads", "neurons"):
        return None
    with h5py.File(store) as f:
        tokens, offset, context = (f["examples"][k][:] for k in ("tokens", "offset", "context_length"))
        names = [x.decode() for x in f["examples/task"][:]]
        got = f[f"task_scores/{task}/epenas/{unit}"][:].astype(np.float64)
    examples = [(torch.tensor(tokens[offset[i]:offset[i + 1]].astype(np.int64)), int(context[i])) for i, t in enumerate(names) if t == task]
    of = lambda model: oracle.epenas(model, examples)[unit == "neurons"]
    beyond, alike = unsure(got, of(few_rows(directory)), np.array([of(nudged(directory, d)) for d in range(DRAWS)]))
    return f"unsure epenas {task} {unit}: {beyond} of {got.size} units, {' '.join(line.split()[4:6])}, as unsure in float64" if alike else None


class Case:
    """One checkpoint: its comparisons append to `out` and count."""

    def __init__(self, kind, dtype, seed, folder):
        self.kind, self.dtype, self.seed = kind, dtype, seed
        self.out, self.count, self.bad = [], 0, False
        self.model, self.few_words = os.path.join(folder, "model"), os.path.join(folder, "few")
        oracle.make(self.model, kind, seed, os.path.join(ORACLE, "../data/opt_tokenizer"), dtype)
        oracle.make(self.few_words, kind, seed, small_tokenizer(os.path.join(folder, "tokenizer")), dtype)

    def scored(self, model, tasks, shots, examples, criteria, *more):
        store = model + ".h5"
        if os.path.exists(store):
            os.remove(store)
        ran = subprocess.run([SCORE, "--model", model, "--data", DATA, "--mode", "both" if self.kind in OPT else "sound", "--over-long", "cut",
                              "--tasks", tasks, "--shots", str(shots), "--examples", str(examples), "--criteria", criteria, "--seed", str(self.seed),
                              "--out", store, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ran.returncode:
            raise RuntimeError(f"{SCORE}: {ran.stdout}")
        return store

    def compared(self, label, store, examples, mode="sound", removal=False, tasks=False, require=""):
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            bad = oracle.compare(store, store[:-len(".h5")], examples, mode, removal, 2e-4, tasks, require)
        lines = text.getvalue().splitlines()
        self.count += 1
        self.out.append(f"{label}: {lines[-1]}")
        far = [x for x in lines if x.startswith("FAR")]
        looks = [second_look(store, store[:-len(".h5")], x) if x.startswith("FAR  epenas") else None for x in far]
        self.out += [look or line for line, look in zip(far, looks)]
        self.bad = self.bad or (bad and not far) or not all(looks)
        if bad and not far:
            self.out += lines

    def shots(self, shots):
        what = f"{self.kind} {self.dtype} {shots}-shot seed {self.seed}"
        store = self.scored(self.model, MANY, shots, 4, "all,wanda")
        if shots == 0:
            check_few_rows(self.model, store)
        self.compared(what + " sound", store, 20, require="wanda")
        if self.kind in OPT:
            self.compared(what + " compat", store, 20, mode="compat")
        store = self.scored(self.model, ROWS, shots, 16, "all")
        self.compared(what + " epenas", store, 1, tasks=True)
        store = self.scored(self.few_words, ONE, shots, 1, "all,removal", "--removal-neurons", "1")
        self.compared(what + " removal", store, 2, removal=True)

    def small(self):
        what = f"{self.kind} {self.dtype} 1-shot"
        store = self.scored(self.model, "copa,openbookqa", 1, 2, "all,wanda")
        check_few_rows(self.model, store)
        self.compared(what + " sound", store, 4, require="wanda")
        if self.kind in OPT:
            self.compared(what + " compat", store, 4, mode="compat")


def run(job):
    kind, dtype, seed, small = job
    try:
        with tempfile.TemporaryDirectory() as folder:
            case = Case(kind, dtype, seed, folder)
            if small:
                case.small()
            else:
                case.shots(0)
                case.shots(5)
            return case.out, case.count, case.bad, False
    except Exception:  # of one checkpoint: the others are compared all the same
        return [f"{kind} {dtype} seed {seed}:", traceback.format_exc()], 0, True, True


def main():
    kinds, seeds = sys.argv[4:6]
    oracle.load = few_rows
    if kinds == "small":
        jobs = [("odd", "float16", 3, True), ("qwen3", "bfloat16", 3, True)]
    else:
        jobs = [(k, d, int(s), False) for s in seeds.split(",") for k in kinds.split(",") for d in ("float32", "float16", "bfloat16")]
    count, bad = 0, False
    with multiprocessing.Pool(int(os.environ.get("JOBS", "2"))) as pool:
        for out, n, far, failed in pool.imap(run, jobs):
            print("\n".join(out), flush=True)
            count, bad = count + n, bad or far
    print(f"{count} comparisons, {'some' if bad else 'none'} far")
    sys.exit(bad)


if __name__ == "__main__":
    main()
