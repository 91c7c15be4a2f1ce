// world_text - fills the templates of world.h: articles, plurals, pronouns, capitals, and the draws behind the slots.
#include "world.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void prose_add(prose *t, const char *fmt, ...) {
    va_list a, b;
    va_start(a, fmt);
    va_copy(b, a);
    const int n = vsnprintf(NULL, 0, fmt, a);
    va_end(a);
    ASSERT(n >= 0);
    if (t->n + (size_t)n + 1 > t->cap) t->s = xrealloc(t->s, t->cap = 2 * (t->n + (size_t)n + 1));
    vsnprintf(t->s + t->n, (size_t)n + 1, fmt, b);
    va_end(b);
    t->n += (size_t)n;
}
void prose_clear(prose *t) {
    t->n = 0;
    if (t->s) t->s[0] = 0;
}
void prose_free(prose *t) {
    free(t->s);
    *t = (prose){0};
}

// ---------------------------------------------------------------- tables
static int split(const char *s, char **out, int most) {
    int n = 0;
    for (const char *p = s;; p++) {
        const size_t k = strcspn(p, "|");
        ASSERT(n < most);
        out[n++] = xstrndup(p, k);
        p += k;
        if (!*p) return n;
    }
}

void world_open(world *w, uint64_t seed) {
    *w = (world){.r = rng_make(seed)};
    for (const world_list *l = world_lists; l->name; l++) {
        ASSERT(w->n_lists < WORLD_LISTS);
        char *words[WORLD_ROWS];
        const int n = split(l->words, words, WORLD_ROWS);
        w->list_words[w->n_lists] = xmalloc((size_t)n * sizeof *words);
        memcpy(w->list_words[w->n_lists], words, (size_t)n * sizeof *words);
        w->list_n[w->n_lists++] = n;
    }
    while (world_persons[w->n_persons].name) w->n_persons++;
    for (const world_table *t = world_tables; t->name; t++, w->n_tables++) {
        ASSERT(w->n_tables < WORLD_TABLES);
        int cols = 1, rows = 0;
        for (const char *p = t->columns; *p; p++) cols += *p == '|';
        for (; t->rows[rows]; rows++) {
            ASSERT(rows < WORLD_ROWS);
            const int n = split(t->rows[rows], w->cell[w->n_tables][rows], WORLD_COLUMNS);
            ASSERT(n == cols);
        }
        w->table_rows[w->n_tables] = rows;
        w->table_cols[w->n_tables] = cols;
    }
}

void world_close(world *w) {
    for (int l = 0; l < w->n_lists; l++) {
        for (int i = 0; i < w->list_n[l]; i++) free(w->list_words[l][i]);
        free(w->list_words[l]);
    }
    for (int t = 0; t < w->n_tables; t++)
        for (int r = 0; r < w->table_rows[t]; r++)
            for (int c = 0; c < w->table_cols[t]; c++) free(w->cell[t][r][c]);
    *w = (world){0};
}

int world_table_find(const world *w, const char *name) {
    for (int t = 0; t < w->n_tables; t++)
        if (strcmp(world_tables[t].name, name) == 0) return t;
    ASSERT(!"a template names a table that is not there");
    return -1;
}

const char *world_cell(const world *w, int table, int row, const char *column) {
    ASSERT(table >= 0 && row >= 0);
    if (!column) return w->cell[table][row][0];
    const size_t n = strlen(column);
    int c = 0;
    for (const char *p = world_tables[table].columns; *p; c++) {
        const size_t k = strcspn(p, "|");
        if (k == n && memcmp(p, column, n) == 0) return w->cell[table][row][c];
        p += k + (p[k] == '|');
    }
    ASSERT(!"a template names a column that is not there");
    return NULL;
}

binding world_binding(void) {
    binding b = {.table = -1, .x = -1, .y = -1, .person = {-1, -1, -1}};
    memset(b.word, -1, sizeof b.word);
    return b;
}

// ---------------------------------------------------------------- slots
static int person(world *w, binding *b, int which) {
    for (bool fresh = b->person[which] >= 0; !fresh;) {
        b->person[which] = (int)rng_below(&w->r, (uint64_t)w->n_persons);
        fresh = true;
        for (int i = 0; i < 3; i++) fresh &= i == which || b->person[i] != b->person[which];
    }
    return b->person[which];
}

int world_list_find(const world *w, const char *name) {
    const size_t n = strcspn(name, "123");
    for (int l = 0; l < w->n_lists; l++)
        if (strlen(world_lists[l].name) == n && memcmp(world_lists[l].name, name, n) == 0) return l;
    ASSERT(!"a template names a list that is not there");
    return -1;
}

static const char *list_word(world *w, binding *b, const char *name) {
    const char last = name[strlen(name) - 1];
    const int l = world_list_find(w, name), nth = isdigit((unsigned char)last) ? last - '1' : 0;
    ASSERT(nth >= 0 && nth < 3);
    for (bool fresh = b->word[l][nth] >= 0; !fresh;) {  // two slots never stand for the same word
        b->word[l][nth] = (signed char)rng_below(&w->r, (uint64_t)w->list_n[l]);
        const char *word = w->list_words[l][(int)b->word[l][nth]];
        fresh = true;
        for (int k = 0; k < w->n_lists; k++)
            for (int i = 0; i < 3; i++)
                if ((k != l || i != nth) && b->word[k][i] >= 0 &&
                    strcmp(w->list_words[k][(int)b->word[k][i]], word) == 0)
                    fresh = false;
    }
    return w->list_words[l][(int)b->word[l][nth]];
}

void world_draw(world *w, binding *b, const char *differ) {
    for (const char *p = differ; *differ != '#' && *p; p++) person(w, b, *p - 'P');
    if (*differ == '#') {
        char second[24];
        snprintf(second, sizeof second, "%s2", differ + 1);
        list_word(w, b, differ + 1);
        list_word(w, b, second);
    }
}

static bool ends(const char *s, size_t n, const char *tail) {
    const size_t k = strlen(tail);
    return n >= k && memcmp(s + n - k, tail, k) == 0;
}

static void plural(prose *out, const char *word) {
    static const char *const odd[][2] = {
        {"mouse", "mice"},   {"sheep", "sheep"},   {"deer", "deer"},   {"wolf", "wolves"}, {"goose", "geese"},
        {"knife", "knives"}, {"shelf", "shelves"}, {"trout", "trout"}, {"carp", "carp"},   {"fly", "flies"}};
    const size_t n = strlen(word);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        if (strcmp(word, odd[i][0]) == 0) {
            prose_add(out, "%s", odd[i][1]);
            return;
        }
    if (ends(word, n, "s") || ends(word, n, "x") || ends(word, n, "sh") || ends(word, n, "ch"))
        prose_add(out, "%ses", word);
    else if (n > 1 && word[n - 1] == 'y' && !strchr("aeiou", word[n - 2]))
        prose_add(out, "%.*sies", (int)n - 1, word);
    else
        prose_add(out, "%ss", word);
}

static const char *article(char mark, const char *word) {
    if (mark) return mark == '~' ? "some " : "";
    return strchr("aeiou", *word) ? "an " : "a ";
}

// The noun behind a slot in the given form; marks as in world.h.
static void noun(prose *out, const char *form, const char *word) {
    const char mark = *word == '~' || *word == '+' ? *word++ : 0;
    const char f = (char)tolower((unsigned char)form[0]);
    if (f == 'a')
        prose_add(out, "%s%s", article(mark, word), word);
    else if (f == 't')
        prose_add(out, "the %s", word);
    else if (f == 's' && !mark)
        plural(out, word);
    else
        prose_add(out, "%s", word);
}

static bool fill(world *w, binding *b, prose *out, const char *tmpl, int depth);

static bool slot(world *w, binding *b, prose *out, const char *body, int depth) {
    char form[16] = "", name[48];
    const char *gap = strchr(body, ' ');
    ASSERT(strlen(body) < sizeof name && (!gap || gap - body < (int)sizeof form));
    if (gap) memcpy(form, body, (size_t)(gap - body)), form[gap - body] = 0;
    snprintf(name, sizeof name, "%s", gap ? gap + 1 : body);
    const size_t from = out->n;
    if (strlen(name) == 1 && *name >= 'P' && *name <= 'R') {
        const world_person *p = &world_persons[person(w, b, *name - 'P')];
        const char *low = form[0] ? form + 1 : "";
        if (!form[0] || form[0] == '^')
            prose_add(out, "%s", p->name);
        else if (strcmp(low, "e") == 0)
            prose_add(out, p->woman ? "she" : "he");
        else if (strcmp(low, "im") == 0)
            prose_add(out, p->woman ? "her" : "him");
        else if (strcmp(low, "is") == 0)
            prose_add(out, p->woman ? "her" : "his");
        else
            ASSERT(!"a person in an unknown form");
    } else if (*name == '#') {
        noun(out, form, list_word(w, b, name + 1));
    } else {
        ASSERT((*name == 'x' || *name == 'y') && (!name[1] || name[1] == '.'));
        const int row = *name == 'x' ? b->x : b->y;
        const char *cell = world_cell(w, b->table, row, name[1] ? name + 2 : NULL);
        if (strcmp(cell, "-") == 0) return false;
        if (strcmp(form, "name") == 0) {
            const bool he = strncmp(cell, "{he P}", 6) == 0;
            return (!he || fill(w, b, out, "{P}", depth)) && fill(w, b, out, cell + (he ? 6 : 0), depth);
        }
        if (strcmp(form, "pron") == 0) {
            ASSERT(strncmp(cell, "{P}", 3) == 0);
            return fill(w, b, out, world_cell(w, b->table, row, "who"), depth) && fill(w, b, out, cell + 3, depth);
        }
        if (strchr(cell, '{')) {
            if (!fill(w, b, out, cell, depth + 1)) return false;
        } else
            noun(out, form, cell);
    }
    if (strchr("ATSH^", form[0]) && form[0]) out->s[from] = (char)toupper((unsigned char)out->s[from]);
    return true;
}

static bool fill(world *w, binding *b, prose *out, const char *tmpl, int depth) {
    ASSERT(depth < 4);
    for (const char *p = tmpl; *p;) {
        const size_t k = strcspn(p, "{");
        prose_add(out, "%.*s", (int)k, p);
        p += k;
        if (!*p) break;
        const size_t n = strcspn(p, "}");
        char body[64];
        ASSERT(p[n] && n < sizeof body);
        memcpy(body, p + 1, n - 1);
        body[n - 1] = 0;
        if (!slot(w, b, out, body, depth)) return false;
        p += n + 1;
    }
    return true;
}

bool world_fill(world *w, binding *b, prose *out, const char *tmpl, bool sentence) {
    const size_t from = out->n;
    if (!fill(w, b, out, tmpl, 0)) return false;
    if (sentence && out->n > from) {
        char *first = out->s + from + (out->s[from] == '"');
        *first = (char)toupper((unsigned char)*first);
    }
    return true;
}
