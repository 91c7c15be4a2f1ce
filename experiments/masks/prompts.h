// prompts - the prompts of a run of bin/generate, and what is made of each.
#pragma once
#include "base.h"

typedef struct {
    char *text;  // what it begins with; bytes of it, and a 0
    size_t bytes;
    long line;         // of the file, from 1; 0: of the command line
    int32_t *ids;      // [n] tokens of the text, and after them those that are made
    int n, cap, made;  // made: how many there are to be, then how many there are
    double *log_p;     // [made] natural logarithms of the probabilities that the model gave them
    const char *ends;  // why nothing follows: "token" (one that ends texts), "tokens" (all asked for), "positions"
    rng draws;
    double heads, neurons;  // pruned at the end, as fractions
} prompt;

// Adds the prompts of a file to p: one a line, without its line feed; of FILE.jsonl one a line as well, JSON objects
// with a text "prompt", or texts alone. Empty lines are left out. "-" is standard input. 0, or -1 and err_set.
int prompts_read(prompt **p, int *n, const char *path);
void prompts_free(prompt *p, int n);

// A line of JSON: number (from 0), prompt, text (what was made, tokens that are no UTF-8 replaced), prompt_ids, ids,
// log_probabilities, ends.
void prompt_write(FILE *f, const prompt *p, int number, const char *made);
