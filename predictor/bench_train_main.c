// bench_train - how fast predictors are trained: examples/s of every design's nets through the training loop of
// bin/train (rows read from the scratch file, forward, loss, backward, AdamW), beside PyTorch's on the same nets
// (bench_train_peer.py).
//
// Rounds go over both in turn, so that a slow phase of the machine hits both; a rate is the median over the rounds, a
// ratio the median of the rounds' ratios.
#include "child.h"
#include "cli.h"
#include "fit.h"
#include "model_random.h"
#include "predictor.h"
#include "nets.h"
#include "results.h"
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ROUNDS = 99, NETS = 8 };

static struct {
    char *shape, *designs, *peer, *scratch, *out;
    long hidden, tokens, steps, rounds, threads;
} arg = {
    .shape = "opt-125m", .designs = "all", .peer = "python3", .tokens = 64, .steps = 10, .rounds = 5, .threads = 2};

// ---------------------------------------------------------------- one net
typedef struct {
    predictor_design design;
    unit_kind kind;
    int batch;
    net shape;
    const char *peer_kind;
} contender;

typedef struct {
    contender c;
    row_source from;
    store_examples ex;
    scratch file;
    int *row, n;
} training;

static void random_plane(plane *p, scratch *file, int width, int rows, rng *r, bool labels) {
    float *x = xmalloc((size_t)width * sizeof *x);
    *p = scratch_plane(file, width, rows);
    for (int i = 0; i < rows; i++) {
        for (int k = 0; k < width; k++) {
            const double u = rng_uniform(r);
            x[k] = labels ? u > 0.5 : (float)u;
        }
        if (plane_write(p, i, 1, x)) die(1, "%s", err_get());
    }
    free(x);
}

// steps batches of random rows; NET_POOL reads the embeddings of random tokens.
static void open_training(training *t, const contender *c, const model *m) {
    rng r = rng_make(1);
    *t = (training){.c = *c, .n = c->batch * (int)arg.steps, .file = {.fd = -1}};
    if (scratch_open(&t->file, arg.scratch)) die(1, "%s", err_get());
    random_plane(&t->from.t, &t->file, c->shape.out, t->n, &r, c->shape.kind == NET_PAIR);
    if (c->shape.kind != NET_POOL)
        random_plane(&t->from.x, &t->file, c->shape.in, t->n, &r, false);
    else {
        store_examples *e = &t->ex;
        const size_t T = (size_t)arg.tokens, N = (size_t)t->n;
        *e = (store_examples){.n = t->n,
                              .tokens = xcalloc(N * T, sizeof *e->tokens),
                              .offset = xcalloc(N + 1, sizeof *e->offset),
                              .context = xcalloc(N, sizeof *e->context)};
        for (size_t i = 0; i < N * T; i++) e->tokens[i] = (int32_t)rng_below(&r, (uint64_t)m->c.V);
        for (size_t i = 0; i < N; i++) {
            e->context[i] = (int32_t)T;
            e->offset[i + 1] = (int64_t)((i + 1) * T);
        }
        t->from.ex = e;
        t->from.model = m;
    }
    t->row = xmalloc((size_t)t->n * sizeof *t->row);
    for (int i = 0; i < t->n; i++) t->row[i] = i;
}

static void close_training(training *t) {
    scratch_close(&t->file);
    free(t->ex.tokens);
    free(t->ex.offset);
    free(t->ex.context);
    free(t->row);
}

// Seconds of one epoch; weights and moments begin again, which is not timed.
static double run(training *t) {
    const fit_plan p = {.o = ops_cpu(),
                        .from = t->from,
                        .train = t->row,
                        .n_train = t->n,
                        .loss = t->c.shape.kind == NET_PAIR ? LOSS_BCE : LOSS_MSE,
                        .positive = 0.5,
                        .batch = t->c.batch,
                        .epochs = 1,
                        .keep_last = true,
                        .lr = 1e-3,
                        .decay = 0.01,
                        .seed = 1};
    net n = t->c.shape;
    fit_result r;
    n.w = xaligned(n.floats * sizeof *n.w);
    if (fit_net(&n, &p, &r)) die(1, "%s", err_get());
    const double seconds = r.seconds;
    fit_result_free(&r);
    free(n.w);
    return seconds;
}

// ---------------------------------------------------------------- the peer
// The line of JSON that it begins with, or NULL: it cannot run here.
static char *start_peer(child *c) {
    char line[512] = "";
    // freed memory stays with the process: without that the peer fetches its tensors from the system in every step
    setenv("MALLOC_MMAP_MAX_", "0", 0);
    setenv("MALLOC_TRIM_THRESHOLD_", "100000000000", 0);
    setenv("MALLOC_TOP_PAD_", "1000000000", 0);
    char *script = child_script("predictor/bench_train_peer.py"), *threads = xasprintf("%ld", arg.threads);
    const char *const argument[] = {arg.peer, script, "--threads", threads, NULL};
    child_start(c, argument);
    free(script);
    free(threads);
    if (!fgets(line, sizeof line, c->from)) {
        child_end(c, NULL);
        return NULL;
    }
    line[strcspn(line, "\n")] = 0;
    return xstrdup(line);
}

static double ask(child *c, const contender *n) {
    char line[64];
    fprintf(c->to, "%s %d %d %d %d %ld %ld\n", n->peer_kind, n->shape.in, n->shape.hidden, n->shape.out, n->batch,
            arg.tokens, arg.steps);
    fflush(c->to);
    if (!fgets(line, sizeof line, c->from)) die(1, "the peer ended; run it by hand to see why");
    return strtod(line, NULL);
}

// ---------------------------------------------------------------- the CSV file
// A column, and whether it says what a row is about; the others are what was measured. Rates are examples/s; the ratio
// is the median over the rounds.
// clang-format off
#define COLUMNS(X)                                                                                                    \
    X(shape, 1) X(design, 1) X(units, 1) X(inputs, 1) X(hidden, 1) X(outputs, 1) X(batch, 1) X(tokens, 1)             \
    X(steps, 1) X(rounds, 1) X(threads, 1) X(processor, 1) X(peer, 1) X(code, 1) X(examples_per_second, 0)            \
    X(slowest, 0) X(fastest, 0) X(peer_examples_per_second, 0) X(ratio, 0) X(ratio_low, 0) X(ratio_high, 0)           \
    X(peer_versions, 0)
// clang-format on
#define X(name, key) COLUMN_##name,
enum { COLUMNS(X) N_COLUMNS, FIELD = 512 };
#undef X
#define X(name, key) {#name, key},
static const results_column columns[N_COLUMNS] = {COLUMNS(X)};
#undef X

typedef struct {
    char text[N_COLUMNS][FIELD];
    const char *field[N_COLUMNS];
} csv_row;
#define SET(r, column, ...) snprintf((r)->text[COLUMN_##column], FIELD, __VA_ARGS__)

static void set_key(csv_row *r, const contender *c, bool peer) {
    char *processor = results_processor();
    for (int i = 0; i < N_COLUMNS; i++) {
        r->text[i][0] = 0;
        r->field[i] = r->text[i];
    }
    SET(r, shape, "%s", arg.shape);
    SET(r, design, "%s", predictor_design_names[c->design]);
    SET(r, units, "%s", unit_names[c->kind]);
    SET(r, inputs, "%d", c->shape.in);
    SET(r, hidden, "%d", c->shape.hidden);
    SET(r, outputs, "%d", c->shape.out);
    SET(r, batch, "%d", c->batch);
    if (c->shape.kind == NET_POOL) SET(r, tokens, "%ld", arg.tokens);
    SET(r, steps, "%ld", arg.steps);
    SET(r, rounds, "%ld", arg.rounds);
    SET(r, threads, "%ld", arg.threads);
    SET(r, processor, "%s", processor);
    SET(r, peer, "%s", peer ? "PyTorch" : "");
    SET(r, code, "%s", code_version());
    free(processor);
}

// Rates over the rounds, sorted; theirs and ratio NULL: without a peer.
typedef struct {
    double *ours, *theirs, *ratio;
} rates;

static void write_row(results *out, const contender *c, const rates *x, const char *about) {
    const size_t n = (size_t)arg.rounds;
    csv_row r;
    set_key(&r, c, about);
    SET(&r, examples_per_second, "%.6g", gsl_stats_median_from_sorted_data(x->ours, 1, n));
    SET(&r, slowest, "%.6g", x->ours[0]);
    SET(&r, fastest, "%.6g", x->ours[n - 1]);
    if (about) {
        SET(&r, peer_examples_per_second, "%.6g", gsl_stats_median_from_sorted_data(x->theirs, 1, n));
        SET(&r, ratio, "%.4f", gsl_stats_median_from_sorted_data(x->ratio, 1, n));
        SET(&r, ratio_low, "%.4f", x->ratio[0]);
        SET(&r, ratio_high, "%.4f", x->ratio[n - 1]);
        SET(&r, peer_versions, "%s", about);
    }
    if (results_append(out, r.field)) die(1, "%s", err_get());
}

// The nets whose rows are not in the file, which alone are timed; returns their number.
static int missing(contender *nets, int n, const results *out, bool peer) {
    csv_row r;
    int left = 0;
    for (int i = 0; i < n; i++) {
        set_key(&r, &nets[i], peer);
        if (!results_find(out, r.field)) nets[left++] = nets[i];
    }
    if (left < n) log_info("%d of %d nets have their rows in %s", n - left, n, out->path);
    return left;
}

// ---------------------------------------------------------------- main
static void time_net(const contender *c, const model *m, child *peer, const char *about, results *out) {
    training t;
    double ours[MOST_ROUNDS], theirs[MOST_ROUNDS], ratio[MOST_ROUNDS];
    const size_t n = (size_t)arg.rounds;
    open_training(&t, c, m);
    run(&t);
    for (size_t r = 0; r < n; r++) {
        if (about) theirs[r] = t.n / ask(peer, c);
        ours[r] = t.n / run(&t);
        if (about) ratio[r] = ours[r] / theirs[r];
    }
    close_training(&t);
    gsl_sort(ours, 1, n);
    printf("%-15s %-8s %8d %7d %7d %6d %12.1f", predictor_design_names[c->design], unit_names[c->kind], c->shape.in,
           c->shape.hidden, c->shape.out, c->batch, gsl_stats_median_from_sorted_data(ours, 1, n));
    if (about) {
        gsl_sort(theirs, 1, n);
        gsl_sort(ratio, 1, n);
        printf(" %12.1f %7.2f", gsl_stats_median_from_sorted_data(theirs, 1, n),
               gsl_stats_median_from_sorted_data(ratio, 1, n));
    }
    printf("\n");
    fflush(stdout);
    if (arg.out) write_row(out, c, &(rates){ours, theirs, ratio}, about);
}

static int list_nets(contender *out, const model_config *c) {
    int n = 0, wanted;
    char **name = cli_split(arg.designs, &wanted);
    const bool all = wanted == 1 && strcmp(name[0], "all") == 0;
    for (int i = 0; i < wanted && !all; i++) {
        int d = 0;
        while (d <= PREDICTOR_SEQUENCE && strcmp(name[i], predictor_design_names[d]) != 0) d++;
        if (d > PREDICTOR_SEQUENCE)
            die(2, "--design %s: not one of shadow, dejavu, dejavu-lowrank, sequence, all", name[i]);
    }
    static const char *const peer[] = {"mlp", "mlp", [PREDICTOR_LOWRANK] = "pair", [PREDICTOR_SEQUENCE] = "pool"};
    static const int most_hidden[UNIT_KINDS] = {[UNIT_HEADS] = 2048, [UNIT_NEURONS] = 1024},
                     batch[UNIT_KINDS] = {[UNIT_HEADS] = 32, [UNIT_NEURONS] = 16};
    for (int d = PREDICTOR_SHADOW; d <= PREDICTOR_SEQUENCE; d++) {
        bool take = all;
        for (int i = 0; i < wanted; i++) take |= strcmp(name[i], predictor_design_names[d]) == 0;
        for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS && take; k++) {
            const int narrow = c->E < most_hidden[k] ? c->E : most_hidden[k],
                      hidden = arg.hidden ? (int)arg.hidden : narrow;
            const predictor_info a = {.design = (predictor_design)d,
                                      .per_layer = d == PREDICTOR_DEJAVU || d == PREDICTOR_LOWRANK,
                                      .L = c->L,
                                      .H = c->H,
                                      .E = c->E,
                                      .F = c->F,
                                      .hidden = {hidden, hidden}};
            contender *to = &out[n++];
            *to = (contender){.design = (predictor_design)d, .kind = k, .batch = batch[k], .peer_kind = peer[d]};
            predictor_shape(&to->shape, &a, k);
        }
    }
    free(name);
    return n;
}

int main(int argc, char **argv) {
    const char *tmp = getenv("TMPDIR");
    arg.scratch = xasprintf("%s/bench_train.%ld", tmp ? tmp : "/tmp", (long)getpid());
    const cli_option options[] = {
        {.name = "shape",
         .type = CLI_STR,
         .value = &arg.shape,
         .arg = "NAME",
         .help = "model whose predictors are trained: a published shape or LxHxExFxVxP"},
        {.name = "design",
         .type = CLI_STR,
         .value = &arg.designs,
         .arg = "a,b|all",
         .help = "shadow, dejavu, dejavu-lowrank, sequence (dejavu's: one layer's net)"},
        {.name = "hidden",
         .type = CLI_INT,
         .value = &arg.hidden,
         .arg = "N",
         .help = "hidden units, or rank; 0: as bin/train",
         .max = 1 << 20},
        {.name = "tokens",
         .type = CLI_INT,
         .value = &arg.tokens,
         .arg = "N",
         .help = "sequence: tokens of an example",
         .min = 1,
         .max = 1e5},
        {.name = "steps",
         .type = CLI_INT,
         .value = &arg.steps,
         .arg = "N",
         .help = "batches that are timed in a round",
         .min = 1,
         .max = 1e5},
        {.name = "rounds",
         .type = CLI_INT,
         .value = &arg.rounds,
         .arg = "N",
         .help = "rounds",
         .min = 1,
         .max = MOST_ROUNDS},
        {.name = "threads",
         .type = CLI_INT,
         .value = &arg.threads,
         .arg = "N",
         .help = "threads, of us and of the peer",
         .min = 1,
         .max = 4096},
        {.name = "peer", .type = CLI_STR, .value = &arg.peer, .arg = "PYTHON", .help = "a Python with torch, or none"},
        {.name = "out",
         .type = CLI_STR,
         .value = &arg.out,
         .arg = "FILE.csv",
         .help = "a row for each net is appended; what is there is not timed again"},
        {0}};
    cli_parse(argc, argv, "examples/s of training predictors, beside PyTorch on the same nets", options);
    char *resolved = cli_resolved(options), *about = NULL;
    printf("bench_train: %s\n", resolved);
    omp_set_num_threads((int)arg.threads);
    model_config c;
    if (model_shape(&c, arg.shape) != 0) die(2, "--shape %s", err_get());
    contender nets[NETS];
    int n = list_nets(nets, &c);
    const bool beside = strcmp(arg.peer, "none") != 0;
    results out = {.fd = -1};
    if (arg.out) {
        char *lines = results_timed(argc, argv, options, "cpu", (int)arg.threads);
        if (results_open(&out, arg.out, columns, N_COLUMNS, lines)) die(1, "%s", err_get());
        free(lines);
        n = missing(nets, n, &out, beside);
    }
    // of the model only the embeddings are read
    c.L = c.F = 1;
    c.V = c.V < 1000 ? c.V : 1000;
    c.positions = arg.tokens > 64 ? (int)arg.tokens : 64;
    model_random m;
    if (model_random_make(&m, &c, DT_F32, 1, ops_cpu()) != 0) die(1, "%s", err_get());
    child peer;
    if (beside && n && !(about = start_peer(&peer))) {
        if (arg.out)
            die(1, "--peer %s has no torch; give another, or none for a file without PyTorch's rates", arg.peer);
        printf("no peer: %s has no torch; give another --peer\n", arg.peer);
    }
    if (about) printf("peer: %s\n", about);
    printf("%-15s %-8s %8s %7s %7s %6s %12s %12s %7s\n", "design", "units", "inputs", "hidden", "outputs", "batch",
           "examples/s", "PyTorch", "ratio");
    for (int i = 0; i < n; i++) time_net(&nets[i], &m.m, &peer, about, &out);
    results_close(&out);
    if (about) {
        fclose(peer.to);
        peer.to = NULL;
        child_end(&peer, NULL);
    }
    model_random_free(&m);
    free(arg.scratch);
    free(about);
    free(resolved);
    stdout_end();
    return 0;
}
