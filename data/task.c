// task - files and splits of the tasks. Contracts in task.h; the tasks in task_form.c, the texts of their documents in
// task_example.c.
#include "task.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "gz.h"
#include "task_form.h"
#include "text.h"

const char *const split_names[] = {"train", "val", "test", NULL};
enum { SPLITS = 3 };

// ---------------------------------------------------------------- small things
static const task_form *form_find(const char *name) {
    for (const task_form *f = task_forms; f->name; f++)
        if (!strcmp(f->name, name)) return f;
    char known[256] = "";
    for (const task_form *f = task_forms; f->name; f++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, " %s", f->name);
    }
    err_set("unknown task %s; the tasks are:%s", name, known);
    return NULL;
}

int task_select(const char *list, bool take[TASK_COUNT]) {
    int n = 0, taken = 0;
    char **name = cli_split(list, &n);
    for (int i = 0; i < n && taken >= 0; i++) {
        bool all = !strcmp(name[i], "all");
        if (!all && !form_find(name[i])) taken = -1;
        for (int k = 0; k < TASK_COUNT && taken >= 0; k++)
            if ((all || !strcmp(name[i], task_names[k])) && !take[k]) take[k] = true, taken++;
    }
    free(name);
    return taken == 0 ? err_set("no task is named; give all or some of them") : taken;
}

static bool has_prefix(const char *s, const char *prefix) { return !strncmp(s, prefix, strlen(prefix)); }

// Of a file that may end in .gz after it.
static bool has_suffix(const char *file, const char *suffix) {
    size_t n = strlen(file) - (gz_named(file) ? strlen(".gz") : 0), m = strlen(suffix);
    return n >= m && !strncmp(file + n - m, suffix, m);
}

// Index into split_names of a file or split name; -1: none.
static int split_of(const char *name) {
    if (has_prefix(name, "train")) return 0;
    if (has_prefix(name, "val") || has_prefix(name, "dev")) return 1;
    return has_prefix(name, "test") ? 2 : -1;
}

// "dir/valid.jsonl" or "dir/valid.jsonl.gz" -> "dir/valid-labels.lst"
static char *labels_path(const char *path) {
    size_t n = strlen(path) - (gz_named(path) ? strlen(".gz") : 0), dot = n;
    while (dot > 0 && path[dot - 1] != '.' && path[dot - 1] != '/') dot--;
    if (dot > 0 && path[dot - 1] == '.') n = dot - 1;
    return xasprintf("%.*s-labels.lst", (int)n, path);
}

// hash becomes that of the two hashes' digits.
static void hash_join(char hash[33], const char *next) {
    char both[64];
    memcpy(both, hash, 32);
    memcpy(both + 32, next, 32);
    hash_bytes(hash, both, sizeof both);
}

static void doc_free(task_doc *d) {
    for (int i = 0; i < TASK_MAX_CHOICES; i++) {
        bool shared = false;
        for (int j = 0; j < i; j++) shared |= d->context[j] == d->context[i];
        if (!shared) free(d->context[i]);
        free(d->choice[i]);
    }
    free(d->id);
    free(d->gold_compat);
}

void task_close(task_split *s) {
    for (int i = 0; i < s->n; i++) doc_free(&s->docs[i]);
    free(s->docs);
    free(s->split);
    free(s->file);
    *s = (task_split){0};
}

// ---------------------------------------------------------------- one file
typedef struct {
    const char *p, *end;
    int line;
} lines;

// The next line without its line end; the blank ones that may end a file are not lines. NULL at the end.
static const char *next_line(lines *l, size_t *n) {
    const char *rest = l->p;
    while (rest < l->end && strchr(" \t\r\n", *rest) && *rest) rest++;
    if (rest == l->end) return NULL;
    const char *start = l->p, *feed = memchr(start, '\n', (size_t)(l->end - start)), *stop = feed ? feed : l->end;
    l->p = feed ? feed + 1 : l->end;
    l->line++;
    if (stop > start && stop[-1] == '\r') stop--;
    *n = (size_t)(stop - start);
    return start;
}

static json_t *parse_json(const char *line, size_t n, const char *path, int number) {
    json_error_t e;
    json_t *row = json_loadb(line, n, JSON_REJECT_DUPLICATES, &e);
    if (json_is_object(row)) return row;
    if (row) {
        err_set("%s:%d: row: is not a JSON object; want one {...} on each line", path, number);
    } else {
        char *near = strstr(e.text, " near ");  // what follows quotes the file and may hold anything
        if (near) *near = 0;
        err_set("%s:%d: row: is not JSON, at byte %d: %s", path, number, e.position, e.text);
    }
    json_decref(row);
    return NULL;
}

// A TSV row as a JSON object under the header's names, so that tasks see one form only.
static json_t *parse_tsv(const char *line, size_t n, const char *head, size_t n_head, const char *path, int number) {
    json_t *row = json_object();
    for (const char *end = line + n, *head_end = head + n_head;; line++, head++) {
        const char *stop = memchr(line, '\t', (size_t)(end - line)),
                   *head_stop = memchr(head, '\t', (size_t)(head_end - head));
        if (!stop != !head_stop) {
            err_set("%s:%d: row: has %s columns than the header", path, number, stop ? "more" : "fewer");
            break;
        }
        if (!stop) stop = end;
        if (!head_stop) head_stop = head_end;
        char *name = xstrndup(head, (size_t)(head_stop - head));
        json_t *value = memchr(line, 0, (size_t)(stop - line)) ? NULL : json_stringn(line, (size_t)(stop - line));
        int bad = 0;
        if (!value)
            bad = err_set("%s:%d: %s: is not UTF-8", path, number, name);
        else if (json_object_get(row, name))
            bad = err_set("%s:1: header: two columns have one name", path);
        else if (json_object_set(row, name, value))
            bad = err_set("%s:1: header: is not UTF-8", path);
        json_decref(value);
        free(name);
        if (bad) break;
        line = stop;
        head = head_stop;
        if (line == end) return row;
    }
    json_decref(row);
    return NULL;
}

static char *row_id(const json_t *v) {
    if (json_is_integer(v)) return xasprintf("%lld", (long long)json_integer_value(v));
    const char *text = json_string_value(v);
    return text && *text ? xstrdup(text) : NULL;
}

int task_parse(task_split *s, const char *name, const char *bytes, size_t n, const char *labels, size_t n_labels,
               const char *path) {
    *s = (task_split){0};
    const task_form *form = form_find(name);
    if (!form) return -1;
    const char *slash = strrchr(path, '/');
    int split = split_of(slash ? slash + 1 : path), cap = 0;
    *s = (task_split){
        .name = form->name, .split = xstrdup(split < 0 ? "rows" : split_names[split]), .file = xstrdup(path)};
    hash_bytes(s->hash, bytes, n);
    char *label_file = labels_path(path);
    if (n >= 3 && !memcmp(bytes, "\xef\xbb\xbf", 3)) bytes += 3, n -= 3;  // a byte-order mark
    const char *label_lines = labels ? labels : "";
    lines rows = {bytes, bytes + n, 0}, marks = {label_lines, label_lines + (labels ? n_labels : 0), 0};
    size_t n_head = 0, len;
    bool tsv = form->tsv && has_suffix(path, ".tsv");
    const char *head = tsv ? next_line(&rows, &n_head) : NULL, *line;
    int bad = 0;
    while (!bad && (line = next_line(&rows, &len))) {
        task_row r = {.path = path, .label_path = label_file, .line = rows.line};
        char *label = NULL;
        if (labels) {
            size_t n_label;
            const char *mark = next_line(&marks, &n_label);
            if (!mark) {
                bad = err_set("%s:%d: %s: missing; it has fewer lines than %s has rows", label_file, marks.line + 1,
                              form->label, path);
                break;
            }
            r.label = label = xstrndup(mark, n_label);
        }
        r.json = tsv ? parse_tsv(line, len, head, n_head, path, rows.line) : parse_json(line, len, path, rows.line);
        task_doc d = {.gold = -1};
        bad = r.json ? 0 : -1;
        if (!bad) {
            d.id = row_id(json_object_get(r.json, form->id));
            form->read(&d, &r);
            bad = r.bad ? -1 : 0;
        }
        if (d.gold >= 0 && !bad) d.gold_compat = xstrdup(d.choice[d.gold] + form->bare_gold);
        if (s->n == 0)
            s->labelled = d.gold >= 0;
        else if (!bad && s->labelled != (d.gold >= 0))
            bad = err_set("%s:%d: %s: is %s, unlike in the rows before", path, rows.line, form->label,
                          s->labelled ? "missing" : "there");
        VEC_PUSH(s->docs, s->n, cap, d);
        json_decref(r.json);
        free(label);
    }
    if (!bad && labels && next_line(&marks, &len))
        bad = err_set("%s:%d: %s: too many; %s has only %d rows", label_file, marks.line, form->label, path, s->n);
    if (!bad && s->n == 0) bad = err_set("%s: holds no rows", path);
    free(label_file);
    if (bad) task_close(s);
    return bad;
}

// ---------------------------------------------------------------- splits
static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Sorted hashes of what the documents say; caller frees.
static uint64_t *doc_hashes(const task_split *s) {
    uint64_t *h = xmalloc((size_t)s->n * sizeof *h);
    for (int i = 0; i < s->n; i++) {
        const task_doc *d = &s->docs[i];
        h[i] = rng_hash((uint64_t)d->gold, 0, 0);
        for (int c = 0; c < d->n_choices; c++)
            h[i] = rng_hash(h[i], hash64(d->context[c], strlen(d->context[c])),
                            hash64(d->choice[c], strlen(d->choice[c])));
    }
    qsort(h, (size_t)s->n, sizeof *h, compare_u64);
    return h;
}

static bool contains(const uint64_t *big, int n, const uint64_t *small, int m) {
    int i = 0, j = 0;
    while (j < m) {
        while (i < n && big[i] < small[j]) i++;
        if (i == n || big[i] != small[j]) return false;
        j++;
    }
    return true;
}

// Keeps, of two parts of which one contains the other, the larger (of equal ones the first). Returns how many are left.
static int drop_contained(task_split *part, int n) {
    uint64_t **hash = xcalloc((size_t)n, sizeof *hash);
    bool *drop = xcalloc((size_t)n, sizeof *drop);
    for (int i = 0; i < n; i++) hash[i] = doc_hashes(&part[i]);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (i != j && !drop[i] && contains(hash[i], part[i].n, hash[j], part[j].n)) drop[j] = true;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        free(hash[i]);
        if (drop[i])
            task_close(&part[i]);
        else
            part[kept++] = part[i];
    }
    free(hash);
    free(drop);
    return kept;
}

static int part_open(task_split *s, const char *dir, const task_form *form, const char *file) {
    char *path = xasprintf("%s/%s/%s", dir, form->name, file), *label_file = labels_path(path), *labels = NULL;
    size_t n = 0, n_labels = 0;
    char *bytes = gz_read(path, &n);
    int bad = bytes ? 0 : -1;
    if (!bad && file_exists(label_file)) bad = (labels = file_read(label_file, &n_labels)) ? 0 : -1;
    if (!bad) bad = task_parse(s, form->name, bytes, n, labels, n_labels, path);
    if (!bad) {
        free(s->file);
        s->file = labels ? xasprintf("%s/%s,%s", form->name, file, label_file + strlen(dir) + 1)
                         : xasprintf("%s/%s", form->name, file);
        if (labels) {
            char second[33];
            hash_bytes(second, labels, n_labels);
            hash_join(s->hash, second);
        }
    }
    free(path);
    free(label_file);
    free(bytes);
    free(labels);
    return bad;
}

// part[0..n) become *s, in the order of their names.
static int merge(task_split *s, task_split *part, int n) {
    *s = part[0];
    for (int i = 1; i < n; i++) {
        task_split *p = &part[i];
        if (p->labelled != s->labelled)
            return err_set("%s: one of its rows has no label, but those of %s have; keep them in different splits",
                           s->labelled ? p->file : s->file, s->labelled ? s->file : p->file);
        char *files = xasprintf("%s,%s", s->file, p->file);
        hash_join(s->hash, p->hash);
        free(s->file);
        s->file = files;
        s->docs = xrealloc(s->docs, (size_t)(s->n + p->n) * sizeof *s->docs);
        memcpy(s->docs + s->n, p->docs, (size_t)p->n * sizeof *s->docs);
        s->n += p->n;
        p->n = 0;
        task_close(p);
    }
    for (int i = 0; i < s->n; i++)
        if (!s->docs[i].id) s->docs[i].id = xasprintf("%s/%d", s->split, i);
    return 0;
}

int task_keep_part(task_split *s, doc_part p) {
    if (!p.n) return 0;
    int n, kept = 0;
    int32_t *member = doc_part_members(p, s->name, s->n, &n);
    for (int i = 0; i < s->n; i++) {
        if (kept < n && member[kept] == i)
            s->docs[kept++] = s->docs[i];
        else
            doc_free(&s->docs[i]);
    }
    free(member);
    const int all = s->n;
    s->n = n;
    s->part = p;
    return n ? 0 : err_set("%s: part %d/%d of %d documents is empty; take fewer parts", s->file, p.i, p.n, all);
}

typedef struct {
    struct dirent **entry;
    int n;
} folder;

static void folder_close(folder *f) {
    for (int i = 0; i < f->n; i++) free(f->entry[i]);
    free(f->entry);
    *f = (folder){0};
}

static bool folder_has(const folder *f, const char *suffix) {
    for (int i = 0; i < f->n; i++)
        if (has_suffix(f->entry[i]->d_name, suffix)) return true;
    return false;
}

static bool is_rows(const task_form *form, const char *file) {
    return has_suffix(file, ".jsonl") || has_suffix(file, ".json") || (form->tsv && has_suffix(file, ".tsv"));
}

// 1: read; 0: no such file; -1: bad.
static int split_open(task_split *s, const char *dir, const task_form *form, const folder *f, int split) {
    *s = (task_split){0};
    task_split *part = xcalloc((size_t)f->n + 1, sizeof *part);
    int n = 0, bad = 0;
    for (int i = 0; i < f->n && !bad; i++) {
        const char *file = f->entry[i]->d_name;
        if (split_of(file) == split && is_rows(form, file)) bad = part_open(&part[n++], dir, form, file);
    }
    if (!bad && n > 0) {
        n = drop_contained(part, n);
        bad = merge(s, part, n);
    }
    if (bad) {
        if (s->docs) part[0] = (task_split){0};  // merge has moved it
        for (int i = 0; i < n; i++) task_close(&part[i]);
        task_close(s);
    }
    free(part);
    return bad ? -1 : n > 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

// -1: it cannot be read.
static int folder_open(folder *f, const char *dir, const char *name) {
    char *path = xasprintf("%s/%s", dir, name);
    *f = (folder){0};
    f->n = scandir(path, &f->entry, NULL, by_name);
    free(path);
    if (f->n >= 0) return 0;
    *f = (folder){0};
    return err_set(
        "%s/%s: cannot read this folder; data/README.md says where the task %s is published and what to put there", dir,
        name, name);
}

bool task_exists(const char *dir, const char *name, const char *split) {
    const task_form *form = form_find(name);
    folder f;
    bool there = false;
    if (!form || folder_open(&f, dir, name)) return false;
    for (int i = 0; i < f.n && !there; i++)
        there = split_of(f.entry[i]->d_name) == split_of(split) && is_rows(form, f.entry[i]->d_name);
    folder_close(&f);
    return there;
}

bool task_there(const char *dir, const char *name) {
    for (const char *const *split = split_names; *split; split++)
        if (task_exists(dir, name, *split)) return true;
    return false;
}

int task_open(task_split *s, const char *dir, const char *name, const char *want, bool for_score) {
    *s = (task_split){0};
    const task_form *form = form_find(name);
    if (!form) return -1;
    int order[SPLITS + 1], n_order = 0;
    if (want) {
        int split = split_of(want);
        if (split < 0) return err_set("unknown split %s; there are: train val test", want);
        order[n_order++] = split;
    } else if (for_score) {
        for (int i = 0; i < SPLITS; i++) order[n_order++] = i;
    } else {
        const int rest[] = {1, 2, 0};
        order[n_order++] = split_of(form->split);
        for (int i = 0; i < SPLITS; i++)
            if (rest[i] != order[0]) order[n_order++] = rest[i];
    }
    folder f;
    int found = folder_open(&f, dir, name), there = 0;
    for (int i = 0; i < n_order && found == 0; i++) {
        found = split_open(s, dir, form, &f, order[i]);
        if (found == 1) there++;
        if (found == 1 && !want && !s->labelled) {
            task_close(s);
            found = 0;
        }
    }
    if (found == 0 && want)
        err_set("%s/%s: has no %s split; want a file called %s*", dir, name, split_names[order[0]],
                order[0] == 1 ? "val* or dev" : split_names[order[0]]);
    else if (found == 0 && there)
        err_set("%s/%s: no split has labels (%s, or a file NAME-labels.lst)", dir, name, form->label);
    else if (found == 0)
        err_set("%s/%s: has no file called train*, val*, dev* or test* (.jsonl%s, .gz after it or not)%s", dir, name,
                form->tsv ? ", .tsv" : "", folder_has(&f, ".parquet") ? "; data/from_hub.py converts .parquet" : "");
    if (found == 1 && !want && !for_score && !strcmp(s->split, "train"))
        log_info("warning: %s is evaluated on its training split, as there is no other with labels", name);
    folder_close(&f);
    return found == 1 ? 0 : -1;
}

const task_split *task_pool_open(task_split *s, const char *dir, const task_split *target) {
    *s = (task_split){0};
    if (!strcmp(target->split, "train") || !task_exists(dir, target->name, "train")) return target;
    if (task_open(s, dir, target->name, "train", true)) return NULL;
    if (s->labelled) return task_keep_part(s, target->part) ? NULL : s;
    task_close(s);
    return target;
}
