// model_step - a pass and the likeliest tokens after it, recorded and replayed where the device can. Contract in
// model.h.
//
// What an operation is recorded with must hold at every replay, so what differs from token to token is where operations
// look for it in device memory: tokens and positions (left there by the pass before, or by run_upload), by them the
// rows of K and V that are appended and attended to, lists of live units and how many there are. The host's part of a
// pass, lists for masks that changed and K and V that are missing, is not recorded: a pass that needs it is launched,
// and so is one that shows its states to somebody who does more with them than operations.
//
// So the next pass can begin before the host has read the tokens of this one: they are where it looks for them. If the
// caller then asks for other tokens, other sequences or another mask, it is computed again: all that it has changed are
// rows after the ends of the caches, which are written again, and positions and tokens, which are uploaded.
#include "model_run.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const kv_cache *prefix, *append;
    const float *k, *v;  // of the cache, which may be another one at the same address
    const model_means *means;
    const uint8_t *there;
    const model_watch *watch;
    int cap;
    bool live;
} step_kind;

// A recording, and the kind of the last pass that could be recorded, of n sequences.
struct step_slot {
    step_kind *kind;
    int n;
    struct recording *recorded;
};

static bool can_be_recorded(const model_run *r) {
    bool can = r->o->record && r->n <= r->logit_rows;
    for (int i = 0; i < r->n && can; i++)
        can = r->seq[i]->n == 1 && r->packed[i].n == 1 && (!r->seq[i]->watch || r->seq[i]->watch->records) &&
              !r->seq[i]->above && (!r->seq[i]->mask || r->live[i]);
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
    k.there = r->seq[i]->there ? r->seq[i]->there->heads : NULL;
    k.watch = r->seq[i]->watch;
    if (c) k.k = c->k[0], k.v = c->v[0], k.cap = c->cap;
    return k;
}

static void forget(model_run *r, struct step_slot *s) {
    if (s->recorded) r->o->forget(s->recorded);
    s->recorded = NULL;
}

// Of lists of another form than those that were recorded.
static void forget_relisted(model_run *r) {
    for (int k = 0; k < 2 && r->relisted; k++) forget(r, &r->slot[k]);
    r->relisted = false;
}

static struct step_slot *slot_of(model_run *r) {
    if (!r->slot) {
        r->slot = xcalloc(2, sizeof *r->slot);
        for (int k = 0; k < 2; k++) r->slot[k].kind = xcalloc((size_t)r->max_seqs, sizeof *r->slot[k].kind);
    }
    bool watched = false;
    for (int i = 0; i < r->n; i++) watched |= r->seq[i]->watch != NULL;
    return &r->slot[watched];
}

// Whether the pass is of the kind of the last of its slot that could be recorded; it is that one from now on.
static bool of_the_kind(const model_run *r, struct step_slot *s) {
    bool same = r->n == s->n;
    for (int i = 0; i < r->n; i++) {
        const step_kind k = kind_of(r, i);
        same &= memcmp(&k, &s->kind[i], sizeof k) == 0;
        s->kind[i] = k;
    }
    s->n = r->n;
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

// What the host's part of a replay is.
static void note(model_run *r) {
    kv_note_all(r);
    live_note_all(r);
    r->replayed++;
}

static void replay(model_run *r, struct step_slot *s) {
    if (!s->recorded) {
        r->o->record();
        run_forward(r);
        choose(r);
        s->recorded = r->o->recorded();
        r->replayed++;
    } else
        note(r);
    r->o->replay(s->recorded);
}

// How often the batch's caches have been written.
static uint64_t writes_of(const model_run *r) {
    uint64_t writes = 0;
    for (int i = 0; i < r->n; i++) writes += r->seq[i]->append ? r->seq[i]->append->writes : 0;
    return writes;
}

// Whether the recording can be replayed once more, for a token after each of the batch, whose caches have been counted
// up: with the masks as they are, K and V that are there, and room for another row.
static bool can_follow(const model_run *r, const struct step_slot *s) {
    bool can = s->recorded && live_settled(r);
    for (int i = 0; i < r->n && can; i++) {
        const kv_cache *to = r->seq[i]->append;
        can = to && to == r->seq[i]->prefix && to->n < to->cap && to->n < r->m->c.positions;
    }
    return can;
}

static void after(const model_run *r) {
    for (int i = 0; i < r->n; i++) {
        const model_watch *w = r->seq[i]->watch;
        if (w && w->after) w->after(w->self);
    }
}

void model_step(model_run *r, const model_seq *seqs, int n, int32_t *top, bool more) {
    run_take(r, seqs, n);
    struct step_slot *slot = slot_of(r);
    forget_relisted(r);
    const bool can = can_be_recorded(r), same = can && of_the_kind(r, slot);
    if (can && !same) forget(r, slot);
    const bool replays = same && live_settled(r);
    if (replays && r->begun == slot && run_is_there(r) && writes_of(r) == r->written) {
        note(r);
        r->begun = NULL;
    } else {
        run_upload(r);
        if (replays)
            replay(r, slot);
        else {
            run_forward(r);
            choose(r);
        }
    }
    const run_part *p = run_use(r, r->m->parts - 1);
    if (!r->late) r->late = r->o->fetch_new(fetch_room((size_t)r->max_seqs * sizeof *top));
    const void *chosen = r->o->fetch(r->late, p->step + r->max_seqs, (size_t)n * sizeof *top);
    after(r);
    run_end(r);
    if (more && can && can_follow(r, slot)) {
        r->o->replay(slot->recorded);
        r->begun = slot;
        r->written = writes_of(r);
    }
    r->o->fetch_wait(r->late);
    memcpy(top, chosen, (size_t)n * sizeof *top);
    r->n_ahead = r->rows == n ? n : 0;
    for (int i = 0; i < r->n_ahead; i++) {
        r->ahead[i] = r->first[i] + 1;
        r->ahead[r->max_seqs + i] = top[i];
    }
}

bool model_step_begun(const model_run *r) { return r->begun != NULL; }

void model_step_logits(model_run *r, float *out) {
    ASSERT(!r->begun);
    run_use(r, r->m->parts - 1);
    if (r->n <= r->logit_rows)
        r->o->get(out, r->logits, (size_t)r->n * (size_t)r->m->c.V * sizeof *out);
    else
        model_last_logits(r, out);
}

long model_replayed(const model_run *r) { return r->replayed; }

void step_free(model_run *r) {
    r->o->fetch_free(r->late);
    for (int k = 0; k < 2 && r->slot; k++) {
        forget(r, &r->slot[k]);
        free(r->slot[k].kind);
    }
    free(r->slot);
}
