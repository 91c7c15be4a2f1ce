// opt_sparse - the part of a forward pass that reads the weights of live heads and neurons only. Contract in opt.h (opt_sparse_prepare) and
// opt_run.h.
//
// A sequence is live where its mask acts on all of its new rows. Its lists are read off the mask layer by layer, because who watches the pass
// may still write it. Sequences that are not live take the dense way in the same pass.
#include "opt_run.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- transposed copies
static size_t bytes_of(const weight *w) { return ((size_t)w->rows * (size_t)w->cols * dtype_bytes(w->type) + 63) / 64 * 64; }

size_t opt_sparse_bytes(const opt *m) {
    size_t bytes = 0;
    for (int l = 0; l < m->c.L; l++) bytes += bytes_of(&m->stored[l].wo) + bytes_of(&m->stored[l].w2);
    return bytes;
}

size_t opt_sparse_prepare(opt *m) {
    const size_t all = opt_sparse_bytes(m);
    if (m->transposed[0]) return all;
    size_t bytes[OPS_PARTS] = {0};
    for (int l = 0; l < m->c.L; l++) bytes[opt_part(m, l)] += bytes_of(&m->stored[l].wo) + bytes_of(&m->stored[l].w2);
    if (ops_plan(m->o, bytes, "transposed weights") != 0) die(1, "%s", err_get());
    char *block = NULL;
    for (int l = 0; l < m->c.L; l++) {
        const int p = opt_part(m, l);
        if (l == m->first[p]) {
            m->o->use(p);
            block = m->transposed[p] = m->o->alloc(bytes[p]);
        }
        const weight *from[] = {&m->layer[l].wo, &m->layer[l].w2};
        weight *to[] = {&m->layer[l].wo_t, &m->layer[l].w2_t};
        for (int k = 0; k < 2; k++, block += bytes_of(from[k - 1])) {
            m->o->transpose(block, from[k]);
            *to[k] = (weight){block, from[k]->type, from[k]->cols, from[k]->rows, NULL, from[k]->narrow};
        }
    }
    return all;
}

// ---------------------------------------------------------------- workspace
static bool own_lists(const opt_run *r) { return r->flags & OPT_OWN_LISTS && r->max_seqs > 1; }

static void lists_alloc(opt_run *r, live_lists *u, int units) {
    const opt *m = r->m;
    const size_t N = (size_t)r->max_seqs, U = (size_t)units, lists = own_lists(r) ? N : 1;
    u->layers = r->o->host ? 1 : m->first[r->at + 1] - m->first[r->at];
    const size_t layers = (size_t)u->layers;
    u->list = u->every = xcalloc(layers * lists, sizeof *u->every);
    if (!m->transposed[0]) return;
    u->unit = xcalloc(lists * (1 + U), sizeof *u->unit);
    u->device_unit = r->o->alloc(layers * lists * (1 + U) * sizeof *u->unit);
    if (!r->o->host) u->of = xcalloc(layers * N, 1 + U);
    if (own_lists(r)) return;
    u->wants = xcalloc(U, N);
    u->device_wants = r->o->alloc(layers * U * N);
}

static void lists_free(opt_run *r, live_lists *u) {
    if (u->device_unit) r->o->release(u->device_unit);
    if (u->device_wants) r->o->release(u->device_wants);
    free(u->unit);
    free(u->wants);
    free(u->of);
    free(u->every);
}

void sparse_alloc(opt_run *r) {
    const size_t N = (size_t)r->max_seqs;
    span **spans[] = {&r->dense.all, &r->dense.act, &r->sparse.all, &r->sparse.act, &r->kv_dense, &r->kv_sparse};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) *spans[i] = xcalloc(N, sizeof(span));
    r->live = xcalloc(N, sizeof *r->live);
    r->attn_sparse = xcalloc(N, sizeof *r->attn_sparse);
    for (int p = 0; p < r->m->parts; p++) {
        run_enter(r, p);
        lists_alloc(r, &r->live_heads, r->m->c.H);
        lists_alloc(r, &r->live_neurons, r->m->c.F);
    }
}

void sparse_free(opt_run *r) {
    void *lists[] = {r->dense.all, r->dense.act, r->sparse.all, r->sparse.act, r->kv_dense, r->kv_sparse, r->live, r->attn_sparse};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) free(lists[i]);
    for (int p = 0; p < r->m->parts; p++) {
        run_enter(r, p);
        lists_free(r, &r->live_heads);
        lists_free(r, &r->live_neurons);
        if (r->device_has) r->o->release(r->device_has);
    }
}

// ---------------------------------------------------------------- which sequences, which units
void sparse_begin(opt_run *r) {
    const bool able = r->m->transposed[0] && r->live_heads.unit && !(r->flags & (unsigned)(OPT_TAPS | OPT_MASK_BY_ZERO));
    r->n_live = 0;
    for (int i = 0; i < r->n; i++) {
        const opt_cache *to = r->seq[i]->append;
        const span none_all = {r->all[i].row, 0}, none_act = {r->act[i].row, 0};
        const bool live = able && r->seq[i]->mask && r->mask_from[i] == 0;
        // K and V that nobody will read again are needed for live heads only
        const bool all_heads = !live || (to && to->kv == KV_COMPUTE);
        r->live[i] = live;
        r->n_live += live;
        r->dense.all[i] = live ? none_all : r->all[i];
        r->dense.act[i] = live ? none_act : r->act[i];
        r->sparse.all[i] = live ? r->all[i] : none_all;
        r->sparse.act[i] = live ? r->act[i] : none_act;
        r->kv_dense[i] = all_heads ? r->all[i] : none_all;
        r->kv_sparse[i] = all_heads ? none_all : r->all[i];
    }
}

static const uint8_t *mask_bytes(const opt_run *r, int i, bool heads, int layer, int U) {
    const mask *m = r->seq[i]->mask;
    return m ? (heads ? m->heads : m->neurons) + (size_t)layer * (size_t)U : NULL;
}

// Of a layer: the place of its lists, and of what those of sequence i were made of.
static size_t place_of(const opt_run *r, const live_lists *u, int layer) { return u->layers > 1 ? (size_t)(layer - r->m->first[r->at]) : 0; }
static uint8_t *made_of(const opt_run *r, const live_lists *u, int layer, int i, int U) {
    return u->of + (place_of(r, u, layer) * (size_t)r->max_seqs + (size_t)i) * (size_t)(1 + U);
}

// Whether the lists that are on the device are those of the masks as they are.
static bool lists_hold(const opt_run *r, const live_lists *u, bool heads, int layer, int U, int n_units) {
    bool hold = u->of != NULL;
    for (int i = 0; i < r->max_seqs && hold; i++) {
        const uint8_t *of = made_of(r, u, layer, i, U);
        const bool live = i < r->n && r->live[i];
        hold = of[0] == (i < r->n ? 1 + live : 0) && (!live || memcmp(of + 1, mask_bytes(r, i, heads, layer, U), (size_t)n_units) == 0);
    }
    return hold;
}

static void remember(opt_run *r, const live_lists *u, bool heads, int layer, int U, int n_units) {
    for (int i = 0; i < r->max_seqs && u->of; i++) {
        uint8_t *of = made_of(r, u, layer, i, U);
        of[0] = i < r->n ? 1 + r->live[i] : 0;
        if (i < r->n && r->live[i]) memcpy(of + 1, mask_bytes(r, i, heads, layer, U), (size_t)n_units);
    }
}

// A list of n units at unit[1..] to place `at` of the device's.
static live_units put_list(opt_run *r, const live_lists *u, int32_t *unit, int n, size_t at, int U) {
    int32_t *to = u->device_unit + at * (size_t)(1 + U);
    unit[0] = n;
    r->o->put(to, unit, (size_t)(1 + n) * sizeof *unit);
    return (live_units){.unit = to + 1, .n = n, .seqs = 1, .n_at = r->o->host ? NULL : to};
}

static void make_own(opt_run *r, live_lists *u, bool heads, int layer, int U, int n_units) {
    for (int i = 0; i < r->n; i++) {
        int32_t *unit = u->unit + (size_t)i * (size_t)(1 + U);
        int n = 0;
        const uint8_t *m = mask_bytes(r, i, heads, layer, U);
        for (int k = 0; k < n_units && r->live[i]; k++) {
            unit[1 + n] = k;
            n += m[k] != 0;
        }
        u->list[i] = put_list(r, u, unit, n, place_of(r, u, layer) * (size_t)r->max_seqs + (size_t)i, U);
    }
}

static void make_common(opt_run *r, live_lists *u, bool heads, int layer, int U, int n_units) {
    const uint8_t *first = NULL;
    bool same = true;
    for (int i = 0; i < r->n; i++) {
        if (!r->live[i]) continue;
        if (!first) first = mask_bytes(r, i, heads, layer, U);
        same &= first == mask_bytes(r, i, heads, layer, U);
    }
    int n = 0;
    for (int k = 0; k < n_units; k++) {
        uint8_t any = 0;
        if (same) any = first[k];
        else
            for (int i = 0; i < r->n; i++) any |= u->wants[(size_t)n * (size_t)r->n + (size_t)i] = r->live[i] && mask_bytes(r, i, heads, layer, U)[k];
        u->unit[1 + n] = k;
        n += any != 0;
    }
    const size_t at = place_of(r, u, layer);
    uint8_t *wants = u->device_wants + at * (size_t)U * (size_t)r->max_seqs;
    live_units made = put_list(r, u, u->unit, n, at, U);
    made.seqs = r->n;
    made.wants = same ? NULL : wants;
    if (!same) r->o->put(wants, u->wants, (size_t)n * (size_t)r->n);
    r->relisted |= !made.wants != !u->list[0].wants || made.seqs != u->list[0].seqs;
    u->list[0] = made;
}

static void make_lists(opt_run *r, live_lists *u, bool heads, int layer, int U, int n_units) {
    if (r->n_live == 0) return;
    u->list = u->every + place_of(r, u, layer) * (size_t)(own_lists(r) ? r->max_seqs : 1);
    if (lists_hold(r, u, heads, layer, U, n_units)) return;
    (own_lists(r) ? make_own : make_common)(r, u, heads, layer, U, n_units);
    remember(r, u, heads, layer, U, n_units);
}

static int heads_of(const opt_run *r, int layer) { return r->m->layer[layer].wq.rows / r->m->c.D; }
void sparse_heads(opt_run *r, int layer) { make_lists(r, &r->live_heads, true, layer, r->m->c.H, heads_of(r, layer)); }
void sparse_neurons(opt_run *r, int layer) {
    make_lists(r, &r->live_neurons, false, layer, r->m->c.F, r->m->layer[layer].w1.rows);
}

// ---------------------------------------------------------------- products
static int lists_of(const opt_run *r, int *width) {
    *width = own_lists(r) ? 1 : r->n;
    return own_lists(r) ? r->n : 1;
}

void sparse_linear(opt_run *r, float *y, const float *x, const weight *w, const weight *b, bool relu, const live_lists *u, int D, const span *s) {
    int width;
    const int lists = lists_of(r, &width);
    for (int k = 0; k < lists; k++) r->o->live_linear(y, x, w, b, relu, D, &u->list[k], s + k, width);
}

void sparse_linear_t(opt_run *r, float *y, const float *x, const weight *wt, const weight *b, const live_lists *u, int D, const span *s) {
    int width;
    const int lists = lists_of(r, &width);
    for (int k = 0; k < lists; k++) r->o->live_linear_t(y, x, wt, b, D, &u->list[k], s + k, width);
}

// ---------------------------------------------------------------- K and V
// Does the pass leave K and V of head h at the new row t of sequence i?
static bool leaves_kv(const opt_run *r, int i, int t, const uint8_t *heads, int h) {
    if (!heads || heads[h]) return true;
    return r->seq[i]->append->kv == KV_REPAIR ? !r->live[i] : t < r->mask_from[i];
}

// Rows of x behind those that the sequences' caches have in one of their arrays.
enum { CACHE_K, CACHE_V, CACHE_IN };
static void append(opt_run *r, int layer, int which, const float *x, int width) {
    bool any = false;
    for (int i = 0; i < r->n; i++) {
        const opt_cache *c = r->seq[i]->append;
        float *const *block = !c ? NULL : which == CACHE_K ? c->k : which == CACHE_V ? c->v : c->in;
        r->to[i] = block && block[0] ? opt_cache_rows(r->m, block, c, layer) : NULL;
        any |= r->to[i] != NULL;
    }
    if (any && width) r->o->append(r->to, x, width, r->step, r->all, r->n);  // a compacted layer may have no heads
}

// Which K and V the new rows of sequence i have.
static void note(opt_run *r, int i, int layer) {
    opt_cache *c = r->seq[i]->append;
    if (!c || c->kv == KV_COMPUTE) return;
    const int n_heads = heads_of(r, layer);
    const uint8_t *heads = mask_bytes(r, i, true, layer, c->H);
    uint8_t *has = c->has + (size_t)layer * (size_t)c->cap * (size_t)c->H + (size_t)c->n * (size_t)n_heads;
    for (int t = 0; t < r->all[i].n; t++)
        for (int k = 0; k < n_heads; k++) {
            const bool there = leaves_kv(r, i, t, heads, k);
            *has++ = there;
            c->lack[layer * c->H + k] += !there;
        }
}

// Heads that run and lack tokens: all heads that lack the same first stretch of tokens at once, until none lacks any.
static void repair(opt_run *r, int i, int layer, int n_heads) {
    const opt_cache *c = r->seq[i]->prefix;
    const int H = n_heads, D = r->m->c.D;
    const opt_layer *w = &r->m->layer[layer];
    const uint8_t *heads = mask_bytes(r, i, true, layer, c->H);
    const size_t base = (size_t)layer * (size_t)c->cap, width = (size_t)w->wk.rows;
    int *lack = c->lack + layer * c->H;
    uint8_t *has = c->has + base * (size_t)c->H;
    int32_t *unit = NULL, *device = NULL;
    for (int h = 0; h < n_heads; h++)
        while ((!heads || heads[h]) && lack[h] > 0) {
            if (!unit) {
                unit = xcalloc((size_t)H, sizeof *unit);
                device = r->o->alloc((size_t)H * sizeof *unit);
            }
            int from = 0, end, n = 0;
            while (has[(size_t)from * (size_t)H + (size_t)h]) from++;
            for (end = from; end < c->n && !has[(size_t)end * (size_t)H + (size_t)h]; end++) {}
            for (int k = h; k < n_heads; k++) {
                bool alike = (!heads || heads[k]) && lack[k] > 0;
                for (int t = from; t < end && alike; t++) alike = !has[(size_t)t * (size_t)H + (size_t)k];
                if (!alike) continue;
                unit[n++] = k;
                for (int t = from; t < end; t++) has[(size_t)t * (size_t)H + (size_t)k] = 1;
                lack[k] -= end - from;
            }
            r->o->put(device, unit, (size_t)n * sizeof *unit);
            const live_units u = {.unit = device, .n = n, .seqs = 1};
            const span s = {from, end - from};
            const float *in = opt_cache_rows(r->m, c->in, c, layer);
            ASSERT(width <= (size_t)c->E);
            r->o->live_linear(opt_cache_rows(r->m, c->k, c, layer), in, &w->wk, maybe(&w->bk), false, D, &u, &s, 1);
            r->o->live_linear(opt_cache_rows(r->m, c->v, c, layer), in, &w->wv, maybe(&w->bv), false, D, &u, &s, 1);
        }
    if (device) r->o->release(device);
    free(unit);
}

void sparse_kv(opt_run *r, int layer, const float *h) {
    const opt_layer *w = &r->m->layer[layer];
    const int D = r->m->c.D, width = w->wk.rows;
    r->o->linear(r->k[layer], h, &w->wk, maybe(&w->bk), false, r->kv_dense, r->n);
    r->o->linear(r->v[layer], h, &w->wv, maybe(&w->bv), false, r->kv_dense, r->n);
    if (r->n_live) {
        sparse_linear(r, r->k[layer], h, &w->wk, maybe(&w->bk), false, &r->live_heads, D, r->kv_sparse);
        sparse_linear(r, r->v[layer], h, &w->wv, maybe(&w->bv), false, &r->live_heads, D, r->kv_sparse);
    }
    for (int i = 0; i < r->n; i++) {
        const opt_cache *prefix = r->seq[i]->prefix;
        if (prefix && prefix->kv == KV_REPAIR) repair(r, i, layer, width / D);
        note(r, i, layer);
    }
    append(r, layer, CACHE_K, r->k[layer], width);
    append(r, layer, CACHE_V, r->v[layer], width);
    append(r, layer, CACHE_IN, h, r->m->c.E);
}

void sparse_kv_noted(opt_run *r) {
    for (int l = 0; l < r->m->c.L; l++)
        for (int i = 0; i < r->n; i++) note(r, i, l);
}

// Whether a head that runs has no K and V of some token in the prefix.
static bool lacks_kv(const opt_run *r, int i, int layer) {
    const opt_cache *p = r->seq[i]->prefix;
    if (!p || p->kv == KV_COMPUTE) return false;
    const uint8_t *heads = r->live[i] ? mask_bytes(r, i, true, layer, p->H) : NULL;
    bool lacks = false;
    for (int h = 0; h < heads_of(r, layer); h++) lacks |= (!heads || heads[h]) && p->lack[layer * p->H + h] > 0;
    return lacks;
}

bool sparse_settled(opt_run *r) {
    const opt_config *c = &r->m->c;
    bool settled = true;
    for (int l = 0; l < c->L && settled; l++) {
        run_enter(r, opt_part(r->m, l));
        if (r->n_live) settled = lists_hold(r, &r->live_heads, true, l, c->H, heads_of(r, l)) && lists_hold(r, &r->live_neurons, false, l, c->F, r->m->layer[l].w1.rows);
        for (int i = 0; i < r->n && settled; i++) settled = !lacks_kv(r, i, l);
    }
    return settled;
}

// ---------------------------------------------------------------- attention
// Of a sequence whose prefix lacks K and V of heads that run (KV_SKIP): its has, in device memory.
static const uint8_t *missing_kv(opt_run *r, int i, int layer, int n_heads) {
    const opt_cache *p = r->seq[i]->prefix;
    if (!p || p->kv != KV_SKIP || !lacks_kv(r, i, layer)) return NULL;
    const size_t bytes = (size_t)r->m->c.positions * (size_t)p->H;
    if (!r->device_has) r->device_has = r->o->alloc(bytes * (size_t)r->max_seqs);
    uint8_t *to = r->device_has + bytes * (size_t)i;
    r->o->put(to, p->has + (size_t)layer * (size_t)p->cap * (size_t)p->H, (size_t)p->n * (size_t)n_heads);
    return to;
}

void sparse_attention(opt_run *r, int layer, const span *half) {
    const opt *m = r->m;
    const int D = m->c.D, width = m->layer[layer].wq.rows;
    const float *q = r->q[layer], *k = r->k[layer], *v = r->v[layer];
    float *a = r->a[layer];
    for (int i = 0; i < r->n; i++) {
        const opt_cache *p = r->seq[i]->prefix;
        attn_seq *s = &r->attn[i], none = {.s = {r->all[i].row, 0}};
        s->s = r->all[i];
        s->past = r->first[i];
        s->past_at = p ? r->step + i : NULL;
        s->past_most = p ? p->cap : 0;
        s->past_k = p ? opt_cache_rows(m, p->k, p, layer) : NULL;
        s->past_v = p ? opt_cache_rows(m, p->v, p, layer) : NULL;
        s->past_has = missing_kv(r, i, layer, width / D);
        s->from = half[i].n ? half[i].row - r->all[i].row : r->all[i].n;
        r->attn_sparse[i] = r->live[i] ? *s : none;
        if (r->live[i]) {
            *s = none;
        } else if (s->past_has) {
            r->o->live_attention(a, q, k, v, width, D, NULL, s, 1);
            *s = none;
        }
    }
    r->o->attention(a, q, k, v, width, width / D, r->attn, r->n);
    if (r->n_live == 0) return;
    int count;
    const int lists = lists_of(r, &count);
    for (int l = 0; l < lists; l++) r->o->live_attention(a, q, k, v, width, D, &r->live_heads.list[l], r->attn_sparse + l, count);
}
