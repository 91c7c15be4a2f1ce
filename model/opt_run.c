// opt_run - forward over packed batches. Contract in opt.h, layout of the arrays in opt_run.h.
#include "opt_run.h"
#include <stdlib.h>
#include <string.h>

enum { LOGIT_FLOATS = 1 << 24 };  // of the logits buffer: 64 MiB, whatever the vocabulary

// ---------------------------------------------------------------- workspace
void run_enter(opt_run *r, int part) {
    if (r->at != part) {
        run_part *from = &r->part[r->at], *to = &r->part[part];
#define X(type, name) from->name = r->name, r->name = to->name;
        RUN_PART(X)
#undef X
        r->at = part;
    }
    r->o->use(part);
}

void run_carry(opt_run *r, int layer, float **carried) {
    const float *from = *carried;
    run_enter(r, opt_part(r->m, layer));
    if (*carried != from) r->o->copy(*carried, from, (size_t)r->rows * (size_t)r->m->c.E * sizeof *from);
}

// Of the part at work. With dry set, only the bytes are counted.
static float *cut(opt_run *r, size_t floats, bool dry) {
    floats = (floats + 63) / 64 * 64;
    r->bytes[r->at] += floats * sizeof(float);
    if (dry) return NULL;
    float *p = r->o->alloc(floats * sizeof(float));
    VEC_PUSH(r->blocks, r->n_blocks, r->cap_blocks, (void *)p);
    return p;
}

// An array of each layer, on its part; without `own` the layers of a part share one.
static float **per_layer(opt_run *r, int layers, bool own, size_t floats, bool dry) {
    const opt *m = r->m;
    float **p = xcalloc((size_t)layers, sizeof *p);
    for (int l = 0; l < layers; l++) {
        const int part = opt_part(m, l);
        run_enter(r, part);
        p[l] = own || l == m->first[part] ? cut(r, floats, dry) : p[m->first[part]];
    }
    return p;
}

static void plan_part(opt_run *r, bool dry) {
    const opt_config *c = &r->m->c;
    const size_t T = (size_t)r->max_tokens, E = (size_t)c->E, F = (size_t)c->F, P = (size_t)c->P;
    const bool keep = r->flags & OPT_TAPS, tangent = r->flags & OPT_TANGENT, last = r->at == r->m->parts - 1;
    r->step = (int32_t *)cut(r, (size_t)r->max_seqs + (r->at == 0 || last ? T : 0), dry);
    r->h = cut(r, T * E, dry);
    r->r = cut(r, T * F, dry);
    if (!last) r->leave = cut(r, T * E, dry);
    if (opt_compacted(c)) r->seen = cut(r, E, dry);
    if (last || r->at == 0) r->proj = cut(r, T * P, dry);
    if (keep) {
        float **backward[] = {&r->dres, &r->dmid, &r->dq, &r->dk, &r->dv, &r->dsum};
        for (size_t i = 0; i < sizeof backward / sizeof *backward; i++) *backward[i] = cut(r, T * E, dry);
    }
    if (tangent) {
        float **tangents[] = {&r->tcur, &r->ta, &r->tdres, &r->tdmid, &r->tdx, &r->tda};
        for (size_t i = 0; i < sizeof tangents / sizeof *tangents; i++) *tangents[i] = cut(r, T * E, dry);
        r->tdz = cut(r, T * F, dry);
    }
    if (!last) return;
    r->logit_rows = LOGIT_FLOATS / c->V < 32 ? 32 : LOGIT_FLOATS / c->V;
    if (r->logit_rows > r->max_tokens) r->logit_rows = r->max_tokens;
    const size_t logits = (size_t)r->logit_rows * (size_t)c->V;
    r->y = cut(r, T * E, dry);
    r->yp = cut(r, T * P, dry);
    r->logits = cut(r, logits, dry);
    if (keep) {
        r->dy = cut(r, T * E, dry);
        r->dyp = cut(r, T * P, dry);
    }
    if (tangent) {
        r->ty = cut(r, T * E, dry);
        r->typ = cut(r, T * P, dry);
        r->tlogits = cut(r, logits, dry);
    }
}

// Whether each layer has an array of its own that runs with these flags have.
static bool layers_own(unsigned run, unsigned array) {
    if (run & OPT_RECOMPUTE) return array & OPT_RECOMPUTE;
    return array == OPT_TAPS ? run & OPT_TANGENT : run & OPT_TAPS;
}

static void plan(opt_run *r, bool dry) {
    const opt_config *c = &r->m->c;
    const size_t T = (size_t)r->max_tokens, E = (size_t)c->E, F = (size_t)c->F;
    const bool keep = r->flags & OPT_TAPS;
    r->res = per_layer(r, c->L + 1, keep, T * E, dry);
#define X(name, width, flag)                                                                                        \
    r->name = NULL;                                                                                                 \
    if ((r->flags & (flag)) == (flag))                                                                              \
        r->name = per_layer(r, c->L, layers_own(r->flags, flag), (c->pre_ln && (strcmp(#name, "s1") == 0 || strcmp(#name, "s2") == 0)) ? 16 : T * width, dry);
    OPT_ARRAYS(X)
#undef X
    if (!keep && c->pre_ln)
        for (int l = 0; l < c->L; l++) r->mid[l] = r->res[l];  // the residual is updated in place
    for (int p = 0; p < r->m->parts; p++) {
        run_enter(r, p);
        plan_part(r, dry);
    }
}

static void free_lists(opt_run *r) {
    free(r->res);
#define X(name, width, flag) free(r->name);
    OPT_ARRAYS(X)
#undef X
}

void opt_run_part_bytes(const opt *m, int max_tokens, int max_seqs, unsigned flags, size_t bytes[OPS_PARTS]) {
    opt_run r = {.m = m, .o = m->o, .flags = flags, .max_tokens = max_tokens, .max_seqs = max_seqs};
    plan(&r, true);
    free_lists(&r);
    memcpy(bytes, r.bytes, sizeof r.bytes);
}

size_t opt_run_bytes(const opt *m, int max_tokens, int max_seqs, unsigned flags) {
    size_t bytes[OPS_PARTS], all = 0;
    opt_run_part_bytes(m, max_tokens, max_seqs, flags, bytes);
    for (int p = 0; p < m->parts; p++) all += bytes[p];
    return all;
}

opt_run *opt_run_new(const opt *m, int max_tokens, int max_seqs, unsigned flags) {
    ASSERT(max_tokens > 0 && max_seqs > 0 && (!(flags & (OPT_TANGENT | OPT_WEIGHT_GRADS | OPT_RECOMPUTE)) || (flags & OPT_TAPS)));
    opt_run *r = xcalloc(1, sizeof *r);
    *r = (opt_run){.m = m, .o = m->o, .flags = flags, .max_tokens = max_tokens, .max_seqs = max_seqs};
    const size_t N = (size_t)max_seqs, T = (size_t)max_tokens;
    r->first = xcalloc(N + T, sizeof *r->first);
    r->tokens = r->first + N;
    r->ahead = xcalloc(2 * N, sizeof *r->ahead);
    r->target = xcalloc(T, sizeof *r->target);
    r->row_logprob = xcalloc(T, sizeof *r->row_logprob);
    r->row_scale = xcalloc(T, sizeof *r->row_scale);
    r->all = xcalloc(N, sizeof *r->all);
    r->act = xcalloc(N, sizeof *r->act);
    r->out = xcalloc(N, sizeof *r->out);
    r->attn = xcalloc(N, sizeof *r->attn);
    r->mask_from = xcalloc(N, sizeof *r->mask_from);
    r->heads = xcalloc(N, sizeof *r->heads);
    r->neurons = xcalloc(N, sizeof *r->neurons);
    r->seq = xcalloc(N, sizeof *r->seq);
    r->to = xcalloc(N, sizeof *r->to);
    sparse_alloc(r);
    size_t bytes[OPS_PARTS];
    opt_run_part_bytes(m, max_tokens, max_seqs, flags, bytes);
    if (ops_plan(m->o, bytes, "activations of a batch") != 0) die(1, "%s", err_get());
    plan(r, false);
    return r;
}

void opt_run_free(opt_run *r) {
    if (!r) return;
    step_free(r);
    for (int i = 0; i < r->n_blocks; i++) r->o->release(r->blocks[i]);
    for (int p = 0; p < r->m->parts; p++) {
        run_enter(r, p);
        if (r->g1) r->o->release(r->g1);
    }
    free_lists(r);
    sparse_free(r);
    void *lists[] = {r->blocks, r->first, r->ahead, r->target, r->row_logprob, r->row_scale, r->all, r->act, r->out, r->attn, r->mask_from, r->heads, r->neurons, r->seq, r->to};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) free(lists[i]);
    free(r);
}

// ---------------------------------------------------------------- the batch
static void set_batch(opt_run *r, const opt_seq *seqs, int n) {
    const opt_config *c = &r->m->c;
    ASSERT(n > 0 && n <= r->max_seqs);
    r->n = n;
    r->rows = r->out_rows = 0;
    for (int i = 0; i < n; i++) {
        const opt_seq *s = &seqs[i];
        const int past = s->prefix ? s->prefix->n : 0, end = s->last_target == OPT_NO_OUTPUT ? s->n - 1 : s->n;
        ASSERT(s->n > 0 && r->rows + s->n <= r->max_tokens && past + s->n <= c->positions && s->targets_from >= 0);
        ASSERT(!s->append || (s->append->n == past && past + s->n <= s->append->cap));
        r->seq[i] = s;
        r->all[i] = (span){r->rows, s->n};
        r->act[i] = (span){r->rows + s->targets_from, end > s->targets_from ? end - s->targets_from : 0};
        r->out[i] = (span){r->out_rows, r->act[i].n};
        r->first[i] = past;
        r->mask_from[i] = s->mask_from > past ? s->mask_from - past : 0;
        r->attn[i] = (attn_seq){.s = r->all[i], .past = past};
        ASSERT(!s->prefix || s->prefix->kv == KV_COMPUTE || !s->append || s->append == s->prefix);
        for (int t = 0; t < s->n; t++) {
            ASSERT(s->tokens[t] >= 0 && s->tokens[t] < c->V);
            r->tokens[r->rows + t] = s->tokens[t];
        }
        for (int t = 0; t < r->act[i].n; t++) {
            const int at = s->targets_from + t;
            r->target[r->out_rows + t] = at + 1 < s->n ? s->tokens[at + 1] : s->last_target >= 0 ? s->last_target : -1;
        }
        r->rows += s->n;
        r->out_rows += r->act[i].n;
    }
}

// Whether the batch is what an opt_step left on the device.
static bool is_there(const opt_run *r) {
    const size_t bytes = (size_t)r->n * sizeof *r->ahead;
    return r->rows == r->n && r->n_ahead == r->n && memcmp(r->first, r->ahead, bytes) == 0 && memcmp(r->tokens, r->ahead + r->max_seqs, bytes) == 0;
}

void run_begin(opt_run *r, const opt_seq *seqs, int n) {
    set_batch(r, seqs, n);
    const int stale = is_there(r) ? 0 : r->m->parts;
    for (int p = 0; p < stale; p++) {
        run_enter(r, p);
        r->o->put(r->step, r->first, (size_t)(p ? n : r->max_seqs + r->rows) * sizeof *r->step);
    }
    r->n_ahead = 0;
    sparse_begin(r);
}

int opt_row(const opt_run *r, int i) { return r->all[i].row; }

// ---------------------------------------------------------------- layers
// Shows the watched rows of x [rows, width]; at: the rows of it that were computed.
static void show(opt_run *r, opt_state state, int layer, const float *x, int width, const span *at) {
    for (int i = 0; i < r->n; i++) {
        const opt_watch *w = r->seq[i]->watch;
        if (!w || !(w->states >> state & 1)) continue;
        const int row = r->all[i].row + w->row;
        ASSERT(w->row >= 0 && w->row < r->all[i].n);
        if (row < at[i].row || row >= at[i].row + at[i].n) continue;
        const float *seen = x + (size_t)row * (size_t)width;
        if (width < r->m->c.E) {
            r->o->copy(r->seen, seen, (size_t)width * sizeof *seen);
            r->o->zero(r->seen + width, (size_t)(r->m->c.E - width) * sizeof *seen);
            seen = r->seen;
        }
        w->see(w->self, state, layer, seen);
        r->o->use(r->at);  // who sees may have worked on another part
    }
}

// leave: and what leaves it.
static void layer_forward(opt_run *r, int l, bool leave) {
    const opt *m = r->m;
    const opt_config *c = &m->c;
    const opt_layer *w = &m->layer[l];
    const ops *o = r->o;
    const int n = r->n, E = c->E, D = c->D, H = w->wq.rows / D, F = w->w1.rows;
    const bool last = l == c->L - 1;
    // what leaves the last layer matters at output rows only; so does all of its second half when no tap is kept
    const bool cut_half = last && r->forward_only;
    const span *all = r->all, *half = cut_half ? r->act : all, *after = last ? r->act : all;
    const span *dense_half = cut_half ? r->dense.act : r->dense.all, *dense_after = last ? r->dense.act : r->dense.all;
    const span *sparse_half = cut_half ? r->sparse.act : r->sparse.all;  // live sequences keep no taps: after is half
    const bool any_dense = r->n_live < n, any_live = r->n_live > 0;
    const float *h = r->res[l];
    show(r, OPT_RESIDUAL, l, r->res[l], E, all);
    sparse_heads(r, l);
    if (c->pre_ln) {
        o->norm(r->h, r->res[l], &w->ln1_g, &w->ln1_b, E, all, n);
        h = r->h;
    }
    sparse_kv(r, l, h);
    if (half == r->act && r->out_rows == 0) return;
    for (int i = 0; i < n; i++) {
        r->heads[i] = r->seq[i]->mask ? r->seq[i]->mask->heads + (size_t)l * (size_t)c->H : NULL;
        r->neurons[i] = r->seq[i]->mask && !r->live[i] ? r->seq[i]->mask->neurons + (size_t)l * (size_t)c->F : NULL;
        const opt_watch *watch = r->seq[i]->watch;  // of live sequences other heads are never written: only what is shown must be zero
        if (r->live[i] && !(watch && watch->states >> OPT_HEAD_OUTPUT & 1)) r->heads[i] = NULL;
    }
    if (H > 0) {
        if (any_dense) o->linear(r->q[l], h, &w->wq, maybe(&w->bq), false, dense_half, n);
        if (any_live) sparse_linear(r, r->q[l], h, &w->wq, maybe(&w->bq), false, &r->live_heads, D, sparse_half);
        sparse_attention(r, l, half);
        o->drop_units(r->a[l], r->heads, r->mask_from, H, D, all, n);
    }
    show(r, OPT_HEAD_OUTPUT, l, r->a[l], H * D, half);
    float *sum1 = c->pre_ln ? r->mid[l] : r->s1[l];
    if (sum1 != r->res[l]) o->move(sum1, r->res[l], E, half, n);
    if (any_dense || !H) o->linear(sum1, r->a[l], &w->wo, maybe(&w->bo), true, H ? dense_half : half, n);  // of no heads the bias is left
    if (any_live && H) sparse_linear_t(r, sum1, r->a[l], &w->wo_t, maybe(&w->bo), &r->live_heads, D, sparse_half);
    if (!c->pre_ln) o->norm(r->mid[l], sum1, &w->ln1_g, &w->ln1_b, E, half, n);
    show(r, OPT_MID, l, r->mid[l], E, half);
    sparse_neurons(r, l);
    const float *x = r->mid[l];
    if (c->pre_ln) {
        o->norm(r->x[l], r->mid[l], &w->ln2_g, &w->ln2_b, E, half, n);
        x = r->x[l];
    }
    if (any_dense && F > 0) {
        o->linear(r->z[l], x, &w->w1, maybe(&w->b1), false, dense_half, n);
        o->relu(r->r, r->z[l], F, dense_after, n);
        o->drop_units(r->r, r->neurons, r->mask_from, F, 1, r->dense.all, n);
    }
    r->held = l;
    if (!leave && c->pre_ln) return;
    const bool leaves = opt_part(m, l + 1) != r->at;
    float *out = leaves ? r->leave : r->res[l + 1], *sum2 = c->pre_ln ? out : r->s2[l];
    if (sum2 != r->mid[l]) o->move(sum2, r->mid[l], E, after, n);
    if (any_dense || !F) o->linear(sum2, r->r, &w->w2, maybe(&w->b2), true, F ? dense_after : after, n);
    if (any_live && F > 0) {
        sparse_linear(r, r->r, x, &w->w1, maybe(&w->b1), true, &r->live_neurons, 1, sparse_half);
        sparse_linear_t(r, sum2, r->r, &w->w2_t, maybe(&w->b2), &r->live_neurons, 1, sparse_half);
    }
    if (!c->pre_ln) o->norm(out, sum2, &w->ln2_g, &w->ln2_b, E, after, n);
    if (leaves) o->copy(r->res[l + 1], out, (size_t)r->rows * (size_t)E * sizeof *out);
}

static void layers(opt_run *r, int from) {
    r->forward_only = !(r->flags & OPT_TAPS);
    for (int l = from; l < r->m->c.L; l++) {
        run_enter(r, opt_part(r->m, l));
        layer_forward(r, l, true);
    }
}

void run_forward(opt_run *r) {
    const opt *m = r->m;
    run_enter(r, 0);
    if (m->c.P != m->c.E) {
        r->o->embed(r->proj, run_tokens(r), &m->embed, r->all, r->n);
        r->o->linear(r->res[0], r->proj, &m->proj_in, NULL, false, r->all, r->n);
    } else r->o->embed(r->res[0], run_tokens(r), &m->embed, r->all, r->n);
    r->o->add_positions(r->res[0], &m->pos, r->step, r->all, r->n);
    layers(r, 0);
}

void run_end(opt_run *r) {
    for (int i = 0; i < r->n; i++)
        if (r->seq[i]->append) r->seq[i]->append->n += r->seq[i]->n;
}

void run_restore(opt_run *r, int layer) {
    if (r->flags & OPT_RECOMPUTE && r->held != layer) layer_forward(r, layer, false);
}

void opt_forward(opt_run *r, const opt_seq *seqs, int n) {
    run_begin(r, seqs, n);
    run_forward(r);
    run_end(r);
}

void opt_forward_from(opt_run *r, const opt_seq *seqs, int n, int layer, const float *res) {
    ASSERT(layer >= 0 && layer <= r->m->c.L);
    run_begin(r, seqs, n);
    r->o->copy(r->res[layer], res, (size_t)r->rows * (size_t)r->m->c.E * sizeof *res);
    layers(r, layer);
    run_end(r);
}

// ---------------------------------------------------------------- outputs
const float *run_output(opt_run *r) {
    const opt *m = r->m;
    const int E = m->c.E;
    run_enter(r, m->parts - 1);
    if (r->out_rows == r->rows) r->o->copy(r->y, r->res[m->c.L], (size_t)r->rows * (size_t)E * sizeof(float));
    for (int i = 0; i < r->n && r->out_rows < r->rows; i++)
        r->o->copy(r->y + (size_t)r->out[i].row * (size_t)E, r->res[m->c.L] + (size_t)r->act[i].row * (size_t)E, (size_t)r->out[i].n * (size_t)E * sizeof(float));
    const float *y = r->y;
    if (m->c.final_ln) {
        r->o->norm(r->h, r->y, &m->lnf_g, &m->lnf_b, E, r->out, r->n);
        y = r->h;
    }
    if (m->c.P == E) return y;
    r->o->linear(r->yp, y, &m->proj_out, NULL, false, r->out, r->n);
    return r->yp;
}

int run_next_group(const opt_run *r, int *seq, int *row, span *s, int *rows) {
    int n = 0;
    *rows = 0;
    for (; *seq < r->n && *rows < r->logit_rows; ) {
        const int left = r->out[*seq].n - *row, room = r->logit_rows - *rows;
        // a piece is a whole sequence, or logit_rows rows of a longer one, whatever came before it
        const int take = left < r->logit_rows ? left : r->logit_rows;
        if (take > room) break;
        if (take) s[n++] = (span){*rows, take};
        *rows += take;
        *row += take;
        if (*row == r->out[*seq].n) {
            *row = 0;
            ++*seq;
        }
    }
    return n;
}

void run_head(opt_run *r, const float *y, const span *s, int n, int first, float *out) {
    const weight *w = &r->m->head;
    r->o->linear(out, y + (size_t)first * (size_t)w->cols, w, NULL, false, s, n);
}

void opt_logprobs(opt_run *r, double *logprob, int32_t *top, int vocab) {
    const int V = r->m->c.V;
    const float *y = run_output(r);
    span *s = xcalloc((size_t)r->n + 1, sizeof *s);
    int32_t *best = xcalloc((size_t)r->logit_rows, sizeof *best);
    int done = 0;
    for (int seq = 0, row = 0, first = 0, rows, n; seq < r->n; first += rows) {
        n = run_next_group(r, &seq, &row, s, &rows);
        if (!n) continue;
        run_head(r, y, s, n, first, r->logits);
        for (int i = 0; i < rows; i++) best[i] = r->target[first + i] < 0 ? 0 : r->target[first + i];
        int32_t *target = best;
        double *lp = r->row_logprob;
        int32_t *tops = top ? (int32_t *)xmalloc((size_t)rows * sizeof *tops) : NULL;
        r->o->logprob(lp, tops, r->logits, target, V, vocab ? vocab : V, rows);
        for (int i = 0; i < rows; i++) {
            if (r->target[first + i] < 0) continue;
            logprob[done] = lp[i];
            if (top) top[done] = tops[i];
            done++;
        }
        free(tops);
    }
    free(best);
    free(s);
}

void opt_logits(opt_run *r, int i, float *out) {
    ASSERT(i < r->n && r->out[i].n > 0);
    const float *y = run_output(r);
    const span one = {0, 1};
    run_head(r, y, &one, 1, r->out[i].row + r->out[i].n - 1, r->logits);
    r->o->get(out, r->logits, (size_t)r->m->c.V * sizeof *out);
}

const float *run_last(opt_run *r) {
    const int width = r->m->head.cols;
    for (int i = 0; i < r->n; i++) ASSERT(r->out[i].n > 0);
    const float *y = run_output(r);
    if (r->out_rows == r->n) return y;
    float *last = y == r->yp ? r->proj : y == r->h ? r->y : r->h;  // the last output row of each sequence, one after the other
    for (int i = 0; i < r->n; i++)
        r->o->copy(last + (size_t)i * (size_t)width, y + (size_t)(r->out[i].row + r->out[i].n - 1) * (size_t)width, (size_t)width * sizeof *last);
    return last;
}

void run_last_logits(opt_run *r, const float *last, int first, int n) {
    span *s = xcalloc((size_t)n, sizeof *s);
    for (int i = 0; i < n; i++) s[i] = (span){i, 1};
    run_head(r, last, s, n, first, r->logits);
    free(s);
}

void opt_last_logits(opt_run *r, float *out) {
    const int V = r->m->c.V;
    const float *last = run_last(r);
    for (int first = 0; first < r->n; first += r->logit_rows) {
        const int rows = r->n - first < r->logit_rows ? r->n - first : r->logit_rows;
        run_last_logits(r, last, first, rows);
        r->o->get(out + (size_t)first * (size_t)V, r->logits, (size_t)rows * (size_t)V * sizeof *out);
    }
}

const float *opt_tap_res(const opt_run *r, int layer) { return r->flags & OPT_TAPS || layer == r->m->c.L ? r->res[layer] : NULL; }
const float *opt_tap_a(const opt_run *r, int layer) { return r->flags & OPT_TAPS ? r->a[layer] : NULL; }
const float *opt_tap_mid(const opt_run *r, int layer) { return r->flags & OPT_TAPS ? r->mid[layer] : NULL; }
const float *opt_tap_x(const opt_run *r, int layer) { return !(r->flags & OPT_TAPS) ? NULL : r->m->c.pre_ln ? r->x[layer] : r->mid[layer]; }
const float *opt_tap_z(const opt_run *r, int layer) { return r->flags & OPT_TAPS ? r->z[layer] : NULL; }
float *opt_scratch(opt_run *r) { return r->h; }
