// opt_grad - gradients of the loss with respect to the taps (and, for pretraining, all weights), and exact Hessian-vector products.
// Contract in opt.h. Products: Pearlmutter 1994, "Fast exact multiplication by the Hessian": a forward pass of tangents along the
// direction, then the tangent of the backward pass. A tap is perturbed additively, so its direction is added where it is produced.
//
// With OPT_RECOMPUTE a layer's arrays are made again when its turn comes: from the residual that enters it, the gradient of the one that leaves it
// and the tangent of the one that enters it, the only arrays that each layer keeps (Chen et al. 2016, "Training deep nets with sublinear memory cost").
#include "opt_run.h"
#include <stdlib.h>
#include <string.h>

static bool last_layer(const opt_run *r, int l) { return l == r->m->c.L - 1; }
// Rows whose gradient can differ from zero: in the last layer, beyond the keys and values, the output rows only.
static const span *live(const opt_run *r, int l) { return last_layer(r, l) ? r->act : r->all; }
static void clear(opt_run *r, float *x, int width) { r->o->zero(x, (size_t)r->rows * (size_t)width * sizeof *x); }
static void set_from(opt_run *r, int l) {
    for (int i = 0; i < r->n; i++) r->attn[i].from = last_layer(r, l) ? r->act[i].row - r->all[i].row : 0;
}
static float *data(const weight *w) { return (float *)(uintptr_t)w->data; }  // of a gradient, which is ours to write

// ---------------------------------------------------------------- the head
static void set_scale(opt_run *r, const float *scale) {
    for (int i = 0; i < r->n; i++)
        for (int t = 0; t < r->out[i].n; t++)
            r->row_scale[r->out[i].row + t] = (scale ? scale[i] : 1.0f / (float)r->out[i].n) * (r->seq[i]->weights ? r->seq[i]->weights[t] : 1.0f);
}

// Packed rows of the head <-> rows of the batch.
static void scatter(opt_run *r, float *to, const float *from) {
    const size_t E = (size_t)r->m->c.E;
    for (int i = 0; i < r->n; i++) r->o->copy(to + (size_t)r->act[i].row * E, from + (size_t)r->out[i].row * E, (size_t)r->act[i].n * E * sizeof *to);
}
static void gather(opt_run *r, float *to, const float *from) {
    const size_t E = (size_t)r->m->c.E;
    for (int i = 0; i < r->n; i++) r->o->copy(to + (size_t)r->out[i].row * E, from + (size_t)r->act[i].row * E, (size_t)r->act[i].n * E * sizeof *to);
}

// dL/d(residual leaving the last layer) into r->dres; r->dy keeps the gradient at the last norm's output.
static void head_back(opt_run *r, double *logprob, opt *g) {
    const opt *m = r->m;
    const opt_config *c = &m->c;
    const ops *o = r->o;
    const float *y = run_output(r);
    const bool project = c->P != c->E;
    float *dy = project ? r->dyp : r->dy;
    span *s = xcalloc((size_t)r->n + 1, sizeof *s);
    for (int seq = 0, row = 0, first = 0, rows, n; seq < r->n; first += rows) {
        n = run_next_group(r, &seq, &row, s, &rows);
        if (!n) continue;
        run_head(r, y, s, n, first, r->logits);
        if (logprob) o->logprob(logprob + first, NULL, r->logits, r->target + first, c->V, c->V, rows);
        o->xent_back(r->logits, r->target + first, r->row_scale + first, c->V, rows);
        o->linear_back(dy + (size_t)first * (size_t)c->P, r->logits, &m->head, false, s, n);
        if (g) o->linear_grad(data(&g->embed), NULL, r->logits, y + (size_t)first * (size_t)c->P, c->V, c->P, s, n);
    }
    free(s);
    if (project) {
        o->linear_back(r->dy, r->dyp, &m->proj_out, false, r->out, r->n);
        if (g) o->linear_grad(data(&g->proj_out), NULL, r->dyp, c->final_ln ? r->h : r->y, c->P, c->E, r->out, r->n);
    }
    clear(r, r->dres, c->E);
    if (c->final_ln) {
        if (g) o->norm_grad(data(&g->lnf_g), data(&g->lnf_b), r->dy, r->y, c->E, r->out, r->n);
        o->norm_back(r->y, r->dy, r->y, &m->lnf_g, c->E, false, r->out, r->n);
        scatter(r, r->dres, r->y);
    } else scatter(r, r->dres, r->dy);
}

// ---------------------------------------------------------------- one layer
// In: r->dres, the gradient of the residual leaving layer l. Out: r->dz[l], r->da[l], r->dsum (at out_proj's output).
static void half_back(opt_run *r, int l, opt *g) {
    const opt_config *c = &r->m->c;
    const opt_layer *w = &r->m->layer[l], *gw = g ? &g->layer[l] : NULL;
    const ops *o = r->o;
    const int n = r->n, E = c->E, A = w->wq.rows, F = w->w1.rows;
    const span *rows = live(r, l);
    const float *x = c->pre_ln ? r->x[l] : r->mid[l], *dout = r->dres;
    if (!c->pre_ln) {  // dmid is the gradient of what enters the second norm
        o->move(r->dx[l], r->dres, E, rows, n);
        clear(r, r->dmid, E);
        o->norm_back(r->dmid, r->dres, r->s2[l], &w->ln2_g, E, false, rows, n);
        if (gw) o->norm_grad(data(&gw->ln2_g), data(&gw->ln2_b), r->dres, r->s2[l], E, rows, n);
        dout = r->dmid;
    }
    if (last_layer(r, l)) {
        clear(r, r->dz[l], F);
        clear(r, r->da[l], A);
    }
    o->linear_back(r->dz[l], dout, &w->w2, false, rows, n);
    if (F) o->gate(r->dz[l], r->dz[l], r->z[l], F, rows, n);
    if (gw) {
        o->relu(r->r, r->z[l], F, rows, n);
        o->linear_grad(data(&gw->w2), data(&gw->b2), dout, r->r, E, F, rows, n);
        o->linear_grad(data(&gw->w1), data(&gw->b1), r->dz[l], x, F, E, rows, n);
    }
    if (c->pre_ln) {
        o->linear_back(r->dx[l], r->dz[l], &w->w1, false, rows, n);
        o->move(r->dsum, r->dres, E, r->all, n);
        o->norm_back(r->dsum, r->dx[l], r->mid[l], &w->ln2_g, E, true, rows, n);
        if (gw) o->norm_grad(data(&gw->ln2_g), data(&gw->ln2_b), r->dx[l], r->mid[l], E, rows, n);
    } else {
        o->linear_back(r->dmid, r->dz[l], &w->w1, true, rows, n);
        o->move(r->dh[l], r->dmid, E, rows, n);
        clear(r, r->dsum, E);
        o->norm_back(r->dsum, r->dmid, r->s1[l], &w->ln1_g, E, false, rows, n);
        if (gw) o->norm_grad(data(&gw->ln1_g), data(&gw->ln1_b), r->dmid, r->s1[l], E, rows, n);
    }
    o->linear_back(r->da[l], r->dsum, &w->wo, false, rows, n);
    if (gw) o->linear_grad(data(&gw->wo), data(&gw->bo), r->dsum, r->a[l], E, A, rows, n);
}

// From r->da[l] and r->dsum to r->dres, the gradient of the residual entering layer l.
static void attention_half_back(opt_run *r, int l, opt *g) {
    const opt_config *c = &r->m->c;
    const opt_layer *w = &r->m->layer[l], *gw = g ? &g->layer[l] : NULL;
    const ops *o = r->o;
    const int n = r->n, E = c->E, A = w->wq.rows;
    set_from(r, l);
    if (A) o->attention_back(r->dq, r->dk, r->dv, r->da[l], r->q[l], r->k[l], r->v[l], A, A / c->D, r->attn, n);
    if (gw) {
        const float *h = r->res[l];
        if (c->pre_ln) {
            o->norm(r->h, r->res[l], &w->ln1_g, &w->ln1_b, E, r->all, n);
            h = r->h;
        }
        o->linear_grad(data(&gw->wq), data(&gw->bq), r->dq, h, A, E, r->all, n);
        o->linear_grad(data(&gw->wk), data(&gw->bk), r->dk, h, A, E, r->all, n);
        o->linear_grad(data(&gw->wv), data(&gw->bv), r->dv, h, A, E, r->all, n);
    }
    float *dh = c->pre_ln ? r->dh[l] : r->dsum;
    o->linear_back(dh, r->dk, &w->wk, !c->pre_ln, r->all, n);
    o->linear_back(dh, r->dv, &w->wv, true, r->all, n);
    o->linear_back(dh, r->dq, &w->wq, true, live(r, l), n);
    o->move(r->dres, r->dsum, E, r->all, n);
    if (!c->pre_ln) return;
    o->norm_back(r->dres, dh, r->res[l], &w->ln1_g, E, true, r->all, n);
    if (gw) o->norm_grad(data(&gw->ln1_g), data(&gw->ln1_b), dh, r->res[l], E, r->all, n);
}

static void embedding_grad(opt_run *r, opt *g) {
    const opt *m = r->m;
    const opt_config *c = &m->c;
    const ops *o = r->o;
    int32_t *position = xmalloc((size_t)r->rows * sizeof *position);
    for (int i = 0; i < r->n; i++)
        for (int t = 0; t < r->all[i].n; t++) position[r->all[i].row + t] = r->first[i] + t + 2;
    o->embed_grad(data(&g->pos), r->dres, position, c->E, r->all, r->n);
    free(position);
    const float *dembed = r->dres;
    if (c->P != c->E) {
        o->embed(r->proj, run_tokens(r), &m->embed, r->all, r->n);
        o->linear_grad(data(&g->proj_in), NULL, r->dres, r->proj, c->E, c->P, r->all, r->n);
        o->linear_back(r->proj, r->dres, &m->proj_in, false, r->all, r->n);
        dembed = r->proj;
    }
    o->embed_grad(data(&g->embed), dembed, r->tokens, c->P, r->all, r->n);
}

static void keep(opt_run *r, float *to, const float *from) { r->o->copy(to, from, (size_t)r->rows * (size_t)r->m->c.E * sizeof *to); }

void opt_backward(opt_run *r, const float *scale, double *logprob, opt *grads, opt_layer_fn *each, void *ctx) {
    ASSERT(r->flags & OPT_TAPS && (!grads || (r->flags & OPT_WEIGHT_GRADS && r->m->parts == 1)));
    for (int i = 0; i < r->n; i++) ASSERT(!r->seq[i]->mask && !r->seq[i]->prefix && !(r->flags & OPT_RECOMPUTE && (r->seq[i]->append || r->seq[i]->watch)));
    for (int i = 0; i < r->out_rows; i++) ASSERT(r->target[i] >= 0);
    set_scale(r, scale);
    head_back(r, logprob, grads);
    for (int l = r->m->c.L - 1; l >= 0; l--) {
        run_carry(r, l, &r->dres);
        run_restore(r, l);
        if (r->dleft) keep(r, r->dleft[l], r->dres);
        half_back(r, l, grads);
        if (each) each(ctx, r, l);
        if (l > 0 || grads) attention_half_back(r, l, grads);  // below the first tap, only weights want gradients
    }
    if (grads) embedding_grad(r, grads);
}

const float *opt_grad_a(const opt_run *r, int layer) { return r->da[layer]; }
const float *opt_grad_z(const opt_run *r, int layer) { return r->dz[layer]; }
const float *opt_grad_out(const opt_run *r, int layer) { return (void)layer, r->dsum; }

// ---------------------------------------------------------------- Hessian-vector products
typedef struct { const float *a, *z, *w; } direction;  // factors per sequence

static void add_direction(opt_run *r, float *t, const float *v, const float *factor, int width, const span *rows) {
    for (int i = 0; i < r->n; i++) r->o->add(t, v, factor ? factor[i] : 1.0f, width, &rows[i], 1);
}

// Sequence i's direction on fc1's weight, factor * dz' x, into r->g1; the scaled dz passes through r->tdz.
static weight weight_direction(opt_run *r, int l, int i, float factor) {
    const opt_config *c = &r->m->c;
    const int F = r->m->layer[l].w1.rows;
    const span *s = &live(r, l)[i];
    if (!r->g1) r->g1 = r->o->alloc((size_t)c->F * (size_t)c->E * sizeof *r->g1);
    r->o->zero(r->g1, (size_t)F * (size_t)c->E * sizeof *r->g1);
    r->o->zero(r->r + (size_t)s->row * (size_t)F, (size_t)s->n * (size_t)F * sizeof *r->r);
    r->o->add(r->r, r->dz[l], factor, F, s, 1);
    r->o->linear_grad(r->g1, NULL, r->r, opt_tap_x(r, l), F, c->E, s, 1);
    return (weight){r->g1, DT_F32, F, c->E, NULL, NULL};
}

// In: r->tcur, the tangent of the residual entering layer l. Out: that of the residual leaving it.
static void layer_jvp(opt_run *r, int l, const direction *v) {
    const opt_config *c = &r->m->c;
    const opt_layer *w = &r->m->layer[l];
    const ops *o = r->o;
    const int n = r->n, E = c->E, A = w->wq.rows, F = w->w1.rows;
    const span *rows = live(r, l);
    clear(r, r->ta, A);
    if (l > 0 && A > 0) {  // nothing is perturbed below the first tap
        const float *th = r->tcur;
        if (c->pre_ln) {
            o->norm_jvp(r->h, r->res[l], r->tcur, &w->ln1_g, E, r->all, n);
            th = r->h;
        }
        if (last_layer(r, l)) clear(r, r->tq[l], A);
        o->linear(r->tq[l], th, &w->wq, NULL, false, rows, n);
        o->linear(r->tk[l], th, &w->wk, NULL, false, r->all, n);
        o->linear(r->tv[l], th, &w->wv, NULL, false, r->all, n);
        set_from(r, l);
        o->attention_jvp(r->ta, r->q[l], r->k[l], r->v[l], r->tq[l], r->tk[l], r->tv[l], A, A / c->D, r->attn, n);
    }
    if (A) add_direction(r, r->ta, r->da[l], v->a, A, rows);
    float *sum1 = c->pre_ln ? r->tn2[l] : r->tn1[l];
    if (c->pre_ln) o->move(r->tn1[l], r->tcur, E, r->all, n);
    o->move(sum1, r->tcur, E, rows, n);
    o->linear(sum1, r->ta, &w->wo, NULL, true, rows, n);
    o->norm_jvp(r->tx[l], c->pre_ln ? r->mid[l] : r->s1[l], sum1, c->pre_ln ? &w->ln2_g : &w->ln1_g, E, rows, n);
    o->linear(r->tdz, r->tx[l], &w->w1, NULL, false, rows, n);
    if (F) add_direction(r, r->tdz, r->dz[l], v->z, F, rows);
    for (int i = 0; v->w && F && i < n; i++) {
        const weight g1 = weight_direction(r, l, i, v->w[i]);
        o->linear(r->tdz, opt_tap_x(r, l), &g1, NULL, true, &rows[i], 1);
    }
    if (F) o->gate(r->r, r->tdz, r->z[l], F, rows, n);
    float *sum2 = c->pre_ln ? r->tcur : r->tn2[l];
    o->move(sum2, c->pre_ln ? r->tn2[l] : r->tx[l], E, rows, n);
    o->linear(sum2, r->r, &w->w2, NULL, true, rows, n);
    if (!c->pre_ln) o->norm_jvp(r->tcur, r->s2[l], sum2, &w->ln2_g, E, rows, n);
}

// Tangent of head_back: from r->tcur to r->tdres.
static void head_back_jvp(opt_run *r) {
    const opt *m = r->m;
    const opt_config *c = &m->c;
    const ops *o = r->o;
    const bool project = c->P != c->E;
    const float *y = run_output(r);  // r->y: the packed residual, r->h: its norm
    gather(r, r->ty, r->tcur);
    float *t = r->ty;
    if (c->final_ln) {
        o->norm_jvp(r->ta, r->y, r->ty, &m->lnf_g, c->E, r->out, r->n);
        t = r->ta;
    }
    if (project) {
        o->linear(r->typ, t, &m->proj_out, NULL, false, r->out, r->n);
        t = r->typ;
    }
    float *tdy = project ? r->typ : r->tda;
    span *s = xcalloc((size_t)r->n + 1, sizeof *s);
    for (int seq = 0, row = 0, first = 0, rows, n; seq < r->n; first += rows) {
        n = run_next_group(r, &seq, &row, s, &rows);
        if (!n) continue;
        run_head(r, y, s, n, first, r->logits);
        o->xent_back(r->logits, r->target + first, r->row_scale + first, c->V, rows);
        run_head(r, t, s, n, first, r->tlogits);
        o->xent_back_jvp(r->tlogits, r->logits, r->target + first, r->row_scale + first, c->V, rows);
        o->linear_back(tdy + (size_t)first * (size_t)c->P, r->tlogits, &m->head, false, s, n);
    }
    free(s);
    if (project) o->linear_back(r->tda, r->typ, &m->proj_out, false, r->out, r->n);
    clear(r, r->tdres, c->E);
    if (c->final_ln) {
        o->norm_back_jvp(r->tdx, r->dy, r->tda, r->y, r->ty, &m->lnf_g, c->E, false, r->out, r->n);
        scatter(r, r->tdres, r->tdx);
    } else scatter(r, r->tdres, r->tda);
}

// Tangent of half_back: from r->tdres to r->tdz, r->tda and r->tdmid (at out_proj's output).
static void half_back_jvp(opt_run *r, int l, const direction *v) {
    const opt_config *c = &r->m->c;
    const opt_layer *w = &r->m->layer[l];
    const ops *o = r->o;
    const int n = r->n, E = c->E, A = w->wq.rows, F = w->w1.rows;
    const span *rows = live(r, l);
    float *tdout = r->tdres;
    if (!c->pre_ln) {
        o->norm_back_jvp(r->tdx, r->dx[l], r->tdres, r->s2[l], r->tn2[l], &w->ln2_g, E, false, rows, n);
        tdout = r->tdx;
    }
    if (last_layer(r, l)) {
        clear(r, r->tdz, F);
        clear(r, r->tda, A);
        clear(r, r->tdmid, E);
    }
    o->linear_back(r->tdz, tdout, &w->w2, false, rows, n);
    if (F) o->gate(r->tdz, r->tdz, r->z[l], F, rows, n);
    o->linear_back(r->tdx, r->tdz, &w->w1, !c->pre_ln, rows, n);
    for (int i = 0; v->w && F && i < n; i++) {
        const weight g1 = weight_direction(r, l, i, v->w[i]);
        o->linear_back(r->tdx, r->dz[l], &g1, true, &rows[i], 1);
    }
    if (c->pre_ln) {
        o->move(r->tdmid, r->tdres, E, rows, n);
        o->norm_back_jvp(r->tdmid, r->dx[l], r->tdx, r->mid[l], r->tn2[l], &w->ln2_g, E, true, rows, n);
    } else o->norm_back_jvp(r->tdmid, r->dh[l], r->tdx, r->s1[l], r->tn1[l], &w->ln1_g, E, false, rows, n);
    o->linear_back(r->tda, r->tdmid, &w->wo, false, rows, n);
}

static void attention_half_back_jvp(opt_run *r, int l) {
    const opt_config *c = &r->m->c;
    const opt_layer *w = &r->m->layer[l];
    const ops *o = r->o;
    const int n = r->n, E = c->E, A = w->wq.rows;
    set_from(r, l);
    if (A) o->attention_back_jvp(r->dq, r->dk, r->dv, r->da[l], r->tda, r->q[l], r->k[l], r->v[l], r->tq[l], r->tk[l], r->tv[l], A, A / c->D, r->attn, n);
    float *tdh = c->pre_ln ? r->tdx : r->tdmid;
    o->linear_back(tdh, r->dk, &w->wk, !c->pre_ln, r->all, n);
    o->linear_back(tdh, r->dv, &w->wv, true, r->all, n);
    o->linear_back(tdh, r->dq, &w->wq, true, live(r, l), n);
    o->move(r->tdres, r->tdmid, E, r->all, n);
    if (c->pre_ln) o->norm_back_jvp(r->tdres, r->dh[l], tdh, r->res[l], r->tn1[l], &w->ln1_g, E, true, r->all, n);
}

// What opt_backward had of a layer; whole: up to the gradient at the first norm's output.
static void restore_gradients(opt_run *r, int l, bool whole) {
    run_restore(r, l);
    keep(r, r->dres, r->dleft[l]);
    half_back(r, l, NULL);
    if (whole && r->m->c.pre_ln && l > 0) attention_half_back(r, l, NULL);
}

void opt_hessian(opt_run *r, const float *scale, const float *scale_a, const float *scale_z, const float *scale_w, opt_layer_fn *each, void *ctx) {
    ASSERT(r->flags & OPT_TANGENT);
    const direction v = {scale_a, scale_z, scale_w};
    set_scale(r, scale);
    run_enter(r, 0);
    clear(r, r->tcur, r->m->c.E);
    for (int l = 0; l < r->m->c.L; l++) {
        run_carry(r, l, &r->tcur);
        if (r->tcame) {
            keep(r, r->tcame[l], r->tcur);
            restore_gradients(r, l, false);
        }
        layer_jvp(r, l, &v);
    }
    head_back_jvp(r);
    for (int l = r->m->c.L - 1; l >= 0; l--) {
        run_carry(r, l, &r->tdres);
        if (r->tcame) {
            restore_gradients(r, l, true);
            keep(r, r->tcur, r->tcame[l]);
            layer_jvp(r, l, &v);
        }
        half_back_jvp(r, l, &v);
        each(ctx, r, l);
        if (l > 0) attention_half_back_jvp(r, l);
    }
}

const float *opt_hess_a(const opt_run *r, int layer) { return (void)layer, r->tda; }
const float *opt_hess_z(const opt_run *r, int layer) { return (void)layer, r->tdz; }
const float *opt_tangent_x(const opt_run *r, int layer) { return r->tx[layer]; }
