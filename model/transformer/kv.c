// kv - keys and values: those of new tokens, into caches as their policies want them, and attention over those and the
// tokens before. Contracts in model_run.h and model.h (kv_policy).
#include "model_run.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- K and V
// Does the pass leave K and V of KV head h at the new row t of sequence i? heads: those that run.
static bool leaves_kv(const model_run *r, int i, int t, const uint8_t *heads, int h) {
    if (!heads || heads[h]) return true;
    return r->seq[i]->append->kv == KV_REPAIR ? !r->live[i] : t < r->mask_from[i];
}

// One of the arrays of the sequences' caches, to[i]; NULL where none has it.
enum { CACHE_K, CACHE_V, CACHE_IN };
static float **cache_rows(const model_run *r, int layer, int which, float **to) {
    bool any = false;
    for (int i = 0; i < r->n; i++) {
        const kv_cache *c = r->seq[i]->append;
        float *const *const arrays[] = {
            [CACHE_K] = c ? c->k : NULL, [CACHE_V] = c ? c->v : NULL, [CACHE_IN] = c ? c->in : NULL};
        to[i] = c && arrays[which][0] ? kv_cache_rows(r->m, arrays[which], c, layer) : NULL;
        any |= to[i] != NULL;
    }
    return any ? to : NULL;
}

// Rows of x after those that the caches have in one of their arrays.
static void append(model_run *r, const run_part *p, int layer, int which, const float *x, int width) {
    float **to = cache_rows(r, layer, which, r->to);
    if (to && width) r->o->append(to, x, width, p->step, r->every.all, r->n);  // a compacted layer may have no heads
}

// Which K and V the new rows of sequence i have.
static void note(model_run *r, int i, int layer) {
    kv_cache *c = r->seq[i]->append;
    if (!c || c->kv == KV_COMPUTE) return;
    const int n_heads = model_kv_heads(r->m, layer);
    const uint8_t *heads = live_kv_mask(r, i, layer);
    uint8_t *has = c->has + (size_t)layer * (size_t)c->cap * (size_t)c->K + (size_t)c->n * (size_t)n_heads;
    for (int t = 0; t < r->every.all[i].n; t++)
        for (int k = 0; k < n_heads; k++) {
            const bool there = leaves_kv(r, i, t, heads, k);
            *has++ = there;
            c->lack[layer * c->K + k] += !there;
        }
}

// Keys of some KV heads at some tokens of a cache, as their map left them, through their norm and turned by their
// positions: a head at a token is a row.
static void place_cached(model_run *r, const run_part *p, const kv_cache *c, int layer, const int32_t *unit,
                         int n_units, span tokens) {
    enum { MOST = 64 };
    const model_layer *w = &r->m->layer[layer];
    const bool turned = r->m->arch.positions == POSITIONS_ROTARY, normed = w->k_norm.data != NULL;
    const int K = model_kv_heads(r->m, layer), all = tokens.n * n_units;
    float *keys = kv_cache_rows(r->m, c->k, c, layer);
    span row[MOST];
    int32_t at[MOST];
    if (!turned && !normed) return;
    int32_t *device = r->o->alloc(sizeof at);
    for (int done = 0; done < all;) {
        int n = 0;
        for (; n < MOST && done < all; n++, done++) {
            at[n] = tokens.row + done / n_units;
            row[n] = (span){at[n] * K + unit[done % n_units], 1};
        }
        if (normed) r->o->norm(keys, keys, &w->k_norm, NULL, norm_of(r->m, r->m->c.D), row, n);
        r->o->put(device, at, (size_t)n * sizeof *at);
        if (turned) r->o->rotate(keys, r->m->c.D, &r->m->turn[p->index], device, 1, false, row, n);
    }
    r->o->release(device);
}

// K and V of some KV heads at tokens from..from + n - 1 of a cache, from what their maps read. device: room for the
// heads' list.
static void recompute(model_run *r, const run_part *p, const kv_cache *c, int layer, const int32_t *unit, int n_units,
                      int32_t *device, span tokens) {
    const model_layer *w = &r->m->layer[layer];
    const float *in = kv_cache_rows(r->m, c->in, c, layer);
    const live_units u = {.unit = device, .n = n_units, .seqs = 1};
    float *k = kv_cache_rows(r->m, c->k, c, layer), *v = kv_cache_rows(r->m, c->v, c, layer);
    ASSERT(w->wk.rows <= c->W);
    r->o->put(device, unit, (size_t)n_units * sizeof *unit);
    r->o->live_linear(k, in, &w->wk, maybe(&w->bk), false, r->m->c.D, &u, &tokens, 1);
    r->o->live_linear(v, in, &w->wv, maybe(&w->bv), false, r->m->c.D, &u, &tokens, 1);
    place_cached(r, p, c, layer, unit, n_units, tokens);
}

// KV heads that are needed and lack tokens: all that lack the same first stretch of tokens at once, until none lacks
// any.
static void repair(model_run *r, const run_part *p, int i, int layer, int H) {
    const kv_cache *c = r->seq[i]->prefix;
    const uint8_t *heads = live_kv_mask(r, i, layer);
    int *lack = c->lack + layer * c->K;
    uint8_t *has = c->has + (size_t)layer * (size_t)c->cap * (size_t)c->K;  // [tokens, H]
    int32_t *unit = NULL, *device = NULL;
    for (int h = 0; h < H; h++)
        while ((!heads || heads[h]) && lack[h] > 0) {
            if (!unit) {
                unit = xcalloc((size_t)H, sizeof *unit);
                device = r->o->alloc((size_t)H * sizeof *unit);
            }
            int from = 0, end, n = 0;
            while (has[(size_t)from * (size_t)H + (size_t)h]) from++;
            for (end = from; end < c->n && !has[(size_t)end * (size_t)H + (size_t)h]; end++) {
            }
            for (int k = h; k < H; k++) {
                bool alike = (!heads || heads[k]) && lack[k] > 0;
                for (int t = from; t < end && alike; t++) alike = !has[(size_t)t * (size_t)H + (size_t)k];
                if (!alike) continue;
                unit[n++] = k;
                for (int t = from; t < end; t++) has[(size_t)t * (size_t)H + (size_t)k] = 1;
                lack[k] -= end - from;
            }
            recompute(r, p, c, layer, unit, n, device, (span){from, end - from});
        }
    if (device) r->o->release(device);
    free(unit);
}

// ---------------------------------------------------------------- the maps
// Whether q, k and v of all rows can be made together: nothing between is kept, and of live sequences all or none have
// K and V of all heads.
static bool together(const model_run *r, int l, const row_set *inside) {
    bool all = !(r->flags & RUN_TAPS) && heads_of(r, l) && (r->kv.n_live == 0 || r->kv.n_live == r->n_live);
    for (int i = 0; i < r->n && all; i++) all = inside->all[i].n == r->every.all[i].n;
    return all;
}

// q, k and v, turned and, but where norms come before that, in the caches.
static void all_maps(model_run *r, run_part *p, int l, const sublayer_input *in) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int D = r->m->c.D;
    const bool normed = w->q_norm.data != NULL, turn = r->m->arch.positions == POSITIONS_ROTARY && !normed;
    float **k = normed ? NULL : cache_rows(r, l, CACHE_K, r->to),
          **v = normed ? NULL : cache_rows(r, l, CACHE_V, r->to + r->max_seqs);
    sublayer_map m[] = {{t->q, &w->wq, maybe(&w->bq), D, NULL, turn, NULL},
                        {t->k, &w->wk, maybe(&w->bk), D, NULL, turn, k},
                        {t->v, &w->wv, maybe(&w->bv), D, NULL, false, v}};
    const weight *table = turn ? &r->m->turn[p->index] : NULL;
    if (r->every.n_dense) r->o->maps(in, m, 3, table, p->step, r->every.dense, r->n);
    int width;
    const int lists = r->n_live ? live_lists_of(r, &p->live_heads, &width) : 0;
    for (int i = 0; i < lists; i++) {
        m[0].u = &p->live_heads.list[i];
        m[1].u = m[2].u = r->kv.n_live ? &run_kv_lists(r, p)->list[i] : NULL;
        m[1].to = k ? k + i : NULL;
        m[2].to = v ? v + i : NULL;
        r->o->maps(in, m, 3, table, p->step + i, r->every.live + i, width);
    }
    if (!normed) return;
    attention_place(r, p, t->q, t->q, &w->q_norm, heads_of(r, l), r->every.all);
    attention_place(r, p, t->k, t->k, &w->k_norm, w->wk.rows / D, r->every.all);
    append(r, p, l, CACHE_K, t->k, w->wk.rows);
    append(r, p, l, CACHE_V, t->v, w->wk.rows);
}

// K and V alone, as their inputs, norms and turns are kept.
static void kv_maps(model_run *r, run_part *p, int l, sublayer_input *in) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int D = r->m->c.D, width = w->wk.rows;
    const live_lists *live = run_kv_lists(r, p);
    float *raw = t->k0 ? t->k0 : t->k;
    run_enter(r, in, &r->every);
    to_units(r, raw, in->h, &w->wk, &w->bk, D, live, &r->kv);
    to_units(r, t->v, in->h, &w->wv, &w->bv, D, live, &r->kv);
    attention_place(r, p, t->k, raw, &w->k_norm, width / D, r->every.all);
    append(r, p, l, CACHE_K, t->k, width);
    append(r, p, l, CACHE_V, t->v, width);
}

bool kv_forward(model_run *r, run_part *p, int l, sublayer_input *in, const row_set *inside) {
    const bool has_q = together(r, l, inside);
    if (has_q)
        all_maps(r, p, l, in);
    else
        kv_maps(r, p, l, in);
    for (int i = 0; i < r->n; i++) {
        const kv_cache *prefix = r->seq[i]->prefix;
        if (prefix && prefix->kv == KV_REPAIR) repair(r, p, i, l, r->m->layer[l].wk.rows / r->m->c.D);
        note(r, i, l);
    }
    append(r, p, l, CACHE_IN, in->h, r->m->c.E);
    return has_q;
}

void kv_note_all(model_run *r) {
    for (int l = 0; l < r->m->c.L; l++)
        for (int i = 0; i < r->n; i++) note(r, i, l);
}

// Whether a KV head that is needed has no K and V of some token in the prefix.
bool kv_lacks(const model_run *r, int i, int layer) {
    const kv_cache *p = r->seq[i]->prefix;
    if (!p || p->kv == KV_COMPUTE) return false;
    const uint8_t *heads = r->live[i] ? live_kv_mask(r, i, layer) : NULL;
    bool lacks = false;
    for (int h = 0; h < model_kv_heads(r->m, layer); h++)
        lacks |= (!heads || heads[h]) && p->lack[layer * p->K + h] > 0;
    return lacks;
}

// ---------------------------------------------------------------- attention
// The has array of a sequence whose prefix lacks K and V of heads that run (KV_SKIP), in device memory.
static const uint8_t *missing_kv(model_run *r, run_part *p, int i, int layer, int n_heads) {
    const kv_cache *c = r->seq[i]->prefix;
    if (!c || c->kv != KV_SKIP || !kv_lacks(r, i, layer)) return NULL;
    const size_t bytes = (size_t)r->m->c.positions * (size_t)c->K;
    if (!p->device_has) p->device_has = r->o->alloc(bytes * (size_t)r->max_seqs);
    uint8_t *to = p->device_has + bytes * (size_t)i;
    r->o->put(to, c->has + (size_t)layer * (size_t)c->cap * (size_t)c->K, (size_t)c->n * (size_t)n_heads);
    return to;
}

// What sequence i attends to.
static attn_seq attended(model_run *r, run_part *p, int i, int l, span all, span queries) {
    const kv_cache *c = r->seq[i]->prefix;
    attn_seq s = {.s = all, .from = queries.n ? queries.row - all.row : all.n, .past = r->first[i]};
    if (!c) return s;
    s.past_at = p->step + i;
    s.past_most = c->cap;
    s.past_k = kv_cache_rows(r->m, c->k, c, l);
    s.past_v = kv_cache_rows(r->m, c->v, c, l);
    s.past_has = missing_kv(r, p, i, l, model_kv_heads(r->m, l));
    return s;
}

void kv_attend(model_run *r, run_part *p, int l, const row_set *rows) {
    const layer_arrays *t = &r->layer[l];
    const attn_heads heads = attn_heads_of(r, l);
    for (int i = 0; i < r->n; i++) {
        const span all = r->every.all[i];
        const attn_seq s = attended(r, p, i, l, all, rows->all[i]), none = {.s = {all.row, 0}};
        r->attn[i] = r->live[i] || s.past_has ? none : s;
        r->attn_live[i] = r->live[i] ? s : none;
        if (!r->live[i] && s.past_has) r->o->live_attention(t->a, t->q, t->k, t->v, &heads, NULL, &s, 1);
    }
    r->o->attention(t->a, t->q, t->k, t->v, &heads, r->attn, r->n);
    if (r->n_live == 0) return;
    int count;
    const int lists = live_lists_of(r, &p->live_heads, &count);
    for (int k = 0; k < lists; k++)
        r->o->live_attention(t->a, t->q, t->k, t->v, &heads, &p->live_heads.list[k], r->attn_live + k, count);
}
