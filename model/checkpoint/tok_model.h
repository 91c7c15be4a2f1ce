// tok_model - the tokenizer of a model: opened and checked against its config.json.
#pragma once
#include "ckpt.h"
#include "tok.h"

// tok_open, and what config.json calls the tokens that begin, end and pad a text must be special tokens of the
// vocabulary, and the second not <pad> or the like. Otherwise this is the tokenizer of another model: NULL and err_set.
tok *tok_open_model(const char *dir, const model_config *c);
// The token that stands before a text where one is asked for: the tokenizer's BOS, else its EOS, else config.json's;
// -1: none of them has one.
int32_t tok_first(const tok *t, const model_config *c);
extern const char tok_no_first[];  // what is wrong then
