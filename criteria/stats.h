// stats - rank statistics over unit scores (GSL for sorting and correlation).
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Ranks 1..n, 1 = smallest; ties share their average rank.
void stats_ranks(double *rank, const double *x, size_t n);
// Spearman's rank correlation, ties by average ranks; NAN (undefined) where a vector is constant or shorter than 2.
double stats_spearman(const double *a, const double *b, size_t n);
double stats_spearman_ranks(const double *rank_a, const double *rank_b, size_t n);  // the same from stats_ranks

// Which of n units survive pruning `prune` of them: the lowest scores go, among equal scores the lower index first.
void stats_keep(uint8_t *keep, const double *score, size_t n, size_t prune);
// Top-k overlap at sparsity p (percent) of two scores [L, U]: |kept by a and by b| / kept, floor(p n / 100) of n units
// pruned; the first `dense` layers are left out. units [L]: how many of a row's U exist, NULL: all. joint: over all
// their units together; else the mean within layers, of those that have units. NAN if nothing is prunable.
double stats_overlap(const double *a, const double *b, const int *units, int L, int U, int dense, double p, bool joint);

// Mean and sample variance of n numbers one by one (Welford 1962); variance NAN for n < 2.
typedef struct {
    long n;
    double mean, m2;
} stats_moments;
void stats_add(stats_moments *m, double x);
double stats_variance(const stats_moments *m);
