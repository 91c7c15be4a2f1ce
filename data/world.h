// world - a small consistent world in plain English: its facts as tables, its sentences as templates, and the texts and
// task sets made from both. Everything is drawn from one seed.
//
// Templates are strings with slots {[form ]name}:
//   name: P Q R, persons; x, the first column of the current row, x.column another column of it; y likewise, a second
//   row;
//         #list, a word of a list, the same one throughout a text; #list2 a different word of the same list.
//   form: a an/a word ("an owl"); the; s (plural); he him his (of a person); any of them capitalised (A The S He His)
//   capitalises, ^ alone
//         only capitalises; name, the leading pronoun as a name; pron, the leading name as the column `who`. A noun
//         marked ~ is a mass noun ("some bread"), one marked + stands in the plural ("scissors").
// The filling of a slot may hold slots itself.
#pragma once
#include "base.h"

// columns separated by '|'; rows end with NULL
typedef struct {
    const char *name, *columns;
    const char *const *rows;
} world_table;
typedef struct {
    const char *name;
    const char *words;
} world_list;  // words separated by '|'
typedef struct {
    const char *name;
    bool woman;
} world_person;

// A question form: the rows x of `table` that make up one group differ in `differ`. Context and choice are expanded for
// each row; the question of one row has the choices of all rows of the group. same: NULL, or a column in which the rows
// agree.
typedef struct {
    const char *table, *differ, *same, *context, *choice;
} world_form;
// Premise and hypothesis, of each two variants; the hypothesis is true when both are of the same variant. table: the
// variants are two rows that differ in `differ`, x after the premise and y after the hypothesis. table NULL: the
// second variant has the persons `differ` names (PQ) exchanged, or another word of the list that it names (#colour).
typedef struct {
    const char *table, *differ, *premise, *hypothesis;
} world_entailment;
// Two premises and what the first entails and the second excludes; hypothesis[1], if there is one, the other way round.
// table as in a world_form, or NULL.
typedef struct {
    const char *table, *premise[2], *hypothesis[2];
} world_contrast;
// One sentence about a row of a table (table NULL: about persons and lists only).
typedef struct {
    const char *table, *text;
} world_statement;
// A sentence with _ for one of two options, and what follows it for each.
typedef struct {
    const char *sentence, *option[2], *rest[2];
} world_twin;

// The data: world_words.c, world_facts.c, world_forms.c, world_twins.c, world_entail.c. All end with a NULL name
// (text).
extern const world_table world_tables[];
extern const world_list world_lists[];
extern const world_person world_persons[];
extern const world_form world_arc[], world_obqa[], world_piqa[], world_copa[];
extern const world_contrast world_rte_contrasts[];
extern const world_entailment world_rte_said[], world_rte_roles[], world_rte_known[];
extern const world_statement world_statements[], world_scenes[];
extern const world_twin world_twins[];

// ---------------------------------------------------------------- engine (world_text.c)
typedef struct {
    char *s;
    size_t n, cap;
} prose;  // growable, zero-terminated; {0} is empty
void prose_add(prose *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void prose_clear(prose *t);
void prose_free(prose *t);

enum { WORLD_LISTS = 64, WORLD_TABLES = 16, WORLD_COLUMNS = 8, WORLD_ROWS = 64 };
typedef struct {
    rng r;
    int n_lists, list_n[WORLD_LISTS], n_persons, n_tables, table_rows[WORLD_TABLES], table_cols[WORLD_TABLES];
    char **list_words[WORLD_LISTS];
    char *cell[WORLD_TABLES][WORLD_ROWS][WORLD_COLUMNS];
} world;
// What the slots of one text stand for; drawn when first met. Copies keep what was drawn.
typedef struct {
    int table, x, y, person[3];
    signed char word[WORLD_LISTS][3];
} binding;

void world_open(world *w, uint64_t seed);
void world_close(world *w);
int world_table_find(const world *w, const char *name);
const char *world_cell(const world *w, int table, int row, const char *column);  // column NULL: the first
// a digit at the end of the name is passed over
int world_list_find(const world *w, const char *name);
binding world_binding(void);  // nothing drawn yet
// the persons ("PQ"), or two words of the list ("#colour")
void world_draw(world *w, binding *b, const char *differ);
// Appends the filled template, its first letter capitalised when `sentence`. False if the row lacks a property it needs
// ("-").
bool world_fill(world *w, binding *b, prose *out, const char *tmpl, bool sentence);

// ---------------------------------------------------------------- questions (world_ask.c)
enum { WORLD_TASKS = 7, GROUP_MAX = 4 };
enum { PIQA, COPA, OPENBOOKQA, WINOGRANDE, RTE, HELLASWAG, ARC_EASY };
// One row. head and tail are the fields before the choices as the task's files have them: piqa goal; copa premise;
// openbookqa stem; arc_easy question; winogrande sentence; rte sentence1, sentence2; hellaswag ctx_a, ctx_b with the
// activity in label.
typedef struct {
    char *head, *tail, *label, *choice[GROUP_MAX];
    int n, gold;
    bool cause;
} question;
// Draws a group of questions in which every candidate is gold as often as every other; returns their number.
int world_ask(world *w, int task, question group[GROUP_MAX]);
void question_free(question *q);
// The question as it is put to the model followed by choice c (METHOD 3.1).
void question_prompt(prose *out, int task, const question *q, int c);

// ---------------------------------------------------------------- prose (world_tell.c)
void world_tell(world *w, prose *out);  // a paragraph or a story
// so many statements about a row, none twice in succession
void world_about(world *w, prose *out, int table, int row, int sentences);
void world_page(world *w, prose *out);              // an encyclopedia page: "= Title =", sections, detokenised
void world_wikitext(prose *out, const char *page);  // the same page in WikiText's raw form
int world_template_count(void);
