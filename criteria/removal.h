// removal - the exact removal score of a unit: L(unit removed) - L of one input (METHOD 4.7).
//
// The layers below a unit do not see its removal, so a pass begins with the residual that enters the unit's layer. Many
// variants of the input, each without another unit, share a pass.
#pragma once
#include "model.h"

typedef struct removal removal;
// max_tokens: the longest input.
removal *removal_new(const model *m, int max_tokens);
void removal_free(removal *r);                         // NULL allowed
size_t removal_bytes(const model *m, int max_tokens);  // memory that removal_new takes
// rise [units of the layer]: how much the loss of the input rises without each unit of one kind. The loss is the mean
// cross-entropy, in nats, over the input's targets, of which there is at least one. res: the residual that enters the
// layer, [n, E] in memory of the layer's device.
void removal_layer(removal *r, const model_seq *input, int layer, unit_kind kind, const float *res, double *rise);
