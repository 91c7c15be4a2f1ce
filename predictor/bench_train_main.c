// bench_train - how fast predictors are trained: examples/s of every design's nets through the training loop of bin/train (rows read from the
// scratch file, forward, loss, backward, AdamW), beside PyTorch's on the same nets (bench_train_peer.py).
//
// Rounds go over both in turn, so that a slow phase of the machine hits both; a rate is the median over the rounds, a ratio the median of
// the rounds' ratios.
#include "child.h"
#include "cli.h"
#include "fit.h"
#include "ops_cpu.h"
#include "opt_random.h"
#include "predictor.h"
#include "nets.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_ROUNDS = 99, NETS = 8 };

static struct {
    char *shape, *designs, *peer, *scratch;
    long hidden, tokens, steps, rounds, threads;
} arg = {.shape = "opt-125m", .designs = "all", .peer = "python3", .tokens = 64, .steps = 10, .rounds = 5, .threads = 2};

// ---------------------------------------------------------------- one net
typedef struct {
    predictor_design design;
    int kind, batch;
    net shape;
    const char *peer_kind;
} contender;

typedef struct { contender c; row_source from; store_examples ex; scratch file; int *row, n; } training;

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
static void open_training(training *t, const contender *c, const opt *m) {
    rng r = rng_make(1);
    *t = (training){.c = *c, .n = c->batch * (int)arg.steps, .file = {.fd = -1}};
    if (scratch_open(&t->file, arg.scratch)) die(1, "%s", err_get());
    random_plane(&t->from.t, &t->file, c->shape.out, t->n, &r, c->shape.kind == NET_PAIR);
    if (c->shape.kind != NET_POOL) random_plane(&t->from.x, &t->file, c->shape.in, t->n, &r, false);
    else {
        store_examples *e = &t->ex;
        const size_t T = (size_t)arg.tokens, N = (size_t)t->n;
        *e = (store_examples){.n = t->n, .tokens = xcalloc(N * T, sizeof *e->tokens), .offset = xcalloc(N + 1, sizeof *e->offset), .context = xcalloc(N, sizeof *e->context)};
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

// Seconds of one epoch; weights and moments begin anew, which is not timed.
static double run(training *t) {
    const fit_plan p = {.o = ops_cpu(), .from = t->from, .train = t->row, .n_train = t->n, .loss = t->c.shape.kind == NET_PAIR ? LOSS_BCE : LOSS_MSE, .positive = 0.5, .batch = t->c.batch,
                        .epochs = 1, .keep_last = true, .lr = 1e-3, .decay = 0.01, .seed = 1};
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
    fprintf(c->to, "%s %d %d %d %d %ld %ld\n", n->peer_kind, n->shape.in, n->shape.hidden, n->shape.out, n->batch, arg.tokens, arg.steps);
    fflush(c->to);
    if (!fgets(line, sizeof line, c->from)) die(1, "the peer ended; run it by hand to see why");
    return strtod(line, NULL);
}

// ---------------------------------------------------------------- main
static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }
static double median(double *x, long n) {
    qsort(x, (size_t)n, sizeof *x, by_size);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static int list_nets(contender *out, const opt_config *c) {
    int n = 0, wanted;
    char **name = cli_split(arg.designs, &wanted);
    const bool all = wanted == 1 && strcmp(name[0], "all") == 0;
    for (int i = 0; i < wanted && !all; i++) {
        int d = 0;
        while (d <= PREDICTOR_SEQUENCE && strcmp(name[i], predictor_design_names[d]) != 0) d++;
        if (d > PREDICTOR_SEQUENCE) die(2, "--design %s: not one of shadow, dejavu, dejavu-lowrank, sequence, all", name[i]);
    }
    for (int d = PREDICTOR_SHADOW; d <= PREDICTOR_SEQUENCE; d++) {
        bool take = all;
        for (int i = 0; i < wanted; i++) take |= strcmp(name[i], predictor_design_names[d]) == 0;
        for (int k = 0; k < 2 && take; k++) {
            const int most = k ? 1024 : 2048, hidden = arg.hidden ? (int)arg.hidden : c->E < most ? c->E : most;
            const predictor_info a = {.design = (predictor_design)d, .per_layer = d == PREDICTOR_DEJAVU || d == PREDICTOR_LOWRANK, .L = c->L, .H = c->H, .E = c->E, .F = c->F, .hidden = {hidden, hidden}};
            contender *to = &out[n++];
            *to = (contender){.design = (predictor_design)d, .kind = k, .batch = k ? 16 : 32, .peer_kind = d == PREDICTOR_LOWRANK ? "pair" : d == PREDICTOR_SEQUENCE ? "pool" : "mlp"};
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
        {"shape", CLI_STR, &arg.shape, "NAME", "model whose predictors are trained: a published shape or LxHxExFxVxP", false, NULL, 0, 0},
        {"design", CLI_STR, &arg.designs, "a,b|all", "shadow, dejavu, dejavu-lowrank, sequence (dejavu's: one layer's net)", false, NULL, 0, 0},
        {"hidden", CLI_INT, &arg.hidden, "N", "hidden units, or rank; 0: as bin/train", false, NULL, 0, 1 << 20},
        {"tokens", CLI_INT, &arg.tokens, "N", "sequence: tokens of an example", false, NULL, 1, 1e5},
        {"steps", CLI_INT, &arg.steps, "N", "batches that are timed in a round", false, NULL, 1, 1e5},
        {"rounds", CLI_INT, &arg.rounds, "N", "rounds", false, NULL, 1, MOST_ROUNDS},
        {"threads", CLI_INT, &arg.threads, "N", "threads, of us and of the peer", false, NULL, 1, 4096},
        {"peer", CLI_STR, &arg.peer, "PYTHON", "a Python with torch, or none", false, NULL, 0, 0},
        {0}};
    cli_parse(argc, argv, "examples/s of training predictors, beside PyTorch on the same nets", options);
    char *resolved = cli_resolved(options), *about = NULL;
    printf("bench_train: %s\n", resolved);
    omp_set_num_threads((int)arg.threads);
    opt_config c;
    if (opt_shape(&c, arg.shape) != 0) die(2, "--shape %s", err_get());
    contender nets[NETS];
    const int n = list_nets(nets, &c);
    // of the model only the embeddings are read
    c.L = c.F = 1;
    c.V = c.V < 1000 ? c.V : 1000;
    c.positions = arg.tokens > 64 ? (int)arg.tokens : 64;
    opt_random m;
    if (opt_random_make(&m, &c, DT_F32, 1, ops_cpu()) != 0) die(1, "%s", err_get());
    child peer;
    if (strcmp(arg.peer, "none") != 0 && !(about = start_peer(&peer))) printf("no peer: %s has no torch; give another --peer\n", arg.peer);
    if (about) printf("peer: %s\n", about);
    printf("%-15s %-8s %8s %7s %7s %6s %12s %12s %7s\n", "design", "units", "inputs", "hidden", "outputs", "batch", "examples/s", "PyTorch", "ratio");
    for (int i = 0; i < n; i++) {
        training t;
        double ours[MOST_ROUNDS], theirs[MOST_ROUNDS], ratio[MOST_ROUNDS];
        open_training(&t, &nets[i], &m.m);
        run(&t);
        for (int r = 0; r < arg.rounds; r++) {
            if (about) theirs[r] = t.n / ask(&peer, &nets[i]);
            ours[r] = t.n / run(&t);
            if (about) ratio[r] = ours[r] / theirs[r];
        }
        printf("%-15s %-8s %8d %7d %7d %6d %12.1f", predictor_design_names[nets[i].design], predictor_kinds[nets[i].kind], nets[i].shape.in, nets[i].shape.hidden, nets[i].shape.out,
               nets[i].batch, median(ours, arg.rounds));
        if (about) printf(" %12.1f %7.2f", median(theirs, arg.rounds), median(ratio, arg.rounds));
        printf("\n");
        fflush(stdout);
        close_training(&t);
    }
    if (about) {
        fclose(peer.to);
        peer.to = NULL;
        child_end(&peer, NULL);
    }
    opt_random_free(&m);
    free(arg.scratch);
    free(about);
    free(resolved);
    stdout_end();
    return 0;
}
