// pretrain - what the parts of bin/pretrain share: pretrain_text.c, the text and the sequences of a step;
// pretrain_params.c, parameters, AdamW and what is saved; pretrain_main.c, options and the loop. Functions that read or
// write files return 0, or -1 and err_set.
#pragma once
#include "model.h"
#include "tok.h"

// ---------------------------------------------------------------- text
// Token ids of all documents, one after the other, and the weight of each in the loss.
typedef struct {
    int32_t *ids;   // [n]
    float *weight;  // [n + 1]
    int n, cap;
    int *doc;  // [n_docs] places where documents begin
    int n_docs, cap_docs;
    int first_valid;  // documents from this one on are for validation
} corpus;

// All *.txt of a folder, in order of name, a blank line after each; caller frees. NULL and err_set.
char *pretrain_read(const char *dir, size_t *bytes);
// valid: the share of the documents for validation; answer_weight: of the token after "Answer:".
int corpus_make(corpus *c, const tok *t, const char *text, size_t bytes, double valid, double answer_weight);
void corpus_free(corpus *c);

// Sequences of one step, whose ids are in one block.
typedef struct {
    model_seq *seq;  // [n]
    int n;
    int32_t *ids;  // [used]
    int used;
    double weight;  // of all their tokens
} batch;
batch batch_new(int tokens);  // of at most so many
void batch_fill(batch *b, const corpus *c, const model_config *cfg, uint64_t seed, long step, int room);
void batch_free(batch *b);
// Mean loss of the validation documents, in windows of the model's length after </s>, at most `most` tokens.
double corpus_loss(const corpus *c, model_run *run, const model_config *cfg, int most);

// ---------------------------------------------------------------- parameters
typedef struct {
    tensor *t;  // [n] whose data are places in w
    int n;
    size_t floats;
    float *w, *g, *m, *v;  // [floats] weights, gradient, AdamW's two averages
} params;

// Zeros, and two models that read them: the weights and their gradient.
int params_new(params *p, const model_config *c, model *trained, model *grad);
void params_free(params *p);
void params_init(params *p, int layers, uint64_t seed);
double params_grad_norm(const params *p);
void params_update(params *p, double lr, double decay, double scale, long step);
// What a killed training resumes from, DIR/train.state; key: of the text and the options.
int params_save(const params *p, const char *dir, const char *key, long step, double seconds);
// 1: resumed; 0: there is none; -1 and err_set.
int params_resume(params *p, const char *dir, const char *key, long *step, double *seconds);
void params_forget(const char *dir);  // removes it
int params_save_model(const params *p, const model_config *c, const char *dir);
