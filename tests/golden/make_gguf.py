#!/usr/bin/env python3
"""make_gguf.py - GGUF files by PyPI's gguf package (0.19.0), llama.cpp's own writer. Remake: python3 tests/golden/make_gguf.py (gguf,
tokenizers, numpy). Writes into tests/golden/gguf/:
  blocks.gguf          tensors of random blocks of every type, and beside each NAME a tensor NAME.want: its numbers by gguf.quants.dequantize
  quantised.gguf       numbers x, and x in Q8_0 and Q4_0 by gguf.quants.quantize: rows of several sizes, zeros, equal numbers, ties
  llama.gguf ...       tiny models of the three architectures, named as llama.cpp names them, with the tokenizers of tests/golden/tok_json.
                       Element i of a tensor is ((sum of the bytes of its Hugging Face name without "model." + 7 i) mod 61 - 30) / 16, with the
                       rows of q and k of architecture llama permuted as convert_hf_to_gguf.py does it
  mixed.gguf           the first again, its matrices in Q8_0, Q4_1, Q4_0 and Q5_1 in turn, an FFN of 64
  gpt2.gguf, llama3.gguf   tokenizers alone
  keys.gguf            metadata that few files have, and an embedding
  llama.ids            ids of tok_json/strings.json by a tokenizer whose merges follow from scores (generate_merges of transformers)
"""
import json
import os

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from tokenizers import AddedToken, Tokenizer, models, normalizers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf")
TOK = os.path.join(os.path.dirname(HERE), "tok_json")
E, H, K, D, F, L = 32, 4, 2, 8, 24, 2  # hidden, heads, KV heads, head size, FFN, layers


def writer(name, arch):
    return gguf.GGUFWriter(os.path.join(HERE, name + ".gguf"), arch)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def blocks():
    r = np.random.default_rng(5)
    w = writer("blocks", "llama")
    halves = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}  # places of fp16 scales
    for type, places in halves.items():
        numbers, size = gguf.GGML_QUANT_SIZES[type]
        raw = r.integers(0, 256, (3, 2 * size), dtype=np.uint8)
        for row in raw:
            for b in range(2):
                for p in places:
                    row[b * size + p:b * size + p + 2] = np.frombuffer(np.float16(r.normal() * 10.0 ** r.integers(-4, 2)).tobytes(), dtype=np.uint8)
        want = gguf.quants.dequantize(raw, type)
        assert want.shape == (3, 2 * numbers) and np.isfinite(want).all()
        w.add_tensor(type.name.lower(), raw, raw_dtype=type)
        w.add_tensor(type.name.lower() + ".want", want.astype(np.float32))
    finish(w)


def quantised():
    r = np.random.default_rng(6)
    x = (r.normal(size=(8, 96)) * 10.0 ** r.integers(-5, 3, (8, 1))).astype(np.float32)
    x[1, :32] = 0
    x[2] = 0.25
    x[3] = np.tile(np.arange(32) - 16, 3) / 4  # halves of a step
    x[4, ::2] *= -1e-3
    w = writer("quantised", "llama")
    w.add_tensor("x", x)
    for type in (T.Q8_0, T.Q4_0):
        w.add_tensor("x." + type.name.lower(), gguf.quants.quantize(x, type), raw_dtype=type)
    finish(w)


def values(name, shape):
    i = np.arange(np.prod(shape))
    return (((sum(name.encode()) + 7 * i) % 61 - 30) / 16).astype(np.float32).reshape(shape)


def permute(x, heads):  # convert_hf_to_gguf.py, LlamaModel.permute
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def tokens(w, name):
    t = json.load(open(os.path.join(TOK, name + ".json"), encoding="utf-8"))
    size = max(list(t["model"]["vocab"].values()) + [a["id"] for a in t["added_tokens"]]) + 1
    text, type = [None] * size, [gguf.TokenType.NORMAL] * size
    for s, i in t["model"]["vocab"].items():
        text[i] = s
        if s.startswith("<0x"):
            type[i] = gguf.TokenType.BYTE
    for a in t["added_tokens"]:
        text[a["id"]] = a["content"]
        type[a["id"]] = gguf.TokenType.CONTROL if a["special"] else gguf.TokenType.USER_DEFINED
    spm = name == "llama2"
    w.add_tokenizer_model("llama" if spm else "gpt2")
    w.add_token_list([s.encode() for s in text])
    if spm:
        type[0] = gguf.TokenType.UNKNOWN
        scores = [0.0 if i < 259 else float(259 - i) for i in range(size)]
        w.add_token_scores(scores)
        spm_ids(text, scores)
    else:
        w.add_tokenizer_pre({"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2", "smollm2": "smollm"}[name])
        w.add_token_merges([" ".join(m) for m in t["model"]["merges"]])
    w.add_token_types(type)
    return size, {a["content"]: a["id"] for a in t["added_tokens"]}


def spm_ids(text, scores):
    vocab, merges = {s: i for i, s in enumerate(text)}, []
    for piece, i in vocab.items():
        local = [(piece[:k], piece[k:], scores[i]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
        merges += sorted(local, key=lambda x: (vocab[x[0]], vocab[x[1]]))
    merges = [m[:2] for m in sorted(merges, key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)]
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in ("<unk>", "<s>", "</s>")])
    strings = json.load(open(os.path.join(TOK, "strings.json"), encoding="utf-8"))
    with open(os.path.join(HERE, "llama.ids"), "w", encoding="utf-8", newline="") as f:
        f.write("".join(" ".join(map(str, t.encode(s, add_special_tokens=False).ids)) + "\n" for s in strings))


def model(name, tokenizer, bos, eos, tied, types, file=None, F=F):
    w = writer(file or name, name)
    size, ids = tokens(w, tokenizer)
    head = D if name != "qwen3" else 2 * D  # Qwen3 has heads apart from the hidden size
    w.add_block_count(L)
    w.add_context_length(48)
    w.add_embedding_length(E)
    w.add_feed_forward_length(F)
    w.add_head_count(H)
    w.add_head_count_kv(K)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(50000.0)
    if name == "qwen3":
        w.add_key_length(head)
        w.add_value_length(head)
    if bos:
        w.add_bos_token_id(ids[bos])
    w.add_eos_token_id(ids[eos])
    w.add_add_bos_token(bool(bos))
    shapes = [("token_embd", "embed_tokens.weight", (size, E)), ("output_norm", "norm.weight", (E,))]
    if not tied:
        shapes.append(("output", "lm_head.weight", (size, E)))
    for l in range(L):
        for short, long, shape in (("attn_norm", "input_layernorm", (E,)), ("attn_q", "self_attn.q_proj", (H * head, E)), ("attn_k", "self_attn.k_proj", (K * head, E)),
                                   ("attn_v", "self_attn.v_proj", (K * head, E)), ("attn_output", "self_attn.o_proj", (E, H * head)), ("ffn_norm", "post_attention_layernorm", (E,)),
                                   ("ffn_gate", "mlp.gate_proj", (F, E)), ("ffn_up", "mlp.up_proj", (F, E)), ("ffn_down", "mlp.down_proj", (E, F))):
            shapes.append((f"blk.{l}.{short}", f"layers.{l}.{long}.weight", shape))
            if name == "qwen2" and short in ("attn_q", "attn_k", "attn_v"):
                shapes.append((f"blk.{l}.{short}.bias", f"layers.{l}.{long}.bias", shape[:1]))
        if name == "qwen3":
            shapes += [(f"blk.{l}.attn_{x}_norm", f"layers.{l}.self_attn.{x}_norm.weight", (head,)) for x in "qk"]
    for k, (short, long, shape) in enumerate(shapes):
        x = values(long, shape)
        if name == "llama" and (".attn_q" in short or ".attn_k" in short):
            x = permute(x, H if ".attn_q" in short else K)
        type = types[k % len(types)] if len(shape) > 1 else T.F32
        w.add_tensor(short if short.endswith(".bias") else short + ".weight", gguf.quants.quantize(x, type), raw_dtype=type)
    if name == "llama":  # Llama 3.1's factors, as convert_hf_to_gguf.py computes them
        freqs = 1.0 / 50000.0 ** (np.arange(0, head, 2) / head)
        low, high, old, factor = 1.0, 4.0, 8192, 8.0
        out = []
        for f in freqs:
            wave = 2 * np.pi / f
            smooth = (old / wave - low) / (high - low)
            out.append(1 if wave < old / high else factor if wave > old / low else 1 / ((1 - smooth) / factor + smooth))
        w.add_tensor("rope_freqs.weight", np.array(out, dtype=np.float32))
    finish(w)


def tokenizer_alone(name, bos):
    w = writer(name, "llama")
    _, ids = tokens(w, name)
    if bos:
        w.add_bos_token_id(ids[bos])
        w.add_add_bos_token(True)
    finish(w)


def keys():
    w = writer("keys", "llama")
    w.add_custom_alignment(64)
    w.add_uint16("split.count", 1)
    w.add_block_count(L)
    w.add_context_length(48)
    w.add_embedding_length(E)
    w.add_feed_forward_length(F)
    w.add_head_count(H)
    w.add_key_length(D)
    w.add_value_length(D)
    w.add_rope_dimension_count(D)
    w.add_rope_freq_base(500.0)
    w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    w.add_rope_scaling_factor(2.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_sliding_window(40)
    w.add_expert_count(0)
    w.add_tokenizer_model("llama")
    w.add_add_space_prefix(False)
    w.add_tensor("token_embd.weight", values("embed_tokens.weight", (4, E)))
    finish(w)


os.makedirs(HERE, exist_ok=True)
keys()
blocks()
quantised()
model("llama", "llama2", "<s>", "</s>", False, [T.F16, T.F16, T.F16, T.F32])
model("llama", "llama2", "<s>", "</s>", False, [T.Q8_0, T.Q4_1, T.Q4_0, T.Q8_0, T.Q5_1], "mixed", 64)
model("qwen2", "qwen2", None, "<|im_end|>", True, [T.BF16, T.F16])
model("qwen3", "smollm2", "<|im_start|>", "<|im_end|>", True, [T.F16])
tokenizer_alone("gpt2", None)
tokenizer_alone("llama3", "<|begin_of_text|>")
