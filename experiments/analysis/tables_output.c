// tables_output - a table as text, Markdown or CSV, and all tables of a JSON file as CSV files. Contract in tables.h.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "tables.h"

// Characters of UTF-8 text: bytes that do not continue one.
static int width_of(const char *s) {
    int n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static int last_filled(const tables_grid *g, int row) {
    int c = g->columns - 1;
    while (c > 0 && !*g->cell[row * g->columns + c]) c--;
    return c;
}

void tables_text(FILE *f, const tables_grid *g) {
    int *width = xcalloc((size_t)g->columns, sizeof *width);
    for (int i = 0; i < g->rows * g->columns; i++) {
        const int w = width_of(g->cell[i]);
        if (w > width[i % g->columns]) width[i % g->columns] = w;
    }
    for (int r = 0; r < g->rows; r++) {
        const int last = last_filled(g, r);
        for (int c = 0; c <= last; c++) {
            const char *text = g->cell[r * g->columns + c], *gap = c < last ? "  " : "\n";
            const int blanks = width[c] - width_of(text);
            if (c >= g->labels)
                fprintf(f, "%*s%s%s", blanks, "", text, gap);
            else
                fprintf(f, "%s%*s%s", text, c < last ? blanks : 0, "", gap);
        }
    }
    free(width);
}

void tables_markdown(FILE *f, const tables_grid *g) {
    for (int r = 0; r < g->rows; r++) {
        fputc('|', f);
        for (int c = 0; c < g->columns; c++) {
            const char *text = g->cell[r * g->columns + c];
            fprintf(f, *text ? " %s |" : "%s |", text);
        }
        fputc('\n', f);
        if (r) continue;
        fputc('|', f);
        for (int c = 0; c < g->columns; c++) fputs("---|", f);
        fputc('\n', f);
    }
}

static void put_field(FILE *f, const char *text) {
    if (!text[strcspn(text, ",\"\n")]) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

void tables_csv_text(FILE *f, const tables_grid *g) {
    for (int i = 0; i < g->rows * g->columns; i++) {
        put_field(f, g->cell[i]);
        fputc((i + 1) % g->columns ? ',' : '\n', f);
    }
}

static bool without_rows(const tables_grid *g) {
    bool blank = true;
    for (int i = g->columns; i < g->rows * g->columns; i++) blank &= i % g->columns < g->labels || !*g->cell[i];
    return blank;
}

// 1: nothing to write.
static int one_file(tables_spec *s, const char *name, const char *folder, FILE *list) {
    tables_grid g;
    if (tables_make(&g, s, name)) {
        if (!s->nothing) return -1;
        const char *why = strstr(err_get(), name);  // after the names of file and table
        fprintf(list, "%s: not run%s\n", name, why ? why + strlen(name) : "");
        return 0;
    }
    file_out o = {0};
    char *path = xasprintf("%s/%s.csv", folder, name);
    int bad = 0;
    if (without_rows(&g)) {
        fprintf(list, "%s: not run: no rows\n", name);
    } else {
        bad = file_out_open(&o, path);
        if (!bad) tables_csv_text(o.f, &g);
        if (!bad) bad = file_out_close(&o);
    }
    free(path);
    tables_grid_free(&g);
    return bad;
}

int tables_all(tables_spec *s, const char *folder, FILE *list) {
    const char *name;
    json_t *table;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return err_set("%s: cannot make the folder: %s", folder, strerror(errno));
    json_object_foreach(json_object_get(s->root, "tables"), name, table) {
        if (one_file(s, name, folder, list)) return -1;
    }
    return 0;
}
