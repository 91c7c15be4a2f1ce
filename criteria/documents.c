// documents - reading and writing the record of the documents that scores have seen. Layout and contract in documents.h.
#include "documents.h"
#include <stdlib.h>
#include <string.h>

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int documents_put(store *s, const task_split *split, const bool *seen) {
    int n = 0;
    char **id = xcalloc((size_t)split->n + 1, sizeof *id);
    for (int i = 0; i < split->n; i++)
        if (seen[i]) id[n++] = split->docs[i].id;
    qsort(id, (size_t)n, sizeof *id, by_text);
    char *group = xasprintf("/documents/%s/%s", split->name, split->split), *name = xasprintf("%s/id", group);
    const bool bad = n > 0 && (store_put_names(s, name, n, id) || store_put_text(s, group, "task", split->name) ||
                               store_put_text(s, group, "split", split->split) || store_put_text(s, group, "hash", split->hash) ||
                               store_put_text(s, group, "files", split->file) ||
                               store_put_text(s, group, "what", "documents that were scored, or shown as few-shot examples before one that was"));
    free(name);
    free(group);
    free(id);
    return bad ? -1 : 0;
}

int documents_put_unknown(store *s, const char *task) {
    char *group = xasprintf("/documents/%s", task);
    const int bad = store_put_text(s, group, "what", "not known: scored by a version that kept no ids of few-shot examples");
    free(group);
    return bad;
}

int documents_copy(store *to, const store *from) { return store_has(from, "/documents") ? store_copy(to, from, "/documents") : 0; }

int documents_copy_task(store *to, const store *from, const char *task) {
    char *group = xasprintf("/documents/%s", task);
    const int bad = store_has(from, group) ? store_copy(to, from, group) : documents_put_unknown(to, task);
    free(group);
    return bad;
}

// Those of one recorded split, if it is the same.
static int count_same(long *n, const store *s, const char *group, const task_split *split, const bool *asked) {
    char *hash = store_attr(s, group, "hash"), *name = xasprintf("%s/id", group), **id = NULL;
    long dim[3] = {0};
    int bad = 0;
    if (hash && strcmp(hash, split->hash) == 0) bad = store_shape(s, name, dim) == 1 && (id = store_read_names(s, name, dim[0])) ? 0 : -1;
    for (int i = 0; id && i < split->n; i++)
        *n += asked[i] && bsearch(&split->docs[i].id, id, (size_t)dim[0], sizeof *id, by_text);
    for (long i = 0; id && i < dim[0]; i++) free(id[i]);
    free(id);
    free(name);
    free(hash);
    return bad;
}

int documents_overlap(long *n, bool *known, const store *s, const task_split *split, const bool *asked) {
    int n_splits, bad = 0;
    char *group = xasprintf("/documents/%s", split->name), **name = store_list(s, group, &n_splits);
    *n = 0;
    *known = n_splits > 0 || (store_has(s, "/documents") && !store_has(s, group));
    for (int i = 0; i < n_splits && !bad; i++) {
        char *of = xasprintf("%s/%s", group, name[i]);
        bad = count_same(n, s, of, split, asked);
        free(of);
    }
    free(name);
    free(group);
    return bad;
}
