// model_step - a pass and the likeliest tokens after it, recorded and replayed where the device can. Contract in
// model.h.
//
// What an operation is recorded with must hold at every replay, so what differs from token to token is where operations
// look for it in device memory: tokens and positions (left there by the pass before, or uploaded by run_begin), by them
// the rows of K and V that are appended and attended to, lists of live units and how many there are. The host's part of
// a pass, lists for masks that changed and K and V that are missing, is not recorded: a pass that needs it is launched,
// and so is one that shows its states.
#include "model_run.h"
#include <stdlib.h>
#include <string.h>

typedef struct step_kind {
    const kv_cache *prefix, *append;
    const float *k, *v;  // of the cache, which may be another one at the same address
    const model_means *means;
    int cap;
    bool live;
} step_kind;

static bool can_be_recorded(const model_run *r) {
    bool can = r->o->record && r->n <= r->logit_rows;
    for (int i = 0; i < r->n && can; i++)
        can = r->seq[i]->n == 1 && r->packed[i].n == 1 && !r->seq[i]->watch && !r->seq[i]->above &&
              (!r->seq[i]->mask || r->live[i]);
    return can;
}

static step_kind kind_of(const model_run *r, int i) {
    const kv_cache *p = r->seq[i]->prefix, *a = r->seq[i]->append, *c = a ? a : p;
    step_kind k;
    memset(&k, 0, sizeof k);
    k.prefix = p;
    k.append = a;
    k.live = r->live[i];
    k.means = r->seq[i]->means;
    if (c) k.k = c->k[0], k.v = c->v[0], k.cap = c->cap;
    return k;
}

static void forget(model_run *r) {
    if (r->recorded) r->o->forget(r->recorded);
    r->recorded = NULL;
    r->relisted = false;
}

// Whether the pass is of the kind of the last that could be recorded; it is that one from now on.
static bool of_the_kind(model_run *r) {
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

// After the layers: logits and the likeliest tokens. For a pass of one token each they are, with their positions,
// where every part finds those of the next.
static void choose(model_run *r) {
    const int V = r->m->c.V, N = r->max_seqs;
    const bool follows = r->rows == r->n;
    const float *last = run_last(r);
    int32_t *step = run_last_part(r)->step;
    for (int first = 0, rows; first < r->n; first += rows) {
        rows = r->n - first < r->logit_rows ? r->n - first : r->logit_rows;
        run_last_logits(r, last, first, rows);
        r->o->likeliest(step + N + first, follows ? step + first : NULL, r->logits, V, rows);
    }
    for (int p = 0; p < r->m->parts - 1 && follows; p++)
        r->o->copy(r->part[p].step, step, (size_t)(p ? r->n : N + r->n) * sizeof *step);
}

static void replay(model_run *r) {
    if (r->recorded)
        kv_note_all(r);
    else {
        r->o->record();
        run_forward(r);
        choose(r);
        r->recorded = r->o->recorded();
    }
    r->o->replay(r->recorded);
    r->replayed++;
}

void model_step(model_run *r, const model_seq *seqs, int n, int32_t *top) {
    run_begin(r, seqs, n);
    if (r->relisted) forget(r);
    const bool can = can_be_recorded(r), same = can && of_the_kind(r);
    if (can && !same) forget(r);
    if (same && live_settled(r))
        replay(r);
    else {
        run_forward(r);
        choose(r);
    }
    const run_part *p = run_use(r, r->m->parts - 1);
    r->o->get(top, p->step + r->max_seqs, (size_t)n * sizeof *top);
    run_end(r);
    r->n_ahead = r->rows == n ? n : 0;
    for (int i = 0; i < r->n_ahead; i++) {
        r->ahead[i] = r->first[i] + 1;
        r->ahead[r->max_seqs + i] = top[i];
    }
}

void model_step_logits(model_run *r, float *out) {
    run_use(r, r->m->parts - 1);
    if (r->n <= r->logit_rows)
        r->o->get(out, r->logits, (size_t)r->n * (size_t)r->m->c.V * sizeof *out);
    else
        model_last_logits(r, out);
}

long model_replayed(const model_run *r) { return r->replayed; }

void step_free(model_run *r) {
    forget(r);
    free(r->kind);
}
