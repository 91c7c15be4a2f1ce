// cli - the parser of long options, --help and resolved headers. Contract in cli.h.
#include "cli.h"
#include "threads.h"
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPTIONS = 64 };
static uint64_t given;                      // bit i: option i was on the command line
static const cli_option *parsed;            // the table of the one cli_parse of this program
static cli_option table[MOST_OPTIONS + 1];  // the same with the rows of its groups

static void make_table(const cli_option *options) {
    int n = 0;
    for (const cli_option *o = options; o->name || o->group; o++) {
        for (const cli_option *g = o->group ? o->group : o; g->name; g++) {
            ASSERT(n < MOST_OPTIONS);
            table[n] = *g;
            if (o->group) table[n].value = (char *)o->value + g->place;
            const bool number = g->type == CLI_INT || g->type == CLI_FLOAT || g->type == CLI_INTS;
            ASSERT(!number || g->max > g->min);
            n++;
            if (!o->group) break;
        }
    }
    parsed = options;
}

static int choice_value(const cli_option *o, int place) { return o->values ? o->values[place] : place; }

static const char *choice_name(const cli_option *o, long value) {
    for (int k = 0; o->names[k]; k++)
        if (choice_value(o, k) == value) return o->names[k];
    return "";
}

static char *all_names(const cli_option *o) {
    const char *between = o->type == CLI_CHOICES ? ", " : "|";
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    for (int k = 0; o->names[k]; k++) fprintf(f, "%s%s", k ? between : "", o->names[k]);
    fclose(f);
    return text;
}

static void print_value(FILE *f, const cli_option *o) {
    const cli_list *list = o->value;
    switch (o->type) {
    case CLI_STR: fputs(*(char **)o->value ? *(char **)o->value : "", f); break;
    case CLI_INT: fprintf(f, "%ld", *(long *)o->value); break;
    case CLI_FLOAT: fprintf(f, "%g", *(double *)o->value); break;
    case CLI_FLAG: fputs(*(bool *)o->value ? "yes" : "no", f); break;
    case CLI_CHOICE: fputs(choice_name(o, *(int *)o->value), f); break;
    case CLI_INTS:
        for (int i = 0; i < list->n; i++) fprintf(f, "%s%ld", i ? "," : "", list->at[i]);
        break;
    case CLI_CHOICES:
        for (int i = 0; i < list->n; i++) fprintf(f, "%s%s", i ? "," : "", choice_name(o, list->at[i]));
        break;
    }
}

static bool has_default(const cli_option *o) {
    switch (o->type) {
    case CLI_STR: return *(char **)o->value && **(char **)o->value;
    case CLI_CHOICE: return *choice_name(o, *(int *)o->value) != 0;
    case CLI_INTS:
    case CLI_CHOICES: return ((const cli_list *)o->value)->n > 0;
    case CLI_FLAG: return false;
    default: return true;
    }
}

static void help(const char *summary) {
    printf("%s - %s\n\nusage: %s", program_name, summary, program_name);
    for (const cli_option *o = table; o->name; o++)
        if (o->required) printf(" --%s %s", o->name, o->arg);
    printf(" [options]\n\n");
    for (const cli_option *o = table; o->name; o++) {
        int n = printf("  --%s %s", o->name, o->arg ? o->arg : "");
        printf("%*s%s", n < 26 ? 26 - n : 1, "", o->help);
        if (o->names) {
            char *names = all_names(o);
            printf("; %s %s", o->type == CLI_CHOICES ? "some of" : "one of", names);
            free(names);
        }
        if (o->required)
            printf(" (required)");
        else if (has_default(o)) {
            printf(" (default ");
            print_value(stdout, o);
            printf(")");
        }
        printf("\n");
    }
    printf("  --help                  this text\n");
    stdout_end();
    exit(0);
}

static void unknown(const char *name) {
    fprintf(stderr, "%s: unknown option %s; the options are:", program_name, name);
    for (const cli_option *o = table; o->name; o++) fprintf(stderr, " --%s", o->name);
    fprintf(stderr, " --help\n");
    exit(2);
}

// An empty name of a file or folder is an unset variable of the caller's script.
static bool is_path(const cli_option *o) {
    return o->arg &&
           (strncmp(o->arg, "DIR", 3) == 0 || strncmp(o->arg, "FILE", 4) == 0 || strcmp(o->arg, "STORE") == 0);
}

static void check_range(const cli_option *o, const char *text, double x) {
    if (x >= o->min && x <= o->max) return;
    if (o->type == CLI_FLOAT) die(2, "--%s %s: outside %g..%g", o->name, text, o->min, o->max);
    die(2, "--%s %s: outside %.0f..%.0f", o->name, text, o->min, o->max);
}

// Beyond the range of a long strtol gives its end, which is outside the range of any option.
static long whole_number(const cli_option *o, const char *text) {
    char *end;
    const long x = strtol(text, &end, 10);
    if (end == text || *end) die(2, "--%s %s: a whole number is wanted", o->name, text);
    check_range(o, text, (double)x);
    return x;
}

static int chosen(const cli_option *o, const char *text) {
    for (int k = 0; o->names[k]; k++)
        if (strcmp(o->names[k], text) == 0) return choice_value(o, k);
    die(2, "--%s %s: not one of %s", o->name, text, all_names(o));
}

static void set_list(const cli_option *o, const char *text) {
    int n;
    char **item = cli_split(text, &n);
    long *x = xcalloc((size_t)n + 1, sizeof *x);
    *(cli_list *)o->value = (cli_list){n, x};
    if (n == 0 && o->names) die(2, "--%s names none of %s", o->name, all_names(o));
    if (n == 0) die(2, "--%s names no number", o->name);
    for (int i = 0; i < n; i++) {
        x[i] = o->type == CLI_INTS ? whole_number(o, item[i]) : chosen(o, item[i]);
        for (int k = 0; o->type == CLI_CHOICES && k < i; k++)
            if (x[k] == x[i]) die(2, "--%s %s: %s is named twice", o->name, text, item[i]);
    }
    free(item);
}

static void set(const cli_option *o, const char *value) {
    char *end;
    double x;
    switch (o->type) {
    case CLI_STR:
        if (!*value && is_path(o)) die(2, "--%s: an empty name; want %s (%s)", o->name, o->arg, o->help);
        if (o->names) chosen(o, value);
        *(const char **)o->value = value;
        return;
    case CLI_INT: *(long *)o->value = whole_number(o, value); return;
    case CLI_FLOAT:
        x = *(double *)o->value = strtod(value, &end);
        if (end == value || *end || !isfinite(x)) die(2, "--%s %s: a number is wanted", o->name, value);
        check_range(o, value, x);
        return;
    case CLI_FLAG: *(bool *)o->value = true; return;
    case CLI_CHOICE: *(int *)o->value = chosen(o, value); return;
    case CLI_INTS:
    case CLI_CHOICES: set_list(o, value); return;
    }
}

// A descriptor 0-2 that is closed would be given to the first file opened, a result among them. Reading from it, or
// writing to it, fails as before.
static void hold_standard_descriptors(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) exit(1);
}

void cli_parse(int argc, char **argv, const char *summary, const cli_option *options) {
    hold_standard_descriptors();
    const char *slash = strrchr(argv[0], '/');
    program_name = slash ? slash + 1 : argv[0];
    make_table(options);
    signal(SIGXFSZ, SIG_IGN);
    threads_begin();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) help(summary);
        if (strncmp(argv[i], "--", 2) != 0) die(2, "%s: not an option (options begin with --; see --help)", argv[i]);
        const char *name = argv[i] + 2, *eq = strchr(name, '=');
        size_t len = eq ? (size_t)(eq - name) : strlen(name);
        int k = 0;
        while (table[k].name && !(strlen(table[k].name) == len && strncmp(table[k].name, name, len) == 0)) k++;
        const cli_option *o = &table[k];
        if (!o->name) unknown(argv[i]);
        given |= 1ull << k;
        if (o->type == CLI_FLAG) {
            if (eq) die(2, "--%s takes no value", o->name);
            set(o, NULL);
        } else if (eq) {
            set(o, eq + 1);
        } else {
            if (i + 1 >= argc) die(2, "--%s: a value is missing (%s)", o->name, o->help);
            set(o, argv[++i]);
        }
    }
    for (int k = 0; table[k].name; k++)
        if (table[k].required && !(given >> k & 1))
            die(2, "--%s is required (%s); see --help", table[k].name, table[k].help);
}

bool cli_given(const cli_option *options, const char *name) {
    ASSERT(options == parsed);
    for (int k = 0; table[k].name; k++)
        if (strcmp(table[k].name, name) == 0) return given >> k & 1;
    ASSERT(!"cli_given: no such option");
    return false;
}

char *cli_resolved(const cli_option *options) {
    ASSERT(options == parsed);
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    for (const cli_option *o = table; o->name; o++) {
        fprintf(f, "%s%s=", o == table ? "" : " ", o->name);
        print_value(f, o);
    }
    fclose(f);
    return text;
}

char *cli_command(int argc, char **argv) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    for (int i = 0; i < argc; i++) {
        bool plain = argv[i][0] && !argv[i][strcspn(argv[i], " \t\n'\"\\$`&|;<>()*?[]{}~#!")];
        fputs(i ? " " : "", f);
        if (plain)
            fputs(argv[i], f);
        else {
            fputc('\'', f);
            for (const char *p = argv[i]; *p; p++) fputs(*p == '\'' ? "'\\''" : (char[]){*p, 0}, f);
            fputc('\'', f);
        }
    }
    fclose(f);
    return text;
}

// The end of the piece of a list that begins at p: a comma, or the end of the list.
static const char *piece_end(const char *p) {
    while (*p && *p != ',') p += p[0] == '\\' && p[1] == ',' ? 2 : 1;
    return p;
}

// Writes the item of list[from..end) and its zero; returns what follows them.
static char *put_item(char *to, const char *from, const char *end) {
    while (from < end) {
        if (from[0] == '\\' && from[1] == ',') from++;
        *to++ = *from++;
    }
    *to++ = 0;
    return to;
}

// The end of the shortest run of pieces from p on that names a file; that of the first piece where none does. item is
// written over.
static const char *file_end(char *item, const char *p, const char *prefix) {
    const size_t skip = strlen(prefix);
    if (strncmp(p, prefix, skip) != 0) return piece_end(p);
    for (const char *end = piece_end(p);; end = piece_end(end + 1)) {
        put_item(item, p, end);
        if (path_there(item + skip)) return end;
        if (!*end) return piece_end(p);
    }
}

// prefix NULL: every piece is an item.
static char **split(const char *list, const char *prefix, int *n) {
    size_t items = 1;
    for (const char *p = list; *p; p++) items += *p == ',';
    char **out = xmalloc((items + 1) * sizeof *out + strlen(list) + 1), *to = (char *)(out + items + 1);
    int k = 0;
    for (const char *p = list, *end; *p; p = *end ? end + 1 : end) {
        end = prefix ? file_end(to, p, prefix) : piece_end(p);
        if (end == p) continue;
        out[k++] = to;
        to = put_item(to, p, end);
    }
    out[k] = NULL;
    if (n) *n = k;
    return out;
}

char **cli_split(const char *list, int *n) { return split(list, NULL, n); }

char **cli_split_files(const char *list, const char *prefix, int *n) { return split(list, prefix, n); }
