// documents - reading and writing the record of the documents that scores have seen. Layout and contract: documents.h.
#include "documents.h"
#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// ---------------------------------------------------------------- writing
static int put_ids(store *s, const task_split *split, int n, char *const *id) {
    char *group = xasprintf("/documents/%s/%s", split->name, split->split), *name = xasprintf("%s/id", group);
    const struct {
        const char *key, *text;
    } attr[] = {
        {"task", split->name},
        {"split", split->split},
        {"hash", split->hash},
        {"files", split->file},
        {"what", "documents that were scored, or shown as few-shot examples before one that was"},
    };
    int bad = store_put_names(s, name, n, id);
    for (size_t i = 0; i < sizeof attr / sizeof *attr && !bad; i++)
        bad = store_put_text(s, group, attr[i].key, attr[i].text);
    free(name);
    free(group);
    return bad;
}

int documents_put(store *s, const task_split *split, const bool *seen) {
    int n = 0;
    char **id = xcalloc((size_t)split->n, sizeof *id);
    for (int i = 0; i < split->n; i++)
        if (seen[i]) id[n++] = split->docs[i].id;
    qsort(id, (size_t)n, sizeof *id, by_text);
    const int bad = n > 0 ? put_ids(s, split, n, id) : 0;
    free(id);
    return bad;
}

int documents_put_unknown(store *s, const char *task) {
    char *group = xasprintf("/documents/%s", task);
    const int bad = store_put_text(s, group, "what", "not known: scored by a version that kept no ids");
    free(group);
    return bad;
}

int documents_copy(store *to, const store *from) {
    return store_has(from, "/documents") ? store_copy(to, from, "/documents") : 0;
}

int documents_copy_task(store *to, const store *from, const char *task) {
    char *group = xasprintf("/documents/%s", task);
    const int bad = store_has(from, group) ? store_copy(to, from, group) : documents_put_unknown(to, task);
    free(group);
    return bad;
}

// ---------------------------------------------------------------- reading
// Adds those of one recorded split to *n.
static int count_in(long *n, const store *s, const char *group, const task_split *split, const bool *asked) {
    char *name = xasprintf("%s/id", group);
    long dim[3];
    char **id = store_shape(s, name, dim) == 1 ? store_read_names(s, name, dim[0]) : NULL;
    free(name);
    if (!id) return -1;
    for (int i = 0; i < split->n; i++)
        if (asked[i] && bsearch(&split->docs[i].id, id, (size_t)dim[0], sizeof *id, by_text)) ++*n;
    for (long i = 0; i < dim[0]; i++) free(id[i]);
    free(id);
    return 0;
}

int documents_overlap(long *n, bool *known, const store *s, const task_split *split, const bool *asked) {
    int n_splits, bad = 0;
    char *task = xasprintf("/documents/%s", split->name), **name = store_list(s, task, &n_splits);
    *n = 0;
    *known = n_splits > 0 || (store_has(s, "/documents") && !store_has(s, task));
    for (int i = 0; i < n_splits && !bad; i++) {
        char *group = xasprintf("%s/%s", task, name[i]), *hash = store_attr(s, group, "hash");
        if (hash && strcmp(hash, split->hash) == 0) bad = count_in(n, s, group, split, asked);
        free(hash);
        free(group);
    }
    free(name);
    free(task);
    return bad;
}
