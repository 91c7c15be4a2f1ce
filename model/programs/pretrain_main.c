// pretrain - trains a small OPT from scratch on text: AdamW, cosine schedule, gradient clipping, resumable.
//
// The text is every *.txt of a folder, in order of name; blank lines part documents. A training sequence begins at the
// start of a random document (after </s> every other time), its length drawn log-uniformly from 32 to the model's
// positions; a step packs sequences up to --batch tokens. Loss: mean cross-entropy of all predicted tokens, the one
// after "Answer:" counted --answer-weight times: a yes or no is one token of a question's thirty, and whether premise
// and hypothesis agree is not learnt from so small a part of the loss. AdamW: Loshchilov & Hutter 2019 (decoupled
// decay, on matrices only). Initialisation: normal 0.02, the projections into the residual divided by sqrt(2 L)
// (GPT-2).
#include "adamw.h"
#include "cli.h"
#include "model.h"
#include "simd.h"
#include "tok.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

typedef struct {
    int32_t *ids;
    float *weight;
    int n, cap;
    int *doc;
    int n_docs, cap_docs;
    int first_valid;
} corpus;

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
     .help = "threads; 0: all cores (the result is the same)",
     .min = 0,
     .max = 4096},
    {0}};

// ---------------------------------------------------------------- text
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static char *read_folder(const char *dir, size_t *bytes) {
    DIR *d = opendir(dir);
    if (!d) die(1, "%s: cannot open: %s; bin/world writes such a folder", dir, strerror(errno));
    char **name = NULL, *all = xstrdup("");
    int n = 0, cap = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len > 4 && strcmp(e->d_name + len - 4, ".txt") == 0)
            VEC_PUSH(name, n, cap, xasprintf("%s/%s", dir, e->d_name));
    }
    closedir(d);
    if (!n) die(1, "%s: there is no *.txt in it", dir);
    qsort(name, (size_t)n, sizeof *name, by_name);
    *bytes = 0;
    for (int i = 0; i < n; i++) {
        size_t more;
        char *text = file_read(name[i], &more);
        if (!text) die(1, "%s", err_get());
        all = xrealloc(all, *bytes + more + 3);
        memcpy(all + *bytes, text, more);
        memcpy(all + *bytes + more, "\n\n", 3);
        *bytes += more + 2;
        free(text);
        free(name[i]);
    }
    free(name);
    return all;
}

static corpus tokenise(const tok *t, const char *text, size_t bytes) {
    corpus c = {0};
    for (const char *p = text, *end = text + bytes; p < end;) {
        while (p < end && *p == '\n') p++;
        const char *stop = p < end ? memmem(p, (size_t)(end - p), "\n\n", 2) : NULL;
        if (!stop) stop = end;
        if (stop == p) break;
        VEC_PUSH(c.doc, c.n_docs, c.cap_docs, c.n);
        const char *next = stop + 2 < end ? stop + 2 : end;  // the blank line belongs to the document before it
        if (tok_encode(t, p, (size_t)(next - p), &c.ids, &c.n, &c.cap) != 0) die(1, "%s", err_get());
        p = next;
    }
    int32_t *cue = NULL;
    int n_cue = 0, cap_cue = 0;
    if (tok_encode(t, "Answer:", 7, &cue, &n_cue, &cap_cue) != 0) die(1, "%s", err_get());
    c.weight = xmalloc(sizeof *c.weight * ((size_t)c.n + 1));
    for (int i = 0; i <= c.n; i++)
        c.weight[i] = i >= n_cue && memcmp(c.ids + i - n_cue, cue, sizeof *cue * (size_t)n_cue) == 0
                          ? (float)arg.answer_weight
                          : 1.0f;
    free(cue);
    c.first_valid = c.n_docs - 1 - (int)(arg.valid * c.n_docs);
    if (c.first_valid < 1) die(1, "the text has only %d documents (parted by blank lines); more are needed", c.n_docs);
    return c;
}

// ---------------------------------------------------------------- parameters
typedef struct {
    tensor *t;
    int n;
    size_t floats;
    float *w, *g, *m, *v;
} params;

static size_t count(const tensor *t) { return (size_t)t->dim[0] * (size_t)(t->rank > 1 ? t->dim[1] : 1); }

static params params_new(const model_config *c, model *trained, model *grad) {
    params p = {.t = arch_tensor_list(c, &p.n)};
    for (int i = 0; i < p.n; i++) p.floats += count(&p.t[i]);
    float **array[] = {&p.w, &p.g, &p.m, &p.v};
    for (int k = 0; k < 4; k++) {
        *array[k] = xaligned(p.floats * sizeof(float));
        memset(*array[k], 0, p.floats * sizeof(float));
    }
    model *to[] = {grad, trained};
    for (int k = 0; k < 2; k++) {
        size_t at = 0;
        for (int i = 0; i < p.n; at += count(&p.t[i++])) p.t[i].data = (k ? p.w : p.g) + at;
        if (model_from_tensors(to[k], c, p.t, p.n) != 0) die(1, "%s", err_get());
    }
    return p;
}

static void init_weights(params *p, int layers) {
    size_t at = 0;
    for (int i = 0; i < p->n; at += count(&p->t[i++])) {
        rng r = rng_make(rng_hash((uint64_t)arg.seed, (uint64_t)i, 0x696e6974));
        int layer;
        const tensor_init init = arch_find(&family_opt, p->t[i].name, &layer)->init;
        const double std = init == INIT_RESIDUAL ? 0.02 / sqrt(2.0 * layers) : 0.02;
        const bool drawn = init == INIT_NORMAL || init == INIT_RESIDUAL;
        for (size_t k = 0; k < count(&p->t[i]); k++)
            p->w[at + k] = drawn ? (float)(std * rng_normal(&r)) : init == INIT_ONE;
    }
}

// parameters of a work item; the gradient's norm adds up pieces in order, whatever the thread count
enum { PIECE = 1 << 16 };

static double grad_norm(const params *p) {
    const size_t pieces = (p->floats + PIECE - 1) / PIECE;
    double *part = xcalloc(pieces, sizeof *part), sum = 0;
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < pieces; b++)
        for (size_t i = b * PIECE; i < p->floats && i < (b + 1) * PIECE; i++)
            part[b] += (double)p->g[i] * (double)p->g[i];
    for (size_t b = 0; b < pieces; b++) sum += part[b];
    free(part);
    return sqrt(sum);
}

static void update(params *p, double lr, double scale, long step) {
    const adamw a = adamw_step(lr, arg.decay, 0.9, 0.95, scale, step);
    size_t at = 0;
    for (int k = 0; k < p->n; at += count(&p->t[k++])) {
        const size_t n = count(&p->t[k]);
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < n; i += PIECE) {
            const size_t from = at + i, some = n - i < PIECE ? n - i : PIECE;
            (p->t[k].rank > 1 ? adamw_update : adamw_update_plain)(&a, p->w + from, p->g + from, p->m + from,
                                                                   p->v + from, some);
        }
    }
}

// ---------------------------------------------------------------- sequences
typedef struct {
    model_seq *seq;
    int n;
    int32_t *ids;
    int used;
    double weight;
} batch;

// Sequences of a step (or of the validation set, step < 0: every document once), up to `room` tokens.
static void fill(batch *b, const corpus *c, const model_config *cfg, long step, int room) {
    rng r = rng_make(rng_hash((uint64_t)arg.seed, (uint64_t)step, 0x62617463));
    b->n = b->used = 0;
    b->weight = 0;
    while (room - b->used >= 32) {
        const int doc = (int)rng_below(&r, (uint64_t)c->first_valid), at = c->doc[doc], bos = (int)rng_below(&r, 2);
        int n = (int)(32.0 * pow((double)cfg->positions / 32.0, rng_uniform(&r))), end = c->doc[c->first_valid];
        if (n > room - b->used) n = room - b->used;
        if (n > end - at - 1 + bos) n = end - at - 1 + bos;
        if (n < 2) continue;
        int32_t *ids = b->ids + b->used;
        if (bos) ids[0] = cfg->bos;
        memcpy(ids + bos, c->ids + at, sizeof *ids * (size_t)(n - bos));
        b->seq[b->n++] = (model_seq){.tokens = ids,
                                     .n = n,
                                     .targets_from = 0,
                                     .weights = c->weight + at + 1 - bos,
                                     .last_target = c->ids[at + n - bos]};
        for (int i = 0; i < n; i++) b->weight += b->seq[b->n - 1].weights[i];
        b->used += n;
    }
}

// Mean loss of the validation documents, in windows of the model's length after </s>, at most `most` tokens.
static double validate(model_run *run, const corpus *c, const model_config *cfg, int most) {
    const int begin = c->doc[c->first_valid], n = c->n - begin < most ? c->n - begin : most;
    int32_t *ids = xmalloc(sizeof *ids * (size_t)(n + 1));
    double *lp = xmalloc(sizeof *lp * (size_t)(n + 1)), loss = 0;
    ids[0] = cfg->bos;
    memcpy(ids + 1, c->ids + begin, sizeof *ids * (size_t)n);
    for (int at = 0; at < n; at += cfg->positions) {
        const int len = n - at < cfg->positions ? n - at : cfg->positions;
        model_seq s = {.tokens = ids + at, .n = len, .targets_from = 0, .last_target = ids[at + len]};
        model_forward(run, &s, 1);
        model_logprobs(run, lp, NULL, 0);
        for (int i = 0; i < len; i++) loss -= lp[i];
    }
    free(ids);
    free(lp);
    return loss / n;
}

// ---------------------------------------------------------------- state and results
typedef struct {
    char magic[8], key[33];
    long step;
    double seconds;
} state_head;

static char *state_path(void) { return xasprintf("%s/train.state", arg.out); }

static void state_save(const params *p, const char *key, long step, double seconds) {
    char *path = state_path();
    file_out f;
    state_head h = {.magic = "pretrn1", .step = step, .seconds = seconds};
    memcpy(h.key, key, sizeof h.key);
    if (file_out_open(&f, path) != 0) die(1, "%s", err_get());
    fwrite(&h, sizeof h, 1, f.f);
    const float *array[] = {p->w, p->m, p->v};
    for (int k = 0; k < 3; k++) fwrite(array[k], sizeof(float), p->floats, f.f);
    if (file_out_close(&f) != 0) die(1, "%s", err_get());
    free(path);
}

static bool state_load(params *p, const char *key, long *step, double *seconds) {
    char *path = state_path();
    FILE *f = fopen(path, "rb");
    if (!f) return free(path), false;
    state_head h;
    bool ok = fread(&h, sizeof h, 1, f) == 1 && memcmp(h.magic, "pretrn1", 8) == 0;
    if (!ok) die(1, "%s: not a state of pretrain; remove it to begin again", path);
    if (memcmp(h.key, key, sizeof h.key) != 0)
        die(1, "%s: of another text or other options; remove it to begin again, or give the same ones", path);
    float *array[] = {p->w, p->m, p->v};
    for (int k = 0; k < 3; k++) ok = ok && fread(array[k], sizeof(float), p->floats, f) == p->floats;
    fclose(f);
    if (!ok) die(1, "%s: truncated; remove it to begin again", path);
    *step = h.step;
    *seconds = h.seconds;
    free(path);
    return true;
}

static void save_model(const params *p, const model_config *c) {
    tensor *t = xmalloc(sizeof *t * (size_t)p->n);
    size_t at = 0;
    uint16_t *half = xmalloc(sizeof *half * p->floats);
    for (int i = 0; i < p->n; at += count(&p->t[i++])) {
        for (size_t k = 0; k < count(&p->t[i]); k++) {
            if (!(fabsf(p->w[at + k]) < 65504.0f))
                die(1, "%s: weight %zu is %g, outside fp16; use a smaller --lr", p->t[i].name, k, (double)p->w[at + k]);
            half[at + k] = float_to_half(p->w[at + k]);
        }
        t[i] = p->t[i];
        t[i].type = DT_F16;
        t[i].data = half + at;
    }
    if (ckpt_save(arg.out, c, t, p->n) != 0) die(1, "%s", err_get());
    free(half);
    free(t);
}

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
    char *text = read_folder(arg.text, &bytes), *vocab_file = xasprintf("%s/vocab.json", arg.out);
    if (!file_exists(vocab_file)) {
        log_info("learning a tokenizer of %ld ids from %.1f MB", arg.vocab, (double)bytes / 1e6);
        if (bpe_train(text, bytes, (int)arg.vocab, arg.out) != 0) die(1, "%s", err_get());
    }
    tok *t = tok_open(arg.out, (int)arg.vocab);
    if (!t) die(1, "%s", err_get());
    corpus c = tokenise(t, text, bytes);
    const model_config cfg = {.L = (int)arg.layers,
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
                              .declared = DT_F16};
    model trained, grad;
    params p = params_new(&cfg, &trained, &grad);
    const long steps = (arg.tokens + arg.batch - 1) / arg.batch;
    char key[33], *resolved = xasprintf("%ld %ld %ld %ld %ld %ld %ld %ld %ld %g %g %g %g %g %g %016llx", arg.layers,
                                        arg.heads, arg.hidden, arg.ffn, arg.positions, arg.vocab, arg.batch, arg.tokens,
                                        arg.seed, arg.lr, arg.decay, arg.clip, arg.warmup, arg.valid, arg.answer_weight,
                                        (unsigned long long)hash64(text, bytes));
    hash_bytes(key, resolved, strlen(resolved));
    long step = 0;
    double before = 0;
    if (state_load(&p, key, &step, &before))
        log_info("going on after step %ld of %ld", step, steps);
    else
        init_weights(&p, cfg.L);
    char *command = cli_command(argc, argv);
    FILE *log = log_open(step, command);
    log_info("%.2f M parameters, %.2f M tokens of text in %d documents, %ld steps of %ld tokens",
             (double)p.floats / 1e6, (double)c.n / 1e6, c.n_docs, steps, arg.batch);
    model_run *run = model_run_new(&trained, (int)arg.batch, (int)arg.batch, RUN_TAPS | RUN_WEIGHT_GRADS);
    model_run *valid_run = model_run_new(&trained, cfg.positions, 1, RUN_FORWARD);
    batch b = {.seq = xcalloc((size_t)arg.batch, sizeof *b.seq), .ids = xcalloc((size_t)arg.batch, sizeof *b.ids)};
    double *lp = xcalloc((size_t)arg.batch, sizeof *lp), start = clock_s(), mean = 0;
    float *scale = xcalloc((size_t)arg.batch, sizeof *scale);
    const long first = step;
    progress bar;
    progress_begin(&bar, "pretrain", steps);
    int averaged = 0;
    while (step < steps && !(arg.stop_after && step - first >= arg.stop_after)) {
        fill(&b, &c, &cfg, step, (int)arg.batch);
        step++;
        for (int i = 0; i < b.n; i++) scale[i] = (float)(1 / b.weight);
        memset(p.g, 0, p.floats * sizeof *p.g);
        model_forward(run, b.seq, b.n);
        model_backward(run, scale, lp, &grad, NULL, NULL);
        double loss = 0;
        for (int i = 0; i < b.used; i++) loss -= lp[i] / b.used;
        const double norm = grad_norm(&p), warm = arg.warmup * (double)steps;
        if (!isfinite(loss) || !isfinite(norm))
            die(1, "step %ld: loss %g, gradient norm %g: training diverged; use a smaller --lr", step, loss, norm);
        double lr = arg.lr * (0.505 + 0.495 * cos(3.14159265358979 * (double)step / (double)steps));
        if ((double)step < warm) lr = arg.lr * (double)step / warm;
        update(&p, lr, norm > arg.clip ? arg.clip / norm : 1, step);
        mean += loss;
        averaged++;
        progress_at(&bar, step);
        if (step % 25 == 0 || step == steps) {
            fprintf(log, "%ld,%ld,%.1f,%.3e,%.3f,%.4f,", step, step * arg.batch, before + clock_s() - start, lr, norm,
                    mean / averaged);
            if (step % 250 == 0 || step == steps) fprintf(log, "%.4f", validate(valid_run, &c, &cfg, 20000));
            fprintf(log, "\n");
            if (fflush(log) != 0) die(1, "%s/train.csv: cannot write: %s", arg.out, strerror(errno));
            mean = averaged = 0;
        }
        if (step % arg.save_every == 0 && step < steps) {
            state_save(&p, key, step, before + clock_s() - start);
            save_model(&p, &cfg);  // to look at while it learns
        }
    }
    progress_end(&bar);
    fclose(log);
    if (step < steps) {
        state_save(&p, key, step, before + clock_s() - start);
        log_info("stopped after step %ld of %ld; the same command resumes it", step, steps);
    }
    save_model(&p, &cfg);
    if (step == steps) {
        char *path = state_path();
        remove(path);
        free(path);
    }
    printf("%s: %s, validation loss %.4f nats per token\n", arg.out, step == steps ? "trained" : "in work",
           validate(valid_run, &c, &cfg, 20000));
    void *blocks[] = {text,  vocab_file, resolved, command, lp,  scale, b.seq, b.ids,
                      c.ids, c.weight,   c.doc,    p.w,     p.g, p.m,   p.v};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    tensors_free(p.t, p.n);
    model_run_free(run);
    model_run_free(valid_run);
    model_free(&trained);
    model_free(&grad);
    tok_close(t);
    stdout_end();
    return 0;
}
