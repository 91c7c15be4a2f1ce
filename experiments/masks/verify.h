// verify - proves on a model and a mask source what the experiments take for granted. On every input, after a dense
// context, by the code that decoding and evaluation run (decode.h):
//   acts     the masked model differs from the dense one exactly where a pruned unit has something to say: heads and
//            neurons apart, with the size of the difference (largest and mean |logit|, Kullback-Leibler divergence of
//            the next token)
//   sparse   passes over live units equal passes in which dropped units are computed and set to zero: token by token,
//            several tokens at once, and with the mask at every position
//   counts   every layer's pruned units are as many as the rule says; dense layers have none
//   kv       K and V of dropped heads recomputed when needed (repair) equal those computed at once; what skipping them
//            costs
//   causal   (contextual) what follows the end of the context does not reach the mask
#pragma once
#include "contextual.h"

typedef struct {
    const model *m;  // after model_sparse_prepare
    const mask_source *source;
    const mask_rule *rule;     // NULL: a mask file, which obeys none
    int refresh;               // contextual: tokens after which the mask is made again; 0: never
    const model_means *means;  // what dropped units put out; NULL: 0
    double tolerance;          // of |difference| / max(|logit|, rms of the row's logits)
} verify_what;

// Tokens [n]; the first `context` are the context, the others follow step by step.
typedef struct {
    const int32_t *tokens;
    int n, context;
} verify_input;

// Prints a report and returns the number of checks that do not hold, or -1 and err_set when no mask can be made.
int verify_run(const verify_what *w, const verify_input *in, int n, FILE *out);
// The same of thresholds (threshold.h), above [L]: that they act; that token by token, with columns of W2 of the
// neurons that run alone, they give what a pass over all tokens so far gives; how many neurons run.
int verify_thresholds(const model *m, const model_above *above, double tolerance, const verify_input *in, int n,
                      FILE *out);
// Prints what the weights of m change against a model of the checkpoint's own numbers: logits and next-token
// distributions at the end of inputs of the same length; of a text also the perplexity of all their tokens.
void verify_weights(const model *m, const model *published, const verify_input *in, int n, bool text, FILE *out);
double verify_divergence(const float *p, const float *q, int V);  // of two rows of logits: sum p log(p / q), in nats
// Largest |got - want| / max(|want|, rms of the row) over rows of V; infinite where a value is not a number.
double verify_error(const float *got, const float *want, int rows, int V);
