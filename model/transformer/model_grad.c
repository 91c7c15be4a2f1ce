// model_grad - gradients of the loss with respect to the taps (and, for pretraining, all weights), and exact
// Hessian-vector products. Contract in model.h. Products: Pearlmutter 1994, "Fast exact multiplication by the Hessian":
// a forward pass of tangents along the direction, then the tangent of the backward pass. A tap is perturbed additively,
// so its direction is added where it is produced.
//
// With RUN_RECOMPUTE a layer's arrays are made again when its turn comes: from the residual that enters it, the
// gradient of the one that leaves it and the tangent of the one that enters it, the only arrays that each layer keeps
// (Chen et al. 2016, "Training deep nets with sublinear memory cost").
#include "model_run.h"
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- the head
static void set_scale(model_run *r, const float *scale) {
    for (int i = 0; i < r->n; i++)
        for (int t = 0; t < r->packed[i].n; t++)
            r->row_scale[r->packed[i].row + t] =
                (scale ? scale[i] : 1.0f / (float)r->packed[i].n) * (r->seq[i]->weights ? r->seq[i]->weights[t] : 1.0f);
}

// Packed rows of the head <-> rows of the batch.
static void scatter(model_run *r, float *to, const float *from) {
    const size_t E = (size_t)r->m->c.E;
    for (int i = 0; i < r->n; i++)
        r->o->copy(to + (size_t)r->outputs.all[i].row * E, from + (size_t)r->packed[i].row * E,
                   (size_t)r->outputs.all[i].n * E * sizeof *to);
}
static void gather(model_run *r, float *to, const float *from) {
    const size_t E = (size_t)r->m->c.E;
    for (int i = 0; i < r->n; i++)
        r->o->copy(to + (size_t)r->packed[i].row * E, from + (size_t)r->outputs.all[i].row * E,
                   (size_t)r->outputs.all[i].n * E * sizeof *to);
}

// dL/d(residual leaving the last layer) into p->dres; r->dy keeps the gradient at the last norm's output.
static void head_back(model_run *r, run_part *p, double *logprob, model *g) {
    const model *m = r->m;
    const model_config *c = &m->c;
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
        if (g) o->linear_grad(grad_of(&g->embed), NULL, r->logits, y + (size_t)first * (size_t)c->P, c->V, c->P, s, n);
    }
    free(s);
    if (project) {
        o->linear_back(r->dy, r->dyp, &m->proj_out, false, r->packed, r->n);
        if (g)
            o->linear_grad(grad_of(&g->proj_out), NULL, r->dyp, m->arch.norm_at_end ? p->h : r->y, c->P, c->E,
                           r->packed, r->n);
    }
    run_clear(r, p->dres, c->E);
    if (m->arch.norm_at_end) {
        if (g) o->norm_grad(grad_of(&g->lnf_g), grad_of(&g->lnf_b), r->dy, r->y, norm_of(m, c->E), r->packed, r->n);
        o->norm_back(r->y, r->dy, r->y, &m->lnf_g, norm_of(m, c->E), false, r->packed, r->n);
        scatter(r, p->dres, r->y);
    } else
        scatter(r, p->dres, r->dy);
}

// ---------------------------------------------------------------- all of it
static void embedding_grad(model_run *r, run_part *p, model *g) {
    const model *m = r->m;
    const model_config *c = &m->c;
    const ops *o = r->o;
    int32_t *position = xmalloc((size_t)r->rows * sizeof *position);
    for (int i = 0; i < r->n; i++)
        for (int t = 0; t < r->every.all[i].n; t++)
            position[r->every.all[i].row + t] = r->first[i] + t + m->arch.position_offset;
    o->embed_grad(grad_of(&g->pos), p->dres, position, c->E, r->every.all, r->n);
    free(position);
    const float *dembed = p->dres;
    if (c->P != c->E) {
        o->embed(p->proj, run_tokens(r), &m->embed, r->every.all, r->n);
        o->linear_grad(grad_of(&g->proj_in), NULL, p->dres, p->proj, c->E, c->P, r->every.all, r->n);
        o->linear_back(p->proj, p->dres, &m->proj_in, false, r->every.all, r->n);
        dembed = p->proj;
    }
    o->embed_grad(grad_of(&g->embed), dembed, r->tokens, c->P, r->every.all, r->n);
}

void model_backward(model_run *r, const float *scale, double *logprob, model *grads, model_layer_fn *each, void *ctx) {
    const arch *of = &r->m->arch;
    ASSERT(r->flags & RUN_TAPS && (!grads || (r->flags & RUN_WEIGHT_GRADS && r->m->parts == 1)));
    // what pretrain makes
    ASSERT(!grads || (of->positions == POSITIONS_LEARNED && !curved_of(of) && of->affine && of->tied));
    for (int i = 0; i < r->n; i++)
        ASSERT(!r->seq[i]->mask && !r->seq[i]->prefix &&
               !(r->flags & RUN_RECOMPUTE && (r->seq[i]->append || r->seq[i]->watch)));
    for (int i = 0; i < r->out_rows; i++) ASSERT(r->target[i] >= 0);
    set_scale(r, scale);
    run_part *p = run_last_part(r);
    head_back(r, p, logprob, grads);
    for (int l = r->m->c.L - 1; l >= 0; l--) {
        const model_layer *g = grads ? &grads->layer[l] : NULL;
        run_part *from = p;
        p = run_use_of(r, l);
        if (p != from) run_copy(r, p->dres, from->dres);
        run_restore(r, p, l);
        if (r->layer[l].dleft) run_copy(r, r->layer[l].dleft, p->dres);
        block_back_to_taps(r, p, l, g);
        if (each) each(ctx, r, l);
        if (l > 0 || grads) block_back_to_input(r, p, l, g);  // below the first tap, only weights want gradients
    }
    if (grads) embedding_grad(r, p, grads);
}

void model_each_layer(model_run *r, model_layer_fn *each, void *ctx) {
    ASSERT(r->flags & RUN_TAPS);
    for (int l = r->m->c.L - 1; l >= 0; l--) {
        run_restore(r, run_use_of(r, l), l);
        each(ctx, r, l);
    }
}

const float *model_grad_a(const model_run *r, int layer) { return r->layer[layer].da; }
const float *model_grad_z(const model_run *r, int layer) { return r->layer[layer].dz; }
const float *model_grad_u(const model_run *r, int layer) { return r->layer[layer].du; }
const float *model_grad_r(const model_run *r, int layer) { return r->layer[layer].dr; }
const float *model_grad_rows(const model_run *r, int layer, int k) {
    const float *const rows[] = {model_grad_z(r, layer), model_grad_u(r, layer)};
    return k < 2 ? rows[k] : NULL;
}
const float *model_grad_tap(const model_run *r, unit_kind kind, int layer) {
    if (kind == UNIT_HEADS) return model_grad_a(r, layer);
    return r->m->arch.tap == TAP_R ? model_grad_r(r, layer) : model_grad_z(r, layer);
}
const float *model_grad_out(const model_run *r, int layer) { return r->part[model_part(r->m, layer)].dsum; }

// ---------------------------------------------------------------- Hessian-vector products
// Tangent of head_back: from p->tcur to p->tdres.
static void head_back_jvp(model_run *r, run_part *p) {
    const model *m = r->m;
    const model_config *c = &m->c;
    const ops *o = r->o;
    const bool project = c->P != c->E;
    const float *y = run_output(r);  // r->y: the packed residual, p->h: its norm
    gather(r, r->ty, p->tcur);
    float *t = r->ty;
    if (m->arch.norm_at_end) {
        o->norm_jvp(p->ta, r->y, r->ty, &m->lnf_g, norm_of(m, c->E), r->packed, r->n);
        t = p->ta;
    }
    if (project) {
        o->linear(r->typ, t, &m->proj_out, NULL, false, r->packed, r->n);
        t = r->typ;
    }
    float *tdy = project ? r->typ : p->tda;
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
    if (project) o->linear_back(p->tda, r->typ, &m->proj_out, false, r->packed, r->n);
    run_clear(r, p->tdres, c->E);
    if (m->arch.norm_at_end) {
        o->norm_back_jvp(p->tdx, r->dy, p->tda, r->y, r->ty, &m->lnf_g, norm_of(m, c->E), false, r->packed, r->n);
        scatter(r, p->tdres, p->tdx);
    } else
        scatter(r, p->tdres, p->tda);
}

// What model_backward had of a layer; whole: up to the gradient at the first norm's output.
static void restore_gradients(model_run *r, run_part *p, int l, bool whole) {
    run_restore(r, p, l);
    run_copy(r, p->dres, r->layer[l].dleft);
    block_back_to_taps(r, p, l, NULL);
    if (whole && r->m->arch.norm_first && l > 0) block_back_to_input(r, p, l, NULL);
}

void model_hessian(model_run *r, const float *scale, const float *scale_a, const float *scale_z, const float *scale_w,
                   model_layer_fn *each, void *ctx) {
    ASSERT(r->flags & RUN_TANGENT && (!scale_w || !curved_of(&r->m->arch)));
    const bool again = r->flags & RUN_RECOMPUTE;
    const direction v = {scale_a, scale_z, scale_w};
    set_scale(r, scale);
    run_part *p = run_use(r, 0), *from;
    run_clear(r, p->tcur, r->m->c.E);
    for (int l = 0; l < r->m->c.L; l++) {
        from = p;
        p = run_use_of(r, l);
        if (p != from) run_copy(r, p->tcur, from->tcur);
        if (again) {
            run_copy(r, r->layer[l].tcame, p->tcur);
            restore_gradients(r, p, l, false);
        }
        block_jvp(r, p, l, &v);
    }
    head_back_jvp(r, p);
    for (int l = r->m->c.L - 1; l >= 0; l--) {
        from = p;
        p = run_use_of(r, l);
        if (p != from) run_copy(r, p->tdres, from->tdres);
        if (again) {
            restore_gradients(r, p, l, true);
            run_copy(r, p->tcur, r->layer[l].tcame);
            block_jvp(r, p, l, &v);
        }
        block_back_to_taps_jvp(r, p, l, &v);
        each(ctx, r, l);
        if (l > 0) block_back_to_input_jvp(r, p, l);
    }
}

const float *model_hess_a(const model_run *r, int layer) { return r->part[model_part(r->m, layer)].tda; }
const float *model_hess_z(const model_run *r, int layer) {
    const run_part *p = &r->part[model_part(r->m, layer)];
    return r->m->arch.tap == TAP_R ? p->tdr : p->tdz;
}
const float *model_hess_tap(const model_run *r, unit_kind kind, int layer) {
    return kind == UNIT_HEADS ? model_hess_a(r, layer) : model_hess_z(r, layer);
}
const float *model_tangent_x(const model_run *r, int layer) { return r->layer[layer].tx; }
