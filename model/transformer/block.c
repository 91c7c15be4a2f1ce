// block - a transformer layer: two sublayers, attention and FFN, each inside a residual and a norm, in either order of
// them:
//   norm first (pre):   mid = res + attention(N1(res))    out = mid + ffn(N2(mid))
//   norm last (post):   mid = N1(res + attention(res))    out = N2(mid + ffn(mid))
// or side by side (parallel):  mid = res + attention(N1(res))    out = mid + ffn(N2(res))
// and the derivatives of that. Contracts in model_run.h.
#include "model_run.h"

// A sublayer's residual and norm, about f: y = to + f(N(x)), or y = N(x + f(x)).
typedef struct {
    bool pre;
    const weight *gain, *bias;
    float *x, *to, *sum;   // [rows, E] what enters; what f's output is added to: x, unless parallel; post: x + f(x)
    float *dn, *tn;        // [rows, E] gradient at the norm's output, tangent at its input
    float *dgain, *dbias;  // gradients to add to, or NULL
} around;

static around around_attention(const model_run *r, int l, const model_layer *g) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    around s = {.pre = r->m->arch.norm_first, .gain = &w->ln1_g, .bias = maybe(&w->ln1_b)};
    s.x = s.to = r->res[l], s.sum = t->s1, s.dn = t->dh, s.tn = t->tn1;
    if (g) s.dgain = grad_of(&g->ln1_g), s.dbias = grad_of(&g->ln1_b);
    return s;
}

static around around_ffn(const model_run *r, int l, const model_layer *g) {
    const model_layer *w = &r->m->layer[l];
    const layer_arrays *t = &r->layer[l];
    around s = {.pre = r->m->arch.norm_first, .gain = &w->ln2_g, .bias = maybe(&w->ln2_b)};
    s.x = s.to = t->mid, s.sum = t->s2, s.dn = t->dx, s.tn = t->tn2;
    if (r->m->arch.parallel) s.x = r->res[l], s.tn = t->tn1;
    if (g) s.dgain = grad_of(&g->ln2_g), s.dbias = grad_of(&g->ln2_b);
    return s;
}

// ---------------------------------------------------------------- forward
// What f reads: N(x), to be made in h, or x itself.
static sublayer_input input_of(const model_run *r, const around *s, float *h) {
    if (!s->pre) return (sublayer_input){.h = s->x};
    return (sublayer_input){.h = h, .x = s->x, .gain = s->gain, .bias = s->bias, .shape = norm_of(r->m, r->m->c.E)};
}

// Where f's output is to be added: a copy in y or in the norm's input.
static float *residual(model_run *r, const around *s, float *y, const row_set *rows) {
    float *sum = s->pre ? y : s->sum;
    if (sum != s->to) r->o->move(sum, s->to, r->m->c.E, rows->all, r->n);
    return sum;
}

static void leave(model_run *r, const around *s, float *y, const row_set *rows) {
    if (!s->pre) r->o->norm(y, s->sum, s->gain, s->bias, norm_of(r->m, r->m->c.E), rows->all, r->n);
}

// What was shown may be written from here on.
static void states_read(model_run *r) {
    for (int i = 0; i < r->n && r->chosen; i++)
        for (int k = 0; k < UNIT_KINDS && r->seq[i]->watch; k++) r->o->join(r->seq[i]->watch->read[k]);
}

// Shows the watched rows of x [rows, width]; at: the rows of it that were computed.
static void show(model_run *r, const run_part *p, model_state state, int layer, const float *x, int width,
                 const span *at) {
    for (int i = 0; i < r->n; i++) {
        const model_watch *w = r->seq[i]->watch;
        if (!w || !(w->states >> state & 1)) continue;
        const int row = r->every.all[i].row + w->row;
        ASSERT(w->row >= 0 && w->row < r->every.all[i].n);
        if (row < at[i].row || row >= at[i].row + at[i].n) continue;
        const float *seen = x + (size_t)row * (size_t)width;
        const int whole = model_state_width(&r->m->c, state);
        if (width < whole) {
            states_read(r);
            r->o->copy(p->seen, seen, (size_t)width * sizeof *seen);
            r->o->zero(p->seen + width, (size_t)(whole - width) * sizeof *seen);
            seen = p->seen;
        }
        w->see(w->self, state, layer, seen);
        r->o->use(p->index);  // who sees may have worked on another part
    }
    live_list_ready(r, p);
}

// The masks that act on layer l by zeroing: of live sequences other units are never written, only head outputs that are
// shown must be zero.
static void masks_by_zero(model_run *r, int l) {
    bool clear = false;
    for (int i = 0; i < r->n; i++) {
        const model_watch *watch = r->seq[i]->watch;
        const bool shown = watch && watch->states >> STATE_HEAD_OUTPUT & 1;
        clear |= shown && r->there;
        r->heads[i] = r->live[i] && (!shown || r->there) ? NULL : unit_mask_of(r, i, UNIT_HEADS, l);
        r->neurons[i] = r->live[i] ? NULL : unit_mask_of(r, i, UNIT_NEURONS, l);
    }
    if (clear) run_clear(r, r->layer[l].a, r->m->layer[l].wq.rows);
}

void block_forward(model_run *r, run_part *p, int l, bool leaves) {
    const int E = r->m->c.E, A = r->m->layer[l].wq.rows;
    const row_set *inside = rows_inside(r, l), *leaving = rows_leaving(r, l);
    const around one = around_attention(r, l, NULL), two = around_ffn(r, l, NULL);
    const bool parallel = r->m->arch.parallel;
    layer_arrays *t = &r->layer[l];

    // who watches sees the residual, and may choose units
    show(r, p, STATE_RESIDUAL, l, r->res[l], E, r->every.all);
    live_list_heads(r, p, l);

    // attention: q, k, v, a of h, then mid
    sublayer_input in = input_of(r, &one, p->h), x = input_of(r, &two, t->x);
    const bool has_q = kv_forward(r, p, l, &in, inside);
    if (inside == &r->outputs && r->out_rows == 0) return;  // only K and V were wanted
    if (parallel) run_enter(r, &x, inside);                 // mid may take the place of res
    masks_by_zero(r, l);
    if (!has_q) attention_queries(r, p, l, in.h, inside);
    attention_heads(r, p, l, inside);
    states_read(r);  // mid may take the place of res
    show(r, p, STATE_HEAD_OUTPUT, l, t->a, A, inside->all);
    attention_out(r, p, l, residual(r, &one, t->mid, inside), inside);
    leave(r, &one, t->mid, inside);
    show(r, p, STATE_MID, l, t->mid, E, inside->all);

    // FFN: z of x, then the residual that leaves
    live_list_neurons(r, p, l);
    ffn_hidden(r, p, l, &x, inside, leaving);
    states_read(r);
    p->held = l;
    if (!leaves && two.pre) return;  // where norms come last, gradients need their inputs
    const bool crosses = model_part(r->m, l + 1) != p->index;
    float *out = crosses ? p->leave : r->res[l + 1];
    ffn_out(r, p, l, residual(r, &two, out, leaving), leaving);
    leave(r, &two, out, leaving);
    if (crosses) run_copy(r, r->res[l + 1], out);
}

// ---------------------------------------------------------------- gradients
// The gradient at f's output, from dy at y: dy itself, or through the norm, into df.
static float *leave_back(model_run *r, const around *s, float *df, float *dy, bool some_rows, const span *rows) {
    const int E = r->m->c.E, n = r->n;
    if (s->pre) return dy;
    r->o->move(s->dn, dy, E, rows, n);
    if (some_rows) run_clear(r, df, E);
    r->o->norm_back(df, dy, s->sum, s->gain, norm_of(r->m, E), false, rows, n);
    if (s->dgain) r->o->norm_grad(s->dgain, s->dbias, dy, s->sum, norm_of(r->m, E), rows, n);
    return df;
}

// The gradient at x into dx, from df at f's output and from what f's gradient made: s->dn at the norm's output, or
// (post) df, which it was added to.
static void enter_back(model_run *r, const around *s, float *dx, const float *df, const span *rows) {
    const int E = r->m->c.E, n = r->n;
    if (dx != df) r->o->move(dx, df, E, r->every.all, n);
    if (!s->pre) return;
    r->o->norm_back(dx, s->dn, s->x, s->gain, norm_of(r->m, E), true, rows, n);
    if (s->dgain) r->o->norm_grad(s->dgain, s->dbias, s->dn, s->x, norm_of(r->m, E), rows, n);
}

void block_back_to_taps(model_run *r, run_part *p, int l, const model_layer *g) {
    const around one = around_attention(r, l, g), two = around_ffn(r, l, g);
    const span *rows = rows_leaving(r, l)->all;
    const bool some = last_layer(r, l);

    // FFN: dres at the layer's output to dmid
    float *df = leave_back(r, &two, p->dmid, p->dres, some, rows);
    ffn_back(r, p, l, two.pre ? two.dn : df, !two.pre, df, g);
    enter_back(r, &two, p->dmid, df, rows);

    // attention's second half: dmid to da
    leave_back(r, &one, p->dsum, p->dmid, some, rows);
    attention_out_back(r, l, p->dsum, g);
}

void block_back_to_input(model_run *r, run_part *p, int l, const model_layer *g) {
    const around one = around_attention(r, l, g);
    sublayer_input in = input_of(r, &one, p->h);
    if (g) run_enter(r, &in, &r->every);
    attention_heads_back(r, p, l, one.pre ? one.dn : p->dsum, !one.pre, in.h, g);
    enter_back(r, &one, p->dres, one.pre ? p->dmid : p->dsum, r->every.all);
}

// ---------------------------------------------------------------- tangents
static const float *enter_jvp(model_run *r, const around *s, float *th, const float *tx, const span *rows) {
    if (!s->pre) return tx;
    r->o->norm_jvp(th, s->x, tx, s->gain, norm_of(r->m, r->m->c.E), rows, r->n);
    return th;
}

static float *residual_jvp(model_run *r, const around *s, float *ty, const float *tx, const span *rows) {
    float *tsum = s->pre ? ty : s->tn;
    r->o->move(tsum, tx, r->m->c.E, rows, r->n);
    return tsum;
}

static void leave_jvp(model_run *r, const around *s, float *ty, const span *rows) {
    if (!s->pre) r->o->norm_jvp(ty, s->sum, s->tn, s->gain, norm_of(r->m, r->m->c.E), rows, r->n);
}

void block_jvp(model_run *r, run_part *p, int l, const direction *v) {
    const around one = around_attention(r, l, NULL), two = around_ffn(r, l, NULL);
    const span *every = r->every.all, *rows = rows_leaving(r, l)->all;
    layer_arrays *t = &r->layer[l];

    // attention: tcur to tmid
    if (one.pre) r->o->move(one.tn, p->tcur, r->m->c.E, every, r->n);
    const float *th =
        l > 0 ? enter_jvp(r, &one, p->h, p->tcur, every) : NULL;  // nothing is perturbed below the first tap
    attention_heads_jvp(r, p, l, th, v);
    attention_out_jvp(r, p, l, residual_jvp(r, &one, t->tmid, p->tcur, rows));
    leave_jvp(r, &one, t->tmid, rows);

    // FFN: tmid to tcur
    enter_jvp(r, &two, t->tx, two.pre ? two.tn : t->tmid, rows);
    ffn_jvp(r, p, l, residual_jvp(r, &two, p->tcur, t->tmid, rows), v);
    leave_jvp(r, &two, p->tcur, rows);
}

static float *leave_back_jvp(model_run *r, const around *s, float *tdf, float *tdy, bool some_rows, const span *rows) {
    const int E = r->m->c.E;
    if (s->pre) return tdy;
    if (some_rows) run_clear(r, tdf, E);
    r->o->norm_back_jvp(tdf, s->dn, tdy, s->sum, s->tn, s->gain, norm_of(r->m, E), false, rows, r->n);
    return tdf;
}

static void enter_back_jvp(model_run *r, const around *s, float *tdx, const float *tdf, const float *tdn,
                           const span *rows) {
    const int E = r->m->c.E;
    if (tdx != tdf) r->o->move(tdx, tdf, E, r->every.all, r->n);
    if (s->pre) r->o->norm_back_jvp(tdx, s->dn, tdn, s->x, s->tn, s->gain, norm_of(r->m, E), true, rows, r->n);
}

void block_back_to_taps_jvp(model_run *r, run_part *p, int l, const direction *v) {
    const around one = around_attention(r, l, NULL), two = around_ffn(r, l, NULL);
    const span *rows = rows_leaving(r, l)->all;
    const bool some = last_layer(r, l);
    const float *tdf = leave_back_jvp(r, &two, p->tdx, p->tdres, some, rows);
    ffn_back_jvp(r, p, l, p->tdx, !two.pre, tdf, v);
    enter_back_jvp(r, &two, p->tdmid, tdf, p->tdx, rows);
    leave_back_jvp(r, &one, p->tdsum, p->tdmid, some, rows);
    attention_out_back_jvp(r, p, l, p->tdsum);
}

void block_back_to_input_jvp(model_run *r, run_part *p, int l) {
    const around one = around_attention(r, l, NULL);
    attention_heads_back_jvp(r, p, l, one.pre ? p->tdx : p->tdsum, !one.pre);
    enter_back_jvp(r, &one, p->tdres, one.pre ? p->tdmid : p->tdsum, p->tdx, r->every.all);
}
