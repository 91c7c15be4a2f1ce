// opt_step - a pass and its logits, recorded and replayed where the device can. Contract in opt.h.
//
// What an operation is recorded with must hold at every replay, so what differs from token to token is where operations look for it in device memory: tokens
// and positions (uploaded by run_begin), by them the rows of K and V that are appended and attended to, lists of live units and how many there are. The host's part of
// a pass, lists for masks that changed and K and V that are missing, is not recorded: a pass that needs it is launched, and so is one that shows its states.
#include "opt_run.h"
#include <stdlib.h>
#include <string.h>

typedef struct step_kind {
    const opt_cache *prefix, *append;
    const float *k, *v;     // of the cache, which may be another one at the same address
    int cap;
    bool live;
} step_kind;

static bool can_be_recorded(const opt_run *r) {
    bool can = r->o->record && r->n <= r->logit_rows;
    for (int i = 0; i < r->n && can; i++) can = r->seq[i]->n == 1 && r->out[i].n == 1 && !r->seq[i]->watch && (!r->seq[i]->mask || r->live[i]);
    return can;
}

static step_kind kind_of(const opt_run *r, int i) {
    const opt_cache *p = r->seq[i]->prefix, *a = r->seq[i]->append, *c = a ? a : p;
    step_kind k;
    memset(&k, 0, sizeof k);
    k.prefix = p;
    k.append = a;
    k.live = r->live[i];
    if (c) k.k = c->k[0], k.v = c->v[0], k.cap = c->cap;
    return k;
}

static void forget(opt_run *r) {
    if (r->recorded) r->o->forget(r->recorded);
    r->recorded = NULL;
    r->relisted = false;
}

// Whether the pass is of the kind of the last that could be recorded; it is that one from now on.
static bool of_the_kind(opt_run *r) {
    bool same = r->n == r->n_kind;
    if (!r->kind) r->kind = xcalloc((size_t)r->max_seqs, sizeof *r->kind);
    for (int i = 0; i < r->n; i++) {
        const step_kind k = kind_of(r, i);
        same &= memcmp(&k, &r->kind[i], sizeof k) == 0;
        r->kind[i] = k;
    }
    r->n_kind = r->n;
    return same;
}

static void replay(opt_run *r) {
    if (r->recorded) sparse_kv_noted(r);
    else {
        r->o->record();
        run_forward(r);
        run_last_logits(r, run_last(r), 0, r->n);
        r->recorded = r->o->recorded();
    }
    r->o->replay(r->recorded);
    r->replayed++;
}

void opt_step(opt_run *r, const opt_seq *seqs, int n, float *out) {
    run_begin(r, seqs, n);
    if (r->relisted) forget(r);
    const bool can = can_be_recorded(r), same = can && of_the_kind(r);
    if (can && !same) forget(r);
    if (same && sparse_settled(r)) {
        replay(r);
        r->o->get(out, r->logits, (size_t)n * (size_t)r->m->c.V * sizeof *out);
    } else {
        run_forward(r);
        opt_last_logits(r, out);
    }
    run_end(r);
}

long opt_replayed(const opt_run *r) { return r->replayed; }

void step_free(opt_run *r) {
    forget(r);
    free(r->kind);
}
