// tok - a tokenizer: byte-pair encoding as today's checkpoints have it. Its files are, the first that is there:
//
// tokenizer.json, as the `tokenizers` library writes it: normalizers NFC, Prepend, Replace, Sequence; pre-tokenizers
// Split, Digits, ByteLevel, Metaspace, Sequence; BPE with byte_fallback and ignore_merges; added tokens, which are
// recognised in a text. Any other part is refused by name. The ids are the library's, on any text.
//
// vocab.json and merges.txt: GPT-2's byte-level BPE. Text is split by GPT-2's regular expression (PCRE2, Unicode); each
// piece's bytes are mapped to the 256 printable symbols and merged by rank. No special token is recognised in a text.
// Tokens of added_tokens.json have ids and names.
//
// Exact on any UTF-8; each byte of invalid UTF-8 is one symbol that is neither letter, digit nor space (METHOD 11.3).
// tokenizer_config.json, else special_tokens_map.json, says which tokens begin and end a text (METHOD 11.4).
#pragma once
#include "base.h"

typedef struct tok tok;

// vocab: rows of the model's embedding (ids must be below), or 0 for no check. Files that are whole and do not belong
// together are refused: a vocabulary whose symbols the merges do not make.
// NULL and err_set on failure. tok_close(NULL) is allowed. A tok may be used by several threads at once.
tok *tok_open(const char *dir, int vocab);
bool tok_there(const char *dir);  // the folder holds a file of a tokenizer
// tok_parse: vocab.json and merges.txt from memory, with path as the DIR of messages.
tok *tok_parse(const char *vocab_json, size_t n_vocab, const char *merges, size_t n_merges, const char *path,
               int vocab);
void tok_close(tok *t);
// Appends the ids of text[0..bytes) to (*ids)[*n] (grown as needed, capacity *cap; start with NULL, 0, 0). No special
// tokens are added. 0, or -1 and err_set.
// Merges are done in the order of the `tokenizers` library: the pair of lowest rank first, of equal ones the leftmost.
int tok_encode(const tok *t, const char *text, size_t bytes, int32_t **ids, int *n, int *cap);
// The same, and the names of special tokens in the text, as "</s>", are these tokens: of several that begin at one
// place the longest. (A tokenizer.json recognises its added tokens in any case.)
int tok_encode_special(const tok *t, const char *text, size_t bytes, int32_t **ids, int *n, int *cap);
// Bytes of one id, a space where SentencePiece has U+2581 (into the tok; a zero follows, but zeros may be inside).
// Special tokens (<s>, <pad>, </s>, <unk>) give their names; an id without a symbol (a row that pads the embedding) has
// none: "", *n = 0.
const char *tok_bytes(const tok *t, int32_t id, size_t *n);
// Text of a sequence, without special tokens; zero-terminated, caller frees.
char *tok_decode(const tok *t, const int32_t *ids, int n);
int32_t tok_id(const tok *t, const char *symbol);  // e.g. "</s>"; -1: not there
int tok_size(const tok *t);                        // largest id + 1
int32_t tok_bos(const tok *t);                     // the token that begins a text, as the files call it; -1: none
int32_t tok_eos(const tok *t);                     // that ends a text; -1: none is named
int32_t tok_begin(const tok *t);                   // what the tokenizer itself puts before a text; -1: nothing
const char *tok_hash(const tok *t);                // 32 hex digits of its files

// Learns a byte-level BPE of `size` ids (0-3 <s> <pad> </s> <unk>, the 256 byte symbols by code point, then merges)
// from text and writes DIR/vocab.json and DIR/merges.txt as the `tokenizers` library loads them. Deterministic: the
// most frequent pair is merged first, of equally frequent ones that with the smaller left id, then the smaller right
// id. A pair seen once is never merged. -1 and err_set: size below 260, too little text for so many ids, or the files
// cannot be written.
int bpe_train(const char *text, size_t bytes, int size, const char *dir);
