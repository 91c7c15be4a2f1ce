// train_run - the nets of one criterion, one after the other, and the finished file of all criteria.
#include "documents.h"
#include "train.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------- one net
static predictor_info describe(const train_job *j, int c) {
    predictor_info a = j->about;
    a.criterion = j->criteria[c];
    a.has[UNIT_HEADS] = j->has[c][UNIT_HEADS];
    a.has[UNIT_NEURONS] = j->has[c][UNIT_NEURONS];
    return a;
}

static fit_plan plan_of(const train_job *j, unit_kind kind, int layer) {
    const predictor_info *a = &j->about;
    const train_kind *t = &j->kind[kind];
    const int U = predictor_units(a, kind);
    fit_plan p = {.o = j->device,
                  .from = {.ex = &j->ex, .model = &j->m, .whole = a->mode == MODE_COMPAT},
                  .train = train_rows(j, kind, PART_TRAIN),
                  .valid = train_rows(j, kind, PART_VALID),
                  .n_train = j->n_row[kind][PART_TRAIN],
                  .n_valid = j->n_row[kind][PART_VALID],
                  .loss = LOSS_MSE,
                  .batch = j->batch[kind],
                  .epochs = j->epochs[kind],
                  .patience = (int)j->o.early_stop,
                  .keep_last = a->mode == MODE_COMPAT,
                  .lr = j->o.lr,
                  .decay = 0.01,
                  .seed = rng_hash((uint64_t)j->o.seed, (uint64_t)kind, (uint64_t)layer),
                  .save_every = j->o.save_every};
    if (a->design != PREDICTOR_SEQUENCE) {
        const plane *x = &j->x[a->state[kind]];
        const int width = predictor_width(a, a->state[kind]);
        p.from.x = a->per_layer ? plane_slice(x, (layer - a->lag) * width, width) : *x;
    }
    const plane *target = a->design == PREDICTOR_LOWRANK ? &t->label : &t->target;
    p.from.t = a->per_layer ? plane_slice(target, layer * U, U) : *target;
    if (train_units(j, kind)) {
        p.units = train_units(j, kind) + (a->per_layer ? layer : 0);
        p.layers = a->per_layer ? 1 : a->L;
    }
    // a sound net begins as the static mean; the published ones, and DejaVu's without biases, as PyTorch does
    if (a->mode == MODE_SOUND && a->design != PREDICTOR_LOWRANK)
        p.start = t->mean + (a->per_layer ? (size_t)layer * (size_t)U : 0);
    if (a->design == PREDICTOR_LOWRANK) {
        p.loss = LOSS_BCE;
        p.positive = t->positive[layer];
    }
    return p;
}

static int nets_of(const predictor_info *a) { return a->per_layer ? a->L - a->lag : 1; }

long train_steps(const train_job *j, int c) {
    long steps = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        if (j->has[c][k])
            steps +=
                (long)nets_of(&j->about) * j->epochs[k] * ((j->n_row[k][PART_TRAIN] + j->batch[k] - 1) / j->batch[k]);
    return steps;
}

double train_bytes(const train_job *j, int c) {
    const predictor_info a = describe(j, c);
    double most = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!a.has[k]) continue;
        const fit_plan plan = plan_of(j, k, predictor_first(&a));
        net shape;
        predictor_shape(&shape, &a, k);
        const double bytes = (double)fit_bytes(&shape, &plan);
        most = bytes > most ? bytes : most;
    }
    return most;
}

int train_estimate(train_job *j, int c, double *seconds) {
    const predictor_info a = describe(j, c);
    *seconds = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        if (!a.has[k]) continue;
        const fit_plan plan = plan_of(j, k, predictor_first(&a));
        net shape;
        double one;
        predictor_shape(&shape, &a, k);
        if (fit_estimate(&shape, &plan, 0.5, &one)) return -1;
        *seconds += one * nets_of(&a);
    }
    predictor *p = predictor_new(&a, 1);
    double some = 0;
    const int most = 4, bad = train_measure(j, p, most, &some);
    const int tests = j->n_row[UNIT_HEADS][PART_TEST] > j->n_row[UNIT_NEURONS][PART_TEST]
                          ? j->n_row[UNIT_HEADS][PART_TEST]
                          : j->n_row[UNIT_NEURONS][PART_TEST];
    *seconds += some * tests / (tests < most ? tests : most);
    predictor_close(p);
    return bad;
}

// ---------------------------------------------------------------- one criterion
static char *part_path(const train_job *j, const char *criterion) { return xasprintf("%s/%s.h5", j->work, criterion); }
static char *state_path(const train_job *j, const char *criterion, unit_kind kind, int layer) {
    return xasprintf("%s/%s-%s-%03d.state", j->work, criterion, unit_names[kind], layer);
}

static int put_fit(store *s, const predictor_info *a, unit_kind kind, int layer, const fit_result *r) {
    char *group = predictor_group(a, a->criterion, kind, layer), *name = xasprintf("%s/loss", group);
    const long dim[2] = {r->epochs, 2};
    double *loss = xmalloc((size_t)r->epochs * 2 * sizeof *loss);
    for (int e = 0; e < r->epochs; e++) {
        loss[2 * e] = r->train[e];
        loss[2 * e + 1] = r->valid[e];
    }
    const int bad =
        store_put_doubles(s, name, 2, dim, loss) || store_put_text(s, name, "columns", "train,validation") ||
        store_put_number(s, group, "epoch_kept", r->best) || store_put_number(s, group, "seconds", r->seconds);
    free(loss);
    free(name);
    free(group);
    return bad ? -1 : 0;
}

static int put_criterion(const train_job *j, const predictor *p, fit_result *const fits[UNIT_KINDS]) {
    char *path = part_path(j, p->criterion);
    store *s = store_create_as(path, PREDICTOR_FORMAT);
    int bad = !s || store_put_text(s, "/", "settings", j->settings) ||
                      predictor_put_about(s, &p->about, j->m.file.hash) || predictor_put(s, p) ||
                      train_put_quality(j, s, p)
                  ? -1
                  : 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; !bad && p->net[k] && i < p->n; i++)
            bad = put_fit(s, &p->about, k, i + predictor_first(&p->about), &fits[k][i]);
    if (!bad)
        bad = store_commit(s);
    else
        store_close(s);
    free(path);
    return bad;
}

static int fit_one(train_job *j, predictor *p, unit_kind kind, int i, void (*tick)(void *, long), void *ctx,
                   fit_result *r) {
    const int layer = i + predictor_first(&p->about);
    // a training continues where it began: devices round otherwise
    char key[33],
        *text = xasprintf("%s%s %s %d%s", j->settings, p->criterion, unit_names[kind], layer,
                          j->device->host ? "" : " cuda"),
        *state = state_path(j, p->criterion, kind, layer);
    hash_bytes(key, text, strlen(text));
    fit_plan plan = plan_of(j, kind, layer);
    plan.state = state;
    plan.key = key;
    plan.tick = tick;
    plan.ctx = ctx;
    int bad = fit_net(&p->net[kind][i], &plan, r);
    if (bad) err_prefix("%s, %s, layer %d", p->criterion, unit_names[kind], layer);
    j->trained += r->examples;
    j->train_s += r->spent;
    free(state);
    free(text);
    return bad;
}

int train_criterion(train_job *j, int c, void (*tick)(void *, long), void *ctx) {
    const predictor_info a = describe(j, c);
    predictor *p = predictor_new(&a, 0);
    fit_result *fits[UNIT_KINDS] = {xcalloc((size_t)p->n, sizeof **fits), xcalloc((size_t)p->n, sizeof **fits)};
    int bad = 0;
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        for (int i = 0; !bad && p->net[k] && i < p->n; i++) bad = fit_one(j, p, k, i, tick, ctx, &fits[k][i]);
    double seconds;
    predictor_hash(p);
    if (!bad) bad = train_measure(j, p, j->ex.n, &seconds);
    if (!bad) bad = put_criterion(j, p, fits);
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        for (int i = 0; p->net[k] && i < p->n; i++) {
            char *state = state_path(j, p->criterion, k, i + predictor_first(&a));
            if (!bad) unlink(state);
            free(state);
            fit_result_free(&fits[k][i]);
        }
        free(fits[k]);
    }
    predictor_close(p);
    return bad;
}

// ---------------------------------------------------------------- the file
static int put_head(const train_job *j, store *s) {
    char date[UTC_DATE];
    utc_date(date);
    return predictor_put_about(s, &j->about, j->m.file.hash) || store_put_text(s, "/", "settings", j->settings) ||
                   store_put_text(s, "/", "features", j->feature_name) || store_put_text(s, "/", "store", j->o.store) ||
                   store_put_text(s, "/", "model", j->o.model) || store_put_text(s, "/", "command", j->command) ||
                   store_put_text(s, "/", "code", code_version()) || store_put_text(s, "/", "device", j->o.device) ||
                   store_put_text(s, "/", "date", date) || store_put_number(s, "/", "seed", (double)j->o.seed)
               ? -1
               : 0;
}

static int copy_criterion(store *to, const store *from, const char *criterion) {
    char *group = xasprintf("/predictors/%s", criterion);
    const int bad = store_has(to, group) ? 0 : store_copy(to, from, group);
    free(group);
    return bad;
}

int train_merge(train_job *j) {
    store *s = store_create_as(j->o.out, PREDICTOR_FORMAT), *old = NULL;
    int bad = s && put_head(j, s) == 0 ? documents_copy(s, j->in) : -1, n = 0;
    if (!bad && file_exists(j->o.out) && !(old = store_open_as(j->o.out, PREDICTOR_FORMAT, "bin/train"))) bad = -1;
    char **names = old ? store_list(old, "/predictors", &n) : NULL;
    for (int i = 0; !bad && i < n; i++) bad = copy_criterion(s, old, names[i]);
    for (int c = 0; !bad && c < j->n_criteria; c++) {
        char *path = part_path(j, j->criteria[c]);
        if (train_done(j, path, j->criteria[c])) {
            store *from = store_open_as(path, PREDICTOR_FORMAT, "bin/train");
            bad = from ? copy_criterion(s, from, j->criteria[c]) : -1;
            store_close(from);
        }
        free(path);
    }
    free(names);
    store_close(old);
    if (!bad)
        bad = store_commit(s);
    else
        store_close(s);
    return bad;
}
