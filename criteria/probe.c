// probe - one forward-backward pass over a batch of examples and every criterion on its taps. Contract in probe.h.
//
// Criteria run in stages, by what they read: after each layer's backward (taps, gradients), after each layer of the
// Hessian-vector product (METHOD 4.2, grasp), of its compat variant, and after the forward passes of the removal
// oracle.
#include "probe_state.h"
#include "sums.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const feat_names[FEAT_KINDS] = {"head_output", "residual", "residual_mid"};
const char *const probe_time_names[4] = {"GEMM", "attention", "criteria", "other"};

static bool any(const unsigned needs[UNIT_KINDS]) { return needs[UNIT_HEADS] || needs[UNIT_NEURONS]; }

// Whether something reads a gradient.
static bool needs_backward(probe_needs needs) {
    const unsigned forward = CRIT_ACT | CRIT_WEIGHT | CRIT_XCORR | CRIT_REMOVAL | CRIT_MOMENTS | CRIT_SUM(USUM_ACT) |
                             CRIT_SUM(USUM_OUTPUT) | CRIT_SUM(USUM_ON) | CRIT_SUM(USUM_SIGNS);
    unsigned all = 0;
    for (int s = 0; s < STAGES; s++) all |= needs[s][UNIT_HEADS] | needs[s][UNIT_NEURONS];
    return all & ~forward;
}

static unsigned run_flags(const probe_plan *plan, probe_needs needs) {
    const bool tangents = any(needs[STAGE_HESS]) || any(needs[STAGE_COMPAT]);
    return RUN_TAPS | (tangents ? RUN_TANGENT : 0) | (plan->recompute ? RUN_RECOMPUTE : 0);
}

// ---------------------------------------------------------------- life
probe *probe_new(const model *m, const probe_plan *plan, int max_tokens) {
    probe *p = xcalloc(1, sizeof *p);
    *p = (probe){.m = m, .plan = *plan, .max_tokens = max_tokens};
    tiles_needs(plan, p->needs);
    p->run = model_run_new(m, max_tokens, max_tokens, run_flags(plan, p->needs));
    p->seqs = xcalloc((size_t)max_tokens, sizeof *p->seqs);
    tiles_alloc(p);
    if (any(p->needs[STAGE_REMOVAL])) p->removal = removal_new(m, max_tokens);
    return p;
}

void probe_free(probe *p) {
    if (!p) return;
    removal_free(p->removal);
    tiles_free(p);
    model_run_free(p->run);
    p->m->o->fetch_free(p->rows);
    free(p->arrival);
    free(p->seqs);
    free(p);
}

size_t probe_bytes(const model *m, const probe_plan *plan, int max_tokens) {
    probe_needs needs;
    size_t part[OPS_PARTS];
    tiles_needs(plan, needs);
    size_t bytes =
        model_run_bytes(m, max_tokens, max_tokens, run_flags(plan, needs)) + tiles_bytes(m, needs, max_tokens, part);
    if (any(needs[STAGE_COMPAT])) bytes += sizeof(float) * (size_t)m->c.F * (size_t)m->c.E;
    if (any(needs[STAGE_REMOVAL])) bytes += removal_bytes(m, max_tokens);
    return bytes;
}

bool probe_fits(const model *m, const probe_plan *plan, int max_tokens, size_t *need, size_t *room) {
    probe_needs needs;
    size_t sums[OPS_PARTS], run[OPS_PARTS];
    tiles_needs(plan, needs);
    tiles_bytes(m, needs, max_tokens, sums);
    model_run_part_bytes(m, max_tokens, max_tokens, run_flags(plan, needs), run);
    for (int k = 0; !m->o->host && k < m->parts; k++) {
        m->o->use(k);
        *need = run[k] + sums[k];
        *room = m->o->room();
        if (*need > *room) return false;
    }
    return true;
}

double probe_macs(const model *m, const probe_plan *plan, int n, int context) {
    const model_config *c = &m->c;
    probe_needs needs;
    tiles_needs(plan, needs);
    unsigned heads = 0, neurons = 0;
    for (int s = 0; s < STAGES; s++) heads |= needs[s][UNIT_HEADS], neurons |= needs[s][UNIT_NEURONS];
    const unsigned all = heads | neurons;
    // of a token in all layers: linear maps, the neurons' incoming weights, numbers of head outputs
    double maps = 0, rows = 0, A = 0;
    for (int l = 0; l < c->L; l++) {
        maps += model_layer_macs(c, l);
        A += model_tap_width(c, l, UNIT_HEADS);
        const tensor_spec *s;
        for (int k = 0; (s = arch_neuron_rows(m->arch.family, k)); k++)
            rows += (double)arch_size(c, l, s->rows) * arch_size(c, l, s->cols);
    }
    const double T = n, out = n - context, head = out * (double)c->V * c->P;
    const double pass = T * (maps + T * A), attn = T * T * A;
    double macs = pass + head;                                    // forward
    if (needs_backward(needs)) macs += pass + 1.5 * attn + head;  // backward, with the probabilities again
    if (neurons & (CRIT_WGRAD | CRIT_WSUMS)) macs += T * rows;
    if (sums_correlate(neurons)) macs += c->L * T * T * c->E;
    if (all & (CRIT_HESS | CRIT_AFTER_HV)) macs += 2 * pass + 5 * attn + 3 * head;
    if (all & (CRIT_HESS_COMPAT | CRIT_AFTER_HU)) macs += 2 * pass + 5 * attn + 3 * head + 6 * T * rows;
    if (all & CRIT_REMOVAL) macs += A / c->D * 0.5 * pass;
    return macs;
}

void probe_times(const probe *p, double seconds[4]) {
    seconds[0] = p->gemm;
    seconds[1] = p->attention;
    seconds[2] = p->seconds_criteria;
    seconds[3] = p->seconds_total - p->gemm - p->attention - p->seconds_criteria;
}

// ---------------------------------------------------------------- a layer
// Numbers of device memory into the host's at `to`: now, or from another device at the end of the batch.
static void keep(probe *p, void *to, const float *from, size_t floats) {
    const ops *o = p->m->o;
    if (o->host) {
        o->get(to, from, floats * sizeof *from);
        return;
    }
    const probe_arrival a = {
        .to = to, .from = o->fetch(p->rows, from, floats * sizeof *from), .bytes = floats * sizeof *from};
    VEC_PUSH(p->arrival, p->n_arrival, p->cap_arrival, a);
}

// Which dz[t] x[t] of a row is no zero row; its x has come.
static void keep_active(const probe *p, const probe_row *r, int layer, const float *dz) {
    const size_t E = (size_t)p->m->c.E, F = (size_t)model_tap_width(&p->m->c, layer, UNIT_NEURONS);
    const float *x = r->x + (size_t)layer * E;
    uint8_t *active = r->active + (size_t)layer * (size_t)p->m->c.F;
    float most = 0;
    for (size_t e = 0; e < E; e++) most = fabsf(x[e]) > most ? fabsf(x[e]) : most;
    for (size_t j = 0; j < F; j++) active[j] = fabsf(dz[j]) * most > 1e-30f;
}

// da, x of the rows asked for; and of the neurons which are active, or where they are gated dz and du.
static void keep_rows(probe *p, int layer) {
    const model_config *c = &p->m->c;
    const ops *o = p->m->o;
    const size_t E = (size_t)c->E, A = (size_t)model_tap_width(c, layer, UNIT_HEADS), all_A = (size_t)(c->H * c->D),
                 F = (size_t)model_tap_width(c, layer, UNIT_NEURONS), at = (size_t)layer, at_F = at * (size_t)c->F;
    float *dz = p->n_rows && o->host ? xmalloc(F * sizeof *dz) : NULL;
    for (int k = 0; k < p->n_rows; k++) {
        probe_row *r = &p->rows_wanted[k];
        const size_t row = (size_t)(model_row(p->run, r->example) + r->position);
        keep(p, r->da + at * all_A, model_grad_tap(p->run, UNIT_HEADS, layer) + row * A, A);
        keep(p, r->x + at * E, model_tap_x(p->run, layer) + row * E, E);
        const float *grad = model_grad_z(p->run, layer) + row * F;
        if (p->m->arch.gated) {
            keep(p, r->dg + at_F, grad, F);
            keep(p, r->du + at_F, model_grad_u(p->run, layer) + row * F, F);
        } else if (o->host) {
            o->get(dz, grad, F * sizeof *dz);
            keep_active(p, r, layer, dz);
        } else {
            const probe_arrival a = {.from = o->fetch(p->rows, grad, F * sizeof *dz), .active = r, .layer = layer};
            VEC_PUSH(p->arrival, p->n_arrival, p->cap_arrival, a);
        }
    }
    free(dz);
}

static void keep_features(probe *p, int layer) {
    const size_t E = (size_t)p->m->c.E;
    const float *from[FEAT_KINDS] = {model_tap(p->run, UNIT_HEADS, layer), model_tap_res(p->run, layer),
                                     model_tap_mid(p->run, layer)};
    const size_t width[FEAT_KINDS] = {(size_t)model_tap_width(&p->m->c, layer, UNIT_HEADS), E, E},
                 whole[FEAT_KINDS] = {(size_t)(p->m->c.H * p->m->c.D), E, E};
    for (int i = 0; i < p->n; i++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++)
            for (int k = 0; k < FEAT_KINDS; k++) {
                const size_t row =
                    (size_t)(model_row(p->run, i) + (m == MODE_COMPAT ? p->ex[i].n : p->ex[i].context) - 1);
                if (p->out[i].features[m][k])
                    keep(p, p->out[i].features[m][k] + (size_t)layer * whole[k], from[k] + row * width[k], width[k]);
            }
}

// Room for all that the batch keeps.
static void expect_rows(probe *p) {
    const model_config *c = &p->m->c;
    const size_t E = fetch_room((size_t)c->E * sizeof(float)), A = fetch_room((size_t)(c->H * c->D) * sizeof(float)),
                 F = fetch_room((size_t)c->F * sizeof(float)), whole[FEAT_KINDS] = {A, E, E};
    size_t bytes = (size_t)p->n_rows * (A + E + (p->m->arch.gated ? 2 : 1) * F);
    for (int i = 0; i < p->n; i++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++)
            for (int k = 0; k < FEAT_KINDS; k++)
                if (p->out[i].features[m][k]) bytes += whole[k];
    bytes *= (size_t)c->L;
    p->n_arrival = 0;
    if (p->m->o->host || bytes <= p->rows_bytes) return;
    p->m->o->fetch_free(p->rows);
    p->rows = p->m->o->fetch_new(bytes);
    p->rows_bytes = bytes;
}

static void take_rows(probe *p) {
    if (p->n_arrival) p->m->o->fetch_wait(p->rows);
    for (int i = 0; i < p->n_arrival; i++) {
        const probe_arrival *a = &p->arrival[i];
        if (a->to)
            memcpy(a->to, a->from, a->bytes);
        else
            keep_active(p, a->active, a->layer, a->from);
    }
}

static void after_layer(void *ctx, model_run *r, int layer) {
    (void)r;
    probe *p = ctx;
    const double start = clock_s();
    keep_features(p, layer);
    keep_rows(p, layer);
    p->seconds_criteria += clock_s() - start;
    tiles_score(p, STAGE_GRAD, layer);
}
static void after_hessian(void *ctx, model_run *r, int layer) {
    (void)r;
    tiles_score(ctx, STAGE_HESS, layer);
}
static void after_compat(void *ctx, model_run *r, int layer) {
    (void)r;
    tiles_score(ctx, STAGE_COMPAT, layer);
}

// ---------------------------------------------------------------- a batch
// Scores of units that a compacted model has lost.
static void mark_absent(probe *p) {
    const model_config *c = &p->m->c;
    for (int i = 0; model_compacted(c) && i < p->n; i++)
        for (int k = 0; k < p->plan.n_crit; k++)
            for (mode_kind m = MODE_SOUND; m < MODES; m++)
                for (unit_kind kind = UNIT_HEADS; p->plan.mode[m] && kind < UNIT_KINDS; kind++) {
                    float *s = probe_scores(&p->out[i], kind, m)[k];
                    const int U = model_all_units(c, kind);
                    for (int l = 0; s && l < c->L; l++)
                        for (int u = model_units(c, l, kind); u < U; u++) s[(size_t)l * (size_t)U + (size_t)u] = NAN;
                }
}

static int check(const probe *p, int i) {
    const model_config *c = &p->m->c;
    const probe_result *r = &p->out[i];
    if (!isfinite(r->loss))
        return err_set(
            "example %d of the batch: the loss is %g; the checkpoint's numbers overflow in fp32 or are broken", i,
            r->loss);
    for (int k = 0; k < p->plan.n_crit; k++)
        for (mode_kind m = MODE_SOUND; m < MODES; m++)
            for (unit_kind kind = UNIT_HEADS; p->plan.mode[m] && kind < UNIT_KINDS; kind++) {
                const float *s = probe_scores(r, kind, m)[k];
                const int U = model_all_units(c, kind);
                if (!s || !crit_function(crit_mode_of(p->plan.crit[k], m), kind)) continue;
                for (int u = 0; u < c->L * U; u++)
                    if (!isfinite(s[u]) && u % U < model_units(c, u / U, kind))
                        return err_set("example %d of the batch: criterion %s%s of %s %d in layer %d is %g", i,
                                       p->plan.crit[k]->name, m == MODE_COMPAT ? " (compat)" : "",
                                       unit_names_of_one[kind], u % U, u / U, (double)s[u]);
            }
    return 0;
}

// Tokens of an example that are scored.
static int scored(const probe_example *ex) { return ex->n - ex->context + (ex->next != NULL); }

int probe_run(probe *p, const probe_example *ex, int n, probe_result *out, probe_row *rows, int n_rows) {
    const double start = clock_s(), gemm = ops_seconds_gemm, attention = ops_seconds_attention;
    const model_config *c = &p->m->c;
    p->ex = ex;
    p->n = n;
    p->out = out;
    p->rows_wanted = rows;
    p->n_rows = n_rows;
    int targets = 0;
    for (int i = 0; i < n; i++) {
        ASSERT(ex[i].context >= 1 && scored(&ex[i]) > 0 && ex[i].n <= c->positions);
        p->seqs[i] = (model_seq){.tokens = ex[i].tokens,
                                 .n = ex[i].n,
                                 .targets_from = ex[i].context - 1,
                                 .last_target = ex[i].next ? *ex[i].next : SEQ_NO_OUTPUT};
        targets += scored(&ex[i]);
    }
    double *lp = xmalloc(sizeof *lp * (size_t)targets);
    expect_rows(p);
    model_forward(p->run, p->seqs, n);
    tiles_begin(p);
    if (n_rows || needs_backward(p->needs)) {
        model_backward(p->run, NULL, lp, NULL, after_layer, p);
    } else {
        model_logprobs(p->run, lp, NULL, 0);
        model_each_layer(p->run, after_layer, p);
    }
    for (int i = 0, at = 0; i < n; at += scored(&ex[i]), i++) {
        double loss = 0;
        for (int t = 0; t < scored(&ex[i]); t++) loss -= lp[at + t];
        out[i].loss = loss / scored(&ex[i]);
    }
    free(lp);
    if (any(p->needs[STAGE_HESS])) model_hessian(p->run, NULL, NULL, NULL, NULL, after_hessian, p);
    if (any(p->needs[STAGE_COMPAT])) {
        float *factor = xcalloc(3 * (size_t)n, sizeof *factor), *on_z = factor + n, *on_w = factor + 2 * n;
        // E and F of the source where the model was compacted: in its means the gradients of lost units count as 0
        for (int i = 0; i < n; i++) {
            factor[i] = 1.0f / ((float)ex[i].n * (float)c->E);
            on_w[i] = 1.0f / ((float)c->F * (float)c->E);
        }
        model_hessian(p->run, NULL, factor, on_z, on_w, after_compat, p);
        free(factor);
    }
    tiles_finish(p);
    take_rows(p);
    if (any(p->needs[STAGE_REMOVAL])) probe_remove(p);
    mark_absent(p);
    p->gemm += ops_seconds_gemm - gemm;
    p->attention += ops_seconds_attention - attention;
    p->seconds_total += clock_s() - start;
    for (int i = 0; i < n; i++)
        if (check(p, i) != 0) return -1;
    return 0;
}
