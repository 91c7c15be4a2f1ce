// test_base - error texts, whole-file input and output (full disk, links and pipes included), random numbers against
// published values, hashes, hash tables, names of modes, date and memory, the variables of launchers.
#include "base.h"
#include "mode.h"
#include "ranks.h"
#include "table.h"
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/test_base.XXXXXX";

static void errors_are_one_line(void **state) {
    (void)state;
    assert_int_equal(err_set("%s: tensor %s", "a.bin", "x\ny\033[2J\tz"), -1);
    assert_string_equal(err_get(), "a.bin: tensor x?y?[2J?z");
    assert_int_equal(err_prefix("model %d", 3), -1);
    assert_string_equal(err_get(), "model 3: a.bin: tensor x?y?[2J?z");
    err_set("again: %s", err_get());  // an argument that points into the text itself
    assert_string_equal(err_get(), "again: model 3: a.bin: tensor x?y?[2J?z");
    char *wide = xcalloc(1, 5001);
    memset(wide, 'w', 5000);
    err_set("%s", wide);
    assert_true(strlen(err_get()) < 1024);
    free(wide);
}

static void files(void **state) {
    (void)state;
    char *path = xasprintf("%s/a", dir), *tmp = xasprintf("%s.tmp", path), *none = xasprintf("%s/none/b", dir);
    size_t n;
    file_out o = {0};
    assert_null(file_read(path, &n));
    assert_non_null(strstr(err_get(), "cannot open"));
    assert_false(file_exists(path));
    assert_int_equal(file_out_open(&o, none), -1);
    assert_non_null(strstr(err_get(), none));

    assert_int_equal(file_out_open(&o, path), 0);
    for (int i = 0; i < 40000; i++) fwrite("five\0", 1, 5, o.f);
    assert_false(file_exists(path));  // nothing has its name before it is whole
    assert_int_equal(file_out_close(&o), 0);
    assert_false(file_exists(tmp));
    char *text = file_read(path, &n);
    assert_int_equal(n, 200000);
    for (size_t i = 0; i < n; i++) assert_int_equal(text[i], "five\0"[i % 5]);
    assert_int_equal(text[n], 0);
    char whole[33], pieces[33];
    hash_bytes(whole, text, n);
    assert_int_equal(hash_file(pieces, path), 0);
    assert_string_equal(whole, pieces);
    free(text);
    assert_int_equal(hash_file(pieces, none), -1);

    assert_int_equal(file_out_open(&o, path), 0);
    fputs("half", o.f);
    file_out_abandon(&o);
    file_out_abandon(&o);
    assert_false(file_exists(tmp));

    struct rlimit old, small = {1000, 1000};
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);  // what write then returns is what a full disk returns, under another name
    assert_int_equal(file_out_open(&o, path), 0);
    for (int i = 0; i < 40000; i++) fwrite("other", 1, 5, o.f);
    int rc = file_out_close(&o);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(err_get(), path));
    assert_non_null(strstr(err_get(), "cannot write"));
    assert_false(file_exists(tmp));
    assert_int_equal(hash_file(pieces, path), 0);
    assert_string_equal(whole, pieces);  // the old file is as it was

    char *link = xasprintf("%s/link", dir);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(file_out_open(&o, link), 0);
    fputs("through a link", o.f);
    assert_int_equal(file_out_close(&o), 0);
    char *target = file_target(link);
    assert_string_equal(target, path);  // the link is still one
    free(target);
    unlink(link);
    free(link);
    text = file_read(path, &n);
    assert_string_equal(text, "through a link");
    free(text);
    unlink(path);

    assert_int_equal(mkfifo(path, 0600), 0);
    const int reader = open(path, O_RDONLY | O_NONBLOCK);
    char got[16] = "";
    assert_int_equal(file_out_open(&o, path), 0);
    fputs("to a pipe", o.f);
    assert_int_equal(file_out_close(&o), 0);
    assert_int_equal(read(reader, got, sizeof got - 1), 9);
    assert_string_equal(got, "to a pipe");
    assert_int_equal(file_out_open(&o, path), 0);
    file_out_abandon(&o);
    assert_true(file_exists(path));
    close(reader);
    unlink(path);
    free(path);
    free(tmp);
    free(none);
}

// xoshiro256** from the state 1, 2, 3, 4: the values in the tests of the Rust crate rand_xoshiro, made with the
// authors' C code.
static void random_numbers(void **state) {
    (void)state;
    static const uint64_t want[10] = {11520u,
                                      0u,
                                      1509978240u,
                                      1215971899390074240u,
                                      1216172134540287360u,
                                      607988272756665600u,
                                      16172922978634559625u,
                                      8476171486693032832u,
                                      10595114339597558777u,
                                      2904607092377533576u};
    rng r = {{1, 2, 3, 4}};
    for (int i = 0; i < 10; i++) assert_true(rng_u64(&r) == want[i]);
    // splitmix64 of the seed 0 gives e220a8397b1dcdaf first (Steele 2014; Java's SplittableRandom): the hash is three
    // such steps
    uint64_t once = 0xe220a8397b1dcdafu, z = once + 0x9e3779b97f4a7c15u;
    for (int k = 0; k < 2; k++) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        if (k == 0) z += 0x9e3779b97f4a7c15u;
    }
    assert_true(rng_hash(0, 0, 0) == z);

    r = rng_make(7);
    double sum = 0, square = 0, fourth = 0, low = 1, high = 0;
    const int n = 200000;
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(&r), x = rng_normal(&r);
        low = fmin(low, u);
        high = fmax(high, u);
        sum += x;
        square += x * x;
        fourth += x * x * x * x;
    }
    assert_true(low >= 0 && low < 1e-4 && high < 1 && high > 1 - 1e-4);
    // five sigma
    assert_true(fabs(sum / n) < 5 / sqrt(n) && fabs(square / n - 1) < 5 * sqrt(2.0 / n) &&
                fabs(fourth / n - 3) < 5 * sqrt(96.0 / n));

    long count[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t k = rng_below(&r, 7);
        assert_true(k < 7);
        count[k]++;
    }
    for (int k = 0; k < 7; k++) assert_true(labs(count[k] - 10000) < 500);  // five sigma

    long at[5][5] = {{0}};
    for (int i = 0; i < 20000; i++) {
        int32_t p[5], seen = 0;
        rng_permutation(&r, p, 5);
        for (int k = 0; k < 5; k++) {
            seen |= 1 << p[k];
            at[k][p[k]]++;
        }
        assert_int_equal(seen, 31);
    }
    // every place is equally likely, five sigma
    for (int k = 0; k < 25; k++) assert_true(labs(at[k / 5][k % 5] - 4000) < 300);
}

// The published XXH3 values of the empty input (xxHash's own sanity checks).
static void hashes(void **state) {
    (void)state;
    char out[33];
    hash_bytes(out, "", 0);
    assert_string_equal(out, "99aa06d3014798d86001c324468d497f");
    assert_true(hash64("", 0) == 0x2d06800538d394c2u);
}

// Against plain arrays: few keys, so that values are replaced; many, so that the table grows.
static void tables(void **state) {
    (void)state;
    for (int keys = 3; keys <= 3000; keys *= 10) {
        u64_table u = {0};
        str_table s = {0};
        int32_t *want = xmalloc((size_t)keys * sizeof *want);
        char(*name)[16] = xcalloc((size_t)keys, sizeof *name);
        for (int k = 0; k < keys; k++) {
            want[k] = -1;
            snprintf(name[k], sizeof name[k], k % 2 ? "%d" : "%08d", k);
        }
        rng r = rng_make((uint64_t)keys);
        for (int i = 0; i < 3 * keys; i++) {
            uint64_t k = rng_below(&r, (uint64_t)keys);
            int32_t v = (int32_t)rng_below(&r, 1000000);
            u64_put(&u, k << 32 | k, v);
            str_put(&s, name[k], strlen(name[k]), v);
            want[k] = v;
            uint64_t q = rng_below(&r, (uint64_t)keys);
            assert_int_equal(u64_get(&u, q << 32 | q), want[q]);
            assert_int_equal(str_get(&s, name[q], strlen(name[q])), want[q]);
        }
        for (uint64_t k = 0; k < (uint64_t)keys; k++) {
            assert_int_equal(u64_get(&u, k << 32 | k), want[k]);
            assert_int_equal(u64_get(&u, k << 32 | (k + 1)), -1);
            assert_int_equal(str_get(&s, name[k], strlen(name[k])), want[k]);
        }
        assert_int_equal(str_get(&s, "nowhere", 7), -1);
        u64_free(&u);
        str_free(&s);
        assert_int_equal(u64_get(&u, 5), -1);  // an emptied table is an empty one
        free(want);
        free(name);
    }
}

static void growing_array(void **state) {
    (void)state;
    int *v = NULL, n = 0, cap = 0;
    for (int i = 0; i < 10000; i++) VEC_PUSH(v, n, cap, i * i);
    assert_true(n == 10000 && cap >= n);
    for (int i = 0; i < n; i++) assert_int_equal(v[i], i * i);
    free(v);
}

// The names that options, stores and results hold.
static void modes(void **state) {
    (void)state;
    assert_string_equal(mode_names[MODE_SOUND], "sound");
    assert_string_equal(mode_names[MODE_COMPAT], "compat");
    for (mode_kind m = MODE_SOUND; m < MODES; m++) {
        assert_int_not_equal(mode_other(m), m);
        assert_int_equal(mode_other(mode_other(m)), m);
    }
    assert_null(mode_names[MODES]);
    assert_string_equal(mode_suffixes[MODE_SOUND], "");
    assert_string_equal(mode_suffixes[MODE_COMPAT], "_compat");
}

// The date as strptime reads it back is now; the peak of memory has grown by what was written.
static void date_and_memory(void **state) {
    (void)state;
    char date[UTC_DATE];
    struct tm t = {0};
    const time_t before = time(NULL);
    utc_date(date);
    const char *end = strptime(date, "%Y-%m-%dT%H:%M:%SZ", &t);
    assert_non_null(end);
    assert_int_equal(*end, 0);
    assert_in_range(timegm(&t), before, time(NULL));
    const double was = peak_memory_mib();
    const size_t bytes = (size_t)((was + 64) * (1 << 20));
    char *block = xmalloc(bytes);
    memset(block, 1, bytes);
    assert_true(peak_memory_mib() >= was + 60 && block[bytes - 1] == 1);
    free(block);
}

// Three processes' worth of variables, right, wrong and empty: what is no whole pair of numbers is no launcher.
static void launchers(void **state) {
    (void)state;
    static const char *const names[3][3] = {
        {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
        {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
        {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"}};
    static const struct {
        const char *rank, *count, *local;
        int want[3];
    } cases[] = {{"1", "3", "2", {1, 3, 2}},
                 {"0", "1", NULL, {0, 1, 0}},
                 {"", "", "", {0, 1, 0}},
                 {"", "3", "", {0, 1, 0}},
                 {"1", "", "1", {0, 1, 0}},
                 {"0", "abc", "0", {0, 1, 0}},
                 {"0", "0", "0", {0, 1, 0}},
                 {"3", "3", "3", {0, 1, 0}},
                 {"-1", "3", "0", {0, 1, 0}},
                 {"1x", "3", "0", {0, 1, 0}},
                 {"0", "99999999999", "0", {0, 1, 0}},
                 {"0", "2147483647", "0", {0, 1, 0}},
                 {"2", "4", "x", {2, 4, 0}}};
    for (int l = 0; l < 3; l++)
        for (int v = 0; v < 3; v++) unsetenv(names[l][v]);
    for (int l = 0; l < 3; l++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const char *const value[3] = {cases[i].rank, cases[i].count, cases[i].local};
            for (int v = 0; v < 3; v++)
                if (value[v]) setenv(names[l][v], value[v], 1);
            assert_int_equal(rank_number(), cases[i].want[0]);
            assert_int_equal(rank_count(), cases[i].want[1]);
            assert_int_equal(rank_local(), cases[i].want[2]);
            for (int v = 0; v < 3; v++) unsetenv(names[l][v]);
        }
    setenv("PMI_SIZE", "", 1);  // left over by one launcher, under another
    setenv("SLURM_PROCID", "2", 1);
    setenv("SLURM_NTASKS", "4", 1);
    assert_int_equal(rank_number(), 2);
    assert_int_equal(rank_count(), 4);
}

// All bytes 0, whatever was there; room that is not written takes no memory.
static void cleared_memory(void **state) {
    (void)state;
    const size_t sizes[] = {1, 100, 1 << 22, (1 << 22) + 1, 9 << 20};
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            char *p = xcleared(sizes[i]);
            assert_int_equal((uintptr_t)p % 64, 0);
            for (size_t k = 0; k < sizes[i]; k++)
                if (p[k]) fail_msg("byte %zu of %zu is %d", k, sizes[i], p[k]);
            memset(p, 1, sizes[i]);
            xcleared_free(p);
        }
    const double was = peak_memory_mib();
    const size_t much = (size_t)((was + 1024) * (1 << 20));
    char *room = xcleared(much);
    room[0] = room[much - 1] = 1;
    assert_true(peak_memory_mib() < was + (was + 1024) / 4);  // a sanitizer's notes on it take an eighth
    xcleared_free(room);
    xcleared_free(NULL);
}

int main(void) {
    if (!mkdtemp(dir)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(errors_are_one_line),
                                       cmocka_unit_test(files),
                                       cmocka_unit_test(random_numbers),
                                       cmocka_unit_test(hashes),
                                       cmocka_unit_test(tables),
                                       cmocka_unit_test(growing_array),
                                       cmocka_unit_test(modes),
                                       cmocka_unit_test(date_and_memory),
                                       cmocka_unit_test(cleared_memory),
                                       cmocka_unit_test(launchers)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
