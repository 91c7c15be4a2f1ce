// verify - checks of a model under a mask source. Contract in verify.h.
#include "verify.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "decode.h"
#include "mask_groups.h"
#include "ops.h"

enum { BY_ZERO, BY_LIVE, BY_REPAIR, BY_SKIP, WAYS };

// The passes over one input, and what they showed over all of them.
typedef struct {
    const verify_what *w;
    const model_config *c;
    // token by token: dropped units set to zero; live units only, by K/V policy; under the predictor's own masks
    decode *way[WAYS], *predicting;
    // several tokens at once: dropped units set to zero; live units only; dense with states
    model_run *zero, *live, *taps;
    const verify_input *in;
    int steps, at;              // steps from the last token of the context, `at`, on
    int first;                  // step that the masks act from
    mask *m, *part;             // [steps] masks at work; one kind of them only
    float *dense, *want, *got;  // [steps, V]
    double *logprob;
    // over all inputs
    FILE *out;
    int failed;
    double largest[UNIT_KINDS], mean[UNIT_KINDS], divergence[UNIT_KINDS], sparse[3], repair, skip, skip_divergence;
    long rows[UNIT_KINDS], silent[UNIT_KINDS], acting[UNIT_KINDS], broken[UNIT_KINDS], moved, inputs;
    double *off[UNIT_KINDS];  // [L] pruned units, summed over inputs and steps
    long masks, miscounted;
} verify;

double verify_error(const float *got, const float *want, int rows, int V) {
    double worst = 0;
    for (int r = 0; r < rows; r++, got += V, want += V) {
        double square = 0;
        for (int i = 0; i < V; i++) square += (double)want[i] * (double)want[i];
        const double rms = sqrt(square / V);
        for (int i = 0; i < V; i++) {
            const double e = fabs((double)got[i] - (double)want[i]) / fmax(fabs((double)want[i]), rms);
            const bool same = !isfinite(e) && got[i] == want[i];  // zeros, infinities
            if (!(e <= worst) && !same) worst = isfinite(e) ? e : INFINITY;
        }
    }
    return worst;
}

double verify_divergence(const float *p, const float *q, int V) {
    double top_p = p[0], top_q = q[0], sum_p = 0, sum_q = 0, kl = 0;
    for (int i = 0; i < V; i++) {
        top_p = p[i] > top_p ? p[i] : top_p;
        top_q = q[i] > top_q ? q[i] : top_q;
    }
    for (int i = 0; i < V; i++) {
        sum_p += exp(p[i] - top_p);
        sum_q += exp(q[i] - top_q);
    }
    for (int i = 0; i < V; i++)
        kl += exp(p[i] - top_p) / sum_p * ((p[i] - top_p - log(sum_p)) - (q[i] - top_q - log(sum_q)));
    return kl;
}

// ---------------------------------------------------------------- passes
// Step by step after the dense context under the masks m (NULL: dense).
static void step_by_step(const verify *v, decode *d, const mask *m, float *logits) {
    const size_t V = (size_t)v->c->V;
    const decode_seq s = {v->in->tokens, v->in->context, m, v->at};
    decode_prompt(d, &s, 1);
    for (int t = 0;; t++) {
        memcpy(logits + (size_t)t * V, decode_logits(d, 0), V * sizeof *logits);
        if (t + 1 == v->steps) break;
        decode_set_mask(d, 0, m ? &m[t + 1] : NULL);
        decode_step(d, v->in->tokens + v->at + t + 1);
    }
}

// All rows at once under one mask, after the dense context or from the first token on: the last row's logits, and
// log-probabilities.
static void at_once(const verify *v, model_run *run, bool whole, float *logits, double *logprob) {
    const int from = whole ? 0 : v->at;
    kv_cache *cache = from ? kv_cache_new(v->w->m, v->in->n) : NULL;
    if (cache)
        model_forward(run,
                      &(model_seq){.tokens = v->in->tokens,
                                   .n = from,
                                   .append = cache,
                                   .targets_from = from,
                                   .last_target = SEQ_NO_OUTPUT},
                      1);
    const model_seq s = {.tokens = v->in->tokens + from,
                         .n = v->in->n - from,
                         .prefix = cache,
                         .mask = &v->m[v->first],
                         .means = v->w->means,
                         .last_target = SEQ_NO_TARGET};
    model_forward(run, &s, 1);
    if (s.n > 1) model_logprobs(run, logprob, NULL, 0);
    model_logits(run, 0, logits);
    kv_cache_free(cache);
}

// ---------------------------------------------------------------- masks
// Every step's mask of a predictor, as decoding makes them.
static int predict(verify *v) {
    const decode_seq s = {.prompt = v->in->tokens, .n = v->in->context};
    const size_t units = (size_t)v->c->L * (size_t)(v->c->H + v->c->F);
    if (decode_prompt(v->predicting, &s, 1)) return -1;
    v->first = decode_acts_behind(v->predicting);
    for (int t = 0;; t++) {
        if (t < v->first)
            mask_fill(&v->m[t], v->c);
        else
            memcpy(v->m[t].heads, decode_mask(v->predicting, 0)->heads, units);
        if (t + 1 == v->steps) return 0;
        if (decode_step(v->predicting, v->in->tokens + v->at + t + 1)) return -1;
    }
}

// Does a mask of a pass over context and all that follows move when what follows changes? (Its states are those of rows
// before.)
static int causal(verify *v) {
    const contextual_source *source = v->w->source->context;
    const model_config *c = v->c;
    contextual watch;
    mask m[2] = {{0}};
    int32_t *other = xmalloc((size_t)v->in->n * sizeof *other);
    int bad = 0;
    contextual_open(&watch, source->p, v->w->m, v->w->rule->units,
                    contextual_raw(predictor_about(source->p), v->w->rule));
    const bool during = contextual_kind(predictor_about(source->p), v->w->rule) != FEATURES_DENSE;
    memcpy(other, v->in->tokens, (size_t)v->in->n * sizeof *other);
    for (int i = v->at + 1; i < v->in->n; i++) other[i] = (other[i] + 1) % c->V;
    for (int k = 0; k < 2 && !bad; k++) {
        mask_alloc(&m[k], c);
        contextual_begin(&watch, v->in->tokens, v->at + 1, v->at, during ? &m[k] : NULL, v->w->rule);
        const model_seq s = {.tokens = k ? other : v->in->tokens,
                             .n = v->in->n,
                             .mask = during ? &m[k] : NULL,
                             .mask_from = v->at,
                             .means = v->w->means,
                             .watch = &watch.watch,
                             .targets_from = v->at,
                             .last_target = SEQ_NO_TARGET};
        model_forward(v->zero, &s, 1);
        bad = contextual_end(&watch) || (!during && contextual_mask(&watch, &m[k], v->w->rule)) ? -1 : 0;
    }
    if (!bad) v->moved += memcmp(m[0].heads, m[1].heads, (size_t)c->L * (size_t)(c->H + c->F)) != 0;
    contextual_close(&watch);
    mask_free(&m[0]);
    mask_free(&m[1]);
    free(other);
    return bad;
}

static int make_masks(verify *v) {
    const mask_source *s = v->w->source;
    const model_config *c = v->c;
    const size_t heads = (size_t)c->L * (size_t)c->H, units = heads + (size_t)c->L * (size_t)c->F;
    int bad = 0;
    if (s->context) return predict(v);
    if (s->scores) {
        double *score = xcalloc(units, sizeof *score);
        const model_seq input = {.tokens = v->in->tokens,
                                 .n = v->in->n - 1,
                                 .targets_from = v->at,
                                 .last_target = v->in->tokens[v->in->n - 1]};
        bad = s->scores(s->self, &input, v->w->rule->units, score, score + heads) ||
                      mask_make(&v->m[0], c, score, score + heads, v->w->rule)
                  ? -1
                  : 0;
        free(score);
    } else if (s->fixed)
        memcpy(v->m[0].heads, s->fixed->heads, units);
    else
        mask_fill(&v->m[0], c);
    for (int t = 1; t < v->steps; t++) memcpy(v->m[t].heads, v->m[0].heads, units);
    return bad;
}

// ---------------------------------------------------------------- checks of one input
// What a rule counts of a kind: units, or groups of heads. U: those of a layer that lost none; units [L]: of every
// layer.
typedef struct {
    int U, *units;
    bool groups;
} counted_units;

static counted_units what_counts(const model_config *c, unit_kind kind, const mask_rule *r) {
    counted_units k = {.groups = kind == UNIT_HEADS && mask_rule_groups(r)};
    k.U = k.groups ? mask_groups(c) : model_all_units(c, kind);
    k.units = k.groups ? mask_groups_left(c) : xcalloc((size_t)c->L, sizeof *k.units);
    for (int l = 0; l < c->L && !k.groups; l++) k.units[l] = model_units(c, l, kind);
    return k;
}

// Units (groups) of a layer that do not run; -1: a group of which some heads run and others do not.
static long pruned_in(const model_config *c, unit_kind kind, const mask *m, int l, bool groups) {
    const uint8_t *keep = mask_keep(m, kind) + (size_t)l * (size_t)model_all_units(c, kind);
    const int n = model_units(c, l, kind);
    long off = 0;
    for (int u = 0, end; u < n; u = end) {
        for (end = u + 1; groups && end < n && model_kv_head(c, l, end) == model_kv_head(c, l, u); end++)
            if (keep[end] != keep[u]) return -1;
        off += !keep[u];
    }
    return off;
}

// Is the count of pruned units of every layer what the rule says?
static bool counted(const verify *v, const mask *m, unit_kind kind) {
    const mask_rule *r = v->w->rule;
    const model_config *c = v->c;
    const int dense = r->dense_layers < c->L ? r->dense_layers : c->L;
    const bool pruned = mask_rule_prunes(r, kind);
    const counted_units k = what_counts(c, kind, r);
    long all = 0, prunable = 0;
    bool holds = true;
    for (int l = 0; l < c->L; l++) {
        const long off = pruned_in(c, kind, m, l, k.groups);
        holds &= off >= 0;
        if (l < dense)
            holds &= off == 0;
        else if (r->scope == SCOPE_LOCAL)
            holds &= off == (pruned ? mask_local_count(k.units, c->L, k.U, r, l) : 0);
        all += off;
        prunable += l < dense ? 0 : k.units[l];
    }
    free(k.units);
    // compat counts over all layers before the dense ones run again, and its hybrid does not keep the count
    const bool total_known = r->mode == MODE_SOUND && !(r->scope == SCOPE_LOCAL && r->counts == COUNTS_FLOOR);
    return holds && (!total_known || all == (pruned ? mask_count(r->sparsity, prunable) : 0));
}

static void count_units(verify *v) {
    const model_config *c = v->c;
    for (int t = v->first; t < v->steps; t++, v->masks++)
        for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
            const size_t U = (size_t)model_all_units(c, kind);
            for (int l = 0; l < c->L; l++)
                for (int u = 0; u < model_units(c, l, kind); u++)
                    v->off[kind][l] += !mask_keep(&v->m[t], kind)[(size_t)l * U + (size_t)u];
            if (v->w->rule) v->miscounted += !counted(v, &v->m[t], kind);
        }
}

// Does a pruned unit put anything out at a step where it is dropped, as the dense model computes it? Up to the first
// layer with such a unit the masked states are the dense ones, so that the outputs must then differ.
static bool has_voice(verify *v, unit_kind kind) {
    const model_config *c = v->c;
    const size_t U = (size_t)model_all_units(c, kind);
    const int D = kind == UNIT_HEADS ? c->D : 1;
    float *row = xmalloc(U * (size_t)D * sizeof *row);
    bool voice = false;
    for (int l = 0; l < c->L && !voice; l++)
        for (int t = v->first; t < v->steps && !voice; t++) {
            const int n = model_units(c, l, kind) * D;
            const float *x = model_tap(v->taps, kind, l) + (size_t)(v->at + t) * (size_t)n;
            const uint8_t *keep = mask_keep(&v->m[t], kind) + (size_t)l * U;
            if (n) v->w->m->o->get(row, x, (size_t)n * sizeof *row);
            // a mean is no value that a unit has
            for (int i = 0; i < n && !voice; i++)
                voice = !keep[i / D] && (v->w->means || (kind == UNIT_HEADS ? row[i] != 0 : row[i] > 0));
        }
    free(row);
    return voice;
}

static void check_acts(verify *v) {
    const model_config *c = v->c;
    const size_t V = (size_t)c->V, units[UNIT_KINDS] = {(size_t)c->L * (size_t)c->H, (size_t)c->L * (size_t)c->F};
    const model_seq all = {.tokens = v->in->tokens, .n = v->in->n, .last_target = SEQ_NO_TARGET};
    model_forward(v->taps, &all, 1);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
        bool differs = false;
        for (int t = 0; t < v->steps; t++) {
            mask_fill(&v->part[t], c);
            memcpy(mask_keep(&v->part[t], kind), mask_keep(&v->m[t], kind), units[kind]);
        }
        step_by_step(v, v->way[BY_ZERO], v->part, v->got);
        for (size_t i = 0; i < (size_t)v->steps * V; i++) {
            const double d = fabs((double)v->got[i] - (double)v->dense[i]);
            if (!(d <= v->largest[kind])) v->largest[kind] = isfinite(d) ? d : INFINITY;
            v->mean[kind] += d / (double)V;
            differs |= d != 0;
        }
        for (int t = 0; t < v->steps; t++, v->rows[kind]++)
            v->divergence[kind] += verify_divergence(v->dense + (size_t)t * V, v->got + (size_t)t * V, c->V);
        const bool voice = has_voice(v, kind);
        v->silent[kind] += !voice;
        v->acting[kind] += differs;
        v->broken[kind] += differs != voice;
    }
}

static void worse(double *worst, double e) {
    if (!(e <= *worst)) *worst = e;
}

static double logprob_error(const double *got, const double *want, int n) {
    double worst = 0;
    for (int i = 0; i < n; i++) worse(&worst, fabs(got[i] - want[i]) / fmax(fabs(want[i]), 1));
    return worst;
}

static void check_sparse(verify *v) {
    const size_t V = (size_t)v->c->V;
    step_by_step(v, v->way[BY_LIVE], v->m, v->got);
    worse(&v->sparse[0], verify_error(v->got, v->want, v->steps, v->c->V));
    step_by_step(v, v->way[BY_REPAIR], v->m, v->got);
    worse(&v->repair, verify_error(v->got, v->want, v->steps, v->c->V));
    step_by_step(v, v->way[BY_SKIP], v->m, v->got);
    worse(&v->skip, verify_error(v->got, v->want, v->steps, v->c->V));
    for (int t = 0; t < v->steps; t++)
        v->skip_divergence += verify_divergence(v->want + (size_t)t * V, v->got + (size_t)t * V, v->c->V);
    for (int whole = 0; whole < 2; whole++) {
        double *want = v->logprob, *got = v->logprob + v->in->n;
        const int n = whole ? v->in->n - 1 : v->steps - 1;
        at_once(v, v->zero, whole, v->dense, want);
        at_once(v, v->live, whole, v->got, got);
        worse(&v->sparse[1 + whole], verify_error(v->got, v->dense, 1, v->c->V));
        worse(&v->sparse[1 + whole], logprob_error(got, want, n));
    }
}

static int check_input(verify *v) {
    if (make_masks(v)) return -1;
    count_units(v);
    step_by_step(v, v->way[BY_ZERO], NULL, v->dense);
    check_acts(v);
    step_by_step(v, v->way[BY_ZERO], v->m, v->want);
    check_sparse(v);  // uses v->dense as room
    v->inputs++;
    return v->w->source->context ? causal(v) : 0;
}

// ---------------------------------------------------------------- report
static void say(verify *v, bool holds, const char *name, const char *text) {
    fprintf(v->out, "%-7s %-4s %s\n", name, holds ? "ok" : "FAIL", text);
    v->failed += !holds;
}

static void report_counts(verify *v) {
    const model_config *c = v->c;
    const mask_rule *r = v->w->rule;
    double all[UNIT_KINDS] = {0, 0}, units[UNIT_KINDS] = {0, 0};
    fprintf(v->out,
            "\nlayer     heads pruned        neurons pruned   (mean over inputs and steps; nominal in brackets)\n");
    for (int l = 0; l < c->L; l++) {
        fprintf(v->out, "%5d", l);
        for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS; kind++) {
            const int U = model_units(c, l, kind);
            const double off = v->off[kind][l] / (double)v->masks;
            const bool pruned = r && mask_rule_prunes(r, kind) && l >= r->dense_layers;
            all[kind] += off;
            units[kind] += U;
            fprintf(v->out, "  %8.2f of %-6d", off, U);
            if (r) fprintf(v->out, "[%g %%]", pruned ? (double)r->sparsity / 1000 : 0);
        }
        fprintf(v->out, "\n");
    }
    fprintf(v->out, "  all  %.2f %% of heads, %.2f %% of neurons are pruned, dense layers included\n\n",
            units[UNIT_HEADS] > 0 ? 100 * all[UNIT_HEADS] / units[UNIT_HEADS] : 0,
            units[UNIT_NEURONS] > 0 ? 100 * all[UNIT_NEURONS] / units[UNIT_NEURONS] : 0);
}

static void report_acts(verify *v) {
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        char text[300];
        snprintf(text, sizeof text,
                 "%s alone: of %ld inputs %ld change the output, on %ld no pruned unit puts anything out%s; |logit| "
                 "differs by %.4g at most, %.4g on average; divergence %.4g nats",
                 unit_names[k], v->inputs, v->acting[k], v->silent[k],
                 v->broken[k] ? " (these do not add up: the mask acts where it should not, or not where it should)"
                              : "",
                 v->largest[k], v->mean[k] / (double)v->rows[k], v->divergence[k] / (double)v->rows[k]);
        say(v, v->broken[k] == 0 && isfinite(v->largest[k]), "acts", text);
    }
}

static void report(verify *v) {
    static const char *const way[3] = {"token by token", "several tokens at once", "mask at every position"};
    char text[300];
    report_counts(v);
    report_acts(v);
    for (int k = 0; k < 3; k++) {
        snprintf(text, sizeof text, "live units only = dropped units set to zero, %s: error %.3g (tolerance %g)",
                 way[k], v->sparse[k], v->w->tolerance);
        say(v, v->sparse[k] <= v->w->tolerance, "sparse", text);
    }
    if (v->w->rule) {
        snprintf(text, sizeof text, "%ld masks have the counts of the rule, %ld have not", 2 * v->masks - v->miscounted,
                 v->miscounted);
        say(v, v->miscounted == 0, "counts", text);
    }
    snprintf(text, sizeof text, "repair = compute: error %.3g; skip: error %.3g, divergence %.4g nats", v->repair,
             v->skip, v->skip_divergence / (double)v->rows[0]);
    say(v, v->repair <= v->w->tolerance && isfinite(v->skip), "kv", text);
    if (!v->w->source->context) return;
    const predictor_info *a = predictor_about(v->w->source->context->p);
    static const char *const states[] = {"head outputs", "the residual", "the residual after attention"};
    snprintf(text, sizeof text, "masks do not move when what follows the context changes: %ld of %ld do", v->moved,
             v->inputs);
    say(v, v->moved == 0, "causal", text);
    fprintf(v->out, "\npredictor of %s: %s, target %s; ", a->criterion, predictor_design_names[a->design],
            a->target_layer ? "layer" : "global");
    if (a->design == PREDICTOR_SEQUENCE)
        fprintf(v->out, "reads the token embeddings of the context");
    else {
        const int k = predictor_first_kind(a);
        fprintf(v->out, "reads %s%s%s", states[a->state[k]],
                a->has[UNIT_HEADS] && a->has[UNIT_NEURONS] && a->state[UNIT_HEADS] != a->state[UNIT_NEURONS]
                    ? " for heads, for neurons "
                    : "",
                a->has[UNIT_HEADS] && a->has[UNIT_NEURONS] && a->state[UNIT_HEADS] != a->state[UNIT_NEURONS]
                    ? states[a->state[UNIT_NEURONS]]
                    : "");
        if (a->per_layer)
            fprintf(v->out, " of %s", a->lag ? "an earlier layer" : "the same layer");
        else
            fprintf(v->out, " of layer %d", a->from);
    }
    fprintf(v->out, "; features: %s; ", contextual_feature_names[contextual_kind(a, v->w->rule)]);
    if (v->w->refresh)
        fprintf(v->out, "a new mask every %d tokens\n", v->w->refresh);
    else
        fprintf(v->out, "one mask, made at the end of the context, %s\n",
                v->first ? "acts on the tokens after it" : "acts from that token on");
}

int verify_run(const verify_what *w, const verify_input *in, int n, FILE *out) {
    verify v = {.w = w, .c = &w->m->c, .out = out};
    int longest = 0, context = 0, steps = 0, bad = 0;
    for (int i = 0; i < n; i++) {
        ASSERT(in[i].context > 0 && in[i].n > in[i].context);
        longest = in[i].n > longest ? in[i].n : longest;
        context = in[i].context > context ? in[i].context : context;
        steps = in[i].n - in[i].context + 1 > steps ? in[i].n - in[i].context + 1 : steps;
    }
    const size_t V = (size_t)v.c->V, logits = (size_t)steps * V * sizeof(float);
    static const kv_policy kv_of[WAYS] = {KV_COMPUTE, KV_COMPUTE, [BY_REPAIR] = KV_REPAIR, [BY_SKIP] = KV_SKIP};
    for (int k = 0; k < WAYS; k++) {
        const decode_options o = {.kv = kv_of[k], .means = w->means, .flags = k == BY_ZERO ? RUN_MASK_BY_ZERO : 0};
        if (!(v.way[k] = decode_new(w->m, &o, 1, context, longest))) bad = -1;
    }
    if (w->source->context && !bad) {
        const decode_options o = {.predictor = w->source->context->p,
                                  .rule = *w->rule,
                                  .refresh = w->refresh,
                                  .means = w->means,
                                  .flags = RUN_MASK_BY_ZERO};
        if (!(v.predicting = decode_new(w->m, &o, 1, context, longest))) bad = -1;
    }
    v.zero = model_run_new(w->m, longest, 1, RUN_FORWARD | RUN_MASK_BY_ZERO);
    v.live = model_run_new(w->m, longest, 1, RUN_FORWARD);
    v.taps = model_run_new(w->m, longest, 1, RUN_TAPS);
    v.m = xcalloc((size_t)steps, sizeof *v.m);
    v.part = xcalloc((size_t)steps, sizeof *v.part);
    for (int t = 0; t < steps; t++) {
        mask_alloc(&v.m[t], v.c);
        mask_alloc(&v.part[t], v.c);
    }
    v.dense = xmalloc(logits);
    v.want = xmalloc(logits);
    v.got = xmalloc(logits);
    v.logprob = xmalloc(2 * (size_t)longest * sizeof *v.logprob);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) v.off[k] = xcalloc((size_t)v.c->L, sizeof *v.off[k]);
    for (int i = 0; i < n && !bad; i++) {
        v.in = &in[i];
        v.at = in[i].context - 1;
        v.steps = in[i].n - v.at;
        bad = check_input(&v);
    }
    if (!bad) report(&v);
    for (int t = 0; t < steps; t++) {
        mask_free(&v.m[t]);
        mask_free(&v.part[t]);
    }
    for (int k = 0; k < WAYS; k++) decode_free(v.way[k]);
    decode_free(v.predicting);
    model_run_free(v.zero);
    model_run_free(v.live);
    model_run_free(v.taps);
    void *blocks[] = {v.m, v.part, v.dense, v.want, v.got, v.logprob, v.off[UNIT_HEADS], v.off[UNIT_NEURONS]};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    return bad ? -1 : v.failed;
}
