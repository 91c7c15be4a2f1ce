// compact - a physically smaller model, without the heads and neurons that a mask drops: as a checkpoint, or in memory.
#pragma once
#include "model.h"

// Writes the checkpoint (config.json, model.safetensors) of `from` without what `keep` drops into the folder dir:
// tensors lose the rows or columns that belong to dropped units (arch.h). Biases of what is added to the residual stay:
// a dropped unit puts out 0 and nothing else changes (METHOD 2.3), so the outputs are those of `from` under the mask.
// One tensor is in memory at a time. type: of the weights written, COMPACT_AS_STORED: each its own. Where every unit is
// kept, and where every layer keeps equally many (of OPT and GPT-NeoX all heads; else heads in equal groups), it is an
// ordinary one, which transformers loads: a Llama whose E is no multiple of the heads left as a Mistral, if it has no
// biases.
// 0, or -1 and err_set (a weight outside the range of fp16, a full disk).
enum { COMPACT_AS_STORED = -1 };
//
// form COMPACT_ZEROED: a checkpoint of the source's shape instead, in which all weights and biases of dropped units are
// 0 (of a K/V head: where no kept head reads it). Its outputs are the same, and all software of the source loads it.
typedef enum { COMPACT_SMALL, COMPACT_ZEROED } compact_form;
//
// means (NULL: none): [UNIT_KINDS] of arrays [L, H D], [L, F], what dropped units put out instead of 0: the biases of
// the matrices that read them get what these add, the mean of each dropped value times its column. Where layers have no
// such biases they get them, and zeros for those that transformers would expect beside (attention_bias, mlp_bias).
int compact_save(const char *dir, const ckpt *from, const mask *keep, const double *const *means, int type,
                 compact_form form);

// The same model in the memory of the CPU; what it has unchanged it shares with `from`, which must outlive it.
typedef struct {
    model m;
    tensor *t;
    int n;
    void **owned;
    int n_owned, cap_owned;
} compact_model;
// Biases that hold means are fp32.
void compact_make(compact_model *out, const ckpt *from, const mask *keep, const double *const *means);
// From the weights that a model on the CPU runs with, where they are not the checkpoint's (model_weights.h); blocks
// become fp32.
void compact_make_of(compact_model *out, const model *m, const mask *keep, const double *const *means);
void compact_free(compact_model *c);
// of its weights in their stored type, and of their fp32 copy where model_load would make one
size_t compact_bytes(const ckpt *from, const mask *keep);
