// task_form - how a row of each task becomes a document: the seam between task.c (files, splits, prompts) and
// task_form.c (the tasks themselves). A new task is one function and one line of the table in task_form.c.
#pragma once
#include <jansson.h>
#include "task.h"

typedef struct {
    const char *path, *label_path;  // for messages
    int line;
    json_t *json;       // an object; a TSV row has been made one
    const char *label;  // the line of the labels file, or NULL
    bool bad;           // a getter has failed and err_get says how; the later ones return harmless values
} task_row;

typedef struct {
    const char *name, *split;  // the labelled split of the published evaluation
    // the published trace extraction scores the gold continuation without its leading space
    bool bare_gold;
    bool tsv;                                // published as TSV, too
    const char *id, *label;                  // fields; id may be absent from a row
    void (*read)(task_doc *d, task_row *r);  // fills n_choices, context, choice and gold
} task_form;

extern const task_form task_forms[];  // ends with a NULL name
