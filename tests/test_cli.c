// test_cli - the option parser: values, refusals with their exit status and text, the quoting of commands (checked by a
// shell). cli_parse ends the process when it refuses, so each command line is parsed in a child whose output is read.
#include "cli.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { MAX_ARGS = 8 };

typedef enum { SOUND, COMPAT } mode;
static const char *const modes[] = {"sound", "compat", NULL};
static const char *const kinds[] = {"heads", "neurons", "both", NULL};
static const int kind_bits[] = {1, 2, 3};
static const char *const splits[] = {"train", "test", NULL};
static const char *const types[] = {"fp32", "fp16", NULL};

// A table that programs share, and the struct of its values.
typedef struct {
    char *where;
    long threads;
    int kind;
} shared;
static const cli_option shared_options[] = {
    {.name = "where", .type = CLI_STR, .place = offsetof(shared, where), .arg = "NAME", .help = "where to compute"},
    {.name = "threads", .type = CLI_INT, .place = offsetof(shared, threads), .arg = "N", .help = "threads", .max = 64},
    {.name = "kind",
     .type = CLI_CHOICE,
     .place = offsetof(shared, kind),
     .arg = "KIND",
     .help = "units",
     .names = kinds,
     .values = kind_bits},
    {0}};

// Runs the parser on a command line; *text: what it printed, stdout and stderr, and after it the resolved options.
// Returns the exit status.
static int parse(char **text, char *const *args) {
    int fd[2];
    if (pipe(fd)) return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], 1);
        dup2(fd[1], 2);
        close(fd[0]);
        close(fd[1]);
        char *name = "", *split = NULL, *argv[MAX_ARGS + 1] = {"/some/where/prog"};
        long count = 4;
        double rate = 0.5;
        bool fast = false;
        mode how = SOUND;
        int type = -1;
        cli_list sizes = {2, (const long[]){8, 16}}, all = {1, (const long[]){COMPAT}};
        shared common = {.where = "cpu", .kind = 3};
        const cli_option options[] = {
            {.name = "name",
             .type = CLI_STR,
             .value = &name,
             .arg = "NAME",
             .help = "what it is called",
             .required = true},
            {.name = "count", .type = CLI_INT, .value = &count, .arg = "N", .help = "how many", .max = 100},
            {.name = "rate", .type = CLI_FLOAT, .value = &rate, .arg = "X", .help = "how much", .min = -1, .max = 1},
            {.name = "mode", .type = CLI_CHOICE, .value = &how, .arg = "MODE", .help = "which", .names = modes},
            {.name = "type", .type = CLI_CHOICE, .value = &type, .arg = "TYPE", .help = "how wide", .names = types},
            {.group = shared_options, .value = &common},
            {.name = "fast", .type = CLI_FLAG, .value = &fast, .help = "hurry"},
            {.name = "sizes", .type = CLI_INTS, .value = &sizes, .arg = "a,b", .help = "how big", .min = 1, .max = 64},
            {.name = "split", .type = CLI_STR, .value = &split, .arg = "PART", .help = "of what", .names = splits},
            {.name = "all", .type = CLI_CHOICES, .value = &all, .arg = "a,b", .help = "which all", .names = modes},
            {0}};
        int argc = 1;
        for (; args[argc - 1] && argc < MAX_ARGS; argc++) argv[argc] = args[argc - 1];
        cli_parse(argc, argv, "a program of the test", options);
        char *resolved = cli_resolved(options);
        printf("%s given=%d%d%d %s\n", resolved, cli_given(options, "count"), cli_given(options, "threads"),
               cli_given(options, "fast"), program_name);
        printf("%d %d %s %ld %d", how, type, common.where, common.threads, common.kind);
        for (int i = 0; i < sizes.n; i++) printf(" %ld", sizes.at[i]);
        for (int i = 0; i < all.n; i++) printf(" %s", modes[all.at[i]]);
        free(resolved);
        fflush(stdout);
        _exit(0);
    }
    close(fd[1]);
    char buffer[4096];
    size_t n = 0;
    for (ssize_t got; (got = read(fd[0], buffer + n, sizeof buffer - 1 - n)) > 0;) n += (size_t)got;
    close(fd[0]);
    int status;
    waitpid(pid, &status, 0);
    *text = xstrndup(buffer, n);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void values_and_refusals(void **state) {
    (void)state;
    const struct {
        char *args[MAX_ARGS];
        int status;
        const char *says;
    } cases[] = {
        {{"--name", "x"},
         0,
         "name=x count=4 rate=0.5 mode=sound type= where=cpu threads=0 kind=both fast=no sizes=8,16 split= all=compat "
         "given=000 "
         "prog\n0 -1 cpu 0 3 8 16 compat"},
        {{"--name=x", "--count=7", "--fast"}, 0, "name=x count=7 rate=0.5 mode=sound"},
        {{"--name=x", "--count=7", "--fast"}, 0, "fast=yes sizes=8,16 split= all=compat given=101 prog"},
        {{"--name=x", "--mode", "compat", "--type", "fp16"}, 0, " mode=compat type=fp16 "},
        {{"--name=x", "--mode", "compat", "--type", "fp16"}, 0, "\n1 1 cpu 0 3 8 16 compat"},
        {{"--name=x", "--kind=neurons", "--threads=2", "--where=gpu"}, 0, "where=gpu threads=2 kind=neurons"},
        {{"--name=x", "--kind=neurons", "--threads=2", "--where=gpu"}, 0, "given=010 prog\n0 -1 gpu 2 2 8"},
        {{"--name=x", "--sizes=64,,1,", "--all=compat,sound"}, 0, " sizes=64,1 split= all=compat,sound "},
        {{"--name=x", "--sizes=64,,1,", "--all=compat,sound"}, 0, " 64 1 compat sound"},
        {{"--name=a=b", "--rate", "-0.25"}, 0, "name=a=b count=4 rate=-0.25"},
        {{"--name", "--count"}, 0, "name=--count"},
        {{"--name", "x", "--count", "1", "--count", "2"}, 0, "count=2"},
        {{"--help"}, 0, "  --mode MODE             which; one of sound|compat (default sound)\n"},
        {{"--help"}, 0, "  --type TYPE             how wide; one of fp32|fp16\n"},
        {{"--help"}, 0, "  --kind KIND             units; one of heads|neurons|both (default both)\n"},
        {{"--help"}, 0, "  --sizes a,b             how big (default 8,16)\n"},
        {{"--help"}, 0, "  --all a,b               which all; some of sound, compat (default compat)\n"},
        {{"--help"}, 0, "  --fast                  hurry\n"},
        {{"-h"}, 0, "usage: prog --name NAME [options]"},
        {{"--name", "x", "--help"}, 0, "what it is called (required)\n"},
        {{NULL}, 2, "prog: --name is required (what it is called); see --help\n"},
        {{"--nam", "x"},
         2,
         "prog: unknown option --nam; the options are: --name --count --rate --mode --type --where --threads --kind "
         "--fast --sizes --split --all --help\n"},
        {{"--names=x"}, 2, "unknown option --names=x; the options are:"},
        {{"x"}, 2, "x: not an option"},
        {{"-n", "x"}, 2, "-n: not an option"},
        {{"--name"}, 2, "--name: a value is missing"},
        {{"--name=x", "--fast=1"}, 2, "--fast takes no value"},
        {{"--name=x", "--mode", "soun"}, 2, "--mode soun: not one of sound|compat"},
        {{"--name=x", "--mode", "sound|compat"}, 2, "not one of sound|compat"},
        {{"--name=x", "--mode="}, 2, "not one of sound|compat"},
        {{"--name=x", "--count", "seven"}, 2, "--count seven: a whole number is wanted"},
        {{"--name=x", "--count", "7.5"}, 2, "a whole number is wanted"},
        {{"--name=x", "--count="}, 2, "a whole number is wanted"},
        {{"--name=x", "--count", "99999999999999999999"}, 2, "--count 99999999999999999999: outside 0..100"},
        {{"--name=x", "--count", "-99999999999999999999"}, 2, "outside 0..100"},
        {{"--name=x", "--threads", "65"}, 2, "--threads 65: outside 0..64"},
        {{"--name=x", "--kind", "head"}, 2, "--kind head: not one of heads|neurons|both"},
        {{"--name=x", "--type="}, 2, "not one of fp32|fp16"},
        {{"--name=x", "--sizes", "8,65"}, 2, "--sizes 65: outside 1..64"},
        {{"--name=x", "--sizes", "18446744073709551617"}, 2, "--sizes 18446744073709551617: outside 1..64"},
        {{"--name=x", "--sizes", "8,x"}, 2, "--sizes x: a whole number is wanted"},
        {{"--name=x", "--sizes", ","}, 2, "--sizes names no number"},
        {{"--name=x", "--split", "test"}, 0, " split=test "},
        {{"--name=x", "--split", "tests"}, 2, "--split tests: not one of train|test"},
        {{"--name=x", "--all", "sound,other"}, 2, "--all other: not one of sound, compat"},
        {{"--name=x", "--all", "sound,sound"}, 2, "--all sound,sound: sound is named twice"},
        {{"--name=x", "--all="}, 2, "--all names none of sound, compat"},
        {{"--name=x", "--count", "101"}, 2, "--count 101: outside 0..100"},
        {{"--name=x", "--count", "-1"}, 2, "outside 0..100"},
        {{"--name=x", "--rate", "nan"}, 2, "a number is wanted"},
        {{"--name=x", "--rate", "inf"}, 2, "a number is wanted"},
        {{"--name=x", "--rate", "1.5"}, 2, "outside -1..1"},
        {{"--name=x", "--rate", "1,5"}, 2, "a number is wanted"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = NULL;
        int status = parse(&text, cases[i].args);
        if (status != cases[i].status || !strstr(text, cases[i].says))
            fail_msg("case %zu: exit %d, want %d with \"%s\", printed: %s", i, status, cases[i].status, cases[i].says,
                     text);
        if (status == 2) assert_true(strchr(text, '\n') == text + strlen(text) - 1);  // one line
        free(text);
    }
}

static void command_survives_a_shell(void **state) {
    (void)state;
    char *argv[] = {"bin/x", "plain", "two words",  "it's", "$HOME `id` \\", "*?[a]", "a;b&c|d<e>f(g)", "",
                    "~",     "#no",   "line\nfeed", "!",    "{a,b}",         "\"q\"", "caf\303\251"};
    const int argc = sizeof argv / sizeof *argv;
    char *command = cli_command(argc, argv), *run = xasprintf("show() { printf '%%s|' \"$@\"; }; show %s", command),
         *want = xstrdup("");
    for (int i = 0; i < argc; i++) {
        char *longer = xasprintf("%s%s|", want, argv[i]);
        free(want);
        want = longer;
    }
    FILE *f = popen(run, "r");
    assert_non_null(f);
    char got[1024];
    size_t n = fread(got, 1, sizeof got - 1, f);
    got[n] = 0;
    assert_int_equal(pclose(f), 0);
    assert_string_equal(got, want);
    free(command);
    free(run);
    free(want);
}

static void lists(void **state) {
    (void)state;
    int n;
    char **v = cli_split("a,,bc,", &n);
    assert_int_equal(n, 2);
    assert_string_equal(v[0], "a");
    assert_string_equal(v[1], "bc");
    assert_null(v[2]);
    free(v);
    v = cli_split("", &n);
    assert_int_equal(n, 0);
    assert_null(v[0]);
    free(v);
    v = cli_split("a\\,b,\\,,c\\", &n);
    assert_int_equal(n, 3);
    assert_string_equal(v[0], "a,b");
    assert_string_equal(v[1], ",");
    assert_string_equal(v[2], "c\\");
    free(v);
}

// Files "a,b" and "c" are there; "d,e" is not.
static void lists_of_files(void **state) {
    (void)state;
    static const struct {
        const char *list, *prefix;
        int n;
        const char *item[4];
    } test[] = {
        {"c,a,b,d,e", "", 4, {"c", "a,b", "d", "e"}},
        {"a,b", "", 1, {"a,b"}},
        {"d\\,e,c,", "", 2, {"d,e", "c"}},
        {"a\\,b,,c", "", 2, {"a,b", "c"}},
        {"a,b,file:a,b,file:d,e", "file:", 4, {"a", "b", "file:a,b", "file:d"}},
        {"", "", 0, {0}},
    };
    char dir[] = "/tmp/test_cli_XXXXXX", back[4096];
    assert_non_null(getcwd(back, sizeof back));
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    fclose(fopen("a,b", "w"));
    fclose(fopen("c", "w"));
    for (size_t i = 0; i < sizeof test / sizeof *test; i++) {
        int n;
        char **v = cli_split_files(test[i].list, test[i].prefix, &n);
        assert_int_equal(n, test[i].n + (i == 4));  // and "e"
        for (int k = 0; k < test[i].n; k++) assert_string_equal(v[k], test[i].item[k]);
        assert_null(v[n]);
        free(v);
    }
    unlink("a,b");
    unlink("c");
    assert_int_equal(chdir(back), 0);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_and_refusals),
                                       cmocka_unit_test(command_survives_a_shell), cmocka_unit_test(lists),
                                       cmocka_unit_test(lists_of_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
