// tables_document - tables between the markers of a document, and numbers in its sentences. Contract in tables.h.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "tables.h"

static const char begin_mark[] = "<!-- table ", end_mark[] = "<!-- end of table -->", mark_close[] = " -->";

// ---------------------------------------------------------------- tables
static bool begins(const char *line, const char *with) { return strncmp(line, with, strlen(with)) == 0; }

static const char *next_line(const char *p) {
    const char *end = strchrnul(p, '\n');
    return *end ? end + 1 : end;
}

static char *table_lines(tables_spec *s, const char *name) {
    tables_grid g;
    char *text = NULL;
    size_t bytes;
    if (tables_make(&g, s, name)) return NULL;
    FILE *f = open_memstream(&text, &bytes);
    tables_markdown(f, &g);
    fclose(f);
    tables_grid_free(&g);
    return text;
}

// An error that shows the first line in which a table differs; line: that of its first line.
static int difference(const char *path, long line, const char *name, const char *old, const char *old_end,
                      const char *new) {
    while (old < old_end && *new) {
        const size_t n = (size_t)(next_line(old) - old);
        if (strncmp(old, new, n) != 0) break;
        old += n;
        new += n;
        line++;
    }
    if (!*new)
        return err_set("%s:%ld: table %s has lines that do not follow from its CSVs; run make tables", path, line,
                       name);
    return err_set("%s:%ld: table %s differs from its CSVs, which give \"%.*s\"; run make tables", path, line, name,
                   (int)strcspn(new, "\n"), new);
}

// One table; *p and *line are at its first line and move to its end mark.
static int one_table(FILE *out, tables_spec *s, const char *path, const char **p, long *line, const char *name,
                     bool check) {
    const char *end = *p;
    long lines = 0;
    for (; *end && !begins(end, end_mark); end = next_line(end), lines++)
        if (begins(end, begin_mark)) break;
    if (!begins(end, end_mark)) return err_set("%s:%ld: table %s has no %s after it", path, *line - 1, name, end_mark);
    char *text = table_lines(s, name);
    if (!text) return err_prefix("%s:%ld", path, *line - 1);
    int bad = 0;
    if (check && (strlen(text) != (size_t)(end - *p) || strncmp(text, *p, strlen(text)) != 0))
        bad = difference(path, *line, name, *p, end, text);
    fputs(text, out);
    free(text);
    *p = end;
    *line += lines;
    return bad;
}

static int all_tables(FILE *out, tables_spec *s, const char *path, const char *text, bool check) {
    int bad = 0;
    long line = 1;
    for (const char *p = text, *next; *p && !bad; line++) {
        next = next_line(p);
        fwrite(p, 1, (size_t)(next - p), out);
        const char *name = begins(p, begin_mark) ? p + strlen(begin_mark) : NULL,
                   *close = name ? strstr(name, mark_close) : NULL;
        if (begins(p, end_mark)) {
            bad = err_set("%s:%ld: %s without a table before it", path, line, end_mark);
        } else if (name && (!close || close > next)) {
            bad = err_set("%s:%ld: a marker is written %sNAME%s", path, line, begin_mark, mark_close);
        } else if (name) {
            char *copy = xstrndup(name, (size_t)(close - name));
            p = next;
            line++;
            bad = one_table(out, s, path, &p, &line, copy, check);
            free(copy);
            if (bad) break;
            next = next_line(p);
            fwrite(p, 1, (size_t)(next - p), out);
        }
        p = next;
    }
    return bad;
}

static int write_text(const char *path, const char *text) {
    file_out o = {0};
    if (file_out_open(&o, path)) return -1;
    fputs(text, o.f);
    return file_out_close(&o);
}

int tables_document(tables_spec *s, const char *path, bool check) {
    size_t bytes, n;
    char *text = file_read(path, &n), *new = NULL;
    if (!text) return -1;
    if (strlen(text) < n) {
        err_set("%s: byte %zu is zero; this is not a text file", path, strlen(text));
        free(text);
        return -1;
    }
    FILE *f = open_memstream(&new, &bytes);
    int bad = all_tables(f, s, path, text, check);
    fclose(f);
    if (!bad && !check && strcmp(text, new) != 0) bad = write_text(path, new);
    free(text);
    free(new);
    return bad;
}

// ---------------------------------------------------------------- numbers
// The text with one blank for every run of white space, since sentences run over lines; the caller frees.
static char *one_line(const char *text) {
    char *line = xmalloc(strlen(text) + 1), *out = line;
    for (; *text; text++) {
        if (!isspace((unsigned char)*text))
            *out++ = *text;
        else if (out == line || out[-1] != ' ')
            *out++ = ' ';
    }
    *out = 0;
    return line;
}

static int in_document(const char *path, const char *words, const char *number) {
    char *text = file_read(path, NULL);
    if (!text) return -1;
    char *line = one_line(text), *sought = one_line(words);
    int bad = 0;
    if (!strstr(line, sought))
        bad = err_set("%s: \"%s\" is not there", path, sought);
    else if (!strstr(sought, number))
        bad = err_set("\"%s\" does not hold %s", sought, number);
    free(text);
    free(line);
    free(sought);
    return bad;
}

enum {
    DOCUMENT,
    WORDS,
    NUMBER,
    CSV,
    WHERE,
    VALUE,
    STATISTIC,
    ACROSS,
    RELATION,
    OVER,
    OVER_VALUE,
    BY,
    SCALE,
    FORMAT,
    FIELDS
};
static const char *const field_names[FIELDS] = {"document",   "words",     "number", "csv",      "where",
                                                "value",      "statistic", "across", "relation", "over",
                                                "over_value", "by",        "scale",  "format"};

// The names of "a+b", NULL at their end; the caller frees.
static const char **names_of(const char *text) {
    char *list = xstrdup(text);
    for (char *p = list; *p; p++)
        if (*p == '+') *p = ',';
    int n;
    char **name = cli_split(list, &n);
    free(list);
    return (const char **)name;
}

static const char *or_else(const char *text, const char *otherwise) { return *text ? text : otherwise; }

static int computed(char **text, tables_spec *s, char *const field[FIELDS]) {
    csv_file *c = tables_csv(s, field[CSV]);
    if (!c) return -1;
    char *stop;
    const double scale = strtod(or_else(field[SCALE], "1"), &stop);
    if (*field[SCALE] && *stop) return err_set("scale \"%s\" is no number", field[SCALE]);
    tables_measure m = {.value = or_else(field[VALUE], "value"),
                        .statistic = or_else(field[STATISTIC], "one"),
                        .relation = or_else(field[RELATION], NULL),
                        .over = or_else(field[OVER], NULL),
                        .over_value = or_else(field[OVER_VALUE], NULL),
                        .format = field[FORMAT],
                        .scale = scale};
    m.by = names_of(field[BY]);
    m.across = names_of(field[ACROSS]);
    csv_filter where = {0};
    int bad = csv_filter_add(&where, field[WHERE]);
    if (!bad) bad = tables_number(text, c, &where, &m);
    csv_filter_free(&where);
    free(m.by);
    free(m.across);
    return bad;
}

static int check_number(tables_spec *s, char *const field[FIELDS], FILE *list) {
    char *text = NULL;
    int bad = computed(&text, s, field);
    if (bad) return bad;
    bad = in_document(field[DOCUMENT], field[WORDS], field[NUMBER]);
    if (!bad && strcmp(text, field[NUMBER]) != 0)
        bad = err_set("%s: \"%s\" says %s where the CSV gives %s", field[DOCUMENT], field[WORDS], field[NUMBER], text);
    if (list) fprintf(list, "%s  %s  %s\n", bad ? "no " : "yes", text, bad ? err_get() : field[WORDS]);
    free(text);
    return list ? 0 : bad;
}

int tables_numbers(tables_spec *s, const char *path, FILE *list) {
    csv_file c;
    int column[FIELDS], bad = 0;
    if (csv_read(&c, path)) return -1;
    for (int i = 0; i < FIELDS && !bad; i++) bad = (column[i] = csv_column(&c, field_names[i])) < 0 ? -1 : 0;
    for (long r = 0; r < c.n && !bad; r++) {
        char *field[FIELDS];
        for (int i = 0; i < FIELDS; i++) field[i] = c.row[r].field[column[i]];
        if (check_number(s, field, list)) bad = err_prefix("%s:%ld", path, c.row[r].line);
    }
    csv_free(&c);
    return bad;
}
