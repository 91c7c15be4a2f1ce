// target - what a predictor is trained on (METHOD 5.2, 5.3): normalised features and scores, and the split of the
// examples.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Labels of DejaVu's classifiers: 1 for the k largest of x [n], else 0. Where equal ones do not all fit, none is
// labelled: which of them a mask keeps is a matter of their index, which is not to be learnt.
void top_labels(float *out, const float *x, int n, int k);

// The parts that examples fall into, by document: rows with the same (task, id) stay together. Documents are ordered by
// a hash of (seed, task, id), so the order does not depend on the order of the store; the first floor(train *
// documents) are for training, the last ceil(test * documents) for the test, the rest for validation. part[i] of row i.
// Each part that is asked for gets at least one document; 0, or -1 and err_set where there are too few.
typedef enum { PART_TRAIN, PART_VALID, PART_TEST } split_part;
int split_documents(uint8_t *parts, char *const *task, char *const *id, int n, double train, double test,
                    uint64_t seed);
