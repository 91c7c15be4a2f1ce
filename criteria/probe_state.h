// probe_state - what the files of the probe share: probe.c (a batch from forward pass to checked scores), probe_tiles.c
// (criteria on the taps of a layer), probe_removal.c (removal scores).
#pragma once
#include "probe.h"
#include "removal.h"

enum { STAGE_GRAD, STAGE_HESS, STAGE_COMPAT, STAGE_REMOVAL, STAGES };
// Arrays of the layer at work as the criteria read them, in host memory.
enum { VIEW_A, VIEW_DA, VIEW_OUT, VIEW_HA, VIEW_Z, VIEW_DZ, VIEW_HZ, VIEW_X, VIEW_TX, VIEWS };

typedef unsigned probe_needs[STAGES][UNIT_KINDS];  // unions over the criteria of a stage

// Memory of a part of the device.
typedef struct {
    float *corr, *most;  // of the FFN's input: correlations of each example's rows; crit_in.xmax of every row
    float *stat;         // where the FFN is gated: [rows, ROW_STATS] of its input
    // not on the host, which sums tile by tile
    double *sums;     // [examples at a time, units, USUMS] of a kind
    double *wsums;    // [examples at a time, neurons, WSUMS]
    double *moments;  // [examples at a time, columns, 2] of a kind
} probe_part;

// Sums of some examples on their way from another device to the host; where they will be.
typedef struct {
    int stage, layer, first, n;  // examples first .. first + n - 1; n 0: none are on their way
    unit_kind kind;
    const double *sums, *wsums, *moments;
} probe_sums;

// Numbers of another device that are wanted at the end of a batch. active: then to is NULL, and they are a row of dz,
// of which the layer's active neurons are wanted.
typedef struct {
    void *to;
    const void *from;
    size_t bytes;
    probe_row *active;
    int layer;
} probe_arrival;

struct probe {
    const model *m;
    probe_plan plan;
    probe_needs needs;
    model_run *run;
    probe_part part[OPS_PARTS];
    const float *view[VIEWS];
    float *copy[VIEWS];  // of another device's memory
    float *corr, *most;  // the same
    // the same: what is on its way while the GPU computes the next, in two places in turn
    struct fetch *sums[2];
    probe_sums coming;
    int turn;
    struct fetch *rows;  // features and rows of a batch
    size_t rows_bytes;
    probe_arrival *arrival;
    int n_arrival, cap_arrival;
    double *squares[UNIT_KINDS];  // moments_squares, or NULL
    size_t *corr_at;              // [examples] where an example's correlations begin
    int max_tokens;
    model_seq *seqs;
    span *spans;  // [examples]
    double seconds_criteria, seconds_total, gemm, attention;
    removal *removal;  // NULL: no criterion reads it
    // of the batch in work
    const probe_example *ex;
    probe_result *out;
    probe_row *rows_wanted;
    int n, n_rows;
};

// probe_tiles.c
void tiles_needs(const probe_plan *plan, probe_needs needs);
void tiles_alloc(probe *p);
void tiles_free(probe *p);
// device memory, of every part and in all
size_t tiles_bytes(const model *m, probe_needs needs, int max_tokens, size_t part[OPS_PARTS]);
void tiles_begin(probe *p);                        // of a batch
void tiles_score(probe *p, int stage, int layer);  // on another device, some of it only with the next layer's, or
void tiles_finish(probe *p);                       // here
crit_in tiles_base(const probe *p, int example, int layer);
void tiles_call(probe *p, int stage, const crit_in *in, int example, unit_kind kind);

// probe_removal.c
void probe_remove(probe *p);  // after the passes of the batch
