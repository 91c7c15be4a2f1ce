# make_predictor - references for tests/test_predictor.c -> tests/golden/predictor.h5. PyTorch in float64: small nets as torch.nn builds them,
# their outputs, losses, gradients, and their parameters after some AdamW steps under CosineAnnealingLR; scipy and numpy: rank correlations and
# overlaps. Usage: python3 tests/golden/make_predictor.py
#
# /NET/{start, end}/PARAMETER, /NET/gradient/PARAMETER (of the first batch), /NET/{y [steps, B, out], loss [steps], t [steps, B, out]}, and inputs x [steps, B, in] or,
# of the attention net, tokens [steps, rows, E] of sequences of the lengths `length` one after the other; attributes lr, decay, positive.
# /quality/{predicted, true} [n, L, U], {joint, within} [n], {overlap_joint, overlap_within} [n, 9] with layer 0 dense; within: mean over layers that are not constant.
import os
import h5py, numpy as np, torch
from scipy.stats import spearmanr
from torch import nn

torch.set_default_dtype(torch.float64)
STEPS, B = 6, 4


class Pool(nn.Module):
    """Self-attention over a padded batch with a key-padding mask, the mean over real positions, an MLP."""

    def __init__(self, E, hidden, out):
        super().__init__()
        self.attention = nn.MultiheadAttention(E, 1, batch_first=True)
        nn.init.normal_(self.attention.in_proj_bias, std=0.1)
        nn.init.normal_(self.attention.out_proj.bias, std=0.1)
        self.fc1, self.fc2 = nn.Linear(E, hidden), nn.Linear(hidden, out)

    def forward(self, x, length):
        padded = nn.utils.rnn.pad_sequence(torch.split(x, length), batch_first=True)
        real = torch.arange(padded.shape[1])[None] < torch.tensor(length)[:, None]
        y, _ = self.attention(padded, padded, padded, key_padding_mask=~real)
        mean = (y * real[:, :, None]).sum(1) / torch.tensor(length)[:, None]
        return self.fc2(torch.relu(self.fc1(mean)))


class Mlp(nn.Module):
    def __init__(self, E, hidden, out):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(E, hidden), nn.Linear(hidden, out)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


class Pair(nn.Module):
    def __init__(self, E, hidden, out):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(E, hidden, bias=False), nn.Linear(hidden, out, bias=False)

    def forward(self, x):
        return self.fc2(self.fc1(x))


def parameters(net, values):
    """By the names of a predictor file: the stacked matrices of torch's attention parted into query, key, value."""
    out = {}
    for name, v in values.items():
        v = v.detach().numpy().copy()
        if name.startswith("attention.in_proj"):
            for part, piece in zip(("query", "key", "value"), np.split(v, 3)):
                out[part + name[len("attention.in_proj_") - 1:].replace("_", ".")] = piece
        else:
            out[name.replace("attention.out_proj", "out")] = v
    return out


def train(f, name, net, x, t, positive=None, length=None, lr=1e-2, decay=0.01):
    g = f.create_group(name)
    g.attrs.update(lr=lr, decay=decay, positive=positive or 0)
    put = lambda where, values: [g.create_dataset(f"{where}/{k}", data=v) for k, v in parameters(net, values).items()]
    put("start", dict(net.named_parameters()))
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    ys, losses = [], []
    for s in range(STEPS):
        y = net(x[s], length) if length else net(x[s])
        if positive is None:
            loss = nn.functional.mse_loss(y, t[s])
        else:
            loss = nn.functional.binary_cross_entropy_with_logits(y, t[s], weight=t[s] * (1 - positive) + positive)
        optimizer.zero_grad()
        loss.backward()
        if s == 0:
            put("gradient", {k: p.grad for k, p in net.named_parameters()})
        optimizer.step()
        schedule.step()
        ys.append(y.detach().numpy())
        losses.append(loss.item())
    put("end", dict(net.named_parameters()))
    g["y"], g["loss"], g["t"] = np.array(ys), losses, t
    if length:
        g["tokens"], g["length"] = x, length
    else:
        g["x"] = x


def keep(x, prune):
    order = np.argsort(x, kind="stable")  # among equal scores the lower index goes first
    kept = np.ones(len(x), bool)
    kept[order[:prune]] = False
    return kept


def overlap(a, b, p):
    prune = p * len(a) // 100
    return (keep(a, prune) & keep(b, prune)).sum() / (len(a) - prune)


def quality(f):
    rng = np.random.default_rng(5)
    n, L, U = 6, 4, 13
    truth = rng.normal(size=(n, L, U)) + 2 * rng.normal(size=(n, L, 1))
    predicted = truth + rng.normal(size=truth.shape)
    predicted[1], truth[2] = np.round(predicted[1]), np.round(truth[2])  # ties
    truth[3, 2] = 1.5                                                     # a constant layer
    predicted[4, 0] = 0
    rho = lambda a, b: spearmanr(a, b)[0]
    within = [np.mean([rho(predicted[i, l], truth[i, l]) for l in range(L) if np.ptp(truth[i, l]) and np.ptp(predicted[i, l])]) for i in range(n)]
    f["quality/predicted"], f["quality/true"] = predicted, truth
    f["quality/joint"] = [rho(predicted[i].ravel(), truth[i].ravel()) for i in range(n)]
    f["quality/within"] = within
    f["quality/overlap_joint"] = [[overlap(predicted[i, 1:].ravel(), truth[i, 1:].ravel(), p) for p in range(10, 100, 10)] for i in range(n)]
    f["quality/overlap_within"] = [[np.mean([overlap(predicted[i, l], truth[i, l], p) for l in range(1, L)]) for p in range(10, 100, 10)] for i in range(n)]


torch.manual_seed(3)
with h5py.File(os.path.join(os.path.dirname(__file__), "predictor.h5"), "w") as f:
    f.attrs["made_by"] = f"make_predictor.py, torch {torch.__version__}"
    train(f, "mlp", Mlp(12, 9, 10), torch.rand(STEPS, B, 12), torch.rand(STEPS, B, 10))
    train(f, "pair", Pair(12, 5, 10), torch.rand(STEPS, B, 12), (torch.rand(STEPS, B, 10) < 0.4).double(), positive=0.4)
    length = [3, 70, 1, 9]
    train(f, "pool", Pool(12, 9, 10), torch.rand(STEPS, sum(length), 12) * 4 - 2, torch.rand(STEPS, B, 10), length=length)
    quality(f)
