#!/usr/bin/env python3
"""Writes wikitext/: pairs of a page and its detokenised text, and the pages of a small file in WikiText's form.

The rules are those of section 12 of the specification, stated here with Python's re and str; tests/test_wikitext.c compares the C
code with what they give. Inputs: every rule by itself and in its traps, and seeded random strings over the rules' own symbols.
Usage: make_wikitext.py (writes next to itself; needs nothing but Python)
"""
import os
import random
import re

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wikitext")


def detokenise(s):
    for a, b in [("s '", "s'"), (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")]:
        s = s.replace(a, b)
    for x in ":;.!?,":
        s = s.replace(f" {x} ", f"{x} ")
    for a, b in ["()", "[]", "{}", '""', "''"]:
        a, b = re.escape(a), re.escape(b)
        s = re.sub(rf"({a})\s*([^{b}]*?)\s*({b})", r"\1\2\3", s)
    for a, b in [("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" ° ", "°"), (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s")]:
        s = s.replace(a, b)
    return s


def pages(text):
    done, page = [], []
    for line in text.split("\n"):
        copy = line.replace("= = =", "===").replace("= =", "==").strip()
        if copy.startswith("= ") and copy.endswith(" ="):
            done.append("\n".join(page))
            page = []
        page.append(line)
    done.append("\n".join(page))
    return [p for p in done if p.strip()]


BY_HAND = [
    "", " ", "\n", "plain words stay", " the dogs ' tails , and James 's hat ; so : it ends . Yes ! No ? ",
    "a 10 @-@ year 1 @,@ 000 m 3 @.@ 5 kg", "a @-@ @-@ b", " , , , ", " . . . and ...", "x : : y", "( a )", "( a ( b ) c )", "(\n a \n)", "( )", "(   )", "( open",
    ") a ( b )", "[ a ] [ b", "{ x }{ y }", '" one " and " two " and " three', "' one ' and ' two '", "it 's Ross ' s ' own '", "( \" a \" )", "\" ( a \" )",
    "= = = = A = = = =", "= = = A = = =", "= = A = =", "= A =", "= = = = =", "=  = =", "20 ° C", " ° ° ", "a \nb\n c\n  d  \n", " N N N ", "N N", "he 's 's",
    "(\u00a0a\u2003)", "( \x1ca\x85 )", "(\u200ba\u200b)", "(\u180ea )", "\u3000( é )", "\" \u2028 x \u2029 \"", "a\rb ( \r\n )", "/' 5/", "s  '", "ss ' '",
]
FILE = (" \n = First page = \n \n Some text , with words . \n\n = = Section = = \n \n = = = Sub = = = \n More\u00a0words \u2003 here . \n"
        "\t= Second = \n = Third = \n= a =\n = = \n = b = c \n=  =\n == =\n= = \n = Last = \n no line feed")
SPACES = [" = A = \n" + f"x{c}y" for c in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2006\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"]


def write(name, records):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(b"\0".join(r.encode() for r in records))


def main():
    os.makedirs(HERE, exist_ok=True)
    draw = random.Random(20240601)
    bits = list(" @-=()[]{}\"'.,:;!?°N\nsa") + [" ", " ", " = ", " @-@ ", " 's", "s '", " ° ", " N ", "( ", " )", '" ', " '", "\u00a0", "\u2009", "\x1c"]
    inputs = BY_HAND + ["".join(draw.choice(bits) for _ in range(draw.randrange(3, 40))) for _ in range(1000)]
    write("detokenise", [x for s in inputs for x in (s, detokenise(s))])  # input, output, input, output, ...
    write("file", [FILE])
    out = []
    for text in [FILE] + SPACES:  # every page: raw, words, bytes
        out += [x for p in pages(text) for x in (p, str(len(re.split(r"\s+", p))), str(len(p.encode())))]
    write("pages", out)
    write("spaces", SPACES)


main()
