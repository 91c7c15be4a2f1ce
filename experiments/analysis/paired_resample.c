// paired_resample - what the documents say of pairs, and the bootstrap over documents. Contract in paired.h.
//
// In one draw the effect of a cell is the mean over its pairs; pairs that saw the same documents share their weights,
// so that their differences are summed once, before all draws. Draws are worked on LANES at a time, side by side in
// memory.
#include <gsl/gsl_sort_double.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "base.h"
#include "paired.h"

enum { LANES = 8 };
static const double tiny = 1e-12;  // sums of differences that cancel are no larger

// ---------------------------------------------------------------- all documents
static double mean_of(const paired *p, int config, int outcome) {
    const paired_config *c = &p->config[config];
    const paired_view *v = &p->view[c->view];
    double mean = 0;
    for (int t = 0, i = 0; t < v->n_tasks; t++) {
        double value = 0, size = 0;
        for (; i < v->task_end[t]; i++) {
            value += c->value[outcome][v->document[i]];
            size += p->document[v->document[i]].size[outcome];
        }
        mean += value / size / v->n_tasks;
    }
    return mean;
}

// Least and greatest mean of the pairs of one seed.
static void range_of_seeds(const paired *p, paired_cell *c, const double *effect) {
    c->seed_low = INFINITY;
    c->seed_high = -INFINITY;
    for (int i = 0; i < c->n; i++) {
        const char *seed = p->config[c->pair[i].a].field[PAIRED_SEED];
        double sum = 0;
        int n = 0;
        for (int k = 0; k < c->n; k++) {
            if (strcmp(p->config[c->pair[k].a].field[PAIRED_SEED], seed) != 0) continue;
            sum += effect[k];
            n++;
        }
        c->seed_low = fmin(c->seed_low, sum / n);
        c->seed_high = fmax(c->seed_high, sum / n);
    }
}

static void count_documents(const paired *p, paired_cell *c) {
    bool *seen = xcalloc((size_t)p->n_documents, sizeof *seen);
    for (int i = 0; i < c->n; i++) {
        const paired_view *v = &p->view[p->config[c->pair[i].a].view];
        for (int k = 0; k < v->n; k++) seen[v->document[k]] = true;
    }
    c->documents = c->fewest = 0;
    c->fewest_task = NULL;
    for (int d = 0, end; d < p->n_documents; d = end) {
        int n = 0;
        for (end = d; end < p->n_documents && p->document[end].task_begin == p->document[d].task_begin; end++)
            n += seen[end];
        c->documents += n;
        if (n == 0 || (c->fewest_task && n >= c->fewest)) continue;
        c->fewest = n;
        c->fewest_task = p->document[d].task;
    }
    free(seen);
}

void paired_measure(const paired *p, paired_cell *c) {
    double *effect = xmalloc((size_t)c->n * sizeof *effect);
    c->a = c->b = 0;
    for (int i = 0; i < c->n; i++) {
        const double a = mean_of(p, c->pair[i].a, c->outcome), b = mean_of(p, c->pair[i].b, c->outcome);
        effect[i] = a - b;
        c->a += a / c->n;
        c->b += b / c->n;
    }
    c->effect = gsl_stats_mean(effect, 1, (size_t)c->n);
    range_of_seeds(p, c, effect);
    count_documents(p, c);
    free(effect);
}

// ---------------------------------------------------------------- draws
// Pairs of a cell with one view: their differences a - b, summed, in the order of the view's documents.
typedef struct {
    int view, n_pairs;
    double *difference;
} group;
typedef struct {
    group *group;
    int n;
} group_list;

static group_list make_groups(const paired *p, const paired_cell *c) {
    group_list l = {0};
    int cap = 0;
    for (int i = 0; i < c->n; i++) {
        const paired_config *a = &p->config[c->pair[i].a], *b = &p->config[c->pair[i].b];
        const paired_view *v = &p->view[a->view];
        int g = 0;
        while (g < l.n && l.group[g].view != a->view) g++;
        if (g == l.n) VEC_PUSH(l.group, l.n, cap, ((group){a->view, 0, xcalloc((size_t)v->n, sizeof(double))}));
        l.group[g].n_pairs++;
        for (int k = 0; k < v->n; k++)
            l.group[g].difference[k] += a->value[c->outcome][v->document[k]] - b->value[c->outcome][v->document[k]];
    }
    return l;
}

// Work space of a thread.
typedef struct {
    double (*weight)[LANES];  // [document]
    double (*size)[LANES];    // [(outcome * views + view) * tasks + task]: sum of w size
} lanes;

static void draw_weights(const paired *p, lanes *x, int lane, rng *r) {
    for (int d = 0; d < p->n_documents; d++) x->weight[d][lane] = 0;
    for (int d = 0, end; d < p->n_documents; d = end) {
        for (end = d; end < p->n_documents && p->document[end].task_begin == p->document[d].task_begin;) end++;
        for (int i = d; i < end; i++) x->weight[d + (int)rng_below(r, (uint64_t)(end - d))][lane]++;
    }
}

static int most_tasks(const paired *p) {
    int n = 0;
    for (int i = 0; i < p->n_views; i++) n = p->view[i].n_tasks > n ? p->view[i].n_tasks : n;
    return n;
}

static size_t size_at(const paired *p, int tasks, int outcome, int view) {
    return ((size_t)outcome * (size_t)p->n_views + (size_t)view) * (size_t)tasks;
}

static void sum_sizes(const paired *p, lanes *x, int tasks) {
    for (int o = 0; o < PAIRED_OUTCOMES; o++)
        for (int w = 0; w < p->n_views; w++) {
            const paired_view *v = &p->view[w];
            for (int t = 0, i = 0; t < v->n_tasks; t++) {
                double *sum = x->size[size_at(p, tasks, o, w) + (size_t)t];
                for (int l = 0; l < LANES; l++) sum[l] = 0;
                for (; i < v->task_end[t]; i++)
                    for (int l = 0; l < LANES; l++)
                        sum[l] += x->weight[v->document[i]][l] * p->document[v->document[i]].size[o];
            }
        }
}

// Adds the effects of a group's pairs. A task of which no document was drawn is left out of the mean over tasks, a
// group without any task out of the mean over pairs.
static void add_group(const paired *p, const lanes *x, int tasks, int outcome, const group *g, double sum[LANES],
                      double pairs[LANES]) {
    const paired_view *v = &p->view[g->view];
    double effect[LANES] = {0}, measured[LANES] = {0};
    for (int t = 0, i = 0; t < v->n_tasks; t++) {
        const double *size = x->size[size_at(p, tasks, outcome, g->view) + (size_t)t];
        double value[LANES] = {0};
        for (; i < v->task_end[t]; i++)
            for (int l = 0; l < LANES; l++) value[l] += x->weight[v->document[i]][l] * g->difference[i];
        for (int l = 0; l < LANES; l++) {
            if (size[l] == 0) continue;
            effect[l] += value[l] / size[l];
            measured[l]++;
        }
    }
    for (int l = 0; l < LANES; l++) {
        if (measured[l] == 0) continue;
        sum[l] += effect[l] / measured[l];
        pairs[l] += g->n_pairs;
    }
}

// Effects of all cells in the draws from first on: effect [cell][draw].
static void draw_lanes(const paired *p, paired_cell *const *cell, const group_list *list, int n, lanes *x, int tasks,
                       long first, long draws, uint64_t seed, double *effect) {
    const int live = draws - first < LANES ? (int)(draws - first) : LANES;
    for (int l = 0; l < LANES; l++) {
        rng r = rng_make(rng_hash(seed, (uint64_t)(first + l), 0));
        draw_weights(p, x, l, &r);
    }
    sum_sizes(p, x, tasks);
    for (int c = 0; c < n; c++) {
        double sum[LANES] = {0}, pairs[LANES] = {0};
        for (int g = 0; g < list[c].n; g++) add_group(p, x, tasks, cell[c]->outcome, &list[c].group[g], sum, pairs);
        for (int l = 0; l < live; l++)
            effect[(size_t)c * (size_t)draws + (size_t)(first + l)] = pairs[l] > 0 ? sum[l] / pairs[l] : NAN;
    }
}

// Draws without a document of the cell say nothing and are left out; sorts what is left.
static void summarise(paired_cell *c, double *effect, long draws) {
    long below = 0, above = 0;
    size_t n = 0;
    for (long i = 0; i < draws; i++) {
        if (isnan(effect[i])) continue;
        below += effect[i] <= tiny;
        above += effect[i] >= -tiny;
        effect[n++] = effect[i];
    }
    ASSERT(n > 1);
    c->error = gsl_stats_sd(effect, 1, n);
    gsl_sort(effect, 1, n);
    c->low = gsl_stats_quantile_from_sorted_data(effect, 1, n, 0.025);
    c->high = gsl_stats_quantile_from_sorted_data(effect, 1, n, 0.975);
    c->p = fmin(1, 2 * (1 + (double)(below < above ? below : above)) / ((double)n + 1));
}

void paired_resample(const paired *p, paired_cell *const *cell, int n, long draws, uint64_t seed) {
    const int tasks = most_tasks(p);
    group_list *list = xmalloc((size_t)n * sizeof *list);
    double *effect = xmalloc((size_t)n * (size_t)draws * sizeof *effect);
    for (int c = 0; c < n; c++) list[c] = make_groups(p, cell[c]);
#pragma omp parallel
    {
        lanes x = {xmalloc((size_t)p->n_documents * sizeof *x.weight),
                   xmalloc(size_at(p, tasks, PAIRED_OUTCOMES, 0) * sizeof *x.size)};
#pragma omp for schedule(dynamic, 4)
        for (long first = 0; first < draws; first += LANES)
            draw_lanes(p, cell, list, n, &x, tasks, first, draws, seed, effect);
#pragma omp for schedule(dynamic)
        for (int c = 0; c < n; c++) summarise(cell[c], effect + (size_t)c * (size_t)draws, draws);
        free(x.weight);
        free(x.size);
    }
    for (int c = 0; c < n; c++) {
        for (int g = 0; g < list[c].n; g++) free(list[c].group[g].difference);
        free(list[c].group);
    }
    free(list);
    free(effect);
}
