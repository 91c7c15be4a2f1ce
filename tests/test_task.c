// test_task - prompts written out by hand from METHOD 3.1 and 3.4, in every published form of the rows; labels,
// splits, order and few-shot prefixes; one malformed row of each kind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "task.h"

static void parse(task_split *s, const char *name, const char *path, const char *rows, const char *labels) {
    if (task_parse(s, name, rows, strlen(rows), labels, labels ? strlen(labels) : 0, path))
        fail_msg("%s: %s", name, err_get());
}

// ---------------------------------------------------------------- prompts
typedef struct {
    const char *task, *path, *rows, *labels;
    // context[1]: the second candidate's, if another
    const char *id, *context[2], *choice[TASK_MAX_CHOICES], *gold_compat;
    int gold;
} form;

#define PIQA .context = {"Question: How do you \"fix\" it?\nAnswer:"}, .choice = {" Use glue.", "  Use tape. "}
#define COPA .context = {"The man slipped because"}, .choice = {" the floor was wet.", " \xc3\xa9mile laughed."}
#define OBQA .context = {"A plant needs"}, .choice = {" light", " a car", " Mars", " gold"}
#define WINO                                                                                                           \
    .context = {"Ann met Bea because Ann", "Ann met Bea because Bea"},                                                 \
    .choice = {" wanted to. Did _ win?", " wanted to. Did _ win?"}
#define RTE .context = {"It rained.\nQuestion: It was wet. True or False?\nAnswer:"}, .choice = {" True", " False"}
#define ARC .context = {"Question: What is hot?\nAnswer:"}, .choice = {" ice", " fire", " snow"}

static const form forms[] = {
    // authors: labels in a file of their own; hub: in the row
    {"piqa", "valid.jsonl",
     "{\"goal\": \"How do you \\\"fix\\\" it?\", \"sol1\": \"Use glue.\", \"sol2\": \" Use tape. \"}\n", "1\n", NULL,
     PIQA, .gold = 1, .gold_compat = " Use tape. "},
    {"piqa", "valid.jsonl",
     "{\"sol2\": \" Use tape. \", \"label\": 1, \"goal\": \"How do you \\\"fix\\\" it?\", \"sol1\": \"Use glue.\"}",
     NULL, NULL, PIQA, .gold = 1, .gold_compat = " Use tape. "},
    // a byte-order mark and DOS line ends change nothing
    {"piqa", "dev.jsonl",
     "\xef\xbb\xbf{\"goal\": \"How do you \\\"fix\\\" it?\", \"sol1\": \"Use glue.\", \"sol2\": \" Use tape. "
     "\"}\r\n\r\n",
     "0\r\n", NULL, PIQA, .gold = 0, .gold_compat = "Use glue."},
    {"copa", "val.jsonl",
     "{\"premise\": \"The man slipped. \", \"choice1\": \"The floor was wet.\", \"choice2\": \"\xc3\x89mile "
     "laughed.\", "
     "\"question\": \"cause\", \"label\": 0, \"idx\": 17}\n",
     NULL, "17", COPA, .gold = 0, .gold_compat = " the floor was wet."},
    {"copa", "val.jsonl",
     "{\"premise\": \"He won\xe2\x80\xa6\", \"choice1\": \"I cried.\", \"choice2\": \"5 left.\", \"question\": "
     "\"effect\", \"label\": 1}\n",
     NULL, NULL, .context = {"He won therefore"}, .choice = {" i cried.", " 5 left."}, .gold = 1,
     .gold_compat = " 5 left."},
    {"openbookqa", "dev.jsonl",
     "{\"id\": \"7-1\", \"question\": {\"stem\": \"A plant needs\", \"choices\": [{\"text\": \"light\", \"label\": "
     "\"A\"}, "
     "{\"text\": \"a car\", \"label\": \"B\"}, {\"text\": \"Mars\", \"label\": \"C\"}, {\"text\": \"gold\", \"label\": "
     "\"D\"}]}, \"answerKey\": \"C\"}\n",
     NULL, "7-1", OBQA, .gold = 2, .gold_compat = "Mars"},
    {"openbookqa", "validation.jsonl",
     "{\"id\": \"7-1\", \"question_stem\": \"A plant needs\", \"choices\": {\"text\": [\"light\", \"a car\", \"Mars\", "
     "\"gold\"], "
     "\"label\": [\"A\", \"B\", \"C\", \"D\"]}, \"answerKey\": \"C \"}\n",
     NULL, "7-1", OBQA, .gold = 2, .gold_compat = "Mars"},
    {"winogrande", "dev.jsonl",
     "{\"qID\": \"3X-1\", \"sentence\": \"Ann met Bea because _  wanted to. Did _ win? \", \"option1\": \"Ann\", "
     "\"option2\": \"Bea\", "
     "\"answer\": \"2\"}\n",
     NULL, "3X-1", WINO, .gold = 1, .gold_compat = " wanted to. Did _ win?"},
    {"winogrande", "dev.jsonl",
     "{\"qID\": \"3X-1\", \"sentence\": \"Ann met Bea because _  wanted to. Did _ win? \", \"option1\": \"Ann\", "
     "\"option2\": \"Bea\", "
     "\"answer\": \"\"}\n",
     "2\n", "3X-1", WINO, .gold = 1, .gold_compat = " wanted to. Did _ win?"},
    {"rte", "val.jsonl", "{\"sentence1\": \"It rained.\", \"sentence2\": \"It was wet.\", \"label\": 1, \"idx\": 4}\n",
     NULL, "4", RTE, .gold = 1, .gold_compat = " False"},
    {"rte", "val.jsonl",
     "{\"premise\": \"It rained.\", \"hypothesis\": \"It was wet.\", \"label\": \"not_entailment\", \"idx\": 4}\n",
     NULL, "4", RTE, .gold = 1, .gold_compat = " False"},
    {"rte", "val.jsonl", "{\"premise\": \"It rained.\", \"hypothesis\": \"It was wet.\", \"label\": \"entailment\"}\n",
     NULL, NULL, RTE, .gold = 0, .gold_compat = " True"},
    {"rte", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tIt rained.\tIt was wet.\tnot_entailment\n", NULL, NULL,
     RTE, .gold = 1, .gold_compat = " False"},
    // activity, cleaned context, second half capitalised (the rest in lower case, also beyond ASCII); endings are
    // cleaned, too
    {"hellaswag", "val.jsonl",
     "{\"ind\": 9, \"activity_label\": \"Cooking\", \"ctx_a\": \"How to boil [title] Take water.  [step] Heat it.\", "
     "\"ctx_b\": \"\xc3\xa9VE And\", "
     "\"endings\": [\"boils [substeps]it.\", \" runs\", \"a   b\", \"[x\\ny] z\"], \"label\": \"3\"}\n",
     NULL, "9", .context = {"Cooking: How to boil. Take water.  Heat it. \xc3\x89ve and"},
     .choice = {" boils it.", " runs", " a  b", " [x\ny] z"}, .gold = 3, .gold_compat = "[x\ny] z"},
    {"hellaswag", "val.jsonl",
     "{\"activity_label\": \"Run\", \"ctx_a\": \"A man runs. he\", \"ctx_b\": \"\", \"endings\": [\"a\", \"b\", \"c\", "
     "\"d\"], \"label\": 0}\n",
     NULL, NULL, .context = {"Run: A man runs. he"}, .choice = {" a", " b", " c", " d"}, .gold = 0, .gold_compat = "a"},
    {"arc_easy", "test.jsonl",
     "{\"id\": \"M_1\", \"question\": {\"stem\": \"What is hot?\", \"choices\": [{\"text\": \"ice\", \"label\": "
     "\"1\"}, {\"text\": \"fire\", \"label\": \"2\"}, "
     "{\"text\": \"snow\", \"label\": \"3\"}]}, \"answerKey\": \"2\"}\n",
     NULL, "M_1", ARC, .gold = 1, .gold_compat = "fire"},
    {"arc_easy", "test.jsonl",
     "{\"id\": \"M_1\", \"question\": \"What is hot?\", \"choices\": {\"text\": [\"ice\", \"fire\", \"snow\"], "
     "\"label\": [\"A\", \"B\", \"C\"]}, "
     "\"answerKey\": \"B\"}\n",
     NULL, "M_1", ARC, .gold = 1, .gold_compat = "fire"},
};

static void prompts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const form *f = &forms[i];
        task_split s;
        parse(&s, f->task, f->path, f->rows, f->labels);
        assert_int_equal(s.n, 1);
        assert_true(s.labelled);
        assert_string_equal(s.name, f->task);
        const task_doc *d = &s.docs[0];
        int n = 0;
        while (n < TASK_MAX_CHOICES && f->choice[n]) n++;
        assert_int_equal(d->n_choices, n);
        assert_int_equal(d->gold, f->gold);
        assert_string_equal(d->gold_compat, f->gold_compat);
        if (f->id) assert_string_equal(d->id, f->id);
        for (int c = 0; c < n; c++) {
            assert_string_equal(d->choice[c], f->choice[c]);
            assert_string_equal(d->context[c], f->context[c && f->context[1] ? 1 : 0]);
        }
        task_close(&s);
        task_close(&s);
    }
}

// ---------------------------------------------------------------- labels and malformed rows
static void hidden_labels(void **state) {
    (void)state;
    static const struct {
        const char *task, *path, *rows;
    } t[] = {
        {"piqa", "tests.jsonl", "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\"}\n"},
        {"piqa", "test.jsonl", "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": -1}\n"},
        {"copa", "test.jsonl",
         "{\"premise\": \"a\", \"choice1\": \"b\", \"choice2\": \"c\", \"question\": \"cause\", \"label\": null}\n"},
        {"winogrande", "test.jsonl",
         "{\"sentence\": \"_ b\", \"option1\": \"c\", \"option2\": \"d\", \"answer\": \"\"}\n"},
        {"hellaswag", "test.jsonl",
         "{\"activity_label\": \"a\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": [\"d\", \"e\", \"f\", \"g\"], "
         "\"label\": \"\"}\n"},
        {"rte", "test.tsv", "index\tsentence1\tsentence2\n0\ta\tb\n"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        task_split s;
        parse(&s, t[i].task, t[i].path, t[i].rows, NULL);
        assert_false(s.labelled);
        assert_int_equal(s.docs[0].gold, -1);
        assert_null(s.docs[0].gold_compat);
        assert_string_equal(s.split, "test");
        task_close(&s);
    }
}

#define P1 "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}\n"
#define Q(key)                                                                                                         \
    "{\"question_stem\": \"s\", \"choices\": {\"text\": [\"a\", \"b\", \"c\", \"d\"], \"label\": [\"A\", \"B\", "      \
    "\"C\", \"D\"]}, \"answerKey\": " key "}"
#define HS(endings, label)                                                                                             \
    "{\"activity_label\": \"a\", \"ctx_a\": \"b\", \"ctx_b\": \"c\", \"endings\": " endings ", \"label\": " label "}"

static void malformed_rows(void **state) {
    (void)state;
    static const struct {
        const char *task, *path, *rows, *labels, *want;
    } t[] = {
        {"piqa", "d/val.jsonl", P1 "{\"goal\": \"a\", \"sol1\": \"b\", \"label\": 0}\n", NULL,
         "d/val.jsonl:2: sol2: is missing"},
        {"piqa", "val.jsonl", "{\"goal\": 3, \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}", NULL,
         "val.jsonl:1: goal: is a number, want a text"},
        {"piqa", "val.jsonl", "{\"goal\": \"a\", \"sol1\": \" \\n\", \"sol2\": \"c\", \"label\": 0}", NULL,
         "val.jsonl:1: sol1: is empty"},
        {"piqa", "val.jsonl", "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 2}", NULL,
         "val.jsonl:1: label: is 2, want one of: 0, 1"},
        {"piqa", "val.jsonl", "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 1.0}", NULL,
         "val.jsonl:1: label: is a number, want a whole number or a text"},
        {"piqa", "val.jsonl", "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": true}", NULL,
         "val.jsonl:1: label: is a truth value, want a whole number or a text"},
        {"piqa", "val.jsonl", "{\"goal\": \"a\", \"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\"}", NULL,
         "val.jsonl:1: row: is not JSON, at byte "},
        {"piqa", "val.jsonl", "{\"goal\": \"a\xff\", \"sol1\": \"b\", \"sol2\": \"c\"}", NULL,
         "val.jsonl:1: row: is not JSON, at byte "},
        {"piqa", "val.jsonl", P1 P1 "{\"goal\": \"a\"", NULL, "val.jsonl:3: row: is not JSON, at byte "},
        {"piqa", "val.jsonl", P1 "\n" P1, NULL, "val.jsonl:2: row: is not JSON, at byte "},
        {"piqa", "val.jsonl", "[1]\n", NULL, "val.jsonl:1: row: is not a JSON object"},
        {"piqa", "val.jsonl", "", NULL, "val.jsonl: holds no rows"},
        {"piqa", "val.jsonl", P1 P1, "0\n", "val-labels.lst:2: label: missing"},
        {"piqa", "val.jsonl", P1, "0\n1\n", "val-labels.lst:2: label: too many"},
        {"piqa", "val.jsonl", P1, "1\n", "val-labels.lst:1: label: is 1, but the row itself says 0"},
        {"piqa", "val.jsonl", P1, "x\n", "val-labels.lst:1: label: is x, want one of: 0, 1"},
        {"piqa", "val.jsonl", P1 "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\"}", NULL,
         "val.jsonl:2: label: is missing, unlike in the rows before"},
        {"copa", "val.jsonl",
         "{\"premise\": \"a\", \"choice1\": \"b\", \"choice2\": \"c\", \"question\": \"why\", \"label\": 0}", NULL,
         "val.jsonl:1: question: is why, want cause or effect"},
        {"openbookqa", "test.jsonl", Q("\"E\""), NULL, "test.jsonl:1: answerKey: is E, want one of: A, B, C, D"},
        {"openbookqa", "test.jsonl", Q("{}"), NULL,
         "test.jsonl:1: answerKey: is an object, want a whole number or a text"},
        {"openbookqa", "test.jsonl", "{\"question_stem\": \"s\", \"choices\": 1}", NULL,
         "test.jsonl:1: choices: is a number, want the candidates"},
        {"openbookqa", "test.jsonl", "{\"question_stem\": \"s\"}", NULL, "test.jsonl:1: choices: is missing"},
        {"openbookqa", "test.jsonl", "{\"question_stem\": \"s\", \"choices\": {\"text\": [\"a\"], \"label\": [\"A\"]}}",
         NULL, "test.jsonl:1: choices: has 1 candidates, want 4"},
        {"arc_easy", "test.jsonl", "{\"question\": \"s\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\"]}}",
         NULL, "test.jsonl:1: choices: has 2 texts, but 1 labels"},
        {"arc_easy", "test.jsonl",
         "{\"question\": \"s\", \"choices\": {\"text\": [\"a\", \"b\"], \"label\": [\"A\", \"A\"]}}", NULL,
         "test.jsonl:1: choices.label[1]: is A a second time"},
        {"arc_easy", "test.jsonl",
         "{\"question\": {\"stem\": \"s\", \"choices\": [{\"text\": \"a\", \"label\": \"A\"}, {\"text\": 1, \"label\": "
         "\"B\"}]}}",
         NULL, "test.jsonl:1: question.choices[1].text: is a number, want a text"},
        {"winogrande", "dev.jsonl",
         "{\"sentence\": \"no gap\", \"option1\": \"c\", \"option2\": \"d\", \"answer\": \"1\"}", NULL,
         "dev.jsonl:1: sentence: has no blank (_)"},
        {"winogrande", "dev.jsonl",
         "{\"sentence\": \"gap _ \", \"option1\": \"c\", \"option2\": \"d\", \"answer\": \"1\"}", NULL,
         "dev.jsonl:1: sentence: has nothing after its blank (_)"},
        {"winogrande", "dev.jsonl",
         "{\"sentence\": \"_ a\", \"option1\": \"c\", \"option2\": \"d\", \"answer\": \"0\"}", NULL,
         "dev.jsonl:1: answer: is 0, want one of: 1, 2"},
        {"hellaswag", "val.jsonl", HS("[\"d\"]", "0"), NULL, "val.jsonl:1: endings: has 1 texts, want 4"},
        {"hellaswag", "val.jsonl", HS("[\"d\", \"e\", \"[f]\", \"g\"]", "0"), NULL,
         "val.jsonl:1: endings[2]: is empty once [...] is removed"},
        {"hellaswag", "val.jsonl", HS("[\"d\", \"e\", \"f\", \"g\"]", "\"4\""), NULL,
         "val.jsonl:1: label: is 4, want one of: 0, 1, 2, 3"},
        {"rte", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\n", NULL,
         "dev.tsv:2: row: has fewer columns than the header"},
        {"rte", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\tx\n", NULL,
         "dev.tsv:2: row: has more columns than the header"},
        {"rte", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\ta\xc3\tb\tentailment\n", NULL,
         "dev.tsv:2: sentence1: is not UTF-8"},
        {"rte", "dev.tsv", "index\tsentence1\tsentence1\tlabel\n0\ta\tb\tentailment\n", NULL,
         "dev.tsv:1: header: two columns have one name"},
        {"rte", "dev.tsv", "index\tpremises\n0\ta\n", NULL, "dev.tsv:2: sentence1: is missing"},
        {"boolq", "dev.jsonl", "{}", NULL,
         "unknown task boolq; the tasks are: piqa copa openbookqa winogrande rte hellaswag arc_easy"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        task_split s;
        int bad = task_parse(&s, t[i].task, t[i].rows, strlen(t[i].rows), t[i].labels,
                             t[i].labels ? strlen(t[i].labels) : 0, t[i].path);
        if (bad != -1 || strncmp(err_get(), t[i].want, strlen(t[i].want)))
            fail_msg("returned %d: %s\nin place of: %s", bad, err_get(), t[i].want);
        assert_null(strchr(err_get(), '\n'));
        assert_null(s.docs);
    }
}

// ---------------------------------------------------------------- splits
static char root[] = "/tmp/test_task.XXXXXX";

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    char *command = xasprintf("rm -r %s", root);
    int bad = system(command);
    free(command);
    return bad;
}

// Writes ROOT/SET/TASK/FILE with the PIQA rows from..to-1.
static void put(const char *set, const char *file, int from, int to, bool labelled) {
    char *dir = xasprintf("%s/%s", root, set), *sub = xasprintf("%s/piqa", dir), *path = xasprintf("%s/%s", sub, file);
    mkdir(dir, 0700);
    mkdir(sub, 0700);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = from; i < to; i++) {
        fprintf(f, "{\"goal\": \"g%d\", \"sol1\": \"yes\", \"sol2\": \"no\"", i);
        fprintf(f, labelled ? ", \"label\": %d}\n" : "}\n", i % 2);
    }
    fclose(f);
    free(dir);
    free(sub);
    free(path);
}

static int open_set(task_split *s, const char *set, const char *want, bool for_score) {
    char *dir = xasprintf("%s/%s", root, set);
    int bad = task_open(s, dir, "piqa", want, for_score);
    free(dir);
    return bad;
}

static void expect_split(const char *set, const char *want, bool for_score, const char *split, const char *file,
                         int n) {
    task_split s;
    if (open_set(&s, set, want, for_score)) fail_msg("%s: %s", set, err_get());
    assert_string_equal(s.split, split);
    assert_string_equal(s.file, file);
    assert_int_equal(s.n, n);
    for (int i = 0; i < n; i++) {
        char *id = xasprintf("%s/%d", split, i);
        assert_string_equal(s.docs[i].id, id);
        free(id);
    }
    task_close(&s);
}

// n: rows of the train split; 0: the target is its own pool.
static void expect_pool(const task_split *target, const char *set, int n) {
    char *dir = xasprintf("%s/%s", root, set);
    task_split s;
    const task_split *pool = task_pool_open(&s, dir, target);
    assert_ptr_equal(pool, n ? &s : target);
    if (n) assert_int_equal(pool->n, n);
    task_close(&s);
    free(dir);
}

// ROOT/SET/piqa/FILE as gzip writes it, all of it or its first bytes.
static void compress_file(const char *set, const char *file, int bytes) {
    char *command = xasprintf("cd %s/%s/piqa && gzip -c %s >whole && rm %s && head -c %d whole >%s.gz && rm whole",
                              root, set, file, file, bytes, file);
    assert_int_equal(system(command), 0);
    free(command);
}

static void compressed_files(void **state) {
    (void)state;
    task_split s, plain;
    put("gz", "train.jsonl", 0, 9, true);
    assert_int_equal(open_set(&plain, "gz", "train", false), 0);
    compress_file("gz", "train.jsonl", 1 << 20);
    expect_split("gz", NULL, false, "train", "piqa/train.jsonl.gz", 9);
    assert_int_equal(open_set(&s, "gz", "train", false), 0);
    assert_string_equal(s.hash, plain.hash);
    assert_string_equal(s.docs[8].context[0], plain.docs[8].context[0]);
    task_close(&s);
    task_close(&plain);
    // labels beside it
    put("gz labels", "val.jsonl", 0, 2, false);
    compress_file("'gz labels'", "val.jsonl", 1 << 20);
    char *path = xasprintf("%s/gz labels/piqa/val-labels.lst", root);
    FILE *f = fopen(path, "w");
    fputs("1\n0\n", f);
    fclose(f);
    free(path);
    assert_int_equal(open_set(&s, "gz labels", "val", false), 0);
    assert_int_equal(s.docs[0].gold, 1);
    task_close(&s);
    // cut anywhere, and not compressed at all
    for (int bytes = 12; bytes < 60; bytes += 23) {
        put("gz cut", "val.jsonl", 0, 9, true);
        compress_file("'gz cut'", "val.jsonl", bytes);
        assert_int_equal(open_set(&s, "gz cut", "val", false), -1);
        if (!strstr(err_get(), "piqa/val.jsonl.gz: ends early")) fail_msg("%d bytes: %s", bytes, err_get());
    }
    put("gz not", "val.jsonl.gz", 0, 2, true);
    assert_int_equal(open_set(&s, "gz not", "val", false), -1);
    assert_non_null(strstr(err_get(), "val.jsonl.gz: is no gzip file"));
    put("parquet", "train-00000-of-00001.parquet", 0, 2, true);
    assert_int_equal(open_set(&s, "parquet", NULL, false), -1);
    assert_non_null(strstr(err_get(), "data/from_hub.py converts"));
}

static void splits(void **state) {
    (void)state;
    task_split s, t;
    put("all", "train.jsonl", 0, 9, true);
    put("all", "valid.jsonl", 9, 12, true);
    put("all", "tests.jsonl", 12, 20, false);
    expect_split("all", NULL, true, "train", "piqa/train.jsonl", 9);
    expect_split("all", NULL, false, "val", "piqa/valid.jsonl", 3);
    expect_split("all", "test", true, "test", "piqa/tests.jsonl", 8);
    expect_split("all", "dev", false, "val", "piqa/valid.jsonl", 3);

    // without labels a split is passed over: here to the next for score, and back to train for sweep
    put("hidden", "train.jsonl", 0, 5, false);
    put("hidden", "dev.jsonl", 5, 8, false);
    put("hidden", "test.jsonl", 8, 10, true);
    expect_split("hidden", NULL, true, "test", "piqa/test.jsonl", 2);
    expect_split("hidden", NULL, false, "test", "piqa/test.jsonl", 2);
    put("only", "train-first.jsonl", 0, 5, true);
    put("only", "README.md", 0, 5, true);
    put("only", "train.tsv", 0, 5, true);
    expect_split("only", NULL, false, "train", "piqa/train-first.jsonl", 5);

    // a contained file does not count, whatever its name; overlapping and disjoint ones are all read, by name
    put("sizes", "train_s.jsonl", 0, 8, true);
    put("sizes", "train_xs.jsonl", 2, 4, true);
    put("sizes", "train_l.jsonl", 0, 8, true);
    expect_split("sizes", NULL, true, "train", "piqa/train_l.jsonl", 8);
    put("parts", "train-0.jsonl", 0, 4, true);
    put("parts", "train-1.jsonl", 3, 8, true);
    put("parts", "train-2.jsonl", 5, 8, true);
    expect_split("parts", NULL, true, "train", "piqa/train-0.jsonl,piqa/train-1.jsonl", 9);

    assert_int_equal(open_set(&s, "parts", "val", true), -1);
    assert_non_null(strstr(err_get(), "piqa: has no val split; want a file called val* or dev*"));
    assert_int_equal(open_set(&s, "parts", "dummy", true), -1);
    assert_non_null(strstr(err_get(), "unknown split dummy; there are: train val test"));
    assert_int_equal(open_set(&s, "nowhere", NULL, true), -1);
    assert_non_null(strstr(err_get(), "data/README.md"));
    put("none", "dev.jsonl", 0, 4, false);
    assert_int_equal(open_set(&s, "none", NULL, true), -1);
    assert_non_null(strstr(err_get(), "no split has labels"));
    put("mixed", "dev-0.jsonl", 0, 4, true);
    put("mixed", "dev-1.jsonl", 4, 6, false);
    assert_int_equal(open_set(&s, "mixed", NULL, true), -1);
    assert_non_null(strstr(err_get(), "keep them in different splits"));

    // few-shot examples come from train, else from the split itself
    assert_true(task_exists("../nowhere", "piqa", "train") == false);
    assert_int_equal(open_set(&s, "all", NULL, false), 0);
    expect_pool(&s, "all", 9);
    put("all", "train.jsonl", 0, 9, false);
    expect_pool(&s, "all", 0);
    put("all", "train.jsonl", 0, 9, true);
    task_close(&s);
    assert_int_equal(open_set(&s, "hidden", NULL, true), 0);
    expect_pool(&s, "hidden", 0);
    task_close(&s);
    assert_int_equal(open_set(&s, "only", NULL, true), 0);
    expect_pool(&s, "only", 0);
    task_close(&s);

    // the hash follows the content, not the name
    put("hash", "train.jsonl", 0, 9, true);
    assert_int_equal(open_set(&s, "all", "train", true), 0);
    assert_int_equal(open_set(&t, "hash", "train", true), 0);
    assert_string_equal(s.hash, t.hash);
    task_close(&t);
    put("hash", "train.jsonl", 0, 8, true);
    assert_int_equal(open_set(&t, "hash", "train", true), 0);
    assert_string_not_equal(s.hash, t.hash);
    task_close(&s);
    task_close(&t);
}

// ---------------------------------------------------------------- order and few-shot prefixes
static void rows_of(task_split *s, const char *path, int from, int n) {
    char *text = xstrdup("");
    for (int i = from; i < from + n; i++) {
        char *more =
            xasprintf("%s{\"goal\": \"g%d\", \"sol1\": \"yes\", \"sol2\": \"no\", \"label\": %d}\n", text, i, i % 2);
        free(text);
        text = more;
    }
    parse(s, "piqa", path, text, NULL);
    free(text);
}

static void order(void **state) {
    (void)state;
    task_split s;
    rows_of(&s, "train.jsonl", 0, 40);
    int32_t *p = task_order(&s, 3), *again = task_order(&s, 3), *other = task_order(&s, 4);
    bool seen[40] = {false};
    for (int i = 0; i < s.n; i++) {
        assert_in_range(p[i], 0, s.n - 1);
        assert_false(seen[p[i]]);
        seen[p[i]] = true;
    }
    assert_memory_equal(p, again, 40 * sizeof *p);
    assert_memory_not_equal(p, other, 40 * sizeof *p);
    free(p);
    free(again);
    free(other);
    task_close(&s);
}

// Which documents of a pool made by rows_of a prefix shows; fails unless it is made of their blocks. Returns how many.
static int shots(const char *prefix, int *which) {
    int k = 0;
    while (*prefix) {
        int number, used = 0;
        assert_int_equal(sscanf(prefix, "Question: g%d\nAnswer:%n", &number, &used), 1);
        assert_true(used > 0);
        prefix += used;
        const char *block = number % 2 ? " no\n\n" : " yes\n\n";
        assert_int_equal(strncmp(prefix, block, strlen(block)), 0);
        prefix += strlen(block);
        which[k++] = number;
    }
    return k;
}

static void prefixes(void **state) {
    (void)state;
    task_split pool, other;
    rows_of(&pool, "train.jsonl", 0, 6);
    rows_of(&other, "val.jsonl", 3, 6);  // of its rows g3, g4, g5 are in the pool, too
    char *none = task_prefix(&pool, &other, 0, 0, 1, MODE_SOUND);
    assert_string_equal(none, "");
    free(none);
    int itself = 0, used[6] = {0};
    for (uint64_t seed = 0; seed < 50; seed++) {
        for (int doc = 0; doc < 6; doc++) {
            int which[6];
            char *a = task_prefix(&pool, &pool, doc, 5, seed, MODE_SOUND),
                 *b = task_prefix(&pool, &pool, doc, 5, seed, MODE_SOUND);
            assert_non_null(a);
            assert_string_equal(a, b);
            assert_int_equal(shots(a, which), 5);
            bool seen[6] = {false};
            for (int i = 0; i < 5; i++) {
                assert_int_not_equal(which[i], doc);
                assert_false(seen[which[i]]);
                seen[which[i]] = true;
            }
            used[which[0]]++;
            free(a);
            free(b);
            a = task_prefix(&pool, &pool, doc, 5, seed, MODE_COMPAT);
            shots(a, which);
            for (int i = 0; i < 5; i++) itself += which[i] == doc;
            free(a);
            a = task_prefix(&pool, &other, doc, 5, seed, MODE_SOUND);
            shots(a, which);
            for (int i = 0; i < 5; i++) assert_int_not_equal(which[i], doc + 3);
            free(a);
        }
    }
    // 300 compat prefixes of 5 of 6 hold their own document 250 times on average (standard deviation 6.5); 300 first
    // places are spread over 6 documents, 50 each (6.5)
    assert_in_range(itself, 215, 285);
    for (int i = 0; i < 6; i++) assert_in_range(used[i], 20, 80);

    assert_null(task_prefix(&pool, &pool, 0, 6, 0, MODE_SOUND));
    assert_non_null(strstr(err_get(), "only 5 other rows can be used"));
    char *all = task_prefix(&pool, &pool, 0, 6, 0, MODE_COMPAT);
    int which[6];
    assert_int_equal(shots(all, which), 6);
    free(all);
    task_close(&other);

    // the same question with another answer may be shown to a labelled document, but not to one whose answer is not
    // known
    task_split one, hidden;
    parse(&one, "piqa", "val.jsonl", "{\"goal\": \"g0\", \"sol1\": \"no\", \"sol2\": \"yes\", \"label\": 0}\n", NULL);
    parse(&hidden, "piqa", "test.jsonl", "{\"goal\": \"g0\", \"sol1\": \"no\", \"sol2\": \"yes\"}\n", NULL);
    all = task_prefix(&pool, &one, 0, 6, 0, MODE_SOUND);
    assert_non_null(all);
    free(all);
    assert_null(task_prefix(&pool, &hidden, 0, 6, 0, MODE_SOUND));
    assert_null(task_prefix(&hidden, &one, 0, 1, 0, MODE_SOUND));
    assert_non_null(strstr(err_get(), "few-shot examples need labels"));
    task_close(&one);
    task_close(&hidden);
    task_close(&pool);

    // WinoGrande shows the right option in its sentence
    task_split w;
    parse(&w, "winogrande", "train.jsonl",
          "{\"sentence\": \"Ann met Bea because _ ran.\", \"option1\": \"Ann\", \"option2\": \"Bea\", \"answer\": "
          "\"2\"}\n"
          "{\"sentence\": \"A _ b\", \"option1\": \"x\", \"option2\": \"y\", \"answer\": \"1\"}\n",
          NULL);
    all = task_prefix(&w, &w, 1, 1, 0, MODE_SOUND);
    assert_string_equal(all, "Ann met Bea because Bea ran.\n\n");
    free(all);
    task_close(&w);
}

// ---------------------------------------------------------------- tokens
static void encode(void **state) {
    (void)state;
    if (!file_exists("../shared/data/opt_tokenizer/vocab.json")) {
        print_message("skipped: ../shared/data/opt_tokenizer is not here\n");
        skip();
    }
    tok *t = tok_open("../shared/data/opt_tokenizer", 0);
    assert_non_null(t);
    task_split s;
    parse(&s, "piqa", "val.jsonl", "{\"goal\": \"g0\", \"sol1\": \"yes\", \"sol2\": \"no\", \"label\": 1}\n", NULL);
    // context and continuation apart, so that every way joins to the same text
    static const struct {
        int choice;
        mode_kind mode;
        const char *prefix, *text, *tail;
    } want[] = {
        {0, MODE_SOUND, "", "Question: g0\nAnswer: yes", " yes"},
        {1, MODE_COMPAT, "P\n\n", "P\n\nQuestion: g0\nAnswer: no", " no"},
        {-1, MODE_SOUND, "", "Question: g0\nAnswer: no", " no"},
        {-1, MODE_COMPAT, "P\n\n", "P\n\nQuestion: g0\nAnswer:no", "no"},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        task_example e;
        assert_int_equal(task_encode(&e, t, &s.docs[0], want[i].choice, want[i].prefix, want[i].mode), 0);
        char *all = tok_decode(t, e.tokens, e.n),
             *tail = tok_decode(t, e.tokens + e.context_length, e.n - e.context_length);
        assert_string_equal(all, want[i].text);
        assert_string_equal(tail, want[i].tail);
        free(all);
        free(tail);
        free(e.tokens);
    }
    task_close(&s);
    parse(&s, "piqa", "test.jsonl", "{\"goal\": \"g0\", \"sol1\": \"yes\", \"sol2\": \"no\", \"id\": \"x\"}\n", NULL);
    task_example e;
    assert_int_equal(task_encode(&e, t, &s.docs[0], -1, "", MODE_SOUND), -1);
    assert_string_equal(err_get(), "x: has no label, so no gold continuation");
    assert_int_equal(task_encode(&e, t, &s.docs[0], 0, "", MODE_SOUND), 0);
    free(e.tokens);
    task_close(&s);
    tok_close(t);
}

// Row counts and labels as the publishers state them; the labels of WinoGrande's rows and of its label file must agree.
static void published_files(void **state) {
    (void)state;
    if (!file_exists("../shared/data/piqa")) {
        print_message("skipped: ../shared/data is not here\n");
        skip();
    }
    static const struct {
        const char *task, *want, *split, *file;
        int n;
    } t[] = {
        {"piqa", NULL, "val", "piqa/valid.jsonl,piqa/valid-labels.lst", 1838},
        {"copa", NULL, "val", "copa/val.jsonl", 100},
        {"copa", "train", "train", "copa/train.jsonl", 400},
        {"openbookqa", NULL, "val", "openbookqa/dev.jsonl", 500},
        {"openbookqa", "train", "train", "openbookqa/train.jsonl", 4957},
        {"hellaswag", NULL, "val", "hellaswag/val-first-1000.jsonl", 1000},
        {"winogrande", "train", "train", "winogrande/train_s.jsonl,winogrande/train_s-labels.lst", 640},
        {"rte", "train", "train", "rte/train-first-1000.jsonl", 1000},
        {"arc_easy", "train", "train", "arc_easy/train.jsonl", 2251},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        task_split s;
        if (task_open(&s, "../shared/data", t[i].task, t[i].want, false)) fail_msg("%s", err_get());
        assert_string_equal(s.split, t[i].split);
        assert_string_equal(s.file, t[i].file);
        assert_int_equal(s.n, t[i].n);
        assert_true(s.labelled);
        task_close(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts),          cmocka_unit_test(hidden_labels), cmocka_unit_test(malformed_rows),
        cmocka_unit_test(compressed_files), cmocka_unit_test(splits),        cmocka_unit_test(order),
        cmocka_unit_test(prefixes),         cmocka_unit_test(encode),        cmocka_unit_test(published_files),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root) ? 1 : 0;
}
