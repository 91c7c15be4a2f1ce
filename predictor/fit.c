// fit - see fit.h. Order, initialisation and every sum are functions of the plan alone, so a training that was killed and goes on, or one with
// another number of threads, ends with the same bits.
#include "fit.h"
#include "simd.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------- loss
enum { PIECE = 1 << 14 };  // losses add up pieces in order, whatever the thread count

HOT static double mse_piece(float *dy, const float *y, const float *t, float scale, size_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        const double d = (double)(y[i] - t[i]);
        sum += d * d;
    }
    if (dy)
        for (size_t i = 0; i < n; i++) dy[i] = scale * (y[i] - t[i]);
    return sum;
}

static double bce_piece(float *dy, const float *y, const float *t, float scale, double positive, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double z = (double)y[i], w = (double)t[i] * (1 - positive) + positive, e = exp(-fabs(z));
        sum += w * (fmax(z, 0) - z * (double)t[i] + log1p(e));
        if (dy) dy[i] = scale * (float)(w * ((z >= 0 ? 1 : e) / (1 + e) - (double)t[i]));
    }
    return sum;
}

double fit_loss_of(float *dy, const float *y, const float *t, fit_loss loss, double positive, size_t n) {
    const size_t pieces = (n + PIECE - 1) / PIECE;
    const float scale = (float)((loss == FIT_MSE ? 2.0 : 1.0) / (double)n);
    double *part = xmalloc(pieces * sizeof *part), sum = 0;
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < pieces; b++) {
        const size_t at = b * PIECE, some = n - at < PIECE ? n - at : PIECE;
        float *d = dy ? dy + at : NULL;
        part[b] = loss == FIT_MSE ? mse_piece(d, y + at, t + at, scale, some) : bce_piece(d, y + at, t + at, scale, positive, some);
    }
    for (size_t b = 0; b < pieces; b++) sum += part[b];
    free(part);
    return sum / (double)n;
}

// ---------------------------------------------------------------- state of a training
typedef struct {
    net n;                       // parameters of the last step
    float *w, *m, *v, *best;     // [floats]; best NULL: no validation
    float *t;                    // [batch, out] targets
    int *order;
    net_work k;
    int epoch, kept, idle;       // done; epoch in best, epochs since
    double kept_loss;            // of validation; NAN: none yet
    bool stopped;
    double *train, *valid, seconds;
} training;

static void training_new(training *s, const net *shape, const fit_plan *p) {
    *s = (training){.n = *shape};
    const size_t bytes = shape->floats * sizeof(float);
    float **block[] = {&s->w, &s->m, &s->v, &s->best};
    for (int i = 0; i < 4; i++) {
        if (i == 3 && (p->keep_last || !p->n_valid)) continue;
        *block[i] = xaligned(bytes);
        memset(*block[i], 0, bytes);
    }
    s->n.w = s->w;
    s->t = xaligned((size_t)p->batch * (size_t)shape->out * sizeof *s->t);
    s->order = xmalloc((size_t)p->n_train * sizeof *s->order);
    s->train = xcalloc((size_t)p->epochs + 1, sizeof *s->train);
    s->valid = xcalloc((size_t)p->epochs + 1, sizeof *s->valid);
    net_work_new(&s->k, shape, p->batch, true);
}

static void training_free(training *s) {
    void *all[] = {s->w, s->m, s->v, s->best, s->t, s->order, s->train, s->valid};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    net_work_free(&s->k);
}

size_t fit_bytes(const net *n, int batch) {
    return 4 * n->floats * sizeof(float) + net_work_bytes(n, batch) + (size_t)batch * (size_t)n->out * sizeof(float);
}

// File: head, losses [epochs] twice, then w, m, v and best, or of a finished training the kept parameters only; the hash of all parts.
typedef struct { char magic[8], key[33], best, finished; int epochs, epoch, kept, idle, stopped; double kept_loss, seconds; } state_head;

typedef struct { void *at; size_t bytes; } piece;
static int pieces_of(training *s, int epochs, bool finished, piece out[8]) {
    const size_t losses = (size_t)epochs * sizeof(double), floats = s->n.floats * sizeof(float);
    int n = 0;
    out[n++] = (piece){s->train, losses};
    out[n++] = (piece){s->valid, losses};
    if (!s->best || !finished) out[n++] = (piece){s->w, floats};
    if (!finished) out[n++] = (piece){s->m, floats};
    if (!finished) out[n++] = (piece){s->v, floats};
    if (s->best) out[n++] = (piece){s->best, floats};
    return n;
}

static uint64_t hash_of(const state_head *head, const piece *p, int n) {
    uint64_t h = hash64(head, sizeof *head);
    for (int i = 0; i < n; i++) h = rng_hash(h, hash64(p[i].at, p[i].bytes), p[i].bytes);
    return h;
}

static int save(training *s, const fit_plan *p) {
    state_head h;
    memset(&h, 0, sizeof h);  // padding goes into the file and its hash
    memcpy(h.magic, "fitnet1", 8);
    memcpy(h.key, p->key, sizeof h.key);
    h.best = s->best != NULL;
    h.finished = s->epoch == p->epochs || s->stopped;
    h.epochs = p->epochs;
    h.epoch = s->epoch;
    h.kept = s->kept;
    h.idle = s->idle;
    h.kept_loss = s->kept_loss;
    h.stopped = s->stopped;
    h.seconds = s->seconds;
    piece part[8];
    const int n = pieces_of(s, p->epochs, h.finished, part);
    const uint64_t hash = hash_of(&h, part, n);
    file_out f = {0};
    if (file_out_open(&f, p->state)) return -1;
    fwrite(&h, sizeof h, 1, f.f);
    for (int i = 0; i < n; i++) fwrite(part[i].at, 1, part[i].bytes, f.f);
    fwrite(&hash, sizeof hash, 1, f.f);
    return file_out_close(&f);
}

// True if the state was there, whole, and of this plan; a damaged one is reported and ignored.
static bool load(training *s, const fit_plan *p) {
    FILE *f = fopen(p->state, "rb");
    if (!f) return false;
    state_head h;
    piece part[8];
    uint64_t hash = 0;
    bool ok = fread(&h, sizeof h, 1, f) == 1 && memcmp(h.magic, "fitnet1", 8) == 0 && memcmp(h.key, p->key, sizeof h.key) == 0 && h.epochs == p->epochs && h.best == (s->best != NULL);
    const int n = ok ? pieces_of(s, p->epochs, h.finished, part) : 0;
    for (int i = 0; ok && i < n; i++) ok = fread(part[i].at, 1, part[i].bytes, f) == part[i].bytes;
    ok = ok && fread(&hash, sizeof hash, 1, f) == 1 && fgetc(f) == EOF && hash == hash_of(&h, part, n);
    fclose(f);
    if (!ok) {
        log_info("%s: damaged or of another training, computed anew", p->state);
        return false;
    }
    s->epoch = h.epoch;
    s->kept = h.kept;
    s->idle = h.idle;
    s->kept_loss = h.kept_loss;
    s->stopped = h.stopped;
    s->seconds = h.seconds;
    return true;
}

static void begin(training *s, const fit_plan *p) {
    const size_t bytes = s->n.floats * sizeof(float);
    memset(s->m, 0, bytes);
    memset(s->v, 0, bytes);
    s->epoch = s->kept = s->idle = 0;
    s->stopped = false;
    s->seconds = 0;
    net_init(&s->n, p->seed);
    if (p->start) net_start(&s->n, p->start);
}

// ---------------------------------------------------------------- steps
static int evaluate(const net *n, const fit_plan *p, net_work *k, float *t, const int *row, int count, double *loss) {
    double sum = 0;
    for (int i = 0; i < count; i += p->batch) {
        const int B = count - i < p->batch ? count - i : p->batch;
        if (row_fill(&p->from, n, k, t, row + i, B)) return -1;
        net_forward(n, k, B);
        sum += B * fit_loss_of(NULL, k->y, t, p->loss, p->positive, (size_t)B * (size_t)n->out);
    }
    *loss = count ? sum / count : NAN;
    return 0;
}

int fit_evaluate(const net *n, const fit_plan *p, const int *row, int count, double *loss) {
    net_work k;
    net_work_new(&k, n, p->batch, false);
    float *t = xaligned((size_t)p->batch * (size_t)n->out * sizeof *t);
    const int bad = evaluate(n, p, &k, t, row, count, loss);
    free(t);
    net_work_free(&k);
    return bad;
}

// Pooled tokens, all numbers between 0 and 1, are nearly the same for every example: their mean is twenty times their deviation. Nets that begin with
// them as they are learn the noise of the mean and never what tells examples apart, so the value map begins with them standardised.
static int standardise(training *s, const fit_plan *p) {
    const size_t E = (size_t)s->n.in;
    double *mean = xcalloc(2 * E, sizeof *mean), *deviation = mean + E;
    int bad = 0;
    for (int i = 0; !bad && i < p->n_train; i += p->batch) {
        const int B = p->n_train - i < p->batch ? p->n_train - i : p->batch;
        bad = row_fill(&p->from, &s->n, &s->k, s->t, p->train + i, B);
        if (!bad) net_forward(&s->n, &s->k, B);
        for (size_t at = 0; !bad && at < (size_t)B * E; at++) {
            const double c = (double)s->k.c[at];
            mean[at % E] += c / p->n_train;
            deviation[at % E] += c * c / p->n_train;
        }
    }
    for (size_t e = 0; e < E; e++) {
        const double variance = deviation[e] - mean[e] * mean[e];
        deviation[e] = variance > 1e-12 ? sqrt(variance) : 1;
    }
    if (!bad) net_start_pool(&s->n, mean, deviation);
    free(mean);
    return bad;
}

static long steps_of(const fit_plan *p) { return (p->n_train + p->batch - 1) / p->batch; }

static int train_step(training *s, const fit_plan *p, long step, const int *row, int B, double *loss) {
    if (row_fill(&p->from, &s->n, &s->k, s->t, row, B)) return -1;
    net_forward(&s->n, &s->k, B);
    *loss = fit_loss_of(s->k.dy, s->k.y, s->t, p->loss, p->positive, (size_t)B * (size_t)s->n.out);
    const double lr = cosine(p->lr, step, (long)p->epochs * steps_of(p));
    const net_update u = {.a = adamw_step(lr, p->decay, 0.9, 0.999, 1, step + 1), .m = s->m, .v = s->v};
    net_backward(&s->n, &s->k, B, &u);
    return 0;
}

static int train_epoch(training *s, const fit_plan *p) {
    rng r = rng_make(rng_hash(p->seed, (uint64_t)s->epoch, 0x6f72646572));
    rng_permutation(&r, s->order, p->n_train);
    for (int i = 0; i < p->n_train; i++) s->order[i] = p->train[s->order[i]];
    double sum = 0, loss;
    long step = s->epoch * steps_of(p);
    for (int i = 0; i < p->n_train; i += p->batch, step++) {
        const int B = p->n_train - i < p->batch ? p->n_train - i : p->batch;
        if (train_step(s, p, step, s->order + i, B, &loss)) return -1;
        if (!isfinite(loss)) return err_set("training diverged in epoch %d: the loss is %g; use a smaller --lr", s->epoch + 1, loss);
        sum += B * loss;
        if (p->tick) p->tick(p->ctx, 1);
    }
    double *valid = &s->valid[s->epoch];
    if (evaluate(&s->n, p, &s->k, s->t, p->valid, p->n_valid, valid)) return -1;
    s->train[s->epoch++] = sum / p->n_train;
    s->idle++;
    if (!s->best || !(*valid >= s->kept_loss)) {
        s->kept = s->epoch;
        s->kept_loss = *valid;
        s->idle = 0;
        if (s->best) memcpy(s->best, s->w, s->n.floats * sizeof *s->w);
    }
    s->stopped = p->patience && p->n_valid && s->idle >= p->patience;
    return 0;
}

int fit_net(net *n, const fit_plan *p, fit_result *r) {
    training s;
    training_new(&s, n, p);
    *r = (fit_result){0};
    int bad = 0;
    if (!p->state || !load(&s, p)) {
        begin(&s, p);
        s.kept_loss = NAN;
        if (n->kind == NET_POOL && p->start) bad = standardise(&s, p);
        if (!bad && s.best && p->start) {
            bad = evaluate(&s.n, p, &s.k, s.t, p->valid, p->n_valid, &s.kept_loss);
            memcpy(s.best, s.w, s.n.floats * sizeof *s.w);
        }
    } else if (p->tick) p->tick(p->ctx, s.epoch * steps_of(p));
    double start = clock_s(), saved = start;
    while (!bad && s.epoch < p->epochs && !s.stopped) {
        bad = train_epoch(&s, p);
        r->examples += p->n_train;
        const double now = clock_s();
        const bool finished = s.epoch == p->epochs || s.stopped;
        s.seconds += now - start;
        r->spent += now - start;
        start = now;
        if (bad || !p->state || (!finished && now - saved < p->save_every)) continue;
        bad = save(&s, p);
        saved = now;
    }
    if (!bad) {
        memcpy(n->w, s.best ? s.best : s.w, n->floats * sizeof *n->w);
        r->epochs = s.epoch;
        r->best = s.kept;
        r->seconds = s.seconds;
        r->train = s.train;
        r->valid = s.valid;
        s.train = s.valid = NULL;
        if (p->tick) p->tick(p->ctx, (p->epochs - s.epoch) * steps_of(p));
    }
    training_free(&s);
    return bad;
}

void fit_result_free(fit_result *r) {
    free(r->train);
    free(r->valid);
    *r = (fit_result){0};
}

static int shorter(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

int fit_estimate(const net *shape, const fit_plan *p, double budget, double *seconds) {
    training s;
    training_new(&s, shape, p);
    begin(&s, p);
    enum { MOST_STEPS = 40 };
    double begun = clock_s(), took[MOST_STEPS], loss, forward = 0;
    int bad = 0, steps = 0;
    // the first step also pays for first touches of the memory; of the others the median, because a busy machine makes some of them long
    for (int i = 0; !bad && (i < 4 || clock_s() - begun < budget) && i <= MOST_STEPS; i++) {
        const int B = p->n_train < p->batch ? p->n_train : p->batch, at = p->n_train > B ? i * B % (p->n_train - B) : 0;
        const double start = clock_s();
        bad = train_step(&s, p, 0, p->train + at, B, &loss);
        if (i) took[steps++] = clock_s() - start;
        if (clock_s() - begun > 4 * budget && i) break;
    }
    if (!bad && p->n_valid) {
        const int B = p->n_valid < p->batch ? p->n_valid : p->batch;
        const double start = clock_s();
        bad = evaluate(&s.n, p, &s.k, s.t, p->valid, B, &loss);
        forward = (clock_s() - start) * p->n_valid / B;
    }
    qsort(took, (size_t)steps, sizeof *took, shorter);
    if (!bad) *seconds = p->epochs * (took[steps / 2] * (double)p->n_train / (p->n_train < p->batch ? p->n_train : p->batch) + forward);
    training_free(&s);
    return bad;
}
