#!/usr/bin/env python3
"""bench_train_peer.py - how fast PyTorch trains the nets of predictors: the yardstick of bin/bench_train.

The same nets, losses, batches and optimizer (AdamW, fused where this PyTorch has it on the CPU, else foreach), in fp32 on rows that lie in memory:
a two-layer MLP or DejaVu's linear pair on [batch, in]; or the MLP after self-attention over packed tokens and their mean.

bin/bench_train drives it: after a line of JSON that says what runs, every line "KIND IN HIDDEN OUT BATCH TOKENS STEPS" on standard input is answered by the
seconds that so many steps took; KIND is mlp, pair or pool. Needs torch.
"""
import argparse
import json
import os
import sys
import time

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--threads", type=int, default=2, help="[%(default)s]")
args = ap.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
try:
    import torch
except ImportError as e:
    sys.exit(f"bench_train_peer.py: {e}; pip install torch")
torch.set_num_threads(args.threads)
torch.manual_seed(1)


class Pool(torch.nn.Module):
    """One head of self-attention, E -> E, then the mean over the tokens, then the MLP."""

    def __init__(self, width, mlp):
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(width, 1, batch_first=True)
        self.mlp = mlp

    def forward(self, x):
        return self.mlp(self.attention(x, x, x, need_weights=False)[0].mean(1))


def optimizer(net):
    try:
        return torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01, foreach=True)


class Training:
    def __init__(self, kind, width, hidden, out, batch, tokens):
        linear = torch.nn.Linear
        if kind == "pair":
            self.net = torch.nn.Sequential(linear(width, hidden, bias=False), linear(hidden, out, bias=False))
        else:
            self.net = torch.nn.Sequential(linear(width, hidden), torch.nn.ReLU(), linear(hidden, out))
        if kind == "pool":
            self.net = Pool(width, self.net)
        self.kind, self.batch, self.rows = kind, batch, 4 * batch
        self.x = torch.rand(self.rows, tokens, width) if kind == "pool" else torch.rand(self.rows, width)
        self.t = torch.rand(self.rows, out)
        if kind == "pair":
            self.t = (self.t > 0.5).float()
        self.adam = optimizer(self.net)

    def step(self):
        rows = torch.randint(0, self.rows, (self.batch,))
        y, t = self.net(self.x[rows]), self.t[rows]
        if self.kind == "pair":
            loss = torch.nn.functional.binary_cross_entropy_with_logits(y, t, weight=t * 0.5 + 0.5)
        else:
            loss = torch.nn.functional.mse_loss(y, t)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.adam.step()
        return loss.item()


fused = "fused" if optimizer(torch.nn.Linear(1, 1)).defaults.get("fused") else "foreach"
print(json.dumps(dict(torch=torch.__version__, adamw=fused)), flush=True)
shape = training = None
for line in sys.stdin:
    kind, *numbers = line.split()
    *sizes, steps = map(int, numbers)
    if (kind, sizes) != shape:
        training = None
        training, shape = Training(kind, *sizes), (kind, sizes)
        training.step()
        training.step()
    start = time.perf_counter()
    for _ in range(steps):
        loss = training.step()
    seconds = time.perf_counter() - start
    assert loss == loss, "the loss is not a number"
    print(f"{seconds:.6f}", flush=True)
