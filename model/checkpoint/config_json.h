// config_json - values of a config.json by key, for the readers of each family (model_config.c, model_config_llama.c).
// Each returns 0, or -1 and err_set with file and key.
#pragma once
#include "ckpt.h"
#include <jansson.h>

#define CONFIG_MOST (1 << 24)  // of a size: a product of two sizes and an element still fits int64 with room to spare

// One whole number in [min, max]; an absent key (or null) gives `preset`, and is an error where preset is below min.
int config_int(const json_t *root, const char *path, const char *key, int preset, int min, int max, int *out);
// A number above 0; absent (or null): preset, and an error where that is 0.
int config_positive(const json_t *root, const char *path, const char *key, double preset, double *out);
int config_bool(const json_t *root, const char *path, const char *key, bool preset, bool *out);
// torch_dtype, or dtype, as transformers 5 calls it.
int config_dtype(const json_t *root, const char *path, dtype *out);
// A list of L whole numbers in [0, max]; absent: NULL. The caller frees it.
int config_list(const json_t *root, const char *path, const char *key, int L, int max, int **out);
void config_put_list(json_t *root, const char *key, const int *list, int n);

// Sizes: layers, heads, hidden size, neurons (by the key ffn), vocabulary, positions; those that differ from layer to
// layer; the type of the weights. A configuration that begins with them, to which a family puts its own keys (freed).
// The size of heads that share the hidden size.
int config_sizes(const json_t *root, const char *path, const char *ffn, model_config *c);
json_t *config_begin(const model_config *c, const char *class, const char *ffn);
void config_put(json_t *root, json_t *own);
int config_equal_heads(const char *path, model_config *c);
// Rotary positions: theta by its key, or as rope_parameters (transformers 5) or rope_scaling have it; an activation by
// its key, absent: preset; the ids of bos, eos and pad, each the first of a list, -1 where absent; and the writers.
int config_rope(const json_t *root, const char *path, const char *theta, rope_config *r);
int config_activation(const json_t *root, const char *path, const char *key, const char *preset, activation *act);
int config_special(const json_t *root, const char *path, model_config *c);
void config_put_special(json_t *root, const model_config *c);
void config_put_rope(json_t *root, const char *theta, const rope_config *r);

// The families' readers and writers of what follows "model_type".
int config_read_llama(const json_t *root, const char *path, model_config *c);
json_t *config_write_llama(const model_config *c);
int config_read_neox(const json_t *root, const char *path, model_config *c);
json_t *config_write_neox(const model_config *c);
