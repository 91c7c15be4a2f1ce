// quality - how well predicted scores follow the true ones, per example, averaged over examples (METHOD 5.4).
//   mse      mean squared difference in the space of the targets
//   joint    Spearman's rho over the units of all layers together
//   within   Spearman's rho within layers, mean over examples and layers; layers where either side is constant are left
//            out and counted
//   overlap  |kept by prediction and by truth| / kept at 10, 20 .. 90 % sparsity: over the prunable units together, and
//            the mean within layers
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum { QUALITY_POINTS = 9, QUALITY_COLUMNS = 3 + 2 * QUALITY_POINTS };
typedef struct {
    double mse, joint, within, overlap_joint[QUALITY_POINTS], overlap_within[QUALITY_POINTS];  // NAN: undefined
    // examples without joint rho; (example, layer) pairs left out of within, pairs in all
    long examples, undefined, constant, layers;
} quality;

// The quality of one example: pred and truth [L, U], of which layer l has the first units[l] (NULL: all); layers before
// `first` have no prediction and count nowhere, those before `dense` are not prunable. A layer of one unit or none has
// no ranks: it counts as constant, and without units in no overlap.
void quality_of(quality *q, const double *pred, const double *truth, int L, int U, const int *units, int first,
                int dense);
// Sums up examples one by one; quality_mean turns the sum into means.
void quality_add(quality *sum, const quality *one);
void quality_mean(quality *sum);
// "mse,joint_rho,within_rho,overlap_joint_10,..,overlap_within_90", and the values in that order.
extern const char quality_columns[];
void quality_row(const quality *q, double out[QUALITY_COLUMNS]);
