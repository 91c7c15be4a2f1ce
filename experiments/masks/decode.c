// decode - prompts, then token by token. Contract in decode.h.
#include "decode.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    kv_cache *cache;
    int32_t *tokens;  // all so far
    mask own;         // the predictor's
    const mask *given;
    mask shared;  // of a batch that shares units: rows of `given` or of the union
    const mask *use;
    uint64_t epoch;  // of it
    bool behind;     // own is not yet the mask that is on the device
    contextual c;
} sequence;

struct decode {
    const model *m;
    decode_options o;
    bool dense_features;
    bool there;  // masks that are made again stay on the device
    int max_seqs, prompt, max_tokens, n, steps;
    int *order;       // of the n sequences at work: their places in s
    uint64_t epochs;  // given to masks so far
    mask all;         // the union of the masks
    model_run *first, *next;
    sequence *s;
    model_seq *seq;
    model_run *last;  // first or next
    int32_t *top;     // [n] likeliest tokens
    float *logits;    // [n, V] where fetched
    bool fetched;
};

static sequence *at(const decode *d, int i) { return &d->s[d->order[i]]; }

static void set_mask(decode *d, int i, const mask *m) {
    at(d, i)->given = at(d, i)->use = m;
    at(d, i)->epoch = ++d->epochs;
}

// The step to come under the masks that the sequences run (`given`: their own); what `of` and `tokens` point to has
// room for all sequences.
static batch_step step_of(const decode *d, const mask **of, int *tokens, bool given) {
    const bool by_zero = d->o.flags & RUN_MASK_BY_ZERO || !d->m->transposed[0];
    for (int i = 0; i < d->n; i++) {
        of[i] = given ? at(d, i)->given : at(d, i)->use;
        if (by_zero && !given) of[i] = NULL;
        tokens[i] = at(d, i)->cache->n + 1;
    }
    return (batch_step){d->m, of, tokens, d->n, d->o.kv, d->o.flags & RUN_OWN_LISTS};
}

// What each sequence runs from the next step on.
static void share_masks(decode *d) {
    bool masked = false;
    for (int i = 0; i < d->n; i++) masked |= at(d, i)->given != NULL;
    if (d->o.batch == BATCH_OWN || !masked) return;
    const mask **own = xcalloc((size_t)d->n, sizeof *own);
    int *tokens = xcalloc((size_t)d->n, sizeof *tokens);
    const batch_step s = step_of(d, own, tokens, true);
    bool together[UNIT_KINDS];
    batch_union(&d->all, &s);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        together[k] = d->o.batch == BATCH_UNION || batch_union_is_free(&s, &d->all, k);
    for (int i = 0; i < d->n; i++) {
        sequence *q = at(d, i);
        const mask *alone = own[i] ? own[i] : &d->all;  // with a sequence of all units the union has all
        q->shared = (mask){together[UNIT_HEADS] ? d->all.heads : alone->heads,
                           together[UNIT_NEURONS] ? d->all.neurons : alone->neurons};
        q->use = &q->shared;
        q->epoch = ++d->epochs;
    }
    free(own);
    free(tokens);
}

decode *decode_new(const model *m, const decode_options *o, int max_seqs, int prompt, int tokens) {
    ASSERT(max_seqs > 0 && prompt > 0 && tokens >= prompt);
    if (tokens > m->c.positions) {
        err_set("%d tokens in a sequence: the model has %d positions; shorten the prompt or generate fewer tokens",
                tokens, m->c.positions);
        return NULL;
    }
    bool dense_features = false;
    if (o->predictor) {
        const predictor_info *about = predictor_about(o->predictor);
        if (contextual_check(about, &o->rule) != 0 || predictor_place(o->predictor, m->o) != 0) return NULL;
        dense_features = contextual_kind(about, &o->rule) == FEATURES_DENSE;
        if (dense_features && o->refresh) {
            err_set("--refresh %d: this %s predictor with scope %s needs a dense pass before its mask, which a prompt "
                    "has and a token has not; use scope local "
                    "with a look-ahead predictor, or a shadow predictor after dense layers",
                    o->refresh, predictor_design_names[about->design], mask_scope_names[o->rule.scope]);
            return NULL;
        }
    }
    if (o->batch != BATCH_OWN && o->predictor && o->refresh == 1) {
        err_set("--batch-masks %s: with --refresh 1 every token makes a mask and runs under it; refresh less often, or "
                "leave each sequence its own",
                batch_masks_names[o->batch]);
        return NULL;
    }
    decode *d = xcalloc(1, sizeof *d);
    *d = (decode){.m = m,
                  .o = *o,
                  .dense_features = dense_features,
                  .max_seqs = max_seqs,
                  .prompt = prompt,
                  .max_tokens = tokens};
    d->first = model_run_new(m, max_seqs * prompt, max_seqs, o->flags);
    d->next = model_run_new(m, max_seqs, max_seqs, o->flags);
    d->s = xcalloc((size_t)max_seqs, sizeof *d->s);
    d->order = xcalloc((size_t)max_seqs, sizeof *d->order);
    d->seq = xcalloc((size_t)max_seqs, sizeof *d->seq);
    d->top = xcalloc((size_t)max_seqs, sizeof *d->top);
    d->logits = xmalloc((size_t)max_seqs * (size_t)m->c.V * sizeof *d->logits);
    if (o->batch != BATCH_OWN) mask_alloc(&d->all, &m->c);
    d->there = o->predictor && o->refresh && o->kv == KV_COMPUTE && !o->means && max_seqs <= LIST_SEQS &&
               o->batch == BATCH_OWN && !(o->flags & RUN_MASK_BY_ZERO);
    for (int i = 0; i < max_seqs; i++) {
        sequence *s = &d->s[i];
        d->order[i] = i;
        s->cache = kv_cache_new_as(m, tokens, o->kv);
        s->tokens = xcalloc((size_t)tokens, sizeof *s->tokens);
        if (!o->predictor) continue;
        mask_alloc(&s->own, &m->c);
        contextual_open(&s->c, o->predictor, m, o->rule.units, contextual_raw(predictor_about(o->predictor), &o->rule));
        d->there = d->there && contextual_place(&s->c, &d->o.rule);
    }
    return d;
}

void decode_free(decode *d) {
    if (!d) return;
    for (int i = 0; i < d->max_seqs; i++) {
        kv_cache_free(d->s[i].cache);
        free(d->s[i].tokens);
        mask_free(&d->s[i].own);
        contextual_close(&d->s[i].c);
    }
    mask_free(&d->all);
    model_run_free(d->first);
    model_run_free(d->next);
    free(d->s);
    free(d->order);
    free(d->seq);
    free(d->top);
    free(d->logits);
    free(d);
}

// The predictor watches the last new token of a sequence, and makes its mask, which this token and those after it have.
static void watch(decode *d, sequence *s, model_seq *q) {
    const int past = s->cache->n, row = q->n - 1;
    const bool step = q->there != NULL;
    if (step) {
        contextual_begin_there(&s->c, &d->o.rule);
        s->epoch = ++d->epochs;
        s->behind = true;
    } else
        contextual_begin(&s->c, s->tokens, past + q->n, row, d->dense_features ? NULL : &s->own, &d->o.rule);
    q->watch = &s->c.watch;
    q->mask = d->dense_features ? NULL : &s->own;
    q->mask_from = past + row;
    q->mask_epoch = step ? s->epoch : 0;
}

// After it. In a prompt the host has the mask first.
static int watched(decode *d, int i) {
    sequence *s = at(d, i);
    if (contextual_end(&s->c) != 0) return -1;
    if (s->behind) return 0;
    if (d->dense_features && contextual_mask(&s->c, &s->own, &d->o.rule) != 0) return -1;
    set_mask(d, i, &s->own);
    if (d->there) contextual_set_there(&s->c, &s->own);
    return 0;
}

// Runs the sequences' new tokens; with `choose` the predictor watches the last of them. more: of model_step.
static int run(decode *d, model_run *r, bool choose, bool more) {
    for (int i = 0; i < d->n && choose; i++) watch(d, at(d, i), &d->seq[i]);
    model_step(r, d->seq, d->n, d->top, more);
    d->last = r;
    d->fetched = false;
    for (int i = 0; i < d->n && choose; i++)
        if (watched(d, i) != 0) return -1;
    for (int i = 0; i < d->n; i++)
        if (d->top[i] < 0)
            return err_set("a logit after token %d is NaN or infinite; the checkpoint is broken or overflows "
                           "(bin/info checks it)",
                           at(d, i)->cache->n);
    return 0;
}

int decode_prompt(decode *d, const decode_seq *s, int n) {
    ASSERT(n > 0 && n <= d->max_seqs);
    d->n = n;
    d->steps = 0;
    for (int i = 0; i < n; i++) {
        ASSERT(s[i].n > 0 && s[i].n <= d->prompt);
        d->order[i] = i;
        sequence *q = at(d, i);
        kv_cache_clear(q->cache);
        memcpy(q->tokens, s[i].prompt, (size_t)s[i].n * sizeof *q->tokens);
        set_mask(d, i, s[i].mask);
        q->behind = false;
        q->c.predict_s = q->c.select_s = 0;
        d->seq[i] = (model_seq){.tokens = q->tokens,
                                .n = s[i].n,
                                .prefix = q->cache,
                                .append = q->cache,
                                .mask = q->use,
                                .mask_epoch = q->epoch,
                                .means = d->o.means,
                                .above = d->o.above,
                                .mask_from = s[i].mask_from,
                                .targets_from = s[i].n - 1,
                                .last_target = SEQ_NO_TARGET};
    }
    const int bad = run(d, d->first, d->o.predictor != NULL, false);
    share_masks(d);
    return bad;
}

// Whether the predictor makes masks at that step.
static bool chooses(const decode *d, int step) { return d->o.predictor && d->o.refresh && step % d->o.refresh == 0; }

static int step(decode *d, const int32_t *next, bool more) {
    d->steps++;
    for (int i = 0; i < d->n; i++) {
        sequence *q = at(d, i);
        ASSERT(q->cache->n < d->max_tokens);
        q->tokens[q->cache->n] = next[i];
        d->seq[i] = (model_seq){.tokens = q->tokens + q->cache->n,
                                .n = 1,
                                .prefix = q->cache,
                                .append = q->cache,
                                .mask = q->use,
                                .mask_epoch = q->epoch,
                                .there = d->there ? &q->c.there : NULL,
                                .means = d->o.means,
                                .above = d->o.above,
                                .last_target = SEQ_NO_TARGET};
    }
    const bool choose = chooses(d, d->steps);  // steps that begin early are of one kind
    const int bad = run(d, d->next, choose, more && choose == chooses(d, d->steps + 1) && (!choose || d->there));
    if (choose) share_masks(d);
    return bad;
}

int decode_step(decode *d, const int32_t *next) { return step(d, next, false); }
int decode_step_ahead(decode *d, const int32_t *next) { return step(d, next, true); }
bool decode_begun(const decode *d) { return d->last == d->next && model_step_begun(d->next); }

void decode_drop(decode *d, int i) {
    ASSERT(i >= 0 && i < d->n);
    d->order[i] = d->order[--d->n];
    share_masks(d);
}

void decode_set_mask(decode *d, int i, const mask *m) {
    ASSERT(!d->o.predictor);
    set_mask(d, i, m);
    share_masks(d);
}

bool decode_acts_behind(const decode *d) { return d->dense_features; }

int32_t decode_likeliest(const decode *d, int i) { return d->top[i]; }

const float *decode_logits(decode *d, int i) {
    ASSERT(!decode_begun(d));
    if (!d->fetched) model_step_logits(d->last, d->logits);
    d->fetched = true;
    return d->logits + (size_t)i * (size_t)d->m->c.V;
}

double decode_log_probability(decode *d, int i, int32_t id) {
    const float *logits = decode_logits(d, i);
    const int V = d->m->c.V;
    double most = -INFINITY, sum = 0;
    for (int v = 0; v < V; v++) most = fmax(most, (double)logits[v]);
    for (int v = 0; v < V; v++) sum += exp((double)logits[v] - most);
    return (double)logits[id] - most - log(sum);
}

long decode_kept(const decode *d, int i) {
    int32_t *kept = xmalloc((size_t)d->seq[i].n * sizeof *kept);
    model_kept(d->last, i, kept);
    const long last = kept[d->seq[i].n - 1];
    free(kept);
    return last;
}

// A mask that was made on the device comes to the host when it is asked for.
static const mask *known_mask(const decode *d, int i) {
    sequence *s = at(d, i);
    if (s->behind) contextual_get_there(&s->c, &s->own);
    s->behind = false;
    return s->use;
}

const mask *decode_mask(const decode *d, int i) { return known_mask(d, i); }

void decode_overhead(const decode *d, double *predict_s, double *select_s) {
    *predict_s = *select_s = 0;
    for (int i = 0; i < d->n; i++) {
        *predict_s += at(d, i)->c.predict_s;
        *select_s += at(d, i)->c.select_s;
    }
}

// ---------------------------------------------------------------- bytes
double decode_dense_bytes(const model *m) {
    double b = model_outer_bytes(m, 1), of[OWNERS];
    for (int l = 0; l < m->c.L; l++) {
        model_layer_bytes(m, l, of);
        for (int k = 0; k < OWNERS; k++) b += of[k];
    }
    return b;
}

int decode_replayed(const decode *d) { return (int)model_replayed(d->next); }

decode_bytes decode_step_bytes(const decode *d) {
    const model_config *c = &d->m->c;
    for (int i = 0; i < d->n && !decode_begun(d); i++) known_mask(d, i);
    const mask **of = xcalloc((size_t)d->n, sizeof *of);
    int *tokens = xcalloc((size_t)d->n, sizeof *tokens);
    const batch_step s = step_of(d, of, tokens, false);
    decode_bytes b = {model_outer_bytes(d->m, d->n), batch_kv_bytes(&s)};
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) b.weights += batch_weight_bytes(&s, k);
    for (int l = 0; l < c->L; l++) {
        double owned[OWNERS];
        model_layer_bytes(d->m, l, owned);
        b.weights += owned[OWNER_NONE];
    }
    free(of);
    free(tokens);
    if (!d->o.above || d->o.flags & RUN_MASK_BY_ZERO || !d->m->transposed[0]) return b;
    double column = 0;  // of what a neuron that does not run saves, mean over the layers
    for (int l = 0; l < c->L; l++) {
        const model_layer *w = &d->m->layer[l];
        const double saved =
            weight_bytes(&w->w2) + (d->o.above->gate ? weight_bytes(&w->wu) + weight_bytes(&w->bu) : 0);
        b.weights -= saved;
        column += w->w2.cols ? saved / w->w2.cols / c->L : 0;
    }
    for (int i = 0; i < d->n; i++) b.weights += column * (double)decode_kept(d, i);
    return b;
}
