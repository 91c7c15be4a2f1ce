// costs - multiply-adds of predictors by the shape of the model, for a mask of all layers: as the paper counts them,
// and of the nets that bin/train builds.
//
// published  one net for heads and neurons together, 1,024 hidden units, no biases (METHOD 5): a net for each layer
//            N (E h + h (H + F)), one early net E h + h N (H + F)
// built      nets of their own for heads and neurons, with the hidden units that train gives them
#include <stdlib.h>
#include <string.h>
#include "ckpt.h"
#include "cli.h"
#include "model_random.h"
#include "predictor.h"

enum { PUBLISHED_HIDDEN = 1024, MOST_HEADS = 2048, MOST_NEURONS = 1024 };

static char *shapes = "opt-1.3b,opt-6.7b,opt-13b,opt-30b,opt-66b,opt-175b", *model_dir, *out_file;
static const cli_option options[] = {
    {.name = "shape", .type = CLI_STR, .value = &shapes, .arg = "a,b", .help = model_shape_help},
    {.name = "model", .type = CLI_STR, .value = &model_dir, .arg = "DIR", .help = "a checkpoint, after the shapes"},
    {.name = "out", .type = CLI_STR, .value = &out_file, .arg = "FILE", .help = "CSV file; else standard output"},
    {0},
};

static int smaller(int a, int b) { return a < b ? a : b; }

static void put(FILE *f, const char *shape, const model_config *c, const char *counted, const char *design,
                double macs) {
    fprintf(f, "%s,%d,%d,%d,%d,%s,%s,%.17g\n", shape, c->L, c->H, c->E, c->F, counted, design, macs);
}

static void put_built(FILE *f, const char *shape, const model_config *c, predictor_design design) {
    const predictor_info a = {.design = design,
                              .per_layer = design == PREDICTOR_DEJAVU,
                              .has = {true, true},
                              .L = c->L,
                              .H = c->H,
                              .E = c->E,
                              .F = c->F,
                              .hidden = {smaller(MOST_HEADS, c->E), smaller(MOST_NEURONS, c->E)}};
    double macs[2], bytes[2];
    predictor_cost_of(&a, macs, bytes);
    put(f, shape, c, "built", predictor_design_names[design], macs[0] + macs[1]);
}

static void put_shape(FILE *f, const char *shape, const model_config *c) {
    const double E = c->E, units = (double)c->H + c->F, L = c->L, h = PUBLISHED_HIDDEN;
    put(f, shape, c, "published", "dejavu", L * (E * h + h * units));
    put(f, shape, c, "published", "shadow", E * h + h * L * units);
    put_built(f, shape, c, PREDICTOR_DEJAVU);
    put_built(f, shape, c, PREDICTOR_SHADOW);
}

static int put_all(FILE *f, char **shape, const model_config *c, int n) {
    fputs("shape,layers,heads,hidden_size,neurons,counted,design,multiply_adds\n", f);
    for (int i = 0; i < n; i++) put_shape(f, shape[i], &c[i]);
    if (!model_dir) return 0;
    ckpt file = {0};
    if (ckpt_open(&file, model_dir)) return -1;
    const char *slash = strrchr(model_dir, '/');
    put_shape(f, slash && slash[1] ? slash + 1 : model_dir, &file.config);
    ckpt_close(&file);
    return 0;
}

int main(int argc, char **argv) {
    cli_parse(argc, argv, "multiply-adds of predictors by the shape of the model, as CSV", options);
    int n;
    char **shape = cli_split(shapes, &n);
    model_config *c = xmalloc((size_t)n * sizeof *c);
    for (int i = 0; i < n; i++)
        if (model_shape(&c[i], shape[i])) die(2, "--shape %s", err_get());
    file_out out = {0};
    if (out_file && file_out_open(&out, out_file)) die(1, "%s", err_get());
    FILE *f = out_file ? out.f : stdout;
    char *command = cli_command(argc, argv);
    fprintf(f, "# command: %s\n# code: %s\n", command, code_version());
    free(command);
    if (put_all(f, shape, c, n)) {
        file_out_abandon(&out);
        die(1, "%s", err_get());
    }
    if (out_file && file_out_close(&out)) die(1, "%s", err_get());
    free(shape);
    free(c);
    stdout_end();
    return 0;
}
