// attention - the attention sublayer, and its derivatives beside it (Pearlmutter 1994 for those of second order).
// Contracts in model_run.h.
//   q = h Wq' + bq                                   [rows, A], A = heads x D
//   k, v = h Wk' + bk, h Wv' + bv                    [rows, W], W = KV heads x D
//   q, k: each head through a norm (arch.qk_norm), then turned by its position (rotary positions)
//   a_h = softmax(q_h k_g' / sqrt(D)) v_g, causal    [rows, A] heads side by side, the tap; h reads the KV head g
//   y += a Wo' + bo                                  [rows, E]
// K and V, of new tokens and of those before, are kv.c's. The derivative of a turn is the turn, its adjoint the turn
// back.
#include "model_run.h"

// In the last layer only the queries of output rows count.
static void queries_from(model_run *r, int l) {
    for (int i = 0; i < r->n; i++) r->attn[i].from = rows_leaving(r, l)->all[i].row - r->every.all[i].row;
}

// ---------------------------------------------------------------- norms and turns of q and k
// Spans of rows of `units` heads as spans of rows of one head.
static const span *heads_as_rows(const model_run *r, const span *rows, int units) {
    for (int i = 0; i < r->n; i++) r->heads_as_rows[i] = (span){rows[i].row * units, rows[i].n * units};
    return r->heads_as_rows;
}

static void turn(model_run *r, const run_part *p, float *x, int units, bool back) {
    if (r->m->arch.positions != POSITIONS_ROTARY || units == 0) return;
    r->o->rotate(x, r->m->c.D, &r->m->turn[p->index], p->step, units, back, r->every.all, r->n);
}

void attention_place(model_run *r, const run_part *p, float *x, const float *raw, const weight *gain, int units,
                     const span *rows) {
    const int D = r->m->c.D;
    if (gain->data && units) r->o->norm(x, raw, gain, NULL, norm_of(r->m, D), heads_as_rows(r, rows, units), r->n);
    turn(r, p, x, units, false);
}

// From the gradient dx at what attention takes to the one at raw, in place; dn [of the same width], or NULL: keeps the
// gradient at the norm's output.
static void place_back(model_run *r, const run_part *p, float *dx, float *dn, const float *raw, const weight *gain,
                       int units) {
    const int D = r->m->c.D;
    turn(r, p, dx, units, true);
    if (!gain->data || units == 0) return;
    if (dn) r->o->move(dn, dx, units * D, r->every.all, r->n);
    r->o->norm_back(dx, dx, raw, gain, norm_of(r->m, D), false, heads_as_rows(r, r->every.all, units), r->n);
}

// The tangent of attention_place, from traw to tx; of place_back, in place from the tangent of dx.
static void place_jvp(model_run *r, const run_part *p, float *tx, const float *traw, const float *raw,
                      const weight *gain, int units, const span *rows) {
    const int D = r->m->c.D;
    if (gain->data) r->o->norm_jvp(tx, raw, traw, gain, norm_of(r->m, D), heads_as_rows(r, rows, units), r->n);
    turn(r, p, tx, units, false);
}

static void place_back_jvp(model_run *r, const run_part *p, float *tdx, const float *dn, const float *raw,
                           const float *traw, const weight *gain, int units) {
    const int D = r->m->c.D;
    turn(r, p, tdx, units, true);
    if (gain->data && units)
        r->o->norm_back_jvp(tdx, dn, tdx, raw, traw, gain, norm_of(r->m, D), false,
                            heads_as_rows(r, r->every.all, units), r->n);
}

// ---------------------------------------------------------------- forward
void attention_queries(model_run *r, run_part *p, int l, const float *h, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int H = heads_of(r, l);
    float *raw = t->q0 ? t->q0 : t->q;
    if (H == 0) return;
    to_units(r, raw, h, &w->wq, &w->bq, r->m->c.D, &p->live_heads, rows);
    attention_place(r, p, t->q, raw, &w->q_norm, H, rows->all);
}

void attention_heads(model_run *r, run_part *p, int l, const row_set *rows) {
    const layer_arrays *t = &r->layer[l];
    const int D = r->m->c.D, H = heads_of(r, l);
    if (H == 0) return;
    kv_attend(r, p, l, rows);
    r->o->drop_units(t->a, means_values(r, l, UNIT_HEADS), r->heads, r->mask_from, H, D, r->every.all, r->n);
}

void attention_out(model_run *r, run_part *p, int l, float *y, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    means_subtract(r, l, UNIT_HEADS, r->layer[l].a, rows);
    from_units(r, y, r->layer[l].a, &w->wo, &w->wo_t, &w->bo, means_bias(r, l, UNIT_HEADS, &w->bo), r->m->c.D,
               &p->live_heads, rows);
}

// ---------------------------------------------------------------- gradient
void attention_out_back(model_run *r, int l, const float *dy, const model_layer *g) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const int n = r->n, E = r->m->c.E, A = w->wq.rows;
    if (last_layer(r, l)) run_clear(r, t->da, A);
    r->o->linear_back(t->da, dy, &w->wo, false, rows, n);
    if (g) r->o->linear_grad(grad_of(&g->wo), grad_of(&g->bo), dy, t->a, E, A, rows, n);
}

// From dq, dk, dv to the gradient at h. The queries of rows that leave nothing have none.
static void inputs_back(model_run *r, const run_part *p, int l, float *dh, bool add) {
    const model_layer *w = &r->m->layer[l];
    r->o->linear_back(dh, p->dk, &w->wk, add, r->every.all, r->n);
    r->o->linear_back(dh, p->dv, &w->wv, true, r->every.all, r->n);
    r->o->linear_back(dh, p->dq, &w->wq, true, rows_leaving(r, l)->all, r->n);
}

void attention_heads_back(model_run *r, run_part *p, int l, float *dh, bool add, const float *h, const model_layer *g) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *every = r->every.all;
    const ops *o = r->o;
    const attn_heads heads = attn_heads_of(r, l);
    const int n = r->n, E = r->m->c.E, A = heads.H * heads.D, W = heads.K * heads.D;
    queries_from(r, l);
    if (A) o->attention_back(p->dq, p->dk, p->dv, t->da, t->q, t->k, t->v, &heads, r->attn, n);
    place_back(r, p, p->dq, t->dqn, t->q0, &w->q_norm, heads.H);
    place_back(r, p, p->dk, t->dkn, t->k0, &w->k_norm, heads.K);
    if (g) {
        o->linear_grad(grad_of(&g->wq), grad_of(&g->bq), p->dq, h, A, E, every, n);
        o->linear_grad(grad_of(&g->wk), grad_of(&g->bk), p->dk, h, W, E, every, n);
        o->linear_grad(grad_of(&g->wv), grad_of(&g->bv), p->dv, h, W, E, every, n);
    }
    inputs_back(r, p, l, dh, add);
}

// ---------------------------------------------------------------- tangent
// Tangents of q, k and v from the one of their input; in the last layer q has fewer rows.
static void inputs_jvp(model_run *r, int l, float *tq, float *tk, float *tv, const float *th) {
    const model_layer *w = &r->m->layer[l];
    const ops *o = r->o;
    const sublayer_input in = {.h = (float *)(uintptr_t)th};  // nothing is written to it: there is no norm
    const sublayer_map map[] = {
        {.y = tk, .w = &w->wk, .D = 1}, {.y = tv, .w = &w->wv, .D = 1}, {.y = tq, .w = &w->wq, .D = 1}};
    const bool last = last_layer(r, l);
    o->maps(&in, map, last ? 2 : 3, NULL, NULL, r->every.all, r->n);
    if (last) o->linear(tq, th, &w->wq, NULL, false, rows_leaving(r, l)->all, r->n);
}

void attention_heads_jvp(model_run *r, run_part *p, int l, const float *th, const direction *v) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *every = r->every.all, *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const attn_heads heads = attn_heads_of(r, l);
    const int n = r->n, A = heads.H * heads.D;
    float *tq = t->tq0 ? t->tq0 : t->tq, *tk = t->tk0 ? t->tk0 : t->tk;
    run_clear(r, p->ta, A);
    if (th && A > 0) {
        if (last_layer(r, l)) {
            run_clear(r, t->tq, A);
            if (tq != t->tq) run_clear(r, tq, A);
        }
        inputs_jvp(r, l, tq, tk, t->tv, th);
        place_jvp(r, p, t->tq, tq, t->q0, &w->q_norm, heads.H, rows);
        place_jvp(r, p, t->tk, tk, t->k0, &w->k_norm, heads.K, every);
        queries_from(r, l);
        o->attention_jvp(p->ta, t->q, t->k, t->v, t->tq, t->tk, t->tv, &heads, r->attn, n);
    }
    for (int i = 0; A > 0 && i < n; i++) o->add(p->ta, t->da, v->a ? v->a[i] : 1.0f, A, &rows[i], 1);
}

void attention_out_jvp(model_run *r, run_part *p, int l, float *ty) {
    r->o->linear(ty, p->ta, &r->m->layer[l].wo, NULL, true, rows_leaving(r, l)->all, r->n);
}

// ---------------------------------------------------------------- tangent of the gradient
void attention_out_back_jvp(model_run *r, run_part *p, int l, const float *tdy) {
    if (last_layer(r, l)) run_clear(r, p->tda, r->m->layer[l].wq.rows);
    r->o->linear_back(p->tda, tdy, &r->m->layer[l].wo, false, rows_leaving(r, l)->all, r->n);
}

void attention_heads_back_jvp(model_run *r, run_part *p, int l, float *tdh, bool add) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const attn_heads heads = attn_heads_of(r, l);
    queries_from(r, l);
    if (heads.H)
        r->o->attention_back_jvp(p->dq, p->dk, p->dv, t->da, p->tda, t->q, t->k, t->v, t->tq, t->tk, t->tv, &heads,
                                 r->attn, r->n);
    place_back_jvp(r, p, p->dq, t->dqn, t->q0, t->tq0, &w->q_norm, heads.H);
    place_back_jvp(r, p, p->dk, t->dkn, t->k0, t->tk0, &w->k_norm, heads.K);
    inputs_back(r, p, l, tdh, add);
}
