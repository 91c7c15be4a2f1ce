// world_sets - draws the sets and the text and writes them. The validation questions come first; whatever is drawn
// later and contains one of them together with its answer is thrown away.
#include "world_sets.h"
#include <errno.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const world_task_names[WORLD_TASKS] = {"piqa", "copa",      "openbookqa", "winogrande",
                                                   "rte",  "hellaswag", "arc_easy"};
static const char *const valid_names[WORLD_TASKS] = {"valid", "val", "dev", "dev", "dev", "val", "dev"};

// ---------------------------------------------------------------- probes
enum { PROBE = 16 };

static uint64_t probe_key(const char *s) {
    uint64_t a, b;
    memcpy(&a, s, 8);
    memcpy(&b, s + 8, 8);
    return (a * 0x9e3779b97f4a7c15u) ^ (b * 0xc2b2ae3d27d4eb4fu) ^ (a >> 29);
}

static int32_t *probe_slot(const world_probes *p, const char *s) {  // the chain of slots where s would start
    return &p->slot[(probe_key(s) >> 20) & (uint64_t)(p->slots - 1)];
}

void world_probes_add(world_probes *p, const char *s) {
    ASSERT(strlen(s) >= PROBE);
    VEC_PUSH(p->s, p->n, p->cap, xstrdup(s));
    int want = 1024;
    while (want < 4 * p->n) want *= 2;
    const bool grown = want != p->slots;
    if (grown) {
        free(p->slot);
        p->slots = want;
        p->slot = xmalloc((size_t)want * sizeof *p->slot);
        memset(p->slot, -1, (size_t)want * sizeof *p->slot);
    }
    for (int i = grown ? 0 : p->n - 1; i < p->n; i++) {
        int32_t *at = probe_slot(p, p->s[i]);
        while (*at >= 0) at = at + 1 < p->slot + p->slots ? at + 1 : p->slot;
        *at = i;
    }
}

int world_probes_count(const world_probes *p, const char *s, size_t n) {
    int found = 0;
    for (size_t i = 0; p->n && i + PROBE <= n; i++)
        for (const int32_t *at = probe_slot(p, s + i); *at >= 0; at = at + 1 < p->slot + p->slots ? at + 1 : p->slot) {
            const size_t k = strlen(p->s[*at]);
            found += i + k <= n && memcmp(s + i, p->s[*at], k) == 0;
        }
    return found;
}

void world_probes_free(world_probes *p) {
    for (int i = 0; i < p->n; i++) free(p->s[i]);
    free(p->s);
    free(p->slot);
    *p = (world_probes){0};
}

// ---------------------------------------------------------------- drawing
typedef struct {
    question *q;
    int n, cap;
} world_rows;

static void rows_free(world_rows *r) {
    for (int i = 0; i < r->n; i++) question_free(&r->q[i]);
    free(r->q);
    *r = (world_rows){0};
}

// At least n rows in whole groups, no question twice; those with a held-out question are passed over.
static void draw_rows(world *w, int task, int n, const world_probes *held, world_probes *seen, world_rows *out) {
    while (out->n < n) {
        question g[GROUP_MAX];
        prose asked[GROUP_MAX] = {0};
        const int k = world_ask(w, task, g);
        bool good = true;
        for (int i = 0; i < k; i++) {
            question_prompt(&asked[i], task, &g[i], g[i].gold);
            good = good && !world_probes_count(held, asked[i].s, asked[i].n) &&
                   !world_probes_count(seen, asked[i].s, asked[i].n);
        }
        for (int i = 0; i < k; i++) {
            if (good) {
                world_probes_add(seen, asked[i].s);
                VEC_PUSH(out->q, out->n, out->cap, g[i]);
            } else
                question_free(&g[i]);
            prose_free(&asked[i]);
        }
    }
}

// One document: some questions of one task with their answers, a paragraph or story, or a page.
static void document(world *w, prose *t, world_counts *c) {
    const uint64_t kind = rng_below(&w->r, 20);
    if (kind < 15) {
        static const int share[] = {PIQA,       PIQA,       COPA,      COPA,      OPENBOOKQA, OPENBOOKQA,
                                    WINOGRANDE, WINOGRANDE, HELLASWAG, HELLASWAG, ARC_EASY,   ARC_EASY,
                                    RTE,        RTE,        RTE,       RTE,       RTE,        RTE};
        const int task = share[rng_below(&w->r, sizeof share / sizeof *share)],
                  n = 1 + (int)rng_below(&w->r, task == RTE ? 6 : 4);
        for (int i = 0; i < n; i++) {
            question g[GROUP_MAX];
            const int k = world_ask(w, task, g), one = (int)rng_below(&w->r, (uint64_t)k);
            if (i) prose_add(t, "\n\n");
            question_prompt(t, task, &g[one], g[one].gold);
            for (int j = 0; j < k; j++) question_free(&g[j]);
        }
        c->questions += n;
        prose_add(t, "\n");
    } else if (kind < 19)
        world_tell(w, t);
    else
        world_page(w, t);
    prose_add(t, "\n");
}

// ---------------------------------------------------------------- writing
static void json(FILE *f, const char *key, const char *s) {
    fprintf(f, "\"%s\": \"", key);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') putc('\\', f);
        putc(*s, f);
    }
    putc('"', f);
}

static void row(FILE *f, FILE *labels, int task, const question *q, const char *split, int i) {
    char id[48];
    snprintf(id, sizeof id, "%s-%s-%d", world_task_names[task], split, i);
    putc('{', f);
    switch (task) {
    case PIQA:
        json(f, "goal", q->head), fputs(", ", f);
        json(f, "sol1", q->choice[0]), fputs(", ", f);
        json(f, "sol2", q->choice[1]);
        fprintf(labels, "%d\n", q->gold);
        break;
    case COPA:
        json(f, "premise", q->head), fputs(", ", f);
        json(f, "choice1", q->choice[0]), fputs(", ", f);
        json(f, "choice2", q->choice[1]);
        fprintf(f, ", \"question\": \"%s\", \"label\": %d, \"idx\": %d", q->cause ? "cause" : "effect", q->gold, i);
        break;
    case WINOGRANDE:
        json(f, "qID", id), fputs(", ", f);
        json(f, "sentence", q->head), fputs(", ", f);
        json(f, "option1", q->choice[0]), fputs(", ", f);
        json(f, "option2", q->choice[1]);
        fprintf(f, ", \"answer\": \"%d\"", q->gold + 1);
        fprintf(labels, "%d\n", q->gold + 1);
        break;
    case RTE:
        json(f, "sentence1", q->head), fputs(", ", f);
        json(f, "sentence2", q->tail);
        fprintf(f, ", \"label\": %d, \"idx\": %d", q->gold, i);
        break;
    case HELLASWAG:
        fprintf(f, "\"ind\": %d, ", i);
        json(f, "activity_label", q->label), fputs(", ", f);
        json(f, "ctx_a", q->head), fputs(", ", f);
        json(f, "ctx_b", q->tail), fputs(", ", f);
        fputs("\"ctx\": \"", f);
        fprintf(f, "%s %s\", \"split\": \"%s\", \"endings\": [", q->head, q->tail, split);
        for (int c = 0; c < q->n; c++) fprintf(f, "%s\"%s\"", c ? ", " : "", q->choice[c]);
        fprintf(f, "], \"label\": %d", q->gold);
        break;
    case OPENBOOKQA:
        json(f, "id", id), fputs(", \"question\": {", f);
        json(f, "stem", q->head), fputs(", \"choices\": [", f);
        for (int c = 0; c < q->n; c++) {
            fputs(c ? ", {" : "{", f);
            json(f, "text", q->choice[c]);
            fprintf(f, ", \"label\": \"%c\"}", 'A' + c);
        }
        fprintf(f, "]}, \"answerKey\": \"%c\"", 'A' + q->gold);
        break;
    default:  // arc_easy
        json(f, "id", id), fputs(", ", f);
        json(f, "question", q->head), fputs(", \"choices\": {\"text\": [", f);
        for (int c = 0; c < q->n; c++) fprintf(f, "%s\"%s\"", c ? ", " : "", q->choice[c]);
        fputs("], \"label\": [", f);
        for (int c = 0; c < q->n; c++) fprintf(f, "%s\"%c\"", c ? ", " : "", 'A' + c);
        fprintf(f, "]}, \"answerKey\": \"%c\"", 'A' + q->gold);
    }
    fputs("}\n", f);
}

static int folder(const char *dir, const char *name) {
    char *path = xasprintf("%s/%s", dir, name);
    const int bad =
        mkdir(path, 0777) && errno != EEXIST ? err_set("%s: cannot make the folder: %s", path, strerror(errno)) : 0;
    free(path);
    return bad;
}

static int write_set(world *w, const char *dir, int task, bool valid, const world_rows *r) {
    const char *name = world_task_names[task], *split = valid ? valid_names[task] : "train";
    const bool labelled = task == PIQA || task == WINOGRANDE;
    file_out f = {0}, l = {0};
    int32_t *order = xmalloc((size_t)r->n * sizeof *order);
    rng_permutation(&w->r, order, r->n);
    char *path = xasprintf("%s/%s/%s.jsonl", dir, name, split),
         *labels = xasprintf("%s/%s/%s-labels.lst", dir, name, split);
    int bad = folder(dir, name) || file_out_open(&f, path) || (labelled && file_out_open(&l, labels));
    for (int i = 0; i < r->n && !bad; i++) row(f.f, l.f, task, &r->q[order[i]], split, i);
    bad = bad || file_out_close(&f) || (labelled && file_out_close(&l));
    file_out_abandon(&f);
    file_out_abandon(&l);
    free(path);
    free(labels);
    free(order);
    return bad ? -1 : 0;
}

static int write_text(const char *dir, const char *sub, const char *name, const prose *t) {
    char *path = xasprintf("%s/%s/%s", dir, sub, name);
    file_out f = {0};
    int bad = folder(dir, sub) || file_out_open(&f, path);
    if (!bad) {
        fwrite(t->s, 1, t->n, f.f);
        bad = file_out_close(&f);
    }
    file_out_abandon(&f);
    free(path);
    return bad ? -1 : 0;
}

// of a byte-pair vocabulary of 2,000 made from this text, rounded down
enum { BYTES_PER_TOKEN = 4, HELD_OUT_PAGES = 160 };

// Facts that no document happens to tell get a sentence of their own.
static void tell_rest(world *w, prose *all, const world_probes *held) {
    prose doc = {0};
    for (int t = 0; t < w->n_tables; t++)
        for (int i = 0; i < w->table_rows[t]; i++)
            for (int c = 1; c < w->table_cols[t]; c++) {
                bool told = world_told(w, t, i, c, all->s);
                for (int tries = 0; !told && tries < 1000; tries++) {
                    prose_clear(&doc);
                    world_about(w, &doc, t, i, 1);
                    told = world_told(w, t, i, c, doc.s) && !world_probes_count(held, doc.s, doc.n);
                    if (told) prose_add(all, "%s\n\n", doc.s);
                }
            }
    prose_free(&doc);
}

int world_write(const char *dir, const world_size *size, world_counts *c) {
    world w;
    world_open(&w, size->seed);
    *c = (world_counts){.templates = world_template_count()};
    world_probes held = {0}, seen = {0}, none = {0};
    prose all = {0}, doc = {0}, raw = {0};
    int bad = mkdir(dir, 0777) && errno != EEXIST ? err_set("%s: cannot make the folder: %s", dir, strerror(errno)) : 0;
    for (int valid = 1; valid >= 0; valid--)
        for (int task = 0; task < WORLD_TASKS && !bad; task++) {
            world_rows r = {0};
            draw_rows(&w, task, valid ? size->valid : size->train, valid ? &none : &held, valid ? &held : &seen, &r);
            bad = write_set(&w, dir, task, valid, &r);
            for (int i = 0; i < r.n && !valid; i++) {  // the training rows stand in the text
                question_prompt(&all, task, &r.q[i], r.q[i].gold);
                prose_add(&all, "\n\n");
            }
            c->questions += valid ? 0 : r.n;
            rows_free(&r);
        }
    prose_add(&raw, " \n");
    for (c->pages = 0; c->pages < HELD_OUT_PAGES && !bad; c->pages++) {
        prose_clear(&doc);
        world_page(&w, &doc);
        world_wikitext(&raw, doc.s);
        prose_add(&raw, " \n");
    }
    while (all.n < (size_t)size->tokens * BYTES_PER_TOKEN && !bad) {
        prose_clear(&doc);
        document(&w, &doc, c);
        if (world_probes_count(&held, doc.s, doc.n))
            c->dropped++;
        else
            prose_add(&all, "%s", doc.s);
    }
    if (!bad) tell_rest(&w, &all, &held);
    if (!bad) bad = write_text(dir, "text", "world.txt", &all) || write_text(dir, "wikitext", "held-out.raw", &raw);
    world_count_words(all.s, all.n, c);
    prose_free(&all);
    prose_free(&doc);
    prose_free(&raw);
    world_probes_free(&held);
    world_probes_free(&seen);
    world_close(&w);
    return bad ? -1 : 0;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void world_count_words(const char *s, size_t n, world_counts *c) {
    char **word = NULL;
    int kinds = 0, cap = 0;
    c->bytes = (long)n;
    for (size_t i = 0; i < n;) {
        size_t k = i;
        while (k < n && isalpha((unsigned char)s[k])) k++;
        c->sentences += s[i] == '.' || s[i] == '?' || s[i] == '!';
        if (k > i) {
            char *lower = xstrndup(s + i, k - i);
            for (char *p = lower; *p; p++) *p = (char)tolower((unsigned char)*p);
            VEC_PUSH(word, kinds, cap, lower);
            c->words++;
            if (kinds == 1 << 16) {  // sorted and thinned now and then, so that memory stays small
                qsort(word, (size_t)kinds, sizeof *word, by_text);
                int m = 0;
                for (int j = 0; j < kinds; j++)
                    if (m && strcmp(word[m - 1], word[j]) == 0)
                        free(word[j]);
                    else
                        word[m++] = word[j];
                kinds = m;
            }
        }
        i = k > i ? k : i + 1;
    }
    if (kinds) qsort(word, (size_t)kinds, sizeof *word, by_text);
    for (int j = 0; j < kinds; j++) c->vocabulary += j == 0 || strcmp(word[j - 1], word[j]) != 0;
    for (int j = 0; j < kinds; j++) free(word[j]);
    free(word);
}
