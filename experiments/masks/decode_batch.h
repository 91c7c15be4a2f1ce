// decode_batch - the masks that a batch of sequences runs under when each has a mask of its own, and the bytes that its
// next step reads for them (METHOD 8).
//
//   own    each sequence runs its own units
//   union  each runs all units that any of the batch runs: another mask, of more units; no weight is read for it that
//          the own masks do not read together
//   auto   heads and neurons apart: the union where it reads no more bytes than the own masks do
//
// Bytes of a kind: let c_i be the units of sequence i, c those of the union, and w the bytes of a unit's weights. One
// list reads w c, lists of their own w (c_1 + ... + c_n). For heads each sequence adds K and V of t_i tokens of its
// own heads, or under the union of the union's. So neurons of a union are free, and heads are free where lists of their
// own read more weights twice than the union adds of K and V.
#pragma once
#include "mask.h"

typedef enum { BATCH_OWN, BATCH_UNION, BATCH_AUTO } batch_masks;
extern const char *const batch_masks_names[];  // "own", "union", "auto", NULL

// A step of n sequences that is to come.
typedef struct {
    const model *m;
    const mask *const *mask;  // [n]; NULL: all units
    const int *tokens;        // [n] of each sequence, that of the step counted
    int n;
    kv_policy kv;
    bool own_lists;  // RUN_OWN_LISTS
} batch_step;

// Bytes of the weights of a kind of units, K and V maps with the heads; of K and V of the live heads.
double batch_weight_bytes(const batch_step *s, unit_kind kind);
double batch_kv_bytes(const batch_step *s);
// out (mask_alloc): every unit that any of the sequences runs.
void batch_union(mask *out, const batch_step *s);
// Whether the step reads no more bytes of a kind if every sequence runs what `all`, their union, does.
bool batch_union_is_free(const batch_step *s, const mask *all, unit_kind kind);
