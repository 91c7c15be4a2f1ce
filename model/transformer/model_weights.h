// model_weights - what the tensors of a checkpoint become when a model is loaded: types and places of their numbers.
//
// A tensor is used where it is, in its type, unless
//   --weights names a type: it is converted. Blocks (q8_0, q4_0) are for matrices, but for the table of positions;
//   it is in blocks and the device is no CPU, or activations are rounded to 16 bits: it is widened to fp32;
//   it is one of the matrices whose columns belong to units (those with a transposed copy, arch.h), and in blocks: the
//   columns of live units must be read alone, so blocks lie along the rows' side, and only that turned form is kept
//   (METHOD 2.5). Those of a file are turned in Q8_0, since another rounding to four bits would cost as much as the
//   first; those that --weights quantises, from the numbers of the file, in that type.
#pragma once
#include "model.h"

// weights: a dtype that --weights names, or -1.
typedef struct {
    dtype type;
    bool turned;
} weight_form;
weight_form model_weight_form(const model_config *c, const tensor_spec *s, dtype stored, int weights, const ops *o);
// 0, or -1 and err_set: the device has no blocks, or widths are not whole blocks.
int model_check_weights(const model_config *c, int weights, const ops *o);
// The tensor's numbers in a form; caller frees. NULL and err_set: they do not fit the type's range.
void *model_make_weight(const tensor *t, weight_form form);
// Sum of the squared changes of a matrix whose form is turned, of the sum of its squares. The matrix can be turned.
double model_turning_change(const tensor *t, weight_form form);
