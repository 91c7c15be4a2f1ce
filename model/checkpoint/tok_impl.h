// tok_impl - what the files of the tokenizer share (tok.h): a vocabulary with its merges, and the steps from a text to
// the pieces that are merged. tok_files.c, tok_json.c and others fill a struct tok, tok_steps.c cuts a text,
// tok_merge.c merges.
#pragma once
#include "split.h"
#include "table.h"
#include "tok.h"

enum { TOK_MAX_ID = 1 << 24 };  // far beyond any vocabulary; keeps a wrong number from asking for all memory

typedef struct {
    char *key;          // as in the file; NULL: no such id. Owned, with its bytes
    const char *bytes;  // what it stands for; a zero follows
    int n_key, n;
    bool special;  // not part of a decoded text
    bool alone;    // no merge has to make it: a special or added token, one byte
    bool outside;  // an added token that is no symbol of the merges
} symbol;

// A token that is looked for in a text before anything else.
typedef struct {
    char *text;
    size_t bytes;
    int32_t id;
    bool single_word, lstrip, rstrip;
} added_token;
typedef struct {
    added_token *t;  // longest first, after tok_finish
    int n, cap;
    bool begins[256];  // with this byte one of them begins
} added_tokens;

typedef enum { NORM_NFC, NORM_PREPEND, NORM_REPLACE } text_norm;
typedef struct {
    text_norm kind;
    split_rule *what;  // REPLACE: what is replaced
    char *by;          // REPLACE, PREPEND
} norm_step;

// What becomes of the matches of a cut (names of the `tokenizers` library).
typedef enum { CUT_REMOVED, CUT_ISOLATED, CUT_MERGED_WITH_PREVIOUS, CUT_MERGED_WITH_NEXT, CUT_CONTIGUOUS } cut_kind;
typedef enum { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } prefix_rule;
// A step puts a prefix before its pieces, replaces one text by another in them, and cuts them; each may be left out.
typedef struct {
    char *prefix;  // PREFIX_FIRST: of the piece with which the text begins
    prefix_rule when;
    split_rule *space;  // replaced by prefix before the rest (Metaspace)
    split_rule *rule;   // cuts
    cut_kind cut;
    bool invert;  // matches are what the rule leaves
} piece_step;

struct tok {
    char *path, *merges_path;  // for messages
    int size, cap;             // of sym
    symbol *sym;
    str_table by_key;  // key -> id
    str_table whole;   // piece -> id, for the pieces that become one id
    u64_table ranks;   // pair of ids -> rank
    int32_t *result;   // of each rank
    int n_merges, cap_merges;
    added_tokens raw, normalized;  // looked for before the normalizer and after it
    norm_step *norm;
    int n_norm;
    piece_step *step;
    int n_step;
    bool byte_level;     // symbols stand for bytes, as GPT-2's; else for characters
    bool all_bytes;      // such a vocabulary must have all 256
    bool ignore_merges;  // a piece that is a symbol is not cut
    bool byte_fallback;  // a character without a symbol becomes its bytes <0x00>..<0xFF>
    bool fuse_unk;
    int32_t unk;           // -1: such a character is dropped
    int32_t byte_id[256];  // -1: there is no such symbol
    bool drops_space;      // decoding drops the space that a step or the normalizer put first
    int32_t bos, eos, begin;
    char hash[33];
};

// ---------------------------------------------------------------- filling
tok *tok_new(char *path, char *merges_path);  // takes both
// Room for ids below `size`.
void tok_reserve(tok *t, int size);
// The symbol of an id, whose bytes follow from the key and byte_level. -1 and err_set: the id or the key is there.
int tok_put(tok *t, int32_t id, const char *key, size_t n);
void tok_special(tok *t, int32_t id, bool special);  // it is a token of its own
bool tok_looks_special(const char *key, size_t n);   // by its name, as <s> or [PAD]
// Whether an id of a file can be one. 0; -1 and err_set: it cannot; 1: it lies in the rows by which some models pad
// their vocabulary beyond the `rows` of the embedding (0: any), and is left out.
int tok_check_id(const char *key, size_t n, int64_t id, int rows);
// The merge of the next rank.
int tok_put_merge(tok *t, const char *a, size_t n_a, const char *b, size_t n_b);
// Adds a step that cuts as GPT-2 does.
void tok_cut_as_gpt2(tok *t, const char *prefix);
piece_step *tok_add_step(tok *t);
norm_step *tok_add_norm(tok *t, text_norm kind);
void tok_look_for(added_tokens *a, added_token x);  // takes x.text
void tok_order_added(added_tokens *a);
// Normalizes the texts of tokens that are looked for in normalized text, after all of them and the normalizer.
int tok_normalize_added(tok *t);
// After all symbols and merges: bytes, table of whole pieces, and what shows that the parts do not belong together.
int tok_finish(tok *t);

tok *tok_parse_json(const char *json, size_t n, const char *path, int vocab);  // tokenizer.json; path: of the folder

// ---------------------------------------------------------------- merging
typedef struct {
    int32_t *id, *prev, *next;  // [cap] a linked list of symbols; id -1: merged into its left neighbour
    uint64_t *heap;             // [3 cap] rank << 32 | position of the left symbol
    int cap, n_heap;
} merge_scratch;
void merge_reserve(merge_scratch *s, int n);  // room for n symbols in s->id
void merge_symbols(const tok *t, merge_scratch *s, int n);
void merge_free(merge_scratch *s);

// ---------------------------------------------------------------- text to pieces
// fn for each piece of a text that is well-formed UTF-8, in order: an added token (id >= 0), else text to be merged.
typedef int piece_fn(void *ctx, const char *piece, size_t bytes, int32_t id);
int tok_pieces(const tok *t, const char *text, size_t bytes, piece_fn *fn, void *ctx);
void tok_steps_free(tok *t);
