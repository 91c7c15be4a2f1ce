// probe - one forward-backward pass over a batch of examples and every criterion on its taps. Contract in probe.h.
//
// Criteria run in stages, by what they read: after each layer's backward (taps, gradients), after each layer of the Hessian-vector
// product (SEMANTICS 11, grasp), of its compat variant, and after the forward passes of the removal oracle. Within a layer, tiles of
// units of all examples are shared out over threads; a neuron tile's weight gradient exists only while its criteria run.
#include "probe.h"
#include "ops_cpu.h"
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 128, STAGE_GRAD = 0, STAGE_HESS, STAGE_COMPAT, STAGE_REMOVAL, STAGES };
// Arrays of the layer at work as the criteria read them, in host memory.
enum { VIEW_A, VIEW_DA, VIEW_Z, VIEW_DZ, VIEW_X, VIEW_OUT, VIEW_HA, VIEW_HZ, VIEW_TX, VIEWS };
enum { SLOT_W = 8, SLOT_DW, SLOT_HU_W, SLOT_OUT };

const char *const feat_names[FEAT_KINDS] = {"head_output", "residual", "residual_mid"};
const char *const probe_time_names[4] = {"GEMM", "attention", "criteria", "other"};

struct probe {
    const opt *m;
    probe_plan plan;
    unsigned needs[STAGES];  // union over the criteria of a stage
    opt_run *run;
    opt_run *removal;        // forward only
    float *residuals;        // [variants of a batch, E] entering rows of the removal oracle, device memory
    const float *view[VIEWS];
    float *copy[VIEWS];      // of another device's memory
    double *wsums;           // [examples, neurons of the layer, WSUMS] by another device
    size_t wsums_room;
    mask *masks;             // one per variant
    int variants, removal_tokens, max_tokens;
    float *xcorr, **xcorr_of;
    float *xmax, *xabs;      // [rows]: as crit_in.xmax; plain max |x|
    size_t xcorr_floats;
    opt_seq *seqs;
    double seconds_criteria, seconds_total, gemm, attention;
    // of the batch in work
    const probe_example *ex;
    probe_result *out;
    probe_row *rows;
    int n, n_rows;
};

static int stage_of(unsigned needs) {
    return needs & CRIT_REMOVAL ? STAGE_REMOVAL : needs & CRIT_HESS_COMPAT ? STAGE_COMPAT : needs & CRIT_HESS ? STAGE_HESS : STAGE_GRAD;
}

static const crit_mode *mode_of(const criterion *c, int m) { return m ? &c->compat : &c->sound; }

static bool wants(const probe_plan *p, int m) { return m ? p->compat : p->sound; }

static void collect_needs(const probe_plan *plan, unsigned needs[STAGES]) {
    memset(needs, 0, STAGES * sizeof *needs);
    for (int k = 0; k < plan->n_crit; k++)
        for (int m = 0; m < 2; m++) {
            if (!wants(plan, m)) continue;
            const crit_mode *c = mode_of(plan->crit[k], m);
            if (c->heads) needs[stage_of(c->needs_heads)] |= c->needs_heads;
            if (c->neurons) needs[stage_of(c->needs_neurons)] |= c->needs_neurons;
        }
}

static unsigned run_flags(const unsigned needs[STAGES]) { return needs[STAGE_HESS] | needs[STAGE_COMPAT] ? OPT_TAPS | OPT_TANGENT : OPT_TAPS; }

static int removal_room(const opt *m, int max_tokens) {  // tokens of a batch of variants: enough to share products out, within 64 MB
    int most = (64 << 20) / (int)sizeof(float) / (m->c.F + 2 * m->c.E);
    return most > 2048 ? max_tokens > 2048 ? max_tokens : 2048 : most > max_tokens ? most : max_tokens;
}

// ---------------------------------------------------------------- life
probe *probe_new(const opt *m, const probe_plan *plan, int max_tokens) {
    probe *p = xcalloc(1, sizeof *p);
    *p = (probe){.m = m, .plan = *plan, .max_tokens = max_tokens};
    collect_needs(plan, p->needs);
    p->run = opt_run_new(m, max_tokens, max_tokens, run_flags(p->needs));
    p->xmax = xcalloc((size_t)max_tokens, sizeof *p->xmax);
    p->xabs = xcalloc((size_t)max_tokens, sizeof *p->xabs);
    p->xcorr_of = xcalloc((size_t)max_tokens, sizeof *p->xcorr_of);
    p->seqs = xcalloc((size_t)max_tokens, sizeof *p->seqs);
    if (p->needs[STAGE_REMOVAL]) {
        p->removal_tokens = removal_room(m, max_tokens);
        p->variants = p->removal_tokens / 2 < 256 ? p->removal_tokens / 2 : 256;
        p->removal = opt_run_new(m, p->removal_tokens, p->variants, OPT_FORWARD);
        p->residuals = m->o->alloc(sizeof(float) * (size_t)p->removal_tokens * (size_t)m->c.E);
        p->masks = xcalloc((size_t)p->variants, sizeof *p->masks);
        for (int i = 0; i < p->variants; i++) {
            const size_t heads = (size_t)m->c.L * (size_t)m->c.H, neurons = (size_t)m->c.L * (size_t)m->c.F;
            p->masks[i] = (mask){xmalloc(heads), xmalloc(neurons)};
            memset(p->masks[i].heads, 1, heads);
            memset(p->masks[i].neurons, 1, neurons);
        }
    }
    return p;
}

void probe_free(probe *p) {
    if (!p) return;
    opt_run_free(p->run);
    opt_run_free(p->removal);
    for (int i = 0; i < p->variants; i++) {
        free(p->masks[i].heads);
        free(p->masks[i].neurons);
    }
    if (p->residuals) p->m->o->release(p->residuals);
    for (int i = 0; i < VIEWS; i++) free(p->copy[i]);
    free(p->wsums);
    void *blocks[] = {p->masks, p->xcorr, p->xcorr_of, p->xmax, p->xabs, p->seqs, p};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

size_t probe_bytes(const opt *m, const probe_plan *plan, int max_tokens) {
    unsigned needs[STAGES];
    collect_needs(plan, needs);
    size_t bytes = opt_run_bytes(m, max_tokens, max_tokens, run_flags(needs));
    if (needs[STAGE_GRAD] & CRIT_XCORR) bytes += sizeof(float) * (size_t)max_tokens * (size_t)max_tokens;
    if (needs[STAGE_COMPAT]) bytes += sizeof(float) * (size_t)m->c.F * (size_t)m->c.E;
    if (needs[STAGE_REMOVAL]) {
        const int room = removal_room(m, max_tokens);
        bytes += opt_run_bytes(m, room, 256, OPT_FORWARD) + sizeof(float) * (size_t)room * (size_t)m->c.E;
        bytes += 256 * (size_t)m->c.L * (size_t)(m->c.H + m->c.F);
    }
    return bytes;
}

double probe_macs(const opt *m, const probe_plan *plan, int n, int context) {
    const opt_config *c = &m->c;
    unsigned needs[STAGES], all = 0;
    collect_needs(plan, needs);
    for (int s = 0; s < STAGES; s++) all |= needs[s];
    double A = 0, F = 0;  // mean widths of a layer
    for (int l = 0; l < c->L; l++) {
        A += (double)opt_units(c, l, OPT_HEADS) * c->D / c->L;
        F += (double)opt_units(c, l, OPT_NEURONS) / c->L;
    }
    const double T = n, E = c->E, L = c->L, out = n - context, head = out * (double)c->V * c->P;
    const double pass = L * T * (4 * E * A + 2 * E * F + T * A), attn = L * T * T * A;
    double macs = pass + head;                                         // forward
    macs += pass + 1.5 * attn + head;                                  // backward, with the probabilities again
    if (all & (CRIT_WGRAD | CRIT_WSUMS | CRIT_HESS_COMPAT)) macs += L * T * E * F;
    if (all & CRIT_XCORR) macs += L * T * T * E;
    if (all & CRIT_HESS) macs += 2 * pass + 5 * attn + 3 * head;
    if (all & CRIT_HESS_COMPAT) macs += 2 * pass + 5 * attn + 3 * head + 6 * L * T * E * F;
    if (all & CRIT_REMOVAL) macs += L * A / c->D * 0.5 * pass;
    return macs;
}

void probe_times(const probe *p, double seconds[4]) {
    seconds[0] = p->gemm;
    seconds[1] = p->attention;
    seconds[2] = p->seconds_criteria;
    seconds[3] = p->seconds_total - p->gemm - p->attention - p->seconds_criteria;
}

// ---------------------------------------------------------------- what the criteria read
// width: of this layer; most: of any.
static void look(probe *p, int view, const float *from, int width, int most) {
    const ops *o = p->m->o;
    p->view[view] = from;
    if (o->host) return;
    const size_t rows = (size_t)opt_row(p->run, p->n - 1) + (size_t)p->ex[p->n - 1].n, bytes = rows * (size_t)width * sizeof *from;
    if (!p->copy[view]) p->copy[view] = xaligned((size_t)p->max_tokens * (size_t)most * sizeof *from);
    o->get(p->copy[view], from, bytes);
    p->view[view] = p->copy[view];
}

static void look_at_taps(probe *p, int layer) {
    const opt_config *c = &p->m->c;
    const int A = opt_units(c, layer, OPT_HEADS) * c->D, F = opt_units(c, layer, OPT_NEURONS);
    look(p, VIEW_A, opt_tap_a(p->run, layer), A, c->E);
    look(p, VIEW_DA, opt_grad_a(p->run, layer), A, c->E);
    look(p, VIEW_Z, opt_tap_z(p->run, layer), F, c->F);
    look(p, VIEW_DZ, opt_grad_z(p->run, layer), F, c->F);
    look(p, VIEW_X, opt_tap_x(p->run, layer), c->E, c->E);
}

// ---------------------------------------------------------------- correlations between the rows of fc1's input
// xmax, xabs of every row; with `correlate`, Pearson correlations within each example.
static void correlate_rows(probe *p, bool correlate) {
    const int E = p->m->c.E;
    const float *x = p->view[VIEW_X];
    size_t floats = 0;
    for (int i = 0; i < p->n; i++) floats += (size_t)p->ex[i].n * (size_t)p->ex[i].n;
    if (correlate && p->xcorr_floats < floats) {
        free(p->xcorr);
        p->xcorr = xaligned(floats * sizeof(float));
        p->xcorr_floats = floats;
    }
    floats = 0;
    for (int i = 0; i < p->n; i++) {
        p->xcorr_of[i] = correlate ? p->xcorr + floats : NULL;
        floats += (size_t)p->ex[i].n * (size_t)p->ex[i].n;
    }
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < p->n; i++) {
        const int T = p->ex[i].n, row = opt_row(p->run, i);
        float *unit = correlate ? cpu_scratch(SLOT_OUT, (size_t)T * (size_t)E) : NULL;
        for (int t = 0; t < T; t++) {
            const float *xt = x + (size_t)(row + t) * (size_t)E;
            double sum = 0, square = 0;
            float most = 0, away = 0;
            for (int e = 0; e < E; e++) {
                sum += (double)xt[e];
                most = fabsf(xt[e]) > most ? fabsf(xt[e]) : most;
            }
            const double mean = sum / E;
            for (int e = 0; e < E; e++) {
                const double d = (double)xt[e] - mean;
                square += d * d;
                away = (float)fabs(d) > away ? (float)fabs(d) : away;
            }
            p->xabs[row + t] = most;
            p->xmax[row + t] = most < 1e-30f || away <= 1e-6f * most ? 0 : most;
            const double scale = square > 0 ? 1 / sqrt(square) : 0;
            for (int e = 0; correlate && e < E; e++) unit[(size_t)t * (size_t)E + (size_t)e] = (float)(((double)xt[e] - mean) * scale);
        }
        if (!correlate) continue;
        // blocks of rows against the rows up to their end, then mirrored
        float *c = p->xcorr_of[i];
        for (int t = 0; t < T; t += TILE) {
            const int rows = T - t < TILE ? T - t : TILE;
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, t + rows, E, 1, unit + (size_t)t * (size_t)E, E, unit, E, 0, c + (size_t)t * (size_t)T, T);
        }
        for (int a = 0; a < T; a++)
            for (int b = 0; b < a; b++) c[(size_t)b * (size_t)T + (size_t)a] = c[(size_t)a * (size_t)T + (size_t)b];
    }
}

// ---------------------------------------------------------------- tiles
// The tile as a criterion may see it: arrays that it did not declare are NULL.
static crit_in declared(const crit_in *in, unsigned needs) {
    crit_in s = *in;
    if (!(needs & CRIT_ACT)) s.act = NULL;
    if (!(needs & CRIT_GRAD)) s.grad = NULL;
    if (!(needs & CRIT_WEIGHT)) s.w = NULL;
    if (!(needs & CRIT_WGRAD)) s.dw = NULL;
    if (!(needs & CRIT_WSUMS)) s.wsums = NULL;
    if (!(needs & CRIT_XCORR)) s.xcorr = s.xmax = NULL;
    if (!(needs & CRIT_OUT_GRAD)) s.out_grad = NULL;
    return s;
}

static void call_criteria(probe *p, int stage, crit_in *in, int example, bool heads) {
    float *score = cpu_scratch(SLOT_OUT, TILE);
    for (int k = 0; k < p->plan.n_crit; k++)
        for (int m = 0; m < 2; m++) {
            if (!wants(&p->plan, m)) continue;
            const crit_mode *c = mode_of(p->plan.crit[k], m);
            const unsigned needs = heads ? c->needs_heads : c->needs_neurons;
            crit_fn *fn = heads ? c->heads : c->neurons;
            float *to = heads ? p->out[example].heads[m][k] : p->out[example].neurons[m][k];
            if (!fn || !to || stage_of(needs) != stage) continue;
            const int units = heads ? p->m->c.H : p->m->c.F;
            const crit_in seen = declared(in, needs);
            fn(score, &seen);
            memcpy(to + (size_t)in->layer * (size_t)units + in->unit, score, sizeof *score * (size_t)in->U);
        }
}

static crit_in tile_base(const probe *p, int i, int layer) {
    const opt_config *c = &p->m->c;
    return (crit_in){.T = p->ex[i].n, .context = p->ex[i].context, .E = c->E, .layer = layer, .layers = c->L, .seed = p->plan.seed, .key = p->ex[i].key};
}

static void head_tile(probe *p, int stage, int layer, int i, int h) {
    const opt_config *c = &p->m->c;
    const int A = opt_units(c, layer, OPT_HEADS) * c->D;
    const size_t row = (size_t)opt_row(p->run, i), at = row * (size_t)A + (size_t)h * (size_t)c->D;
    crit_in in = tile_base(p, i, layer);
    in.U = 1;
    in.D = c->D;
    in.ld = A;
    in.unit = h;
    in.act = p->view[VIEW_A] + at;
    in.grad = p->view[VIEW_DA] + at;
    if (stage == STAGE_GRAD && p->view[VIEW_OUT]) in.out_grad = p->view[VIEW_OUT] + row * (size_t)c->E;
    if (stage == STAGE_HESS) in.hv = p->view[VIEW_HA] + at;
    if (stage == STAGE_COMPAT) in.hu = p->view[VIEW_HA] + at;
    call_criteria(p, stage, &in, i, true);
}

// Of neurons first.. of an example. The gradients are those of the stage's pass; views, or the device's own.
static void weight_sums(double *sums, const probe *p, int stage, int layer, int i, const float *dz, const float *x, const float *tdz, const float *tx, int first, int n) {
    const span s = {opt_row(p->run, i), p->ex[i].n};
    const bool tangent = stage == STAGE_COMPAT;
    p->m->o->weight_sums(sums, dz, x, tangent ? tdz : NULL, tangent ? tx : NULL, &p->m->layer[layer].w1, first, n, &s);
}

// On another device all neurons of an example at once; on the host tile by tile (neuron_tile).
static void device_weight_sums(probe *p, int stage, int layer) {
    const size_t F = (size_t)opt_units(&p->m->c, layer, OPT_NEURONS), need = (size_t)p->n * F * WSUMS;
    if (p->m->o->host || !(p->needs[stage] & CRIT_WSUMS)) return;
    if (p->wsums_room < need) {
        free(p->wsums);
        p->wsums = xmalloc((p->wsums_room = need) * sizeof *p->wsums);
    }
    const float *tdz = stage == STAGE_COMPAT ? opt_hess_z(p->run, layer) : NULL, *tx = stage == STAGE_COMPAT ? opt_tangent_x(p->run, layer) : NULL;
    for (int i = 0; i < p->n; i++)
        weight_sums(p->wsums + (size_t)i * F * WSUMS, p, stage, layer, i, opt_grad_z(p->run, layer), opt_tap_x(p->run, layer), tdz, tx, 0, (int)F);
}

static void neuron_tile(probe *p, int stage, int layer, int i, int first) {
    const opt_config *c = &p->m->c;
    const unsigned needs = p->needs[stage];
    const int E = c->E, F = opt_units(c, layer, OPT_NEURONS), T = p->ex[i].n;
    const size_t row = (size_t)opt_row(p->run, i), at = row * (size_t)F + (size_t)first;
    crit_in in = tile_base(p, i, layer);
    in.U = F - first < TILE ? F - first : TILE;
    in.D = 1;
    in.ld = F;
    in.unit = first;
    in.act = p->view[VIEW_Z] + at;
    in.grad = p->view[VIEW_DZ] + at;
    in.x = p->view[VIEW_X] + row * (size_t)E;
    in.xmax = p->xmax + row;
    in.xcorr = p->xcorr_of[i];
    if (stage == STAGE_HESS) in.hv = p->view[VIEW_HZ] + at;
    double sums[TILE * WSUMS];
    if (needs & CRIT_WSUMS) {
        if (p->m->o->host) weight_sums(sums, p, stage, layer, i, p->view[VIEW_DZ], p->view[VIEW_X], p->view[VIEW_HZ], p->view[VIEW_TX], first, in.U);
        in.wsums = p->m->o->host ? sums : p->wsums + ((size_t)i * (size_t)F + (size_t)first) * WSUMS;
    }
    if (needs & CRIT_WEIGHT) in.w = cpu_weight_rows(&p->m->stored[layer].w1, first, in.U, SLOT_W);
    if (needs & CRIT_WGRAD) {
        float *dw = cpu_scratch(SLOT_DW, (size_t)in.U * (size_t)E);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, in.U, E, T, 1, in.grad, F, in.x, E, 0, dw, E);
        in.dw = dw;
    }
    if (stage == STAGE_COMPAT && needs & CRIT_WGRAD) {  // tangent of dz' x: tdz' x + dz' tx
        float *hu_w = cpu_scratch(SLOT_HU_W, (size_t)in.U * (size_t)E);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, in.U, E, T, 1, p->view[VIEW_HZ] + at, F, in.x, E, 0, hu_w, E);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, in.U, E, T, 1, in.grad, F, p->view[VIEW_TX] + row * (size_t)E, E, 1, hu_w, E);
        in.hu_w = hu_w;
    }
    call_criteria(p, stage, &in, i, false);
}

static void score_layer(probe *p, int stage, int layer) {
    const double start = clock_s();
    const int H = opt_units(&p->m->c, layer, OPT_HEADS), tiles = (opt_units(&p->m->c, layer, OPT_NEURONS) + TILE - 1) / TILE;
    device_weight_sums(p, stage, layer);
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < tiles + H; k++) {
            if (k < tiles) neuron_tile(p, stage, layer, i, k * TILE);
            else head_tile(p, stage, layer, i, k - tiles);
        }
    p->seconds_criteria += clock_s() - start;
}

static void keep_rows(probe *p, int layer) {
    const opt_config *c = &p->m->c;
    const size_t E = (size_t)c->E, A = (size_t)opt_units(c, layer, OPT_HEADS) * (size_t)c->D, F = (size_t)opt_units(c, layer, OPT_NEURONS);
    for (int k = 0; k < p->n_rows; k++) {
        probe_row *r = &p->rows[k];
        const size_t row = (size_t)(opt_row(p->run, r->example) + r->position);
        memcpy(r->da + (size_t)layer * E, p->view[VIEW_DA] + row * A, A * sizeof(float));
        memcpy(r->x + (size_t)layer * E, p->view[VIEW_X] + row * E, E * sizeof(float));
        const float *dz = p->view[VIEW_DZ] + row * F;
        for (size_t j = 0; j < F; j++) r->active[(size_t)layer * (size_t)c->F + j] = fabsf(dz[j]) * p->xabs[row] > 1e-30f;
    }
}

static void after_backward(void *ctx, opt_run *r, int layer) {
    (void)r;
    probe *p = ctx;
    const double start = clock_s();
    look_at_taps(p, layer);
    if (p->needs[STAGE_GRAD] & CRIT_OUT_GRAD) look(p, VIEW_OUT, opt_grad_out(p->run, layer), p->m->c.E, p->m->c.E);
    correlate_rows(p, p->needs[STAGE_GRAD] & CRIT_XCORR);
    keep_rows(p, layer);
    p->seconds_criteria += clock_s() - start;
    score_layer(p, STAGE_GRAD, layer);
}
static void look_at_products(probe *p, int layer) {
    look_at_taps(p, layer);
    const opt_config *c = &p->m->c;
    look(p, VIEW_HA, opt_hess_a(p->run, layer), opt_units(c, layer, OPT_HEADS) * c->D, c->E);
    look(p, VIEW_HZ, opt_hess_z(p->run, layer), opt_units(c, layer, OPT_NEURONS), c->F);
    look(p, VIEW_TX, opt_tangent_x(p->run, layer), c->E, c->E);
}
static void after_hessian(void *ctx, opt_run *r, int layer) {
    (void)r;
    look_at_products(ctx, layer);
    score_layer(ctx, STAGE_HESS, layer);
}
static void after_compat(void *ctx, opt_run *r, int layer) {
    (void)r;
    look_at_products(ctx, layer);
    score_layer(ctx, STAGE_COMPAT, layer);
}

static void keep_features(probe *p) {
    const size_t E = (size_t)p->m->c.E;
    for (int i = 0; i < p->n; i++)
        for (int m = 0; m < 2; m++)
            for (int l = 0; l < p->m->c.L; l++) {
                const size_t row = (size_t)(opt_row(p->run, i) + (m ? p->ex[i].n : p->ex[i].context) - 1);
                const float *from[FEAT_KINDS] = {opt_tap_a(p->run, l), opt_tap_res(p->run, l), opt_tap_mid(p->run, l)};
                const size_t width[FEAT_KINDS] = {(size_t)opt_units(&p->m->c, l, OPT_HEADS) * (size_t)p->m->c.D, E, E};
                for (int k = 0; k < FEAT_KINDS; k++)
                    if (p->out[i].features[m][k]) p->m->o->get(p->out[i].features[m][k] + (size_t)l * E, from[k] + row * width[k], width[k] * sizeof(float));
            }
}

// ---------------------------------------------------------------- the removal oracle
// L(unit removed) - L for units of one layer of one example, the intact model riding along in every batch. res: [T, E] entering it.
static void remove_units(probe *p, const probe_example *ex, int layer, bool heads, const float *res, double *change) {
    const opt_config *c = &p->m->c;
    const int U = heads ? c->H : c->F, units = opt_units(c, layer, heads ? OPT_HEADS : OPT_NEURONS), T = ex->n, most = p->removal_tokens / T < p->variants ? p->removal_tokens / T : p->variants;
    ASSERT(most >= 1);
    double *lp = xmalloc(sizeof *lp * (size_t)p->removal_tokens), intact = 0;
    opt_seq *s = xcalloc((size_t)p->variants, sizeof *s);
    for (int i = 0; i < most; i++) p->m->o->copy(p->residuals + (size_t)i * (size_t)T * (size_t)c->E, res, sizeof(float) * (size_t)T * (size_t)c->E);
    for (int first = -1; first < units; first += most) {  // variant -1: nothing removed
        const int n = units - first < most ? units - first : most;
        for (int i = 0; i < n; i++) {
            const int u = first + i;
            uint8_t *unit = u < 0 ? NULL : (heads ? p->masks[i].heads : p->masks[i].neurons) + (size_t)layer * (size_t)U + u;
            if (unit) *unit = 0;
            s[i] = (opt_seq){.tokens = ex->tokens, .n = T, .mask = &p->masks[i], .targets_from = ex->context - 1, .last_target = OPT_NO_OUTPUT};
        }
        opt_forward_from(p->removal, s, n, layer, p->residuals);
        opt_logprobs(p->removal, lp, NULL, 0);
        const int targets = T - ex->context;
        for (int i = 0; i < n; i++) {
            double loss = 0;
            for (int t = 0; t < targets; t++) loss -= lp[i * targets + t] / targets;
            if (first + i < 0) intact = loss;
            else {
                change[first + i] = loss - intact;
                (heads ? p->masks[i].heads : p->masks[i].neurons)[(size_t)layer * (size_t)U + first + i] = 1;
            }
        }
    }
    free(s);
    free(lp);
}

static bool wants_removal(const probe *p, int i, bool heads) {
    for (int k = 0; k < p->plan.n_crit; k++)
        for (int m = 0; m < 2; m++) {
            const crit_mode *c = mode_of(p->plan.crit[k], m);
            if (wants(&p->plan, m) && (heads ? c->heads && c->needs_heads & CRIT_REMOVAL && p->out[i].heads[m][k] : c->neurons && c->needs_neurons & CRIT_REMOVAL && p->out[i].neurons[m][k]))
                return true;
        }
    return false;
}

static void run_removal(probe *p) {
    const opt_config *c = &p->m->c;
    const int most = c->H > c->F ? c->H : c->F;
    double *change = xmalloc(sizeof *change * (size_t)most);
    for (int i = 0; i < p->n; i++)
        for (int heads = 0; heads < 2; heads++)
            for (int l = 0; wants_removal(p, i, heads) && l < c->L; l++) {
                const int U = opt_units(c, l, heads ? OPT_HEADS : OPT_NEURONS);
                remove_units(p, &p->ex[i], l, heads, opt_tap_res(p->run, l) + (size_t)opt_row(p->run, i) * (size_t)c->E, change);
                for (int u = 0; u < U; u += TILE) {
                    crit_in in = tile_base(p, i, l);
                    in.U = U - u < TILE ? U - u : TILE;
                    in.unit = u;
                    in.removal = change + u;
                    call_criteria(p, STAGE_REMOVAL, &in, i, heads);
                }
            }
    free(change);
}

// ---------------------------------------------------------------- a batch
// Scores of units that a compacted model has lost.
static void mark_absent(probe *p) {
    const opt_config *c = &p->m->c;
    for (int i = 0; opt_compacted(c) && i < p->n; i++)
        for (int k = 0; k < p->plan.n_crit; k++)
            for (int m = 0; m < 2; m++)
                for (int heads = 0; wants(&p->plan, m) && heads < 2; heads++) {
                    float *s = heads ? p->out[i].heads[m][k] : p->out[i].neurons[m][k];
                    const int U = heads ? c->H : c->F;
                    for (int l = 0; s && l < c->L; l++)
                        for (int u = opt_units(c, l, heads ? OPT_HEADS : OPT_NEURONS); u < U; u++) s[(size_t)l * (size_t)U + (size_t)u] = NAN;
                }
}

static int check(const probe *p, int i) {
    const opt_config *c = &p->m->c;
    const probe_result *r = &p->out[i];
    if (!isfinite(r->loss)) return err_set("example %d of the batch: the loss is %g; the checkpoint's numbers overflow in fp32 or are broken", i, r->loss);
    for (int k = 0; k < p->plan.n_crit; k++)
        for (int m = 0; m < 2; m++)
            for (int heads = 0; wants(&p->plan, m) && heads < 2; heads++) {
                const crit_mode *mode = mode_of(p->plan.crit[k], m);
                const float *s = heads ? r->heads[m][k] : r->neurons[m][k];
                const int U = heads ? c->H : c->F;
                if (!s || !(heads ? mode->heads : mode->neurons)) continue;
                for (int u = 0; u < c->L * U; u++)
                    if (!isfinite(s[u]) && u % U < opt_units(c, u / U, heads ? OPT_HEADS : OPT_NEURONS))
                        return err_set("example %d of the batch: criterion %s%s of %s %d in layer %d is %g", i, p->plan.crit[k]->name, m ? " (compat)" : "",
                                       heads ? "head" : "neuron", u % U, u / U, (double)s[u]);
            }
    return 0;
}

int probe_run(probe *p, const probe_example *ex, int n, probe_result *out, probe_row *rows, int n_rows) {
    const double start = clock_s(), gemm = ops_seconds_gemm, attention = ops_seconds_attention;
    const opt_config *c = &p->m->c;
    p->ex = ex;
    p->n = n;
    p->out = out;
    p->rows = rows;
    p->n_rows = n_rows;
    int targets = 0;
    for (int i = 0; i < n; i++) {
        ASSERT(ex[i].context >= 1 && ex[i].context < ex[i].n && ex[i].n <= c->positions);
        p->seqs[i] = (opt_seq){.tokens = ex[i].tokens, .n = ex[i].n, .targets_from = ex[i].context - 1, .last_target = OPT_NO_OUTPUT};
        targets += ex[i].n - ex[i].context;
    }
    double *lp = xmalloc(sizeof *lp * (size_t)targets);
    opt_forward(p->run, p->seqs, n);
    keep_features(p);
    opt_backward(p->run, NULL, lp, NULL, after_backward, p);
    for (int i = 0, at = 0; i < n; at += ex[i].n - ex[i].context, i++) {
        double loss = 0;
        for (int t = 0; t < ex[i].n - ex[i].context; t++) loss -= lp[at + t];
        out[i].loss = loss / (ex[i].n - ex[i].context);
    }
    free(lp);
    if (p->needs[STAGE_HESS]) opt_hessian(p->run, NULL, NULL, NULL, NULL, after_hessian, p);
    if (p->needs[STAGE_COMPAT]) {
        float *factor = xcalloc(3 * (size_t)n, sizeof *factor), *on_z = factor + n, *on_w = factor + 2 * n;
        // E and F of the source where the model was compacted: in its means the gradients of lost units count as 0
        for (int i = 0; i < n; i++) {
            factor[i] = 1.0f / ((float)ex[i].n * (float)c->E);
            on_w[i] = 1.0f / ((float)c->F * (float)c->E);
        }
        opt_hessian(p->run, NULL, factor, on_z, on_w, after_compat, p);
        free(factor);
    }
    if (p->needs[STAGE_REMOVAL]) run_removal(p);
    mark_absent(p);
    p->gemm += ops_seconds_gemm - gemm;
    p->attention += ops_seconds_attention - attention;
    p->seconds_total += clock_s() - start;
    for (int i = 0; i < n; i++)
        if (check(p, i) != 0) return -1;
    return 0;
}
