// predictor - small nets that map a hidden state to the scores of units: what a contextual mask is made from (METHOD
// 5).
//
// A predictor file (HDF5) holds, per criterion, the nets of one design, what they were trained on and how well they
// did. Designs:
//   shadow     one net for all layers, from a state of one early layer: E -> hidden -> L * U (b1e, b1eL)
//   dejavu     one net per layer: E -> hidden -> U, from the same layer's state (lag 0) or an earlier layer's (lag 1:
//              look-ahead)
//   lowrank    one linear pair without bias or ReLU per layer, trained as a classifier of the top k (DejaVu's own)
//   sequence   one net for all layers after self-attention over the token embeddings of the whole context (ble)
// Inputs are min-max normalised to [0, 1] here, by the predictor, never by the caller (but predictor_layer_raw). A
// larger score means: keep the unit.
#pragma once
#include "mode.h"
#include "model.h"

typedef enum { PREDICTOR_SHADOW, PREDICTOR_DEJAVU, PREDICTOR_LOWRANK, PREDICTOR_SEQUENCE } predictor_design;
extern const char *const predictor_design_names[];  // "shadow", "dejavu", "dejavu-lowrank", "sequence"

typedef struct predictor predictor;

typedef struct {
    predictor_design design;
    bool per_layer;                 // dejavu, lowrank: net of layer l reads the state of layer l - lag
    bool target_layer;              // targets were normalised per layer, so scores compare within layers first
    mode_kind mode;                 // of the scores and features it was trained on; compat: by the published settings
    int lag, from;                  // from: the layer whose state a net for all layers reads
    model_state state[UNIT_KINDS];  // read by the nets of heads, of neurons
    bool has[UNIT_KINDS];           // nets for heads, for neurons
    int L, H, E, F;
    int A;                   // width of a layer's head outputs side by side; 0: E
    int hidden[UNIT_KINDS];  // of the nets of heads, of neurons
    const char *criterion;
    dtype weights;  // that it runs with (predictor_narrow)
    char hash[33];  // of the nets' numbers and this description
} predictor_info;
// The first kind that it has nets for.
static inline unit_kind predictor_first_kind(const predictor_info *a) {
    return a->has[UNIT_HEADS] ? UNIT_HEADS : UNIT_NEURONS;
}
// Numbers of a state that nets read.
static inline int predictor_width(const predictor_info *a, model_state state) {
    return state == STATE_HEAD_OUTPUT && a->A ? a->A : a->E;
}

// The nets of one criterion, checked against the model (shape and m->file.hash, which ckpt_hash or ckpt_check_values
// has filled). NULL and err_set: missing, damaged, of another model, or without this criterion (the ones that are there
// are listed). criterion NULL: the only one in the file.
predictor *predictor_open(const char *path, const char *criterion, const model *m);
// The criteria in a predictor file, sorted; one block: free the array. NULL and err_set: missing, or not made by
// bin/train.
char **predictor_criteria(const char *path, int *n);
void predictor_close(predictor *p);  // NULL allowed
// Untrained nets of a description (hash ignored; criterion may be NULL): what training begins with, and enough to
// measure time.
predictor *predictor_new(const predictor_info *what, uint64_t seed);
// The same with weights of a type in the memory of a device (its first part), drawn there by its own generator (ops.h:
// random). NULL and err_set: no room.
predictor *predictor_new_on(const predictor_info *what, uint64_t seed, dtype type, const ops *o);
const predictor_info *predictor_about(const predictor *p);

// From now on the nets predict with weights of this type (of 16 bits, or DT_Q8_0: matrices in blocks, on the CPU only)
// and can only predict. A file stays fp32. -1 and err_set: a weight beyond the type's range; the nets are as they were.
int predictor_narrow(predictor *p, dtype type);

// Moves the nets to another device, where they predict from then on (its first part). 0, or -1 and err_set: it has too
// little room.
int predictor_place(predictor *p, const ops *o);
const ops *predictor_on(const predictor *p);  // the device

// ---------------------------------------------------------------- scores in memory of the predictor's device, of one
// kind: 0 heads, 1 neurons By the designs that read a state x [E] (of any part): of all layers [L, U] (layer -1) by
// shadow, of one layer [U] by those with a net per layer. Layers before `lag` have no net: their scores are 0. raw: x
// is not normalised, the published fault of dejavu's global and hybrid masks (METHOD 6.7, 10.2), for compat.
void predictor_score(predictor *p, unit_kind kind, int layer, const float *x, bool raw, float *score);
// By a ticket (ops.h: join) from when on the last x of the kind may be written again.
long predictor_read(const predictor *p, unit_kind kind);
// By sequence, of all layers, score [UNIT_HEADS] and [UNIT_NEURONS] (NULL: not wanted), from the tokens of a context; m
// is on the same device.
void predictor_score_context(predictor *p, const model *m, const int32_t *tokens, int T,
                             float *const score[UNIT_KINDS]);

// ---------------------------------------------------------------- scores in host memory, by a predictor on the CPU
// Token embeddings [T, E] in host memory, as the model's first layer gets them but for the positions: what sequence
// reads.
void predictor_embed(float *x, const model *m, const int32_t *tokens, int T);
// The same in memory of the model's device, of the tokens of spans, id [rows], x [rows, E]; narrow: room for [rows, P]
// where the model projects its embeddings, else NULL.
void predictor_embed_rows(float *x, float *narrow, const model *m, const int32_t *id, const span *s, int n);
// Scores of all layers, heads [L, H] and neurons [L, F] (NULL: not wanted), of the designs that have one net for all
// layers. x: the state [E] of shadow (heads and neurons each read their own state: x[0], x[1]); of sequence the token
// embeddings [T, E], x[0].
void predictor_all(predictor *p, const float *const x[UNIT_KINDS], int T, double *heads, double *neurons);
// Scores of one layer, heads [H] and neurons [F] (NULL: not wanted), of the designs with a net per layer; _raw: as
// predictor_score.
void predictor_layer(predictor *p, int layer, const float *const x[UNIT_KINDS], double *heads, double *neurons);
void predictor_layer_raw(predictor *p, int layer, const float *const x[UNIT_KINDS], double *heads, double *neurons);

// Multiply-adds, and bytes of weights read, of one prediction of all layers, of each kind.
void predictor_cost(const predictor *p, double macs[UNIT_KINDS], double bytes[UNIT_KINDS]);
// The same of nets that are described only, without memory for their weights.
void predictor_cost_of(const predictor_info *what, double macs[UNIT_KINDS], double bytes[UNIT_KINDS]);
