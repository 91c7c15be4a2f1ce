// world_check - is a written world fair and complete? Reads the files back as any program of the project does.
#include "task.h"
#include "world_sets.h"
#include <stdlib.h>
#include <string.h>

const char *const world_blind_names[BLIND] = {"longest", "shortest", "first", "last", "by text"};

// ---------------------------------------------------------------- choosing without the question
typedef struct {
    const char *text;
    int gold, seen;
} habit;  // how often a candidate was the gold one

static int by_habit(const void *a, const void *b) { return strcmp(((const habit *)a)->text, ((const habit *)b)->text); }

static habit *habits(const task_split *s, int *n) {
    int cap = 0, m = 0;
    habit *h = NULL;
    *n = 0;
    for (int i = 0; i < s->n; i++)
        for (int c = 0; c < s->docs[i].n_choices; c++) {
            const habit one = {s->docs[i].choice[c], c == s->docs[i].gold, 1};
            VEC_PUSH(h, *n, cap, one);
        }
    qsort(h, (size_t)*n, sizeof *h, by_habit);
    for (int i = 0; i < *n; i++)
        if (m && strcmp(h[m - 1].text, h[i].text) == 0)
            h[m - 1].gold += h[i].gold, h[m - 1].seen++;
        else
            h[m++] = h[i];
    *n = m;
    return h;
}

static double habit_of(const habit *h, int n, const char *text) {
    const habit key = {text, 0, 0}, *at = n ? bsearch(&key, h, (size_t)n, sizeof *h, by_habit) : NULL;
    return at ? (double)at->gold / at->seen : 0;
}

static double value_by(int rule, double size, int choice, const habit *h, int n, const char *text) {
    switch (rule) {
    case BY_LONGEST: return size;
    case BY_SHORTEST: return -size;
    case BY_FIRST: return -choice;
    case BY_LAST: return choice;
    default: return habit_of(h, n, text);
    }
}

// The share of rows that a rule gets right; of equals it takes all, each with its part.
static void blind(const task_split *s, const habit *h, int n_habits, double out[BLIND]) {
    for (int rule = 0; rule < BLIND; rule++) {
        double right = 0;
        for (int i = 0; i < s->n; i++) {
            const task_doc *d = &s->docs[i];
            double best = -1e9;
            int ties = 0, hit = 0;
            for (int c = 0; c < d->n_choices; c++) {
                // winogrande's candidate is what its option does to the context; the rest of the sentence is the same
                const double size =
                    (double)(strlen(d->choice[c]) + (d->context[0] == d->context[1] ? 0 : strlen(d->context[c])));
                const double v = value_by(rule, size, c, h, n_habits, d->choice[c]);
                if (v > best) best = v, ties = hit = 0;
                ties += v == best;
                hit += v == best && c == d->gold;
            }
            right += (double)hit / ties;
        }
        out[rule] = right / s->n;
    }
}

static char *put(const task_doc *d) { return xasprintf("%s%s", d->context[d->gold], d->choice[d->gold]); }

static int check_set(const char *dir, int task, const char *text, size_t bytes, world_set_report *r) {
    const char *want[2] = {"train", "val"};
    task_split s[2] = {{0}, {0}};
    int bad = 0;
    for (int v = 0; v < 2 && !bad; v++) bad = task_open(&s[v], dir, world_task_names[task], want[v], false);
    if (!bad) {
        habit *h[2];
        int n[2];
        for (int v = 0; v < 2; v++) h[v] = habits(&s[v], &n[v]);
        for (int v = 0; v < 2; v++) {
            r->rows[v] = s[v].n;
            blind(&s[v], h[!v], n[!v], r->blind[v]);
        }
        for (int i = 0; i < s[1].n; i++) r->chance += 1.0 / s[1].docs[i].n_choices / s[1].n;
        world_probes held = {0};
        for (int i = 0; i < s[1].n; i++) {
            char *p = put(&s[1].docs[i]);
            world_probes_add(&held, p);
            free(p);
        }
        r->leaked = world_probes_count(&held, text, bytes);
        for (int i = 0; i < s[0].n; i++) {
            char *p = put(&s[0].docs[i]);
            r->leaked += world_probes_count(&held, p, strlen(p));
            free(p);
        }
        world_probes_free(&held);
        for (int v = 0; v < 2; v++) free(h[v]);
    }
    for (int v = 0; v < 2; v++) task_close(&s[v]);
    return bad ? -1 : 0;
}

// ---------------------------------------------------------------- facts
// The longest run of plain text of a template, without the marks of nouns: what must stand in the text if the fact
// does.
static char *plain(const char *cell) {
    const char *best = cell;
    size_t most = 0;
    for (const char *p = cell; *p;) {
        const size_t k = strcspn(p, "{");
        if (k > most) best = p, most = k;
        p += k;
        if (*p) p += strcspn(p, "}") + 1;
    }
    while (most && strchr("~+ ", *best)) best++, most--;
    while (most && best[most - 1] == ' ') most--;
    return xstrndup(best, most);
}

// Is there a paragraph that holds both?
static bool told(const char *text, const char *a, const char *b) {
    for (const char *p = text; (p = strstr(p, a)); p++) {
        const char *from = p, *end = strstr(p, "\n\n");
        while (from > text && !(from[0] == '\n' && from[-1] == '\n')) from--;
        if (memmem(from, end ? (size_t)(end - from) : strlen(from), b, strlen(b))) return true;
    }
    return false;
}

// The two pieces of text of a row's property that make a fact, owned by the caller; false: that property is none.
static bool fact(const world *w, int t, int row, int c, char **a, char **b) {
    // who of a cause and doing of a script are manners of speaking; the fact of a cause is the pair of the others
    const bool cause = strcmp(world_tables[t].name, "cause") == 0, script = strcmp(world_tables[t].name, "script") == 0;
    if (c == 0 || strcmp(w->cell[t][row][c], "-") == 0 || (c == 1 && (cause || script))) return false;
    *a = plain(w->cell[t][row][cause]);
    *b = plain(w->cell[t][row][c]);
    return true;
}

bool world_told(const world *w, int table, int row, int column, const char *text) {
    char *a, *b;
    if (!fact(w, table, row, column, &a, &b)) return true;
    const bool is = told(text, a, b);
    free(a);
    free(b);
    return is;
}

static void check_facts(const char *text, world_report *r) {
    world w;
    char *a, *b;
    world_open(&w, 0);
    for (int t = 0; t < w.n_tables; t++)
        for (int i = 0; i < w.table_rows[t]; i++)
            for (int c = 1; c < w.table_cols[t]; c++) {
                if (!fact(&w, t, i, c, &a, &b)) continue;
                r->facts++;
                if (!told(text, a, b) && !r->untold++)
                    snprintf(r->first_untold, sizeof r->first_untold, "%s: %s", a, b);
                free(a);
                free(b);
            }
    world_close(&w);
}

int world_check(const char *dir, world_report *r) {
    *r = (world_report){0};
    char *path = xasprintf("%s/text/world.txt", dir);
    size_t bytes;
    char *text = file_read(path, &bytes);
    free(path);
    int bad = text ? 0 : -1;
    for (int t = 0; t < WORLD_TASKS && !bad; t++) bad = check_set(dir, t, text, bytes, &r->set[t]);
    if (!bad) {
        world_count_words(text, bytes, &r->text);
        r->text.templates = world_template_count();
        check_facts(text, r);
    }
    free(text);
    return bad;
}
