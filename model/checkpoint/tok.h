// tok - OPT's tokenizer: GPT-2's byte-level BPE from vocab.json and merges.txt. Text is split by GPT-2's regular
// expression (PCRE2, Unicode); each piece's bytes are mapped to the 256 printable symbols and merged by rank. Exact on
// any UTF-8; each byte of invalid UTF-8 is one symbol that is neither letter, digit nor space (METHOD 11.3).
#pragma once
#include "base.h"

typedef struct tok tok;

// Reads DIR/vocab.json and DIR/merges.txt; vocab: rows of the model's embedding (ids must be below), or 0 for no check.
// NULL and err_set on failure. tok_close(NULL) is allowed. A tok may be used by several threads at once.
tok *tok_open(const char *dir, int vocab);
// tok_parse: the same from memory, with path as the DIR of messages.
tok *tok_parse(const char *vocab_json, size_t n_vocab, const char *merges, size_t n_merges, const char *path,
               int vocab);
void tok_close(tok *t);
// Appends the ids of text[0..bytes) to (*ids)[*n] (grown as needed, capacity *cap; start with NULL, 0, 0). No special
// tokens are added, and none is recognised in the text. 0, or -1 and err_set.
// Merges are done in the order of the `tokenizers` library: the pair of lowest rank first, of equal ones the leftmost.
int tok_encode(const tok *t, const char *text, size_t bytes, int32_t **ids, int *n, int *cap);
// Bytes of one id (into the tok; a zero follows, but zeros may be inside). Special tokens (<s>, <pad>, </s>, <unk>)
// give their names; an id without a symbol (a row that pads the embedding) has none: "", *n = 0.
const char *tok_bytes(const tok *t, int32_t id, size_t *n);
// Text of a sequence, without special tokens; zero-terminated, caller frees.
char *tok_decode(const tok *t, const int32_t *ids, int n);
int32_t tok_id(const tok *t, const char *symbol);  // e.g. "</s>"; -1: not there
int tok_size(const tok *t);                        // largest id + 1
const char *tok_hash(const tok *t);                // 32 hex digits of vocab.json and merges.txt

// Learns a byte-level BPE of `size` ids (0-3 <s> <pad> </s> <unk>, the 256 byte symbols by code point, then merges)
// from text and writes DIR/vocab.json and DIR/merges.txt as the `tokenizers` library loads them. Deterministic: the
// most frequent pair is merged first, of equally frequent ones that with the smaller left id, then the smaller right
// id. A pair seen once is never merged. -1 and err_set: size below 260, too little text for so many ids, or the files
// cannot be written.
int bpe_train(const char *text, size_t bytes, int size, const char *dir);
