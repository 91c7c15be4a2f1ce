// model_run - forward over packed batches. Contract in model.h, layout of the arrays in model_run.h.
#include "model_run.h"
#include <stdlib.h>
#include <string.h>

enum { LOGIT_FLOATS = 1 << 24 };  // of the logits buffer: 64 MiB, whatever the vocabulary

// ---------------------------------------------------------------- workspace
run_part *run_use(model_run *r, int part) {
    r->o->use(part);
    return &r->part[part];
}

void run_copy(model_run *r, float *to, const float *from) {
    r->o->copy(to, from, (size_t)r->rows * (size_t)r->m->c.E * sizeof *to);
}

// An array in memory of a part, which is in use. With dry set, only the bytes are counted.
static float *cut(model_run *r, int part, size_t floats, bool dry) {
    floats = (floats + 63) / 64 * 64;
    r->bytes[part] += floats * sizeof(float);
    if (dry) return NULL;
    float *p = r->o->alloc(floats * sizeof(float));
    VEC_PUSH(r->blocks, r->n_blocks, r->cap_blocks, (void *)p);
    return p;
}

// An array of layer l of its own, or the one that the layers of its part share, which the first of them has.
static float *layer_array(model_run *r, int l, float *of_first, bool own, size_t floats, bool dry) {
    const int part = model_part(r->m, l);
    if (!own && l != r->m->first[part]) return of_first;
    run_use(r, part);
    return cut(r, part, floats, dry);
}

// Whether each layer has an array of its own that runs with these flags have.
static bool layers_own(unsigned run, unsigned array) {
    if (run & RUN_RECOMPUTE) return array & RUN_RECOMPUTE;
    return array == RUN_TAPS ? run & RUN_TANGENT : run & RUN_TAPS;
}

static void plan_layers(model_run *r, bool dry) {
    const model_config *c = &r->m->c;
    const arch *of = &r->m->arch;
    const size_t T = (size_t)r->max_tokens, E = (size_t)c->E, F = (size_t)c->F, D = (size_t)c->D,
                 A = (size_t)of->heads * D, W = (size_t)of->kv_heads * D;
    const bool keep = r->flags & RUN_TAPS, pre = of->norm_first, qk = of->qk_norm, gated = of->gated,
               curved = curved_of(of);
    r->res = xcalloc((size_t)c->L + 1, sizeof *r->res);
    r->layer = xcalloc((size_t)c->L, sizeof *r->layer);
    for (int l = 0; l <= c->L; l++)
        r->res[l] = layer_array(r, l, r->res[r->m->first[model_part(r->m, l)]], keep, T * E, dry);
    for (int l = 0; l < c->L; l++) {
        layer_arrays *t = &r->layer[l];
        const layer_arrays *first = &r->layer[r->m->first[model_part(r->m, l)]];
#define X(name, width, of_runs, when)                                                                                  \
    if ((r->flags & (of_runs)) == (of_runs) && (when))                                                                 \
        t->name = layer_array(r, l, first->name, layers_own(r->flags, of_runs), T * width, dry);
        LAYER_ARRAYS(X)
#undef X
        if (!t->mid) t->mid = r->res[l];
        if (!t->x) t->x = t->mid;
        t->tmid = pre ? t->tn2 : t->tx;
    }
}

static void plan_part(model_run *r, run_part *p, bool dry) {
    const model_config *c = &r->m->c;
    const arch *of = &r->m->arch;
    const int k = p->index;
    const size_t T = (size_t)r->max_tokens, E = (size_t)c->E, F = (size_t)c->F, P = (size_t)c->P, D = (size_t)c->D,
                 A = (size_t)of->heads * D, W = (size_t)of->kv_heads * D;
    const bool last = k == r->m->parts - 1;
    p->step = (int32_t *)cut(r, k, (size_t)r->max_seqs + (k == 0 || last ? T : 0), dry);
    p->h = cut(r, k, T * E, dry);
    p->r = cut(r, k, T * F, dry);
    if (!last) p->leave = cut(r, k, T * E, dry);
    if (model_compacted(c)) p->seen = cut(r, k, A, dry);
    if (last || k == 0) p->proj = cut(r, k, T * P, dry);
    if (r->flags & RUN_TAPS) {
        p->dres = cut(r, k, T * E, dry);
        p->dmid = cut(r, k, T * E, dry);
        p->dq = cut(r, k, T * A, dry);
        p->dk = cut(r, k, T * W, dry);
        p->dv = cut(r, k, T * W, dry);
        p->dsum = p->dmid;
        if (of->parallel) p->dsum = p->dres;
        if (!of->norm_first) p->dsum = cut(r, k, T * E, dry);
    }
    if (r->flags & RUN_TANGENT) {
        p->tcur = cut(r, k, T * E, dry);
        p->ta = cut(r, k, T * (A > E ? A : E), dry);  // of the last norm's output, too
        p->tdres = cut(r, k, T * E, dry);
        p->tdsum = of->parallel ? p->tdres : cut(r, k, T * E, dry);
        p->tdx = cut(r, k, T * E, dry);
        p->tda = cut(r, k, T * (A > E ? A : E), dry);
        p->tdz = cut(r, k, T * F, dry);
        if (of->gated) p->tdu = cut(r, k, T * F, dry);
        if (curved_of(of)) p->tdr = cut(r, k, T * F, dry);
        p->tdmid = of->norm_first ? p->tdsum : p->tdx;
        if (of->parallel) p->tdmid = cut(r, k, T * E, dry);
    }
}

// What the head needs, on the last part.
static void plan_head(model_run *r, bool dry) {
    const model_config *c = &r->m->c;
    const int k = r->m->parts - 1;
    const size_t T = (size_t)r->max_tokens, E = (size_t)c->E, P = (size_t)c->P;
    r->logit_rows = LOGIT_FLOATS / c->V < 32 ? 32 : LOGIT_FLOATS / c->V;
    if (r->logit_rows > r->max_tokens) r->logit_rows = r->max_tokens;
    const size_t logits = (size_t)r->logit_rows * (size_t)c->V;
    run_use(r, k);
    r->y = cut(r, k, T * E, dry);
    r->yp = cut(r, k, T * P, dry);
    r->logits = cut(r, k, logits, dry);
    if (r->flags & RUN_TAPS) {
        r->dy = cut(r, k, T * E, dry);
        r->dyp = cut(r, k, T * P, dry);
    }
    if (r->flags & RUN_TANGENT) {
        r->ty = cut(r, k, T * E, dry);
        r->typ = cut(r, k, T * P, dry);
        r->tlogits = cut(r, k, logits, dry);
    }
}

static void plan(model_run *r, bool dry) {
    for (int k = 0; k < r->m->parts; k++) r->part[k].index = k;
    plan_layers(r, dry);
    for (int k = 0; k < r->m->parts; k++) plan_part(r, run_use(r, k), dry);
    plan_head(r, dry);
}

static void free_arrays(model_run *r) {
    free(r->res);
    free(r->layer);
}

void model_run_part_bytes(const model *m, int max_tokens, int max_seqs, unsigned flags, size_t bytes[OPS_PARTS]) {
    model_run r = {.m = m, .o = m->o, .flags = flags, .max_tokens = max_tokens, .max_seqs = max_seqs};
    plan(&r, true);
    free_arrays(&r);
    memcpy(bytes, r.bytes, sizeof r.bytes);
}

size_t model_run_bytes(const model *m, int max_tokens, int max_seqs, unsigned flags) {
    size_t bytes[OPS_PARTS], all = 0;
    model_run_part_bytes(m, max_tokens, max_seqs, flags, bytes);
    for (int p = 0; p < m->parts; p++) all += bytes[p];
    return all;
}

model_run *model_run_new(const model *m, int max_tokens, int max_seqs, unsigned flags) {
    ASSERT(max_tokens > 0 && max_seqs > 0 &&
           (!(flags & (RUN_TANGENT | RUN_WEIGHT_GRADS | RUN_RECOMPUTE)) || (flags & RUN_TAPS)));
    model_run *r = xcalloc(1, sizeof *r);
    *r = (model_run){.m = m, .o = m->o, .flags = flags, .max_tokens = max_tokens, .max_seqs = max_seqs};
    const size_t N = (size_t)max_seqs, T = (size_t)max_tokens;
    for (int k = 0; k < m->parts; k++) r->part[k].index = k;
    r->first = xcalloc(N + T, sizeof *r->first);
    r->tokens = r->first + N;
    r->ahead = xcalloc(2 * N, sizeof *r->ahead);
    r->target = xcalloc(T, sizeof *r->target);
    r->row_logprob = xcalloc(T, sizeof *r->row_logprob);
    r->row_scale = xcalloc(T, sizeof *r->row_scale);
    span **spans[] = {&r->every.all,    &r->every.dense, &r->every.live, &r->outputs.all, &r->outputs.dense,
                      &r->outputs.live, &r->kv.dense,    &r->kv.live,    &r->packed,      &r->heads_as_rows};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) *spans[i] = xcalloc(N, sizeof(span));
    r->kv.all = r->every.all;
    r->attn = xcalloc(N, sizeof *r->attn);
    r->attn_live = xcalloc(N, sizeof *r->attn_live);
    r->mask_from = xcalloc(N, sizeof *r->mask_from);
    r->heads = xcalloc(N, sizeof *r->heads);
    r->neurons = xcalloc(N, sizeof *r->neurons);
    r->seq = xcalloc(N, sizeof *r->seq);
    r->above = xcalloc(N, sizeof *r->above);
    r->to = xcalloc(2 * N, sizeof *r->to);
    live_alloc(r);
    size_t bytes[OPS_PARTS];
    model_run_part_bytes(m, max_tokens, max_seqs, flags, bytes);
    if (ops_plan(m->o, bytes, "activations of a batch") != 0) die(1, "%s", err_get());
    plan(r, false);
    return r;
}

void model_run_free(model_run *r) {
    if (!r) return;
    step_free(r);
    for (int i = 0; i < r->n_blocks; i++) r->o->release(r->blocks[i]);
    for (int k = 0; k < r->m->parts; k++) {
        const run_part *p = run_use(r, k);
        if (p->g1) r->o->release(p->g1);
        if (p->kept) r->o->release(p->kept);
        if (p->above) r->o->release(p->above);
        if (p->device_has) r->o->release(p->device_has);
    }
    free_arrays(r);
    live_free(r);
    void *lists[] = {r->blocks,    r->first,       r->ahead,      r->target,      r->row_logprob,   r->row_scale,
                     r->every.all, r->every.dense, r->every.live, r->outputs.all, r->outputs.dense, r->outputs.live,
                     r->kv.dense,  r->kv.live,     r->packed,     r->attn,        r->attn_live,     r->mask_from,
                     r->heads,     r->neurons,     r->seq,        r->to,          r->heads_as_rows, r->above};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) free(lists[i]);
    free(r);
}

// ---------------------------------------------------------------- the batch
static void set_batch(model_run *r, const model_seq *seqs, int n) {
    const model_config *c = &r->m->c;
    ASSERT(n > 0 && n <= r->max_seqs);
    r->n = n;
    r->rows = r->out_rows = 0;
    r->means = NULL;
    r->any_above = r->there = r->chosen = false;
    for (int i = 0; i < n; i++) {
        const model_seq *s = &seqs[i];
        r->there |= s->there != NULL;
        r->chosen |= s->there && s->watch;
        ASSERT(!s->there || (s->mask && s->n == 1 && s->mask_epoch && !s->means && !r->m->o->host));
        if (s->mask) {
            ASSERT(!i || !r->means || r->means == s->means);
            r->means = s->means;
        }
        r->any_above |= s->above != NULL;
        ASSERT(!s->above || (!s->mask && !s->watch && !(r->flags & RUN_TAPS)));
        const int past = s->prefix ? s->prefix->n : 0, end = s->last_target == SEQ_NO_OUTPUT ? s->n - 1 : s->n;
        ASSERT(s->n > 0 && r->rows + s->n <= r->max_tokens && past + s->n <= c->positions && s->targets_from >= 0);
        ASSERT(!s->append || (s->append->n == past && past + s->n <= s->append->cap));
        r->seq[i] = s;
        r->every.all[i] = (span){r->rows, s->n};
        r->outputs.all[i] = (span){r->rows + s->targets_from, end > s->targets_from ? end - s->targets_from : 0};
        r->packed[i] = (span){r->out_rows, r->outputs.all[i].n};
        r->first[i] = past;
        r->mask_from[i] = s->mask_from > past ? s->mask_from - past : 0;
        r->attn[i] = (attn_seq){.s = r->every.all[i], .past = past};
        ASSERT(!s->prefix || s->prefix->kv == KV_COMPUTE || !s->append || s->append == s->prefix);
        for (int t = 0; t < s->n; t++) {
            ASSERT(s->tokens[t] >= 0 && s->tokens[t] < c->V);
            r->tokens[r->rows + t] = s->tokens[t];
        }
        for (int t = 0; t < r->outputs.all[i].n; t++) {
            const int at = s->targets_from + t;
            const int last = s->last_target >= 0 ? s->last_target : -1;
            r->target[r->out_rows + t] = at + 1 < s->n ? s->tokens[at + 1] : last;
        }
        r->rows += s->n;
        r->out_rows += r->outputs.all[i].n;
    }
}

// Whether the batch is what a model_step left on the device.
bool run_is_there(const model_run *r) {
    const size_t bytes = (size_t)r->n * sizeof *r->ahead;
    return r->rows == r->n && r->n_ahead == r->n && memcmp(r->first, r->ahead, bytes) == 0 &&
           memcmp(r->tokens, r->ahead + r->max_seqs, bytes) == 0;
}

void run_take(model_run *r, const model_seq *seqs, int n) {
    set_batch(r, seqs, n);
    live_begin(r);
}

// A step that has begun has moved positions and tokens on; what it wrote after the caches' last rows is written again.
void run_upload(model_run *r) {
    const int stale = run_is_there(r) && !r->begun ? 0 : r->m->parts;
    for (int p = 0; p < stale; p++) {
        const run_part *part = run_use(r, p);
        r->o->put(part->step, r->first, (size_t)(p ? r->n : r->max_seqs + r->rows) * sizeof *part->step);
    }
    r->n_ahead = 0;
    r->begun = NULL;
    for (int k = 0; r->any_above && k < r->m->parts; k++) {
        run_part *part = run_use(r, k);
        if (!part->kept) part->kept = r->o->alloc((size_t)r->max_tokens * sizeof *part->kept);
        if (!part->above) part->above = r->o->alloc((size_t)(1 + r->m->c.F) * sizeof *part->above);
        r->o->zero(part->kept, (size_t)r->rows * sizeof *part->kept);
    }
}

void model_kept(model_run *r, int i, int32_t *out) {
    const span *s = &r->every.all[i];
    int32_t *part = xcalloc((size_t)s->n, sizeof *part);
    for (int t = 0; t < s->n; t++) out[t] = 0;
    for (int k = 0; k < r->m->parts; k++) {
        const run_part *p = run_use(r, k);
        ASSERT(p->kept);
        r->o->get(part, p->kept + s->row, (size_t)s->n * sizeof *part);
        for (int t = 0; t < s->n; t++) out[t] += part[t];
    }
    free(part);
}

int model_row(const model_run *r, int i) { return r->every.all[i].row; }

// ---------------------------------------------------------------- layers
static void layers(model_run *r, int from) {
    for (int l = from; l < r->m->c.L; l++) block_forward(r, run_use_of(r, l), l, true);
}

void run_forward(model_run *r) {
    const model *m = r->m;
    const span *every = r->every.all;
    const run_part *p = run_use(r, 0);
    live_list_ready(r, p);
    if (m->c.P != m->c.E) {
        r->o->embed(p->proj, run_tokens(r), &m->embed, every, r->n);
        r->o->linear(r->res[0], p->proj, &m->proj_in, NULL, false, every, r->n);
    } else
        r->o->embed(r->res[0], run_tokens(r), &m->embed, every, r->n);
    if (m->arch.positions == POSITIONS_LEARNED) r->o->add_positions(r->res[0], &m->pos, p->step, every, r->n);
    layers(r, 0);
    live_join(r);
}

void run_end(model_run *r) {
    for (int i = 0; i < r->n; i++)
        if (r->seq[i]->append) {
            r->seq[i]->append->n += r->seq[i]->n;
            r->seq[i]->append->writes++;
        }
}

void run_restore(model_run *r, run_part *p, int layer) {
    if (r->flags & RUN_RECOMPUTE && p->held != layer) block_forward(r, p, layer, false);
}

void model_forward(model_run *r, const model_seq *seqs, int n) {
    run_take(r, seqs, n);
    run_upload(r);
    run_forward(r);
    run_end(r);
}

void model_forward_from(model_run *r, const model_seq *seqs, int n, int layer, const float *res) {
    ASSERT(layer >= 0 && layer <= r->m->c.L);
    run_take(r, seqs, n);
    run_upload(r);
    r->o->copy(r->res[layer], res, (size_t)r->rows * (size_t)r->m->c.E * sizeof *res);
    layers(r, layer);
    run_end(r);
}

// ---------------------------------------------------------------- outputs
const float *run_output(model_run *r) {
    const model *m = r->m;
    const int E = m->c.E;
    const run_part *p = run_use(r, m->parts - 1);
    const bool all = r->out_rows == r->rows;
    const float *y = all && !(r->flags & RUN_TAPS) ? r->res[m->c.L] : r->y;  // derivatives want a copy
    if (all && y == r->y) r->o->copy(r->y, r->res[m->c.L], (size_t)r->rows * (size_t)E * sizeof(float));
    for (int i = 0; i < r->n && r->out_rows < r->rows; i++)
        r->o->copy(r->y + (size_t)r->packed[i].row * (size_t)E,
                   r->res[m->c.L] + (size_t)r->outputs.all[i].row * (size_t)E,
                   (size_t)r->packed[i].n * (size_t)E * sizeof(float));
    if (m->arch.norm_at_end) {
        r->o->norm(p->h, y, &m->lnf_g, maybe(&m->lnf_b), norm_of(m, E), r->packed, r->n);
        y = p->h;
    }
    if (m->c.P == E) return y;
    r->o->linear(r->yp, y, &m->proj_out, NULL, false, r->packed, r->n);
    return r->yp;
}

int run_next_group(const model_run *r, int *seq, int *row, span *s, int *rows) {
    int n = 0;
    *rows = 0;
    for (; *seq < r->n && *rows < r->logit_rows;) {
        const int left = r->packed[*seq].n - *row, room = r->logit_rows - *rows;
        // a piece is a whole sequence, or logit_rows rows of a longer one, whatever came before it
        const int take = left < r->logit_rows ? left : r->logit_rows;
        if (take > room) break;
        if (take) s[n++] = (span){*rows, take};
        *rows += take;
        *row += take;
        if (*row == r->packed[*seq].n) {
            *row = 0;
            ++*seq;
        }
    }
    return n;
}

void run_head(model_run *r, const float *y, const span *s, int n, int first, float *out) {
    const weight *w = &r->m->head;
    r->o->linear(out, y + (size_t)first * (size_t)w->cols, w, NULL, false, s, n);
}

void model_logprobs(model_run *r, double *logprob, int32_t *top, int vocab) {
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

void model_logits(model_run *r, int i, float *out) {
    ASSERT(i < r->n && r->packed[i].n > 0);
    const float *y = run_output(r);
    const span one = {0, 1};
    run_head(r, y, &one, 1, r->packed[i].row + r->packed[i].n - 1, r->logits);
    r->o->get(out, r->logits, (size_t)r->m->c.V * sizeof *out);
}

const float *run_last(model_run *r) {
    const int width = r->m->head.cols;
    const run_part *p = run_last_part(r);
    for (int i = 0; i < r->n; i++) ASSERT(r->packed[i].n > 0);
    const float *y = run_output(r);
    if (r->out_rows == r->n) return y;
    float *last = y == p->h ? r->y : p->h;  // the last output row of each sequence, one after the other
    if (y == r->yp) last = p->proj;
    for (int i = 0; i < r->n; i++)
        r->o->copy(last + (size_t)i * (size_t)width,
                   y + (size_t)(r->packed[i].row + r->packed[i].n - 1) * (size_t)width, (size_t)width * sizeof *last);
    return last;
}

void run_last_logits(model_run *r, const float *last, int first, int n) {
    span *s = xcalloc((size_t)n, sizeof *s);
    for (int i = 0; i < n; i++) s[i] = (span){i, 1};
    run_head(r, last, s, n, first, r->logits);
    free(s);
}

void model_last_logits(model_run *r, float *out) {
    const int V = r->m->c.V;
    const float *last = run_last(r);
    for (int first = 0; first < r->n; first += r->logit_rows) {
        const int rows = r->n - first < r->logit_rows ? r->n - first : r->logit_rows;
        run_last_logits(r, last, first, rows);
        r->o->get(out + (size_t)first * (size_t)V, r->logits, (size_t)rows * (size_t)V * sizeof *out);
    }
}

const float *model_tap_res(const model_run *r, int layer) {
    return r->flags & RUN_TAPS || layer == r->m->c.L ? r->res[layer] : NULL;
}
const float *model_tap_a(const model_run *r, int layer) { return r->flags & RUN_TAPS ? r->layer[layer].a : NULL; }
const float *model_tap_mid(const model_run *r, int layer) { return r->flags & RUN_TAPS ? r->layer[layer].mid : NULL; }
const float *model_tap_x(const model_run *r, int layer) { return r->flags & RUN_TAPS ? r->layer[layer].x : NULL; }
const float *model_tap_z(const model_run *r, int layer) { return r->flags & RUN_TAPS ? r->layer[layer].z : NULL; }
const float *model_tap_u(const model_run *r, int layer) { return r->flags & RUN_TAPS ? r->layer[layer].u : NULL; }
const float *model_tap_r(const model_run *r, int layer) { return r->flags & RUN_TAPS ? r->layer[layer].r : NULL; }
const float *model_tap(const model_run *r, unit_kind kind, int layer) {
    if (kind == UNIT_HEADS) return model_tap_a(r, layer);
    return r->m->arch.tap == TAP_R ? model_tap_r(r, layer) : model_tap_z(r, layer);
}
float *model_scratch(model_run *r, int layer) { return r->part[model_part(r->m, layer)].h; }
