// test_store - the HDF5 file and the part files on made-up numbers: what is written comes back, through h5py too; 16
// bit within its bounds; rows taken over from an old file keep their bits; nothing that is not whole looks whole; one
// process at a time.
#include "parts.h"
#include "store.h"
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { N = 37, L = 3, U = 50 };
static char dir[64];
static const char *in_dir(const char *name) {
    static char path[4][128];
    static int k;
    snprintf(path[k = (k + 1) % 4], sizeof *path, "%.60s/%.60s", dir, name);
    return path[k];
}

// Element i of row r: of both signs and of magnitudes from 2^-38 to 1.
static float value(long r, int i) {
    uint64_t x = rng_hash(1, (uint64_t)r, (uint64_t)i);
    return ldexpf((float)(x >> 40) / 16777216.0f + 1e-3f, -(int)(x % 38)) * (x & 64 ? -1.0f : 1.0f);
}
static int row_value(void *ctx, long r, float *out) {
    (void)ctx;
    for (int i = 0; i < L * U; i++) out[i] = value(r, i);
    return 0;
}
static int row_nan(void *ctx, long r, float *out) {
    row_value(ctx, r, out);
    if (r == 5) out[U + 7] = NAN;
    return 0;
}
static int row_refused(void *ctx, long r, float *out) {
    (void)ctx;
    (void)r;
    (void)out;
    return err_set("asked for a row that is there");
}

static store_examples examples(int n) {
    store_examples e = {.n = n,
                        .id = xcalloc((size_t)n, sizeof *e.id),
                        .task = xcalloc((size_t)n, sizeof *e.task),
                        .tokens = xcalloc((size_t)n * 4, sizeof *e.tokens),
                        .offset = xcalloc((size_t)n + 1, sizeof *e.offset),
                        .context = xcalloc((size_t)n, sizeof *e.context),
                        .loss = xcalloc((size_t)n, sizeof *e.loss)};
    for (int i = 0; i < n; i++) {
        e.id[i] = xasprintf(i == 3 ? "\xc3\xa4/%d" : "train/%d", i);
        e.task[i] = xstrdup(i < n / 2 ? "piqa" : "openbookqa");
        e.offset[i + 1] = e.offset[i] + 2 + i % 3;
        for (int64_t k = e.offset[i]; k < e.offset[i + 1]; k++) e.tokens[k] = (int32_t)(7 * k % 1000);
        e.context[i] = 1;
        e.loss[i] = 1.0 / (i + 1);
    }
    return e;
}

static void write_store(const char *path, bool half, long n, const store *old, const int64_t *old_row,
                        int (*get)(void *, long, float *)) {
    store *s = store_create(path);
    assert_non_null(s);
    store_examples e = examples((int)n);
    store_rows rows = {"/scores/snip/heads", n, L, U, half, get, NULL, old, old_row, NULL};
    assert_int_equal(store_put_examples(s, &e), 0);
    assert_int_equal(store_put_text(s, "/", "model", "tiny"), 0);
    assert_int_equal(store_put_number(s, "/", "seed", 7), 0);
    assert_int_equal(store_put_number(s, "/", "share", 0.25), 0);
    assert_int_equal(store_put_rows(s, &rows, NULL), 0);
    assert_int_equal(store_commit(s), 0);
    assert_false(file_exists(in_dir("a.h5.tmp")));
    store_examples_free(&e);
}

static void comes_back(void **state) {
    (void)state;
    write_store(in_dir("a.h5"), false, N, NULL, NULL, row_value);
    store *s = store_open(in_dir("a.h5"));
    assert_non_null(s);
    float x[2 * L * U], want[L * U];
    for (long r = 0; r + 1 < N; r += 5) {
        assert_int_equal(store_read(s, "/scores/snip/heads", r, 2, x), 0);
        for (int k = 0; k < 2; k++) {
            row_value(NULL, r + k, want);
            assert_memory_equal(x + k * L * U, want, sizeof want);
        }
    }
    assert_int_equal(store_read(s, "/scores/snip/heads", N - 1, 2, x), -1);
    assert_int_equal(store_read(s, "/scores/none/heads", 0, 1, x), -1);
    store_examples e, made = examples(N);
    assert_int_equal(store_read_examples(s, &e), 0);
    assert_int_equal(e.n, N);
    for (int i = 0; i < N; i++) {
        assert_string_equal(e.id[i], made.id[i]);
        assert_string_equal(e.task[i], made.task[i]);
        assert_true(e.loss[i] == made.loss[i] && e.context[i] == 1 && e.offset[i + 1] == made.offset[i + 1]);
    }
    assert_memory_equal(e.tokens, made.tokens, (size_t)made.offset[N] * sizeof *e.tokens);
    char *of_model = store_attr(s, "/", "model"), *seed = store_attr(s, "/", "seed"),
         *share = store_attr(s, "/", "share");
    assert_string_equal(of_model, "tiny");
    assert_string_equal(seed, "7");
    assert_string_equal(share, "0.25");
    assert_null(store_attr(s, "/", "nothing"));
    free(of_model);
    free(seed);
    free(share);
    store_examples_free(&e);
    store_examples_free(&made);
    store_close(s);
}

static void h5py_reads_it(void **state) {
    (void)state;
    if (system("/usr/bin/python3 -c 'import h5py, numpy' 2>/dev/null") != 0) {
        print_message("SKIP h5py_reads_it: /usr/bin/python3 has no h5py\n");
        skip();
    }
    write_store(in_dir("a.h5"), false, N, NULL, NULL, row_value);
    char *command =
        xasprintf("/usr/bin/python3 -c \"import h5py, numpy; f = h5py.File('%s'); h = f['scores/snip/heads']; "
                  "assert h.shape == (%d, %d, %d) and h.dtype == 'float32' and h.chunks and h.shuffle and "
                  "h.compression == 'gzip'; "
                  "assert f['examples/id'][4].decode() == 'train/4' and f['examples/id'][3].decode() == chr(228) + "
                  "'/3' and f.attrs['model'] == 'tiny' and f.attrs['seed'] == 7; "
                  "assert f['examples/tokens'].dtype == 'int32' and f['examples/offset'].dtype == 'int64'; assert h[5, "
                  "2, 9] == numpy.float32(%.9g)\"",
                  in_dir("a.h5"), N, L, U, (double)value(5, 2 * U + 9));
    assert_int_equal(system(command), 0);
    free(command);
}

static void sixteen_bits_within_bounds(void **state) {
    (void)state;
    write_store(in_dir("h.h5"), true, N, NULL, NULL, row_value);
    store *s = store_open(in_dir("h.h5"));
    assert_non_null(s);
    float got[L * U], exact[L * U];
    for (long r = 0; r < N; r++) {
        float most = 0;
        row_value(NULL, r, exact);
        for (int i = 0; i < L * U; i++) most = fmaxf(most, fabsf(exact[i]));
        assert_int_equal(store_read(s, "/scores/snip/heads", r, 1, got), 0);
        // half an ulp of 11 bits, or half the smallest subnormal 2^-24 under a scale of at most most / 2^14
        for (int i = 0; i < L * U; i++)
            assert_true(fabsf(got[i] - exact[i]) <= fmaxf(fabsf(exact[i]) * 0x1p-11f, most * 0x1p-39f));
    }
    // taken over into a larger file: the same bits, and never computed
    int64_t old[N];
    for (int i = 0; i < N; i++) old[i] = N - 1 - i;
    write_store(in_dir("h2.h5"), true, N, s, old, row_refused);
    store *t = store_open(in_dir("h2.h5"));
    for (long r = 0; r < N; r++) {
        assert_int_equal(store_read(s, "/scores/snip/heads", N - 1 - r, 1, exact), 0);
        assert_int_equal(store_read(t, "/scores/snip/heads", r, 1, got), 0);
        assert_memory_equal(got, exact, sizeof got);
    }
    store_close(t);
    store_close(s);
}

static void nan_is_refused_by_name(void **state) {
    (void)state;
    store *s = store_create(in_dir("nan.h5"));
    store_rows rows = {"/scores/snip/heads", N, L, U, false, row_nan, NULL, NULL, NULL, NULL};
    assert_int_equal(store_put_rows(s, &rows, NULL), -1);
    assert_non_null(strstr(err_get(), "/scores/snip/heads: row 5, layer 1, unit 7 is nan"));
    store_close(s);
    assert_false(file_exists(in_dir("nan.h5")));
    assert_false(file_exists(in_dir("nan.h5.tmp")));
}

static void bad_files_are_named(void **state) {
    (void)state;
    assert_null(store_open(in_dir("absent.h5")));
    assert_non_null(strstr(err_get(), "No such file"));
    FILE *f = fopen(in_dir("text.h5"), "w");
    fputs("not hdf5", f);
    fclose(f);
    assert_null(store_open(in_dir("text.h5")));
    assert_non_null(strstr(err_get(), "not an HDF5 file"));
    write_store(in_dir("cut.h5"), false, N, NULL, NULL, row_value);
    assert_int_equal(truncate(in_dir("cut.h5"), 3000), 0);
    assert_null(store_open(in_dir("cut.h5")));
    assert_non_null(strstr(err_get(), "cut.h5"));
    assert_null(store_create(in_dir("no/such/folder.h5")));
    assert_non_null(strstr(err_get(), "No such file or directory"));
    store_aggregate a;
    write_store(in_dir("a.h5"), false, N, NULL, NULL, row_value);
    assert_int_equal(store_read_aggregate(&a, in_dir("a.h5"), MODE_SOUND, "all", "snip"), -1);
    assert_non_null(strstr(err_get(), "run bin/aggregate"));
}

static void aggregates_are_found_or_listed(void **state) {
    (void)state;
    double heads[L * U], other[L * U];
    long dim[2] = {L, U};
    for (int i = 0; i < L * U; i++) other[i] = (heads[i] = value(1, i)) + (i == 4);
    store *s = store_create(in_dir("agg.h5"));
    assert_int_equal(store_put_text(s, "/", "model_hash", "abc"), 0);
    assert_int_equal(store_put_doubles(s, "/aggregates/all/snip/heads", 2, dim, heads), 0);
    assert_int_equal(store_put_doubles(s, "/aggregates/piqa/snip/heads", 2, dim, other), 0);
    assert_int_equal(store_commit(s), 0);
    store_aggregate a, b;
    assert_int_equal(store_read_aggregate(&a, in_dir("agg.h5"), MODE_SOUND, "all", "snip"), 0);
    assert_int_equal(store_read_aggregate(&b, in_dir("agg.h5"), MODE_SOUND, "piqa", "snip"), 0);
    assert_true(a.L == L && a.H == U && !a.neurons);
    assert_memory_equal(a.heads, heads, sizeof heads);
    assert_string_equal(a.model_hash, "abc");
    assert_string_not_equal(a.hash, b.hash);
    store_aggregate_free(&a);
    store_aggregate_free(&b);
    assert_int_equal(store_read_aggregate(&a, in_dir("agg.h5"), MODE_SOUND, "copa", "snip"), -1);
    assert_non_null(strstr(err_get(), "there are: all piqa"));
    assert_int_equal(store_read_aggregate(&a, in_dir("agg.h5"), MODE_SOUND, "all", "grasp"), -1);
    assert_non_null(strstr(err_get(), "there are: snip"));
    assert_int_equal(store_read_aggregate(&a, in_dir("agg.h5"), MODE_COMPAT, "all", "snip"), -1);
    assert_non_null(strstr(err_get(), "--mode"));
}

// In a child: files may not grow beyond `limit` bytes, which is how a full disk looks to a program.
static int full_disk(size_t limit) {
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit r = {limit, limit};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &r);
        store *s = store_create(in_dir("full.h5"));
        store_examples e = examples(N);
        store_rows rows = {"/scores/snip/heads", N, L, U, false, row_value, NULL, NULL, NULL, NULL};
        int bad = !s || store_put_examples(s, &e) || store_put_rows(s, &rows, NULL);
        if (!bad) bad = store_commit(s) != 0;
        if (!bad) _exit(0);
        _exit(strstr(err_get(), "cannot write") && strstr(err_get(), "File too large") ? 1 : 2);
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_full_disk_is_noticed(void **state) {
    (void)state;
    write_store(in_dir("a.h5"), false, N, NULL, NULL, row_value);
    struct stat st;
    assert_int_equal(stat(in_dir("a.h5"), &st), 0);
    for (size_t limit = 0; limit < (size_t)st.st_size - 2048; limit += (size_t)st.st_size / 9) {
        assert_int_equal(full_disk(limit), 1);
        assert_false(file_exists(in_dir("full.h5")));
    }
    assert_int_equal(full_disk((size_t)st.st_size * 2), 0);
    assert_true(file_exists(in_dir("full.h5")));
}

static void one_process_at_a_time(void **state) {
    (void)state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int held = store_lock(in_dir("l.h5"));
        char ok = held >= 0;
        if (write(ready[1], &ok, 1) == 1) pause();
        _exit(0);
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, 1);
    assert_int_equal(store_lock(in_dir("l.h5")), -1);
    assert_non_null(strstr(err_get(), "another process (pid "));
    kill(pid, SIGKILL);  // its lock goes with it, its file does not
    waitpid(pid, NULL, 0);
    int held = store_lock(in_dir("l.h5"));
    assert_true(held >= 0);
    store_unlock(in_dir("l.h5"), held);
    assert_false(file_exists(in_dir("l.h5.lock")));
}

static void parts_survive_and_refuse(void **state) {
    (void)state;
    const char *at = in_dir("p.parts"), *plan = "seed=1\nshots=5\nbase=none\n";
    char where[128];
    snprintf(where, sizeof where, "%s", at);
    parts p;
    assert_int_equal(parts_open(&p, where, plan, 10), 0);
    parts_record r[2] = {{4, 0, 8}, {7, 8, 16}};
    const char payload[25] = "row four"
                             "row seven, longer";
    assert_int_equal(parts_add(&p, r, 2, payload, 24), 0);
    parts_record again = {2, 0, 8};
    assert_int_equal(parts_add(&p, &again, 1, "row two.", 8), 0);
    parts_close(&p);
    assert_int_equal(parts_open(&p, where, plan, 10), 0);
    char got[9] = "";
    assert_true(parts_has(&p, 4) && parts_has(&p, 7) && parts_has(&p, 2) && !parts_has(&p, 0));
    assert_int_equal(parts_read(&p, 7, 4, 5, got), 0);
    assert_memory_equal(got, "seven", 5);
    assert_int_equal(parts_read(&p, 4, 4, 8, got), -1);  // beyond the record
    parts_close(&p);
    assert_int_equal(parts_open(&p, where, "seed=2\nshots=5\nbase=none\n", 10), -1);
    assert_non_null(strstr(err_get(), "there seed=1; here seed=2"));
    assert_true(parts_match(where, "seed=1\nshots=5\n"));
    assert_false(parts_match(where, "seed=1\nshots=4\n"));
    // one flipped byte: that part is dropped, the other stays
    char *name = xasprintf("%s/part-00000004-2", where);
    FILE *f = fopen(name, "r+");
    assert_non_null(f);
    fseek(f, -40, SEEK_END);
    int c = fgetc(f);
    fseek(f, -40, SEEK_END);
    fputc(c ^ 1, f);
    fclose(f);
    assert_int_equal(parts_open(&p, where, plan, 10), 0);
    assert_true(!parts_has(&p, 4) && !parts_has(&p, 7) && parts_has(&p, 2));
    assert_false(file_exists(name));
    free(name);
    parts_close(&p);
    // the rest that a kill leaves: all of it, an empty folder; parts of another command stay
    assert_int_equal(parts_remove_rest(where, "seed=2\n"), 0);
    assert_true(parts_match(where, plan));
    assert_int_equal(parts_remove_rest(where, "seed=1\nshots=5\n"), 0);
    assert_false(file_exists(where));
    assert_int_equal(mkdir(where, 0777), 0);
    char *lock = xasprintf("%s/worker-1", where);
    const int held = store_lock(lock);
    assert_true(held >= 0);
    free(lock);
    assert_int_equal(parts_remove_rest(where, plan), 0);
    close(held);
    assert_false(file_exists(where));
    assert_int_equal(parts_remove_rest(where, plan), 0);
}

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_store.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') unlink(in_dir(e->d_name));
    if (d) closedir(d);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(comes_back),
                                       cmocka_unit_test(h5py_reads_it),
                                       cmocka_unit_test(sixteen_bits_within_bounds),
                                       cmocka_unit_test(nan_is_refused_by_name),
                                       cmocka_unit_test(bad_files_are_named),
                                       cmocka_unit_test(aggregates_are_found_or_listed),
                                       cmocka_unit_test(a_full_disk_is_noticed),
                                       cmocka_unit_test(one_process_at_a_time),
                                       cmocka_unit_test(parts_survive_and_refuse)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
