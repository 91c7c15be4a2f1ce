// live - lists of the live units of a layer, and the products that read their weights only. Contracts in model.h
// (model_sparse_prepare) and model_run.h.
//
// A sequence is live where its mask acts on all of its new rows. Its lists are read off the mask layer by layer,
// because who watches the pass may still write it. Sequences that are not live take the dense way in the same pass.
#include "model_run.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- transposed copies
// 0: a turned weight is one already.
static size_t copy_bytes(const weight *w) { return w->turned ? 0 : (weight_size(w) + 63) / 64 * 64; }

// Bytes of each part's copies; returns those of all.
static size_t plan_copies(const model *m, size_t bytes[OPS_PARTS]) {
    const family *f = m->arch.family;
    size_t all = 0;
    for (int l = 0; l < m->c.L; l++)
        for (int i = 0; i < f->n_tensors; i++) {
            if (!f->tensors[i].transposed) continue;
            const size_t some = copy_bytes((const weight *)((const char *)&m->layer[l] + f->tensors[i].slot));
            bytes[model_part(m, l)] += some;
            all += some;
        }
    return all;
}

size_t model_sparse_bytes(const model *m) {
    size_t bytes[OPS_PARTS] = {0};
    return plan_copies(m, bytes);
}

size_t model_sparse_prepare(model *m) {
    const family *f = m->arch.family;
    size_t bytes[OPS_PARTS] = {0};
    const size_t all = plan_copies(m, bytes);
    if (m->transposed[0]) return all;
    if (all && ops_plan(m->o, bytes, "transposed weights") != 0) die(1, "%s", err_get());
    char *block = NULL;
    for (int l = 0; l < m->c.L; l++) {
        const int p = model_part(m, l);
        if (l == m->first[p]) {
            m->o->use(p);
            block = m->transposed[p] = m->o->alloc(bytes[p] ? bytes[p] : 1);
        }
        for (int i = 0; i < f->n_tensors; i++) {
            const tensor_spec *s = &f->tensors[i];
            if (!s->transposed) continue;
            const weight *from = model_slot(m, s, l);
            weight *to = (weight *)((char *)&m->layer[l] + s->transposed);
            *to = weight_transpose(from);
            if (from->turned) continue;
            m->o->transpose(block, from);
            to->data = block;
            to->wide = NULL;
            block += copy_bytes(from);
        }
    }
    return all;
}

// ---------------------------------------------------------------- workspace
// Whether each sequence may have lists of its own: RUN_OWN_LISTS, or passes of many rows on a device, where a product
// of each sequence reads the weights anyway, so that one list for masks that differ would only make it longer.
static bool may_own(const model_run *r) {
    return r->max_seqs > 1 && (r->flags & RUN_OWN_LISTS || (!r->o->host && r->max_tokens > r->max_seqs));
}
static void lists_alloc(model_run *r, const run_part *p, live_lists *u, int units) {
    const model *m = r->m;
    const size_t N = (size_t)r->max_seqs, U = (size_t)units, lists = may_own(r) ? N : 1;
    u->layers = r->o->host ? 1 : m->first[p->index + 1] - m->first[p->index];
    const size_t layers = (size_t)u->layers;
    u->list = u->every = xcalloc(layers * lists, sizeof *u->every);
    u->each = xcalloc(layers, sizeof *u->each);
    if (!m->transposed[0]) return;
    u->unit = xcalloc(lists * (1 + U), sizeof *u->unit);
    u->device_unit = r->o->alloc(layers * lists * (1 + U) * sizeof *u->unit);
    if (p->index) u->near = r->o->alloc(N * U);
    if (!r->o->host) {
        u->of = xcalloc(layers * N, 1 + U);
        u->epoch = xcalloc(layers * N, sizeof *u->epoch);
    }
    if (r->flags & RUN_OWN_LISTS && r->max_seqs > 1) return;
    u->wants = xcalloc(U, N);
    u->device_wants = r->o->alloc(layers * U * N);
}

static void lists_free(model_run *r, live_lists *u) {
    free(u->kv);
    if (u->near) r->o->release(u->near);
    if (u->device_unit) r->o->release(u->device_unit);
    if (u->device_wants) r->o->release(u->device_wants);
    free(u->unit);
    free(u->wants);
    free(u->of);
    free(u->epoch);
    free(u->every);
    free(u->each);
}

void live_alloc(model_run *r) {
    const size_t N = (size_t)r->max_seqs;
    r->live = xcalloc(N, sizeof *r->live);
    for (int k = 0; k < UNIT_KINDS; k++) r->made[k] = xcalloc((size_t)r->m->c.L, sizeof *r->made[k]);
    for (int k = 0; k < r->m->parts; k++) {
        run_part *p = run_use(r, k);
        lists_alloc(r, p, &p->live_heads, r->m->c.H);
        lists_alloc(r, p, &p->live_neurons, r->m->c.F);
        if (!grouped(r)) continue;
        lists_alloc(r, p, &p->live_kv, r->m->arch.kv_heads);
        p->live_kv.kv = xcalloc(N, (size_t)r->m->arch.kv_heads);
    }
    r->kv_mask = xcalloc((size_t)r->m->arch.kv_heads, 1);
}

void live_free(model_run *r) {
    free(r->live);
    free(r->kv_mask);
    for (int k = 0; k < UNIT_KINDS; k++) free(r->made[k]);
    for (int k = 0; k < r->m->parts; k++) {
        run_part *p = run_use(r, k);
        lists_free(r, &p->live_heads);
        lists_free(r, &p->live_neurons);
        if (grouped(r)) lists_free(r, &p->live_kv);
    }
}

// ---------------------------------------------------------------- which sequences, which units
// The rows of sequence i into a set, among the dense or the live ones.
static void sort_rows(row_set *set, int i, span rows, bool live) {
    const span none = {rows.row, 0};
    set->dense[i] = live ? none : rows;
    set->live[i] = live ? rows : none;
    set->n_dense += !live;
    set->n_live += live;
}

void live_begin(model_run *r) {
    const bool able =
        r->m->transposed[0] && r->part[0].live_heads.unit && !(r->flags & (unsigned)(RUN_TAPS | RUN_MASK_BY_ZERO));
    row_set *sets[] = {&r->every, &r->outputs, &r->kv};
    for (int k = 0; k < 3; k++) sets[k]->n_dense = sets[k]->n_live = 0;
    r->n_live = 0;
    r->listed[UNIT_HEADS] = r->listed[UNIT_NEURONS] = 0;
    for (int i = 0; i < r->n; i++) {
        const kv_cache *to = r->seq[i]->append;
        const bool live = able && r->seq[i]->mask && r->mask_from[i] == 0;
        ASSERT(!r->there || !r->seq[i]->mask || (live && r->seq[i]->there));
        // K and V that nobody will read again are needed for live heads only
        const bool all_heads = !live || (to && to->kv == KV_COMPUTE);
        r->live[i] = live;
        r->n_live += live;
        sort_rows(&r->every, i, r->every.all[i], live);
        sort_rows(&r->outputs, i, r->outputs.all[i], live);
        sort_rows(&r->kv, i, r->every.all[i], !all_heads);
    }
}

const uint8_t *unit_mask_of(const model_run *r, int i, unit_kind kind, int layer) {
    const mask *m = r->seq[i]->mask;
    if (!m) return NULL;
    return kind == UNIT_HEADS ? m->heads + (size_t)layer * (size_t)r->m->c.H
                              : m->neurons + (size_t)layer * (size_t)r->m->c.F;
}

// 1 for KV heads of which a query head runs.
static void kv_mask_of(const model_run *r, int layer, const uint8_t *heads, uint8_t *kv) {
    memset(kv, 0, (size_t)model_kv_heads(r->m, layer));
    for (int h = 0; h < heads_of(r, layer); h++) kv[model_kv_head(&r->m->c, layer, h)] |= heads[h];
}

const uint8_t *live_kv_mask(const model_run *r, int i, int layer) {
    const uint8_t *heads = unit_mask_of(r, i, UNIT_HEADS, layer);
    if (!heads || !grouped(r)) return heads;
    kv_mask_of(r, layer, heads, r->kv_mask);
    return r->kv_mask;
}

// The lists of one kind of a layer: U units a row of the mask has, n the layer; place: of the layer's lists among those
// of the part.
typedef enum { LIST_HEADS, LIST_NEURONS, LIST_KV, LISTS } list_kind;
typedef struct {
    live_lists *u;
    list_kind kind;
    int layer, U, n;
    size_t place;
} lists_at;

static lists_at lists_of_layer(const model_run *r, const run_part *p, list_kind kind, int layer) {
    const live_lists *const lists[] = {&p->live_heads, &p->live_neurons, &p->live_kv};
    const model_config *c = &r->m->c;
    const int U[] = {c->H, c->F, r->m->arch.kv_heads},
              n[] = {heads_of(r, layer), r->m->layer[layer].w1.rows, model_kv_heads(r->m, layer)};
    live_lists *u = (live_lists *)(uintptr_t)lists[kind];
    const lists_at a = {u, kind, layer, U[kind], n[kind], u->layers > 1 ? (size_t)(layer - r->m->first[p->index]) : 0};
    for (int i = 0; kind == LIST_KV && i < r->n && !r->there; i++)
        if (r->live[i]) kv_mask_of(r, layer, unit_mask_of(r, i, UNIT_HEADS, layer), u->kv + (size_t)i * (size_t)a.U);
    return a;
}

// The row of sequence i's mask that a list is made of, and what it says of the list's units.
static const uint8_t *origin_of(const model_run *r, const lists_at *a, int i) {
    return unit_mask_of(r, i, a->kind == LIST_NEURONS ? UNIT_NEURONS : UNIT_HEADS, a->layer);
}
static const uint8_t *mask_of(const model_run *r, const lists_at *a, int i) {
    return a->kind == LIST_KV ? a->u->kv + (size_t)i * (size_t)a->U : origin_of(r, a, i);
}

// What the lists of sequence i were made of.
static uint8_t *made_of(const model_run *r, const lists_at *a, int i) {
    return a->u->of + (a->place * (size_t)r->max_seqs + (size_t)i) * (size_t)(1 + a->U);
}

// The epoch of the mask that they were made of.
static uint64_t *epoch_at(const model_run *r, const lists_at *a, int i) {
    return a->u->epoch + a->place * (size_t)r->max_seqs + (size_t)i;
}

// Whether sequence i's mask holds what the lists were made of, which a model of 30B has 1.4 million bytes of: looked at
// once an epoch.
static bool same_mask(const model_run *r, const lists_at *a, int i) {
    const uint64_t epoch = r->seq[i]->mask_epoch;
    if (epoch && *epoch_at(r, a, i) == epoch) return true;
    if (r->there) return false;
    const bool same = memcmp(made_of(r, a, i) + 1, mask_of(r, a, i), (size_t)a->n) == 0;
    if (same) *epoch_at(r, a, i) = epoch;
    return same;
}

// The mask that all live sequences share, or NULL.
static const uint8_t *shared_mask(const model_run *r, const lists_at *a) {
    int first = -1;
    for (int i = 0; i < r->n; i++) {
        if (!r->live[i]) continue;
        if (first >= 0 && origin_of(r, a, first) != origin_of(r, a, i)) return NULL;
        first = first < 0 ? i : first;
    }
    return first < 0 ? NULL : mask_of(r, a, first);
}

// Whether each live sequence has a list of its own.
static bool one_each(const model_run *r, const lists_at *a) {
    bool many = r->flags & RUN_OWN_LISTS;
    for (int i = 0; i < r->n; i++) many |= r->live[i] && r->seq[i]->n > 1;
    return may_own(r) && many && !shared_mask(r, a);
}

// Whether the lists that are on the device are those of the masks as they are.
static bool lists_hold(const model_run *r, const lists_at *a) {
    bool hold = a->u->of != NULL && a->u->each[a->place] == one_each(r, a);
    for (int i = 0; i < r->max_seqs && hold; i++) {
        const bool live = i < r->n && r->live[i];
        hold = *made_of(r, a, i) == (i < r->n ? 1 + live : 0) && (!live || same_mask(r, a, i));
    }
    return hold;
}

static void remember(model_run *r, const lists_at *a) {
    for (int i = 0; i < r->max_seqs && a->u->of; i++) {
        uint8_t *of = made_of(r, a, i);
        of[0] = i < r->n ? 1 + r->live[i] : 0;
        *epoch_at(r, a, i) = i < r->n ? r->seq[i]->mask_epoch : 0;
        if (i < r->n && r->live[i] && !r->there) memcpy(of + 1, mask_of(r, a, i), (size_t)a->n);
    }
}

// The place of the layer's lists among the device's.
static size_t first_list(const model_run *r, const lists_at *a) {
    return a->place * (size_t)(may_own(r) ? r->max_seqs : 1);
}

// A list of n units at unit[1..] to place `at` of the device's.
static live_units put_list(model_run *r, const lists_at *a, int32_t *unit, int n, size_t at) {
    int32_t *to = a->u->device_unit + at * (size_t)(1 + a->U);
    unit[0] = n;
    r->o->put(to, unit, (size_t)(1 + n) * sizeof *unit);
    return (live_units){.unit = to + 1, .n = n, .seqs = 1, .n_at = r->o->host ? NULL : to};
}

static void make_own(model_run *r, const lists_at *a) {
    for (int i = 0; i < r->n; i++) {
        int32_t *unit = a->u->unit + (size_t)i * (size_t)(1 + a->U);
        int n = 0;
        const uint8_t *m = mask_of(r, a, i);
        for (int k = 0; k < a->n && r->live[i]; k++) {
            unit[1 + n] = k;
            n += m[k] != 0;
        }
        a->u->list[i] = put_list(r, a, unit, n, first_list(r, a) + (size_t)i);
    }
}

// One list for all live sequences, which says of each unit who wants it where their masks differ.
static void make_common(model_run *r, const lists_at *a) {
    live_lists *u = a->u;
    const uint8_t *shared = shared_mask(r, a);
    int n = 0;
    for (int k = 0; k < a->n; k++) {
        uint8_t any = shared ? shared[k] : 0;
        for (int i = 0; i < r->n && !shared; i++) any |= u->wants[n * r->n + i] = r->live[i] && mask_of(r, a, i)[k];
        u->unit[1 + n] = k;
        n += any != 0;
    }
    live_units made = put_list(r, a, u->unit, n, first_list(r, a));
    made.seqs = r->n;
    if (!shared) {
        uint8_t *wants = u->device_wants + a->place * (size_t)a->U * (size_t)r->max_seqs;
        r->o->put(wants, u->wants, (size_t)n * (size_t)r->n);
        made.wants = wants;
    }
    r->relisted |= !made.wants != !u->list[0].wants || made.seqs != u->list[0].seqs;
    u->list[0] = made;
}

// ---------------------------------------------------------------- of masks in device memory
// The bytes that the list of sequence i is made of, on the list's part.
static const uint8_t *bytes_there(model_run *r, const run_part *p, const lists_at *a, int i) {
    const unit_kind kind = a->kind == LIST_NEURONS ? UNIT_NEURONS : UNIT_HEADS;
    const size_t U = (size_t)model_all_units(&r->m->c, kind);
    if (!r->live[i]) return NULL;
    const mask *m = r->seq[i]->there;
    const uint8_t *row = (kind == UNIT_HEADS ? m->heads : m->neurons) + (size_t)a->layer * U;
    if (!p->index) return row;
    uint8_t *near = (kind == UNIT_HEADS ? p->live_heads.near : p->live_neurons.near) + (size_t)i * U;
    if (a->kind != LIST_KV) r->o->copy(near, row, U);  // what KV heads are listed by is there from the heads
    return near;
}

// Of a layer, and of as many after it as `layers` has that are alike, in one launch.
static void list_there(model_run *r, const run_part *p, const lists_at *a, int layers, bool each) {
    live_lists *u = a->u;
    const uint8_t *bytes[LIST_SEQS];
    const attn_heads heads = attn_heads_of(r, a->layer), *of = a->kind == LIST_KV ? &heads : NULL;
    const size_t N = (size_t)r->max_seqs, lists = may_own(r) ? N : 1, U = (size_t)a->U;
    const list_stack stack = {
        .n = layers,
        .list = lists * (1 + U),
        .wants = U * N,
        .keep = (size_t)model_all_units(&r->m->c, a->kind == LIST_NEURONS ? UNIT_NEURONS : UNIT_HEADS)};
    ASSERT(r->n <= LIST_SEQS);
    for (int i = 0; i < r->n; i++) bytes[i] = bytes_there(r, p, a, i);
    r->o->use(p->index);
    for (int k = 0; k < (each ? r->n : 1); k++) {
        const int seqs = each ? 1 : r->n;
        for (int l = 0; l < layers; l++) {
            const size_t at = (a->place + (size_t)l) * lists + (size_t)k;
            int32_t *to = u->device_unit + at * (1 + U);
            uint8_t *wants = seqs > 1 ? u->device_wants + (a->place + (size_t)l) * U * N : NULL;
            if (l == 0) r->o->list_live(to, wants, bytes + k, seqs, a->n, of, &stack);
            const live_units made = {.unit = to + 1, .n = a->n, .seqs = seqs, .wants = wants, .n_at = to};
            r->relisted |= !made.wants != !u->every[at].wants || made.seqs != u->every[at].seqs;
            u->every[at] = made;
        }
    }
}

static int kinds_of_lists(const model_run *r) { return grouped(r) ? LISTS : LIST_KV; }

// ---------------------------------------------------------------- of masks that this pass writes
// The layers below which those who watch have made their masks of a kind.
static int masks_ready(const model_run *r, unit_kind kind) {
    int ready = r->m->c.L;
    for (int i = 0; i < r->n; i++) {
        const model_watch *w = r->seq[i]->watch;
        if (w && w->ready[kind] < ready) ready = w->ready[kind];
    }
    return ready;
}

// How many layers from a's on, below `end`, have as many units, on a's part, which is the masks'.
static int alike(const model_run *r, const run_part *p, const lists_at *a, int end) {
    int l = a->layer + 1;
    for (; l < end && !p->index && a->u->layers > 1 && model_part(r->m, l) == 0; l++) {
        const attn_heads one = attn_heads_of(r, a->layer), other = attn_heads_of(r, l);
        if (lists_of_layer(r, p, a->kind, l).n != a->n) break;
        if (a->kind == LIST_KV && (one.H != other.H || one.K != other.K || one.reads != other.reads)) break;
    }
    return l - a->layer;
}

static void list_layers(model_run *r, list_kind kind, int from, int end) {
    for (int l = from, layers; l < end; l += layers) {
        const run_part *p = &r->part[model_part(r->m, l)];
        const lists_at a = lists_of_layer(r, p, kind, l);
        const bool each = one_each(r, &a);
        layers = alike(r, p, &a, end);
        list_there(r, p, &a, layers, each);
        for (int k = 0; k < layers; k++) {
            const lists_at at = lists_of_layer(r, p, kind, l + k);
            r->relisted |= a.u->each[at.place] != each;
            a.u->each[at.place] = each;
            remember(r, &at);
        }
    }
}

void live_list_ready(model_run *r, const run_part *p) {
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS && r->chosen; kind++) {
        const int from = r->listed[kind], end = masks_ready(r, kind);
        if (from >= end) continue;
        r->o->use(0);
        r->o->aside((int)kind);
        list_layers(r, kind == UNIT_HEADS ? LIST_HEADS : LIST_NEURONS, from, end);
        if (kind == UNIT_HEADS && grouped(r)) list_layers(r, LIST_KV, from, end);
        r->o->use(0);
        const long made = r->o->mark();
        for (int l = from; l < end; l++) r->made[kind][l] = made;
        r->o->back();
        r->listed[kind] = end;
    }
    if (r->chosen) r->o->use(p->index);
}

void live_join(model_run *r) {
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS && r->chosen; kind++)
        if (r->listed[kind]) r->o->join(r->made[kind][r->listed[kind] - 1]);
}

// ---------------------------------------------------------------- of the layer at work
static void make_lists(model_run *r, const run_part *p, list_kind kind, int layer) {
    if (r->n_live == 0) return;
    const lists_at a = lists_of_layer(r, p, kind, layer);
    const unit_kind of = kind == LIST_NEURONS ? UNIT_NEURONS : UNIT_HEADS;
    a.u->list = a.u->every + first_list(r, &a);
    const bool each = a.u->one_each = one_each(r, &a);
    if (r->chosen) {
        ASSERT(layer < r->listed[of]);
        r->o->join(r->made[of][layer]);
        return;
    }
    if (lists_hold(r, &a)) return;
    r->relisted |= a.u->each[a.place] != each;
    a.u->each[a.place] = each;
    if (r->there)
        list_there(r, p, &a, 1, each);
    else if (each)
        make_own(r, &a);
    else
        make_common(r, &a);
    remember(r, &a);
}

void live_list_heads(model_run *r, run_part *p, int layer) {
    make_lists(r, p, LIST_HEADS, layer);
    if (grouped(r)) make_lists(r, p, LIST_KV, layer);
}
void live_list_neurons(model_run *r, run_part *p, int layer) { make_lists(r, p, LIST_NEURONS, layer); }

bool live_settled(const model_run *r) {
    bool settled = true;
    for (int l = 0; l < r->m->c.L && settled; l++) {
        const run_part *p = &r->part[model_part(r->m, l)];
        for (int kind = LIST_HEADS; kind < kinds_of_lists(r) && r->n_live && !r->chosen && settled; kind++) {
            const lists_at a = lists_of_layer(r, p, (list_kind)kind, l);
            settled = lists_hold(r, &a);
        }
        for (int i = 0; i < r->n && settled; i++) settled = !kv_lacks(r, i, l);
    }
    return settled;
}

void live_note_all(model_run *r) {
    for (int l = 0; l < r->m->c.L && r->chosen; l++)
        for (int kind = LIST_HEADS; kind < kinds_of_lists(r); kind++) {
            const lists_at a = lists_of_layer(r, &r->part[model_part(r->m, l)], (list_kind)kind, l);
            remember(r, &a);
        }
}

// ---------------------------------------------------------------- products
int live_lists_of(const model_run *r, const live_lists *u, int *width) {
    *width = u->one_each ? 1 : r->n;
    return u->one_each ? r->n : 1;
}

static void to_live(model_run *r, float *y, const float *x, const weight *w, const weight *b, bool relu, int D,
                    const live_lists *u, const span *s) {
    int width;
    const int lists = live_lists_of(r, u, &width);
    for (int k = 0; k < lists; k++) r->o->live_linear(y, x, w, maybe(b), relu, D, &u->list[k], s + k, width);
}

void live_to_units_relu(model_run *r, float *y, const float *x, const weight *w, const weight *b, int D,
                        const live_lists *u, const row_set *rows) {
    to_live(r, y, x, w, b, true, D, u, rows->live);
}

void to_units(model_run *r, float *y, const float *x, const weight *w, const weight *b, int D, const live_lists *u,
              const row_set *rows) {
    if (rows->n_dense) r->o->linear(y, x, w, maybe(b), false, rows->dense, r->n);
    if (rows->n_live) to_live(r, y, x, w, b, false, D, u, rows->live);
}

void from_units(model_run *r, float *y, const float *x, const weight *w, const weight *wt, const weight *b,
                const weight *live_b, int D, const live_lists *u, const row_set *rows) {
    if (w->cols == 0) {  // of no units the bias is left
        r->o->linear(y, x, w, maybe(b), true, rows->all, r->n);
        return;
    }
    if (rows->n_dense) r->o->linear(y, x, w, maybe(b), true, rows->dense, r->n);
    if (!rows->n_live) return;
    int width;
    const int lists = live_lists_of(r, u, &width);
    for (int k = 0; k < lists; k++) r->o->live_linear_t(y, x, wt, maybe(live_b), D, &u->list[k], rows->live + k, width);
}
