// fit - training of one net: AdamW with cosine annealing, epochs over a seeded order, the best validation epoch kept (SEMANTICS 3.3).
// The loss is the mean over outputs and examples of a batch of
//   FIT_MSE  (y - t)^2
//   FIT_BCE  w(t) (log(1 + e^y) - t y), labels t, w = t (1 - positive) + positive: DejaVu's weighting by the fraction of positives
#pragma once
#include "rows.h"

typedef enum { FIT_MSE, FIT_BCE } fit_loss;

typedef struct {
    row_source from;
    const int *train, *valid;   // rows of the store; valid may be empty
    int n_train, n_valid;
    fit_loss loss;
    double positive;            // FIT_BCE
    int batch, epochs, patience;  // patience: epochs without a better validation loss before it stops; 0: never
    bool keep_last;             // instead of the best epoch
    double lr, decay;
    uint64_t seed;              // of the initialisation and of the order of every epoch
    const double *start;        // [out]: training begins with a net that gives this whatever it reads (last layer: weights 0, this as its bias), and
                                // that net is the first candidate for the best epoch; NULL: PyTorch's initialisation, no such candidate
    const char *state;          // file that a killed training goes on from; NULL: none
    const char *key;            // 32 hex digits: what a state must have been made for
    double save_every;          // seconds between states
    void (*tick)(void *ctx, long steps);  // after each batch; may be NULL
    void *ctx;
} fit_plan;

typedef struct {
    int epochs, best;           // done; epoch that was kept, from 1; 0: as it began
    double *train, *valid;      // [epochs] losses; valid NAN where there is no validation part
    double seconds;             // spent, those of earlier runs included
    long examples;              // trained on in this run, in so many seconds
    double spent;
} fit_result;

// Trains n->w in place (what is in it before is overwritten). 0, or -1 and err_set: diverged, a file cannot be read or written.
int  fit_net(net *n, const fit_plan *p, fit_result *r);
void fit_result_free(fit_result *r);
// Mean loss of rows.
int  fit_evaluate(const net *n, const fit_plan *p, const int *row, int count, double *loss);
// Seconds that fit_net will take, from some steps on a copy of the net; at most about `budget` seconds are spent on it.
int  fit_estimate(const net *shape, const fit_plan *p, double budget, double *seconds);
// Loss of B examples: the sum over outputs and examples divided by both; dy (may be NULL) its gradient.
double fit_loss_of(float *dy, const float *y, const float *t, fit_loss loss, double positive, size_t n);
size_t fit_bytes(const net *n, int batch);  // memory of fit_net
