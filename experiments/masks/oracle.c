// oracle - mask source of the exact removal scores of one input (criteria/removal.h). Contract in mask.h; METHOD 6.5.
#include "mask.h"
#include "removal.h"
#include <stdlib.h>
#include <string.h>

struct oracle {
    const model *m;
    int first_layer;
    model_run *intact;  // of inputs of at most room tokens
    int room;
    removal *removal;
};

oracle *oracle_new(const model *m, int first_layer) {
    oracle *o = xmalloc(sizeof *o);
    *o = (oracle){.m = m, .first_layer = first_layer, .removal = removal_new(m, m->c.positions)};
    return o;
}

void oracle_free(oracle *o) {
    if (!o) return;
    model_run_free(o->intact);
    removal_free(o->removal);
    free(o);
}

// Grows with the inputs: it keeps every layer's arrays, and a model may have many more positions than they have tokens.
static model_run *run_of(oracle *o, int n) {
    const int P = o->m->c.positions, more = o->room < P / 2 ? 2 * o->room : P;
    if (o->intact && n <= o->room) return o->intact;
    model_run_free(o->intact);
    o->room = n > more ? n : more;
    return o->intact = model_run_new(o->m, o->room, 1, RUN_TAPS);
}

static int oracle_scores(void *self, const model_seq *input, unsigned units, double *heads, double *neurons) {
    oracle *o = self;
    const model_config *c = &o->m->c;
    double *const score[UNIT_KINDS] = {[UNIT_HEADS] = heads, [UNIT_NEURONS] = neurons};
    model_run *intact = run_of(o, input->n);
    model_forward(intact, input, 1);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        const size_t U = (size_t)model_all_units(c, kind);
        memset(score[kind], 0, (size_t)c->L * U * sizeof *score[kind]);
        for (int l = o->first_layer; units & 1u << kind && l < c->L; l++)
            removal_layer(o->removal, input, l, kind, model_tap_res(intact, l), score[kind] + (size_t)l * U);
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
