"""modeling_pruned - models of transformers whose layers differ in their numbers of heads and neurons, as bin/prune makes
them (it puts this file beside the weights): AutoModelForCausalLM.from_pretrained(DIR, trust_remote_code=True).

config.json has, a number for each layer: num_attention_heads_per_layer; ffn_dim_per_layer (OPT) or
intermediate_size_per_layer; key_value_head_per_head: for each query head of each layer the K/V head that it reads, where
fewer K/V heads than query heads are there. The class of transformers runs as it is, on projections of other sizes."""
import warnings

import transformers
from torch import nn


class IntoHeads(nn.Linear):
    """The projection onto the heads of a layer; reads: the outputs' heads in the order in which query heads want them. A
    layer without heads runs one of zeros, so that the cache knows how many tokens it has seen."""

    def __init__(self, width, heads, size, bias, reads=None):
        super().__init__(width, heads * size, bias=bias)
        self.size, self.reads = size, reads

    def forward(self, x):
        y = super().forward(x)
        if not self.out_features:
            return y.new_zeros(*y.shape[:-1], self.size)
        return y if self.reads is None else y.unflatten(-1, (-1, self.size))[..., self.reads, :].flatten(-2)


class OutOfHeads(nn.Linear):
    def forward(self, y):
        return super().forward(y[..., : self.in_features])


def narrow_attention(a, config, layer):
    """The projections of one layer's attention, in place."""
    heads = config.num_attention_heads_per_layer[layer]
    reads = getattr(config, "key_value_head_per_head", None)
    reads = reads[layer] if reads else None
    read = max(reads, default=-1) + 1 if reads is not None else heads
    size, out = a.head_dim, "out_proj" if hasattr(a, "out_proj") else "o_proj"
    for name, of, order in (("q_proj", heads, None), ("k_proj", read, reads), ("v_proj", read, reads)):
        old = getattr(a, name)
        setattr(a, name, IntoHeads(old.in_features, of, size, old.bias is not None, order))
    old = getattr(a, out)
    setattr(a, out, OutOfHeads(heads * size, old.out_features, bias=old.bias is not None))
    run = max(heads, 1)
    a.num_heads = a.num_key_value_heads = run  # of older releases
    a.num_key_value_groups = 1
    if hasattr(a, "embed_dim"):
        a.embed_dim = run * size


def narrow_ffn(part, names, neurons):
    for name in names[:-1]:
        old = getattr(part, name)
        setattr(part, name, nn.Linear(old.in_features, neurons, bias=old.bias is not None))
    old = getattr(part, names[-1])
    setattr(part, names[-1], nn.Linear(neurons, old.out_features, bias=old.bias is not None))


class Narrow:
    def __init__(self, config, *rest, **options):
        super().__init__(config, *rest, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of layers without elements
            self.narrow(config)

    def narrow(self, config):
        inner = self.model.decoder if hasattr(self.model, "decoder") else self.model
        neurons = getattr(config, "ffn_dim_per_layer", None) or getattr(config, "intermediate_size_per_layer", None)
        for i, layer in enumerate(inner.layers):
            if getattr(config, "num_attention_heads_per_layer", None):
                narrow_attention(layer.self_attn, config, i)
            if neurons and hasattr(layer, "mlp"):
                narrow_ffn(layer.mlp, ("gate_proj", "up_proj", "down_proj"), neurons[i])
            elif neurons:
                narrow_ffn(layer, ("fc1", "fc2"), neurons[i])


# PrunedOPTForCausalLM and so on, of the families that this release of transformers has
for family in ("OPT", "Llama", "Mistral", "Qwen2", "Qwen3"):
    base = getattr(transformers, f"{family}ForCausalLM", None)
    if base:
        globals()[f"Pruned{base.__name__}"] = type(f"Pruned{base.__name__}", (Narrow, base), {"__module__": __name__})
