#!/usr/bin/env python3
"""make_tok_json.py - tokenizer.json in the forms of today's checkpoints, and their ids, from the `tokenizers` library (0.23.3).

Remake: python3 tests/golden/make_tok_json.py. Writes into tests/golden/tok_json/:
  NAME.json      a tokenizer of some 500 ids whose parts are those of GPT-2, Llama-3, Qwen2, SmolLM2 and Llama-2 (SentencePiece),
                 learnt from tests/golden/tok/text.txt by the library's trainer
  strings.json   one JSON string per line, a part of those below
  NAME.ids       per string one line: its ids

Compare on all strings: python3 tests/golden/make_tok_json.py ENCODER, where ENCODER FOLDER STRINGS prints ids in the form of NAME.ids; more
forms than those above are compared.
"""
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import make_tok

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tok_json")
TEXT = os.path.join(make_tok.HERE, "text.txt")
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
COMMITTED = ["gpt2", "llama3", "qwen2", "smollm2", "llama2"]


def learn(pre, size=500, alphabet=True):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    with open(TEXT, encoding="utf-8") as f:
        text = f.read().split("\n")
    start = pre_tokenizers.ByteLevel.alphabet() if alphabet else []
    t.train_from_iterator(text, trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=[], show_progress=False, initial_alphabet=start))
    model = json.loads(t.to_str())["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]


def template(token, id):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, id)])


def byte_level(pre, special, normalizer=None, ignore_merges=False, plain=(), begin=None, prefix=False, extra=()):
    vocab, merges = learn(pre)
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    if normalizer:
        t.normalizer = normalizer
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in special])
    t.add_tokens([AddedToken(s, special=False, normalized=False) for s in plain] + list(extra))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template(begin, t.token_to_id(begin))]) if begin else processors.ByteLevel(trim_offsets=False)
    return t


def lacking(t, **model):
    """The tokenizer without the symbols of some bytes, as SmolLM2's."""
    parts = json.loads(t.to_str())
    gone = [s for s in "ĄąĆÂâ" if s in parts["model"]["vocab"]]
    assert len(gone) == 5
    parts["model"]["merges"] = [m for m in parts["model"]["merges"] if not any(g in m[0] + m[1] for g in gone)]
    made = {a + b for a, b in parts["model"]["merges"]}
    vocab = parts["model"]["vocab"]
    kept = [s for s in sorted(vocab, key=vocab.get) if len(s) == 1 and s not in gone or s in made]
    parts["model"]["vocab"] = {s: i for i, s in enumerate(kept)}
    parts["added_tokens"][0]["id"] = len(kept)
    parts["model"] |= model
    return Tokenizer.from_str(json.dumps(parts))


def split(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated", invert=False),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])


def sentencepiece(normalizer, pre, fallback=True, unk="<unk>", fuse=True, extra=()):
    learnt, merges = learn(pre_tokenizers.Metaspace(prepend_scheme="always"), 260, alphabet=False)
    names = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if fallback else [])
    vocab = {s: i for i, s in enumerate(names + list(learnt))}
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=unk, fuse_unk=fuse, byte_fallback=fallback))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in ("<unk>", "<s>", "</s>")])
    t.add_tokens(list(extra))
    t.post_processor = template("<s>", 1)
    return t


def forms():
    spaces = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    level = lambda **k: pre_tokenizers.ByteLevel(**({"add_prefix_space": False} | k))
    odd = [AddedToken("the", lstrip=True, normalized=True), AddedToken("[R]", rstrip=True, normalized=False), AddedToken("sun", single_word=True, normalized=False),
           AddedToken("  ", normalized=False), AddedToken("é!", normalized=True), AddedToken("<a>", lstrip=True, rstrip=True, normalized=False), AddedToken("<a><b>", normalized=False)]
    sequence, piece = pre_tokenizers.Sequence, pre_tokenizers.Split
    return {
        "gpt2": byte_level(level(), ["<|endoftext|>"]),
        "llama3": byte_level(split(LLAMA3), ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], ignore_merges=True, begin="<|begin_of_text|>"),
        "qwen2": byte_level(split(QWEN2), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC(), plain=["<tool_call>"]),
        "smollm2": byte_level(sequence([pre_tokenizers.Digits(individual_digits=True), level(use_regex=True)]), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        "llama2": sentencepiece(spaces, None),
        # not committed
        "prefix": byte_level(level(add_prefix_space=True), ["</s>"], extra=odd),
        "neox": byte_level(level(), ["<|endoftext|>", "<|padding|>"], normalizer=normalizers.NFC(), extra=odd),
        "deepseek": byte_level(sequence([piece(Regex("[\r\n]"), "isolated"), piece(Regex(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+"), "isolated"), piece(Regex(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"), "isolated"), piece(Regex(r"\s+$".rstrip("$")), "isolated"), piece(Regex("[一-龥ࠀ-一가-퟿]+"), "isolated"),
                                         pre_tokenizers.Digits(individual_digits=True), level(use_regex=False)]), ["<｜begin▁of▁sentence｜>"], begin="<｜begin▁of▁sentence｜>"),
        "removed": byte_level(sequence([piece(" ", "removed"), piece(Regex(r"\d+"), "contiguous"), piece(Regex(r"\p{P}"), "merged_with_previous"), piece("e", "merged_with_next"), level(use_regex=False)]), ["<s>"]),
        "inverted": byte_level(sequence([piece(Regex(r"\p{L}+|\s"), "removed", invert=True), piece(Regex(r"[aeiou]"), "merged_with_next", invert=True), piece(Regex(r"s|t"), "merged_with_previous", invert=True),
                                         piece(Regex(r"\p{Lu}"), "contiguous", invert=True), level(use_regex=False)]), ["<s>"]),
        "lacking": lacking(byte_level(sequence([pre_tokenizers.Digits(individual_digits=True), level(use_regex=True)]), ["<s>"])),
        "lacking_unk": lacking(byte_level(level(), ["<s>"]), unk_token="Ā"),
        "digits": byte_level(sequence([pre_tokenizers.Digits(individual_digits=False), level(use_regex=True)]), ["<s>"]),
        "first": sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
        "always": sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="always", split=True), extra=odd),
        "never": sentencepiece(normalizers.NFC(), pre_tokenizers.Metaspace(prepend_scheme="never", split=True)),
        "unknown": sentencepiece(spaces, None, fallback=False),
        "unfused": sentencepiece(spaces, None, fallback=False, fuse=False, extra=odd),
        "dropped": sentencepiece(spaces, None, fallback=False, unk=None),
        "legacy": sentencepiece(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(" ", "▁")]), None, extra=[AddedToken("<x>", normalized=True)]),
    }


def strings():
    r = random.Random(3)
    names = ["<|endoftext|>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<tool_call>", "<0x41>", "<0x0A>", "▁", "▁▁", "[R]", "<a>", "<b>", "sun", "sunset", "the", "<x>", "é!", "e\u0301!"]
    more = ["e\u0301", "\u1112\u1161\u11ab", "\uac00\u11a8", "o\u0323\u0302", "\u212b", "\u0344", "\ufb01", "q\u0307\u0323", "\u0958", "\u2f868"[:1], "\U0001d15e", "'ſ", "'S", "'LL", "'Ve", "İ", "ı", "K's", "ß's", "1234567", "12 345", "٣٤٥٦", "½¾", "Ⅷ",
            "\r\n", "\n\n\n", " \r\n ", "\t\n x", "   \n", "x \n\n y", "...\n\n", "?!\r\n"]
    every = names + more + make_tok.MARKS + make_tok.SPACES + make_tok.SUFFIXES + make_tok.EMOJI + [w for t in make_tok.WORDS.values() for w in t.split()]
    out = make_tok.strings() + names + more
    out += [a + x + b for x in names for a in ("", " ", "a", "\n") for b in ("", " ", "s", "  ")]
    out += [" " + x + " " + x for x in more]
    out += ["".join(r.choice(every) + r.choice(["", " ", "", "\n"]) for _ in range(r.randint(2, 7))) for _ in range(1000)]
    return list(dict.fromkeys(out))


def ids_of(t, all_strings):
    return "".join(" ".join(map(str, t.encode(s, add_special_tokens=False).ids)) + "\n" for s in all_strings)


def write_strings(path, all_strings):
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write("[" + ",\n".join(json.dumps(s, ensure_ascii=False) for s in all_strings) + "]\n")


def compare(encoder):
    all_strings, wrong = strings(), 0
    with tempfile.TemporaryDirectory() as tmp:
        write_strings(tmp + "/strings.json", all_strings)
        for name, t in forms().items():
            os.makedirs(f"{tmp}/{name}")
            t.save(f"{tmp}/{name}/tokenizer.json")
            got = subprocess.run([encoder, f"{tmp}/{name}", tmp + "/strings.json"], capture_output=True, text=True)
            if got.returncode:
                sys.exit(f"{name}: {got.stdout[-300:]}{got.stderr}")
            lines = list(zip(all_strings, ids_of(t, all_strings).split("\n"), got.stdout.split("\n")))
            bad = [x for x in lines if x[1] != x[2]]
            wrong += len(bad)
            print(f"{name}: {len(all_strings)} strings, {len(bad)} with other ids")
            for text, want, have in bad[:3]:
                print(f"  {text!r}: {have}, not {want}")
    sys.exit(wrong > 0)


def main():
    if len(sys.argv) > 1:
        compare(sys.argv[1])
    os.makedirs(HERE, exist_ok=True)
    some = random.Random(4).sample(strings(), 330)
    write_strings(os.path.join(HERE, "strings.json"), some)
    for name, t in forms().items():
        if name not in COMMITTED:
            continue
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8", newline="") as f:
            json.dump(json.loads(t.to_str()), f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")
        with open(os.path.join(HERE, name + ".ids"), "w", encoding="utf-8", newline="") as f:
            f.write(ids_of(t, some))


if __name__ == "__main__":
    main()
