// gguf - llama.cpp's checkpoints in one file: metadata, a list of tensors, their data, each tensor aligned
// (https://github.com/ggml-org/ggml, docs/gguf.md; versions 2 and 3, little endian). Every count, offset and text is
// checked against the file.
//
// Tensors come as F32, F16, BF16 or in blocks of 32 or 256 numbers that share scales: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1,
// Q4_K, Q5_K, Q6_K. Architectures llama, qwen2 and qwen3 become a configuration and tensors under the names of Hugging
// Face's files. Matrices in blocks of Q8_0, Q4_0, Q4_1 and Q4_K stay as they are, in the file; other blocks are widened
// to fp32. llama.cpp's converter moves the rows of q and k of architecture llama; they are moved back, in a copy.
#pragma once
#include "ckpt.h"
#include "tok.h"

// One entry of the metadata. A text or an array: its length in count, its first byte in at.
typedef struct {
    const char *key;
    size_t n_key;
    int type, item;  // item: type of an array's items
    uint64_t count;
    const uint8_t *at;
} gguf_entry;
typedef struct {
    char *name;
    int rank, type;
    int64_t dim[4];  // the first is contiguous
    const uint8_t *data;
} gguf_tensor;
typedef struct {
    const char *path;
    gguf_entry *entries;
    gguf_tensor *tensors;
    int n_entries, n_tensors;
} gguf;

// The file of a model's folder, or the file that `dir` is; caller frees. NULL: there is none, or *bad and err_set.
char *gguf_find(const char *dir, int *bad);
// Reads metadata and list; all point into bytes. 0, or -1 and err_set. gguf_free is safe on {0}.
int gguf_parse(gguf *g, const uint8_t *bytes, size_t n, const char *path);
void gguf_free(gguf *g);

// The metadata as a config.json of Hugging Face (model_config_parse); caller frees. NULL and err_set.
char *gguf_config(const gguf *g);
// The tensors as of a safetensors file; data point into the file, or are copies (made) where numbers are widened or
// rows move. Freed with tensors_free.
int gguf_tensors(const gguf *g, tensor **tensors, int *n);
// Both at once of a file in memory, into which tensors' data may point. 0, or -1 and err_set.
int gguf_load(const uint8_t *bytes, size_t n, const char *path, model_config *config, tensor **tensors, int *n_tensors);
// The tokenizer in tokenizer.ggml.*; vocab as of tok_open.
tok *gguf_tok(const gguf *g, int vocab);
tok *gguf_tok_open(const char *file, int vocab);
// The same, and the name of its pre-tokenizer ("" where there is none; caller frees).
tok *gguf_tok_named(const char *file, int vocab, char **pre);
// Writes it as DIR/tokenizer.json and DIR/tokenizer_config.json.
int gguf_export_tok(const char *file, const char *dir);
// The expressions of the pre-tokenizers llama-bpe and qwen2.
extern const char gguf_llama3_regex[], gguf_qwen2_regex[];

// ---------------------------------------------------------------- metadata by key
const gguf_entry *gguf_entry_of(const gguf *g, const char *key);  // or NULL
bool gguf_is_array(const gguf_entry *e);
// A whole number, of any width; absent: preset. -1 and err_set: another type, or outside [min, max]; a missing one is
// outside where preset is.
int gguf_int(const gguf *g, const char *key, int64_t preset, int64_t min, int64_t max, int64_t *out);
// A finite number; true or false. -1 and err_set: something else.
int gguf_float(const gguf *g, const char *key, double preset, double *out);
int gguf_bool(const gguf *g, const char *key, bool preset, bool *out);
char *gguf_text(const gguf *g, const char *key);  // a copy; NULL: absent or no text
// The next item of an array of texts; at: its place, e->at for the first.
const char *gguf_next_text(const uint8_t **at, size_t *n);

// ---------------------------------------------------------------- numbers
// GGUF's number of a type, and the type of a number (-1: it is widened).
int gguf_type_of(dtype t);
int gguf_dtype(int type);
// Name of a tensor type, numbers and bytes of its blocks. False: it is none that can be read.
bool gguf_type(int type, const char **name, int *numbers, int *bytes);
// Widens n numbers (whole blocks) to fp32, as llama.cpp's dequantize_row_* do.
void gguf_widen(float *to, const uint8_t *from, int type, size_t n);
// The first block of whose scales one is NaN or infinite, of n numbers of a type in blocks; or the number of blocks.
size_t gguf_bad_block(const uint8_t *from, dtype type, size_t n);
