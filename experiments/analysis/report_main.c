// report - the HTML page of a folder of results (report.h), written, or compared with what its files give now.
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "report.h"

static char *spec_file = "experiments/paper/report.json", *in = "results/paper", *out_file;
static bool check;

static const cli_option options[] = {
    {.name = "spec",
     .type = CLI_STR,
     .value = &spec_file,
     .arg = "FILE",
     .help = "JSON file: sections, figures, tables"},
    {.name = "in", .type = CLI_STR, .value = &in, .arg = "DIR", .help = "folder of the CSV files and of plots/"},
    {.name = "out", .type = CLI_STR, .value = &out_file, .arg = "FILE", .help = "the page", .required = true},
    {.name = "check",
     .type = CLI_FLAG,
     .value = &check,
     .help = "write nothing; end with 1 where the page is not the one that the CSV files and pictures give"},
    {0},
};

static int compare(const char *path, const char *new) {
    char *old = file_read(path, NULL);
    if (!old) return -1;
    long line = 1;
    size_t i = 0;
    for (; old[i] && old[i] == new[i]; i++) line += old[i] == '\n';
    const bool same = old[i] == new[i];
    free(old);
    return same ? 0 : err_set("%s:%ld: does not follow from the files of %s; write it again", path, line, in);
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "one self-contained HTML page from the tables and pictures of a folder of results", options);
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    int bad = report_write(f, spec_file, in);
    fclose(f);
    file_out out = {0};
    if (!bad && check) {
        bad = compare(out_file, text);
    } else if (!bad) {
        bad = file_out_open(&out, out_file);
        if (!bad) {
            fwrite(text, 1, bytes, out.f);
            bad = file_out_close(&out);
        }
    }
    free(text);
    if (bad) die(1, "%s", err_get());
    return 0;
}
