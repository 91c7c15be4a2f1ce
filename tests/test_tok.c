// test_tok - the tokenizer against ids and merges of the `tokenizers` library (golden/make_tok.py), the rule for invalid UTF-8 on
// vocabularies made for it, piece lengths at which a quadratic method would hang, threads, and every kind of broken file.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "split.h"
#include "tok.h"

#define GOLDEN "tests/golden/tok"
#define OPT_FILES "../shared/data/opt_tokenizer"

typedef struct { int32_t *id; int n, cap; } ids;

static ids encode(const tok *t, const char *text, size_t bytes) {
    ids x = {0};
    assert_int_equal(tok_encode(t, text, bytes, &x.id, &x.n, &x.cap), 0);
    return x;
}

// The bytes of all ids, one behind the other, are the text.
static void check_identity(const tok *t, const char *text, size_t bytes) {
    ids x = encode(t, text, bytes);
    size_t at = 0, n;
    for (int i = 0; i < x.n; i++) {
        const char *b = tok_bytes(t, x.id[i], &n);
        if (at + n > bytes || memcmp(text + at, b, n) != 0) fail_msg("id %d of %d does not spell what stands at byte %zu", i, x.n, at);
        at += n;
    }
    assert_int_equal(at, bytes);
    char *back = tok_decode(t, x.id, x.n);
    assert_memory_equal(back, text, bytes);
    assert_int_equal(back[bytes], 0);
    free(back);
    free(x.id);
}

static tok *open_or_fail(const char *dir) {
    tok *t = tok_open(dir, 0);
    if (!t) fail_msg("%s", err_get());
    return t;
}

// ---------------------------------------------------------------- against the tokenizers library
static json_t *strings(void) {
    json_error_t why;
    json_t *all = json_load_file(GOLDEN "/strings.json", JSON_ALLOW_NUL, &why);
    if (!all) fail_msg("%s", why.text);
    assert_true(json_array_size(all) >= 2000);
    return all;
}

static void check_strings(const char *dir, const char *ids_file) {
    tok *t = open_or_fail(dir);
    json_t *all = strings(), *s;
    char *want = file_read(ids_file, NULL), *at = want;
    assert_non_null(want);
    size_t k, wrong = 0;
    json_array_foreach(all, k, s) {
        const char *text = json_string_value(s);
        ids x = encode(t, text, json_string_length(s));
        bool same = true;
        int n = 0;
        for (; *at != '\n'; at += *at == ' ', n++) {
            long id = strtol(at, &at, 10);
            same = same && n < x.n && x.id[n] == id;
        }
        at++;
        if (!same || n != x.n) {
            print_message("string %zu \"%.40s\": other ids\n", k, text);
            wrong++;
        }
        free(x.id);
        check_identity(t, text, json_string_length(s));
    }
    assert_int_equal(*at, 0);
    assert_int_equal(wrong, 0);
    json_decref(all);
    free(want);
    tok_close(t);
}

static void small_vocabulary(void **state) {
    (void)state;
    check_strings(GOLDEN, GOLDEN "/small.ids");
}

static void opt_vocabulary(void **state) {
    (void)state;
    if (!file_exists(OPT_FILES)) {
        print_message("no %s: OPT's own vocabulary is not tested\n", OPT_FILES);
        skip();
    }
    check_strings(OPT_FILES, GOLDEN "/opt.ids");
    // the known vector of OPT's tokenizer
    static const int32_t want[] = {31414, 232, 328, 740, 1140, 12695, 69, 46078, 1588};
    static const char text[] = "Hello world! cécé herlolip";
    tok *t = open_or_fail(OPT_FILES);
    ids x = encode(t, text, sizeof text - 1);
    assert_int_equal(x.n, 9);
    assert_memory_equal(x.id, want, sizeof want);
    free(x.id);
    tok_close(t);
}

static char *scratch_dir(char path[32]) {
    snprintf(path, 32, "/tmp/test_tok.XXXXXX");
    char *made = mkdtemp(path);
    assert_non_null(made);
    return made;
}

static void scratch_remove(const char *dir) {
    static const char *const names[] = {"vocab.json", "merges.txt"};
    for (int i = 0; i < 2; i++) {
        char *p = xasprintf("%s/%s", dir, names[i]);
        unlink(p);
        free(p);
    }
    assert_int_equal(rmdir(dir), 0);  // nothing else was left there
}

static void training(void **state) {
    (void)state;
    char dir[32];
    scratch_dir(dir);
    size_t bytes;
    char *text = file_read(GOLDEN "/text.txt", &bytes);
    assert_non_null(text);
    if (bpe_train(text, bytes, 700, dir) != 0) fail_msg("%s", err_get());
    char *path = xasprintf("%s/merges.txt", dir), *got = file_read(path, NULL), *want = file_read(GOLDEN "/merges.txt", NULL);
    assert_string_equal(got, want);
    tok *a = open_or_fail(dir), *b = open_or_fail(GOLDEN);
    assert_int_equal(tok_size(a), 700);
    assert_int_equal(tok_size(b), 700);
    for (int i = 0; i < 700; i++) {
        size_t n, m;
        const char *x = tok_bytes(a, i, &n), *y = tok_bytes(b, i, &m);
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
    }
    tok_close(a);
    tok_close(b);
    free(path);
    free(got);
    free(want);

    assert_int_equal(bpe_train(text, bytes, 259, dir), -1);
    assert_non_null(strstr(err_get(), "at least 260"));
    assert_int_equal(bpe_train("abc", 3, 300, dir), -1);
    assert_non_null(strstr(err_get(), "give only 260 ids"));
    assert_int_equal(bpe_train(text, bytes, 300, "/nonexistent"), -1);
    assert_non_null(strstr(err_get(), "/nonexistent/vocab.json"));
    assert_int_equal(bpe_train("", 0, 260, dir), 0);  // bytes alone
    free(text);
    scratch_remove(dir);
}

// ---------------------------------------------------------------- byte symbols
static void byte_symbols(void **state) {
    (void)state;
    // the published table's corners: bytes_to_unicode of GPT-2's encoder.py
    static const int known[][2] = {{0, 0x100}, {9, 0x109}, {10, 0x10a}, {32, 0x120}, {33, 33}, {126, 126}, {127, 0x121}, {128, 0x122},
                                   {160, 0x142}, {161, 161}, {172, 172}, {173, 0x143}, {174, 174}, {255, 255}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) assert_int_equal(symbol_of_byte(known[i][0]), known[i][1]);
    int symbols = 0;
    for (int c = -1; c < 0x10ffff; c++) {
        int b = symbol_byte(c);
        symbols += b >= 0;
        if (b >= 0) assert_int_equal(symbol_of_byte(b), c);
    }
    assert_int_equal(symbols, 256);
    char out[8];
    assert_int_equal(symbols_write(out, " a\n", 3), 5);
    assert_string_equal(out, "\xc4\xa0" "a" "\xc4\x8a");
    assert_int_equal(symbols_read(out, "\xc4\xa0" "a" "\xc4\x8a"), 3);
    assert_memory_equal(out, " a\n", 3);
    assert_int_equal(symbols_read(out, " "), -1);               // a space is not its own symbol
    assert_int_equal(symbols_read(out, "\xe2\x82\xac"), -1);
    assert_int_equal(symbols_read(out, "\xc2\xad"), -1);        // nor is U+00AD
    assert_int_equal(symbols_read(out, "\xc4"), -1);
}

// ---------------------------------------------------------------- vocabularies made for a test
enum { BASE = 260 };  // ids 0-3 special, 4 + b: byte b, then one per merge in the order given

typedef struct { char *vocab, *merges; size_t n_vocab, n_merges; } files;

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
        {" ", "\xff"}, {"\xff", "\xff"}, {"\xff", "!"}, {"1", "\xff"}, {"a", "\xff"}, {"\xff", "a"}, {"a", "\xc3"},
        {"\n", "\xff"}, {"'", "\xff"}, {"\xe2", "\x82"}, {"\x82", "."}, {"a", "\xe2"}, {" ", "\xe2"},
    };
    tok *t = make_tok(sizeof pairs / sizeof *pairs, pairs);
    enum { SPACE_FF = BASE, FF_FF, FF_MARK, ONE_FF, A_FF, FF_A, A_C3, NL_FF, QUOTE_FF, E2_82, X82_DOT, A_E2, SPACE_E2 };
    CHECK_IDS(t, "\xff", 0xff);
    CHECK_IDS(t, " \xff", SPACE_FF);                          // a space goes with a mark behind it
    CHECK_IDS(t, "  \xff", ' ', SPACE_FF);
    CHECK_IDS(t, "\xff\xff", FF_FF);                          // several bad bytes are one run of marks
    CHECK_IDS(t, "\xff!", FF_MARK);
    CHECK_IDS(t, "'\xff", QUOTE_FF);
    CHECK_IDS(t, "1\xff", '1', 0xff);                         // neither a digit
    CHECK_IDS(t, "a\xff" "a", 'a', 0xff, 'a');                // nor a letter
    CHECK_IDS(t, "\n\xff", '\n', 0xff);                       // nor a space
    CHECK_IDS(t, "a\xc3\xa9", A_C3, 0xa9);                    // e acute is a letter
    CHECK_IDS(t, "a\xc3", 'a', 0xc3);                         // its first half is none
    CHECK_IDS(t, "a\xc3z", 'a', 0xc3, 'z');
    CHECK_IDS(t, "\xe2\x82", E2_82);                          // a cut euro sign: two bad bytes
    CHECK_IDS(t, "\xe2\x82.", E2_82, '.');
    CHECK_IDS(t, "\x82.", X82_DOT);
    CHECK_IDS(t, "a\xe2\x82\xac", 'a', E2_82, 0xac);          // the euro sign: a mark
    CHECK_IDS(t, "a\xe1\xbd\x80", 'a', 0xe1, 0xbd, 0x80);
    CHECK_IDS(t, "\xe2\x80\x83\xff", 0xe2, 0x80, 0x83, 0xff);  // em space, then a bad byte
    tok_close(t);

    // What RFC 3629 forbids, each byte a mark: between letters a merge with them must not happen; next to a mark it must.
    static const char *const bad[] = {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x81\xa1", "\xf0\x80\x81\xa1", "\xed\xa0\x80", "\xed\xbf\xbf",
                                      "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff",
                                      "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xe2(\xac", "\xf0\x28\x8c\xbc"};
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
        if (strlen(bad[i]) == 1) assert_int_equal(x.n, 2);  // the leftmost pair of the lower rank is taken
        else assert_int_equal(x.n, (int)strlen(text) - 2);
        assert_int_equal(x.id[0], BASE + 2);
        free(x.id);
        check_identity(u, text, strlen(text));
        tok_close(u);
    }
}

static void any_bytes(void **state) {
    (void)state;
    tok *t = open_or_fail(GOLDEN);
    rng r = rng_make(5);
    char text[64];
    static const unsigned char likely[] = {0, ' ', '\n', 'e', 't', '\'', 's', '1', 0xc2, 0xa0, 0xe2, 0x80, 0x83, 0xf0, 0x9f, 0x98, 0xff};
    for (int k = 0; k < 20000; k++) {
        size_t n = rng_below(&r, sizeof text + 1);
        for (size_t i = 0; i < n; i++) text[i] = (char)(k % 2 ? rng_below(&r, 256) : likely[rng_below(&r, sizeof likely)]);
        check_identity(t, text, n);
    }
    tok_close(t);
}

// ---------------------------------------------------------------- merging
static void order_of_merges(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"b", "c"}, {"a", "b"}, {"a", "bc"}, {"x", "x"}, {"abc", "d"}};
    tok *t = make_tok(5, pairs);
    CHECK_IDS(t, "abc", BASE + 2);        // b c before a b
    CHECK_IDS(t, "abd", BASE + 1, 'd');
    CHECK_IDS(t, "xxx", BASE + 3, 'x');   // the left pair of two
    CHECK_IDS(t, "xxxxx", BASE + 3, BASE + 3, 'x');
    CHECK_IDS(t, "zabcdabd", 'z', BASE + 4, BASE + 1, 'd');
    CHECK_IDS(t, "a bc", 'a', ' ', BASE); // not across pieces
    tok_close(t);
    // a symbol of the vocabulary that no merge yields is not used
    static const char alone[] = "#version: 0.2\na b\n";
    files f = make_files(5, pairs);
    t = tok_parse(f.vocab, f.n_vocab, alone, sizeof alone - 1, "made", 0);
    CHECK_IDS(t, "abc", BASE + 1, 'c');
    files_free(&f);
    tok_close(t);
}

static void long_pieces(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"a", "a"}, {"aa", "aa"}, {" ", " "}, {"\xe3\x80\x80", "\xe3\x80\x80"}};
    tok *t = make_tok(3, pairs);
    enum { N = 1000000 };
    char *text = xmalloc(N);
    double start = clock_s();
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
    assert_true(clock_s() - start < 30);  // tenths of a second; a quadratic method takes hours
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
    assert_int_equal(tok_encode(t, "!", 1, &x.id, &x.n, &x.cap), 0);    // appended
    assert_int_equal(x.n, 4);
    assert_int_equal(x.id[3], 4);
    free(x.id);
    static const int32_t some[] = {2, 4, 700, 0, 4, -5, 1, 3};
    char *text = tok_decode(t, some, 8);
    assert_string_equal(text, "!!");
    free(text);

    files f = make_files(0, NULL), g = make_files(0, NULL);
    tok *a = tok_parse(f.vocab, f.n_vocab, f.merges, f.n_merges, "a", 260), *b = tok_parse(g.vocab, g.n_vocab, g.merges, g.n_merges, "b", 0);
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

typedef struct { const tok *t; json_t *all; ids got; } job;

static void *work(void *arg) {
    job *j = arg;
    size_t k;
    json_t *s;
    for (int round = 0; round < 3; round++) {
        j->got.n = 0;
        json_array_foreach(j->all, k, s) tok_encode(j->t, json_string_value(s), json_string_length(s), &j->got.id, &j->got.n, &j->got.cap);
    }
    return NULL;
}

static void threads(void **state) {
    (void)state;
    tok *t = open_or_fail(GOLDEN);
    json_t *all = strings();
    job alone = {t, all, {0}}, j[4];
    pthread_t p[4];
    work(&alone);
    for (int i = 0; i < 4; i++) {
        j[i] = (job){t, all, {0}};
        assert_int_equal(pthread_create(&p[i], NULL, work, &j[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(p[i], NULL);
        assert_int_equal(j[i].got.n, alone.got.n);
        assert_memory_equal(j[i].got.id, alone.got.id, (size_t)alone.got.n * sizeof(int32_t));
        free(j[i].got.id);
    }
    free(alone.got.id);
    json_decref(all);
    tok_close(t);
}

// ---------------------------------------------------------------- broken files
static void refuse(const char *vocab, const char *merges, int rows, const char *says) {
    tok *t = tok_parse(vocab, strlen(vocab), merges, strlen(merges), "DIR", rows);
    if (t) fail_msg("accepted what should give \"%s\"", says);
    if (!strstr(err_get(), says)) fail_msg("\"%s\" lacks \"%s\"", err_get(), says);
    if (strchr(err_get(), '\n')) fail_msg("more than one line: %s", err_get());
}

// A copy of text in which the first `from` is `to`.
static char *changed(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    assert_non_null(at);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void broken_files(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"a", "b"}, {"ab", "c"}};
    files f = make_files(2, pairs);
    // line 1 holds the special tokens, byte b stands on line 2 + b, the merges on lines 258 and 259
    struct { const char *from, *to, *says; int rows; } vocab[] = {
        {"\"!\": 37", "\"!\": 36", "DIR/vocab.json:35: \"\xc4\xa0\" and \"!\" have the same id 36", 0},
        {"\"!\": 37,", "\"!\": 37,\n\"!\": 999,", "DIR/vocab.json:36: ", 0},
        {"\"!\": 37,", "\"!\": -1,", "DIR/vocab.json:35: the id of \"!\" must be a whole number", 0},
        {"\"!\": 37,", "\"!\": \"37\",", "DIR/vocab.json:35: the id of \"!\" must be", 0},
        {"\"!\": 37,", "\"!\": 3.5,", "DIR/vocab.json:35: the id of \"!\" must be", 0},
        {"\"!\": 37,", "\"!\": 99999999,", "DIR/vocab.json:35: \"!\" has id 99999999, but ids may reach", 0},
        {"\"!\": 37,", "\"!\": 99999999999999999999999,", "DIR/vocab.json:35: ", 0},
        {"\"!\": 37,", "\"!\" 37,", "DIR/vocab.json:35: ", 0},
        {"\"!\": 37,", "\"!\": 37", "DIR/vocab.json:36: ", 0},
        {"\"!\": 37,", "\"?!\": 37,", "DIR/vocab.json:259: the symbol \"!\" of byte 0x21 is missing", 0},
        {"\"abc\": 261", "\"abc\": 261", "DIR/vocab.json:259: \"abc\" has id 261, but the embedding has rows 0 to 260", 261},
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
    struct { const char *merges, *says; } merges[] = {
        {"#version: 0.2\na b\nab\n", "DIR/merges.txt:3: two symbols with one space"},
        {"#version: 0.2\n\na b\n", "DIR/merges.txt:2: two symbols"},
        {"a b c\n", "DIR/merges.txt:1: two symbols"},
        {" a\n", "DIR/merges.txt:1: two symbols"},
        {"a \n", "DIR/merges.txt:1: two symbols"},
        {"a b\nq\xe2\x82\xac b\n", "DIR/merges.txt:2: \"q\xe2\x82\xac\" is not in vocab.json"},
        {"a b\na xyz\n", "DIR/merges.txt:2: \"xyz\" is not in vocab.json"},
        {"a b\na c\n", "DIR/merges.txt:2: \"ac\" is not in vocab.json"},
        {"a b\nab c\na b\n", "DIR/merges.txt:3: this pair is also on an earlier line"},
    };
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) refuse(f.vocab, merges[i].merges, 0, merges[i].says);
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
    assert_non_null(strstr(err_get(), "/vocab.json: cannot open"));
    assert_int_equal(bpe_train("", 0, 260, dir), 0);
    char *path = xasprintf("%s/merges.txt", dir);
    unlink(path);
    free(path);
    assert_null(tok_open(dir, 0));
    assert_non_null(strstr(err_get(), "/merges.txt: cannot open"));
    scratch_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_vocabulary), cmocka_unit_test(opt_vocabulary), cmocka_unit_test(training), cmocka_unit_test(byte_symbols),
        cmocka_unit_test(invalid_utf8), cmocka_unit_test(any_bytes), cmocka_unit_test(order_of_merges), cmocka_unit_test(long_pieces),
        cmocka_unit_test(interface), cmocka_unit_test(threads), cmocka_unit_test(broken_files),
    };
    return cmocka_run_group_tests_name("tok", tests, NULL, NULL);
}
