// reference - mask source of an input's own scores of a criterion: what a predictor would give that makes no error. The
// scores are those that bin/score would store for the input as an example: of a document its context and gold
// continuation, of text the segment's own loss. They use the label, so they are no bound of what can be predicted
// (METHOD 6.5).
#pragma once
#include "mask.h"
#include "registry.h"

typedef struct reference reference;
// Whether the criterion has scores of an example for the kinds that the rule prunes; -1 and err_set, by name.
int reference_check(const criterion *c, const mask_rule *rule);
// m, whose device computes, must outlive it. seed: of criteria that draw.
reference *reference_new(const model *m, const criterion *c, mode_kind mode, uint64_t seed);
void reference_free(reference *r);  // NULL allowed
// span and refresh as of contextual masks: where its masks act.
mask_source reference_source(reference *r, bool decode, int refresh);
// Its cost in tokens through the whole model, for an input of n tokens.
double reference_cost(int n);
