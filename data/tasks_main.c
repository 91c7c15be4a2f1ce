// tasks - lists the task files of a folder and prints examples as they are scored, to be read by eye; or the pages of a
// text; or a text's tokens.
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "split.h"
#include "task.h"
#include "wikitext.h"

static char *data, *tasks = "all", *split_wanted, *part = "", *wikitext_file, *model, *encode;
static bool special;
static mode_kind mode;
static long show = 0, shots = 0, seed = 0;

static const cli_option options[] = {
    {.name = "data",
     .type = CLI_STR,
     .value = &data,
     .arg = "DIR",
     .help = "folder of the tasks' folders (data/README.md)"},
    {.name = "tasks",
     .type = CLI_STR,
     .value = &tasks,
     .arg = "NAME,..|all",
     .help = "which; all: those that are in DIR"},
    {.name = "show",
     .type = CLI_INT,
     .value = &show,
     .arg = "N",
     .help = "print the first N examples of each in the order of --examples and --limit",
     .min = 0,
     .max = 1e9},
    {.name = "split",
     .type = CLI_STR,
     .value = &split_wanted,
     .arg = "NAME",
     .help = "show this split; else the one that sweep takes",
     .names = split_names},
    {.name = "part",
     .type = CLI_STR,
     .value = &part,
     .arg = "i/n",
     .help = "show one of n disjoint parts of it, as --part of score and sweep"},
    {.name = "wikitext",
     .type = CLI_STR,
     .value = &wikitext_file,
     .arg = "FILE",
     .help =
         "instead: the pages of this text as they stand in it, of --part those that sweep takes, --show N of them (0: "
         "all)"},
    {.name = "shots",
     .type = CLI_INT,
     .value = &shots,
     .arg = "K",
     .help = "few-shot examples before each",
     .min = 0,
     .max = 1000},
    {.name = "mode",
     .type = CLI_CHOICE,
     .value = &mode,
     .arg = "MODE",
     .help = "compat: few-shot examples may hold the example itself",
     .names = mode_names},
    {.name = "seed",
     .type = CLI_INT,
     .value = &seed,
     .arg = "N",
     .help = "of the order and of the few-shot examples",
     .min = 0,
     .max = 1e15},
    {.name = "model",
     .type = CLI_STR,
     .value = &model,
     .arg = "DIR",
     .help = "count tokens with this model's tokenizer"},
    {.name = "encode",
     .type = CLI_STR,
     .value = &encode,
     .arg = "TEXT|-",
     .help =
         "instead: the tokens of this text, or of standard input, by --model: an id and its piece a line, bytes that "
         "are no text as \\xNN"},
    {.name = "special",
     .type = CLI_FLAG,
     .value = &special,
     .help = "with --encode: names of special tokens in the text, as </s>, are these tokens"},
    {0},
};

static void list_splits(const char *name) {
    for (const char *const *of = split_names; *of; of++) {
        if (!task_exists(data, name, *of)) continue;
        task_split s;
        if (task_open(&s, data, name, *of, false)) die(1, "%s", err_get());
        printf("%-11s %-5s %6d rows  %-9s  %s  %s\n", name, s.split, s.n, s.labelled ? "labelled" : "no labels", s.hash,
               s.file);
        task_close(&s);
    }
}

// Text between bars, so that spaces at its ends and line feeds show.
static void print_barred(const char *text) {
    putchar('|');
    for (; *text; text++) {
        putchar(*text);
        if (*text == '\n') putchar('|');
    }
    printf("|\n");
}

static int tokens_of(const tok *t, const task_doc *d, int choice, const char *prefix, int *context) {
    task_example e;
    if (task_encode(&e, t, d, choice, prefix, false)) die(1, "%s", err_get());
    free(e.tokens);
    *context = e.context_length;
    return e.n - e.context_length;
}

static void print_example(const task_split *s, const task_split *pool, int doc, const tok *t) {
    const task_doc *d = &s->docs[doc];
    char *prefix = task_prefix(pool, s, doc, (int)shots, (uint64_t)seed, mode);
    if (!prefix) die(1, "%s", err_get());
    printf("\n%s %s %s\n", s->name, s->split, d->id);
    for (int c = 0; c < d->n_choices; c++) {
        int context = 0, n = t ? tokens_of(t, d, c, prefix, &context) : 0;
        if (c == 0 || d->context[c] != d->context[0]) {
            char *text = xasprintf("%s%s", prefix, d->context[c]);
            if (t) printf("context, %d tokens:\n", context);
            print_barred(text);
            free(text);
        }
        printf("%s %d ", c == d->gold ? "right" : "     ", c);
        if (t) printf("(%d tokens) ", n);
        print_barred(d->choice[c]);
    }
    if (d->gold_compat && strcmp(d->gold_compat, d->choice[d->gold])) {
        printf("score --mode compat takes the right one as ");
        print_barred(d->gold_compat);
    }
    free(prefix);
}

static void show_examples(const char *name, doc_part of, const tok *t) {
    task_split s, train;
    if (task_open(&s, data, name, split_wanted, false) || task_keep_part(&s, of)) die(1, "%s", err_get());
    const task_split *pool = shots ? task_pool_open(&train, data, &s) : NULL;
    if (shots && !pool) die(1, "%s", err_get());
    int32_t *order = task_order(&s, (uint64_t)seed);
    for (int i = 0; i < s.n && i < show; i++) print_example(&s, pool, order[i], t);
    free(order);
    if (shots) task_close(&train);
    task_close(&s);
}

// ---------------------------------------------------------------- pages and tokens of a text
static void print_pages(doc_part of) {
    size_t bytes;
    char *text = file_read(wikitext_file, &bytes);
    wikitext w;
    if (!text || wikitext_parse(&w, text, bytes)) die(1, "%s", err_get());
    const uint64_t order = (uint64_t)seed;
    if (wikitext_keep(&w, of, show, &order)) die(1, "%s: %s", wikitext_file, err_get());
    fwrite(w.raw, 1, w.raw_bytes, stdout);
    wikitext_close(&w);
    free(text);
}

static void print_piece(const char *piece, size_t bytes) {
    for (size_t i = 0, n; i < bytes; i += n ? n : 1) {
        n = utf8_length(piece + i, bytes - i);
        const unsigned char c = (unsigned char)piece[i];
        if (c == '\n')
            printf("\\n");
        else if (c == '\\')
            printf("\\\\");
        else if (n == 0 || c < ' ' || c == 127)
            printf("\\x%02x", c);
        else
            printf("%.*s", (int)n, piece + i);
    }
}

static void print_tokens(const tok *t) {
    size_t bytes = strlen(encode);
    char *text = strcmp(encode, "-") == 0 ? file_read("/dev/stdin", &bytes) : xstrdup(encode);
    int32_t *ids = NULL;
    int n = 0, cap = 0;
    if (!text || (special ? tok_encode_special : tok_encode)(t, text, bytes, &ids, &n, &cap)) die(1, "%s", err_get());
    for (int i = 0; i < n; i++) {
        size_t length;
        const char *piece = tok_bytes(t, ids[i], &length);
        printf("%d |", ids[i]);
        print_piece(piece, length);
        printf("|\n");
    }
    free(ids);
    free(text);
}

int main(int argc, char **argv) {
    cli_parse(argc, argv,
              "lists the task files of a folder and prints examples as they are scored; or the pages of a text, or "
              "its tokens",
              options);
    if (!!encode + !!data + !!wikitext_file != 1)
        die(2, "--data DIR is wanted, or --wikitext FILE, or --encode TEXT with --model");
    if (encode && !model) die(2, "--encode needs --model DIR, whose tokenizer it is");
    if (special && !encode) die(2, "--special is of --encode");
    bool take[TASK_COUNT] = {false};
    doc_part of;
    if (doc_part_parse(&of, part)) die(2, "--part %s", err_get());
    if (task_select(tasks, take) < 0) die(2, "--tasks: %s", err_get());
    tok *t = model ? tok_open(model, 0) : NULL;
    if (model && !t) die(1, "%s", err_get());
    if (encode) {
        print_tokens(t);
        tok_close(t);
        stdout_end();
        return 0;
    }
    if (wikitext_file) {
        print_pages(of);
        stdout_end();
        return 0;
    }
    bool all = !strcmp(tasks, "all");
    int found = 0;
    for (const char *const *name = task_names; *name; name++) {
        if (!take[name - task_names]) continue;
        if (all && !task_there(data, *name)) {
            printf("%-11s not in %s\n", *name, data);
            continue;
        }
        if (!all && !task_there(data, *name)) {
            task_split s;
            task_open(&s, data, *name, NULL, false);  // says what is wrong: the name, the folder or its files
            die(1, "%s", err_get());
        }
        list_splits(*name);
        if (show) show_examples(*name, of, t);
        found++;
    }
    if (!found) die(1, "%s: holds none of the tasks; data/README.md says how it is laid out", data);
    tok_close(t);
    stdout_end();
    return 0;
}
