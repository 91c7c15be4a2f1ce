// test_wikitext - detokeniser and pages against results of Python's re (tests/golden/make_wikitext.py), windows against
// their definitions, and the known figures of WikiText-2's validation file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "wikitext.h"

// A fixture's records, which zero bytes separate.
typedef struct {
    char *bytes, *next, *end;
} records;

static records records_open(const char *name) {
    char *path = xasprintf("tests/golden/wikitext/%s", name);
    size_t n;
    char *p = file_read(path, &n);
    if (!p) fail_msg("%s", err_get());
    free(path);
    return (records){p, p, p + n};
}

static const char *record(records *r) {
    if (r->next > r->end) return NULL;
    const char *p = r->next;
    r->next += strlen(p) + 1;
    return p;
}

static void detokeniser(void **state) {
    (void)state;
    records r = records_open("detokenise");
    int n = 0;
    for (const char *in; (in = record(&r)); n++) {
        const char *want = record(&r);
        assert_non_null(want);
        char *got = wikitext_detokenise(in);
        if (strcmp(got, want)) fail_msg("pair %d: [%s] became [%s], not [%s]", n, in, got, want);
        free(got);
    }
    assert_true(n > 1000);
    free(r.bytes);
}

// Bad bytes are ordinary symbols, of which none is white space: also the halves of a two-byte space.
static void bad_bytes(void **state) {
    (void)state;
    char *got = wikitext_detokenise("( \xff a \x85 ) \xa0 ( \xc2 )");
    assert_string_equal(got, "(\xff a \x85) \xa0 (\xc2)");
    free(got);
    wikitext w;
    assert_int_equal(wikitext_parse(&w,
                                    "a\x85"
                                    "b \xc2",
                                    5),
                     0);
    assert_int_equal(w.pages[0].words, 2);
    assert_int_equal(w.pages[0].bytes, 5);
    wikitext_close(&w);
}

static void check_pages(const char *text, records *r) {
    wikitext w;
    assert_int_equal(wikitext_parse(&w, text, strlen(text)), 0);
    for (int i = 0; i < w.n; i++) {
        const char *raw = record(r), *words = record(r), *bytes = record(r);
        assert_non_null(bytes);
        assert_string_equal(w.pages[i].raw, raw);
        assert_int_equal(w.pages[i].words, atol(words));
        assert_int_equal(w.pages[i].bytes, atol(bytes));
        char *again = wikitext_detokenise(raw);
        assert_string_equal(w.pages[i].text, again);
        free(again);
    }
    wikitext_close(&w);
    wikitext_close(&w);
}

static void page_rules(void **state) {
    (void)state;
    records want = records_open("pages"), file = records_open("file"), spaces = records_open("spaces");
    check_pages(record(&file), &want);
    for (const char *text; (text = record(&spaces));) check_pages(text, &want);
    assert_null(record(&want));
    free(want.bytes);
    free(file.bytes);
    free(spaces.bytes);
}

static void refused(void **state) {
    (void)state;
    wikitext w;
    assert_int_equal(wikitext_parse(&w, " \n\n \n", 5), -1);
    assert_string_equal(err_get(), "holds no text");
    assert_int_equal(wikitext_parse(&w, "ab\0c", 4), -1);
    assert_string_equal(err_get(), "byte 2 is zero; this is not a text file");
    wikitext_close(&w);
}

static void gptq_text(void **state) {
    (void)state;
    static const struct {
        const char *raw, *want;
    } t[] = {
        {" = A = \n \n b \n", " = A = \n\n\n\n\n b \n"},
        {"a", "a"},
        {"a\nb", "a\n\n\nb"},
        {"a\n\n", "a\n\n\n"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        wikitext w;
        assert_int_equal(wikitext_parse(&w, t[i].raw, strlen(t[i].raw)), 0);
        char *got = wikitext_gptq_text(&w);
        assert_string_equal(got, t[i].want);
        free(got);
        wikitext_close(&w);
    }
}

// Every target is predicted by one window, in order; inputs lie in the stream and end one before the last target.
static void tiles(const text_window *w, int count, int first, int last, int most) {
    int next = first;
    for (int i = 0; i < count; i++) {
        assert_in_range(w[i].predicted, 1, most);
        assert_in_range(w[i].n, w[i].predicted, most);
        assert_true(w[i].start >= 0);
        assert_int_equal(w[i].start + w[i].n - w[i].predicted + 1, next);
        next += w[i].predicted;
    }
    assert_int_equal(next, last + 1);
}

static void windows(void **state) {
    (void)state;
    for (int n = 0; n <= 40; n++) {
        for (int most = 2; most <= 9; most++) {
            text_window *w;
            int count = text_windows_rolling(n, most, &w);  // stream: </s> at 0, tokens 1..n
            assert_int_equal(count, (n + most - 1) / most);
            tiles(w, count, 1, n, most);
            // later ones have full context
            for (int i = 0; i < count; i++) assert_int_equal(w[i].n, n < most ? n : most);
            free(w);
            count = text_windows_disjoint(n, most, false, &w);
            assert_int_equal(count, (n + most - 1) / most);
            tiles(w, count, 1, n, most);
            for (int i = 0; i < count; i++) assert_int_equal(w[i].n, w[i].predicted);
            for (int i = 0; i < count; i++) assert_int_equal(w[i].start, i * most);
            free(w);
            count = text_windows_disjoint(n, most, true, &w);  // stream: tokens 0..n-1
            assert_int_equal(count, n / most);
            for (int i = 0; i < count; i++) {
                assert_int_equal(w[i].start, i * most);
                assert_int_equal(w[i].predicted, most - 1);
                assert_int_equal(w[i].n, most - 1);
            }
            free(w);
        }
    }
}

// Figures of the file and of one tokenizer, counted by transformers and Python's re.
static void validation_file(void **state) {
    (void)state;
    const char *file = "../shared/data/wikitext2/wiki.valid.raw", *dir = "../shared/models/opt-en-8m";
    if (!file_exists(file) || !file_exists(dir)) {
        print_message("skipped: ../shared is not here\n");
        skip();
    }
    wikitext w;
    size_t file_bytes;
    char *all = file_read(file, &file_bytes);
    assert_int_equal(wikitext_parse(&w, all, file_bytes), 0);
    free(all);
    assert_int_equal(w.n, 60);
    tok *t = tok_open(dir, 0);
    assert_non_null(t);
    int32_t *ids = NULL;
    int n = 0, cap = 0;
    long words = 0, bytes = 0;
    for (int i = 0; i < w.n; i++) {
        words += w.pages[i].words;
        bytes += w.pages[i].bytes;
        assert_int_equal(tok_encode(t, w.pages[i].text, strlen(w.pages[i].text), &ids, &n, &cap), 0);
    }
    assert_int_equal(words, 214006);
    assert_int_equal(bytes, 1146785);
    assert_int_equal(n, 304292);
    n = 0;
    assert_int_equal(tok_encode(t, w.raw, w.raw_bytes, &ids, &n, &cap), 0);
    assert_int_equal(n, 316487);
    free(ids);
    tok_close(t);
    wikitext_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detokeniser),     cmocka_unit_test(bad_bytes), cmocka_unit_test(page_rules),
        cmocka_unit_test(refused),         cmocka_unit_test(gptq_text), cmocka_unit_test(windows),
        cmocka_unit_test(validation_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
