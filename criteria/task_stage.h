// task_stage - second stage of the criteria that exist per task, not per example (epenas; compat jacov, compat epenas).
//
// Which rows (example, position) a stage needs follows from the token ids alone, so `select` runs before any forward
// pass; the probe collects just those rows into a side file; `score` then works on one layer at a time.
#pragma once
#include <stdint.h>

// a task's examples, in order
typedef struct {
    int n;
    const int32_t *const *tokens;
    const int *length, *context;
} task_tokens;

typedef struct {
    int example, position;  // the gradient row at this position of this example
    int group;              // epenas: class index; jacov: which of its draws; rows are sorted by the stage as it likes
    int kind;               // compat jacov: 0 row of a draw for the inner layers, 1 for the last layer
} task_row;

typedef struct {  // one layer's rows, in the order that select gave
    int n, E, H, D, F, layer, layers;
    const task_row *row;
    const float *da;        // [n, A]
    const float *x;         // [n, E]
    const uint8_t *active;  // [n, F] 1 where dz[j] * x is not a zero row; NULL: the neurons are gated
    int A;                  // width of da: D times the heads of a layer that lost none
    const float *dg, *du;   // [n, F] of gated neurons: the gradients at the outputs of gate and up
} task_layer;

struct task_stage {
    // Rows wanted (malloc'd, *n of them), or NULL with *n = 0 when the task has too few: `why` then says so in one
    // line.
    task_row *(*select)(const task_tokens *t, uint64_t seed, int *n, const char **why);
    void (*heads)(float *out, const task_layer *in, uint64_t seed);    // out [H]; NULL: none
    void (*neurons)(float *out, const task_layer *in, uint64_t seed);  // out [F]; NULL: none
    const char *heads_doc, *neurons_doc;
};
typedef struct task_stage task_stage;
