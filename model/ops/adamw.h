// adamw - the AdamW step on a block of parameters (Loshchilov & Hutter 2019, decoupled weight decay), and the cosine
// schedule.
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w -= lr decay w + lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) +
//                           eps)
#pragma once
#include <stddef.h>

// One step's constants. `step` counts from 1.
typedef struct {
    float rate, shrink, b1, b2, c1, c2, eps, scale;
} adamw;
adamw adamw_step(double lr, double decay, double beta1, double beta2, double scale, long step);
// Updates w, m, v [n] by the gradient scale * g [n]. Serial, element by element: callers share blocks out to threads as
// they like.
void adamw_update(const adamw *a, float *w, const float *g, float *m, float *v, size_t n);
// The same without weight decay.
void adamw_update_plain(const adamw *a, float *w, const float *g, float *m, float *v, size_t n);
// Cosine annealing: lr (1 + cos(pi t / total)) / 2, t = 0 for the first step.
double cosine(double lr, long t, long total);
