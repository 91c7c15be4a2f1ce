// test_results - result files: what a kill leaves, what a rerun finds, what is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>
#include "results.h"

static const results_column columns[] = {{"model", true}, {"metric", true}, {"value", false}, {"scores_hash", true}};
static char path[64], lines[80];

static int setup(void **state) {
    (void)state;
    strcpy(path, "/tmp/test_results_XXXXXX");
    close(mkstemp(path));
    snprintf(lines, sizeof lines, "%s.jsonl", path);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unlink(path);
    unlink(lines);
    return 0;
}

static char *content(void) {
    char *text = file_read(path, NULL);
    assert_non_null(text);
    return text;
}

static void put(const char *file, const char *text) {
    FILE *f = fopen(file, "w");
    fputs(text, f);
    fclose(f);
}

static void open_file(results *r, const char *provenance) {
    if (results_open(r, path, columns, 4, provenance)) fail_msg("%s", err_get());
}

static void says(const char *part) {
    if (!strstr(err_get(), part)) fail_msg("\"%s\" lacks \"%s\"", err_get(), part);
}

static const char *const a[] = {"opt", "acc", "0.5", "h1"}, *const b[] = {"opt", "acc, \"norm\"\n", "0.25", "h1"},
                         *const c[] = {"opt", "acc", "0.7", "h2"};

static void rows_and_resume(void **state) {
    (void)state;
    results r;
    open_file(&r, "command: x\ncode: y");
    assert_null(results_find(&r, a));
    assert_int_equal(results_append(&r, a), 0);
    assert_int_equal(results_append(&r, b), 0);
    assert_string_equal(results_find(&r, b)[2], "0.25");
    results_close(&r);
    char *text = content();
    assert_string_equal(text, "# command: x\n# code: y\nmodel,metric,value,scores_hash\nopt,acc,0.5,h1\nopt,\"acc, "
                              "\"\"norm\"\"\n\",0.25,h1\n");
    free(text);

    open_file(&r, "command: z");  // a rerun with nothing to add leaves the file as it is
    results_close(&r);
    text = content();
    assert_null(strstr(text, "command: z"));
    free(text);

    open_file(&r, "command: z");
    const char *const other_value[] = {"opt", "acc", "123", "h1"};
    assert_string_equal(results_find(&r, other_value)[2], "0.5");  // the value is not in the key
    assert_string_equal(results_find(&r, b)[1], b[1]);
    assert_null(results_find(&r, c));  // another hash is another row
    const char *const shifted[] = {"op", "tacc", "0.5", "h1"};
    assert_null(results_find(&r, shifted));
    assert_int_equal(results_append(&r, c), 0);
    char k1[17], k2[17];
    results_key(k1, &r, a);
    results_key(k2, &r, other_value);
    assert_string_equal(k1, k2);
    results_key(k2, &r, c);
    assert_string_not_equal(k1, k2);
    results_close(&r);
    results_close(&r);
    text = content();
    assert_non_null(strstr(text, "# command: z\nopt,acc,0.7,h2\n"));
    free(text);
}

// Cut at every byte, as a kill in the middle of a write could: whole rows stay, the rest goes, and the finished file is
// the same.
static void torn(void **state) {
    (void)state;
    results r;
    open_file(&r, "p");
    results_append(&r, a);
    results_append(&r, c);
    results_close(&r);
    char *whole = content();
    size_t n = strlen(whole), first = (size_t)(strstr(whole, "opt,acc,0.7") - whole);
    for (size_t cut = 1; cut <= n; cut++) {
        FILE *f = fopen(path, "w");
        fwrite(whole, 1, cut, f);
        fclose(f);
        open_file(&r, "p");
        bool had_a = results_find(&r, a) != NULL, had_c = results_find(&r, c) != NULL;
        assert_int_equal(had_a, cut >= first);
        assert_int_equal(had_c, cut == n);
        if (!had_a) results_append(&r, a);
        if (!had_c) results_append(&r, c);
        results_close(&r);
        open_file(&r, "p");
        assert_int_equal(r.n, 2);
        results_close(&r);
    }
    free(whole);
}

static void refused(void **state) {
    (void)state;
    results r, other;
    open_file(&r, "p");
    results_append(&r, a);
    assert_int_equal(results_open(&other, path, columns, 4, "p"), -1);
    says("another process writes to it");
    results_close(&other);
    results_close(&r);
    assert_int_equal(results_open(&r, path, columns, 3, "p"), -1);
    says(":2: not the columns");
    put(path, "# p\nmodel,metric,value,scores_hash\nopt,acc,0.5\n");
    assert_int_equal(results_open(&r, path, columns, 4, "p"), -1);
    says(":3: not a row of 4 fields");
    put(path, "# p\nmodel,metric,value,scores_hash\nopt,\"acc,0.5,h\n");
    assert_int_equal(results_open(&r, path, columns, 4, "p"), -1);
    put(path, "# notes\nto be kept");
    assert_int_equal(results_open(&r, path, columns, 4, "p"), -1);
    says("comments alone");
    char *notes = content();
    assert_string_equal(notes, "# notes\nto be kept");
    free(notes);
    put(path, "a letter to a friend");  // is not shortened to nothing
    assert_int_equal(results_open(&r, path, columns, 4, "p"), -1);
    says("not a result file");
    char *text = content();
    assert_string_equal(text, "a letter to a friend");
    free(text);
    assert_int_equal(results_open(&r, "/nonexistent/x.csv", columns, 4, "p"), -1);
    says("cannot open for writing");
    assert_int_equal(results_open(&r, "/tmp", columns, 4, "p"), -1);
}

// A file-size limit stands for a full disk: the row that did not fit leaves no trace.
static void full_disk(void **state) {
    (void)state;
    results r;
    open_file(&r, "p");
    results_append(&r, a);
    char *before = content();
    struct rlimit old, tight;
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old;
    tight.rlim_cur = strlen(before) + 5;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    int bad = results_append(&r, c);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(bad, -1);
    says("cannot write");
    char *after = content();
    assert_string_equal(before, after);
    assert_int_equal(results_append(&r, c), 0);
    results_close(&r);
    free(before);
    free(after);
}

static void json_lines(void **state) {
    (void)state;
    results r;
    details d;
    open_file(&r, "p");
    results_append(&r, a);
    assert_int_equal(details_open(&d, lines, &r), 0);
    char key[17], text[400];
    results_key(key, &r, a);
    int n = snprintf(text, sizeof text, "{\"row\":\"%s\",\"id\":1}\n{\"row\":\"%s\",\"id\":2}\n", key, key);
    assert_int_equal(details_append(&d, text, (size_t)n), 0);
    char orphan[17];
    results_key(orphan, &r, c);  // killed between the lines of c and its row
    int m =
        snprintf(text + n, sizeof text - (size_t)n, "{\"row\":\"%s\",\"id\":1}\n{\"row\":\"%s\",\"i", orphan, orphan);
    assert_int_equal(details_append(&d, text + n, (size_t)m), 0);
    details_close(&d);
    assert_int_equal(details_open(&d, lines, &r), 0);
    details_close(&d);
    details_close(&d);
    results_close(&r);
    char *left = file_read(lines, NULL);
    text[n] = 0;
    assert_string_equal(left, text);
    free(left);
    open_file(&r, "p");
    put(lines, "a letter");
    assert_int_equal(details_open(&d, lines, &r), -1);
    says("not a file of details");
    put(lines, "{\"text\": 1}\n");  // lines of JSON that are somebody else's are not dropped
    assert_int_equal(details_open(&d, lines, &r), -1);
    says("not a file of details");
    left = file_read(lines, NULL);
    assert_string_equal(left, "{\"text\": 1}\n");
    free(left);
    results_close(&r);
}

static void json_strings(void **state) {
    (void)state;
    struct {
        const char *text, *json;
    } t[] = {
        {"a\"b\\c\n\x01", "\"a\\\"b\\\\c\\u000a\\u0001\""},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"x\xffy\xc3", "\"x\\ufffdy\\ufffd\""},
        {"\xc0\xaf\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\""},  // overlong, surrogate
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char *out;
        size_t bytes;
        FILE *f = open_memstream(&out, &bytes);
        json_text(f, t[i].text);
        fclose(f);
        assert_string_equal(out, t[i].json);
        free(out);
    }
}

// A file of a version without later columns: rows are found again, keep their keys, and the file gets the columns when
// a row is appended; then it is read as any other.
static void later_columns(void **state) {
    (void)state;
    static const results_column more[] = {{"model", RESULTS_KEY},       {"ablate", RESULTS_LATER},
                                          {"metric", RESULTS_KEY},      {"value", RESULTS_MEASURED},
                                          {"scores_hash", RESULTS_KEY}, {"note", RESULTS_LATER}};
    static const char *const old_row[] = {"opt", "", "acc, \"norm\"\n", "0.25", "h1", ""}, *const mean_row[] = {
                                                                                               "opt", "mean", "acc",
                                                                                               "0.9", "h1",   ""};
    results r;
    char key[2][17];
    open_file(&r, "code: y");
    assert_int_equal(results_append(&r, a), 0);
    assert_int_equal(results_append(&r, b), 0);
    results_key(key[0], &r, b);
    results_close(&r);
    char *before = content();
    for (int again = 0; again < 3; again++) {
        assert_int_equal(results_open(&r, path, more, 6, "code: z"), 0);
        char *const *found = results_find(&r, old_row);
        assert_non_null(found);
        assert_string_equal(found[3], "0.25");
        results_key(key[1], &r, old_row);
        assert_string_equal(key[0], key[1]);
        char *now = content();
        assert_int_equal(strcmp(now, before) == 0, again == 0);  // only looking changes nothing
        free(now);
        assert_int_equal(results_find(&r, mean_row) != NULL, again > 0);
        if (again == 0) assert_int_equal(results_append(&r, mean_row), 0);
        results_close(&r);
    }
    char *text = content();
    assert_string_equal(text, "# code: y\nmodel,ablate,metric,value,scores_hash,note\nopt,,acc,0.5,h1,\n"
                              "opt,,\"acc, \"\"norm\"\"\n\",0.25,h1,\n# code: z\nopt,mean,acc,0.9,h1,\n");
    free(text), free(before);
    // the other way round: a program without the column
    assert_int_equal(results_open(&r, path, columns, 4, ""), -1);
    says("not the columns");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_and_resume, setup, teardown),
        cmocka_unit_test_setup_teardown(torn, setup, teardown),
        cmocka_unit_test_setup_teardown(refused, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(json_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(later_columns, setup, teardown),
        cmocka_unit_test(json_strings),
    };
    return cmocka_run_group_tests_name("results", tests, NULL, NULL);
}
