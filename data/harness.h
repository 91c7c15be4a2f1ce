// harness - whose conventions the texts of evaluation follow (METHOD 3.6): those of the evaluation harness of mid-2022,
// as published, or of today's, lm-evaluation-harness 0.4.13. They differ in how a context and its continuation become
// tokens, in the token before them, in which documents a limit takes, and in what a cut takes off.
#pragma once
#include "task.h"

typedef enum { HARNESS_2022, HARNESS_TODAY } harness_kind;
extern const char *const harness_names[];  // "2022", "today", NULL
// Whether a token that begins a text stands before it. Auto: none in 2022; today's takes what the tokenizer itself puts
// there (tok_begin).
typedef enum { BOS_AUTO, BOS_ON, BOS_OFF } bos_choice;
extern const char *const bos_names[];  // "auto", "on", "off", NULL

typedef struct {
    harness_kind kind;
    int32_t begin;  // the token before every text; -1: none
    int32_t first;  // the token that begins a text where one must; -1: the tokenizer has none
} harness;
// first: tok_first of the model. -1 and err_set: a token is asked for and there is none.
int harness_of(harness *h, harness_kind kind, bos_choice bos, const tok *t, int32_t first);

// Today's COPA has two spaces between context and candidate. Changes the candidates of a split, for that harness only.
void harness_spaces(const harness *h, task_split *s);
// task_encode, and the token before the text.
int harness_encode(task_example *e, const harness *h, const tok *t, const task_doc *d, int choice, const char *prefix,
                   mode_kind mode);
// A pair of texts as today's harness encodes it: white space at the end of the context counts as the continuation's;
// both are tokenised as one text, of which the context has as many tokens as it has by itself; an empty context is the
// token `first`. Names of special tokens in them are these tokens; where the text begins with that of `first`, no token
// stands before it. 0, or -1 and err_set: the continuation is empty.
int harness_encode_pair(task_example *e, const harness *h, const tok *t, const char *context, const char *continuation);
// Takes tokens off the left until `most` are left; in the conventions of 2022 the token before the text stays, today's
// goes first. 0: there were no more, 1: done, -1: of the context nothing would be left; e is as it was.
int harness_cut(task_example *e, const harness *h, int most);
