// pretrain - trains a small OPT from scratch on text: AdamW, cosine schedule, gradient clipping, resumable.
//
// The text is every *.txt of a folder, in order of name; blank lines part documents. A training sequence begins at the
// start of a random document (after </s> every other time), its length drawn log-uniformly from 32 to the model's
// positions; a step packs sequences up to --batch tokens. Loss: mean cross-entropy of all predicted tokens, the one
// after "Answer:" counted --answer-weight times: a yes or no is one token of a question's thirty, and whether premise
// and hypothesis agree is not learnt from so small a part of the loss. AdamW: Loshchilov & Hutter 2019 (decoupled
// decay, on matrices only). Initialisation: normal 0.02, the projections into the residual divided by sqrt(2 L)
// (GPT-2).
#include "cli.h"
#include "pretrain.h"
#include "threads.h"
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

static struct {
    char *text, *out;
    long layers, heads, hidden, ffn, positions, vocab, batch, tokens, seed, threads, save_every, stop_after;
    double lr, decay, clip, warmup, valid, answer_weight;
} arg = {.layers = 6,
         .heads = 8,
         .hidden = 256,
         .ffn = 1024,
         .positions = 512,
         .vocab = 2000,
         .batch = 4096,
         .tokens = 10000000,
         .seed = 1,
         .threads = 0,
         .save_every = 100,
         .lr = 2e-3,
         .decay = 0.05,
         .clip = 1.0,
         .warmup = 0.02,
         .valid = 0.005,
         .answer_weight = 1};

static const cli_option options[] = {
    {.name = "text",
     .type = CLI_STR,
     .value = &arg.text,
     .arg = "DIR",
     .help = "folder of *.txt to train on",
     .required = true},
    {.name = "out",
     .type = CLI_STR,
     .value = &arg.out,
     .arg = "DIR",
     .help = "model folder to write; a run that was stopped resumes from it",
     .required = true},
    {.name = "layers", .type = CLI_INT, .value = &arg.layers, .arg = "N", .help = "layers", .min = 1, .max = 1000},
    {.name = "heads",
     .type = CLI_INT,
     .value = &arg.heads,
     .arg = "N",
     .help = "heads of a layer",
     .min = 1,
     .max = 1000},
    {.name = "hidden",
     .type = CLI_INT,
     .value = &arg.hidden,
     .arg = "N",
     .help = "hidden size",
     .min = 1,
     .max = 100000},
    {.name = "ffn",
     .type = CLI_INT,
     .value = &arg.ffn,
     .arg = "N",
     .help = "FFN neurons of a layer",
     .min = 1,
     .max = 400000},
    {.name = "positions",
     .type = CLI_INT,
     .value = &arg.positions,
     .arg = "N",
     .help = "longest sequence",
     .min = 32,
     .max = 65536},
    {.name = "vocab",
     .type = CLI_INT,
     .value = &arg.vocab,
     .arg = "N",
     .help = "ids of the tokenizer, learnt from the text unless the folder has one",
     .min = 261,
     .max = 1000000},
    {.name = "batch",
     .type = CLI_INT,
     .value = &arg.batch,
     .arg = "N",
     .help = "tokens of a step",
     .min = 64,
     .max = 1 << 24},
    {.name = "tokens",
     .type = CLI_INT,
     .value = &arg.tokens,
     .arg = "N",
     .help = "tokens to train on in all",
     .min = 64,
     .max = 1e15},
    {.name = "lr",
     .type = CLI_FLOAT,
     .value = &arg.lr,
     .arg = "X",
     .help = "largest learning rate; cosine down to a hundredth",
     .min = 1e-9,
     .max = 10},
    {.name = "warmup",
     .type = CLI_FLOAT,
     .value = &arg.warmup,
     .arg = "X",
     .help = "fraction of the steps with a rising rate",
     .min = 0,
     .max = 1},
    {.name = "decay",
     .type = CLI_FLOAT,
     .value = &arg.decay,
     .arg = "X",
     .help = "weight decay of AdamW",
     .min = 0,
     .max = 10},
    {.name = "clip",
     .type = CLI_FLOAT,
     .value = &arg.clip,
     .arg = "X",
     .help = "largest norm of the gradient",
     .min = 1e-6,
     .max = 1e9},
    {.name = "valid",
     .type = CLI_FLOAT,
     .value = &arg.valid,
     .arg = "X",
     .help = "fraction of the documents (the last) kept for validation",
     .min = 0.0001,
     .max = 0.5},
    {.name = "answer-weight",
     .type = CLI_FLOAT,
     .value = &arg.answer_weight,
     .arg = "X",
     .help = "how often the token after \"Answer:\" counts in the loss",
     .min = 0,
     .max = 1000},
    {.name = "save-every",
     .type = CLI_INT,
     .value = &arg.save_every,
     .arg = "N",
     .help = "steps between resumable states",
     .min = 1,
     .max = 1e9},
    {.name = "stop-after",
     .type = CLI_INT,
     .value = &arg.stop_after,
     .arg = "N",
     .help = "stop after N steps of this run, to be resumed; 0: do not",
     .min = 0,
     .max = 1e9},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.seed,
     .arg = "N",
     .help = "seed of initialisation and data order",
     .min = 0,
     .max = CLI_SEED_MAX},
    {.name = "threads",
     .type = CLI_INT,
     .value = &arg.threads,
     .arg = "N",
     .help = THREADS_HELP,
     .min = 0,
     .max = 4096},
    {0}};

// The log is a CSV of the loss curve below '#' lines; on resuming, rows after the state's step are dropped.
static FILE *log_open(long step, const char *command) {
    char *path = xasprintf("%s/train.csv", arg.out), *old = step ? file_read(path, NULL) : NULL;
    FILE *f = fopen(path, "wb");
    if (!f) die(1, "%s: cannot write: %s", path, strerror(errno));
    if (old) {
        char *save = NULL;
        for (char *line = strtok_r(old, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
            if (line[0] == '#' || line[0] == 's' || atol(line) <= step) fprintf(f, "%s\n", line);
    } else {
        struct utsname u;
        uname(&u);
        time_t now = time(NULL);
        char date[32], *resolved = cli_resolved(options);
        strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
        fprintf(f,
                "# %s\n# %s\n# date %s, machine %s %s, %d threads, code "
                "%s\nstep,tokens,seconds,learning_rate,gradient_norm,loss,validation_loss\n",
                command, resolved, date, u.sysname, u.machine, omp_get_max_threads(), code_version());
        free(resolved);
    }
    fflush(f);
    free(old);
    free(path);
    return f;
}

// --save-every: what is saved is also a model to look at while it learns.
static void save(const params *p, const model_config *c, const char *key, long step, double seconds) {
    if (params_save(p, arg.out, key, step, seconds) != 0 || params_save_model(p, c, arg.out) != 0)
        die(1, "%s", err_get());
}

static tok *open_tokenizer(const char *text, size_t bytes) {
    char *vocab_file = xasprintf("%s/vocab.json", arg.out);
    if (!file_exists(vocab_file)) {
        log_info("learning a tokenizer of %ld ids from %.1f MB", arg.vocab, (double)bytes / 1e6);
        if (bpe_train(text, bytes, (int)arg.vocab, arg.out) != 0) die(1, "%s", err_get());
    }
    free(vocab_file);
    tok *t = tok_open(arg.out, (int)arg.vocab);
    if (!t) die(1, "%s", err_get());
    return t;
}

// A hash of everything that a result depends on.
static void key_of(char key[33], const char *text, size_t bytes) {
    char *all =
        xasprintf("%ld %ld %ld %ld %ld %ld %ld %ld %ld %g %g %g %g %g %g %016llx", arg.layers, arg.heads, arg.hidden,
                  arg.ffn, arg.positions, arg.vocab, arg.batch, arg.tokens, arg.seed, arg.lr, arg.decay, arg.clip,
                  arg.warmup, arg.valid, arg.answer_weight, (unsigned long long)hash64(text, bytes));
    hash_bytes(key, all, strlen(all));
    free(all);
}

// A training run in memory.
typedef struct {
    corpus text;
    model_config c;
    model trained, grad;
    params p;
    model_run *run, *valid_run;
    batch b;
    double *lp;    // [batch] log-probabilities of a step
    float *scale;  // [batch] of each sequence's loss
} training;

static void training_begin(training *t) {
    const int most = (int)arg.batch;
    if (params_new(&t->p, &t->c, &t->trained, &t->grad) != 0) die(1, "%s", err_get());
    t->run = model_run_new(&t->trained, most, most, RUN_TAPS | RUN_WEIGHT_GRADS);
    t->valid_run = model_run_new(&t->trained, t->c.positions, 1, RUN_FORWARD);
    t->b = batch_new(most);
    t->lp = xcalloc((size_t)most, sizeof *t->lp);
    t->scale = xcalloc((size_t)most, sizeof *t->scale);
}

static void training_end(training *t) {
    model_run_free(t->run);
    model_run_free(t->valid_run);
    model_free(&t->trained);
    model_free(&t->grad);
    params_free(&t->p);
    corpus_free(&t->text);
    batch_free(&t->b);
    free(t->lp);
    free(t->scale);
}

static double validation_loss(const training *t) { return corpus_loss(&t->text, t->valid_run, &t->c, 20000); }

typedef struct {
    double loss, norm, lr;
} step_figures;

// One step of AdamW, counted from 1.
static step_figures train_step(training *t, long step, long steps) {
    const double warm = arg.warmup * (double)steps;
    batch_fill(&t->b, &t->text, &t->c, (uint64_t)arg.seed, step - 1, (int)arg.batch);
    for (int i = 0; i < t->b.n; i++) t->scale[i] = (float)(1 / t->b.weight);
    memset(t->p.g, 0, t->p.floats * sizeof *t->p.g);
    model_forward(t->run, t->b.seq, t->b.n);
    model_backward(t->run, t->scale, t->lp, &t->grad, NULL, NULL);

    step_figures x = {.norm = params_grad_norm(&t->p)};
    for (int i = 0; i < t->b.used; i++) x.loss -= t->lp[i] / t->b.used;
    if (!isfinite(x.loss) || !isfinite(x.norm))
        die(1, "step %ld: loss %g, gradient norm %g: training diverged; use a smaller --lr", step, x.loss, x.norm);
    x.lr = arg.lr * (0.505 + 0.495 * cos(3.14159265358979 * (double)step / (double)steps));
    if ((double)step < warm) x.lr = arg.lr * (double)step / warm;
    params_update(&t->p, x.lr, arg.decay, x.norm > arg.clip ? arg.clip / x.norm : 1, step);
    return x;
}

// Steps from `step` on; before: seconds that went into those before it. Returns the last one done.
static long train(training *t, const char *key, long step, long steps, double before, FILE *log) {
    const double start = clock_s();
    const long first = step;
    double mean = 0;
    int averaged = 0;
    progress bar;
    progress_begin(&bar, "pretrain", steps);
    while (step < steps && !(arg.stop_after && step - first >= arg.stop_after)) {
        step++;
        const step_figures x = train_step(t, step, steps);
        mean += x.loss;
        averaged++;
        progress_at(&bar, step);
        const double seconds = before + clock_s() - start;
        if (step % 25 == 0 || step == steps) {
            fprintf(log, "%ld,%ld,%.1f,%.3e,%.3f,%.4f,", step, step * arg.batch, seconds, x.lr, x.norm,
                    mean / averaged);
            if (step % 250 == 0 || step == steps) fprintf(log, "%.4f", validation_loss(t));
            fprintf(log, "\n");
            if (fflush(log) != 0) die(1, "%s/train.csv: cannot write: %s", arg.out, strerror(errno));
            mean = averaged = 0;
        }
        if (step % arg.save_every == 0 && step < steps) save(&t->p, &t->c, key, step, seconds);
    }
    progress_end(&bar);
    if (step < steps) {
        if (params_save(&t->p, arg.out, key, step, before + clock_s() - start) != 0) die(1, "%s", err_get());
        log_info("stopped after step %ld of %ld; the same command resumes it", step, steps);
    }
    return step;
}

int main(int argc, char **argv) {
    cli_parse(argc, argv,
              "trains a small OPT from scratch on text and writes it as Hugging Face would (fp16 safetensors)",
              options);
    if (arg.hidden % arg.heads) die(2, "--hidden %ld is not a multiple of --heads %ld", arg.hidden, arg.heads);
    if (arg.batch < arg.positions) die(2, "--batch %ld is less than --positions %ld", arg.batch, arg.positions);
    if (arg.threads) omp_set_num_threads((int)arg.threads);
    if (mkdir(arg.out, 0777) != 0 && errno != EEXIST)
        die(1, "%s: cannot make the folder: %s", arg.out, strerror(errno));
    size_t bytes;
    char *text = pretrain_read(arg.text, &bytes), key[33];
    if (!text) die(1, "%s", err_get());
    tok *tokenizer = open_tokenizer(text, bytes);
    training t = {.c = {.L = (int)arg.layers,
                        .H = (int)arg.heads,
                        .E = (int)arg.hidden,
                        .F = (int)arg.ffn,
                        .D = (int)(arg.hidden / arg.heads),
                        .P = (int)arg.hidden,
                        .V = (int)arg.vocab,
                        .positions = (int)arg.positions,
                        .pre_ln = true,
                        .final_ln = true,
                        .bias = true,
                        .bos = 2,
                        .eos = 2,
                        .pad = 1,
                        .declared = DT_F16}};
    if (corpus_make(&t.text, tokenizer, text, bytes, arg.valid, arg.answer_weight) != 0) die(1, "%s", err_get());
    key_of(key, text, bytes);
    training_begin(&t);

    const long steps = (arg.tokens + arg.batch - 1) / arg.batch;
    long step = 0;
    double before = 0;
    const int resumed = params_resume(&t.p, arg.out, key, &step, &before);
    if (resumed < 0) die(1, "%s", err_get());
    if (resumed)
        log_info("resuming after step %ld of %ld", step, steps);
    else
        params_init(&t.p, t.c.L, (uint64_t)arg.seed);
    char *command = cli_command(argc, argv);
    FILE *log = log_open(step, command);
    log_info("%.2f M parameters, %.2f M tokens of text in %d documents, %ld steps of %ld tokens",
             (double)t.p.floats / 1e6, (double)t.text.n / 1e6, t.text.n_docs, steps, arg.batch);
    step = train(&t, key, step, steps, before, log);
    fclose(log);
    if (params_save_model(&t.p, &t.c, arg.out) != 0) die(1, "%s", err_get());
    if (step == steps) params_forget(arg.out);
    printf("%s: %s, validation loss %.4f nats per token\n", arg.out, step == steps ? "trained" : "in work",
           validation_loss(&t));
    training_end(&t);
    tok_close(tokenizer);
    free(command);
    free(text);
    stdout_end();
    return 0;
}
