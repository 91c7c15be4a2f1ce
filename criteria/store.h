// store - the HDF5 file of scores and features (and of their aggregates): reading, and writing whole or not at all.
//
// Layout, readable by h5py (criteria/FILES.md has shapes, types and units): root attributes say what made the file
// (model, hashes, options, seed, mode, shots, code, device, date);
//   /examples/{id, task, tokens, offset, context_length, loss}       one row per example, by task, then by the seeded
//                                                                    order
//   /features[_compat]/{head_output, residual, residual_mid} [N, L, E]
//   /scores[_compat]/<criterion>/{heads [N, L, H], neurons [N, L, F]}, `index` (rows of the store) beside scores of
//   some examples only, {heads, neurons}_scale [N] beside 16-bit scores: value = stored * scale
//   /task_scores[_compat]/<task>/<criterion>/{heads [L, H], neurons [L, F]}; of a pooled criterion (flap) also
//   {heads, neurons}_{mean, variance} [L, A], [L, F] of units' values over so many `tokens`, see moments.h
//   /squared_norms/{heads [L, A], neurons [L, F]} of the columns of Wo, W2, where a criterion is pooled
//   /tasks/<task>: attributes only: split, files, hash, number of examples
//   /documents/<task>/<split>/id: documents scored or shown as few-shot examples, see documents.h
//   /aggregates[_compat]/<task or all>/<criterion>/{heads, neurons}  written by bin/aggregate, see aggregate_main.c
// For a compacted model (ckpt.h) the root attributes heads_per_layer and neurons_per_layer list how many units each
// layer has; scores of the others are NaN. The suffix _compat marks the published formulas. Score datasets are chunked
// by rows, shuffled, deflated.
#pragma once
#include "base.h"
#include "mode.h"

typedef struct store store;  // an open file

// ---------------------------------------------------------------- aggregates, for whoever prunes by them
typedef struct {
    int L, H, F;
    double *heads, *neurons;  // [L, H], [L, F]; NULL where the criterion has no such score
    char hash[33];            // of these numbers
    char *model_hash;         // of the model that was scored
} store_aggregate;
// The aggregate of one criterion over one task or "all". 0, or -1 and err_set, which lists the names that are there. A
// path that holds a store without aggregates says so. store_aggregate_free is safe on {0}.
int store_read_aggregate(store_aggregate *a, const char *path, mode_kind mode, const char *task, const char *criterion);
void store_aggregate_free(store_aggregate *a);

// ---------------------------------------------------------------- reading
// NULL and err_set: missing, not HDF5, damaged, or not made by bin/score or bin/aggregate
store *store_open(const char *path);
// A file of another kind, told by its root attribute `format`; maker is the program that error messages name.
store *store_open_as(const char *path, const char *format, const char *maker);
void store_close(store *s);  // NULL allowed; a file being written is thrown away
const char *store_path(const store *s);
bool store_has(const store *s, const char *object);
// Dimensions of a dataset; the number of them (0..3), or -1 and err_set.
int store_shape(const store *s, const char *dataset, long dim[3]);
// Names in a group, sorted; NULL-terminated, one block: free the array. An absent group is empty.
char **store_list(const store *s, const char *group, int *n);
// Attribute of an object ("/" is the root) as text, numbers in decimal; NULL: not there. Caller frees.
char *store_attr(const store *s, const char *object, const char *key);
int store_attr_int(const store *s, const char *object, const char *key);  // 0 where it is missing
// Rows [row, row + n) of a dataset (scalar and one-dimensional ones too), 16-bit scores scaled. 0, or -1 and err_set.
int store_read(const store *s, const char *dataset, long row, long n, float *out);
int store_read_double(const store *s, const char *dataset, long row, long n, double *out);
int store_read_int64(const store *s, const char *dataset, long row, long n, int64_t *out);
// Text of fixed length, n of them and a NULL; caller frees each and the array. NULL and err_set.
char **store_read_names(const store *s, const char *dataset, long n);

typedef struct {
    int n;
    char **id, **task;  // [n]
    int32_t *tokens;    // all examples one after the other: example i is tokens[offset[i] .. offset[i+1])
    int64_t *offset;    // [n + 1]
    int32_t *context;   // [n] context tokens
    double *loss;       // [n]
} store_examples;
int store_read_examples(const store *s, store_examples *e);
void store_examples_free(store_examples *e);  // safe on {0}

// The list of root attribute `key` ("heads_per_layer", "neurons_per_layer"), L numbers from 0 to most; *list NULL: not
// there. Caller frees.
int store_read_units(const store *s, const char *key, int L, int most, int **list);

// ---------------------------------------------------------------- writing
// Everything goes to PATH.tmp; store_commit says of each dataset what it is (attributes, store_layout.c), syncs and
// renames, so that PATH is the old file or the whole new one. All return -1 and err_set (disk full, path not writable).
store *store_create(const char *path);  // store_check_out first
store *store_create_as(const char *path, const char *format);
// Says so and returns -1 where path is a folder or a file of another kind than this format, which would be lost.
int store_check_out(const char *path, const char *format);
store *store_create_memory(void);  // never on disk: to measure time and size of a store
int store_commit(store *s);        // closes s, whether it succeeds or not
long store_bytes(const store *s);  // size of the file so far
// attributes; makes the group if absent
int store_put_text(store *s, const char *object, const char *key, const char *text);
// whole numbers become integers
int store_put_number(store *s, const char *object, const char *key, double value);
int store_put_examples(store *s, const store_examples *e);
int store_put_doubles(store *s, const char *dataset, int rank, const long *dim, const double *values);
int store_put_floats(store *s, const char *dataset, int rank, const long *dim, const float *values);
// contiguous: for weights
int store_put_plain(store *s, const char *dataset, int rank, const long *dim, const float *values);
int store_put_bytes(store *s, const char *dataset, int rank, const long *dim, const uint8_t *values);
int store_put_int64(store *s, const char *dataset, long n, const int64_t *values);
int store_put_names(store *s, const char *dataset, int n, char *const *names);  // text, one dimension
// Copies one object of another file, groups with all they hold, and the attributes.
int store_copy(store *s, const store *from, const char *object);
int store_copy_attrs(store *s, const store *from, const char *object);

// A dataset [n, L, U] written row by row; a row comes from `old` (raw, not rescaled: the same bits) or from `get`.
typedef struct {
    const char *dataset;
    long n;
    int L, U;
    bool half;                                    // 16 bit, with a power-of-two scale per row in DATASET_scale
    int (*get)(void *ctx, long row, float *out);  // out [L, U]; 0, or -1 and err_set
    void *ctx;
    const store *old;        // may be NULL
    const int64_t *old_row;  // [n] row of the same dataset in `old`, or -1: ask `get`; NULL: always `get`
    const int *units;        // [L] how many of the U a layer has, the others being NaN; NULL: all
} store_rows;
// A value that is NaN or infinite is refused with its dataset, row, layer and unit. `lost`, or NULL: told the exact and
// the stored value of every fresh 16-bit row.
int store_put_rows(store *s, const store_rows *r,
                   void (*lost)(void *ctx, const float *exact, const float *stored, int L, int U));

// ---------------------------------------------------------------- one process at a time
// Locks PATH.lock (freed by the kernel when the process dies, however). The handle, or -1 and err_set: another process
// has it.
int store_lock(const char *path);
bool store_locked(const char *path);              // somebody has it now
void store_unlock(const char *path, int handle);  // removes PATH.lock
