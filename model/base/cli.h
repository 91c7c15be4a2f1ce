// cli - one option table per program makes the parser, --help and the header of resolved options.
// Long options only: --name VALUE or --name=VALUE; a flag takes no value. --help prints and exits 0; an unknown option
// or a bad value exits 2 with the valid ones.
#pragma once
#include "base.h"

typedef enum { CLI_STR, CLI_INT, CLI_FLOAT, CLI_FLAG } cli_type;  // char *, long, double, bool

typedef struct {
    const char *name;  // without --
    cli_type type;
    void *value;       // holds the default before, the given value after cli_parse
    const char *arg;   // placeholder in --help, e.g. "DIR"; NULL for a flag
    const char *help;  // one line; the default is appended
    bool required;
    const char *choices;  // "sound|compat|both": any other value is refused with this list; NULL: any
    double min, max;      // for numbers, checked when max > min
} cli_option;

// options end with {0}. summary: what the program does, first line of --help; may hold several lines.
void cli_parse(int argc, char **argv, const char *summary, const cli_option *options);
// "name=value name=value ..." of every option, for result headers and provenance; caller frees.
char *cli_resolved(const cli_option *options);
// The command line as typed, quoted for a shell; caller frees.
char *cli_command(int argc, char **argv);
// Splits "a,b,c" into a NULL-terminated array (one block: free the array); empty items are dropped.
char **cli_split(const char *list, int *n);
// True if the option was given on the command line.
bool cli_given(const cli_option *options, const char *name);
