// tables_spec - the JSON file of tables, and the CSV files that it names. Contract in tables.h.
#include "tables.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli.h"

static tables_source *find_source(tables_spec *s, const char *name) {
    for (int i = 0; i < s->n_sources; i++)
        if (strcmp(s->source[i].name, name) == 0) return &s->source[i];
    err_set("%s: no CSV is named %s", s->path, name);
    return NULL;
}

static int override_paths(tables_spec *s, const char *list) {
    int n, bad = 0;
    char **part = cli_split(list, &n);
    for (int i = 0; i < n && !bad; i++) {
        char *eq = strchr(part[i], '=');
        if (eq) *eq = 0;
        tables_source *of = eq ? find_source(s, part[i]) : NULL;
        if (!eq)
            bad = err_set("--csv %s: NAME=PATH is wanted", part[i]);
        else if (!of)
            bad = -1;
        if (!of) continue;
        free(of->path);
        of->path = xstrdup(eq + 1);
    }
    free(part);
    return bad;
}

// A path with the folder `in` in the place of {in}; the caller frees.
static char *path_in(const char *path, const char *in) {
    const char *at = strstr(path, "{in}");
    return at ? xasprintf("%.*s%s%s", (int)(at - path), path, in, at + strlen("{in}")) : xstrdup(path);
}

// {"as": NAME, ..} becomes the measure of that name with the other fields in place of its own; the conditions of its
// "where" come before theirs.
static int resolve_one(json_t *j, const json_t *measures) {
    const char *name = json_string_value(json_object_get(j, "as"));
    json_t *measure = name ? json_object_get(measures, name) : NULL;
    if (!measure) return err_set("as: no measure is named %s", name ? name : "so");
    const char *first = json_string_value(json_object_get(measure, "where")),
               *second = json_string_value(json_object_get(j, "where"));
    if (first && second) {
        char *both = xasprintf("%s,%s", first, second);
        json_object_set_new(j, "where", json_string(both));
        free(both);
    }
    json_object_update_missing(j, measure);
    json_object_del(j, "as");
    return 0;
}

static int resolve(json_t *j, const json_t *measures) {
    size_t i;
    const char *key;
    json_t *inner;
    if (json_object_get(j, "as") && resolve_one(j, measures)) return -1;
    json_object_foreach(j, key, inner) {
        if (resolve(inner, measures)) return -1;
    }
    json_array_foreach(j, i, inner) {
        if (resolve(inner, measures)) return -1;
    }
    return 0;
}

static int read_spec(tables_spec *s, const char *in) {
    json_error_t e;
    json_t *csv, *tables, *path, *measures = NULL;
    const char *name;
    s->root = json_load_file(s->path, JSON_REJECT_DUPLICATES, &e);
    if (!s->root && e.line < 0) return err_set("%s", e.text);  // that it cannot be opened
    if (!s->root) return err_set("%s:%d: %s", s->path, e.line, e.text);
    if (json_unpack_ex(s->root, &e, JSON_STRICT, "{s:o, s:o, s?o}", "csv", &csv, "tables", &tables, "measures",
                       &measures))
        return err_set("%s: %s", s->path, e.text);
    if (resolve(tables, measures)) return err_prefix("%s", s->path);
    s->source = xcalloc(json_object_size(csv) + 1, sizeof *s->source);
    json_object_foreach(csv, name, path) {
        if (!json_is_string(path)) return err_set("%s: csv: %s: a path is wanted", s->path, name);
        s->source[s->n_sources++] =
            (tables_source){.name = xstrdup(name), .path = path_in(json_string_value(path), in)};
    }
    return 0;
}

int tables_open(tables_spec *s, const char *path, const char *in, const char *override) {
    *s = (tables_spec){.path = xstrdup(path)};
    int bad = read_spec(s, in);
    if (!bad && override) bad = override_paths(s, override);
    if (bad) tables_close(s);
    return bad;
}

void tables_close(tables_spec *s) {
    for (int i = 0; i < s->n_sources; i++) {
        csv_free(&s->source[i].file);
        free(s->source[i].name);
        free(s->source[i].path);
    }
    free(s->source);
    free(s->path);
    json_decref(s->root);
    *s = (tables_spec){0};
}

csv_file *tables_csv(tables_spec *s, const char *name) {
    tables_source *of = find_source(s, name);
    if (!of) return NULL;
    if (!of->loaded && csv_read(&of->file, of->path)) {
        s->nothing = access(of->path, F_OK) != 0;
        return NULL;
    }
    of->loaded = true;
    return &of->file;
}
