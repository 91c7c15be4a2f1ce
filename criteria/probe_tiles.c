// probe_tiles - every criterion on the taps of a layer: what the criteria of a stage declared is made once, then tiles
// of units of all examples are shared out over threads.
//
// Sums are taken by operations of the device. On the host that is tile by tile, while a tile is in cache, but for those
// over weights, of an example at a time; elsewhere all units of some examples at a time, and only the sums come back,
// while the device goes on to the next ones: criteria see them when those have been enqueued. Taps of another device
// are copied where a criterion reads them itself. A neuron tile's weight gradient exists only while its criteria run.
#include "cpu.h"
#include "moments.h"
#include "probe_state.h"
#include "sums.h"
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = CRIT_TILE, SUMS_BYTES = 16 << 20 };
enum { HV = CRIT_HESS | CRIT_AFTER_HV, HU = CRIT_HESS_COMPAT | CRIT_AFTER_HU };
enum { X_WITH = CRIT_ACT | CRIT_GRAD | CRIT_WEIGHT | CRIT_WGRAD | CRIT_HESS | CRIT_HESS_COMPAT | CRIT_XCORR };

// ---------------------------------------------------------------- what is declared
static int stage_of(unsigned needs) {
    if (needs & CRIT_REMOVAL) return STAGE_REMOVAL;
    if (needs & HU) return STAGE_COMPAT;
    return needs & HV ? STAGE_HESS : STAGE_GRAD;
}

void tiles_needs(const probe_plan *plan, probe_needs needs) {
    memset(needs, 0, sizeof(probe_needs));
    for (int k = 0; k < plan->n_crit; k++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++) {
            const crit_mode *c = crit_mode_of(plan->crit[k], m);
            if (!plan->mode[m]) continue;
            for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
                const unsigned reads = crit_needs(c, kind);
                if (crit_function(c, kind)) needs[stage_of(reads)][kind] |= reads;
                if (plan->crit[k]->pooled) needs[STAGE_GRAD][kind] |= CRIT_MOMENTS;
            }
        }
}

// Whether something is copied for criteria that read it themselves.
static bool looks(const probe *p, int stage) {
    return (p->needs[stage][UNIT_HEADS] | p->needs[stage][UNIT_NEURONS]) & (X_WITH | CRIT_OUT_GRAD);
}

static bool correlates(probe_needs needs) {
    bool any = false;
    for (int s = 0; s < STAGES; s++) any |= sums_correlate(needs[s][UNIT_NEURONS]);
    return any;
}

static bool wants_moments(probe_needs needs, unit_kind kind) { return needs[STAGE_GRAD][kind] & CRIT_MOMENTS; }

// ---------------------------------------------------------------- memory
static size_t corr_floats(const model *m, int max_tokens) {
    return (size_t)max_tokens * (size_t)(max_tokens < m->c.positions ? max_tokens : m->c.positions);
}

// Examples whose sums are there at a time, on another device.
static int examples_at_a_time(const model *m) {
    const size_t each = (size_t)(m->c.H > m->c.F ? m->c.H : m->c.F) * USUMS * sizeof(double);
    return each < SUMS_BYTES ? (int)(SUMS_BYTES / each) : 1;
}
static size_t sums_count(const model *m) {
    return (size_t)examples_at_a_time(m) * (size_t)(m->c.H > m->c.F ? m->c.H : m->c.F) * USUMS;
}
static size_t most_columns(const model *m) {
    const size_t A = moments_width(&m->c, UNIT_HEADS), F = (size_t)m->c.F;
    return A > F ? A : F;
}
static size_t moments_count(const model *m, probe_needs needs) {
    const bool any = wants_moments(needs, UNIT_HEADS) || wants_moments(needs, UNIT_NEURONS);
    return any ? 2 * (size_t)examples_at_a_time(m) * most_columns(m) : 0;
}

static size_t wsums_count(const model *m, probe_needs needs) {
    bool any = false;
    for (int s = 0; s < STAGES; s++) any |= needs[s][UNIT_NEURONS] & CRIT_WSUMS;
    return any ? (size_t)examples_at_a_time(m) * (size_t)m->c.F * WSUMS : 0;
}
// Bytes of the sums of as many examples.
static size_t sums_bytes(const model *m, probe_needs needs) {
    return (sums_count(m) + wsums_count(m, needs) + moments_count(m, needs)) * sizeof(double);
}

size_t tiles_bytes(const model *m, probe_needs needs, int max_tokens, size_t part[OPS_PARTS]) {
    size_t each = m->o->host ? 0 : sums_bytes(m, needs), all = 0;
    if (correlates(needs)) each += (corr_floats(m, max_tokens) + (size_t)max_tokens) * sizeof(float);
    if (correlates(needs) && m->arch.gated) each += (size_t)max_tokens * ROW_STATS * sizeof(float);
    for (int k = 0; k < m->parts; k++) all += part[k] = each;
    return all;
}

void tiles_alloc(probe *p) {
    const model *m = p->m;
    const ops *o = m->o;
    size_t bytes[OPS_PARTS];
    tiles_bytes(m, p->needs, p->max_tokens, bytes);
    if (ops_plan(o, bytes, "sums of the criteria") != 0) die(1, "%s", err_get());
    for (int k = 0; k < m->parts; k++) {
        o->use(k);
        if (correlates(p->needs)) {
            p->part[k].corr = o->alloc(corr_floats(m, p->max_tokens) * sizeof(float));
            p->part[k].most = o->alloc((size_t)p->max_tokens * sizeof(float));
            if (m->arch.gated) p->part[k].stat = o->alloc((size_t)p->max_tokens * ROW_STATS * sizeof(float));
        }
        if (o->host) continue;
        p->part[k].sums = o->alloc(sums_count(m) * sizeof(double));
        if (wsums_count(m, p->needs)) p->part[k].wsums = o->alloc(wsums_count(m, p->needs) * sizeof(double));
        if (moments_count(m, p->needs)) p->part[k].moments = o->alloc(moments_count(m, p->needs) * sizeof(double));
    }
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++)
        if (wants_moments(p->needs, kind)) p->squares[kind] = moments_squares(m, kind);
    o->use(0);
    p->corr_at = xcalloc((size_t)p->max_tokens, sizeof *p->corr_at);
    p->spans = xcalloc((size_t)p->max_tokens, sizeof *p->spans);
    if (o->host) return;
    for (int k = 0; k < 2; k++) p->sums[k] = o->fetch_new(sums_bytes(m, p->needs) + 3 * (size_t)FETCH_ALIGN);
}

void tiles_free(probe *p) {
    for (int k = 0; k < p->m->parts; k++) {
        void *device[] = {p->part[k].corr, p->part[k].most,  p->part[k].stat,
                          p->part[k].sums, p->part[k].wsums, p->part[k].moments};
        for (int i = 0; i < 6; i++)
            if (device[i]) p->m->o->release(device[i]);
    }
    for (int i = 0; i < VIEWS; i++) free(p->copy[i]);
    void *host[] = {p->corr, p->most, p->corr_at, p->spans, p->squares[UNIT_HEADS], p->squares[UNIT_NEURONS]};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    for (int k = 0; k < 2; k++) p->m->o->fetch_free(p->sums[k]);
}

void tiles_begin(probe *p) {
    for (int i = 0; i < p->n; i++) {
        p->spans[i] = (span){model_row(p->run, i), p->ex[i].n};
        p->corr_at[i] = i ? p->corr_at[i - 1] + (size_t)p->ex[i - 1].n * (size_t)p->ex[i - 1].n : 0;
    }
}

// ---------------------------------------------------------------- what the criteria read
// Taps of the layer at work, in the device's memory.
static sum_taps taps_of(const probe *p, int stage, int layer, unit_kind kind) {
    const model_config *c = &p->m->c;
    const model_run *r = p->run;
    const bool tangents = stage == STAGE_HESS || stage == STAGE_COMPAT;
    const probe_part *part = &p->part[model_part(p->m, layer)];
    sum_taps x = {.taps = {.act = model_tap(r, kind, layer),
                           .grad = model_grad_tap(r, kind, layer),
                           .tangent = tangents ? model_hess_tap(r, kind, layer) : NULL,
                           .ld = model_tap_width(c, layer, kind)}};
    if (kind == UNIT_HEADS) {
        x.taps.out = tangents ? NULL : model_grad_out(r, layer);
        x.taps.out_ld = c->E;
        x.taps.D = c->D;
    } else {
        x.taps.D = 1;
        x.corr = part->corr;
        x.most = part->most;
        x.dz = model_grad_z(r, layer);
        if (!tangents && model_tap_r(r, layer)) {  // another activation than ReLU: what is put out, not z
            x.taps.act = model_tap_r(r, layer);
            x.taps.grad = model_grad_r(r, layer);
            x.taps.gate = model_tap_z(r, layer);
        }
        if (p->m->arch.gated) {
            x.taps.gate = model_tap_z(r, layer);
            x.dg = model_grad_z(r, layer), x.du = model_grad_u(r, layer);
            x.stat = part->stat, x.E = c->E;
        }
    }
    return x;
}

static int batch_rows(const probe *p) { return p->spans[p->n - 1].row + p->spans[p->n - 1].n; }

// The host's copy of `floats` numbers of another device, at most `most`, in *copy.
static const float *copied(const ops *o, float **copy, const float *from, size_t floats, size_t most) {
    if (!*copy) *copy = xaligned(most * sizeof **copy);
    o->get(*copy, from, floats * sizeof *from);
    return *copy;
}

static void look_at_taps(probe *p, int stage, int layer) {
    const model_config *c = &p->m->c;
    const unsigned heads = p->needs[stage][UNIT_HEADS], neurons = p->needs[stage][UNIT_NEURONS];
    const int A = model_tap_width(c, layer, UNIT_HEADS), F = model_tap_width(c, layer, UNIT_NEURONS),
              most_A = c->H * c->D;
    const sum_taps h = taps_of(p, stage, layer, UNIT_HEADS), n = taps_of(p, stage, layer, UNIT_NEURONS);
    const struct {
        unsigned wanted;
        const float *from;
        int width, most;
    } view[VIEWS] = {
        [VIEW_A] = {heads & CRIT_ACT, h.taps.act, A, most_A},
        [VIEW_DA] = {heads & CRIT_GRAD, h.taps.grad, A, most_A},
        [VIEW_OUT] = {heads & CRIT_OUT_GRAD, h.taps.out, c->E, c->E},
        [VIEW_HA] = {heads & (CRIT_HESS | CRIT_HESS_COMPAT), h.taps.tangent, A, most_A},
        [VIEW_Z] = {neurons & CRIT_ACT, model_tap(p->run, UNIT_NEURONS, layer), F, c->F},
        [VIEW_DZ] = {neurons & (CRIT_GRAD | CRIT_WGRAD), model_grad_tap(p->run, UNIT_NEURONS, layer), F, c->F},
        [VIEW_HZ] = {neurons & (CRIT_HESS | CRIT_HESS_COMPAT), n.taps.tangent, F, c->F},
        [VIEW_X] = {neurons & X_WITH, model_tap_x(p->run, layer), c->E, c->E},
        [VIEW_TX] = {stage == STAGE_COMPAT ? neurons & CRIT_WGRAD : 0,
                     stage == STAGE_COMPAT ? model_tangent_x(p->run, layer) : NULL, c->E, c->E}};
    for (int v = 0; v < VIEWS; v++) {
        p->view[v] = NULL;
        if (!view[v].wanted) continue;
        p->view[v] = p->m->o->host
                         ? view[v].from
                         : copied(p->m->o, &p->copy[v], view[v].from, (size_t)batch_rows(p) * (size_t)view[v].width,
                                  (size_t)p->max_tokens * (size_t)view[v].most);
    }
}

static void correlate(probe *p, int stage, int layer) {
    const ops *o = p->m->o;
    const probe_part *part = &p->part[model_part(p->m, layer)];
    const unsigned needs = p->needs[stage][UNIT_NEURONS];
    if (!sums_correlate(needs)) return;
    o->correlate(part->corr, part->most, model_scratch(p->run, layer), model_tap_x(p->run, layer), p->m->c.E, p->spans,
                 p->n);
    if (part->stat) o->row_stats(part->stat, model_tap_x(p->run, layer), p->m->c.E, p->spans, p->n);
    if (o->host || !(needs & CRIT_XCORR)) return;
    copied(o, &p->corr, part->corr, p->corr_at[p->n - 1] + (size_t)p->ex[p->n - 1].n * (size_t)p->ex[p->n - 1].n,
           corr_floats(p->m, p->max_tokens));
    copied(o, &p->most, part->most, (size_t)batch_rows(p), (size_t)p->max_tokens);
}

// Over the rows of every matrix into the neurons, added up; sums: device memory.
static void weight_sums(double *sums, const probe *p, int stage, int layer, int i, int first, int n) {
    const bool tangent = stage == STAGE_COMPAT;
    const float *x = model_tap_x(p->run, layer), *dz;
    for (int k = 0; (dz = model_grad_rows(p->run, layer, k)); k++) {
        const bool moves = k == 0 && tangent;
        p->m->o->weight_sums(sums, dz, x, moves ? model_hess_z(p->run, layer) : NULL,
                             moves ? model_tangent_x(p->run, layer) : NULL, model_neuron_rows(p->m, layer, k, false),
                             first, n, k > 0, &p->spans[i]);
    }
}

// ---------------------------------------------------------------- tiles
// The tile as a criterion may see it: arrays that it did not declare are NULL.
static crit_in declared(const crit_in *in, unsigned needs) {
    crit_in s = *in;
    if (!(needs & CRIT_ACT)) s.act = NULL;
    if (!(needs & CRIT_GRAD)) s.grad = NULL;
    if (!(needs & CRIT_WEIGHT)) s.w = NULL;
    if (!(needs & CRIT_WGRAD)) s.dw = s.hu_w = NULL;
    if (!(needs & CRIT_WSUMS)) s.wsums = NULL;
    if (!(needs & CRIT_XCORR)) s.xcorr = s.xmax = NULL;
    if (!(needs & CRIT_OUT_GRAD)) s.out_grad = NULL;
    if (!(needs & CRIT_HESS)) s.hv = NULL;
    if (!(needs & CRIT_HESS_COMPAT)) s.hu = NULL;
    if (!(needs & X_WITH)) s.x = NULL;
    if (!CRIT_COLUMNS(needs)) s.sums = NULL;
    if (!(needs & CRIT_MOMENTS)) s.moments = s.squares = NULL;
    return s;
}

void tiles_call(probe *p, int stage, const crit_in *in, int example, unit_kind kind) {
    const scratch_point mark = scratch_mark();
    float *score = scratch_floats(TILE);
    for (int k = 0; k < p->plan.n_crit; k++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++) {
            if (!p->plan.mode[m]) continue;
            const crit_mode *c = crit_mode_of(p->plan.crit[k], m);
            const unsigned needs = crit_needs(c, kind);
            crit_fn *fn = crit_function(c, kind);
            float *to = probe_scores(&p->out[example], kind, m)[k];
            if (!fn || !to || stage_of(needs) != stage) continue;
            const int units = model_all_units(&p->m->c, kind);
            const crit_in seen = declared(in, needs);
            fn(score, &seen);
            memcpy(to + (size_t)in->layer * (size_t)units + in->unit, score, sizeof *score * (size_t)in->U);
        }
    scratch_release(mark);
}

crit_in tiles_base(const probe *p, int example, int layer) {
    const model_config *c = &p->m->c;
    return (crit_in){.T = p->ex[example].n,
                     .context = p->ex[example].context,
                     .E = c->E,
                     .layer = layer,
                     .layers = c->L,
                     .seed = p->plan.seed,
                     .key = p->ex[example].key};
}

static const float *from(const float *view, size_t at) { return view ? view + at : NULL; }

// What the next matrix reads, or (rectified) what it reads max(.., 0) of.
static bool rectified(const probe *p, unit_kind kind) {
    return kind == UNIT_NEURONS && !p->m->arch.gated && p->m->arch.act == ACT_RELU;
}
static const float *put_out(const probe *p, unit_kind kind, int layer) {
    return kind == UNIT_HEADS || rectified(p, kind) ? model_tap(p->run, kind, layer) : model_tap_r(p->run, layer);
}

// The moments of a tile's columns, taken before or (NULL) here, in scratch memory of the caller's mark.
static void look_at_moments(const probe *p, int stage, int layer, int example, unit_kind kind, const double *moments,
                            crit_in *in) {
    if (!(p->needs[stage][kind] & CRIT_MOMENTS)) return;
    const model_config *c = &p->m->c;
    const int first = in->unit * in->D, columns = in->U * in->D;
    if (!moments) {
        double *own = scratch_take(2 * (size_t)columns * sizeof *own);
        p->m->o->column_moments(own, put_out(p, kind, layer), in->ld, rectified(p, kind), first, columns,
                                &p->spans[example], 1);
        moments = own;
    }
    in->moments = moments;
    in->squares = p->squares[kind] + (size_t)layer * moments_width(c, kind) + (size_t)first;
    double *keep = p->out[example].moments;
    const size_t A = moments_width(c, UNIT_HEADS),
                 at = (size_t)layer * (A + (size_t)c->F) + (kind == UNIT_HEADS ? 0 : A) + (size_t)first;
    if (keep) memcpy(keep + 2 * at, moments, 2 * (size_t)columns * sizeof *keep);
}

// What was taken of a tile before; NULL where the tile takes its own.
typedef struct {
    const double *sums, *wsums, *moments;
} tile_sums;

static void head_tile(probe *p, int stage, int layer, int i, int h, const tile_sums *of) {
    const model_config *c = &p->m->c;
    const int A = model_tap_width(c, layer, UNIT_HEADS);
    const size_t row = (size_t)p->spans[i].row, at = row * (size_t)A + (size_t)h * (size_t)c->D;
    double own[USUMS];
    crit_in in = tiles_base(p, i, layer);
    in.U = 1;
    in.D = c->D;
    in.ld = A;
    in.unit = h;
    in.act = from(p->view[VIEW_A], at);
    in.grad = from(p->view[VIEW_DA], at);
    in.out_grad = from(p->view[VIEW_OUT], row * (size_t)c->E);
    *(stage == STAGE_HESS ? &in.hv : &in.hu) = from(p->view[VIEW_HA], at);
    in.sums = of->sums ? of->sums : own;
    if (!of->sums) {
        const sum_taps taps = taps_of(p, stage, layer, UNIT_HEADS);
        sums_take(p->m->o, own, p->needs[stage][UNIT_HEADS], &taps, h, 1, &p->spans[i], 1);
    }
    const scratch_point mark = scratch_mark();
    look_at_moments(p, stage, layer, i, UNIT_HEADS, of->moments, &in);
    tiles_call(p, stage, &in, i, UNIT_HEADS);
    scratch_release(mark);
}

// The tile's rows of the weights' gradient, and of its tangent: of dz' x it is tdz' x + dz' tx. In scratch memory of
// the caller's mark.
static void weight_gradients(const probe *p, int stage, crit_in *in, size_t row) {
    const int E = in->E, F = in->ld, T = in->T;
    const float *dz = in->grad, *hz = stage == STAGE_COMPAT ? in->hu : NULL;
    float *dw = scratch_floats((size_t)in->U * (size_t)E);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, in->U, E, T, 1, dz, F, in->x, E, 0, dw, E);
    in->dw = dw;
    if (!hz) return;
    float *hu_w = scratch_floats((size_t)in->U * (size_t)E);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, in->U, E, T, 1, hz, F, in->x, E, 0, hu_w, E);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, in->U, E, T, 1, dz, F, p->view[VIEW_TX] + row * (size_t)E, E,
                1, hu_w, E);
    in->hu_w = hu_w;
}

static void neuron_tile(probe *p, int stage, int layer, int i, int first, const tile_sums *of) {
    const model_config *c = &p->m->c;
    const unsigned needs = p->needs[stage][UNIT_NEURONS];
    const int F = model_units(c, layer, UNIT_NEURONS);
    const size_t row = (size_t)p->spans[i].row, at = row * (size_t)F + (size_t)first;
    const probe_part *part = &p->part[model_part(p->m, layer)];
    double own[TILE * USUMS];
    crit_in in = tiles_base(p, i, layer);
    in.U = F - first < TILE ? F - first : TILE;
    in.D = 1;
    in.ld = F;
    in.unit = first;
    in.act = from(p->view[VIEW_Z], at);
    in.grad = from(p->view[VIEW_DZ], at);
    in.x = from(p->view[VIEW_X], row * (size_t)c->E);
    *(stage == STAGE_HESS ? &in.hv : &in.hu) = from(p->view[VIEW_HZ], at);
    if (needs & CRIT_XCORR) {
        in.xcorr = (p->corr ? p->corr : part->corr) + p->corr_at[i];
        in.xmax = (p->most ? p->most : part->most) + row;
    }
    in.sums = of->sums ? of->sums : own;
    in.wsums = of->wsums;
    if (!of->sums) {
        sum_taps taps = taps_of(p, stage, layer, UNIT_NEURONS);
        if (taps.corr) taps.corr += p->corr_at[i];
        sums_take(p->m->o, own, needs, &taps, first, in.U, &p->spans[i], 1);
    }
    const scratch_point mark = scratch_mark();
    if (needs & CRIT_WEIGHT) in.w = cpu_weight_rows(model_neuron_rows(p->m, layer, 0, true), first, in.U);
    if (needs & CRIT_WGRAD) weight_gradients(p, stage, &in, row);
    look_at_moments(p, stage, layer, i, UNIT_NEURONS, of->moments, &in);
    tiles_call(p, stage, &in, i, UNIT_NEURONS);
    scratch_release(mark);
}

static void score_on_host(probe *p, int stage, int layer) {
    const int H = model_units(&p->m->c, layer, UNIT_HEADS), F = model_units(&p->m->c, layer, UNIT_NEURONS),
              tiles = (F + TILE - 1) / TILE;
    const bool weights = p->needs[stage][UNIT_NEURONS] & CRIT_WSUMS;
    const size_t each = (size_t)F * WSUMS;
    const scratch_point mark = scratch_mark();
    double *wsums = weights ? scratch_take((size_t)p->n * each * sizeof *wsums) : NULL;
    for (int i = 0; weights && i < p->n; i++) weight_sums(wsums + (size_t)i * each, p, stage, layer, i, 0, F);
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < tiles + H; k++) {
            const tile_sums of = {.wsums = weights && k < tiles ? wsums + (size_t)i * each + (size_t)k * TILE * WSUMS
                                                                : NULL};
            if (k < tiles)
                neuron_tile(p, stage, layer, i, k * TILE, &of);
            else
                head_tile(p, stage, layer, i, k - tiles, &of);
        }
    scratch_release(mark);
}

// The criteria of what has come.
static void score_sums(probe *p, const probe_sums *from) {
    const model_config *c = &p->m->c;
    const int units = model_units(c, from->layer, from->kind), width = from->kind == UNIT_HEADS ? 1 : TILE;
    const size_t each = (size_t)units * USUMS, each_w = (size_t)units * WSUMS,
                 each_m = 2 * (size_t)model_tap_width(c, from->layer, from->kind),
                 D = (size_t)(from->kind == UNIT_HEADS ? c->D : 1);
#pragma omp parallel for schedule(dynamic) collapse(2)
    for (int i = 0; i < from->n; i++)
        for (int u = 0; u < units; u += width) {
            const tile_sums of = {.sums = from->sums + (size_t)i * each + (size_t)u * USUMS,
                                  .wsums = from->wsums + (size_t)i * each_w + (size_t)u * WSUMS,
                                  .moments = from->moments + (size_t)i * each_m + 2 * (size_t)u * D};
            if (from->kind == UNIT_HEADS)
                head_tile(p, from->stage, from->layer, from->first + i, u, &of);
            else
                neuron_tile(p, from->stage, from->layer, from->first + i, u, &of);
        }
}

void tiles_finish(probe *p) {
    const probe_sums come = p->coming;
    if (!come.n) return;
    p->coming.n = 0;
    p->m->o->fetch_wait(p->sums[p->turn ^ 1]);
    score_sums(p, &come);
}

// Has the sums of some examples taken and sent; then those that were sent before are scored.
static void send_sums(probe *p, int stage, int layer, unit_kind kind, int first, int n) {
    const model_config *c = &p->m->c;
    const ops *o = p->m->o;
    const int units = model_units(c, layer, kind), columns = model_tap_width(c, layer, kind);
    const size_t each_w = (size_t)units * WSUMS;
    const unsigned needs = p->needs[stage][kind];
    const probe_part *part = &p->part[model_part(p->m, layer)];
    struct fetch *to = p->sums[p->turn];
    probe_sums sent = {.stage = stage, .layer = layer, .kind = kind, .first = first, .n = n};
    sum_taps taps = taps_of(p, stage, layer, kind);
    if (taps.corr) taps.corr += p->corr_at[first];
    if (CRIT_COLUMNS(needs)) sums_take(o, part->sums, needs, &taps, 0, units, p->spans + first, n);
    sent.sums = o->fetch(to, part->sums, CRIT_COLUMNS(needs) ? (size_t)n * (size_t)units * USUMS * sizeof(double) : 0);
    for (int i = 0; i < n && needs & CRIT_WSUMS; i++)
        weight_sums(part->wsums + (size_t)i * each_w, p, stage, layer, first + i, 0, units);
    sent.wsums = o->fetch(to, part->wsums, needs & CRIT_WSUMS ? (size_t)n * each_w * sizeof(double) : 0);
    if (needs & CRIT_MOMENTS)
        o->column_moments(part->moments, put_out(p, kind, layer), columns, rectified(p, kind), 0, columns,
                          p->spans + first, n);
    sent.moments =
        o->fetch(to, part->moments, needs & CRIT_MOMENTS ? 2 * (size_t)n * (size_t)columns * sizeof(double) : 0);
    tiles_finish(p);
    p->coming = sent;
    p->turn ^= 1;
}

// Some examples at a time, as many as the memory for their sums holds.
static void score_on_device(probe *p, int stage, int layer, unit_kind kind) {
    const int units = model_units(&p->m->c, layer, kind), most = examples_at_a_time(p->m);
    for (int first = 0, n; first < p->n && units; first += n) {
        n = p->n - first < most ? p->n - first : most;
        send_sums(p, stage, layer, kind, first, n);
    }
}

void tiles_score(probe *p, int stage, int layer) {
    const double start = clock_s();
    if (looks(p, stage)) tiles_finish(p);  // what it sees must not have changed
    look_at_taps(p, stage, layer);
    correlate(p, stage, layer);
    if (p->m->o->host)
        score_on_host(p, stage, layer);
    else
        for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) score_on_device(p, stage, layer, kind);
    if (looks(p, stage)) tiles_finish(p);
    p->seconds_criteria += clock_s() - start;
}
