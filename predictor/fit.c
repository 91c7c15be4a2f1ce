// fit - see fit.h. Order, initialisation and every sum are functions of the plan alone, so on one kind of device a
// training that was killed and resumed, or one with another number of threads, ends with the same bits.
#include "fit.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------- state of a training
typedef struct {
    net n;  // parameters of the last step
    const ops *o;
    float *w, *m, *v, *best;  // [floats]; best NULL: no validation
    double *losses, *loss;    // of an epoch's batches; loss: in host memory
    float *host;              // [floats] of another device's memory
    int *order;
    net_work k;
    row_stage stage;
    int epoch, kept, idle;  // done; epoch in best, epochs since
    double kept_loss;       // of validation; NAN: none yet
    bool stopped;
    double *train, *valid, seconds;
} training;

static long steps_of(const fit_plan *p) { return (p->n_train + p->batch - 1) / p->batch; }
static size_t most_steps(const fit_plan *p) {
    return (size_t)((p->n_train > p->n_valid ? p->n_train : p->n_valid) + p->batch - 1) / (size_t)p->batch;
}
static bool keeps_best(const fit_plan *p) { return !p->keep_last && p->n_valid; }

static int longer_first(const void *a, const void *b) {
    return (*(const int *)a < *(const int *)b) - (*(const int *)a > *(const int *)b);
}

// Tokens of the largest batch that some rows can make.
static int most_tokens(const fit_plan *p, const int *row, int n) {
    int *length = xmalloc(((size_t)n + 1) * sizeof *length), sum = 0;
    for (int i = 0; i < n; i++) length[i] = row_tokens(&p->from, row[i]);
    qsort(length, (size_t)n, sizeof *length, longer_first);
    for (int i = 0; i < n && i < p->batch; i++) sum += length[i];
    free(length);
    return sum;
}

static int tokens_of(const net *n, const fit_plan *p) {
    if (n->kind != NET_POOL) return 0;
    const int train = most_tokens(p, p->train, p->n_train), valid = most_tokens(p, p->valid, p->n_valid);
    return train > valid ? train : valid;
}

size_t fit_bytes(const net *n, const fit_plan *p) {
    const int tokens = tokens_of(n, p);
    const size_t floats = (keeps_best(p) ? 4 : 3) * n->floats, arrays = 32;  // each at a multiple of 256
    return 4 * floats + most_steps(p) * sizeof(double) + net_work_bytes(n, p->batch, tokens) +
           row_stage_bytes(&p->from, n, p->batch, tokens) + 256 * arrays;
}

static int training_new(training *s, const net *shape, const fit_plan *p) {
    const ops *o = p->o;
    const size_t bytes = shape->floats * sizeof(float);
    o->use(0);
    if (ops_reserve(o, (const size_t[OPS_PARTS]){fit_bytes(shape, p)}, "parameters, moments and a batch")) return -1;
    *s = (training){.n = *shape, .o = o};
    s->n.w = s->w = o->alloc(bytes);
    s->m = o->alloc(bytes);
    s->v = o->alloc(bytes);
    if (keeps_best(p)) s->best = o->alloc(bytes);
    s->losses = o->alloc(most_steps(p) * sizeof *s->losses);
    s->loss = xmalloc(most_steps(p) * sizeof *s->loss);
    if (!o->host) s->host = xaligned(bytes);
    s->order = xmalloc((size_t)p->n_train * sizeof *s->order);
    s->train = xcalloc((size_t)p->epochs + 1, sizeof *s->train);
    s->valid = xcalloc((size_t)p->epochs + 1, sizeof *s->valid);
    net_work_new(&s->k, o, shape, p->batch, true);
    if (shape->kind == NET_POOL) net_work_tokens(&s->k, shape, tokens_of(shape, p));
    row_stage_new(&s->stage, &p->from, shape, &s->k);
    return 0;
}

static void training_free(training *s) {
    void *device[] = {s->w, s->m, s->v, s->best, s->losses}, *host[] = {s->loss, s->host, s->order, s->train, s->valid};
    row_stage_free(&s->stage, &s->k);
    net_work_free(&s->k);
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) s->o->release(device[i]);
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
}

// File: head, losses [epochs] twice, then w, m, v and best, or of a finished training the kept parameters only; the
// hash of all parts.
typedef struct {
    char magic[8], key[33], best, finished;
    int epochs, epoch, kept, idle, stopped;
    double kept_loss, seconds;
} state_head;

typedef struct {
    void *at;
    size_t bytes;
    bool device;
} piece;
static int pieces_of(training *s, int epochs, bool finished, piece out[8]) {
    const size_t losses = (size_t)epochs * sizeof(double), floats = s->n.floats * sizeof(float);
    int n = 0;
    out[n++] = (piece){s->train, losses, false};
    out[n++] = (piece){s->valid, losses, false};
    if (!s->best || !finished) out[n++] = (piece){s->w, floats, true};
    if (!finished) out[n++] = (piece){s->m, floats, true};
    if (!finished) out[n++] = (piece){s->v, floats, true};
    if (s->best) out[n++] = (piece){s->best, floats, true};
    return n;
}

// Where the host reads or writes a piece.
static void *host_side(training *s, const piece *p) { return p->device && s->host ? s->host : p->at; }

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
    uint64_t hash = hash64(&h, sizeof h);
    file_out f = {0};
    if (file_out_open(&f, p->state)) return -1;
    fwrite(&h, sizeof h, 1, f.f);
    for (int i = 0; i < n; i++) {
        void *data = host_side(s, &part[i]);
        if (data != part[i].at) s->o->get(data, part[i].at, part[i].bytes);
        fwrite(data, 1, part[i].bytes, f.f);
        hash = rng_hash(hash, hash64(data, part[i].bytes), part[i].bytes);
    }
    fwrite(&hash, sizeof hash, 1, f.f);
    return file_out_close(&f);
}

// True if the state was there, whole, and of this plan; a damaged one is reported and ignored.
static bool load(training *s, const fit_plan *p) {
    FILE *f = fopen(p->state, "rb");
    if (!f) return false;
    state_head h;
    piece part[8];
    uint64_t hash = 0, written = 0;
    bool ok = fread(&h, sizeof h, 1, f) == 1 && memcmp(h.magic, "fitnet1", 8) == 0 &&
              memcmp(h.key, p->key, sizeof h.key) == 0 && h.epochs == p->epochs && h.best == (s->best != NULL);
    const int n = ok ? pieces_of(s, p->epochs, h.finished, part) : 0;
    if (ok) hash = hash64(&h, sizeof h);
    for (int i = 0; ok && i < n; i++) {
        void *data = host_side(s, &part[i]);
        ok = fread(data, 1, part[i].bytes, f) == part[i].bytes;
        if (ok) hash = rng_hash(hash, hash64(data, part[i].bytes), part[i].bytes);
        if (ok && data != part[i].at) s->o->put(part[i].at, data, part[i].bytes);
    }
    ok = ok && fread(&written, sizeof written, 1, f) == 1 && fgetc(f) == EOF && hash == written;
    fclose(f);
    if (!ok) {
        log_info("%s: damaged or of another training, computed again", p->state);
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

// The net where the host can write it: on the CPU that which is trained.
static net host_net(const training *s) {
    net host = s->n;
    if (s->host) host.w = s->host;
    return host;
}

static void begin(training *s, const fit_plan *p) {
    const size_t bytes = s->n.floats * sizeof(float);
    s->o->zero(s->m, bytes);
    s->o->zero(s->v, bytes);
    s->epoch = s->kept = s->idle = 0;
    s->stopped = false;
    s->seconds = 0;
    net host = host_net(s);
    net_init(&host, p->seed);
    if (p->start) net_start(&host, p->start);
    for (int l = 0; l < p->layers; l++)
        for (int u = p->units[l], U = s->n.out / p->layers; u < U; u++) net_silence(&host, l * U + u);
    if (s->host) s->o->put(s->w, host.w, bytes);
}

// ---------------------------------------------------------------- steps
// The mean over examples of the losses of batches, which the device has from here on.
static double mean_loss(training *s, const fit_plan *p, int count) {
    const size_t steps = (size_t)(count + p->batch - 1) / (size_t)p->batch;
    double sum = 0;
    s->o->get(s->loss, s->losses, steps * sizeof *s->loss);
    for (int i = 0; i < count; i += p->batch)
        sum += (count - i < p->batch ? count - i : p->batch) * s->loss[i / p->batch];
    return sum / count;
}

// Rows of a list from i on, as many as a batch takes; none after its end.
typedef struct {
    const int *row;
    int n;
} batch;
static batch batch_at(const fit_plan *p, const int *row, int count, int i) {
    const int left = i < count ? count - i : 0;
    return (batch){left ? row + i : NULL, left < p->batch ? left : p->batch};
}

// A batch is sent when the one before has been given to the device, which computes that while the host reads and the
// other comes.
static int send_batch(training *s, const fit_plan *p, batch b) {
    return b.n ? row_send(&p->from, &s->n, &s->k, &s->stage, b.row, b.n) : 0;
}
// The outputs of the batch that was sent. Returns its targets.
static const float *forward(training *s, const fit_plan *p, int B) {
    const float *t = row_take(&p->from, &s->n, &s->k, &s->stage, B);
    net_forward(&s->n, &s->k, B);
    return t;
}

static int evaluate(training *s, const fit_plan *p, const int *row, int count, double *loss) {
    if (send_batch(s, p, batch_at(p, row, count, 0))) return -1;
    for (int i = 0; i < count; i += p->batch) {
        const int B = batch_at(p, row, count, i).n;
        const float *t = forward(s, p, B);
        s->o->loss(s->losses + i / p->batch, NULL, s->k.y, t, p->loss, p->positive, (size_t)B * (size_t)s->n.out);
        if (send_batch(s, p, batch_at(p, row, count, i + p->batch))) return -1;
    }
    *loss = count ? mean_loss(s, p, count) : NAN;
    return 0;
}

// Pooled tokens, all numbers between 0 and 1, are nearly the same for every example: their mean is twenty times their
// deviation. Nets that begin with them as they are learn the noise of the mean and never what tells examples apart, so
// the value map begins with them standardised.
static int standardise(training *s, const fit_plan *p) {
    const size_t E = (size_t)s->n.in, bytes = s->n.floats * sizeof(float);
    double *mean = xcalloc(2 * E, sizeof *mean), *deviation = mean + E;
    float *c = xmalloc((size_t)p->batch * E * sizeof *c);
    int bad = send_batch(s, p, batch_at(p, p->train, p->n_train, 0));
    for (int i = 0; !bad && i < p->n_train; i += p->batch) {
        const int B = batch_at(p, p->train, p->n_train, i).n;
        forward(s, p, B);
        bad = send_batch(s, p, batch_at(p, p->train, p->n_train, i + p->batch));
        s->o->get(c, s->k.c, (size_t)B * E * sizeof *c);
        for (size_t at = 0; at < (size_t)B * E; at++) {
            mean[at % E] += (double)c[at] / p->n_train;
            deviation[at % E] += (double)c[at] * (double)c[at] / p->n_train;
        }
    }
    for (size_t e = 0; e < E; e++) {
        const double variance = deviation[e] - mean[e] * mean[e];
        deviation[e] = variance > 1e-12 ? sqrt(variance) : 1;
    }
    net host = host_net(s);
    if (s->host) s->o->get(host.w, s->w, bytes);
    if (!bad) net_start_pool(&host, mean, deviation);
    if (s->host) s->o->put(s->w, host.w, bytes);
    free(c);
    free(mean);
    return bad;
}

// With the batch that was sent, of B rows; sends the next. loss: device memory.
static int train_step(training *s, const fit_plan *p, long step, int B, double *loss, batch next) {
    const float *t = forward(s, p, B);
    s->o->loss(loss, s->k.dy, s->k.y, t, p->loss, p->positive, (size_t)B * (size_t)s->n.out);
    const double lr = cosine(p->lr, step, (long)p->epochs * steps_of(p));
    const net_update u = {.a = adamw_step(lr, p->decay, 0.9, 0.999, 1, step + 1), .m = s->m, .v = s->v};
    net_backward(&s->n, &s->k, B, &u);
    return send_batch(s, p, next);
}

static int train_epoch(training *s, const fit_plan *p) {
    rng r = rng_make(rng_hash(p->seed, (uint64_t)s->epoch, 0x6f72646572));
    rng_permutation(&r, s->order, p->n_train);
    for (int i = 0; i < p->n_train; i++) s->order[i] = p->train[s->order[i]];
    const long steps = steps_of(p);
    if (send_batch(s, p, batch_at(p, s->order, p->n_train, 0))) return -1;
    for (long k = 0; k < steps; k++) {
        const int i = (int)k * p->batch;
        if (train_step(s, p, s->epoch * steps + k, batch_at(p, s->order, p->n_train, i).n, s->losses + k,
                       batch_at(p, s->order, p->n_train, i + p->batch)))
            return -1;
        if (p->tick) p->tick(p->ctx, 1);
    }
    const double loss = mean_loss(s, p, p->n_train);
    if (!isfinite(loss))
        return err_set("training diverged in epoch %d: the loss is %g; use a smaller --lr", s->epoch + 1, loss);
    double *valid = &s->valid[s->epoch];
    if (evaluate(s, p, p->valid, p->n_valid, valid)) return -1;
    s->train[s->epoch++] = loss;
    s->idle++;
    if (!s->best || !(*valid >= s->kept_loss)) {
        s->kept = s->epoch;
        s->kept_loss = *valid;
        s->idle = 0;
        if (s->best) s->o->copy(s->best, s->w, s->n.floats * sizeof *s->w);
    }
    s->stopped = p->patience && p->n_valid && s->idle >= p->patience;
    return 0;
}

int fit_net(net *n, const fit_plan *p, fit_result *r) {
    training s;
    *r = (fit_result){0};
    if (training_new(&s, n, p)) return -1;
    int bad = 0;
    if (!p->state || !load(&s, p)) {
        begin(&s, p);
        s.kept_loss = NAN;
        if (n->kind == NET_POOL && p->start) bad = standardise(&s, p);
        if (!bad && s.best && p->start) {
            bad = evaluate(&s, p, p->valid, p->n_valid, &s.kept_loss);
            s.o->copy(s.best, s.w, s.n.floats * sizeof *s.w);
        }
    } else if (p->tick)
        p->tick(p->ctx, s.epoch * steps_of(p));
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
        s.o->get(n->w, s.best ? s.best : s.w, n->floats * sizeof *n->w);
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

// What a step of an estimate computes.
static batch sample(const fit_plan *p, int step) {
    const int B = batch_at(p, p->train, p->n_train, 0).n;
    return (batch){p->train + (p->n_train > B ? step * B % (p->n_train - B) : 0), B};
}

// A net costs its memory once (allocated, cleared, touched for the first time by the first step and the first copy),
// and every epoch its steps, the validation part and the copy of the best.
int fit_estimate(const net *shape, const fit_plan *p, double budget, double *seconds) {
    training s;
    const double begun = clock_s();
    if (training_new(&s, shape, p)) return -1;
    begin(&s, p);
    // measuring takes no more steps than training
    const long all = p->epochs * steps_of(p), most = all < 40 ? all : 40;
    const int B = sample(p, 0).n;
    double loss, start = begun, once = 0, epoch = 0;
    int bad = send_batch(&s, p, sample(p, 0)), steps = 0;
    for (; !bad && (steps < 4 || clock_s() - start < budget) && steps <= most; steps++) {
        bad = train_step(&s, p, 0, B, s.losses, sample(p, steps + 1));
        s.o->get(&loss, s.losses, sizeof loss);  // waits for the device
        if (steps) continue;
        if (s.best) s.o->copy(s.best, s.w, s.n.floats * sizeof *s.w);
        start = clock_s();
        once = start - begun;
    }
    if (!bad) epoch = (clock_s() - start) / (steps - 1) * p->n_train / B;
    if (!bad && p->n_valid) {
        const int some = p->n_valid < p->batch ? p->n_valid : p->batch;
        start = clock_s();
        bad = evaluate(&s, p, p->valid, some, &loss);
        epoch += (clock_s() - start) * p->n_valid / some;
    }
    if (!bad && s.best) {
        start = clock_s();
        s.o->copy(s.best, s.w, s.n.floats * sizeof *s.w);
        epoch += clock_s() - start;
    }
    *seconds = once + p->epochs * epoch;
    training_free(&s);
    return bad;
}
