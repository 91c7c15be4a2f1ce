// doc_part - one of n disjoint parts of the documents of a split or the pages of a text (--part i/n), the seeded order
// in which documents and pages are used, and what to do with documents longer than the model's positions (--over-long).
#pragma once
#include "base.h"

typedef struct {
    int i, n;
} doc_part;  // part i of n, counted from 1; {0}: everything
enum { DOC_PART_TEXT = 24 };

// "i/n" with 1 <= i <= n; "" and "1/1" are everything. 0, or -1 and err_set.
int doc_part_parse(doc_part *p, const char *text);
// "1/2"; of everything "".
void doc_part_text(char out[DOC_PART_TEXT], doc_part p);

// The places of a part's members in a list of n, ascending; *count: how many, perhaps 0. One permutation of the list,
// drawn from its name and length alone, is cut into consecutive pieces whose lengths differ by one at most. So the
// parts of n are disjoint and cover the list, and 1/4 and 2/4 together are 1/2. Caller frees.
int32_t *doc_part_members(doc_part p, const char *name, int n, int *count);

// The seeded order of a list of n: a permutation of 0..n-1, of which --examples and --limit take a prefix. Caller
// frees.
int32_t *doc_order(const char *name, int n, uint64_t seed);

typedef enum { OVER_LONG_STOP, OVER_LONG_SKIP, OVER_LONG_CUT } over_long;
extern const char *const over_long_names[];  // "stop", "skip", "cut", NULL
