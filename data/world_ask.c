// world_ask - questions about the world, in groups: the questions of a group share their candidates and each candidate
// is the gold one exactly once, at its own place, so that neither its length, its place nor its own likelihood tells
// the answer.
#include "world.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static char *filled(world *w, binding *b, const char *tmpl, bool sentence) {
    prose t = {0};
    if (world_fill(w, b, &t, tmpl, sentence)) return t.s;
    prose_free(&t);
    return NULL;
}

static uint64_t below(world *w, int n) { return rng_below(&w->r, (uint64_t)n); }

// k rows of a table that differ pairwise in `differ` and agree in `same`; false if the draw failed.
static bool pick_rows(world *w, int table, const char *differ, const char *same, int k, int rows[]) {
    for (int i = 0, tries = 0; i < k; tries++) {
        if (tries > 200) return false;
        rows[i] = (int)below(w, w->table_rows[table]);
        const char *v = world_cell(w, table, rows[i], differ);
        bool good = strcmp(v, "-") != 0;
        for (int j = 0; j < i && good; j++)
            good = strcmp(v, world_cell(w, table, rows[j], differ)) != 0 &&
                   (!same || strcmp(world_cell(w, table, rows[i], same), world_cell(w, table, rows[j], same)) == 0);
        i += good;
    }
    return true;
}

static int ask_form(world *w, const world_form *forms, int k, question g[]) {
    int n = 0, rows[GROUP_MAX];
    while (forms[n].context) n++;
    const world_form *f = &forms[below(w, n)];
    binding b = world_binding();
    b.table = world_table_find(w, f->table);
    if (!pick_rows(w, b.table, f->differ, f->same, k, rows)) return 0;
    char *choice[GROUP_MAX] = {0};
    bool good = true;
    for (int i = 0; i < k; i++) {
        b.x = rows[i];
        choice[i] = filled(w, &b, f->choice, false);
        g[i] = (question){.head = filled(w, &b, f->context, true),
                          .n = k,
                          .gold = i,
                          .cause = strstr(f->context, "x.effect") != NULL};
        good &= g[i].head && choice[i];
        for (int j = 0; good && j < i; j++) good = strcmp(choice[i], choice[j]) != 0;
    }
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < k && good; j++) g[i].choice[j] = xstrdup(choice[j]);
        if (!good) question_free(&g[i]);
    }
    for (int i = 0; i < k; i++) free(choice[i]);
    return good ? k : 0;
}

static int ask_twin(world *w, question g[]) {
    int n = 0;
    while (world_twins[n].sentence) n++;
    const world_twin *t = &world_twins[below(w, n)];
    const int swap = (int)below(w, 2);  // which option is the first, and with it the order of the gold ones
    binding b = world_binding();
    char *sentence = filled(w, &b, t->sentence, true), *option[2];
    for (int i = 0; i < 2; i++) option[i] = filled(w, &b, t->option[i ^ swap], false);
    for (int i = 0; i < 2; i++) {
        g[i] = (question){.head = xasprintf("%s %s", sentence, t->rest[i ^ swap]), .n = 2, .gold = i};
        for (int j = 0; j < 2; j++) g[i].choice[j] = xstrdup(option[j]);
    }
    free(sentence);
    free(option[0]);
    free(option[1]);
    return 2;
}

static void entail(question *q, char *premise, char *hypothesis, bool truth) {
    *q = (question){.head = premise,
                    .tail = hypothesis,
                    .choice = {xstrdup("True"), xstrdup("False")},
                    .n = 2,
                    .gold = truth ? 0 : 1};
}

// Exchanges what the two variants of an entailment differ in: two persons, or the first and second word of a list.
static void exchange(const world *w, binding *b, const char *differ) {
    if (*differ != '#') {
        const int p = differ[0] - 'P', q = differ[1] - 'P', held = b->person[p];
        b->person[p] = b->person[q];
        b->person[q] = held;
    } else {
        signed char *word = b->word[world_list_find(w, differ + 1)], held = word[0];
        word[0] = word[1];
        word[1] = held;
    }
}

static int ask_contrast(world *w, question g[]) {
    int n = 0;
    while (world_rte_contrasts[n].premise[0]) n++;
    const world_contrast *f = &world_rte_contrasts[below(w, n)];
    binding b = world_binding();
    if (f->table) {
        b.table = world_table_find(w, f->table);
        b.x = (int)below(w, w->table_rows[b.table]);
    }
    const int other = f->hypothesis[1] && below(w, 4) == 0;
    bool good = true;
    for (int i = 0; i < 2; i++) {
        char *premise = filled(w, &b, f->premise[i], true);
        entail(&g[i], premise, filled(w, &b, f->hypothesis[other], true), i == other);
        good &= g[i].head && g[i].tail;
    }
    for (int i = 0; i < 2 && !good; i++) question_free(&g[i]);
    return good ? 2 : 0;
}

static int ask_entailment(world *w, question g[]) {
    static const world_entailment *const kinds[] = {world_rte_said, world_rte_roles, world_rte_known};
    const world_entailment *f = kinds[below(w, sizeof kinds / sizeof *kinds)];
    int n = 0, rows[2];
    while (f[n].premise) n++;
    f += below(w, n);
    binding b = world_binding();
    bool good = true;
    if (f->table) {
        b.table = world_table_find(w, f->table);
        if (!pick_rows(w, b.table, f->differ, NULL, 2, rows)) return 0;
    } else
        world_draw(w, &b, f->differ);
    // the premise of row i has the variant i / 2, its hypothesis i % 2; both take up what was drawn for the first
    for (int i = 0; i < 4; i++) {
        char *side[2];
        for (int s = 0; s < 2; s++) {
            const int variant = s ? i % 2 : i / 2;
            if (f->table)
                *(s ? &b.y : &b.x) = rows[variant];
            else if (variant)
                exchange(w, &b, f->differ);
            side[s] = filled(w, &b, s ? f->hypothesis : f->premise, true);
            if (!f->table && variant) exchange(w, &b, f->differ);
        }
        entail(&g[i], side[0], side[1], i / 2 == i % 2);
        good &= side[0] && side[1];
    }
    if (!good)
        for (int i = 0; i < 4; i++) question_free(&g[i]);
    return good ? 4 : 0;
}

// Four next steps: of one activity, of two, or of four.
static int ask_script(world *w, question g[]) {
    binding b = world_binding();
    b.table = world_table_find(w, "script");
    int rows[GROUP_MAX];
    const int kinds[] = {1, 2, 4, 4}, kind = kinds[below(w, 4)];
    if (!pick_rows(w, b.table, "name", NULL, kind, rows)) return 0;
    int32_t order[GROUP_MAX];
    rng_permutation(&w->r, order, GROUP_MAX);
    const bool two = below(w, 2);
    char *ending[GROUP_MAX];
    int step[GROUP_MAX];
    // the step asked for, 2..5
    for (int i = 0; i < GROUP_MAX; i++) step[i] = kind == 4 ? 2 + (int)below(w, 4) : 2 + order[i];
    if (kind == 2) step[2] = step[0], step[3] = step[1];
    for (int i = 0; i < GROUP_MAX; i++) {
        char tmpl[64];
        b.x = rows[0];
        if (kind == 4) b.x = rows[i];
        if (kind == 2) b.x = rows[i / 2];
        const int s = step[i];
        if (two && s > 2)
            snprintf(tmpl, sizeof tmpl, "{P} {x.%d}. Then {he P} {x.%d}.", s - 2, s - 1);
        else
            snprintf(tmpl, sizeof tmpl, "{P} {x.%d}.", s - 1);
        g[i] = (question){.head = filled(w, &b, tmpl, true),
                          .tail = filled(w, &b, "{he P}", false),
                          .label = xstrdup(world_cell(w, b.table, b.x, "name")),
                          .n = GROUP_MAX,
                          .gold = i};
        snprintf(tmpl, sizeof tmpl, "{x.%d}.", s);
        ending[i] = filled(w, &b, tmpl, false);
    }
    for (int i = 0; i < GROUP_MAX; i++)
        for (int j = 0; j < GROUP_MAX; j++) g[i].choice[j] = xstrdup(ending[j]);
    for (int i = 0; i < GROUP_MAX; i++) free(ending[i]);
    return GROUP_MAX;
}

int world_ask(world *w, int task, question g[GROUP_MAX]) {
    for (;;) {
        int n = 0;
        switch (task) {
        case PIQA: n = ask_form(w, world_piqa, 2, g); break;
        case COPA: n = ask_form(w, world_copa, 2, g); break;
        case OPENBOOKQA: n = ask_form(w, world_obqa, 4, g); break;
        case WINOGRANDE: n = ask_twin(w, g); break;
        case RTE: n = below(w, 4) ? ask_contrast(w, g) : ask_entailment(w, g); break;
        case HELLASWAG: n = ask_script(w, g); break;
        case ARC_EASY: n = ask_form(w, world_arc, 4, g); break;
        default: ASSERT(!"unknown task");
        }
        if (n) return n;
    }
}

void question_free(question *q) {
    free(q->head);
    free(q->tail);
    free(q->label);
    for (int i = 0; i < GROUP_MAX; i++) free(q->choice[i]);
    *q = (question){0};
}

void question_prompt(prose *out, int task, const question *q, int c) {
    const char *s = q->choice[c];
    switch (task) {
    case PIQA:
    case ARC_EASY: prose_add(out, "Question: %s\nAnswer: %s", q->head, s); break;
    case COPA:
        prose_add(out, "%.*s %s %c%s", (int)strlen(q->head) - 1, q->head, q->cause ? "because" : "therefore",
                  tolower((unsigned char)*s), s + 1);
        break;
    case OPENBOOKQA: prose_add(out, "%s %s", q->head, s); break;
    case WINOGRANDE: {
        const char *gap = strchr(q->head, '_');
        ASSERT(gap);
        prose_add(out, "%.*s%s%s", (int)(gap - q->head), q->head, s, gap + 1);
        break;
    }
    case RTE: prose_add(out, "%s\nQuestion: %s True or False?\nAnswer: %s", q->head, q->tail, s); break;
    case HELLASWAG:
        prose_add(out, "%s: %s %c%s %s", q->label, q->head, toupper((unsigned char)*q->tail), q->tail + 1, s);
        break;
    default: ASSERT(!"unknown task");
    }
}
