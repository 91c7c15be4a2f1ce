// report - one self-contained HTML page from tables, pictures and a JSON file. Contract in report.h.
#include "report.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tables.h"

typedef struct {
    FILE *f;
    const char *in;
    tables_spec *spec;
    int n_specs;
} page;

static const char style[] =
    "body{font:16px/1.5 system-ui,sans-serif;color:#222;max-width:1180px;margin:2em auto;padding:0 1em}"
    "h1,h2,h3{line-height:1.2}h2{border-bottom:1px solid #ccc;margin-top:2.5em}"
    "svg{max-width:100%;height:auto}table{border-collapse:collapse;font-size:14px;margin:1em 0}"
    "caption{text-align:left;font-weight:600}th,td{border:1px solid #ddd;padding:.2em .6em;text-align:right}"
    "th{background:#f4f4f4;text-align:left}td.label,th.label,td.text{text-align:left}.wide{overflow-x:auto}"
    ".missing{color:#999}.note{color:#555}pre{background:#f6f6f6;padding:.6em;overflow-x:auto;font-size:12px}"
    "details{margin:.5em 0}nav p{margin:.2em 0}nav a{margin-left:1em}";

// ---------------------------------------------------------------- text
static void escaped(FILE *f, const char *text) {
    for (; *text; text++) {
        const char *as = NULL;
        switch (*text) {
        case '&': as = "&amp;"; break;
        case '<': as = "&lt;"; break;
        case '>': as = "&gt;"; break;
        case '"': as = "&quot;"; break;
        default: break;
        }
        if (as)
            fputs(as, f);
        else
            fputc(*text, f);
    }
}

static void element(FILE *f, const char *open, const char *text, const char *close) {
    fputs(open, f);
    escaped(f, text);
    fputs(close, f);
}

// ---------------------------------------------------------------- pictures
// The picture's own ids get the figure's name before them, since a page may have an id only once.
static void put_svg(FILE *f, const char *svg, const char *name) {
    static const char *const before[] = {"id=\"", "id='", "href=\"#", "href='#", "url(#"};
    while (*svg) {
        size_t i = 0;
        const size_t n = sizeof before / sizeof *before;
        while (i < n && strncmp(svg, before[i], strlen(before[i])) != 0) i++;
        if (i == n) {
            fputc(*svg++, f);
        } else {
            fprintf(f, "%s%s-", before[i], name);
            svg += strlen(before[i]);
        }
    }
}

static int put_figure(page *p, const char *name) {
    char *path = xasprintf("%s/plots/%s.svg", p->in, name);
    int bad = 0;
    if (access(path, F_OK) != 0) {
        fprintf(p->f, "<p class=\"missing\">%s: not drawn</p>\n", name);
    } else {
        char *text = file_read(path, NULL), *svg = text ? strstr(text, "<svg") : NULL;
        if (!text)
            bad = -1;
        else if (!svg)
            bad = err_set("%s: no <svg in it", path);
        else
            put_svg(p->f, svg, name);
        free(text);
    }
    free(path);
    return bad;
}

// ---------------------------------------------------------------- tables
static bool is_number(const char *text) {
    char *stop;
    strtod(text, &stop);
    return *text && !*stop;
}

static void put_row(FILE *f, const tables_grid *g, int row) {
    const char *kind = row ? "td" : "th";
    bool blank = row > 0;
    for (int c = g->labels; c < g->columns; c++) blank &= !*g->cell[row * g->columns + c];
    fputs("<tr>", f);
    for (int c = 0; c < (blank ? g->labels : g->columns); c++) {
        const char *text = g->cell[row * g->columns + c], *as = "";
        if (c < g->labels)
            as = " class=\"label\"";
        else if (row && !is_number(text))
            as = " class=\"text\"";
        fprintf(f, "<%s%s>", kind, as);
        escaped(f, text);
        fprintf(f, "</%s>", kind);
    }
    if (blank) fprintf(f, "<td class=\"missing\" colspan=\"%d\">not run</td>", g->columns - g->labels);
    fputs("</tr>\n", f);
}

static tables_spec *spec_with(page *p, const char *table) {
    for (int i = 0; i < p->n_specs; i++)
        if (json_object_get(json_object_get(p->spec[i].root, "tables"), table)) return &p->spec[i];
    err_set("no table is named %s", table);
    return NULL;
}

static int put_table(page *p, const char *name, const char *caption) {
    tables_spec *s = spec_with(p, name);
    tables_grid g;
    if (!s) return -1;
    if (tables_make(&g, s, name)) {
        if (!s->nothing) return -1;
        const char *why = strstr(err_get(), name);
        fprintf(p->f, "<p class=\"missing\">");
        escaped(p->f, caption);
        element(p->f, ": not run", why ? why + strlen(name) : "", "</p>\n");
        return 0;
    }
    fprintf(p->f, "<div class=\"wide\"><table id=\"%s\">", name);
    element(p->f, "<caption>", caption, "</caption>\n");
    for (int r = 0; r < g.rows; r++) put_row(p->f, &g, r);
    fputs("</table></div>\n", p->f);
    tables_grid_free(&g);
    return 0;
}

// ---------------------------------------------------------------- where numbers come from
// The # lines of a file: what made it.
static int put_source(page *p, const char *name) {
    char *path = xasprintf("%s/%s", p->in, name);
    if (access(path, F_OK) != 0) {
        element(p->f, "<pre>", name, ": not there</pre>\n");
        free(path);
        return 0;
    }
    char *text = file_read(path, NULL);
    free(path);
    if (!text) return -1;
    element(p->f, "<pre>", name, "\n");
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        if (*line == '#') element(p->f, "", line, "\n");
    }
    fputs("</pre>\n", p->f);
    free(text);
    return 0;
}

static int put_sources(page *p, json_t *reads) {
    size_t i;
    json_t *j;
    if (!json_array_size(reads)) return 0;
    fputs("<details><summary>made by</summary>\n", p->f);
    json_array_foreach(reads, i, j) {
        if (put_source(p, json_string_value(j))) return -1;
    }
    fputs("</details>\n", p->f);
    return 0;
}

// ---------------------------------------------------------------- the page
static bool all_texts(json_t *list) {
    size_t i;
    json_t *j;
    json_array_foreach(list, i, j) {
        if (!json_is_string(j)) return false;
    }
    return !list || json_is_array(list);
}

static int put_item(page *p, json_t *j) {
    const char *name, *title, *text = NULL, *published = NULL, *differs = NULL, *table, *caption;
    json_t *figures = NULL, *tables = NULL, *reads = NULL, *one;
    json_error_t e;
    size_t i;
    if (json_unpack_ex(j, &e, JSON_STRICT, "{s:s, s:s, s?s, s?o, s?o, s?o, s?s, s?s}", "name", &name, "title", &title,
                       "text", &text, "figures", &figures, "tables", &tables, "reads", &reads, "published", &published,
                       "differs", &differs))
        return err_set("an item: %s", e.text);
    if (!all_texts(figures) || !all_texts(reads)) return err_set("%s: figures, reads: lists of names are wanted", name);
    fprintf(p->f, "<h3 id=\"item-%s\">", name);
    element(p->f, "", title, "</h3>\n");
    if (text) element(p->f, "<p>", text, "</p>\n");
    json_array_foreach(figures, i, one) {
        if (put_figure(p, json_string_value(one))) return err_prefix("%s", name);
    }
    if (differs) element(p->f, "<p class=\"note\">What differs: ", differs, "</p>\n");
    json_array_foreach(tables, i, one) {
        if (json_unpack_ex(one, &e, JSON_STRICT, "{s:s, s:s}", "table", &table, "caption", &caption))
            return err_set("%s: a table: %s", name, e.text);
        if (put_table(p, table, caption)) return err_prefix("%s", name);
    }
    if (published) element(p->f, "<p class=\"note\">Published numbers: ", published, "</p>\n");
    return put_sources(p, reads);
}

static int put_section(page *p, json_t *j) {
    const char *title;
    json_t *items, *one;
    json_error_t e;
    size_t i;
    if (json_unpack_ex(j, &e, JSON_STRICT, "{s:s, s:o}", "title", &title, "items", &items))
        return err_set("a section: %s", e.text);
    element(p->f, "<h2>", title, "</h2>\n");
    json_array_foreach(items, i, one) {
        if (put_item(p, one)) return -1;
    }
    return 0;
}

// What follows "# NAME: " in a file, or NULL: no such line, no such file. Caller frees.
static char *said_of(page *p, const char *file, const char *name) {
    char *path = xasprintf("%s/%s", p->in, file), *text = access(path, F_OK) == 0 ? file_read(path, NULL) : NULL,
         *start = xasprintf("# %s: ", name), *found = NULL;
    for (char *line = text, *next; line && *line && !found; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        if (strncmp(line, start, strlen(start)) == 0) found = xasprintf("%s", line + strlen(start));
    }
    free(start);
    free(text);
    free(path);
    return found;
}

// The model, the machine and so on, as the files' # lines have them.
static int put_run(page *p, json_t *run) {
    const char *as, *file, *line;
    bool any = false;
    json_error_t e;
    size_t i;
    json_t *j;
    if (run && !json_is_array(run)) return err_set("run: a list is wanted");
    json_array_foreach(run, i, j) {
        if (json_unpack_ex(j, &e, JSON_STRICT, "{s:s, s:s, s:s}", "as", &as, "file", &file, "line", &line))
            return err_set("run: %s", e.text);
        char *said = said_of(p, file, line);
        if (!said) continue;
        fputs(any ? "; " : "<p id=\"run\">This run: ", p->f);
        element(p->f, "", as, " ");
        element(p->f, "", said, "");
        any = true;
        free(said);
    }
    if (any) fputs(".</p>\n", p->f);
    return 0;
}

// Links to all items, a line for each section. What is wrong with a section is said where it is written.
static void put_contents(page *p, json_t *sections) {
    const char *title, *name;
    json_t *section, *item;
    size_t i, k;
    fputs("<nav>\n", p->f);
    json_array_foreach(sections, i, section) {
        if (json_unpack(section, "{s:s}", "title", &title)) continue;
        element(p->f, "<p>", title, ":");
        json_array_foreach(json_object_get(section, "items"), k, item) {
            if (json_unpack(item, "{s:s, s:s}", "name", &name, "title", &title)) continue;
            fprintf(p->f, "<a href=\"#item-%s\">", name);
            element(p->f, "", title, "</a>");
        }
        fputs("</p>\n", p->f);
    }
    fputs("</nav>\n", p->f);
}

static int put_page(page *p, const char *title, json_t *text, json_t *run, json_t *sections) {
    size_t i;
    json_t *j;
    if (!all_texts(text)) return err_set("text: a list of paragraphs is wanted");
    element(p->f, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>", title, "</title>\n");
    fprintf(p->f, "<meta name=\"viewport\" content=\"width=device-width\"><style>%s</style></head>\n<body>\n", style);
    element(p->f, "<h1>", title, "</h1>\n");
    if (put_run(p, run)) return -1;
    json_array_foreach(text, i, j) element(p->f, "<p>", json_string_value(j), "</p>\n");
    put_contents(p, sections);
    json_array_foreach(sections, i, j) {
        if (put_section(p, j)) return -1;
    }
    fputs("</body></html>\n", p->f);
    return 0;
}

static int open_specs(page *p, json_t *paths) {
    const size_t n = json_array_size(paths);
    p->spec = xcalloc(n + 1, sizeof *p->spec);
    for (size_t i = 0; i < n; i++) {
        const char *path = json_string_value(json_array_get(paths, i));
        if (!path) return err_set("tables: a list of files is wanted");
        if (tables_open(&p->spec[p->n_specs], path, p->in, NULL)) return -1;
        p->n_specs++;
    }
    return 0;
}

int report_write(FILE *f, const char *spec, const char *in) {
    json_error_t e;
    const char *title;
    json_t *text, *tables, *sections, *run = NULL, *root = json_load_file(spec, JSON_REJECT_DUPLICATES, &e);
    if (!root && e.line < 0) return err_set("%s", e.text);  // that it cannot be opened
    if (!root) return err_set("%s:%d: %s", spec, e.line, e.text);
    page p = {.f = f, .in = in};
    int bad = 0;
    if (json_unpack_ex(root, &e, JSON_STRICT, "{s:s, s:o, s:o, s:o, s?o}", "title", &title, "text", &text, "tables",
                       &tables, "sections", &sections, "run", &run))
        bad = err_set("%s", e.text);
    if (!bad) bad = open_specs(&p, tables);
    if (!bad) bad = put_page(&p, title, text, run, sections);
    for (int i = 0; i < p.n_specs; i++) tables_close(&p.spec[i]);
    free(p.spec);
    json_decref(root);
    return bad ? err_prefix("%s", spec) : 0;
}
