// score_run - batches through the probe into part files, what that will cost, and the task-level criteria.
#include "score.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---------------------------------------------------------------- one batch
typedef score_engine engine;

static void engine_start(score_job *j, engine *e, int class) {
    e->class = class;
    e->index = xcalloc((size_t)j->n_crit + 1, sizeof *e->index);
    score_probe_plan(j, class, &e->plan, e->index);
    e->probe = probe_new(j->model, &e->plan, j->max_tokens);
}

static void engine_stop(engine *e) {
    probe_free(e->probe);
    free(e->plan.crit);
    free(e->index);
    *e = (engine){0};
}

static uint64_t key_of(const score_job *j, int row) {
    const char *task = j->ex.task[row], *id = j->ex.id[row];
    return rng_hash(hash64(task, strlen(task)), hash64(id, strlen(id)), 0);
}

// Points the results of one example into its record.
static void aim(const score_job *j, const engine *e, int row, uint8_t *record, probe_result *out, float **planes) {
    int n = e->plan.n_crit;
    *out = (probe_result){.heads = {planes, planes + n}, .neurons = {planes + 2 * n, planes + 3 * n}};
    for (int i = 0; i < j->n_field; i++) {
        const score_field *f = &j->field[i];
        if (f->kind == FIELD_LOSS || !score_missing(j, j->class[row], f)) continue;
        float *to = (float *)(record + score_field_at(j, j->class[row], f));
        int k = 0;
        if (f->kind == FIELD_MOMENTS) {
            out->moments = (double *)(void *)to;
            continue;
        }
        if (f->kind == FIELD_FEATURE) {
            out->features[f->mode][f->what] = to;
            continue;
        }
        while (e->index[k] != f->what) k++;
        probe_scores(out, f->unit, f->mode)[k] = to;
    }
}

static int named(const score_job *j, const score_batch *b) {
    int k = 0;
    if (sscanf(err_get(), "example %d of the batch", &k) != 1 || k < 0 || k >= b->n) k = 0;
    int row = j->order[b->row + k];
    return err_prefix("%s, example %s", j->ex.task[row], j->ex.id[row]);
}

// Where the numbers of a side row are in its record.
typedef struct {
    size_t x, neurons, du;  // bytes; da is at 0
} side_places;
static side_places places_of(const model *m) {
    const size_t L = (size_t)m->c.L, x = L * (size_t)(m->c.H * m->c.D) * sizeof(float),
                 neurons = x + L * (size_t)m->c.E * sizeof(float);
    return (side_places){x, neurons, neurons + L * (size_t)m->c.F * sizeof(float)};
}

static probe_row side_row(const score_job *j, int example, int position, uint8_t *side) {
    const side_places at = places_of(j->model);
    probe_row r = {.example = example, .position = position, .da = (float *)side, .x = (float *)(side + at.x)};
    if (j->model->arch.gated)
        r.dg = (float *)(side + at.neurons), r.du = (float *)(side + at.du);
    else
        r.active = side + at.neurons;
    return r;
}

// The records of a batch, one after the other in *payload (caller frees), and their index in record [b->n].
static int run_batch(score_job *j, engine *e, const score_batch *b, uint8_t **payload, size_t *bytes,
                     parts_record *record) {
    const int n = b->n, n_planes = 4 * e->plan.n_crit;
    const size_t side_bytes = score_side_bytes(j);
    int n_side = 0;
    *bytes = 0;
    for (int i = 0; i < n; i++) {
        int row = j->order[b->row + i];
        record[i] = (parts_record){row, (int64_t)*bytes, (int64_t)score_record_bytes(j, row)};
        *bytes += ((size_t)record[i].bytes + 7) / 8 * 8;  // doubles are aligned in every record
        n_side += j->side_first[row + 1] - j->side_first[row];
    }
    *payload = xcalloc(1, *bytes);
    probe_example *ex = xcalloc((size_t)n, sizeof *ex);
    probe_result *out = xcalloc((size_t)n, sizeof *out);
    probe_row *rows = xcalloc((size_t)n_side, sizeof *rows);
    float **planes = xcalloc((size_t)n * (size_t)n_planes, sizeof *planes);
    for (int i = 0, s = 0; i < n; i++) {
        int row = j->order[b->row + i], sides = j->side_first[row + 1] - j->side_first[row];
        uint8_t *at = *payload + record[i].from, *side = at + (size_t)record[i].bytes - (size_t)sides * side_bytes;
        ex[i] = (probe_example){.tokens = j->ex.tokens + j->ex.offset[row],
                                .n = (int)(j->ex.offset[row + 1] - j->ex.offset[row]),
                                .context = j->ex.context[row],
                                .key = key_of(j, row)};
        aim(j, e, row, at, &out[i], planes + (size_t)i * (size_t)n_planes);
        for (int k = 0; k < sides; k++, side += side_bytes)
            rows[s++] = side_row(j, i, j->side[j->side_first[row] + k], side);
    }
    int bad = probe_run(e->probe, ex, n, out, rows, n_side) ? named(j, b) : 0;
    for (int i = 0; !bad && i < n; i++)
        if (score_missing(j, b->class, &j->field[0]))
            memcpy(*payload + record[i].from, &out[i].loss, sizeof out[i].loss);
    free(planes);
    free(rows);
    free(out);
    free(ex);
    if (bad) {
        free(*payload);
        *payload = NULL;
    }
    return bad;
}

static bool batch_done(const score_job *j, const parts *p, const score_batch *b) {
    for (int i = 0; i < b->n; i++)
        if (!parts_has(p, j->order[b->row + i])) return false;
    return true;
}

int score_step(score_job *j, engine *e, int batch, parts *p) {
    const score_batch *b = &j->batch[batch];
    parts_record *record = xcalloc((size_t)b->n, sizeof *record);
    uint8_t *payload = NULL;
    size_t bytes;
    if (!e->probe || e->class != b->class) {
        engine_stop(e);
        engine_start(j, e, b->class);
    }
    int bad = run_batch(j, e, b, &payload, &bytes, record) || parts_add(p, record, b->n, payload, bytes) ? -1 : 0;
    free(payload);
    free(record);
    return bad;
}

void score_engine_free(engine *e) { engine_stop(e); }

int score_run(score_job *j, parts *p, int rank, int ranks) {
    engine e = {0};
    progress bar;
    double spent[4] = {0};
    long done = 0;
    int bad = 0;
    progress_begin(&bar, "examples", j->n_order);
    for (int i = 0; !bad && i < j->n_batch; i++) {
        if (i % ranks == rank && !batch_done(j, p, &j->batch[i])) bad = score_step(j, &e, i, p);
        progress_at(&bar, done += j->batch[i].n);
    }
    progress_end(&bar);
    if (e.probe) {
        probe_times(e.probe, spent);
        double sum = spent[0] + spent[1] + spent[2] + spent[3];
        if (!bad && sum > 0) {
            fprintf(stderr, "%s: time:", program_name);
            for (int i = 0; i < 4; i++) fprintf(stderr, " %s %.0f%%", probe_time_names[i], 100 * spent[i] / sum);
            fputc('\n', stderr);
        }
    }
    engine_stop(&e);
    return bad;
}

int score_source_row(void *source, long i, float *out) {
    score_source *s = source;
    int row = s->row ? s->row[i] : (int)i;
    size_t at = score_field_at(s->j, s->j->class[row], s -> field), bytes = score_field_bytes(s->j, s->field);
    if (s->p) return parts_read(s->p, row, (int64_t)at, bytes, out);
    memcpy(out, s->payload + s->record[i].from + at, bytes);
    return 0;
}

// ---------------------------------------------------------------- task-level criteria
// Index of a position's record among the side rows of a row.
static int side_of(const score_job *j, int row, int position) {
    int k = j->side_first[row];
    while (j->side[k] != position) k++;
    return k - j->side_first[row];
}

// The rows of a layer that a stage gets: room for n of them.
typedef struct {
    float *da, *x, *dg, *du;
    uint8_t *active;
} stage_rows;
static stage_rows rows_new(const model *m, size_t n) {
    const size_t F = n * (size_t)m->c.F;
    stage_rows r = {.da = xmalloc(n * (size_t)(m->c.H * m->c.D) * sizeof(float)),
                    .x = xmalloc(n * (size_t)m->c.E * sizeof(float))};
    if (m->arch.gated)
        r.dg = xmalloc(F * sizeof(float)), r.du = xmalloc(F * sizeof(float));
    else
        r.active = xmalloc(F);
    return r;
}
static void rows_free(stage_rows *r) {
    void *all[] = {r->da, r->x, r->dg, r->du, r->active};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

// Row i of layer l from its record, whose side row begins at byte `at`.
static int read_row(const score_job *j, parts *p, int row, size_t at, size_t l, size_t i, stage_rows *to) {
    const model *m = j->model;
    const model_config *c = &m->c;
    const side_places place = places_of(m);
    const size_t A = (size_t)(c->H * c->D), E = (size_t)c->E, most_F = (size_t)c->F,
                 F = (size_t)model_units(c, (int)l, UNIT_NEURONS);
    if (parts_read(p, row, (int64_t)(at + l * A * 4), A * 4, to->da + i * A) ||
        parts_read(p, row, (int64_t)(at + place.x + l * E * 4), E * 4, to->x + i * E))
        return -1;
    if (!m->arch.gated) return parts_read(p, row, (int64_t)(at + place.neurons + l * most_F), F, to->active + i * F);
    return parts_read(p, row, (int64_t)(at + place.neurons + l * most_F * 4), F * 4, to->dg + i * F) ||
           parts_read(p, row, (int64_t)(at + place.du + l * most_F * 4), F * 4, to->du + i * F);
}

static task_layer layer_of(const score_job *j, const score_stage *s, int l, const stage_rows *r) {
    const model_config *c = &j->model->c;
    return (task_layer){.n = s->n,
                        .E = c->E,
                        .H = model_units(c, l, UNIT_HEADS),
                        .D = c->D,
                        .F = model_units(c, l, UNIT_NEURONS),
                        .layer = l,
                        .layers = c->L,
                        .row = s->row,
                        .da = r->da,
                        .x = r->x,
                        .active = r->active,
                        .A = c->H * c->D,
                        .dg = r->dg,
                        .du = r->du};
}

int score_task_stage(const score_job *j, const score_stage *s, parts *p, float *heads, float *neurons) {
    const model_config *c = &j->model->c;
    const task_stage *of = crit_mode_of(j->crit[s->crit], s->mode)->task;
    const size_t most_F = (size_t)c->F, side_bytes = score_side_bytes(j);
    stage_rows rows = rows_new(j->model, (size_t)s->n);
    int bad = 0;
    for (size_t l = 0; !bad && l < (size_t)c->L; l++) {
        for (size_t i = 0; !bad && i < (size_t)s->n; i++) {
            const int row = j->task[s->task].first + s->row[i].example;
            const size_t sides = (size_t)(j->side_first[row + 1] - j->side_first[row]);
            const size_t at =
                score_record_bytes(j, row) - (sides - (size_t)side_of(j, row, s->row[i].position)) * side_bytes;
            bad = read_row(j, p, row, at, l, i, &rows);
        }
        const task_layer layer = layer_of(j, s, (int)l, &rows);
        if (!bad && of->heads && layer.H) of->heads(heads + l * (size_t)c->H, &layer, j->seed);
        if (!bad && of->neurons && layer.F) of->neurons(neurons + l * most_F, &layer, j->seed);
        for (int h = layer.H; h < c->H; h++) heads[l * (size_t)c->H + (size_t)h] = NAN;
        for (int f = layer.F; f < c->F; f++) neurons[l * most_F + (size_t)f] = NAN;
    }
    rows_free(&rows);
    return bad ? -1 : 0;
}

static void random_rows(float *x, size_t n, rng *r) {
    for (size_t i = 0; x && i < n; i++) x[i] = (float)rng_uniform(r) - 0.5f;
}

// One layer of random rows, so that the time of a stage is known before its rows are.
static double stage_seconds(const score_job *j, const score_stage *s) {
    const model_config *c = &j->model->c;
    const task_stage *of = crit_mode_of(j->crit[s->crit], s->mode)->task;
    const size_t n = (size_t)s->n, F = (size_t)c->F * n;
    stage_rows rows = rows_new(j->model, n);
    float *out = xmalloc(sizeof *out * (size_t)(c->F > c->H ? c->F : c->H));
    rng r = rng_make(1);
    random_rows(rows.da, (size_t)(c->H * c->D) * n, &r);
    random_rows(rows.x, (size_t)c->E * n, &r);
    random_rows(rows.dg, F, &r);
    random_rows(rows.du, F, &r);
    for (size_t i = 0; rows.active && i < F; i++) rows.active[i] = (uint8_t)(i * 2654435761u >> 13 & 1);
    const double start = clock_s();
    const task_layer layer = layer_of(j, s, 0, &rows);
    if (of->heads && layer.H) of->heads(out, &layer, j->seed);
    if (of->neurons && layer.F) of->neurons(out, &layer, j->seed);
    const double spent = (clock_s() - start) * c->L;
    free(out);
    rows_free(&rows);
    return spent;
}

// ---------------------------------------------------------------- what it will cost
int score_choose_recompute(score_job *j, const bool seen[CLASSES]) {
    const double mib = 1 << 20;
    size_t need = 0, left = 0;
    bool fits = true;
    for (int class = 0; class < CLASSES && fits && !j->recompute; class ++) {
        probe_plan plan;
        if (!seen[class]) continue;
        score_probe_plan(j, class, &plan, NULL);
        fits = probe_fits(j->model, &plan, j->max_tokens, &need, &left);
        free(plan.crit);
    }
    if (fits) return 0;
    if (j->o.recompute == RECOMPUTE_OFF)
        return err_set("activations of a batch of %d tokens take %.1f MiB of %s, which has %.1f MiB free; --recompute "
                       "on takes less, smaller --batch-tokens too",
                       j->max_tokens, (double)need / mib, j->model->o->device, (double)left / mib);
    log_info("activations of a batch of %d tokens would take %.1f MiB of %s, which has %.1f MiB free: they are "
             "recomputed layer by layer (--recompute)",
             j->max_tokens, (double)need / mib, j->model->o->device, (double)left / mib);
    j->recompute = true;
    return 0;
}

static double resident_bytes(void) {
    long pages = 0, ignored;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &ignored, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static int zero_row(void *source, long i, float *out) {
    const score_source *s = source;
    (void)i;
    memset(out, 0, score_field_bytes(s->j, s->field));
    return 0;
}

// Bytes of a store of the batch's rows, and seconds to write it; zero: of the bare layout.
static int measure_store(score_job *j, const score_batch *b, const uint8_t *payload, const parts_record *record,
                         bool zero, double *bytes, double *seconds) {
    store *s = store_create_memory();
    if (!s) return -1;
    double start = clock_s();
    int bad = 0;
    for (int i = 1; !bad && i < j->n_field; i++) {
        const score_field *f = &j->field[i];
        score_source from = {.j = j, .field = f, .row = j->order + b->row, .payload = payload, .record = record};
        store_rows rows = {
            f->dataset, b->n, j->model->c.L,    f->U, score_in_16_bits(j, f), zero ? zero_row : score_source_row, &from,
            NULL,       NULL, score_units(j, f)};
        if (f->kind != FIELD_MOMENTS && score_missing(j, b->class, f)) bad = store_put_rows(s, &rows, NULL);
    }
    *bytes = (double)store_bytes(s);
    *seconds = clock_s() - start;
    store_close(s);
    return bad;
}

// probe_macs counts the removal of heads; removing the neurons as well is F/H times that.
static double row_macs(const score_job *j, const probe_plan *plan, int row) {
    const int n = (int)(j->ex.offset[row + 1] - j->ex.offset[row]), context = j->ex.context[row];
    const double macs = probe_macs(j->model, plan, n, context);
    bool some = false;
    for (int i = 0; i < j->n_field; i++) some |= j->field[i].some && score_missing(j, j->class[row], &j -> field[i]);
    if (!some) return macs;
    probe_plan rest = *plan;
    rest.crit = xcalloc((size_t)plan->n_crit + 1, sizeof *rest.crit);
    rest.n_crit = 0;
    for (int k = 0; k < plan->n_crit; k++)
        if (!(plan->crit[k]->sound.needs_neurons & CRIT_REMOVAL)) rest.crit[rest.n_crit++] = plan->crit[k];
    const double removal = macs - probe_macs(j->model, &rest, n, context);
    free(rest.crit);
    return macs + removal * j->model->c.F / j->model->c.H;
}

int score_estimate(score_job *j, score_cost *cost) {
    double macs[CLASSES] = {0}, total = 0, room = 0, other_room = 0;
    int heavy = -1, bad = 0;
    *cost = (score_cost){0};
    for (int class = 0; class < CLASSES; class ++) {
        probe_plan plan;
        bool any = false;
        score_probe_plan(j, class, &plan, NULL);
        for (int i = 0; i < j->n_order; i++) {
            if (j->class[j->order[i]] != class) continue;
            any = true;
            macs[class] += row_macs(j, &plan, j->order[i]);
            cost->parts += (double)score_record_bytes(j, j->order[i]);
        }
        if (any) room = fmax(room, (double)probe_bytes(j->model, &plan, j->max_tokens));
        plan.recompute = !plan.recompute;
        if (any) other_room = fmax(other_room, (double)probe_bytes(j->model, &plan, j->max_tokens));
        if (any && (heavy < 0 || macs[class] > macs[heavy])) heavy = class;
        total += macs[class];
        free(plan.crit);
    }
    double most_payload = 0, stage_room = 0;
    for (int i = 0; i < j->n_batch; i++) {
        double bytes = 0;
        for (int k = 0; k < j->batch[i].n; k++) bytes += (double)score_record_bytes(j, j->order[j->batch[i].row + k]);
        most_payload = fmax(most_payload, bytes);
    }
    int large = -1;
    for (int i = 0; i < j->n_stage; i++) {
        stage_room = fmax(stage_room, (double)j->stage[i].n * (double)score_side_bytes(j) / j->model->c.L);
        if (j->stage[i].n && (large < 0 || j->stage[i].n > j->stage[large].n)) large = i;
    }
    const double resident = resident_bytes() + (8 << 20);
    cost->memory = resident + fmax(room + 2 * most_payload, stage_room);
    cost->other_memory = resident + fmax(other_room + 2 * most_payload, stage_room);
    double raw_all = 0;
    for (int i = 1; i < j->n_field; i++)
        for (int row = 0; row < j->ex.n; row++)
            if (j->field[i].kind != FIELD_MOMENTS && (!j->field[i].some || j->class[row] & CLASS_WANTS_SOME))
                raw_all += (double)score_field_bytes(j, &j->field[i]);
    if (heavy < 0) return 0;

    // a quarter and three quarters into the batches of the class that costs most: one run each, the first twice to warm
    // up
    engine e = {0};
    engine_start(j, &e, heavy);
    int first = 0, count = 0;
    for (int i = j->n_batch - 1; i >= 0; i--)
        if (j->batch[i].class == heavy) first = i, count++;
    parts_record *record = xcalloc((size_t)j->most_rows, sizeof *record);
    double seconds = 0, work = 0, bytes = 0, bare = 0, write = 0, raw = 0;
    for (int k = 0; !bad && k < (count > 1 ? 2 : 1); k++) {
        score_batch b = j->batch[first + (2 * k + 1) * count / 4];
        uint8_t *payload = NULL;
        size_t n = 0;
        for (int warm = k == 0; !bad && warm >= 0; warm--) {
            free(payload);
            double start = clock_s();
            bad = run_batch(j, &e, &b, &payload, &n, record);
            if (!warm || clock_s() - start > 2) seconds += clock_s() - start, warm = 0;
        }
        for (int i = 0; i < b.n; i++) work += row_macs(j, &e.plan, j->order[b.row + i]);
        for (int i = 0; i < b.n; i++)
            raw += (double)score_record_bytes(j, j->order[b.row + i]) -
                   (double)(j->side_first[j->order[b.row + i] + 1] - j->side_first[j->order[b.row + i]]) *
                       (double)score_side_bytes(j);
        double x, y, t, ignored;
        if (!bad)
            bad = measure_store(j, &b, payload, record, false, &x, &t) ||
                          measure_store(j, &b, payload, record, true, &y, &ignored)
                      ? -1
                      : 0;
        if (!bad) bytes += x - y, bare = y, write += t;
        free(payload);
    }
    engine_stop(&e);
    free(record);
    if (bad) return bad;
    cost->seconds = seconds / work * total + (raw > 0 ? write / raw * raw_all : 0) + cost->parts / 4e8;
    cost->disk = (raw > 0 ? bytes / raw * raw_all : 0) + bare + (double)j->ex.offset[j->ex.n] * 2;
    if (large >= 0) {
        double square = (double)j->stage[large].n * j->stage[large].n, each = stage_seconds(j, &j->stage[large]);
        for (int i = 0; i < j->n_stage; i++) cost->seconds += each * j->stage[i].n * j->stage[i].n / square;
    }
    return 0;
}

static void print_bytes(const char *what, double n) {
    const char *unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int k = 0;
    while (n >= 1024 && k < 4) n /= 1024, k++;
    printf("%s %.*f %s", what, k && n < 100 ? 1 : 0, n, unit[k]);
}

void score_print_cost(const score_job *j, const score_cost *cost) {
    double s = cost->seconds;
    printf("estimate: %d of %d examples to compute, ", j->n_order, j->ex.n);
    if (s < 100)
        printf("%.1f s", s);
    else if (s < 6000)
        printf("%.1f min", s / 60);
    else
        printf("%.1f h", s / 3600);
    print_bytes(" on this machine; memory", cost->memory);
    print_bytes("; store", cost->disk);
    print_bytes(", while it runs", cost->parts);
    print_bytes(j->recompute ? " more; with --recompute off memory" : " more; with --recompute on memory",
                cost->other_memory);
    printf("\n");
}
