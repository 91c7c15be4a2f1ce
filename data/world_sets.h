// world_sets - the files of the world: text, held-out pages, and seven task sets in their authors' forms.
#pragma once
#include "world.h"

typedef struct { long tokens; int train, valid; uint64_t seed; } world_size;
typedef struct { long bytes, words, sentences, vocabulary, questions, dropped; int templates, pages; } world_counts;

// Strings that the text must not contain: a table over their first PROBE bytes.
typedef struct { char **s; int n, cap; int32_t *slot; int slots; } world_probes;
void world_probes_add(world_probes *p, const char *s);
bool world_probes_in(const world_probes *p, const char *text, size_t n, const char **found);
void world_probes_free(world_probes *p);

extern const char *const world_task_names[WORLD_TASKS];
// Writes everything under dir (made if missing). -1 and err_set.
int world_write(const char *dir, const world_size *size, world_counts *counts);
void world_count_words(const char *text, size_t n, world_counts *counts);
// Rows of a split as it was written; needed to check it. rows is a growing array of `question`.
typedef struct { question *q; int n, cap; } world_rows;
int  world_rows_read(world_rows *r, const char *dir, int task, bool valid);
void world_rows_free(world_rows *r);
