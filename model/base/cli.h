// cli - one option table per program makes the parser, --help and the header of resolved options.
// Long options only: --name VALUE or --name=VALUE; a flag takes no value. --help prints and exits 0; an unknown option
// or a bad value exits 2 with the valid ones.
#pragma once
#include "base.h"

typedef enum {
    CLI_STR,     // char *
    CLI_INT,     // long
    CLI_FLOAT,   // double
    CLI_FLAG,    // bool
    CLI_CHOICE,  // an enum or int: one of `names`
    CLI_INTS,    // cli_list of whole numbers
    CLI_CHOICES  // cli_list of `names`, each at most once
} cli_type;

// The items of a,b,c, at least one; empty ones are dropped. What is parsed lives as long as the program.
typedef struct {
    int n;
    const long *at;
} cli_list;

// A row of an option table; rows are written with designated initialisers.
typedef struct cli_option {
    const char *name;  // without --
    cli_type type;
    void *value;       // holds the default before, the given value after cli_parse
    const char *arg;   // placeholder in --help, e.g. "DIR"; NULL for a flag
    const char *help;  // one line; the default is appended
    bool required;
    double min, max;  // of every number: any other is refused
    // The names of a choice, or of a string that is one of them; NULL at the end. A choice's value is the place of its
    // name, or what `values` has at that place; a default that no name has, such as -1, says that the option was not
    // given.
    const char *const *names;
    const int *values;
    // Instead of all this: a table of options that several programs share, whose values are in the struct at `value`.
    // In such a table `place` is the offset of a value in that struct.
    const struct cli_option *group;
    size_t place;
} cli_option;

#define CLI_SEED_MAX 9e15  // of any --seed: whole numbers that a double holds

// The first call of every program. options: static, end with {0}. summary: what the program does, first line of --help;
// may hold several lines. From then on a file-size limit is an error of the write, reported like a full disk, and no
// signal; standard descriptors that are closed are kept from becoming files: what is printed there is lost, and
// stdout_end says so; and there are as many threads as threads.h says.
void cli_parse(int argc, char **argv, const char *summary, const cli_option *options);
// "name=value name=value ..." of every option, for result headers and provenance; caller frees.
char *cli_resolved(const cli_option *options);
// The command line as typed, quoted for a shell; caller frees.
char *cli_command(int argc, char **argv);
// Splits "a,b,c" into a NULL-terminated array (one block: free the array); empty items are dropped. "\," is a comma
// within an item.
char **cli_split(const char *list, int *n);
// The same for a list of names of files, or of items of which some begin with `prefix` and go on with such a name:
// where a piece names no file, but together with those after it does, they are one item. So a comma in the name of a
// file that is there needs no "\,".
char **cli_split_files(const char *list, const char *prefix, int *n);
// True if the option was given on the command line.
bool cli_given(const cli_option *options, const char *name);
