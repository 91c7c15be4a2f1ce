// world_tell - running text about the world: paragraphs about one thing, stories, encyclopedia pages.
#include "world.h"
#include <string.h>

static int count(const world_statement *s) {
    int n = 0;
    while (s[n].text) n++;
    return n;
}

// Appends one statement. False: the row lacks a property it needs, and nothing is written.
static bool say(world *w, binding *b, prose *out, const world_statement *s) {
    const size_t from = out->n;
    if (from && out->s[from - 1] != '\n') prose_add(out, " ");
    if (world_fill(w, b, out, s->text, true)) return true;
    out->n = from;
    if (out->s) out->s[from] = 0;
    return false;
}

void world_about(world *w, prose *out, int table, int row, int sentences) {
    const int n = count(world_statements);
    int last = -1;
    for (int k = 0; k < sentences;) {
        const int i = (int)rng_below(&w->r, (uint64_t)n);
        if (i == last || strcmp(world_statements[i].table, world_tables[table].name) != 0) continue;
        binding b = world_binding();
        b.table = table;
        b.x = row;
        last = i;
        k += say(w, &b, out, &world_statements[i]);
    }
}

// Scenes one after the other with the persons of b, each with things of its own.
static void story(world *w, binding *b, prose *out, int sentences) {
    const int n = count(world_scenes);
    for (int k = 0; k < sentences;) {
        const world_statement *s = &world_scenes[rng_below(&w->r, (uint64_t)n)];
        binding c = world_binding();
        memcpy(c.person, b->person, sizeof c.person);
        if (s->table) {
            c.table = world_table_find(w, s->table);
            c.x = (int)rng_below(&w->r, (uint64_t)w->table_rows[c.table]);
        }
        k += say(w, &c, out, s);
        memcpy(b->person, c.person, sizeof c.person);
    }
}

void world_tell(world *w, prose *out) {
    binding b = world_binding();
    if (rng_below(&w->r, 3)) {
        const int table = (int)rng_below(&w->r, (uint64_t)w->n_tables);
        const bool event =
            strcmp(world_tables[table].name, "cause") == 0 || strcmp(world_tables[table].name, "script") == 0;
        const int rows = event ? 3 : 1 + (int)rng_below(&w->r, 2);
        for (int i = 0; i < rows; i++) {
            const int sentences = event ? 1 : 3 + (int)rng_below(&w->r, 3);
            world_about(w, out, table, (int)rng_below(&w->r, (uint64_t)w->table_rows[table]), sentences);
        }
    } else
        story(w, &b, out, 5 + (int)rng_below(&w->r, 5));
    prose_add(out, "\n");
}

// ---------------------------------------------------------------- pages
enum { LEAST_ROWS = 10 };  // every table has these, so that table and row can be drawn apart
static const char *const sections[] = {"In {#town}",  "A story",  "Life", "What people say", "The {#fair} of {#town}",
                                       "{P} and {Q}", "Daily use"};
static const char *const openings[] = {
    "This page tells about {the x} and about {P}, a {#number}-year-old child from {#town}.",
    "{The x} is well-known in {#town}, a {#mood} little town in the {#direction} of the land.",
    "{P} of {#town} wrote a {#number}-page book about {the x}; it is kept in the library.",
    "People in {#town} speak of {the x} on every {#day}, and {P} knows much about it.",
};
static const char *const page_tables[] = {"animal", "tool", "food", "job", "thing"};

void world_page(world *w, prose *out) {
    binding b = world_binding();
    b.table = world_table_find(w, page_tables[rng_below(&w->r, sizeof page_tables / sizeof *page_tables)]);
    b.x = (int)rng_below(&w->r, (uint64_t)w->table_rows[b.table]);
    const int table = b.table, row = b.x;
    prose_add(out, " = ");
    world_fill(w, &b, out, "{^ x}", true);
    prose_add(out, " =\n\n");
    world_fill(w, &b, out, openings[rng_below(&w->r, sizeof openings / sizeof *openings)], true);
    world_about(w, out, table, row, 4);
    prose_add(out, "\n\n");
    const int n = 2 + (int)rng_below(&w->r, 2);
    for (int i = 0; i < n; i++) {
        binding c = world_binding();
        memcpy(c.person, b.person, sizeof c.person);
        prose_add(out, "== ");
        world_fill(w, &c, out, sections[rng_below(&w->r, sizeof sections / sizeof *sections)], true);
        prose_add(out, " ==\n\n");
        if (rng_below(&w->r, 2))
            story(w, &c, out, 5 + (int)rng_below(&w->r, 4));
        else {
            const int other = (int)rng_below(&w->r, LEAST_ROWS);
            world_about(w, out, (int)rng_below(&w->r, (uint64_t)w->n_tables), other, 5);
        }
        prose_add(out, i + 1 < n ? "\n\n" : "\n");
    }
}

// WikiText sets punctuation apart, marks hyphens, and has a space at both ends of every line and between the signs of a
// heading.
void world_wikitext(prose *out, const char *page) {
    bool open = false;  // inside double quotes
    for (const char *line = page; *line;) {
        const size_t n = strcspn(line, "\n");
        size_t i = 0;
        while (i < n && line[i] == ' ') i++;
        prose_add(out, " ");
        for (const size_t first = i; i < n; i++) {
            const char c = line[i];
            const bool lead = i == first || line[i - 1] == ' ', last = i + 1 == n || line[i + 1] == ' ';
            if (c == '=')
                prose_add(out, last ? "=" : "= ");
            else if (c == '-')
                prose_add(out, " @-@ ");
            else if (c == '"')
                prose_add(out, "%s\"%s", open && !lead ? " " : "", open ? "" : " "), open = !open;
            else if (strchr(".,;:?!", c))
                prose_add(out, " %c", c);
            else
                prose_add(out, "%c", c);
        }
        prose_add(out, n ? " \n" : "\n");
        line += n + (line[n] == '\n');
    }
}

int world_template_count(void) {
    int n = count(world_statements) + count(world_scenes) + (int)(sizeof openings / sizeof *openings);
    const world_form *const forms[] = {world_arc, world_obqa, world_piqa, world_copa};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (const world_form *f = forms[i]; f->context; f++) n++;
    for (const world_twin *t = world_twins; t->sentence; t++) n++;
    for (const world_contrast *c = world_rte_contrasts; c->premise[0]; c++) n += c->hypothesis[1] ? 4 : 3;
    const world_entailment *const rte[] = {world_rte_said, world_rte_roles, world_rte_known};
    for (size_t i = 0; i < sizeof rte / sizeof *rte; i++)
        for (const world_entailment *e = rte[i]; e->premise; e++) n += 2;
    return n;
}
