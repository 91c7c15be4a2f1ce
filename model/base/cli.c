// cli - the parser of long options, --help and resolved headers. Contract in cli.h.
#include "cli.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t given;            // bit i: option i was on the command line
static const cli_option *parsed;  // the table of the one cli_parse of this program

static void print_value(FILE *f, const cli_option *o) {
    switch (o->type) {
    case CLI_STR: fputs(*(char **)o->value ? *(char **)o->value : "", f); break;
    case CLI_INT: fprintf(f, "%ld", *(long *)o->value); break;
    case CLI_FLOAT: fprintf(f, "%g", *(double *)o->value); break;
    case CLI_FLAG: fputs(*(bool *)o->value ? "yes" : "no", f); break;
    }
}

static void help(const char *summary, const cli_option *options) {
    printf("%s - %s\n\nusage: %s", program_name, summary, program_name);
    for (const cli_option *o = options; o->name; o++)
        if (o->required) printf(" --%s %s", o->name, o->arg);
    printf(" [options]\n\n");
    for (const cli_option *o = options; o->name; o++) {
        const char *arg = o->arg ? o->arg : "VALUE";
        int n = printf("  --%s %s", o->name, o->type == CLI_FLAG ? "" : arg);
        printf("%*s%s", n < 26 ? 26 - n : 1, "", o->help);
        if (o->choices && !strchr(o->arg ? o->arg : "", '|')) printf("; one of %s", o->choices);
        if (o->required)
            printf(" (required)");
        else if (o->type != CLI_FLAG && !(o->type == CLI_STR && (!*(char **)o->value || !**(char **)o->value))) {
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

static bool in_choices(const char *list, const char *value) {
    size_t n = strlen(value);
    for (const char *p = list;; p += strcspn(p, "|") + 1) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, value, n) == 0) return true;
        if (!p[len]) return false;
    }
}

static void unknown(const char *name, const cli_option *options) {
    fprintf(stderr, "%s: unknown option %s; the options are:", program_name, name);
    for (const cli_option *o = options; o->name; o++) fprintf(stderr, " --%s", o->name);
    fprintf(stderr, " --help\n");
    exit(2);
}

// An empty name of a file or folder is an unset variable of the caller's script.
static bool is_path(const cli_option *o) {
    return o->arg &&
           (strncmp(o->arg, "DIR", 3) == 0 || strncmp(o->arg, "FILE", 4) == 0 || strcmp(o->arg, "STORE") == 0);
}

static void set(const cli_option *o, const char *value) {
    char *end;
    errno = 0;
    double x = NAN;
    switch (o->type) {
    case CLI_STR:
        if (!*value && is_path(o)) die(2, "--%s: an empty name; want %s (%s)", o->name, o->arg, o->help);
        if (o->choices && !in_choices(o->choices, value)) die(2, "--%s %s: not one of %s", o->name, value, o->choices);
        *(const char **)o->value = value;
        return;
    case CLI_INT:
        x = (double)(*(long *)o->value = strtol(value, &end, 10));
        if (end == value || *end || errno) die(2, "--%s %s: a whole number is wanted", o->name, value);
        break;
    case CLI_FLOAT:
        x = *(double *)o->value = strtod(value, &end);
        if (end == value || *end || !isfinite(x)) die(2, "--%s %s: a number is wanted", o->name, value);
        break;
    case CLI_FLAG: *(bool *)o->value = true; return;
    }
    if (o->max > o->min && !(x >= o->min && x <= o->max))
        die(2, "--%s %s: outside %g..%g", o->name, value, o->min, o->max);
}

void cli_parse(int argc, char **argv, const char *summary, const cli_option *options) {
    const char *slash = strrchr(argv[0], '/');
    program_name = slash ? slash + 1 : argv[0];
    parsed = options;
    int n_options = 0;
    while (options[n_options].name) n_options++;
    ASSERT(n_options <= 64);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) help(summary, options);
        if (strncmp(argv[i], "--", 2) != 0) die(2, "%s: not an option (options begin with --; see --help)", argv[i]);
        const char *name = argv[i] + 2, *eq = strchr(name, '=');
        size_t len = eq ? (size_t)(eq - name) : strlen(name);
        int k = 0;
        while (options[k].name && !(strlen(options[k].name) == len && strncmp(options[k].name, name, len) == 0)) k++;
        const cli_option *o = &options[k];
        if (!o->name) unknown(argv[i], options);
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
    for (int k = 0; k < n_options; k++)
        if (options[k].required && !(given >> k & 1))
            die(2, "--%s is required (%s); see --help", options[k].name, options[k].help);
}

bool cli_given(const cli_option *options, const char *name) {
    ASSERT(options == parsed);
    for (int k = 0; options[k].name; k++)
        if (strcmp(options[k].name, name) == 0) return given >> k & 1;
    ASSERT(!"cli_given: no such option");
    return false;
}

char *cli_resolved(const cli_option *options) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    for (const cli_option *o = options; o->name; o++) {
        fprintf(f, "%s%s=", o == options ? "" : " ", o->name);
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

char **cli_split(const char *list, int *n) {
    size_t items = 1, bytes = strlen(list) + 1;
    for (const char *p = list; *p; p++) items += *p == ',';
    char **out = xmalloc((items + 1) * sizeof *out + bytes), *text = (char *)(out + items + 1), *save = NULL;
    memcpy(text, list, bytes);
    int k = 0;
    for (char *p = strtok_r(text, ",", &save); p; p = strtok_r(NULL, ",", &save)) out[k++] = p;
    out[k] = NULL;
    if (n) *n = k;
    return out;
}
