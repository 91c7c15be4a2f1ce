// bench_score - what bin/bench_score says of its contenders: figures, printed and as rows of a CSV file
// (bench_score_rows.c). bench_score_main.c runs them.
#pragma once
#include "child.h"
#include "device.h"
#include "model_random.h"
#include "results.h"
#include <string.h>

enum { PARTS = 5, MOST_ROUNDS = 99 };  // parts of the time: GEMM, attention, criteria, store, other

typedef struct {
    const char *model, *shape, *criteria, *peer, *scratch, *out;
    long rounds, batches, batch, tokens, continuation, seed;
    device_options device;
    int weights;  // a dtype, or -1: as stored, of a shape fp32
} bench_options;
static inline bool bench_on_cpu(const bench_options *o) { return strcmp(o->device.name, "cpu") == 0; }
static inline dtype bench_type(const bench_options *o) { return o->weights < 0 ? DT_F32 : (dtype)o->weights; }

// On another device than the CPU without weights: each contender makes its own, because no process that was forked can
// use a GPU that its parent had opened.
typedef struct {
    model_random random;
    model m;
    double bytes;  // of the weights, on the CPU as fp32
} bench_model;

// A process that is timed. merge: seconds of writing the store, per example.
typedef struct {
    const char *name, *criteria;  // criteria NULL: not ours
    child c;
    double seconds[MOST_ROUNDS], part[PARTS], merge, peak_bytes;
} contender;

// Figures of one contender. Seconds of a round are those of its batches and of their share of writing the store.
typedef struct {
    double tokens_per_second, slowest, fastest, batch_seconds;
    double beside_peer;                           // 0: it is the peer, or there is none
    double share[PARTS], multiply_adds, of_peak;  // ours only: shares of the time; of a batch; of the GEMM peak
} figures;

// peer: seconds of its median round, or 0; gemm: multiply-adds/s of the peak.
figures contender_figures(const contender *c, const bench_options *o, const bench_model *m, double peer, double gemm);
double contender_median(const contender *c, const bench_options *o);  // of the seconds of its rounds
void contender_print(const contender *c, const bench_options *o, const bench_model *m, const figures *f);

// Rows of a CSV file: 0, or -1 and err_set. about: the peer's versions, NULL: there is none.
int contender_rows_open(results *out, const char *path, const char *lines);
bool contender_row_present(const results *out, const contender *c, const bench_options *o);
int contender_row_write(results *out, const contender *c, const bench_options *o, const bench_model *m,
                        const figures *f, double gemm, const char *about);
