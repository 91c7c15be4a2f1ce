// test_documents - the record of the documents that scores have seen: what is written is counted again, against a count
// by hand; other tasks, other files and files without a record.
#include "documents.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 60 };
static char root[] = "/tmp/test_documents.XXXXXX";

static char *in_root(const char *name) { return xasprintf("%s/%s", root, name); }

// Rows with ids d<first>, d<first + 1>, ...; the path gives the split.
static void make_split(task_split *s, const char *task, const char *path, int first) {
    char *text = xstrdup("");
    for (int i = first; i < first + N; i++) {
        char *more = xasprintf("%s{\"goal\": \"g%d\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 0, "
                               "\"id\": \"d%d\"}\n",
                               text, i, i);
        free(text);
        text = more;
    }
    if (task_parse(s, task, text, strlen(text), NULL, 0, path)) fail_msg("%s", err_get());
    free(text);
}

static void some(bool *seen, uint64_t seed, int of) {
    rng r = rng_make(seed);
    for (int i = 0; i < N; i++) seen[i] = rng_below(&r, (uint64_t)of) == 0;
}

static long number(const bool *seen) {
    long n = 0;
    for (int i = 0; i < N; i++) n += seen[i];
    return n;
}

static void expect(const store *s, const task_split *split, const bool *asked, long want, bool want_known) {
    long n;
    bool known;
    if (documents_overlap(&n, &known, s, split, asked)) fail_msg("%s", err_get());
    assert_int_equal(n, want);
    assert_int_equal(known, want_known);
}

static void counts(void **state) {
    (void)state;
    task_split train, val, changed, renamed;
    make_split(&train, "piqa", "train.jsonl", 0);
    make_split(&val, "piqa", "val.jsonl", 30);  // shares half of the ids: other documents, since the files differ
    make_split(&changed, "piqa", "train.jsonl", 1);
    renamed = train;
    renamed.name = "copa";
    bool seen[2][N], asked[N], none[N] = {false};
    some(seen[0], 1, 2);
    some(seen[1], 2, 4);
    char *path = in_root("s.h5"), *copy = in_root("c.h5"), *bare = in_root("b.h5");
    store *s = store_create(path);
    assert_non_null(s);
    if (documents_put(s, &train, seen[0]) || documents_put(s, &val, seen[1])) fail_msg("%s", err_get());
    if (documents_put_unknown(s, "rte") || store_commit(s)) fail_msg("%s", err_get());
    assert_non_null(s = store_open(path));
    store *to = store_create(copy);
    if (documents_copy(to, s) || store_commit(to)) fail_msg("%s", err_get());
    store_close(s);
    const char *files[] = {path, copy};
    for (int f = 0; f < 2; f++) {
        assert_non_null(s = store_open(files[f]));
        for (uint64_t seed = 10; seed < 15; seed++) {
            some(asked, seed, 3);
            long want[2] = {0, 0};
            for (int i = 0; i < N; i++) {
                want[0] += asked[i] && seen[0][i];
                want[1] += asked[i] && seen[1][i];
            }
            assert_true(want[0] > 0 && want[1] > 0);
            expect(s, &train, asked, want[0], true);
            expect(s, &val, asked, want[1], true);
            expect(s, &changed, asked, 0, true);
            expect(s, &renamed, asked, 0, true);
        }
        expect(s, &train, none, 0, true);
        renamed.name = "rte";
        expect(s, &renamed, asked, 0, false);
        renamed.name = "copa";
        // a task of the record is copied alone; one that it lacks becomes unknown
        assert_non_null(to = store_create(bare));
        if (documents_copy_task(to, s, "piqa") || documents_copy_task(to, s, "copa")) fail_msg("%s", err_get());
        if (store_commit(to)) fail_msg("%s", err_get());
        store *alone = store_open(bare);
        expect(alone, &val, seen[1], number(seen[1]), true);
        expect(alone, &renamed, asked, 0, false);
        store_close(alone);
        store_close(s);
    }
    // nothing is known of a file without a record, and there is nothing to copy
    s = store_create(path);
    assert_int_equal(store_commit(s), 0);
    assert_non_null(s = store_open(path));
    expect(s, &train, asked, 0, false);
    to = store_create(copy);
    if (documents_copy(to, s) || store_commit(to)) fail_msg("%s", err_get());
    store_close(s);
    assert_non_null(s = store_open(copy));
    expect(s, &train, asked, 0, false);
    store_close(s);
    const char *made[] = {path, copy, bare};
    for (int i = 0; i < 3; i++) {
        unlink(made[i]);
        free((void *)made[i]);
    }
    task_close(&train);
    task_close(&val);
    task_close(&changed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts)};
    if (!mkdtemp(root)) return 1;
    const int bad = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(root);
    return bad ? 1 : 0;
}
