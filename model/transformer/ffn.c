// ffn - the FFN sublayer, and its derivatives beside it. Contracts in model_run.h.
//   z = x W1' + b1       [rows, F] the tap
//   r = max(z, 0)        [rows, F] not kept
//   y += r W2' + b2      [rows, E]
// or, where it is gated,
//   z = x Wg' + bg, u = x Wu' + bu, r = act(z) u      [rows, F] r: the tap
// or, with another activation than ReLU (curved, as the gated one is), r = act(z), kept.
// A live sequence has r of its live neurons only, and no z of others.
#include "model_run.h"
#include <math.h>

// ---------------------------------------------------------------- thresholds
// Neurons of x that are not above their sequence's number for the layer put out 0. gate: those of sequences that go by
// |act(z)|, in `by`; else the others.
static void keep_above(model_run *r, run_part *p, int l, float *x, const float *by, bool gate, const row_set *rows) {
    for (int i = 0; i < r->n; i++) {
        const model_above *a = r->seq[i]->above;
        r->above[i] = a && a->gate == gate ? a->least[l] : NAN;
    }
    r->o->keep_above(x, by, p->kept, r->above, r->m->layer[l].w1.rows, rows->dense, r->n);
}

// One token each, of sequences whose neurons run by their values: what others would read is not read.
static bool reads_above(const model_run *r, int l) {
    bool each = r->any_above && r->m->layer[l].w2_t.data && r->m->layer[l].w1.rows;
    for (int i = 0; i < r->n && each; i++) each = r->seq[i]->above && r->seq[i]->n == 1;
    return each;
}

// The neurons of row t of x that are above a number.
static live_units list_above(const model_run *r, const run_part *p, const float *x, int row, float above, int F) {
    r->o->list_above(p->above, x + (size_t)row * (size_t)F, above, F);
    const bool host = r->o->host;
    return (live_units){.unit = p->above + 1, .n = host ? p->above[0] : F, .seqs = 1, .n_at = host ? NULL : p->above};
}

// u of the neurons whose gates, in p->r, are above; 0 of the others.
static void up_of_above(model_run *r, run_part *p, int l, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int F = w->w1.rows;
    for (int i = 0; i < r->n; i++) {
        const span *s = &rows->all[i];
        if (!s->n) continue;
        r->o->zero(t->u + (size_t)s->row * (size_t)F, (size_t)F * sizeof *t->u);
        const live_units u = list_above(r, p, p->r, s->row, r->seq[i]->above->least[l], F);
        r->o->live_linear(t->u, t->x, &w->wu, maybe(&w->bu), false, 1, &u, s, 1);
    }
}

// u, cut to the neurons whose gates are above, where sequences go by these.
static void gates(model_run *r, run_part *p, int l, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int F = w->w1.rows;
    bool all = reads_above(r, l), any = false;
    for (int i = 0; i < r->n; i++) {
        const bool gate = r->seq[i]->above && r->seq[i]->above->gate;
        any |= gate;
        all &= gate;
    }
    if (any) r->o->gated(p->r, t->z, NULL, r->m->arch.act, F, rows->all, r->n);
    if (all)
        up_of_above(r, p, l, rows);
    else
        r->o->linear(t->u, t->x, &w->wu, maybe(&w->bu), false, rows->all, r->n);
    if (any) keep_above(r, p, l, t->u, p->r, true, rows);
}

// ---------------------------------------------------------------- forward
// r of every row that a pass keeps, since l2_norm reads it; else of those that leave.
static void curved_hidden(model_run *r, run_part *p, int l, const row_set *inside, const row_set *leaving) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int F = w->w1.rows;
    float *hidden = hidden_of(r, p, l);
    to_units(r, t->z, t->x, &w->w1, &w->b1, 1, &p->live_neurons, inside);
    if (r->m->arch.gated && r->any_above)
        gates(r, p, l, inside);
    else if (r->m->arch.gated)
        to_units(r, t->u, t->x, &w->wu, &w->bu, 1, &p->live_neurons, inside);
    r->o->gated(hidden, t->z, t->u, r->m->arch.act, F, t->r ? inside->all : leaving->all, r->n);
    if (inside->n_dense)
        r->o->drop_units(hidden, means_values(r, l, UNIT_NEURONS), r->neurons, r->mask_from, F, 1, r->every.dense,
                         r->n);
    if (r->any_above) keep_above(r, p, l, hidden, hidden, false, leaving);
    if (r->any_above && !r->m->arch.gated) keep_above(r, p, l, hidden, hidden, true, leaving);
}

// r of a pass that keeps nothing else and has no thresholds, in one operation.
static void hidden_at_once(model_run *r, run_part *p, int l, const sublayer_input *x, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const int maps = r->m->arch.gated ? 2 : 1, F = w->w1.rows;
    sublayer_map m[] = {{t->z, &w->w1, maybe(&w->b1), 1, NULL, false, NULL},
                        {t->u, &w->wu, maybe(&w->bu), 1, NULL, false, NULL}};
    if (rows->n_dense) {
        r->o->hidden(p->r, x, m, maps, r->m->arch.act, rows->dense, r->n);
        r->o->drop_units(p->r, means_values(r, l, UNIT_NEURONS), r->neurons, r->mask_from, F, 1, r->every.dense, r->n);
    }
    int width;
    const int lists = rows->n_live ? live_lists_of(r, &p->live_neurons, &width) : 0;
    for (int i = 0; i < lists; i++) {
        m[0].u = m[1].u = &p->live_neurons.list[i];
        r->o->hidden(p->r, x, m, maps, r->m->arch.act, rows->live + i, width);
    }
}

void ffn_hidden(model_run *r, run_part *p, int l, sublayer_input *x, const row_set *inside, const row_set *leaving) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const ops *o = r->o;
    const int n = r->n, F = w->w1.rows;
    if (F && !(r->flags & RUN_TAPS) && !r->any_above) {
        hidden_at_once(r, p, l, x, inside);
        return;
    }
    run_enter(r, x, inside);
    if (F == 0) return;
    if (curved_of(&r->m->arch)) {
        curved_hidden(r, p, l, inside, leaving);
        return;
    }
    if (inside->n_dense) {
        o->linear(t->z, t->x, &w->w1, maybe(&w->b1), false, inside->dense, n);
        o->relu(p->r, t->z, F, leaving->dense, n);
        o->drop_units(p->r, means_values(r, l, UNIT_NEURONS), r->neurons, r->mask_from, F, 1, r->every.dense, n);
        for (int gate = 0; r->any_above && gate < 2; gate++) keep_above(r, p, l, p->r, p->r, gate, leaving);
    }
    if (inside->n_live) live_to_units_relu(r, p->r, t->x, &w->w1, &w->b1, 1, &p->live_neurons, inside);
}

static void out_of_above(model_run *r, run_part *p, int l, float *y, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    for (int i = 0; i < r->n; i++) {
        const span *s = &rows->all[i];
        if (!s->n) continue;
        const live_units u = list_above(r, p, p->r, s->row, 0, w->w1.rows);  // the others were set to 0
        r->o->live_linear_t(y, p->r, &w->w2_t, maybe(&w->b2), 1, &u, s, 1);
    }
}

void ffn_out(model_run *r, run_part *p, int l, float *y, const row_set *rows) {
    const model_layer *w = &r->m->layer[l];
    if (reads_above(r, l)) {
        out_of_above(r, p, l, y, rows);
        return;
    }
    means_subtract(r, l, UNIT_NEURONS, hidden_of(r, p, l), rows);
    from_units(r, y, hidden_of(r, p, l), &w->w2, &w->w2_t, &w->b2, means_bias(r, l, UNIT_NEURONS, &w->b2), 1,
               &p->live_neurons, rows);
}

// ---------------------------------------------------------------- gradient
static void curved_back(model_run *r, int l, float *dx, bool add, const float *dy) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const int n = r->n, F = w->w1.rows;
    if (last_layer(r, l)) {
        run_clear(r, t->dr, F);
        run_clear(r, t->dz, F);
        if (t->du) run_clear(r, t->du, F);
    }
    o->linear_back(t->dr, dy, &w->w2, false, rows, n);
    if (F) o->gated_back(t->dz, t->du, t->dr, t->z, t->u, r->m->arch.act, F, rows, n);
    o->linear_back(dx, t->dz, &w->w1, add, rows, n);
    if (t->du) o->linear_back(dx, t->du, &w->wu, true, rows, n);
}

void ffn_back(model_run *r, run_part *p, int l, float *dx, bool add, const float *dy, const model_layer *g) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const int n = r->n, E = r->m->c.E, F = w->w1.rows;
    if (curved_of(&r->m->arch)) {
        curved_back(r, l, dx, add, dy);
        return;
    }
    if (last_layer(r, l)) run_clear(r, t->dz, F);
    o->linear_back(t->dz, dy, &w->w2, false, rows, n);
    if (F) o->gate(t->dz, t->dz, t->z, F, rows, n);
    if (g) {
        o->relu(p->r, t->z, F, rows, n);
        o->linear_grad(grad_of(&g->w2), grad_of(&g->b2), dy, p->r, E, F, rows, n);
        o->linear_grad(grad_of(&g->w1), grad_of(&g->b1), t->dz, t->x, F, E, rows, n);
    }
    o->linear_back(dx, t->dz, &w->w1, add, rows, n);
}

// ---------------------------------------------------------------- tangent
// Sequence i's direction on W1, factor * dz' x, in p->g1; the scaled dz passes through p->r.
static weight weight_direction(model_run *r, run_part *p, int l, int i, float factor) {
    const layer_arrays *t = &r->layer[l];
    const int E = r->m->c.E, F = r->m->layer[l].w1.rows;
    const span *s = &rows_leaving(r, l)->all[i];
    if (!p->g1) p->g1 = r->o->alloc((size_t)r->m->c.F * (size_t)E * sizeof *p->g1);
    r->o->zero(p->g1, (size_t)F * (size_t)E * sizeof *p->g1);
    r->o->zero(p->r + (size_t)s->row * (size_t)F, (size_t)s->n * (size_t)F * sizeof *p->r);
    r->o->add(p->r, t->dz, factor, F, s, 1);
    r->o->linear_grad(p->g1, NULL, p->r, t->x, F, E, s, 1);
    return (weight){p->g1, DT_F32, F, E, NULL, NULL, false};
}

// The direction, factor * the tap's gradient, added where the tap is.
static void move_tap(model_run *r, int l, float *t, const float *grad, const direction *v) {
    const int F = r->m->layer[l].w1.rows;
    for (int i = 0; F > 0 && i < r->n; i++)
        r->o->add(t, grad, v->z ? v->z[i] : 1.0f, F, &rows_leaving(r, l)->all[i], 1);
}

// Of a gated FFN r moves with z and u, and along the direction; of another z moves along it, and r with z.
static void curved_jvp(model_run *r, run_part *p, int l, float *ty, const direction *v) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const int n = r->n, F = w->w1.rows;
    const sublayer_input in = {.h = t->tx};
    const sublayer_map map[] = {{.y = t->tz, .w = &w->w1, .D = 1}, {.y = t->tu, .w = &w->wu, .D = 1}};
    o->maps(&in, map, t->tu ? 2 : 1, NULL, NULL, rows, n);
    if (!t->tu) move_tap(r, l, t->tz, t->dz, v);
    if (F) o->gated_jvp(p->r, t->z, t->u, t->tz, t->tu, r->m->arch.act, F, rows, n);
    if (t->tu) move_tap(r, l, p->r, t->dr, v);
    o->linear(ty, p->r, &w->w2, NULL, true, rows, n);
}

void ffn_jvp(model_run *r, run_part *p, int l, float *ty, const direction *v) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const int n = r->n, F = w->w1.rows;
    if (curved_of(&r->m->arch)) {
        curved_jvp(r, p, l, ty, v);
        return;
    }
    o->linear(p->tdz, t->tx, &w->w1, NULL, false, rows, n);
    move_tap(r, l, p->tdz, t->dz, v);
    for (int i = 0; v->w && F > 0 && i < n; i++) {
        const weight g1 = weight_direction(r, p, l, i, v->w[i]);
        o->linear(p->tdz, t->x, &g1, NULL, true, &rows[i], 1);
    }
    if (F) o->gate(p->r, p->tdz, t->z, F, rows, n);
    o->linear(ty, p->r, &w->w2, NULL, true, rows, n);
}

// ---------------------------------------------------------------- tangent of the gradient
static void curved_back_jvp(model_run *r, run_part *p, int l, float *tdx, bool add, const float *tdy) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const int n = r->n, F = w->w1.rows;
    if (last_layer(r, l)) {
        run_clear(r, p->tdr, F);
        if (!t->u) run_clear(r, p->tdz, F);  // the tap's
    }
    o->linear_back(p->tdr, tdy, &w->w2, false, rows, n);
    if (F) o->gated_back_jvp(p->tdz, p->tdu, t->dr, p->tdr, t->z, t->u, t->tz, t->tu, r->m->arch.act, F, rows, n);
    o->linear_back(tdx, p->tdz, &w->w1, add, rows, n);
    if (t->u) o->linear_back(tdx, p->tdu, &w->wu, true, rows, n);
}

void ffn_back_jvp(model_run *r, run_part *p, int l, float *tdx, bool add, const float *tdy, const direction *v) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    const span *rows = rows_leaving(r, l)->all;
    const ops *o = r->o;
    const int n = r->n, F = w->w1.rows;
    if (curved_of(&r->m->arch)) {
        curved_back_jvp(r, p, l, tdx, add, tdy);
        return;
    }
    if (last_layer(r, l)) run_clear(r, p->tdz, F);
    o->linear_back(p->tdz, tdy, &w->w2, false, rows, n);
    if (F) o->gate(p->tdz, p->tdz, t->z, F, rows, n);
    o->linear_back(tdx, p->tdz, &w->w1, add, rows, n);
    for (int i = 0; v->w && F > 0 && i < n; i++) {
        const weight g1 = weight_direction(r, p, l, i, v->w[i]);
        o->linear_back(tdx, t->dz, &g1, true, &rows[i], 1);
    }
}
