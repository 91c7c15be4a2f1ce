// removal - many variants of an input in each pass, each without another unit. Contract in removal.h.
#include "removal.h"
#include "ops.h"
#include <stdlib.h>
#include <string.h>

enum { VARIANTS = 256 };  // at most

struct removal {
    const model *m;
    model_run *run;  // forward only
    int max_tokens, variants;
    float *res;       // [max_tokens, E] residuals of the variants, device memory
    mask *mask;       // [variants] all units run, but for those in work
    model_seq *seq;   // [variants]
    double *logprob;  // [max_tokens]
};

// tokens of a batch of variants: enough to share products out, within 64 MB
static int room(const model *m, int max_tokens) {
    int most = (64 << 20) / (int)sizeof(float) / (m->c.F + 2 * m->c.E);
    if (most > 2048) most = 2048;
    return most > max_tokens ? most : max_tokens;
}

size_t removal_bytes(const model *m, int max_tokens) {
    const int tokens = room(m, max_tokens);
    return model_run_bytes(m, tokens, VARIANTS, RUN_FORWARD) + sizeof(float) * (size_t)tokens * (size_t)m->c.E +
           VARIANTS * (size_t)m->c.L * (size_t)(m->c.H + m->c.F);
}

removal *removal_new(const model *m, int max_tokens) {
    removal *r = xcalloc(1, sizeof *r);
    r->m = m;
    r->max_tokens = room(m, max_tokens);
    r->variants = r->max_tokens / 2 < VARIANTS ? r->max_tokens / 2 : VARIANTS;
    r->run = model_run_new(m, r->max_tokens, r->variants, RUN_FORWARD);
    r->res = m->o->alloc(sizeof(float) * (size_t)r->max_tokens * (size_t)m->c.E);
    r->mask = xcalloc((size_t)r->variants, sizeof *r->mask);
    r->seq = xcalloc((size_t)r->variants, sizeof *r->seq);
    r->logprob = xmalloc((size_t)r->max_tokens * sizeof *r->logprob);
    for (int i = 0; i < r->variants; i++) {
        const size_t heads = (size_t)m->c.L * (size_t)m->c.H, neurons = (size_t)m->c.L * (size_t)m->c.F;
        r->mask[i] = (mask){xmalloc(heads), xmalloc(neurons)};
        memset(r->mask[i].heads, 1, heads);
        memset(r->mask[i].neurons, 1, neurons);
    }
    return r;
}

void removal_free(removal *r) {
    if (!r) return;
    model_run_free(r->run);
    for (int i = 0; i < r->variants; i++) {
        free(r->mask[i].heads);
        free(r->mask[i].neurons);
    }
    r->m->o->release(r->res);
    free(r->mask);
    free(r->seq);
    free(r->logprob);
    free(r);
}

static double mean_loss(const double *logprob, int targets) {
    double loss = 0;
    for (int t = 0; t < targets; t++) loss -= logprob[t] / targets;
    return loss;
}

void removal_layer(removal *r, const model_seq *input, int layer, unit_kind kind, const float *res, double *rise) {
    const model_config *c = &r->m->c;
    const int units = model_units(c, layer, kind), fit = r->max_tokens / input->n,
              most = fit < r->variants ? fit : r->variants,
              targets = input->n - input->targets_from - (input->last_target == SEQ_NO_OUTPUT);
    const size_t row = (size_t)layer * (size_t)model_all_units(c, kind), floats = (size_t)input->n * (size_t)c->E;
    double intact = 0;
    ASSERT(most >= 1 && targets >= 1 && input->last_target != SEQ_NO_TARGET);
    for (int i = 0; i < most; i++) r->m->o->copy(r->res + (size_t)i * floats, res, sizeof(float) * floats);
    for (int first = -1; first < units; first += most) {  // variant -1: nothing removed
        const int n = units - first < most ? units - first : most;
        for (int i = 0; i < n; i++) {
            if (first + i >= 0) mask_keep(&r->mask[i], kind)[row + (size_t)(first + i)] = 0;
            r->seq[i] = *input;
            r->seq[i].mask = &r->mask[i];
        }
        model_forward_from(r->run, r->seq, n, layer, r->res);
        model_logprobs(r->run, r->logprob, NULL, 0);
        for (int i = 0; i < n; i++) {
            const double loss = mean_loss(r->logprob + (size_t)i * (size_t)targets, targets);
            if (first + i < 0) {
                intact = loss;
                continue;
            }
            rise[first + i] = loss - intact;
            mask_keep(&r->mask[i], kind)[row + (size_t)(first + i)] = 1;
        }
    }
}
