// test_cli - the option parser: values, refusals with their exit status and text, the quoting of commands (checked by a
// shell). cli_parse ends the process when it refuses, so each command line is parsed in a child whose output is read.
#include "cli.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { MAX_ARGS = 8 };

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
        char *name = "", *mode = "sound", *argv[MAX_ARGS + 1] = {"/some/where/prog"};
        long count = 4;
        double rate = 0.5;
        bool fast = false;
        const cli_option options[] = {{"name", CLI_STR, &name, "NAME", "what it is called", true, NULL, 0, 0},
                                      {"count", CLI_INT, &count, "N", "how many", false, NULL, 0, 100},
                                      {"rate", CLI_FLOAT, &rate, "X", "how much", false, NULL, -1, 1},
                                      {"mode", CLI_STR, &mode, "MODE", "which", false, "sound|compat", 0, 0},
                                      {"fast", CLI_FLAG, &fast, NULL, "hurry", false, NULL, 0, 0},
                                      {0}};
        int argc = 1;
        for (; args[argc - 1] && argc < MAX_ARGS; argc++) argv[argc] = args[argc - 1];
        cli_parse(argc, argv, "a program of the test", options);
        char *resolved = cli_resolved(options);
        printf("%s given=%d%d %s\n", resolved, cli_given(options, "count"), cli_given(options, "fast"), program_name);
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
        {{"--name", "x"}, 0, "name=x count=4 rate=0.5 mode=sound fast=no given=00 prog"},
        {{"--name=x", "--count=7", "--fast"}, 0, "name=x count=7 rate=0.5 mode=sound fast=yes given=11 prog"},
        {{"--name=a=b", "--rate", "-0.25"}, 0, "name=a=b count=4 rate=-0.25"},
        {{"--name", "--count"}, 0, "name=--count"},
        {{"--name", "x", "--count", "1", "--count", "2"}, 0, "count=2"},
        {{"--help"}, 0, "  --mode MODE             which; one of sound|compat (default sound)\n"},
        {{"-h"}, 0, "usage: prog --name NAME [options]"},
        {{"--name", "x", "--help"}, 0, "what it is called (required)\n"},
        {{NULL}, 2, "prog: --name is required (what it is called); see --help\n"},
        {{"--nam", "x"},
         2,
         "prog: unknown option --nam; the options are: --name --count --rate --mode --fast --help\n"},
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
        {{"--name=x", "--count", "99999999999999999999"}, 2, "a whole number is wanted"},
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
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_and_refusals),
                                       cmocka_unit_test(command_survives_a_shell), cmocka_unit_test(lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
