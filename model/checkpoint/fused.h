// fused - tensors that a family's checkpoints hold as one and its table as three (tensor_fused of arch.h): of every
// head its D rows of the first, then of the second, then of the third.
#pragma once
#include "ckpt.h"

// The parts of each such tensor in its place, in memory of the checkpoint's own; one whose rows are no multiple of a
// head's stays. The order of the tensors is lost.
void fused_split(ckpt *c);

// On saving: the tensors as a file has them, n of them, names and all freed with fused_end; and the data of one, good
// until the next call. The tensors t [n_t] that are fused go first through fill (NULL: they have data).
typedef struct {
    tensor *t;
    int n;
    // of each its parts; the first NULL: it is none of these
    const tensor *(*part)[3];
    tensor_fill *fill;
    void *ctx, *data;
    size_t D;
} fused;
void fused_begin(fused *f, const model_config *c, const tensor *t, int n_t, tensor_fill *fill, void *ctx);
const void *fused_data(fused *f, int i);
void fused_end(fused *f);
