// test_vocabulary - the tokenizer on vocabularies made for a test: the rule for invalid UTF-8, the order of merges,
// piece lengths at which a quadratic method would hang, the interface, and every kind of broken file.
#include "tok_fixture.h"
#include "split.h"
#include <time.h>

enum { BASE = 260 };  // ids 0-3 special, 4 + b: byte b, then one per merge in the order given

typedef struct {
    char *vocab, *merges;
    size_t n_vocab, n_merges;
} files;

// Merge i joins the bytes pairs[i][0] and pairs[i][1] to a new symbol.
static files make_files(int n, const char *const (*pairs)[2]) {
    files f;
    FILE *v = open_memstream(&f.vocab, &f.n_vocab), *m = open_memstream(&f.merges, &f.n_merges);
    fputs("{\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3", v);
    char s[64];
    for (int b = 0; b < 256; b++) {
        symbols_write(s, (char[]){(char)b}, 1);
        fprintf(v, ",\n\"%s%s\": %d", *s == '"' || *s == '\\' ? "\\" : "", s, 4 + b);
    }
    fputs("#version: 0.2\n", m);
    for (int i = 0; i < n; i++) {
        char joined[32];
        snprintf(joined, sizeof joined, "%s%s", pairs[i][0], pairs[i][1]);
        symbols_write(s, joined, strlen(joined));
        fprintf(v, ",\n\"%s\": %d", s, BASE + i);
        symbols_write(s, pairs[i][0], strlen(pairs[i][0]));
        fprintf(m, "%s ", s);
        symbols_write(s, pairs[i][1], strlen(pairs[i][1]));
        fprintf(m, "%s\n", s);
    }
    fputs("}\n", v);
    fclose(v);
    fclose(m);
    return f;
}

static void files_free(files *f) {
    free(f->vocab);
    free(f->merges);
}

static tok *make_tok(int n, const char *const (*pairs)[2]) {
    files f = make_files(n, pairs);
    tok *t = tok_parse(f.vocab, f.n_vocab, f.merges, f.n_merges, "made", 0);
    if (!t) fail_msg("%s", err_get());
    files_free(&f);
    return t;
}

// want: one number per id, -1 at the end; below BASE it is a byte, from BASE on an id.
#define CHECK_IDS(t, text, ...) check_ids(t, text, sizeof text - 1, (const int[]){__VA_ARGS__, -1})
static void check_ids(const tok *t, const char *text, size_t bytes, const int *want) {
    ids x = encode(t, text, bytes);
    int n = 0;
    for (; want[n] >= 0; n++) {
        int id = want[n] < 256 ? 4 + want[n] : want[n];
        if (n >= x.n || x.id[n] != id) fail_msg("\"%s\": id %d is %d, not %d", text, n, n < x.n ? x.id[n] : -1, id);
    }
    assert_int_equal(x.n, n);
    free(x.id);
    check_identity(t, text, bytes);
}

// A merge happens inside a piece only, so merges show where the pieces end.
static void invalid_utf8(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {" ", "\xff"},  {"\xff", "\xff"}, {"\xff", "!"},    {"1", "\xff"}, {"a", "\xff"}, {"\xff", "a"}, {"a", "\xc3"},
        {"\n", "\xff"}, {"'", "\xff"},    {"\xe2", "\x82"}, {"\x82", "."}, {"a", "\xe2"}, {" ", "\xe2"},
    };
    tok *t = make_tok(sizeof pairs / sizeof *pairs, pairs);
    enum { SPACE_FF = BASE, FF_FF, FF_MARK, ONE_FF, A_FF, FF_A, A_C3, NL_FF, QUOTE_FF, E2_82, X82_DOT, A_E2, SPACE_E2 };
    CHECK_IDS(t, "\xff", 0xff);
    CHECK_IDS(t, " \xff", SPACE_FF);  // a space goes with a mark after it
    CHECK_IDS(t, "  \xff", ' ', SPACE_FF);
    CHECK_IDS(t, "\xff\xff", FF_FF);  // several bad bytes are one run of marks
    CHECK_IDS(t, "\xff!", FF_MARK);
    CHECK_IDS(t, "'\xff", QUOTE_FF);
    CHECK_IDS(t, "1\xff", '1', 0xff);  // neither a digit
    CHECK_IDS(t,
              "a\xff"
              "a",
              'a', 0xff, 'a');              // nor a letter
    CHECK_IDS(t, "\n\xff", '\n', 0xff);     // nor a space
    CHECK_IDS(t, "a\xc3\xa9", A_C3, 0xa9);  // e acute is a letter
    CHECK_IDS(t, "a\xc3", 'a', 0xc3);       // its first half is none
    CHECK_IDS(t, "a\xc3z", 'a', 0xc3, 'z');
    CHECK_IDS(t, "\xe2\x82", E2_82);  // a cut euro sign: two bad bytes
    CHECK_IDS(t, "\xe2\x82.", E2_82, '.');
    CHECK_IDS(t, "\x82.", X82_DOT);
    CHECK_IDS(t, "a\xe2\x82\xac", 'a', E2_82, 0xac);  // the euro sign: a mark
    CHECK_IDS(t, "a\xe1\xbd\x80", 'a', 0xe1, 0xbd, 0x80);
    CHECK_IDS(t, "\xe2\x80\x83\xff", 0xe2, 0x80, 0x83, 0xff);  // em space, then a bad byte
    tok_close(t);

    // What RFC 3629 forbids, each byte a mark: between letters a merge with them must not happen; next to a mark it
    // must.
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x81\xa1",
                                      "\xf0\x80\x81\xa1",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xfe",
                                      "\xff",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98",
                                      "\xe2(\xac",
                                      "\xf0\x28\x8c\xbc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char first[2] = {bad[i][0], 0}, last[2] = {bad[i][strlen(bad[i]) - 1], 0};
        const char *const both[][2] = {{"a", first}, {last, "a"}, {"!", first}, {last, "?"}};
        tok *u = make_tok(4, both);
        char text[16];
        snprintf(text, sizeof text, "a%sa", bad[i]);
        ids x = encode(u, text, strlen(text));
        assert_int_equal(x.n, (int)strlen(text));
        free(x.id);
        snprintf(text, sizeof text, "!%s?", bad[i]);
        x = encode(u, text, strlen(text));
        if (strlen(bad[i]) == 1)
            assert_int_equal(x.n, 2);  // the leftmost pair of the lower rank is taken
        else
            assert_int_equal(x.n, (int)strlen(text) - 2);
        assert_int_equal(x.id[0], BASE + 2);
        free(x.id);
        check_identity(u, text, strlen(text));
        tok_close(u);
    }
}

// ---------------------------------------------------------------- merging
static void order_of_merges(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"b", "c"}, {"a", "b"}, {"a", "bc"}, {"x", "x"}, {"abc", "d"}};
    tok *t = make_tok(5, pairs);
    CHECK_IDS(t, "abc", BASE + 2);  // b c before a b
    CHECK_IDS(t, "abd", BASE + 1, 'd');
    CHECK_IDS(t, "xxx", BASE + 3, 'x');  // the left pair of two
    CHECK_IDS(t, "xxxxx", BASE + 3, BASE + 3, 'x');
    CHECK_IDS(t, "zabcdabd", 'z', BASE + 4, BASE + 1, 'd');
    CHECK_IDS(t, "a bc", 'a', ' ', BASE);  // not across pieces
    tok_close(t);
}

static void long_pieces(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"a", "a"}, {"aa", "aa"}, {" ", " "}, {"\xe3\x80\x80", "\xe3\x80\x80"}};
    tok *t = make_tok(3, pairs);
    enum { N = 1000000 };
    char *text = xmalloc(N);
    const clock_t start = clock();
    memset(text, 'a', N);
    ids x = encode(t, text, N);
    assert_int_equal(x.n, N / 4);
    for (int i = 0; i < x.n; i++) assert_int_equal(x.id[i], BASE + 1);
    free(x.id);
    memset(text, ' ', N);
    x = encode(t, text, N);
    assert_int_equal(x.n, N / 2);
    free(x.id);
    text[N - 1] = 'z';  // the last space goes with the letter: N - 2 spaces and " z"
    x = encode(t, text, N);
    assert_int_equal(x.n, N / 2 - 1 + 2);
    free(x.id);
    memset(text, '\xff', N);
    x = encode(t, text, N);
    assert_int_equal(x.n, N);
    free(x.id);
    for (int i = 0; i + 2 < N; i += 3) memcpy(text + i, "\xe3\x80\x80", 3);
    x = encode(t, text, N / 3 * 3);
    assert_int_equal(x.n, N / 3 * 3);
    free(x.id);
    // of the processor's time; it takes tenths of a second, a quadratic method hours
    assert_true(clock() - start < 60 * CLOCKS_PER_SEC);
    free(text);
    tok_close(t);
}

// ---------------------------------------------------------------- the rest of the interface
static void interface(void **state) {
    (void)state;
    tok *t = open_or_fail(GOLDEN);
    assert_int_equal(tok_id(t, "</s>"), 2);
    assert_int_equal(tok_id(t, "<unk>"), 3);
    assert_int_equal(tok_id(t, "!"), 4);
    assert_int_equal(tok_id(t, "no such symbol"), -1);
    size_t n;
    assert_memory_equal(tok_bytes(t, 2, &n), "</s>", 4);
    assert_int_equal(n, 4);
    tok_bytes(t, 700, &n);
    assert_int_equal(n, 0);
    tok_bytes(t, -1, &n);
    assert_int_equal(n, 0);
    ids x = {0};
    assert_int_equal(tok_encode(t, "<s>", 3, &x.id, &x.n, &x.cap), 0);  // text, no special token
    assert_int_equal(x.n, 3);
    assert_int_equal(tok_encode(t, "!", 1, &x.id, &x.n, &x.cap), 0);  // appended
    assert_int_equal(x.n, 4);
    assert_int_equal(x.id[3], 4);
    free(x.id);
    static const int32_t some[] = {2, 4, 700, 0, 4, -5, 1, 3};
    char *text = tok_decode(t, some, 8);
    assert_string_equal(text, "!!");
    free(text);

    files f = make_files(0, NULL), g = make_files(0, NULL);
    tok *a = tok_parse(f.vocab, f.n_vocab, f.merges, f.n_merges, "a", 260),
        *b = tok_parse(g.vocab, g.n_vocab, g.merges, g.n_merges, "b", 0);
    tok *c = tok_parse(g.vocab, g.n_vocab, "", 0, "c", 0);
    assert_string_equal(tok_hash(a), tok_hash(b));
    assert_string_not_equal(tok_hash(a), tok_hash(c));
    assert_string_not_equal(tok_hash(a), tok_hash(t));
    assert_int_equal(strlen(tok_hash(a)), 32);
    tok_close(a);
    tok_close(b);
    tok_close(c);
    tok_close(t);
    tok_close(NULL);
    files_free(&f);
    files_free(&g);
}

// ---------------------------------------------------------------- broken files
static void refuse(const char *vocab, const char *merges, int rows, const char *says) {
    tok *t = tok_parse(vocab, strlen(vocab), merges, strlen(merges), "DIR", rows);
    expect_error(t ? 0 : -1, says);
}

static void broken_files(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"a", "b"}, {"ab", "c"}};
    files f = make_files(2, pairs);
    // line 1 holds the special tokens, byte b stands on line 2 + b, the merges on lines 258 and 259
    struct {
        const char *from, *to, *says;
        int rows;
    } vocab[] = {
        {"\"!\": 37", "\"!\": 36", "DIR/vocab.json:35: \"\xc4\xa0\" and \"!\" have the same id 36", 0},
        {"\"!\": 37,", "\"!\": 37,\n\"!\": 999,", "DIR/vocab.json:36: ", 0},
        {"\"!\": 37,", "\"!\": -1,", "DIR/vocab.json:35: the id of \"!\" must be a whole number", 0},
        {"\"!\": 37,", "\"!\": \"37\",", "DIR/vocab.json:35: the id of \"!\" must be", 0},
        {"\"!\": 37,", "\"!\": 3.5,", "DIR/vocab.json:35: the id of \"!\" must be", 0},
        {"\"!\": 37,", "\"!\": 99999999,", "DIR/vocab.json:35: \"!\" has id 99999999, but ids may reach", 0},
        {"\"!\": 37,", "\"!\": 99999999999999999999999,", "DIR/vocab.json:35: ", 0},
        {"\"!\": 37,", "\"!\" 37,", "DIR/vocab.json:35: ", 0},
        {"\"!\": 37,", "\"!\": 37", "DIR/vocab.json:36: ", 0},
        {"\"!\": 37,", "\"?!\": 37,", "DIR/vocab.json: the symbol \"!\" of byte 0x21 is missing", 0},
        {"\"abc\": 261", "\"abc\": 261", "DIR/vocab.json:259: \"abc\" has id 261, but the embedding has rows 0 to 260",
         261},
        {"\"!\": 37,", "\"!\\ud800\": 37,", "DIR/vocab.json:35: ", 0},
        {"\"!\": 37,", "\"!\xff\": 37,", "DIR/vocab.json:35: ", 0},
    };
    for (size_t i = 0; i < sizeof vocab / sizeof *vocab; i++) {
        char *v = changed(f.vocab, vocab[i].from, vocab[i].to);
        refuse(v, f.merges, vocab[i].rows, vocab[i].says);
        free(v);
    }
    char *cut = xstrndup(f.vocab, f.n_vocab - 2);
    refuse(cut, f.merges, 0, "DIR/vocab.json:259: ");
    free(cut);
    refuse("", f.merges, 0, "DIR/vocab.json:1: ");
    refuse("[1, 2]", f.merges, 0, "one JSON object of symbols");
    refuse("{}", f.merges, 0, "one JSON object of symbols");
    struct {
        const char *merges, *says;
    } merges[] = {
        {"#version: 0.2\na b\nab\n", "DIR/merges.txt:3: two symbols with one space"},
        {"#version: 0.2\n\na b\n", "DIR/merges.txt:2: two symbols"},
        {"a b c\n", "DIR/merges.txt:1: two symbols"},
        {" a\n", "DIR/merges.txt:1: two symbols"},
        {"a \n", "DIR/merges.txt:1: two symbols"},
        {"a b\nq\xe2\x82\xac b\n", "DIR/merges.txt:2: \"q\xe2\x82\xac\" is not in the vocabulary"},
        {"a b\na xyz\n", "DIR/merges.txt:2: \"xyz\" is not in the vocabulary"},
        {"a b\na c\n", "DIR/merges.txt:2: \"ac\" is not in the vocabulary"},
        {"a b\nab c\na b\n", "DIR/merges.txt:3: this pair has an earlier merge"},
    };
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) refuse(f.vocab, merges[i].merges, 0, merges[i].says);
    // whole in form, but cut
    static const char *const cut_short[] = {"", "#version: 0.2\n", "#version: 0.2\na b", "a b\n"};
    for (size_t i = 0; i < sizeof cut_short / sizeof *cut_short; i++)
        refuse(f.vocab, cut_short[i], 0,
               i < 2
                   ? "DIR/merges.txt: 2 of the 2 symbols of several characters, such as \"ab\" (id 260), are made by no"
                   : "DIR/merges.txt: 1 of the 2 symbols of several characters, such as \"abc\" (id 261), are made by");
    // what is allowed: lines of Windows, no version line, no line feed at the end, as many rows as ids
    static const char windows[] = "#version: 0.2\r\na b\r\nab c";
    tok *t = tok_parse(f.vocab, f.n_vocab, windows, sizeof windows - 1, "DIR", 262);
    if (!t) fail_msg("%s", err_get());
    CHECK_IDS(t, "abc", BASE + 1);
    tok_close(t);
    files_free(&f);

    char dir[32];
    scratch_dir(dir);
    assert_null(tok_open(dir, 0));
    assert_non_null(strstr(err_get(), ": no tokenizer: neither tokenizer.json nor vocab.json"));
    assert_int_equal(bpe_train("", 0, 260, dir), 0);
    char *path = xasprintf("%s/merges.txt", dir);
    unlink(path);
    free(path);
    assert_null(tok_open(dir, 0));
    assert_non_null(strstr(err_get(), "/merges.txt: cannot open"));
    scratch_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(invalid_utf8), cmocka_unit_test(order_of_merges),
                                       cmocka_unit_test(long_pieces), cmocka_unit_test(interface),
                                       cmocka_unit_test(broken_files)};
    return cmocka_run_group_tests_name("vocabulary", tests, NULL, NULL);
}
