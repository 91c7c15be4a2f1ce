// decode - a batch of prompts and then one token at a time, under fixed masks or masks that a predictor makes on the
// way: what generation, timing and verification run.
//
// A predictor makes each sequence's mask from the states of the last prompt token and, with `refresh`, again from those
// of every refresh-th token after it. In the pass that makes it the mask acts on that token already; features of the
// kind "dense" (contextual.h) act on the tokens after, and cannot be refreshed.
//
// Sequences of a batch that have masks of their own may run the union of these instead (decode_batch.h), on the tokens
// after the one at which the masks were made; it is made again when a mask changes or a sequence ends.
#pragma once
#include "contextual.h"
#include "decode_batch.h"

typedef struct {
    predictor *predictor;  // moved to the model's device; NULL: the masks of the sequences are fixed
    mask_rule rule;        // of the predictor's masks
    int refresh;           // 0: never
    kv_policy kv;          // of heads that a mask drops
    unsigned flags;        // RUN_MASK_BY_ZERO, RUN_OWN_LISTS
    batch_masks batch;
    const model_means *means;  // what dropped units put out; NULL: 0
    const model_above *above;  // threshold masks, instead of any other; NULL: none
} decode_options;

typedef struct {
    const int32_t *prompt;
    int n;
    const mask *mask;  // fixed; NULL: dense, or the predictor's
    int mask_from;     // the first token that a fixed mask acts on
} decode_seq;

typedef struct decode decode;

// Room for max_seqs sequences of at most `prompt` tokens and `tokens` tokens in all each. -> NULL and err_set: more
// tokens than the model has positions, a predictor that does not fit the rule, a refresh that it cannot do, a union
// that no token would run.
decode *decode_new(const model *m, const decode_options *o, int max_seqs, int prompt, int tokens);
void decode_free(decode *d);  // NULL allowed
// Begins again with these prompts. -1 and err_set when a predicted score or a logit is NaN or infinite; so does
// decode_step.
int decode_prompt(decode *d, const decode_seq *s, int n);
// One token more for each sequence.
int decode_step(decode *d, const int32_t *next);
// The same where the likeliest tokens will probably be the next step's and logits are not wanted: a GPU begins that
// step before the host knows these tokens. decode_begun: whether it has.
int decode_step_ahead(decode *d, const int32_t *next);
bool decode_begun(const decode *d);
// Sequence i ends; the last of them takes its number. Nothing is asked of a sequence between this and the next step.
void decode_drop(decode *d, int i);
// Another fixed mask (NULL: none) for the tokens to come of sequence i. What a mask that was given holds must not
// change unless it is given again.
void decode_set_mask(decode *d, int i, const mask *m);
// Whether predicted masks act on the tokens after the one they were made at only (features of the kind "dense").
bool decode_acts_behind(const decode *d);
// After the last token of sequence i: the likeliest token, the first of equals, which the device chose; the logits
// [V], until the next step, which come from there when they are first asked for; none after decode_step_ahead.
int32_t decode_likeliest(const decode *d, int i);
const float *decode_logits(decode *d, int i);
// Neurons of all layers that ran at the last token of sequence i, under thresholds.
long decode_kept(const decode *d, int i);
// The mask that sequence i runs under now; NULL: none. One that the predictor has made in a step of a GPU is there, and
// is copied when it is asked for; if the next step has begun, it is that step's.
const mask *decode_mask(const decode *d, int i);
// ln of the probability that the model gave token id after the last token of sequence i.
double decode_log_probability(decode *d, int i, int32_t id);
// Seconds spent in the predictor and in the choice of units since decode_prompt began; of steps of a GPU, whose work
// is not timed apart, only those of the prompt.
void decode_overhead(const decode *d, double *predict_s, double *select_s);

// Steps since decode_new that were replayed as a recording of the device (model_step); the others were launched
// operation by operation.
int decode_replayed(const decode *d);

// Bytes that the next step must read: weights (of the units live now; each once for the batch, or with RUN_OWN_LISTS
// once for each sequence whose mask differs), K and V of live heads.
// Under thresholds, which neurons run is known once W1 is read, or, of a gated FFN by product, Wu too: all of these,
// and of W2, by gate of Wu too, what each sequence's last token has read. Where a GPU makes the masks and the next step
// has begun, those of the last step that was asked about before it began.
typedef struct {
    double weights, kv;
} decode_bytes;
decode_bytes decode_step_bytes(const decode *d);
// Bytes of all weights that a token of the dense model reads; embeddings: only the rows looked up, and the vocabulary
// matrix once.
double decode_dense_bytes(const model *m);
