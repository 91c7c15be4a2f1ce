// train_report - the finished predictor on the test part, beside three that know nothing of the example's features. The
// static mean is the mean target of all training examples; the task mean, the stronger baseline, is that of the
// training examples of the example's own task. The third gives every unit of a layer the l2 norm of what the layer's
// heads (the residual entering it) or neurons (the residual after attention) read: it shows how much of the joint
// numbers is the difference between layers. Predictions go through predictor_all and predictor_layer, as in use.
#include "train.h"
#include "minmax.h"
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

const char *const train_by[BY_ALL] = {"predictor", "static_mean", "task_mean", "input_norm"};

// ---------------------------------------------------------------- predictions
// Scores of one row, heads [L, H] and neurons [L, F] (NULL: not wanted). x: room for the inputs.
static int predict(const train_job *j, predictor *p, int row, double *const out[UNIT_KINDS], float *x) {
    const predictor_info *a = &p->about;
    if (a->design == PREDICTOR_SEQUENCE) {
        const row_source from = {.ex = &j->ex, .whole = a->mode == MODE_COMPAT};
        const int T = row_tokens(&from, row);
        predictor_embed(x, &j->m, j->ex.tokens + j->ex.offset[row], T);
        const float *const in[UNIT_KINDS] = {x, x};
        predictor_all(p, in, T, out[UNIT_HEADS], out[UNIT_NEURONS]);
        return 0;
    }
    float *at[UNIT_KINDS] = {x, x + j->x[a->state[UNIT_HEADS]].width};
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
        if (out[k] && plane_read(&j->x[a->state[k]], row, at[k])) return -1;
    if (!a->per_layer) {
        predictor_all(p, (const float *const[UNIT_KINDS]){at[UNIT_HEADS], at[UNIT_NEURONS]}, 0, out[UNIT_HEADS],
                      out[UNIT_NEURONS]);
        return 0;
    }
    for (int l = 0; l < a->L; l++) {
        const size_t from = (size_t)(l < a->lag ? 0 : l - a->lag);
        const float *in[UNIT_KINDS];
        for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++)
            in[k] = at[k] + from * (size_t)predictor_width(a, a->state[k]);
        predictor_layer(p, l, in, out[UNIT_HEADS] ? out[UNIT_HEADS] + (size_t)l * (size_t)a->H : NULL,
                        out[UNIT_NEURONS] ? out[UNIT_NEURONS] + (size_t)l * (size_t)a->F : NULL);
    }
    return 0;
}

// Room for the inputs of a prediction, or for a row of targets.
static float *input_room(const train_job *j) {
    const size_t L = (size_t)j->about.L,
                 inputs = L * (size_t)(predictor_width(&j->about, j->about.state[0]) +
                                       predictor_width(&j->about, j->about.state[1])),
                 units = L * (size_t)(j->about.F > j->about.H ? j->about.F : j->about.H);
    size_t floats = inputs > units ? inputs : units;
    const row_source from = {.ex = &j->ex, .whole = j->about.mode == MODE_COMPAT};
    for (int i = 0; j->about.design == PREDICTOR_SEQUENCE && i < j->ex.n; i++)
        if ((size_t)row_tokens(&from, i) * (size_t)j->about.E > floats)
            floats = (size_t)row_tokens(&from, i) * (size_t)j->about.E;
    return xaligned(floats * sizeof(float));
}

// ---------------------------------------------------------------- quality
enum { BLOCK = 8 };  // examples in memory that are compared at a time, or as many as there are threads

// What is compared of one example: predictions and truth [L, U].
typedef struct {
    double *value[BY_ALL], *truth;
    quality q[BY_ALL];
} sample;

static int load_sample(const train_job *j, predictor *p, unit_kind k, int row, sample *s, float *x) {
    const int L = j->about.L, U = predictor_units(&j->about, k), n = L * U;
    double *out[UNIT_KINDS] = {NULL};
    out[k] = s->value[BY_PREDICTOR];
    if (predict(j, p, row, out, x) || plane_read(&j->kind[k].target, row, x)) return -1;
    for (int i = 0; i < n; i++) s->truth[i] = (double)x[i];
    if (plane_read(&j->norm[k], row, x)) return -1;
    // in the space of the targets: of the layers together, or, within a layer, one constant
    if (j->about.target_layer)
        memset(x, 0, (size_t)L * sizeof *x);
    else
        minmax(x, x, (size_t)L);
    for (int i = 0; i < n; i++) s->value[BY_NORM][i] = (double)x[i / U];
    memcpy(s->value[BY_STATIC], j->kind[k].mean, (size_t)n * sizeof(double));
    memcpy(s->value[BY_TASK], j->kind[k].task_mean + (size_t)j->task[row] * (size_t)n, (size_t)n * sizeof(double));
    return 0;
}

static void compare(const train_job *j, unit_kind k, sample *s) {
    const int L = j->about.L, U = predictor_units(&j->about, k);
    for (int b = 0; b < BY_ALL; b++)
        quality_of(&s->q[b], s->value[b], s->truth, L, U, train_units(j, k), predictor_first(&j->about),
                   (int)j->o.dense_layers);
    // labels have no space in common with classifiers' logits
    if (j->about.design == PREDICTOR_LOWRANK) s->q[BY_PREDICTOR].mse = NAN;
}

static void add_gain(stats_moments gain[UNIT_KINDS], const quality *p, const quality *m) {
    if (!p->undefined && !m->undefined) stats_add(&gain[0], p->joint - m->joint);
    if (p->constant < p->layers && m->constant < m->layers)
        stats_add(&gain[1],
                  p->within / (double)(p->layers - p->constant) - m->within / (double)(m->layers - m->constant));
}

static int measure(train_job *j, predictor *p, unit_kind k, int most, float *x) {
    train_kind *t = &j->kind[k];
    const int *row = train_rows(j, k, PART_TEST), all = j->n_row[k][PART_TEST], n = all < most ? all : most;
    const size_t units = (size_t)j->about.L * (size_t)predictor_units(&j->about, k), each = (BY_ALL + 1) * units;
    const int threads = omp_get_max_threads(), block = threads > BLOCK ? threads : BLOCK;
    double *values = xmalloc((size_t)block * each * sizeof *values);
    sample *s = xcalloc((size_t)block, sizeof *s);
    for (int i = 0; i < block; i++) {
        for (int b = 0; b < BY_ALL; b++) s[i].value[b] = values + (size_t)i * each + (size_t)b * units;
        s[i].truth = values + (size_t)i * each + BY_ALL * units;
    }
    memset(t->q, 0, sizeof t->q);
    memset(t->gain, 0, sizeof t->gain);
    int bad = 0;
    for (int at = 0; !bad && at < n; at += block) {
        const int some = n - at < block ? n - at : block;
        for (int i = 0; !bad && i < some; i++) bad = load_sample(j, p, k, row[at + i], &s[i], x);
        if (bad) break;
#pragma omp parallel for schedule(dynamic)
        for (int i = 0; i < some; i++) compare(j, k, &s[i]);
        for (int i = 0; i < some; i++) {
            for (int b = 0; b < BY_ALL; b++) quality_add(&t->q[b], &s[i].q[b]);
            for (int g = 0; g < GAINS; g++) add_gain(t->gain[g], &s[i].q[BY_PREDICTOR], &s[i].q[BY_STATIC + g]);
        }
    }
    for (int b = 0; b < BY_ALL; b++) quality_mean(&t->q[b]);
    free(s);
    free(values);
    return bad;
}

int train_measure(train_job *j, predictor *p, int most, double *seconds) {
    const double start = clock_s();
    float *x = input_room(j);
    int bad = 0;
    for (unit_kind k = UNIT_HEADS; !bad && k < UNIT_KINDS; k++)
        if (p->net[k]) bad = measure(j, p, k, most, x);
    free(x);
    *seconds = clock_s() - start;
    return bad;
}

// ---------------------------------------------------------------- in the file
// Attribute of a kind's group: the gain over a baseline, or its standard error. Caller frees.
static char *gain_name(int over, bool within, bool error) {
    return xasprintf("gain_%s_%s%s", train_by[BY_STATIC + over], within ? "within" : "joint", error ? "_stderr" : "");
}

static int put_gains(store *s, const char *group, const stats_moments gain[GAINS][2]) {
    int bad = 0;
    for (int g = 0; !bad && g < GAINS; g++)
        for (int within = 0; !bad && within < 2; within++) {
            const stats_moments *m = &gain[g][within];
            char *name = gain_name(g, within, false), *error = gain_name(g, within, true);
            bad = store_put_number(s, group, name, m->n ? m->mean : NAN) ||
                  store_put_number(s, group, error, sqrt(stats_variance(m) / (double)m->n));
            free(error);
            free(name);
        }
    return bad;
}

int train_put_quality(const train_job *j, store *s, const predictor *p) {
    double macs[UNIT_KINDS], bytes[UNIT_KINDS];
    predictor_cost(p, macs, bytes);
    int bad = 0;
    for (unit_kind k = UNIT_HEADS; !bad && k < UNIT_KINDS; k++) {
        if (!p->net[k]) continue;
        const train_kind *t = &j->kind[k];
        char *group = xasprintf("/predictors/%s/%s", p->criterion, unit_names[k]),
             *name = xasprintf("%s/quality", group),
             *by = xasprintf("%s,%s,%s,%s", train_by[BY_PREDICTOR], train_by[BY_STATIC], train_by[BY_TASK],
                             train_by[BY_NORM]);
        const long dim[2] = {BY_ALL, QUALITY_COLUMNS};
        double rows[BY_ALL * QUALITY_COLUMNS];
        for (int b = 0; b < BY_ALL; b++) quality_row(&t->q[b], rows + b * QUALITY_COLUMNS);
        bad = store_put_doubles(s, name, 2, dim, rows) || store_put_text(s, name, "columns", quality_columns) ||
              store_put_text(s, name, "rows", by) || store_put_number(s, group, "parameters", bytes[k] / 4) ||
              store_put_number(s, group, "multiply_adds", macs[k]) ||
              store_put_number(s, group, "test_examples", (double)t->q[0].examples) ||
              store_put_number(s, group, "test_layers_constant", (double)t->q[0].constant) ||
              store_put_number(s, group, "test_layers", (double)t->q[0].layers) ||
              store_put_number(s, group, "test_examples_constant", (double)t->q[0].undefined) ||
              store_put_number(s, group, "test_examples_without_task_mean", train_without_task(j, k)) ||
              put_gains(s, group, t->gain);
        free(by);
        free(name);
        free(group);
    }
    return bad ? -1 : 0;
}

// ---------------------------------------------------------------- table
void train_print_head(const train_job *j) {
    const bool layer = j->about.target_layer;
    printf("\n%s, target %s: means over the test part (%d examples). rho: Spearman, over all units together and within "
           "layers. Predicted\n"
           "without the example's features: static: by the mean of the training part; task: by the mean of its "
           "examples of the same task; norm: by the\n"
           "l2 norm of the layer's input. kept: top-half overlap within layers. Gains: rho %s above that of each mean, "
           "with standard errors;\n"
           "what does not exceed two of them is no contextual predictor, and over the task mean, none that knows more "
           "than the task.\n",
           predictor_design_names[j->about.design], layer ? "layer" : "global", j->n_row[UNIT_HEADS][PART_TEST],
           layer ? "within layers" : "over all units");
    // sound: both kinds have the same parts
    const unit_kind last = j->about.mode == MODE_COMPAT ? UNIT_NEURONS : UNIT_HEADS;
    for (unit_kind k = UNIT_HEADS; k <= last; k++) {
        const int n = train_without_task(j, k);
        if (n)
            printf(
                "%d test examples of %s are of tasks without training examples: their task mean is the static mean.\n",
                n, j->about.mode == MODE_COMPAT ? unit_names[k] : "both kinds");
    }
    printf("%-10s %-8s %10s %5s %8s | %6s %6s %6s %6s | %6s %6s %6s | %6s %6s %6s | %-16s | %s\n", "criterion", "units",
           "parameters", "epoch", "MSE", "rho", "static", "task", "norm", "within", "static", "task", "kept", "static",
           "task", "gain over static", "over task");
}

static double attribute(const store *s, const char *group, const char *key) {
    char *text = store_attr(s, group, key);
    const double x = text ? strtod(text, NULL) : NAN;
    free(text);
    return x;
}

static void cell(const char *format, double x, int width) {
    if (isfinite(x))
        printf(format, width, x);
    else
        printf(" %*s", width, "-");
}

// What a gain says of a predictor; NULL: that it is better. Of one test document, or none, there is no standard error.
static const char *gain_verdict(double gain, double se) {
    if (!isfinite(gain)) return "undefined: no gain over";
    if (!isfinite(se)) return "TOO FEW test documents to compare with";
    if (gain > 2 * se) return NULL;
    return gain < -2 * se ? "WORSE than" : "NO BETTER than";
}

static void print_gain(double gain, double se) {
    char text[48] = "-";
    if (isfinite(gain)) snprintf(text, sizeof text, isfinite(se) ? "%+.3f +- %.3f" : "%+.3f", gain, se);
    printf(" | %-15s", text);
}

static void print_gains(const store *s, const char *group, bool within) {
    char *said = xstrdup("");
    for (int g = 0; g < GAINS; g++) {
        char *name = gain_name(g, within, false), *error = gain_name(g, within, true);
        const double gain = attribute(s, group, name), se = attribute(s, group, error);
        const char *verdict = gain_verdict(gain, se);
        print_gain(gain, se);
        if (verdict) {
            char *longer = xasprintf("%s%s%s the %s mean", said, *said ? ", " : " ", verdict,
                                     g == OVER_STATIC ? "static" : "task");
            free(said);
            said = longer;
        }
        free(error);
        free(name);
    }
    printf("%s\n", said);
    free(said);
}

int train_print_row(const train_job *j, const store *s, const char *criterion) {
    for (unit_kind k = UNIT_HEADS; k < UNIT_KINDS; k++) {
        char *group = xasprintf("/predictors/%s/%s", criterion, unit_names[k]), *name = xasprintf("%s/quality", group);
        double q[BY_ALL][QUALITY_COLUMNS];
        const int middle = 3 + QUALITY_POINTS + 4;  // overlap within layers at 50 %
        int bad = store_has(s, group) && store_read_double(s, name, 0, BY_ALL, q[0]);
        if (!bad && store_has(s, group)) {
            printf("%-10s %-8s %10.3g", criterion, unit_names[k], attribute(s, group, "parameters"));
            cell(" %*.0f", attribute(s, group, "epoch_kept"), 5);
            cell(" %*.5f", q[BY_PREDICTOR][0], 8);
            printf(" |");
            for (int b = 0; b < BY_ALL; b++) cell(" %*.3f", q[b][1], 6);
            printf(" |");
            for (int b = 0; b < BY_NORM; b++) cell(" %*.3f", q[b][2], 6);
            printf(" |");
            for (int b = 0; b < BY_NORM; b++) cell(" %*.3f", q[b][middle], 6);
            print_gains(s, group, j->about.target_layer);
        }
        free(name);
        free(group);
        if (bad) return -1;
    }
    return 0;
}

// ---------------------------------------------------------------- predictions file
typedef struct {
    const train_job *j;
    predictor *p;
    unit_kind kind;
    const int *row;
    float *x;
    double *out;
} prediction;

static int predict_row(void *ctx, long i, float *to) {
    prediction *f = ctx;
    const size_t U = (size_t)predictor_units(&f->j->about, f->kind), n = (size_t)f->j->about.L * U;
    double *out[UNIT_KINDS] = {NULL};
    out[f->kind] = f->out;
    if (predict(f->j, f->p, f->row[i], out, f->x)) return -1;
    for (size_t u = 0; u < n; u++)
        to[u] = (int)(u % U) < model_units(&f->j->m.c, (int)(u / U), f->kind) ? (float)out[f->kind][u] : NAN;
    return 0;
}

// Rows of the store that belong to a part. The training rows let a reader make the means that predictions are measured
// against.
static int put_rows_of(const train_job *j, store *to, const char *group, const char *name, unit_kind k,
                       split_part part) {
    const int *row = train_rows(j, k, part), n = j->n_row[k][part];
    char *dataset = xasprintf("%s/%s", group, name);
    int64_t *at = xmalloc((size_t)n * sizeof *at);
    for (int i = 0; i < n; i++) at[i] = row[i];
    const int bad = store_has(to, dataset) ? 0 : store_put_int64(to, dataset, n, at);
    free(at);
    free(dataset);
    return bad;
}

static int put_predictions(train_job *j, store *to, const char *criterion, float *x, double *out) {
    predictor *p = predictor_open(j->o.out, criterion, &j->m);
    if (!p) return -1;
    int bad = 0;
    for (unit_kind k = UNIT_HEADS; !bad && k < UNIT_KINDS; k++) {
        if (!p->net[k]) continue;
        const int *row = train_rows(j, k, PART_TEST), n = j->n_row[k][PART_TEST];
        // compat: neurons have a test part of their own
        const bool apart = k == UNIT_NEURONS && p->net[UNIT_HEADS] && n != j->n_row[UNIT_HEADS][PART_TEST];
        char *group = xasprintf("/predictions/%s", criterion), *name = xasprintf("%s/%s", group, unit_names[k]);
        bad = put_rows_of(j, to, group, apart ? "neurons_index" : "index", k, PART_TEST) ||
              put_rows_of(j, to, group, apart ? "neurons_train_index" : "train_index", k, PART_TRAIN);
        prediction f = {j, p, k, row, x, out};
        const store_rows rows = {.dataset = name,
                                 .n = n,
                                 .L = j->about.L,
                                 .U = predictor_units(&j->about, k),
                                 .get = predict_row,
                                 .ctx = &f,
                                 .units = train_units(j, k)};
        if (!bad) bad = store_put_rows(to, &rows, NULL);
        if (!bad) bad = store_put_text(to, group, "predictor", p->about.hash);
        free(name);
        free(group);
    }
    predictor_close(p);
    return bad;
}

int train_predictions(train_job *j, const store *from) {
    store *to = store_create_as(j->o.predictions, PREDICTIONS_FORMAT);
    if (!to) return -1;
    float *x = input_room(j);
    double *out =
        xmalloc((size_t)j->about.L * (size_t)(j->about.H > j->about.F ? j->about.H : j->about.F) * sizeof *out);
    int n, bad = store_put_text(to, "/", "store", j->o.store) || store_put_text(to, "/", "command", j->command) ||
                         store_put_text(to, "/", "settings", j->settings) ||
                         store_put_text(to, "/", "model_hash", j->m.file.hash)
                     ? -1
                     : 0;
    char **names = store_list(from, "/predictors", &n);
    for (int i = 0; !bad && i < n; i++) bad = put_predictions(j, to, names[i], x, out);
    free(names);
    free(out);
    free(x);
    if (!bad)
        bad = store_commit(to);
    else
        store_close(to);
    return bad;
}

// ---------------------------------------------------------------- loss curves
static int write_curve(const train_job *j, const store *from, const char *criterion, unit_kind kind, int layer,
                       FILE *f) {
    predictor_info a = j->about;
    char *group = predictor_group(&a, criterion, kind, layer), *name = xasprintf("%s/loss", group), where[16] = "";
    long dim[3];
    if (a.per_layer) snprintf(where, sizeof where, "%d", layer);
    int bad = store_shape(from, name, dim) == 2 ? 0 : -1;
    double *loss = bad ? NULL : xmalloc((size_t)(dim[0] * dim[1]) * sizeof *loss);
    if (!bad) bad = store_read_double(from, name, 0, dim[0], loss);
    for (long e = 0; !bad && e < dim[0]; e++) {
        fprintf(f, "%s,%s,%s,%ld,%.8g,", criterion, unit_names[kind], where, e + 1, loss[2 * e]);
        if (isfinite(loss[2 * e + 1])) fprintf(f, "%.8g", loss[2 * e + 1]);
        fprintf(f, "\n");
    }
    free(loss);
    free(name);
    free(group);
    return bad;
}

int train_curve(const train_job *j, const store *from) {
    file_out o = {0};
    if (file_out_open(&o, j->o.curve)) return -1;
    fprintf(o.f, "# %s\n# code %s\ncriterion,units,layer,epoch,train_loss,validation_loss\n", j->command,
            code_version());
    int n, bad = 0;
    char **names = store_list(from, "/predictors", &n);
    for (int i = 0; !bad && i < n; i++)
        for (unit_kind k = UNIT_HEADS; !bad && k < UNIT_KINDS; k++) {
            char *group = xasprintf("/predictors/%s/%s", names[i], unit_names[k]);
            const int last = j->about.per_layer ? j->about.L : predictor_first(&j->about) + 1;
            for (int l = predictor_first(&j->about); !bad && store_has(from, group) && l < last; l++)
                bad = write_curve(j, from, names[i], k, l, o.f);
            free(group);
        }
    free(names);
    if (bad)
        file_out_abandon(&o);
    else
        bad = file_out_close(&o);
    return bad;
}

// ---------------------------------------------------------------- numbers of every predictor in the file
static void write_costs_and_gains(FILE *f, const store *from, const char *group, bool within) {
    fprintf(f, ",%.10g,%.10g", attribute(from, group, "parameters"), attribute(from, group, "multiply_adds"));
    for (int g = 0; g < GAINS; g++) {
        char *name = gain_name(g, within, false), *error = gain_name(g, within, true);
        fprintf(f, ",%.8g,%.4g", attribute(from, group, name), attribute(from, group, error));
        free(error);
        free(name);
    }
    fputc('\n', f);
}

int train_metrics(const train_job *j, const store *from) {
    const predictor_info *a = &j->about;
    file_out o = {0};
    if (file_out_open(&o, j->o.metrics)) return -1;
    fprintf(o.f,
            "# %s\n# code "
            "%s\ncriterion,units,design,target,lag,hidden,seed,by,%s,parameters,multiply_adds,gain_static_mean,gain_"
            "static_mean_stderr,gain_task_mean,gain_task_mean_stderr\n",
            j->command, code_version(), quality_columns);
    int n, bad = 0;
    char **names = store_list(from, "/predictors", &n);
    for (int i = 0; !bad && i < n; i++)
        for (unit_kind k = UNIT_HEADS; !bad && k < UNIT_KINDS; k++) {
            char *group = xasprintf("/predictors/%s/%s", names[i], unit_names[k]),
                 *name = xasprintf("%s/quality", group);
            double q[BY_ALL][QUALITY_COLUMNS];
            const bool there = store_has(from, group);
            if (there) bad = store_read_double(from, name, 0, BY_ALL, q[0]);
            for (int b = 0; there && !bad && b < BY_ALL; b++) {
                fprintf(o.f, "%s,%s,%s,%s,%d,%d,%ld,%s", names[i], unit_names[k], predictor_design_names[a->design],
                        a->target_layer ? "layer" : "global", a->lag, a->hidden[k], j->o.seed, train_by[b]);
                for (int c = 0; c < QUALITY_COLUMNS; c++)
                    if (isfinite(q[b][c]))
                        fprintf(o.f, ",%.8g", q[b][c]);
                    else
                        fputc(',', o.f);
                if (b == BY_PREDICTOR)
                    write_costs_and_gains(o.f, from, group, a->target_layer);
                else
                    fputs(",,,,,,\n", o.f);
            }
            free(name);
            free(group);
        }
    free(names);
    if (bad)
        file_out_abandon(&o);
    else
        bad = file_out_close(&o);
    return bad;
}
