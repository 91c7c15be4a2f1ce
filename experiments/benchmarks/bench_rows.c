// bench_rows - the rows and the table of bin/bench. Contract in bench.h.
#include "bench.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define X(name, key) {#name, key},
const results_column bench_columns[BENCH_N_COLUMNS] = {BENCH_COLUMNS(X)};
#undef X

typedef struct {
    char text[BENCH_N_COLUMNS][BENCH_FIELD];
    const char *field[BENCH_N_COLUMNS];
} row;
#define SET(r, column, ...) snprintf((r)->text[BENCH_##column], BENCH_FIELD, __VA_ARGS__)

// but for padding
static double parameters(const model_config *c) { return (double)model_random_bytes(c, DT_F32) / 4; }

// "cpu", "cuda:0,1 NVIDIA H100", "cuda:0 NVIDIA H100, graphs": times on another GPU are other rows, and so are those of
// steps that can be replayed.
static void device_name(char out[BENCH_FIELD], const ops *o) {
    if (o->host)
        snprintf(out, BENCH_FIELD, "%s", o->device);
    else
        snprintf(out, BENCH_FIELD, "%s %s%s", o->device, o->about, o->record ? ", graphs" : "");
}

// What says what a row is about.
static void set_key(row *r, const bench_group *g, const char *engine, const char *weights, const char *metric) {
    const bench_options *o = g->o;
    for (int i = 0; i < BENCH_N_COLUMNS; i++) {
        r->text[i][0] = 0;
        r->field[i] = r->text[i];
    }
    SET(r, mode, "%s", mode_names[o->masks.mode]);
    SET(r, model, "%s%s", g->model->name, device_rounding(&g->o->device));
    SET(r, metric, "%s", metric);
    SET(r, mask, "none");
    SET(r, sparsity, "0");
    SET(r, seed, "%ld", o->masks.seed);
    SET(r, engine, "%s", engine);
    SET(r, weights, "%s", weights);
    SET(r, prompt, "%d", g->prompt);
    SET(r, tokens, "%d", g->tokens);
    SET(r, batch, "%d", g->batch);
    SET(r, rounds, "%ld", o->rounds);
    device_name(r->text[BENCH_device], g->device);
    SET(r, threads, "%d", omp_get_max_threads());
    SET(r, parameters, "%.0f", parameters(&g->model->m.c));
    SET(r, model_hash, "%.*s", BENCH_HASH_DIGITS, g->model->m.file.hash);
    SET(r, code, "%s", code_version());
    if (g->text) SET(r, text, "%.*s", BENCH_HASH_DIGITS, g->text->hash);
    if (g->o->sequences) SET(r, sequences, "%d", g->sequences);
}

static void set_config(row *r, const bench_group *g, const bench_config *c) {
    const bool by_value = c->kind == MASK_THRESHOLD;
    SET(r, mask, "%s%s%s", mask_kind_names[c->kind], by_value ? ":" : "", by_value ? c->path : "");
    if (by_value) SET(r, calibration_tokens, "%ld", g->calibrated[threshold_named(c->path)].tokens);
    if (c->kind == MASK_NONE) return;
    SET(r, criterion, "%s", c->criterion ? c->criterion : "");
    if (g->means) SET(r, ablate, "mean");
    SET(r, mask_span, "%s", c->p ? "decode" : "all");
    SET(r, kv, "%s", kv_policy_names[c->kv]);
    if (g->batch < 2)
        SET(r, lists, "%s", "");
    else
        SET(r, lists, "%s", g->o->own_lists ? "own" : "one");
    if (g->batch > 1 && (c->p || c->kind == MASK_ORACLE)) SET(r, batch_masks, "%s", batch_masks_names[c->batch]);
    SET(r, scores_hash, "%.*s", BENCH_HASH_DIGITS, c->scores_hash);
    r->text[BENCH_sparsity][0] = 0;
    if (c->criterion && c->kind == MASK_STATIC) SET(r, aggregate, "all");
    if (!mask_has_rule(c->kind)) return;
    SET(r, scope, "%s", mask_scope_names[c->rule.scope]);
    if (!by_value) SET(r, local_counts, "%s", mask_counts_name(&c->rule));
    if (!by_value && mask_rule_groups(&c->rule)) SET(r, group_heads, "1");
    SET(r, units, "%s", mask_units_name(c->rule.units));
    SET(r, sparsity, "%.10g", (double)c->rule.sparsity / 1000);
    SET(r, dense_layers, "%d", c->rule.dense_layers);
    if (!c->p) return;
    const predictor_info *a = predictor_about(c->p);
    SET(r, refresh, "%d", c->refresh);
    SET(r, design, "%s", predictor_design_names[a->design]);
    if (c->untrained)
        SET(r, target, "%s", "");
    else
        SET(r, target, "%s", a->target_layer ? "layer" : "global");
    if (a->per_layer) SET(r, lag, "%d", a->lag);
    if (a->has[UNIT_HEADS] && a->has[UNIT_NEURONS] && a->hidden[UNIT_HEADS] != a->hidden[UNIT_NEURONS])
        SET(r, hidden, "%d+%d", a->hidden[UNIT_HEADS], a->hidden[UNIT_NEURONS]);
    else
        SET(r, hidden, "%d", a->hidden[predictor_first_kind(a)]);
    SET(r, predictor_weights, "%s", activation_options[a->weights]);
    SET(r, features, "%s", contextual_feature_names[contextual_kind(a, &c->rule)]);
}

enum { PREFILL, TOKEN, PERPLEXITY };
static const char *const metrics[] = {"prefill_ms", "token_ms", "decode_perplexity"};
static int metrics_of(const bench_group *g) { return g->text ? 3 : 2; }

bool bench_rows_present(const bench_group *g, const bench_config *c) {
    row *r = xmalloc(sizeof *r);
    bool all = true;
    for (int k = 0; k < metrics_of(g); k++) {
        set_key(r, g, "own", g->model->weights, metrics[k]);
        set_config(r, g, c);
        all &= results_find(g->out, r->field) != NULL;
    }
    free(r);
    return all;
}

// The fraction of a kind's units that did not run, averaged over the sequences.
static double effective(const bench_group *g, const bench_config *c, unit_kind kind) {
    long units[UNIT_KINDS];
    mask_units(&g->model->m.c, units);
    return units[kind] ? (double)c->pruned[kind] / ((double)units[kind] * g->sequences) : 0;
}

static void set_perplexity(row *r, const bench_group *g, const bench_config *c) {
    double value, error;
    bench_perplexity(g, c, &value, &error);
    SET(r, value, "%.10g", value);
    if (!isnan(error)) SET(r, stderr, "%.3g", error);
    SET(r, n, "%d", g->sequences * g->tokens);
}

int bench_rows_write(const bench_group *g, const bench_config *c) {
    const bench_times t = bench_summary(g, c);
    row *r = xmalloc(sizeof *r);
    int bad = 0;
    for (int k = 0; k < metrics_of(g) && !bad; k++) {
        set_key(r, g, "own", g->model->weights, metrics[k]);
        set_config(r, g, c);
        SET(r, effective_heads, "%.17g", effective(g, c, UNIT_HEADS));
        SET(r, effective_neurons, "%.17g", effective(g, c, UNIT_NEURONS));
        SET(r, pruned_heads, "%ld", c->pruned[UNIT_HEADS]);
        SET(r, pruned_neurons, "%ld", c->pruned[UNIT_NEURONS]);
        if (k == PERPLEXITY) {
            set_perplexity(r, g, c);
            bad = results_append(g->out, r->field);
            continue;
        }
        SET(r, value, "%.6g", k ? t.token_ms : t.prefill_ms);
        SET(r, n, "%d", k ? c->done * g->steps : c->done);
        SET(r, p10, "%.6g", k ? t.p10 : t.prefill_p10);
        SET(r, p90, "%.6g", k ? t.p90 : t.prefill_p90);
        SET(r, weight_bytes, "%.0f", k ? c->weight_bytes : bench_prompt_bytes(g, c));
        SET(r, bandwidth, "%.6g", t.bandwidth);
        SET(r, roofline, "%.4f", k ? t.roofline : t.prefill_roofline);
        if (k) {
            SET(r, mean, "%.6g", t.mean);
            SET(r, amortised, "%.6g", t.amortised);
            SET(r, predict_ms, "%.6g", t.predict_ms);
            SET(r, select_ms, "%.6g", t.select_ms);
            SET(r, kv_bytes, "%.0f", c->kv_bytes);
            SET(r, predictor_bytes, "%.0f", c->predictor_bytes);
        }
        bad = results_append(g->out, r->field);
    }
    free(r);
    return bad;
}

int bench_peer_rows(const bench_group *g) {
    row *r = xmalloc(sizeof *r);
    const int rounds = (int)g->o->rounds;
    int bad = 0;
    for (int i = 0; i < g->n_peers && !bad; i++)
        for (int k = 0; k < 2 && !bad; k++) {
            const bench_peer *p = &g->peer[i];
            const double *x = k ? p->token : p->prefill;
            set_key(r, g, p->engine, p->weights, metrics[k]);
            SET(r, value, "%.6g", 1e3 * bench_median(x, rounds));
            SET(r, n, "%d", rounds);
            SET(r, p10, "%.6g", 1e3 * bench_quantile(x, rounds, 0.1));
            SET(r, p90, "%.6g", 1e3 * bench_quantile(x, rounds, 0.9));
            if (!results_find(g->out, r->field)) bad = results_append(g->out, r->field);
        }
    free(r);
    return bad;
}

// ---------------------------------------------------------------- table
static char *name_of(const bench_config *c) {
    if (c->kind == MASK_THRESHOLD) return xasprintf("%s:%s", mask_kind_names[c->kind], c->path);
    if (!c->p) return xstrdup(mask_kind_names[c->kind]);
    const predictor_info *a = predictor_about(c->p);
    char *net = xasprintf("%s %d %s", predictor_design_names[a->design], a->hidden[predictor_first_kind(a)],
                          activation_options[a->weights]),
         *name;
    name = c->refresh ? xasprintf("%s every %d", net, c->refresh) : xasprintf("%s once", net);
    free(net);
    return name;
}

static void rule_text(char *out, size_t n, const bench_config *c) {
    if (!mask_has_rule(c->kind))
        snprintf(out, n, "-");
    else
        snprintf(out, n, "%.5g%% %s %s", (double)c->rule.sparsity / 1000, mask_scope_names[c->rule.scope],
                 kv_policy_names[c->kv]);
}

void bench_table(FILE *f, const bench_group *g) {
    const int rounds = (int)g->o->rounds;
    const bench_config *dense = NULL;
    bench_times base = {0};
    for (int i = 0; i < g->n && !dense; i++)
        if (g->config[i].done && g->config[i].kind == MASK_NONE) base = bench_summary(g, dense = &g->config[i]);
    char device[BENCH_FIELD];
    device_name(device, g->device);
    fprintf(f,
            "\n%s%s, %s weights, prompt %d, %d tokens, batch %d; %s, %d threads; median of %d rounds; GB/s: reading of "
            "memory between the tokens, roof: what it would take / median\n",
            g->model->name, device_rounding(&g->o->device), g->model->weights, g->prompt, g->tokens, g->batch, device,
            omp_get_max_threads(), rounds);
    fprintf(f, "%-28s %-22s %6s %6s %9s | %8s %8s %8s %8s | %7s %7s | %8s %5s %5s | %s\n", "mask", "rule", "heads",
            "neur.", "prompt ms", "token ms", "p10", "p90", "mean", "predict", "choose", "MB/token", "GB/s", "roof",
            dense ? "of dense: time, bytes" : "");
    for (int i = 0; i < g->n; i++) {
        const bench_config *c = &g->config[i];
        if (!c->done) continue;
        const bench_times t = bench_summary(g, c);
        char *name = name_of(c), rule[64];
        rule_text(rule, sizeof rule, c);
        const double bytes = c->weight_bytes + c->kv_bytes + c->predictor_bytes;
        fprintf(f, "%-28s %-22s %5.1f%% %5.1f%% %9.2f | %8.3f %8.3f %8.3f %8.3f | %7.3f %7.3f | %8.1f %5.1f %4.0f%%",
                name, rule, 100 * effective(g, c, UNIT_HEADS), 100 * effective(g, c, UNIT_NEURONS), t.prefill_ms,
                t.token_ms, t.p10, t.p90, t.amortised, t.predict_ms, t.select_ms, bytes / 1e6, t.bandwidth / 1e9,
                100 * t.roofline);
        if (dense)
            fprintf(f, " | %.3f %.3f", t.amortised / base.amortised, bytes / (dense->weight_bytes + dense->kv_bytes));
        if (c->batch != BATCH_OWN) fprintf(f, " | %s of the masks", batch_masks_names[c->batch]);
        double perplexity, error;
        if (g->text) bench_perplexity(g, c, &perplexity, &error);
        if (g->text) fprintf(f, " | perplexity %.4g +- %.2g", perplexity, error);
        if (g->device->record) fprintf(f, " | %.0f%% of the steps are replayed graphs", 100 * c->replayed);
        fputc('\n', f);
        free(name);
    }
    const bool calibrated = g->calibrated[THRESHOLD_GATE].tokens || g->calibrated[THRESHOLD_PRODUCT].tokens;
    if (calibrated && !g->model->m.arch.gated)
        fputs("thresholds: which neurons run is known once fc1 is read; gate and product read all of it, and of fc2 "
              "the columns of these neurons; neur.: of the last token\n",
              f);
    if (calibrated && g->model->m.arch.gated)
        fputs("thresholds: by gate, which neurons run is known once gate_proj is read, and of up_proj and down_proj "
              "what is theirs is read; by product once up_proj is, too; neur.: of the last token\n",
              f);
    for (int i = 0; i < g->n_peers; i++) {
        const bench_peer *p = &g->peer[i];
        const double token = 1e3 * bench_median(p->token, rounds);
        char *name = xasprintf("%s %s", p->engine, p->weights);
        fprintf(f, "%-28s %-22s %6s %6s %9.2f | %8.3f %8.3f %8.3f %8.3f |", name, "-", "", "",
                1e3 * bench_median(p->prefill, rounds), token, 1e3 * bench_quantile(p->token, rounds, 0.1),
                1e3 * bench_quantile(p->token, rounds, 0.9), token);
        if (dense) fprintf(f, " our tokens/s, dense, are %.2f times its", token / base.amortised);
        fprintf(f, "; %s\n", p->about);
        free(name);
    }
    fflush(f);
}
