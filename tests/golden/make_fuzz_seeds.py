#!/usr/bin/env python3
"""make_fuzz_seeds.py - small seeds of fuzz_tok_json and fuzz_gguf, so that a change meets what is read rather than the
five hundredth token, and a second has thousands of inputs. Remake: python3 tests/golden/make_fuzz_seeds.py. Writes:
  tests/golden/fuzz/NAME.tok_json   tokenizer.json of every part that is read, with a vocabulary as small as it may be,
                                    then a zero and a text
  tests/golden/fuzz/NAME.gguf       models of every architecture, tokenizer and type of block, a layer each, and a text
The layout of GGUF is written out here (ggml's docs/gguf.md); tests/golden/make_gguf.py uses llama.cpp's own writer."""
import json
import os
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fuzz")
TEXT = "It's 12 o'clock\r\n\n  the sun e\u0301! <a><b> \u2581 \ufb01 \U0001f600 they've\t<|end|>".encode() + b" \xff\xc3"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
ASCII = [chr(c) for c in range(0x21, 0x7f)] + ["\u0120", "\u010a"]  # the symbols that a byte-level vocabulary must have
WORDS = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("1", "2"), ("\u0120", "\u0120")]
PIECES = ["<unk>", "<s>", "</s>", "\u2581", "t", "h", "e", "s", "1", "2", "th", "the", "\u2581the"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


# ---------------------------------------------------------------- tokenizer.json
def added(content, id, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True} | flags


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def metaspace(scheme, whole=False):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": not whole}


def tokenizer(symbols, merges, pre, normalizer=None, tokens=(), begin=None, pairs=True, **model):
    symbols = symbols + [a + b for a, b in merges if a + b not in symbols]
    ids = {s: i for i, s in enumerate(symbols)}
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": begin}}, {"Sequence": {"id": "A"}}],
                "special_tokens": {begin: {"id": begin, "ids": [ids.get(begin)]}}}
    return {"version": "1.0", "added_tokens": [added(t, ids.get(t, len(ids) + i), **f) for i, (t, f) in enumerate(tokens)],
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": template if begin else None,
            "model": {"type": "BPE", "unk_token": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": False} | model | {"vocab": ids, "merges": [list(m) if pairs else " ".join(m) for m in merges]}}


def tokenizers():
    many = [("the", {"lstrip": True, "normalized": True, "special": False}), ("sun", {"single_word": True}),
            ("<a>", {"lstrip": True, "rstrip": True}), ("<a><b>", {}), ("e\u0301!", {"normalized": True}), ("<|end|>", {})]
    pieces = [("t", "h"), ("th", "e"), ("\u2581", "the")]
    spaces = [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
    llama2 = sequence("normalizers", *spaces)
    nfc, digits = {"type": "NFC"}, {"type": "Digits", "individual_digits": True}

    def pre(*parts):
        return sequence("pretokenizers", *parts)

    yield "gpt2", tokenizer(ASCII, WORDS, level(), tokens=[("<|end|>", {})], pairs=False)
    yield "prefix", tokenizer(ASCII, WORDS, level(prefix=True), tokens=many)
    yield "llama3", tokenizer(ASCII + ["<|end|>"], WORDS, pre(split({"Regex": LLAMA3}), level(regex=False)), tokens=[("<|end|>", {})],
                              begin="<|end|>", ignore_merges=True)
    yield "qwen2", tokenizer(ASCII, WORDS, pre(split({"Regex": LLAMA3.replace("{1,3}", "")}), level(regex=False)), nfc, many)
    yield "smollm2", tokenizer(ASCII, WORDS, pre(digits, level()), unk_token="t")
    yield "cuts", tokenizer(ASCII, WORDS, pre(split({"String": " "}, "Removed"), split({"Regex": r"\d+"}, "Contiguous"),
                                              split({"Regex": r"\p{P}"}, "MergedWithPrevious"),
                                              split({"String": "e"}, "MergedWithNext"), level(regex=False)))
    yield "inverted", tokenizer(ASCII, WORDS, pre(split({"Regex": r"\p{L}+|\s"}, "Removed", True),
                                                  split({"Regex": "[aeiou]"}, "MergedWithNext", True),
                                                  split({"Regex": "s|t"}, "MergedWithPrevious", True),
                                                  split({"Regex": r"\p{Lu}"}, "Contiguous", True), level(regex=False)))
    yield "llama2", tokenizer(PIECES[:3] + BYTES + PIECES[3:10], pieces, None, llama2, [("<s>", {})], "<s>", unk_token="<unk>",
                              fuse_unk=True, byte_fallback=True)
    yield "unknown", tokenizer(PIECES, pieces, None, llama2, many, "<s>", unk_token="<unk>", fuse_unk=True)
    yield "unfused", tokenizer(PIECES, pieces, pre({"type": "Digits"}), llama2, many, unk_token="<unk>")
    yield "dropped", tokenizer(PIECES, pieces, metaspace("first", whole=True), tokens=many)
    yield "always", tokenizer(PIECES, pieces, metaspace("always"), nfc, many, unk_token="<unk>")
    yield "never", tokenizer(PIECES, pieces, metaspace("never"), unk_token="<unk>", ignore_merges=True)
    legacy = [spaces[0], {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, spaces[1]]
    yield "legacy", tokenizer(PIECES, pieces, None, sequence("normalizers", *legacy), [("<x>", {"normalized": True})])


# ---------------------------------------------------------------- GGUF
U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22), "q5_1": (7, 32, 24),
         "q8_0": (8, 32, 34), "q4_k": (12, 256, 144), "q5_k": (13, 256, 176), "q6_k": (14, 256, 210), "bf16": (30, 1, 2)}


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(x):
    if isinstance(x, bool):
        return BOOL, struct.pack("<?", x)
    if isinstance(x, str):
        return STRING, text(x)
    return (F32, struct.pack("<f", x)) if isinstance(x, float) else (U32, struct.pack("<I", x))


def entry(key, x):
    if not isinstance(x, list):
        type, raw = value(x)
        return text(key) + struct.pack("<I", type) + raw
    items = [value(i) for i in x]
    type = 5 if key.endswith("token_type") else items[0][0]
    return text(key) + struct.pack("<IIQ", ARRAY, type, len(x)) + b"".join(raw for _, raw in items)


def file(meta, tensors, align=32):
    head, data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)), b""
    for key, x in meta.items():
        head += entry(key, x)
    for name, (type, shape) in tensors.items():
        code, numbers, size = TYPES[type]
        n = shape[0] // numbers * size
        for d in shape[1:]:
            n *= d
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", code, len(data))
        data += bytes(i * 37 % 61 for i in range(n)) + bytes(-n % align)  # no exponent of NaN
    return head + bytes(-len(head) % align) + data + TEXT[-64:]


def byte_level(pre, tokens=("<|end|>",)):
    symbols = ASCII + [a + b for a, b in WORDS] + list(tokens)
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": symbols,
            "tokenizer.ggml.token_type": [4 if s == "the" else 3 if s in tokens else 1 for s in symbols],
            "tokenizer.ggml.merges": [" ".join(m) for m in WORDS], "tokenizer.ggml.bos_token_id": len(symbols) - 1,
            "tokenizer.ggml.add_bos_token": True}


def sentencepiece():
    symbols = PIECES[:3] + BYTES + PIECES[3:]
    return {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": symbols,
            "tokenizer.ggml.scores": [float(-i) for i in range(len(symbols))],
            "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * (len(PIECES) - 3), "tokenizer.ggml.add_space_prefix": True,
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}


def model(arch, tok, E=4, H=2, K=1, D=2, F=4, types=("f16",), tied=True, biases=False, norms=False, factors=False, **more):
    rows = len(tok["tokenizer.ggml.tokens"]) if "tokenizer.ggml.tokens" in tok else 3
    meta = {"general.architecture": arch, f"{arch}.block_count": 1, f"{arch}.context_length": 8, f"{arch}.embedding_length": E,
            f"{arch}.feed_forward_length": F, f"{arch}.attention.head_count": H, f"{arch}.attention.head_count_kv": K,
            f"{arch}.attention.key_length": D, f"{arch}.attention.value_length": D, f"{arch}.rope.freq_base": 50000.0,
            f"{arch}.attention.layer_norm_rms_epsilon": 1e-5} | {k.replace("_ARCH_", arch): v for k, v in more.items()} | tok
    shapes = {"token_embd.weight": (E, rows), "output_norm.weight": (E,)}
    if not tied:
        shapes["output.weight"] = (E, rows)
    for name, shape in (("attn_norm", (E,)), ("attn_q", (E, H * D)), ("attn_k", (E, K * D)), ("attn_v", (E, K * D)),
                        ("attn_output", (H * D, E)), ("ffn_norm", (E,)), ("ffn_gate", (E, F)), ("ffn_up", (E, F)), ("ffn_down", (F, E))):
        shapes[f"blk.0.{name}.weight"] = shape
        if biases and name in ("attn_q", "attn_k", "attn_v"):
            shapes[f"blk.0.{name}.bias"] = shape[1:]
    if norms:
        shapes |= {f"blk.0.attn_{x}_norm.weight": (D,) for x in "qk"}
    tensors, n = {}, 0
    for name, shape in shapes.items():
        n += len(shape) > 1
        type = types[n % len(types)]
        # rows that are no multiple of a block stay plain
        tensors[name] = (type if len(shape) > 1 and shape[0] % TYPES[type][1] == 0 else "f16" if len(shape) > 1 else "f32", shape)
    return file(meta, tensors, meta.get("general.alignment", 32))


def models():
    yield "llama", model("llama", sentencepiece(), tied=False)
    yield "qwen2", model("qwen2", byte_level("qwen2"), types=("bf16", "f16"), biases=True)
    yield "qwen3", model("qwen3", byte_level("smollm"), D=4, norms=True)
    yield "llama3", file(byte_level("llama-bpe"), {})
    yield "gpt2", file(byte_level("gpt-2", ("<a>", "<a><b>", "<|end|>")), {})
    yield "blocks", model("llama", {}, E=32, H=2, K=2, D=2, F=32, types=("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "f32"))
    for type in ("q4_k", "q5_k", "q6_k"):
        yield type, model("llama", {}, E=2, H=1, K=1, D=2, F=256, types=(type,))
    yield "keys", model("llama", {"tokenizer.ggml.model": "llama", "general.alignment": 64, "split.count": 1}, biases=True,
                        **{"_ARCH_.rope.scaling.type": "linear", "_ARCH_.rope.scaling.factor": 2.0, "_ARCH_.rope.dimension_count": 2,
                           "_ARCH_.attention.sliding_window": 6, "_ARCH_.expert_count": 0})


def main():
    os.makedirs(HERE, exist_ok=True)
    for name, t in tokenizers():
        with open(os.path.join(HERE, name + ".tok_json"), "wb") as f:
            f.write(json.dumps(t, ensure_ascii=False, separators=(",", ":")).encode() + b"\0" + TEXT)
    for name, raw in models():
        with open(os.path.join(HERE, name + ".gguf"), "wb") as f:
            f.write(raw)


if __name__ == "__main__":
    main()
