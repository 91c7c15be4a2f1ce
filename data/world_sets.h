// world_sets - the files of the world: text, held-out pages, and seven task sets in their authors' forms.
#pragma once
#include "world.h"

typedef struct {
    long tokens;
    int train, valid;
    uint64_t seed;
} world_size;
typedef struct {
    long bytes, words, sentences, vocabulary, questions, dropped;
    int templates, pages;
} world_counts;

// Strings that the text must not contain: a table over their first PROBE bytes.
typedef struct {
    char **s;
    int n, cap;
    int32_t *slot;
    int slots;
} world_probes;
void world_probes_add(world_probes *p, const char *s);
int world_probes_count(const world_probes *p, const char *text, size_t n);  // places where one of them stands
void world_probes_free(world_probes *p);

extern const char *const world_task_names[WORLD_TASKS];
// Writes everything under dir (made if missing). -1 and err_set.
int world_write(const char *dir, const world_size *size, world_counts *counts);
void world_count_words(const char *text, size_t n, world_counts *counts);

// ---------------------------------------------------------------- checking what was written (world_check.c)
enum { BY_LONGEST, BY_SHORTEST, BY_FIRST, BY_LAST, BY_TEXT, BLIND };  // ways to choose without reading the question
extern const char *const world_blind_names[BLIND];
typedef struct {
    int rows[2];  // of the training and the validation set
    // mean of 1 / candidates; accuracy of each way. BY_TEXT: the candidate most often gold in the other set
    double chance, blind[2][BLIND];
    int leaked;  // validation questions that stand in the text, or in the training set, with their answer
} world_set_report;
typedef struct {
    world_set_report set[WORLD_TASKS];
    world_counts text;
    int facts, untold;  // facts of the tables; those that no paragraph of the text tells
    char first_untold[128];
} world_report;
bool world_told(const world *w, int table, int row, int column, const char *text);  // or there is no such fact
int world_check(const char *dir, world_report *r);  // -1 and err_set when something cannot be read

// ---------------------------------------------------------------- what a model makes of it (world_model.c)
typedef struct {
    double chance[WORLD_TASKS], accuracy[WORLD_TASKS];  // of the validation set, zero-shot
    // training, validation: the candidate likeliest without its question
    double blind[WORLD_TASKS][2];
} world_model_report;
int world_check_model(const char *dir, const char *model, world_model_report *r);  // -1 and err_set
