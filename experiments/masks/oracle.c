// oracle - mask source of the exact removal scores: L(unit removed) - L of one input. Contract in mask.h; METHOD 4.7,
// 6.5. The layers below a unit do not see its removal, so its pass starts from the residual that enters its layer.
#include "mask.h"
#include "ops.h"
#include <stdlib.h>
#include <string.h>

enum { ORACLE_SEQS = 64 };

struct oracle {
    const model *m;
    int first_layer, max_tokens;
    model_run *intact, *removed;
    mask mask[ORACLE_SEQS];
    float *res;       // [max_tokens, E] device memory
    double *logprob;  // [max_tokens]
};

oracle *oracle_new(const model *m, int first_layer, int max_tokens) {
    oracle *o = xcalloc(1, sizeof *o);
    *o = (oracle){
        .m = m, .first_layer = first_layer, .max_tokens = max_tokens < m->c.positions ? m->c.positions : max_tokens};
    o->intact = model_run_new(m, m->c.positions, 1, RUN_TAPS);
    o->removed = model_run_new(m, o->max_tokens, ORACLE_SEQS, RUN_FORWARD);
    for (int i = 0; i < ORACLE_SEQS; i++) mask_alloc(&o->mask[i], &m->c);
    o->res = m->o->alloc((size_t)o->max_tokens * (size_t)m->c.E * sizeof *o->res);
    o->logprob = xmalloc((size_t)o->max_tokens * sizeof *o->logprob);
    return o;
}

void oracle_free(oracle *o) {
    if (!o) return;
    model_run_free(o->intact);
    model_run_free(o->removed);
    for (int i = 0; i < ORACLE_SEQS; i++) mask_free(&o->mask[i]);
    o->m->o->release(o->res);
    free(o->logprob);
    free(o);
}

static double mean_loss(const double *logprob, int n) {
    double s = 0;
    for (int t = 0; t < n; t++) s -= logprob[t];
    return s / n;
}

static void remove_each(oracle *o, const model_seq *input, int l, unit_kind kind, double loss, double *score) {
    const model_config *c = &o->m->c;
    const int U = model_all_units(c, kind), units = model_units(c, l, kind), targets = input->n - input->targets_from;
    int at_once = o->max_tokens / input->n < ORACLE_SEQS ? o->max_tokens / input->n : ORACLE_SEQS;
    for (int u = 0, k; u < units; u += k) {
        model_seq seq[ORACLE_SEQS];
        k = units - u < at_once ? units - u : at_once;
        for (int i = 0; i < k; i++) {
            (kind == UNIT_HEADS ? o->mask[i].heads : o->mask[i].neurons)[(size_t)l * (size_t)U + (size_t)(u + i)] = 0;
            seq[i] = *input;
            seq[i].mask = &o->mask[i];
        }
        model_forward_from(o->removed, seq, k, l, o->res);
        model_logprobs(o->removed, o->logprob, NULL, 0);
        for (int i = 0; i < k; i++) {
            score[(size_t)l * (size_t)U + (size_t)(u + i)] =
                mean_loss(o->logprob + (size_t)i * (size_t)targets, targets) - loss;
            (kind == UNIT_HEADS ? o->mask[i].heads : o->mask[i].neurons)[(size_t)l * (size_t)U + (size_t)(u + i)] = 1;
        }
    }
}

static int oracle_scores(void *self, const model_seq *input, unsigned units, double *heads, double *neurons) {
    oracle *o = self;
    const model_config *c = &o->m->c;
    const size_t floats = (size_t)input->n * (size_t)c->E;
    model_forward(o->intact, input, 1);
    model_logprobs(o->intact, o->logprob, NULL, 0);
    const double loss = mean_loss(o->logprob, input->n - input->targets_from);
    memset(heads, 0, (size_t)c->L * (size_t)c->H * sizeof *heads);
    memset(neurons, 0, (size_t)c->L * (size_t)c->F * sizeof *neurons);
    for (int l = o->first_layer; l < c->L; l++) {
        for (int i = 0; i < ORACLE_SEQS && (i + 1) * input->n <= o->max_tokens; i++)
            o->m->o->copy(o->res + (size_t)i * floats, model_tap_res(o->intact, l), floats * sizeof *o->res);
        if (units & UNITS_HEADS) remove_each(o, input, l, UNIT_HEADS, loss, heads);
        if (units & UNITS_NEURONS) remove_each(o, input, l, UNIT_NEURONS, loss, neurons);
    }
    return 0;
}

mask_source oracle_source(oracle *o) { return (mask_source){.scores = oracle_scores, .self = o, .uses_label = true}; }

double oracle_cost(const model_config *c, int first_layer, unsigned units, int n) {
    double passes = 0;
    for (int l = first_layer; l < c->L; l++)
        passes += ((units & UNITS_HEADS ? model_units(c, l, UNIT_HEADS) : 0) +
                   (units & UNITS_NEURONS ? model_units(c, l, UNIT_NEURONS) : 0)) *
                  (double)(c->L - l) / c->L;
    return n * (1 + passes);
}
