// decode_batch - unions of masks, bytes of a step. Contract in decode_batch.h.
#include "decode_batch.h"
#include <stdlib.h>
#include <string.h>

const char *const batch_masks_names[] = {"own", "union", "auto", NULL};

// The row of layer l in the mask of sequence i; NULL: all units.
static const uint8_t *row_of(const batch_step *s, int i, unit_kind kind, int l) {
    const model_config *c = &s->m->c;
    if (!s->mask[i]) return NULL;
    return kind == UNIT_HEADS ? s->mask[i]->heads + (size_t)l * (size_t)c->H
                              : s->mask[i]->neurons + (size_t)l * (size_t)c->F;
}

// Whether one list serves them all: own lists are made of masks that differ.
static bool one_list(const batch_step *s, unit_kind kind) {
    bool same = true;
    for (int i = 1; i < s->n && s->own_lists && same; i++) same = row_of(s, i, kind, 0) == row_of(s, 0, kind, 0);
    return same;
}

// Units of layer l whose weights are read, of sequence i or, i < 0, of any: heads, neurons, or KV heads.
typedef enum { PART_HEADS, PART_NEURONS, PART_KV } part;

static bool runs_unit(const batch_step *s, int i, part p, int l, int k) {
    const model_config *c = &s->m->c;
    const uint8_t *row = row_of(s, i, p == PART_NEURONS ? UNIT_NEURONS : UNIT_HEADS, l);
    if (!row) return true;
    if (p != PART_KV) return row[k];
    bool live = false;
    const int heads = model_units(c, l, UNIT_HEADS);
    for (int h = 0; h < heads; h++) live |= model_kv_head(c, l, h) == k && row[h];
    return live;
}

static int part_units(const batch_step *s, part p, int l) {
    const model_config *c = &s->m->c;
    if (p == PART_KV) return model_kv_units(c, l);
    return model_units(c, l, p == PART_HEADS ? UNIT_HEADS : UNIT_NEURONS);
}

static long count(const batch_step *s, int i, part p, int l) {
    const int units = part_units(s, p, l);
    long n = 0;
    for (int k = 0; k < units; k++) {
        bool any = i >= 0 && runs_unit(s, i, p, l, k);
        for (int j = 0; j < s->n && i < 0 && !any; j++) any = runs_unit(s, j, p, l, k);
        n += any;
    }
    return n;
}

// How often the weights of a layer's part are read: 1, all of them once.
static double share_read(const batch_step *s, part p, int l, bool one) {
    const int units = part_units(s, p, l);
    if (units == 0) return 0;
    if (p == PART_KV && s->kv == KV_COMPUTE) return 1;
    if (one) return (double)count(s, -1, p, l) / units;
    bool dense = false;
    long n = 0;
    for (int i = 0; i < s->n; i++) {
        dense |= !s->mask[i];  // those without a mask read the weights together
        n += s->mask[i] ? count(s, i, p, l) : 0;
    }
    return (double)(n + (dense ? units : 0)) / units;
}

double batch_weight_bytes(const batch_step *s, unit_kind kind) {
    const bool one = one_list(s, kind);
    double bytes = 0, of[OWNERS];
    for (int l = 0; l < s->m->c.L; l++) {
        model_layer_bytes(s->m, l, of);
        if (kind == UNIT_NEURONS)
            bytes += share_read(s, PART_NEURONS, l, one) * of[OWNER_NEURON];
        else
            bytes +=
                share_read(s, PART_HEADS, l, one) * of[OWNER_HEAD] + share_read(s, PART_KV, l, one) * of[OWNER_KV_HEAD];
    }
    return bytes;
}

double batch_kv_bytes(const batch_step *s) {
    double bytes = 0;
    for (int l = 0; l < s->m->c.L; l++)
        for (int i = 0; i < s->n; i++)
            bytes += 2.0 * (double)count(s, i, PART_KV, l) * s->tokens[i] * s->m->c.D * (double)sizeof(float);
    return bytes;
}

void batch_union(mask *out, const batch_step *s) {
    const model_config *c = &s->m->c;
    const size_t units = (size_t)c->L * (size_t)(c->H + c->F);
    memset(out->heads, 0, units);
    for (int i = 0; i < s->n; i++) {
        if (!s->mask[i]) mask_fill(out, c);
        for (size_t k = 0; k < (size_t)c->L * (size_t)c->H && s->mask[i]; k++) out->heads[k] |= s->mask[i]->heads[k];
        for (size_t k = 0; k < (size_t)c->L * (size_t)c->F && s->mask[i]; k++)
            out->neurons[k] |= s->mask[i]->neurons[k];
    }
}

bool batch_union_is_free(const batch_step *s, const mask *all, unit_kind kind) {
    const mask **every = xcalloc((size_t)s->n, sizeof *every);
    for (int i = 0; i < s->n; i++) every[i] = all;
    batch_step together = *s;
    together.mask = every;
    double own = batch_weight_bytes(s, kind), shared = batch_weight_bytes(&together, kind);
    if (kind == UNIT_HEADS) own += batch_kv_bytes(s), shared += batch_kv_bytes(&together);
    free(every);
    return shared <= own;
}
