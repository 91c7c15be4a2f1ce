// threshold - neurons that run by their own value: at each token a neuron runs if |r| is strictly above a threshold of
// its layer, the quantile of the same values over a calibration text at the sparsity asked for (CATS, Lee et al. 2024;
// TEAL, Liu et al. 2024; CHESS, He et al. 2024). Nothing is trained. By product the value is |r|; by gate |act(z)|,
// which with FFNs that are not gated is r, so that both kinds are the same masks (METHOD 6.5). Heads always run.
#pragma once
#include "mask.h"
#include "tok_model.h"

typedef enum { THRESHOLD_GATE, THRESHOLD_PRODUCT, THRESHOLDS } threshold_by;
extern const char *const threshold_names[THRESHOLDS + 1];  // "gate", "product", NULL

// The values of every layer over a text.
typedef struct {
    threshold_by by;
    int L;
    long tokens, *n, *zeros;  // [L] values, those that are 0
    float **above;            // [L] the others, ascending
    char hash[33];            // of the text
} threshold;
// The text, after </s>, in windows of the model's positions, 2048 at most, as token perplexity has it (METHOD 7.3). 0,
// or -1 and err_set: no text. threshold_free is safe on {0}.
int threshold_calibrate(threshold *t, const model *m, const tok *tk, const char *file, threshold_by by);
void threshold_free(threshold *t);
threshold_by threshold_named(const char *name);  // THRESHOLDS: there is none of the name
// For model_seq.above, least [L] into room of the caller's: of n values of a layer floor(p n / 100) and those equal to
// the largest of them are not above; layers that are never pruned get -1, which every value is above.
model_above threshold_at(float *least, const threshold *t, const mask_rule *rule);
