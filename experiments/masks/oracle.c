// oracle - mask source of the exact removal scores of one input (criteria/removal.h). Contract in mask.h; METHOD 6.5.
#include "mask.h"
#include "removal.h"
#include <stdlib.h>
#include <string.h>

struct oracle {
    const model *m;
    int first_layer;
    model_run *intact;
    removal *removal;
};

oracle *oracle_new(const model *m, int first_layer) {
    oracle *o = xmalloc(sizeof *o);
    *o = (oracle){.m = m,
                  .first_layer = first_layer,
                  .intact = model_run_new(m, m->c.positions, 1, RUN_TAPS),
                  .removal = removal_new(m, m->c.positions)};
    return o;
}

void oracle_free(oracle *o) {
    if (!o) return;
    model_run_free(o->intact);
    removal_free(o->removal);
    free(o);
}

static int oracle_scores(void *self, const model_seq *input, unsigned units, double *heads, double *neurons) {
    oracle *o = self;
    const model_config *c = &o->m->c;
    double *const score[UNIT_KINDS] = {[UNIT_HEADS] = heads, [UNIT_NEURONS] = neurons};
    model_forward(o->intact, input, 1);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        const size_t U = (size_t)model_all_units(c, kind);
        memset(score[kind], 0, (size_t)c->L * U * sizeof *score[kind]);
        for (int l = o->first_layer; units & 1u << kind && l < c->L; l++)
            removal_layer(o->removal, input, l, kind, model_tap_res(o->intact, l), score[kind] + (size_t)l * U);
    }
    return 0;
}

mask_source oracle_source(oracle *o) { return (mask_source){.scores = oracle_scores, .self = o, .uses_label = true}; }

double oracle_cost(const model_config *c, int first_layer, unsigned units, int n) {
    double passes = 0;
    for (int l = first_layer; l < c->L; l++) {
        int removed = 0;
        for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
            if (units & 1u << kind) removed += model_units(c, l, kind);
        passes += removed * (double)(c->L - l) / c->L;
    }
    return n * (1 + passes);
}
