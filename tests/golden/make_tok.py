#!/usr/bin/env python3
"""make_tok.py - references for tests/test_tok.c from the `tokenizers` library (0.23.3). Remake: python3 tests/golden/make_tok.py [OPT]

OPT: folder of OPT's own vocab.json and merges.txt (default ../shared/data/opt_tokenizer). Writes into tests/golden/tok/:
  text.txt                  seeded text in several scripts, to learn a vocabulary from
  vocab.json, merges.txt    the vocabulary of 700 ids that tokenizers' trainer learns from it; a plain trainer below, which counts
                            all pairs again for each merge, must find the same merges
  strings.json              one JSON string per line
  small.ids, opt.ids        per string one line: its ids in that vocabulary and in OPT's
Only characters that Unicode 14 knows are used: the libraries' tables of letters and digits agree on these.
"""
import json
import os
import random
import sys
import unicodedata
from collections import Counter

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tok")
OPT = sys.argv[1] if len(sys.argv) > 1 else "../shared/data/opt_tokenizer"
SIZE = 700
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]

WORDS = {
    "latin": "the a of and to river stone walks walked walking quickly under over naïve café œuvre straße señor fjord garden lamp "
             "lamps wooden woods Anna Tom sings sang singer it's they've I'll we're don't can't she'd I'm O'Neil 'tis rock'n'roll",
    "greek": "και το δεν είναι ποταμός ήλιος θάλασσα",
    "cyrillic": "и река не было солнце море ёлка",
    "arabic": "في من على النهر كتاب",
    "hebrew": "של את הנהר ספר",
    "devanagari": "और नदी पुस्तक में है",
    "thai": "แม่น้ำ หนังสือ และ",
    "cjk": "河 太陽 的 書 日本語 ひらがな カタカナ 한국어 강",
    "digits": "1 23 456 7890 3.14 1,000 2024 ٣٤٥ १२३ Ⅷ ½ ² 零",
}
MARKS = [".", ",", "!", "?", ";", ":", "...", " - ", "—", "«", "»", "“", "”", "(", ")", "[", "]", "{", "}", "/", "\\", "\"", "'", "''", "`", "@",
         "#", "$", "€", "%", "^", "&", "*", "_", "__", "+", "=", "~", "|", "<", ">", "<s>", "</s>", "<pad>", "<unk>", "<|endoftext|>", "§", "…", "→", "≠", "∑"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "🏳️‍🌈", "1️⃣", "☃", "𝒜", "𐍈", "🀄", "\U0010fffd"]
COMBINING = ["e\u0301", "a\u0308\u0323", "o\u0302\u0301", "\u0301", "n\u0303o", "\u1100\u1161\u11a8", "क\u094dष", "\u200d", "\u200b", "\ufe0f", "\u00ad", "\u2060"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\n ", "\t\t ", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u00a0", "\u1680", "\u180e",
          "\u2000", "\u2003", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", " \u00a0", "\u3000 ", "\u2003\u2003"]
SUFFIXES = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'x", "’s", "'", "'s's", "'llo", "'dd", " 's", "'\u017f"]
CONTROL = [chr(c) for c in range(0x20)] + ["\x7f", "\x80", "\x9f", "\0\0", "\x00a", "\ufffd", "\uffff", "\ud7ff", "\ue000"]


def training_text():
    r = random.Random(1)
    lines = []
    for _ in range(400):
        pool = (WORDS["latin"] + " " + WORDS[r.choice(list(WORDS))]).split()
        words = [r.choice(pool) for _ in range(r.randint(4, 14))]
        if r.random() < 0.2:
            words.insert(r.randrange(len(words)), r.choice("aebx-=.") * r.randint(2, 17))  # runs: overlapping pairs
        lines.append(" ".join(words) + r.choice([".", "!", " ...", "?\n", ";  ", " 😀"]))
    return "\n".join(lines) + "\n"


def strings():
    r = random.Random(2)
    every = MARKS + EMOJI + COMBINING + SPACES + SUFFIXES + CONTROL + [w for t in WORDS.values() for w in t.split()]
    out = ["", "Hello world! cécé herlolip"] + every
    out += [f"a{x}b {x} {x}{x}1" for x in MARKS + EMOJI + COMBINING + SPACES + SUFFIXES]
    out += [w + s for w in ["they", "Anna", "7", "é", "!", " "] for s in SUFFIXES]
    out += [c * n for c in "a -=0\n\t.éи河😀\u00a0" for n in (2, 3, 5, 31, 64, 100)]
    out += [" " * n + "x" + " " * m for n in range(5) for m in range(4)]
    for _ in range(700):  # words of one script with spaces, marks
        pool = r.choice(list(WORDS.values())).split()
        out.append("".join(r.choice(pool) + r.choice([" ", " ", " ", "", r.choice(SPACES), r.choice(MARKS), r.choice(SUFFIXES)]) for _ in range(r.randint(1, 5))))
    for _ in range(500):  # anything after anything
        out.append("".join(r.choice(every) for _ in range(r.randint(2, 6))))
    known = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    for _ in range(500):  # any characters
        out.append("".join(r.choice(known) + r.choice(["", "", " ", "a", "1"]) for _ in range(r.randint(1, 5))))
    return list(dict.fromkeys(out))


def plain_trainer(text, size):
    """Algorithm 1 of Sennrich et al. 2016, all pairs counted again before each merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    id_of = {s: i for i, s in enumerate(SPECIALS + alphabet)}
    words = Counter(p for p, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text))
    words = [(list(w), n) for w, n in words.items()]
    merges = []
    while len(id_of) < size:
        count = Counter()
        for w, n in words:
            for pair in zip(w, w[1:]):
                count[pair] += n
        a, b = min((p for p in count if count[p] > 1), key=lambda p: (-count[p], id_of[p[0]], id_of[p[1]]))
        merges.append((a, b))
        id_of.setdefault(a + b, len(id_of))
        for w, _ in words:
            i = 0
            while i + 1 < len(w):
                if w[i] == a and w[i + 1] == b:
                    w[i:i + 2] = [a + b]
                i += 1
    return merges


def encoder(folder):
    t = Tokenizer(models.BPE.from_file(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt")))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda s: t.encode(s, add_special_tokens=False).ids


def write(name, text):
    with open(os.path.join(HERE, name), "w", encoding="utf-8", newline="") as f:
        f.write(text)


def main():
    os.makedirs(HERE, exist_ok=True)
    text = training_text()
    write("text.txt", text)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator([text], trainers.BpeTrainer(vocab_size=SIZE, min_frequency=2, special_tokens=SPECIALS, show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.model.save(HERE)
    with open(os.path.join(HERE, "merges.txt"), encoding="utf-8") as f:
        learnt = [tuple(line.split(" ")) for line in f.read().split("\n")[1:-1]]
    if learnt != plain_trainer(text, SIZE):
        sys.exit("the two trainers disagree")
    all_strings = strings()
    write("strings.json", "[" + ",\n".join(json.dumps(s, ensure_ascii=False) for s in all_strings) + "]\n")
    for name, encode in (("small.ids", encoder(HERE)), ("opt.ids", encoder(OPT))):
        write(name, "".join(" ".join(map(str, encode(s))) + "\n" for s in all_strings))
    print(len(all_strings), "strings,", len(learnt), "merges")


if __name__ == "__main__":
    main()
