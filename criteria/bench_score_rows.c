// bench_score_rows - figures of bin/bench_score's contenders and the rows that keep them. Contract in bench_score.h.
#include "bench_score.h"
#include "probe.h"
#include "registry.h"
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_names[PARTS] = {"GEMM", "attention", "criteria", "store", "other"};

// ---------------------------------------------------------------- results
static double median(const double *x, long n) {
    double sorted[MOST_ROUNDS];
    memcpy(sorted, x, sizeof *x * (size_t)n);
    gsl_sort(sorted, 1, (size_t)n);
    return gsl_stats_median_from_sorted_data(sorted, 1, (size_t)n);
}

double contender_median(const contender *c, const bench_options *o) { return median(c->seconds, o->rounds); }

figures contender_figures(const contender *c, const bench_options *o, const bench_model *m, double peer, double gemm) {
    const double batches = (double)o->batches, tokens = (double)(o->batch * o->tokens) * batches;
    const double merge = c->merge * (double)o->batch * batches, seconds = median(c->seconds, o->rounds) + merge;
    figures f = {.tokens_per_second = tokens / seconds, .batch_seconds = seconds / batches};
    double least, most, all = 0;
    gsl_stats_minmax(&least, &most, c->seconds, 1, (size_t)o->rounds);
    f.slowest = tokens / (most + merge);
    f.fastest = tokens / (least + merge);
    if (!c->criteria) return f;
    f.beside_peer = peer / seconds;
    for (int k = 0; k < PARTS; k++) all += f.share[k] = c->part[k] / (double)o->rounds + (k == 3 ? merge : 0);
    for (int k = 0; k < PARTS; k++) f.share[k] /= all;
    probe_plan plan = {.mode = {[MODE_SOUND] = true}};
    plan.crit = crit_select(c->criteria, &plan.n_crit);
    f.multiply_adds = probe_macs(&m->m, &plan, (int)o->tokens, (int)(o->tokens - o->continuation)) * (double)o->batch;
    f.of_peak = f.multiply_adds / f.batch_seconds / gemm;
    free(plan.crit);
    return f;
}

void contender_print(const contender *c, const bench_options *o, const bench_model *m, const figures *f) {
    printf("%-22s %8.1f tokens/s, %.3f s per batch", c->name, f->tokens_per_second, f->batch_seconds);
    if (f->beside_peer > 0) printf(", %.2f times the peer", f->beside_peer);
    if (!bench_on_cpu(o)) {  // where the time goes on the device its own profiler says
        printf("\n%22s %.6g multiply-adds a batch, %.0f %% of the peak\n", "", f->multiply_adds, 100 * f->of_peak);
        return;
    }
    printf("; peak memory %.2f GB", c->peak_bytes / 1e9);
    if (!c->criteria) {
        printf("\n");
        return;
    }
    printf(" = weights + %.2f GB\n%22s", (c->peak_bytes - m->bytes) / 1e9, "");
    for (int k = 0; k < PARTS; k++) printf(" %s %.1f %%%s", part_names[k], 100 * f->share[k], k < PARTS - 1 ? "," : "");
    printf("; %.1f G multiply-adds a batch, %.0f %% of the GEMM peak\n", f->multiply_adds / 1e9, 100 * f->of_peak);
}

// ---------------------------------------------------------------- the CSV file
// A column, and whether it says what a row is about; the others are what was measured. Rates are tokens/s, shares those
// of our own time.
// clang-format off
#define COLUMNS(X)                                                                                                    \
    X(model, 1) X(contender, 1) X(criteria, 1) X(batch, 1) X(batches, 1) X(tokens, 1) X(continuation, 1)              \
    X(rounds, 1) X(seed, 1) X(threads, 1) X(processor, 1) X(peer, 1) X(code, 1) X(tokens_per_second, 0)               \
    X(slowest, 0) X(fastest, 0) X(batch_seconds, 0) X(beside_peer, 0) X(peak_bytes, 0) X(weight_bytes, 0)             \
    X(gemm_share, 0) X(attention_share, 0) X(criteria_share, 0) X(store_share, 0) X(other_share, 0)                   \
    X(multiply_adds, 0) X(gemm_peak, 0) X(of_gemm_peak, 0) X(peer_versions, 0)
// clang-format on
#define X(name, key) COLUMN_##name,
enum { COLUMNS(X) N_COLUMNS, FIELD = 512 };
#undef X
#define X(name, key) {#name, key},
static const results_column columns[N_COLUMNS] = {COLUMNS(X)};
#undef X

typedef struct {
    char text[N_COLUMNS][FIELD];
    const char *field[N_COLUMNS];
} csv_row;
#define SET(r, column, ...) snprintf((r)->text[COLUMN_##column], FIELD, __VA_ARGS__)

static void set_key(csv_row *r, const contender *c, const bench_options *o) {
    char *processor = results_processor();
    for (int i = 0; i < N_COLUMNS; i++) {
        r->text[i][0] = 0;
        r->field[i] = r->text[i];
    }
    SET(r, model, "%s%s", *o->model ? o->model : o->shape, device_rounding(&o->device));
    SET(r, contender, "%s", c->criteria ? "own" : c->name);
    SET(r, criteria, "%s", c->criteria ? c->criteria : "");
    SET(r, batch, "%ld", o->batch);
    SET(r, batches, "%ld", o->batches);
    SET(r, tokens, "%ld", o->tokens);
    SET(r, continuation, "%ld", o->continuation);
    SET(r, rounds, "%ld", o->rounds);
    SET(r, seed, "%ld", o->seed);
    SET(r, threads, "%ld", o->device.threads);
    SET(r, processor, "%s", processor);
    SET(r, peer, "%s", strcmp(o->peer, "none") == 0 ? "" : "PyTorch");
    SET(r, code, "%s", code_version());
    free(processor);
}

int contender_rows_open(results *out, const char *path, const char *lines) {
    return results_open(out, path, columns, N_COLUMNS, lines);
}

bool contender_row_present(const results *out, const contender *c, const bench_options *o) {
    csv_row r;
    set_key(&r, c, o);
    return results_find(out, r.field);
}

int contender_row_write(results *out, const contender *c, const bench_options *o, const bench_model *m,
                        const figures *f, double gemm, const char *about) {
    csv_row r;
    set_key(&r, c, o);
    if (results_find(out, r.field)) return 0;
    SET(&r, tokens_per_second, "%.6g", f->tokens_per_second);
    SET(&r, slowest, "%.6g", f->slowest);
    SET(&r, fastest, "%.6g", f->fastest);
    SET(&r, batch_seconds, "%.6g", f->batch_seconds);
    SET(&r, peak_bytes, "%.0f", c->peak_bytes);
    if (about) SET(&r, peer_versions, "%s", about);
    if (c->criteria) {
        if (about) SET(&r, beside_peer, "%.4f", f->beside_peer);
        for (int k = 0; k < PARTS; k++) snprintf(r.text[COLUMN_gemm_share + k], FIELD, "%.4f", f->share[k]);
        SET(&r, weight_bytes, "%.0f", m->bytes);
        SET(&r, multiply_adds, "%.6g", f->multiply_adds);
        SET(&r, gemm_peak, "%.6g", gemm);
        SET(&r, of_gemm_peak, "%.4f", f->of_peak);
    }
    return results_append(out, r.field);
}
