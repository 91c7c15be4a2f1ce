// score_merge - the finished store from the old one and the part files.
#include "documents.h"
#include "moments.h"
#include "score.h"
#include "stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- attributes
static int put_attributes(const score_job *j, store *s, const char *command) {
    char date[UTC_DATE], *names = NULL, *made;
    size_t n;
    utc_date(date);
    FILE *f = open_memstream(&names, &n);
    for (int k = 0; k < j->n_crit; k++) fprintf(f, "%s%s", k ? "," : "", j->crit[k]->name);
    fclose(f);
    // a store that grew keeps the line of every command that made it
    char *before = j->old ? store_attr(j->old, "/", "made") : NULL;
    made = xasprintf("%s%s%s, code %s, device %s, %s", before ? before : "", before ? "\n" : "", command,
                     code_version(), j->o.device.name, date);
    int bad = 0;
    for (int i = 0; !bad && i < j->n_attr; i++)
        bad = j->attr[i].number ? store_put_number(s, "/", j->attr[i].key, strtod(j->attr[i].value, NULL))
                                : store_put_text(s, "/", j->attr[i].key, j->attr[i].value);
    bad = bad || store_put_text(s, "/", "model", j->o.model) || store_put_text(s, "/", "data", j->o.data) ||
          store_put_text(s, "/", "made", made) || store_put_text(s, "/", "code", code_version()) ||
          store_put_text(s, "/", "device", j->o.device.name) || store_put_text(s, "/", "date", date) ||
          store_put_text(s, "/", "criteria", names) || store_put_text(s, "/", "texts", mode_names[j->texts]) ||
          store_put_number(s, "/", "removal_neurons", j->removal_neurons) ||
          store_put_text(s, "/", "order", "by task as in METHOD 3.1, then by the seeded order of its documents");
    for (int t = 0; !bad && t < j->n_task; t++) {
        const score_task *task = &j->task[t];
        const char *key[4] = {"split", "files", "hash", "few_shot_hash"};
        char *group = xasprintf("/tasks/%s", task->name);
        for (int k = 0; !bad && k < 4; k++) bad = store_put_text(s, group, key[k], task->attr[k]);
        bad = bad || store_put_number(s, group, "considered", task->considered) ||
              store_put_number(s, group, "examples", task->n) || store_put_number(s, group, "skipped", task->skipped) ||
              store_put_number(s, group, "cut", task->cut);
        free(group);
    }
    free(made);
    free(before);
    free(names);
    return bad ? -1 : 0;
}

static int put_documents(const score_job *j, store *s) {
    int bad = 0;
    for (int t = 0; !bad && t < j->n_task; t++) {
        const score_task *task = &j->task[t];
        const bool own_pool = task->pool != &task->split;
        if (!task->asked)
            bad = documents_copy_task(s, j->old, task->name);
        else if (!task->seen)
            bad = documents_put_unknown(s, task->name);  // bench_score's are no documents
        else
            bad = documents_put(s, &task->split, task->seen);
        if (!bad && task->seen && own_pool) bad = documents_put(s, task->pool, task->pool_seen);
    }
    return bad;
}

static int put_formulas(const score_job *j, store *s) {
    int bad = 0;
    for (int i = 0; !bad && i < j->n_field; i++) {
        const score_field *f = &j->field[i];
        if (f->kind == FIELD_FEATURE)
            bad = store_put_text(s, f->dataset, "position",
                                 f->mode == MODE_COMPAT ? "the last token" : "the last token of the context");
        // removal of neurons: no example may ask for it
        if (f->kind != FIELD_SCORE || !store_has(s, f->dataset)) continue;
        const criterion *c = j->crit[f->what];
        const crit_mode *of = crit_mode_of(c, f->mode);
        const char *doc = f->unit == UNIT_HEADS ? of->heads_doc : of->neurons_doc;
        bad = store_put_text(s, f->dataset, "formula", doc ? doc : "") ||
              store_put_text(s, f->dataset, "about", c->about ? c->about : "");
    }
    return bad ? -1 : 0;
}

// ---------------------------------------------------------------- rows
static void note_loss(void *source, const float *exact, const float *stored, int L, int U) {
    score_source *s = source;
    const model_config *c = &s->j->model->c;
    size_t n = 0;
    double *a = xmalloc(2 * (size_t)L * (size_t)U * sizeof *a), *b = a + (size_t)L * (size_t)U;
    for (int l = 0; l < L; l++)
        for (int u = 0; u < model_units(c, l, s->field->unit); u++, n++) {
            a[n] = exact[(size_t)l * (size_t)U + (size_t)u];
            b[n] = stored[(size_t)l * (size_t)U + (size_t)u];
        }
    double rho = stats_spearman(a, b, n), overlap = stats_overlap(a, b, NULL, 1, (int)n, 0, 50, true);
    if (!isnan(rho)) {  // a constant row has no ranks to lose
        s->rho += rho;
        s->overlap += overlap;
        s->rho_least = s->rows ? fmin(s->rho_least, rho) : rho;
        s->overlap_least = s->rows ? fmin(s->overlap_least, overlap) : overlap;
        s->rows++;
    }
    free(a);
}

static int put_field(score_job *j, store *s, parts *p, const score_field *f) {
    int n = 0, *row = xmalloc((size_t)j->ex.n * sizeof *row), bad = 0;
    int64_t *old = xmalloc((size_t)j->ex.n * sizeof *old), *index = xmalloc((size_t)j->ex.n * sizeof *index);
    for (int i = 0; i < j->ex.n; i++) {
        if (f->some && !(j->class[i] & CLASS_WANTS_SOME)) continue;
        index[n] = row[n] = i;
        old[n] = score_missing(j, j->class[i], f) ? -1 : j->old_row[i];
        if (f->some && old[n] >= 0)  // rows of the dataset, not of the store
            for (int k = 0; k < j->n_old_index; k++)
                if (j->old_index[k] == j->old_row[i]) old[n] = k;
        n++;
    }
    score_source from = {.j = j, .field = f, .p = p, .row = row};
    store_rows rows = {f->dataset,       n,     j->model->c.L, f->U, score_in_16_bits(j, f),
                       score_source_row, &from, j->old,        old,  score_units(j, f)};
    if (n) bad = store_put_rows(s, &rows, j->o.store_type == DT_F16 ? note_loss : NULL);
    if (n && !bad && f->some) {
        char *name = xasprintf("%.*sindex", (int)(strrchr(f->dataset, '/') + 1 - f->dataset), f->dataset);
        bad = store_put_int64(s, name, n, index);
        free(name);
    }
    if (!bad && from.rows)
        printf("16 bit: %-32s rank correlation %.6f (lowest %.6f), top half %.4f (lowest %.4f)\n", f->dataset,
               from.rho / (double)from.rows, from.rho_least, from.overlap / (double)from.rows, from.overlap_least);
    free(index);
    free(old);
    free(row);
    return bad;
}

// ---------------------------------------------------------------- task-level criteria
static int put_plane(const score_job *j, store *s, const char *group, const char *kind, int U, const int *units,
                     const float *values, const char *doc) {
    char *name = xasprintf("%s/%s", group, kind);
    long dim[2] = {j->model->c.L, U};
    int bad = 0;
    for (long i = 0; !bad && i < dim[0] * dim[1]; i++)
        if (!isfinite(values[i]) && (!units || i % U < units[i / U]))
            bad = err_set("%s: layer %ld, unit %ld is %g; the model or the criterion is broken", name, i / U, i % U,
                          (double)values[i]);
    bad = bad || store_put_floats(s, name, 2, dim, values) || store_put_text(s, name, "formula", doc ? doc : "");
    free(name);
    return bad ? -1 : 0;
}

// ---------------------------------------------------------------- moments
static int put_squares(score_job *j, store *s, const score_field *f) {
    if (f->old) return store_copy(s, j->old, f->dataset);
    int bad = 0;
    for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++) {
        const long dim[2] = {j->model->c.L, (long)moments_width(&j->model->c, kind)};
        char *name = xasprintf("%s/%s", f->dataset, unit_names[kind]);
        double *squares = moments_squares(j->model, kind);
        bad = store_put_doubles(s, name, 2, dim, squares);
        free(squares);
        free(name);
    }
    return bad;
}

// The moments of a task's examples: what the old store has pooled, then example by example in their order.
static int pool_task(score_job *j, parts *p, const score_stage *of, const char *group, moment_set *m) {
    const model_config *c = &j->model->c;
    const score_field *f = j->field;
    const score_task *task = &j->task[of->task];
    const size_t A = moments_width(c, UNIT_HEADS), columns = A + (size_t)c->F;
    while (f->kind != FIELD_MOMENTS) f++;
    double *own = xmalloc(score_field_bytes(j, f));
    const int from = f->old ? task->n_old : 0;
    int bad = from ? moments_read(m, j->old, group) : 0;
    for (int row = task->first + from; !bad && row < task->first + task->n; row++) {
        const double T = (double)(j->ex.offset[row + 1] - j->ex.offset[row]);
        bad = parts_read(p, row, (int64_t)score_field_at(j, j->class[row], f), score_field_bytes(j, f), own);
#pragma omp parallel for schedule(static)
        for (int l = 0; l < c->L; l++)
            for (size_t i = 0; i < columns; i++) {
                const unit_kind kind = i < A ? UNIT_HEADS : UNIT_NEURONS;
                const size_t at = (size_t)l * moments_width(c, kind) + (kind == UNIT_HEADS ? i : i - A);
                const double *x = own + 2 * ((size_t)l * columns + i);
                moments_pool(&m->mean[kind][at], &m->variance[kind][at], m->tokens, x[0], x[1], T);
            }
        m->tokens += T;
    }
    free(own);
    return bad;
}

static int put_pooled(score_job *j, store *s, parts *p, const score_stage *of, const char *group) {
    const model_config *c = &j->model->c;
    const criterion *crit = j->crit[of->crit];
    moment_set m;
    moments_alloc(&m, c->L, (int[]){(int)moments_width(c, UNIT_HEADS), c->F});
    int bad = pool_task(j, p, of, group, &m);
    for (unit_kind kind = UNIT_HEADS; !bad && kind < UNIT_KINDS; kind++) {
        const int U = model_all_units(c, kind), D = kind == UNIT_HEADS ? c->D : 1;
        double *squares = moments_squares(j->model, kind), *wide = xmalloc((size_t)U * sizeof *wide);
        float *score = xmalloc((size_t)(c->L * U) * sizeof *score);
        for (int l = 0; l < c->L; l++) {
            const size_t row = (size_t)l * moments_width(c, kind);
            const int units = model_units(c, l, kind);
            crit->pooled(wide, &(crit_pooled){units, D, m.variance[kind] + row, squares + row});
            for (int u = 0; u < U; u++) score[l * U + u] = u < units ? (float)wide[u] : NAN;
            for (size_t i = (size_t)(units * D); i < moments_width(c, kind); i++)
                m.mean[kind][row + i] = m.variance[kind][row + i] = NAN;
        }
        bad = put_plane(j, s, group, unit_names[kind], U, model_units_left(c, kind), score,
                        kind == UNIT_HEADS ? crit->sound.heads_doc : crit->sound.neurons_doc);
        free(score);
        free(wide);
        free(squares);
    }
    if (!bad) bad = moments_write(&m, s, group);
    moments_free(&m);
    return bad;
}

static int put_stage(score_job *j, store *s, parts *p, const score_stage *of) {
    const model_config *c = &j->model->c;
    const task_stage *stage = crit_mode_of(j->crit[of->crit], of->mode)->task;
    char *group = score_stage_group(j, of);
    int bad = 0;
    if (of->said)
        bad = score_put_stage_none(j, s, of, of->said);
    else if (of->copy)
        bad = store_copy(s, j->old, group);
    else if (j->crit[of->crit]->pooled)
        bad = put_pooled(j, s, p, of, group);
    else if (of->n == 0) {
        const char *why = of->why ? of->why : "too few rows";
        printf("%s%s: no score: %s\n", j->task[of->task].name, of->mode == MODE_COMPAT ? " (compat)" : "", why);
        bad = score_put_stage_none(j, s, of, why);
    } else {
        float *heads = xcalloc((size_t)c->L * (size_t)c->H, sizeof *heads),
              *neurons = xcalloc((size_t)c->L * (size_t)c->F, sizeof *neurons);
        bad = score_task_stage(j, of, p, heads, neurons);
        if (!bad && stage->heads) bad = put_plane(j, s, group, "heads", c->H, c->heads, heads, stage->heads_doc);
        if (!bad && stage->neurons)
            bad = put_plane(j, s, group, "neurons", c->F, c->neurons, neurons, stage->neurons_doc);
        free(neurons);
        free(heads);
    }
    free(group);
    return bad;
}

int score_merge(score_job *j, parts *p, const char *command) {
    for (int i = 0; i < j->ex.n; i++)
        if (score_missing(j, j->class[i], &j -> field[0]) && parts_read(p, i, 0, sizeof(double), &j->ex.loss[i]))
            return -1;
    store *s = store_create(j->o.out);
    if (!s) return -1;
    int bad = put_attributes(j, s, command) || put_documents(j, s) || store_put_examples(s, &j->ex);
    for (int i = 1; !bad && i < j->n_field; i++)
        bad = j->field[i].kind == FIELD_MOMENTS ? put_squares(j, s, &j->field[i]) : put_field(j, s, p, &j->field[i]);
    if (!bad) bad = put_formulas(j, s);
    for (int i = 0; !bad && i < j->n_stage; i++) bad = put_stage(j, s, p, &j->stage[i]);
    if (bad) {
        store_close(s);
        return -1;
    }
    if (j->old && (store_has(j->old, "/aggregates") || store_has(j->old, "/aggregates_compat")))
        log_info(
            "the aggregates of the store are dropped, since its examples or criteria change; run bin/aggregate again");
    return store_commit(s);
}
