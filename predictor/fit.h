// fit - training of one net on any device: AdamW with cosine annealing, epochs over a seeded order, the best validation
// epoch kept (METHOD 5.3). The loss of a batch is the mean over its outputs and examples.
#pragma once
#include "rows.h"

typedef struct {
    const ops *o;  // where it is computed
    row_source from;
    const int *train, *valid;  // rows of the store; valid may be empty
    int n_train, n_valid;
    loss_kind loss;
    double positive;              // LOSS_BCE
    int batch, epochs, patience;  // patience: epochs without a better validation loss before it stops; 0: never
    bool keep_last;               // instead of the best epoch
    double lr, decay;
    uint64_t seed;  // of the initialisation and of the order of every epoch
    // [out]: training begins with a net that gives this whatever it reads (last layer: weights 0, this as its bias),
    // and that net is the first candidate for the best epoch; NULL: PyTorch's initialisation, no such candidate
    const double *start;
    // of a compacted model: the outputs are `layers` layers, of which only the first units[l] are there; the others
    // stay 0
    const int *units;
    int layers;                           // 0: all outputs are there
    const char *state;                    // file that a killed training resumes from; NULL: none
    const char *key;                      // 32 hex digits: what a state must have been made for
    double save_every;                    // seconds between states
    void (*tick)(void *ctx, long steps);  // after each batch; may be NULL
    void *ctx;
} fit_plan;

typedef struct {
    int epochs, best;       // done; epoch that was kept, from 1; 0: as it began
    double *train, *valid;  // [epochs] losses; valid NAN where there is no validation part
    double seconds;         // spent, those of earlier runs included
    long examples;          // trained on in this run, in so many seconds
    double spent;
} fit_result;

// Trains n->w, host memory, in place (what is in it before is overwritten). 0, or -1 and err_set: diverged, a file
// cannot be read or written, the device has too little room.
int fit_net(net *n, const fit_plan *p, fit_result *r);
void fit_result_free(fit_result *r);
// Seconds that fit_net will take, from some steps on a copy of the net; at most about `budget` seconds are spent on it.
int fit_estimate(const net *shape, const fit_plan *p, double budget, double *seconds);
size_t fit_bytes(const net *n, const fit_plan *p);  // memory of the device that fit_net takes
