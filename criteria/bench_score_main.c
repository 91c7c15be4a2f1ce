// bench_score - how fast examples are scored: tokens/s of the whole way from tokens to the finished store, where the
// time goes, the share of the machine's GEMM peak, peak memory; beside PyTorch + transformers' forward-backward pass of
// the same batches (bench_score_peer.py).
//
// Every contender is a process of its own: our own are forked from this one, the peer is a Python program. They answer
// "N" on their input by the seconds that N batches took. Rounds go over all contenders in turn, so that a slow phase of
// the machine hits all of them; a rate is the median over the rounds. The store is written at the end and its time is
// shared out over the examples.
//
// On a GPU (--device) there is no peer, and the peak is that of the largest product of a layer, of an example's tokens.
#include "bench_score.h"
#include "cli.h"
#include "score.h"
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GEMM_SIDE = 3072, CONTINUATION_WORDS = 16 };

static const ops *open_device(const bench_options *o) {
    const ops *device = device_open(&o->device);
    if (!device) die(1, "%s", err_get());
    return device;
}

static void open_model(bench_model *b, const bench_options *o) {
    model_config c;
    if (!bench_on_cpu(o)) {
        if (*o->model) die(2, "--device %s: weights are drawn there; give --shape instead of --model", o->device.name);
        if (model_shape(&c, o->shape) != 0) die(2, "--shape %s", err_get());
        b->m = model_unloaded(&c, ops_cpu());
        b->bytes = (double)model_random_bytes(&c, bench_type(o));
        return;
    }
    const ops *cpu = open_device(o);
    omp_set_num_threads(1);  // OpenMP does not work in children forked from a process in which it has started others
    if (!*o->model) {
        if (model_shape(&c, o->shape) != 0) die(2, "--shape %s", err_get());
        if (c.V < CONTINUATION_WORDS || c.positions < 2)
            die(2, "--shape %s: want a vocabulary of at least %d and two positions", o->shape, CONTINUATION_WORDS);
        if (model_random_make(&b->random, &c, bench_type(o), (uint64_t)o->seed, cpu) != 0) die(1, "%s", err_get());
        b->m = b->random.m;
        b->bytes = (double)b->random.bytes;
        return;
    }
    if (model_load_as(&b->m, o->model, cpu, o->weights) != 0) die(1, "%s", err_get());
    for (int i = 0; i < b->m.file.n_tensors; i++) {
        double count = sizeof(float);
        for (int d = 0; d < b->m.file.tensors[i].rank; d++) count *= (double)b->m.file.tensors[i].dim[d];
        b->bytes += count;
    }
}

// ---------------------------------------------------------------- our contenders
// One task of random examples. Continuations share a few words, so that epenas has classes.
static void make_examples(score_job *j, const bench_options *o, int n) {
    const model_config *c = &j->model->c;
    rng r = rng_make((uint64_t)o->seed + 1);
    const size_t T = (size_t)o->tokens;
    store_examples *e = &j->ex;
    *e = (store_examples){.n = n,
                          .id = xcalloc((size_t)n, sizeof *e->id),
                          .task = xcalloc((size_t)n, sizeof *e->task),
                          .tokens = xcalloc((size_t)n * T, sizeof *e->tokens),
                          .offset = xcalloc((size_t)n + 1, sizeof *e->offset),
                          .context = xcalloc((size_t)n, sizeof *e->context),
                          .loss = xcalloc((size_t)n, sizeof *e->loss)};
    j->old_row = xcalloc((size_t)n, sizeof *j->old_row);
    for (int i = 0; i < n; i++) {
        e->id[i] = xasprintf("%d", i);
        e->task[i] = xstrdup("random");
        e->context[i] = (int)(o->tokens - o->continuation);
        e->offset[i + 1] = e->offset[i] + (int64_t)T;
        j->old_row[i] = -1;
        for (size_t t = 0; t < T; t++)
            e->tokens[(size_t)i * T + t] =
                (int32_t)rng_below(&r, (int)t < e->context[i] ? (uint64_t)c->V : CONTINUATION_WORDS);
    }
    j->task = xcalloc(1, sizeof *j->task);
    j->task[0] = (score_task){.name = "random", .asked = true, .n = n, .considered = n};
    for (int k = 0; k < 4; k++) j->task[0].attr[k] = xstrdup("random");
    j->n_task = 1;
}

static void answer(FILE *to, const double *value, int n) {
    for (int k = 0; k < n; k++) fprintf(to, "%.9g%c", value[k], k < n - 1 ? ' ' : '\n');
    fflush(to);
}

// Answers "N" by the seconds of N batches and their parts: GEMM, attention, criteria, store, other; the end of input by
// those of writing the store, per example.
static int serve_scoring(const bench_options *o, model *m, const char *criteria, const char *dir) {
    model_random own = {0};
    if (!bench_on_cpu(o)) {
        const ops *device = open_device(o);
        if (model_random_make(&own, &m->c, bench_type(o), (uint64_t)o->seed, device) != 0) die(1, "%s", err_get());
        m = &own.m;
    }
    score_job j = {.model = m,
                   .mode = {[MODE_SOUND] = true},
                   .seed = (uint64_t)o->seed,
                   .threads = (int)o->device.threads,
                   .o = {.data = "random",
                         .model = "random",
                         .device = o->device,
                         .recompute = RECOMPUTE_OFF,
                         .batch_tokens = o->batch * o->tokens}};
    j.o.out = xasprintf("%s.h5", dir);
    if (!(j.crit = crit_select(criteria, &j.n_crit))) die(2, "%s", err_get());
    make_examples(&j, o, (int)((o->rounds + 1) * o->batches * o->batch));
    omp_set_num_threads((int)o->device.threads);
    if (score_plan_rows(&j) != 0) die(1, "%s", err_get());
    parts p = {0};
    score_engine e = {0};
    if (parts_open(&p, dir, j.plan_text, j.ex.n) != 0) die(1, "%s", err_get());
    FILE *to = fdopen(dup(STDOUT_FILENO), "w");  // what scoring has to say is no answer
    if (!to || !freopen("/dev/null", "w", stdout)) die(1, "/dev/null: cannot open: %s", strerror(errno));
    char line[64];
    int done = 0;
    while (fgets(line, sizeof line, stdin)) {
        double before[4] = {0}, after[4];
        if (e.probe) probe_times(e.probe, before);
        const double start = clock_s();
        for (int k = atoi(line); k > 0; k--)
            if (score_step(&j, &e, done++, &p) != 0) die(1, "%s", err_get());
        const double all = clock_s() - start;
        probe_times(e.probe, after);
        for (int k = 0; k < 4; k++) after[k] -= before[k];
        answer(to,
               (double[]){all, after[0], after[1], after[2], all - after[0] - after[1] - after[2] - after[3], after[3]},
               1 + PARTS);
    }
    score_engine_free(&e);
    if (done < j.n_batch) die(1, "bench_score was stopped");
    const double start = clock_s();
    if (score_merge(&j, &p, "bench_score") != 0) die(1, "%s", err_get());
    answer(to, (double[]){(clock_s() - start) / j.ex.n}, 1);
    fclose(to);
    parts_close(&p);
    unlink(j.o.out);
    if (parts_remove(dir) != 0) die(1, "%s", err_get());
    score_free(&j);
    model_random_free(&own);
    return 0;
}

// Answers by the seconds of a multiply-add in a layer's largest product on a device, [tokens, E] x [E, F].
static int serve_product(const bench_options *o, const model_config *c) {
    const ops *d = open_device(o);
    const int T = (int)o->tokens, E = c->E, F = c->F;
    const dtype type = d->activations == DT_F32 ? bench_type(o) : d->activations;
    const span all = {0, T};
    weight w = {.data = d->alloc(dtype_size(type, (size_t)F * (size_t)E)), .type = type, .rows = F, .cols = E};
    if (d->activations != DT_F32) w.narrow = "the product";
    float *x = d->alloc((size_t)T * (size_t)E * sizeof *x), *y = d->alloc((size_t)T * (size_t)F * sizeof *y), one;
    d->random((void *)(uintptr_t)w.data, type, (size_t)F * (size_t)E, 0.02, (uint64_t)o->seed);
    d->random(x, DT_F32, (size_t)T * (size_t)E, 1, (uint64_t)o->seed);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        double best = INFINITY;
        for (int k = 0; k < 4; k++) {  // the first warms up
            d->get(&one, y, sizeof one);
            const double start = clock_s();
            d->linear(y, x, &w, NULL, false, &all, 1);
            d->get(&one, y, sizeof one);
            if (k) best = fmin(best, clock_s() - start);
        }
        best /= (double)T * (double)E * (double)F;
        answer(stdout, &best, 1);
    }
    d->release(x), d->release(y), d->release((void *)(uintptr_t)w.data);
    return 0;
}

// Answers by the seconds of a multiply-add in a product of squares of GEMM_SIDE.
static int serve_gemm(const bench_options *o) {
    const size_t n = (size_t)GEMM_SIDE * GEMM_SIDE;
    float *a = xaligned(n * sizeof *a), *b = xaligned(n * sizeof *b), *c = xaligned(n * sizeof *c);
    for (size_t i = 0; i < n; i++) a[i] = (float)(i % 17) - 8, b[i] = (float)(i % 13) - 6, c[i] = 0;
    openblas_set_num_threads((int)o->device.threads);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        double best = INFINITY;
        for (int k = 0; k < 3; k++) {
            const double start = clock_s();
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, GEMM_SIDE, GEMM_SIDE, GEMM_SIDE, 1, a, GEMM_SIDE, b,
                        GEMM_SIDE, 0, c, GEMM_SIDE);
            best = fmin(best, clock_s() - start);
        }
        best /= pow(GEMM_SIDE, 3);
        answer(stdout, &best, 1);
    }
    free(c);
    free(b);
    free(a);
    return 0;
}

// ---------------------------------------------------------------- contenders as processes
static void numbers(contender *c, double *value, int n) {
    for (int k = 0; k < n; k++)
        if (fscanf(c->c.from, "%lf", &value[k]) != 1) die(1, "%s: ended before its time", c->name);
}

static double ask(contender *c, int batches, bool count) {
    double value[1 + PARTS];
    fprintf(c->c.to, "%d\n", batches);
    numbers(c, value, c->criteria ? 1 + PARTS : 1);
    for (int k = 0; c->criteria && count && k < PARTS; k++) c->part[k] += value[1 + k];
    return value[0];
}

static void stop(contender *c) {
    struct rusage used = {0};
    fclose(c->c.to);
    c->c.to = NULL;
    if (c->criteria) numbers(c, &c->merge, 1);
    if (child_end(&c->c, &used) != 0) die(1, "%s: failed", c->name);
    c->peak_bytes = (double)used.ru_maxrss * 1024;
}

static void start_ours(contender *c, const bench_options *o, model *m) {
    if (!child_fork(&c->c)) return;
    char *dir = xasprintf("%s/bench_score.XXXXXX", o->scratch);
    if (!mkdtemp(dir)) die(1, "%s: %s", dir, strerror(errno));
    _exit(serve_scoring(o, m, c->criteria, dir));
}

// The line of JSON that the peer begins with, or NULL: it cannot run here.
static char *start_peer(contender *c, const bench_options *o, const model_config *shape) {
    char line[512] = "";
    // freed memory stays with the process: without that the peer fetches its tensors from the system in every pass, 10
    // % slower
    setenv("MALLOC_MMAP_MAX_", "0", 0);
    setenv("MALLOC_TRIM_THRESHOLD_", "100000000000", 0);
    setenv("MALLOC_TOP_PAD_", "1000000000", 0);
    char *script = child_script("criteria/bench_score_peer.py"),
         *numbers = xasprintf("%d,%d,%d,%d,%d,%d", shape->L, shape->H, shape->E, shape->F, shape->V, shape->positions);
    char *batch = xasprintf("%ld", o->batch), *tokens = xasprintf("%ld", o->tokens),
         *scored = xasprintf("%ld", o->continuation), *threads = xasprintf("%ld", o->device.threads);
    static const char *const torch_names[] = {[DT_F32] = "float32", [DT_F16] = "float16", [DT_BF16] = "bfloat16"};
    const char *const argument[] = {o->peer,
                                    script,
                                    "--serve",
                                    "--batch",
                                    batch,
                                    "--tokens",
                                    tokens,
                                    "--continuation",
                                    scored,
                                    "--threads",
                                    threads,
                                    "--dtype",
                                    torch_names[o->device.activations],
                                    *o->model ? "--model" : "--shape",
                                    *o->model ? o->model : numbers,
                                    NULL};
    child_start(&c->c, argument);
    char *const blocks[] = {script, numbers, batch, tokens, scored, threads};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    if (!fgets(line, sizeof line, c->c.from)) {
        child_end(&c->c, NULL);
        return NULL;
    }
    line[strcspn(line, "\n")] = 0;
    return xstrdup(line);
}

// Names of the criteria of METHOD 4.2 that are in `all`, without one of them.
static char *all_but(const char *left_out) {
    int n;
    const criterion **all = crit_select("all", &n);
    char *names = xstrdup("");
    for (int i = 0; i < n; i++) {
        if (strcmp(all[i]->name, left_out) == 0) continue;
        char *more = xasprintf("%s%s%s", names, *names ? "," : "", all[i]->name);
        free(names);
        names = more;
    }
    free(all);
    return names;
}

// ---------------------------------------------------------------- main
// All rounds, and what they say: printed, and appended to out (NULL: no file).
static void run_contenders(const bench_options *o, bench_model *m, contender *ours, int n, contender *peer,
                           results *out) {
    contender gemm = {.name = "GEMM"};
    char *about = NULL;
    if (bench_on_cpu(o) && strcmp(o->peer, "none") != 0 && !(about = start_peer(peer, o, &m->m.c))) {
        if (out)
            die(1, "--peer %s has no torch and transformers; give another, or none for a file without PyTorch's rates",
                o->peer);
        printf("no peer: %s has no torch and transformers; give another --peer\n", o->peer);
    }
    if (child_fork(&gemm.c)) _exit(bench_on_cpu(o) ? serve_gemm(o) : serve_product(o, &m->m.c));
    for (int i = 0; i < n; i++) start_ours(&ours[i], o, &m->m);
    for (int i = 0; i < n; i++) ask(&ours[i], (int)o->batches, false);  // warm-up
    if (about) ask(peer, (int)o->batches, false);
    for (long r = 0; r < o->rounds; r++) {
        gemm.seconds[r] = ask(&gemm, 1, false);
        for (int i = 0; i < n; i++) {
            ours[i].seconds[r] = ask(&ours[i], (int)o->batches, true);
            if (about && i == 0) peer->seconds[r] = ask(peer, (int)o->batches, false);
        }
    }
    for (int i = 0; i < n; i++) stop(&ours[i]);
    stop(&gemm);
    if (about) stop(peer);

    double best = gemm.seconds[0];
    for (long r = 1; r < o->rounds; r++) best = fmin(best, gemm.seconds[r]);
    const double rate = 1 / best, beside = about ? contender_median(peer, o) : 0;
    printf("%ld threads, %ld x %ld tokens a batch, %ld of each scored; median of %ld rounds; %s %.1f G "
           "multiply-adds/s; "
           "weights %.2f GB\n",
           o->device.threads, o->batch, o->tokens, o->continuation, o->rounds,
           bench_on_cpu(o) ? "GEMM peak" : "peak of a layer's largest product", rate / 1e9, m->bytes / 1e9);
    for (int i = about ? -1 : 0; i < n; i++) {
        const contender *c = i < 0 ? peer : &ours[i];
        const figures f = contender_figures(c, o, m, beside, rate);
        contender_print(c, o, m, &f);
        if (i < 0) printf("%22s %s\n", "", about);
        if (out && contender_row_write(out, c, o, m, &f, rate, about)) die(1, "%s", err_get());
    }
    free(about);
}

int main(int argc, char **argv) {
    const char *tmp = getenv("TMPDIR");
    bench_options o = {.model = "",
                       .shape = "opt-125m",
                       .criteria = "",
                       .peer = "python3",
                       .scratch = tmp ? tmp : "/tmp",
                       .rounds = 5,
                       .batches = 2,
                       .batch = 1,
                       .tokens = 512,
                       .continuation = 16,
                       .seed = 1,
                       .device = {.name = "cpu", .threads = 2},
                       .weights = -1};
    const cli_option options[] = {
        {.name = "model",
         .type = CLI_STR,
         .value = &o.model,
         .arg = "DIR",
         .help = "checkpoint directory; without it random weights of --shape"},
        {.name = "shape", .type = CLI_STR, .value = &o.shape, .arg = "SHAPE", .help = model_shape_help},
        {.name = "criteria",
         .type = CLI_STR,
         .value = &o.criteria,
         .arg = "NAME,...",
         .help = "time these only; without it all, and all but grasp"},
        {.name = "peer",
         .type = CLI_STR,
         .value = &o.peer,
         .arg = "PYTHON",
         .help = "a Python with torch and transformers, or none"},
        {.name = "rounds",
         .type = CLI_INT,
         .value = &o.rounds,
         .arg = "N",
         .help = "rounds over all contenders",
         .min = 1,
         .max = MOST_ROUNDS},
        {.name = "batches",
         .type = CLI_INT,
         .value = &o.batches,
         .arg = "N",
         .help = "batches a round",
         .min = 1,
         .max = 1000},
        {.name = "batch",
         .type = CLI_INT,
         .value = &o.batch,
         .arg = "N",
         .help = "examples a batch, for us and for the peer",
         .min = 1,
         .max = 256},
        {.name = "tokens",
         .type = CLI_INT,
         .value = &o.tokens,
         .arg = "N",
         .help = "tokens of an example",
         .min = 2,
         .max = 1e5},
        {.name = "continuation",
         .type = CLI_INT,
         .value = &o.continuation,
         .arg = "N",
         .help = "the last of them, which are scored",
         .min = 1,
         .max = 1e5},
        {.group = device_rows, .value = &o.device},
        {.group = weights_rows, .value = &o.weights},
        {.name = "seed",
         .type = CLI_INT,
         .value = &o.seed,
         .arg = "N",
         .help = "seed of weights and tokens",
         .max = 9e15},
        {.name = "scratch",
         .type = CLI_STR,
         .value = &o.scratch,
         .arg = "DIR",
         .help = "where part files and store are written, and removed"},
        {.name = "out",
         .type = CLI_STR,
         .value = &o.out,
         .arg = "FILE.csv",
         .help = "a row for each contender is appended; a file that has them all is left as it is"},
        {0}};
    cli_parse(argc, argv, "tokens/s of scoring beside PyTorch's forward-backward pass of the same batches, in one run",
              options);
    if (dtype_in_blocks(o.device.activations))
        die(2, "--activations q8_0: rounding to 8 bits has no gradients; leave it out");
    if (o.continuation >= o.tokens)
        die(2, "--continuation %ld: want fewer than --tokens %ld", o.continuation, o.tokens);
    int n_crit;
    const criterion **known = *o.criteria ? crit_select(o.criteria, &n_crit) : NULL;
    if (*o.criteria && !known) die(2, "%s", err_get());
    free(known);
    if (o.out && !bench_on_cpu(&o)) die(2, "--out: rows are of the CPU's rates; leave it out with --device");
    if (o.device.threads == 0) o.device.threads = omp_get_max_threads();
    char *resolved = cli_resolved(options), *some = all_but("grasp"), *all = all_but("");
    bench_model m = {0};
    open_model(&m, &o);
    if (o.tokens > m.m.c.positions) die(2, "--tokens %ld: the model has %d positions", o.tokens, m.m.c.positions);
    printf("bench_score: %s\n", resolved);

    contender peer = {.name = "PyTorch"};
    contender ours[2] = {
        {.name = *o.criteria ? o.criteria : "without grasp", .criteria = *o.criteria ? o.criteria : some},
        {.name = "all criteria", .criteria = all}};
    const int n = *o.criteria ? 1 : 2;
    results out = {.fd = -1};
    bool present = o.out;
    if (o.out) {
        char *lines = results_timed(argc, argv, options, "cpu", (int)o.device.threads);
        if (contender_rows_open(&out, o.out, lines)) die(1, "%s", err_get());
        free(lines);
        for (int i = 0; i < n; i++) present &= contender_row_present(&out, &ours[i], &o);
        if (strcmp(o.peer, "none") != 0) present &= contender_row_present(&out, &peer, &o);
    }
    if (present)
        log_info("%s has the rows of all contenders; nothing is timed", o.out);
    else
        run_contenders(&o, &m, ours, n, &peer, o.out ? &out : NULL);
    results_close(&out);
    if (*o.model) model_free(&m.m);
    model_random_free(&m.random);
    free(all);
    free(some);
    free(resolved);
    stdout_end();
    return 0;
}
