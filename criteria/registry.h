// registry - all criteria of the criteria/ folder; the list is written by make from the names of the crit_*.c files.
#pragma once
#include "ckpt.h"
#include "criterion.h"

extern const criterion *const crit_all[];      // NULL-terminated, by name
const criterion *crit_find(const char *name);  // NULL: unknown
// Resolves "all" or "a,b,c" into a NULL-terminated array (caller frees); NULL and err_set with the valid names on an
// unknown one.
const criterion **crit_select(const char *list, int *n);

// Whether its neuron scores tell the neurons of a layer of this model apart: 0, or -1 and err_set (zeros_only).
int crit_check_neurons(const criterion *c, const model_config *m);

// The function for a kind of unit (NULL: no such score per example), and what it reads.
static inline crit_fn *crit_function(const crit_mode *mode, unit_kind kind) {
    return kind == UNIT_HEADS ? mode->heads : mode->neurons;
}
static inline unsigned crit_needs(const crit_mode *mode, unit_kind kind) {
    return kind == UNIT_HEADS ? mode->needs_heads : mode->needs_neurons;
}
