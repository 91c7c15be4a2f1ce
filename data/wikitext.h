// wikitext - running text for perplexity: WikiText's pages, the detokeniser of the evaluation harness, windows (METHOD
// 3.5).
#pragma once
#include "base.h"
#include "doc_part.h"
#include "tok.h"

// As in the file; detokenised; counts of the raw page; its place in the file, counted from 0.
typedef struct {
    char *raw, *text;
    long words, bytes;
    int number;
} wikitext_page;
typedef struct {
    wikitext_page *pages;
    int n;
    char *raw;
    size_t raw_bytes;
    char hash[33];
} wikitext;

// The pages of a text of n bytes. 0, or -1 and err_set: it is no text.
int wikitext_parse(wikitext *w, const char *bytes, size_t n);
void wikitext_close(wikitext *w);
// Keeps `limit` (0: all) pages of a part: a prefix of one seeded permutation of its pages, or (seed NULL) its first
// pages, so that a larger limit extends a smaller one. Those kept stay in the order of the file; where any is left out,
// raw becomes theirs, joined by a line feed as in the file. 0, or -1 and err_set: the part is empty.
int wikitext_keep(wikitext *w, doc_part p, long limit, const uint64_t *seed);
// Pages of more words end after the first `words` of them (1 and more); raw becomes what is left, joined as above.
void wikitext_cut(wikitext *w, long words);
// The harness's detokeniser, exactly in the order of METHOD 3.5. Caller frees.
char *wikitext_detokenise(const char *page);

// A window: `input` of n tokens; it scores the last `predicted` targets: target of input position i is tokens[start + i
// + 1] of the stream that begins with </s>.
typedef struct {
    int start, n, predicted;
} text_window;
// Rolling windows of a page of n tokens after `</s>`, at most `most` inputs each (METHOD 3.5): first predicts tokens
// 0..most-1; each following one predicts the next up to `most`, its input the `most` tokens that end one before the
// last predicted. Positions count in the stream </s> ++ tokens. Returns the number; caller frees *w.
int text_windows_rolling(int n, int most, text_window **w);
// Disjoint windows for token perplexity: n tokens after </s>, every token predicted once, the remainder too; gptq: the
// stream is the n tokens without </s> (target of input position i is tokens[start + i + 1] of it),
// `most` tokens a window predict most-1, remainder dropped.
int text_windows_disjoint(int n, int most, bool gptq, text_window **w);
// The gptq form of the raw file: non-blank lines keep their line feed, blank ones are empty, all joined by two line
// feeds. Caller frees.
char *wikitext_gptq_text(const wikitext *w);
