// documents - which documents the scores of a file have seen, so that an evaluation on the same ones can be refused.
// Stores, aggregates and predictor files hold it:
//   /documents/<task>/<split>/id  ids of the documents that were scored or shown as few-shot examples, sorted by bytes;
//                                 attributes of the group: task, split, hash (of the files, as bin/tasks lists it),
//                                 files, what
//   /documents/<task>             without a split: the task was scored by a version that kept no ids
// A document is the same if task, hash and id are.
#pragma once
#include "store.h"
#include "task.h"

// All return 0, or -1 and err_set.
// The documents of a split that are marked in seen [split->n]; if none is, nothing is written.
int documents_put(store *s, const task_split *split, const bool *seen);
int documents_put_unknown(store *s, const char *task);
// The records of every task; a file without a record gives none.
int documents_copy(store *to, const store *from);
// The record of one task, which becomes unknown if the file has no record of it.
int documents_copy_task(store *to, const store *from, const char *task);
// How many of the documents marked in asked [split->n] the file's scores have seen; *known: whether its record says so.
int documents_overlap(long *n, bool *known, const store *s, const task_split *split, const bool *asked);
