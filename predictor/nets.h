// nets - the inside of a predictor, for those who train and write it. Layout of the file (HDF5, readable by h5py):
//   root attributes: what was trained, from what, by which command
//   /documents: which documents the store's scores have seen, see documents.h
//   /predictors/<criterion>: attribute hash
//   /predictors/<criterion>/<heads|neurons>: attributes hidden, inputs and state; per net (the group itself where one
//   net serves all layers, else layer_000, ..): fc1.weight [hidden, E], fc1.bias [hidden], fc2.weight [outputs,
//   hidden], fc2.bias, as of PyTorch's Linear
#pragma once
#include "net.h"
#include "predictor.h"
#include "store.h"

#define PREDICTOR_FORMAT "opt unit predictor 1"
// names of model_state as in a store: "head_output", "residual", "residual_mid"
extern const char *const predictor_states[];

struct predictor {
    predictor_info about;
    char *criterion;
    int n;                 // nets of a kind: 1, or L - lag
    net *net[UNIT_KINDS];  // [n] of heads, of neurons
    const ops *o;          // whose memory w, narrow and work are
    float *w;              // all parameters
    void *narrow;          // or, instead of w, all in about.weights (net_put)
    net_work work[UNIT_KINDS];
    long read[UNIT_KINDS];  // predictor_read
};

// layers before it have no scores
static inline int predictor_first(const predictor_info *a) { return a->per_layer ? a->lag : 0; }
static inline int predictor_units(const predictor_info *a, unit_kind kind) { return kind == UNIT_HEADS ? a->H : a->F; }
void predictor_shape(net *n, const predictor_info *a, unit_kind kind);  // of each net of a kind
// Fills about.hash from the nets and the description.
void predictor_hash(predictor *p);
// Writes /predictors/<criterion> and the root attributes that predictor_open reads; 0, or -1 and err_set.
int predictor_put(store *s, const predictor *p);
int predictor_put_about(store *s, const predictor_info *a, const char *model_hash);
// Path of one net's group; caller frees.
char *predictor_group(const predictor_info *a, const char *criterion, unit_kind kind, int layer);
