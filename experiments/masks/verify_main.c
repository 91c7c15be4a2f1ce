// verify - proves on a model and a mask what the experiments rely on: that the mask acts, that the sparse passes equal
// the masked dense ones, the effective sparsity of every layer, the K/V policies, and what a predictor reads. Exit
// status 1 if anything does not hold.
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "device.h"
#include "mask_options.h"
#include "reference.h"
#include "threshold.h"
#include "tok_model.h"
#include "verify.h"

static struct {
    char *model, *text;
    long inputs, context, steps;
    double tolerance;
    mask_options masks;
    int weights;
    device_options device;
} arg = {
    .weights = -1,
    .inputs = 4,
    .context = 32,
    .steps = 12,
    .tolerance = 2e-4,
    .masks = {.mask = "random", .scope = SCOPE_GLOBAL, .units = UNITS_BOTH, .sparsity = "50", .dense_layers = 1},
    .device = {.name = "cpu"},
};

static const cli_option options[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory",
     .required = true},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.masks.mask,
     .arg = "KIND",
     .help = "none, random, static, contextual, oracle (heads unless --units is given), "
             "reference, threshold:gate|product, "
             "file:PATH"},
    {.group = mask_one_rows, .value = &arg.masks},
    {.group = mask_rule_rows, .value = &arg.masks},
    {.group = mask_predictor_rows, .value = &arg.masks},
    {.name = "text",
     .type = CLI_STR,
     .value = &arg.text,
     .arg = "FILE",
     .help = "text that inputs are cut from, at seeded places; without it: random tokens"},
    {.name = "inputs", .type = CLI_INT, .value = &arg.inputs, .arg = "N", .help = "inputs", .min = 1, .max = 10000},
    {.name = "context",
     .type = CLI_INT,
     .value = &arg.context,
     .arg = "N",
     .help = "context tokens of an input",
     .min = 1,
     .max = 1e6},
    {.name = "steps",
     .type = CLI_INT,
     .value = &arg.steps,
     .arg = "N",
     .help = "tokens that follow, one by one",
     .min = 1,
     .max = 1e6},
    {.name = "seed",
     .type = CLI_INT,
     .value = &arg.masks.seed,
     .arg = "N",
     .help = "seed of the inputs and of a random mask",
     .max = CLI_SEED_MAX},
    {.name = "tolerance",
     .type = CLI_FLOAT,
     .value = &arg.tolerance,
     .arg = "X",
     .help = "of differences, relative to the larger of a logit and its row's root mean square; rounded activations: "
             "unless given 0.0078 (fp16), 0.0625 (bf16), 0.063 (q8_0), eight steps of the type",
     .min = 1e-12,
     .max = 1},
    {.name = "mode",
     .type = CLI_CHOICE,
     .value = &arg.masks.mode,
     .arg = "MODE",
     .help = "sound masks, or those of the published code",
     .names = mode_names},
    {.group = weights_rows, .value = &arg.weights},
    {.group = device_rows, .value = &arg.device},
    {0}};

// Inputs of context + steps tokens, after </s> where they come from a text.
static verify_input *make_inputs(const model *loaded, int32_t **pool) {
    const int n = (int)arg.inputs, length = (int)(arg.context + arg.steps);
    verify_input *in = xcalloc((size_t)n, sizeof *in);
    int32_t *id = NULL;
    int count = 0, cap = 0;
    rng r = rng_make((uint64_t)arg.masks.seed);
    if (length > loaded->c.positions)
        die(2, "--context %ld and --steps %ld: the model has %d positions", arg.context, arg.steps,
            loaded->c.positions);
    if (arg.text) {
        size_t bytes;
        char *text = file_read(arg.text, &bytes);
        tok *t = text ? tok_open_model(arg.model, &loaded->c) : NULL;
        if (!t || tok_encode(t, text, bytes, &id, &count, &cap)) die(1, "%s", err_get());
        if (count < length) die(1, "%s: %d tokens; an input takes %d", arg.text, count, length);
        tok_close(t);
        free(text);
    }
    *pool = xmalloc((size_t)n * (size_t)length * sizeof **pool);
    for (int i = 0; i < n; i++) {
        int32_t *to = *pool + (size_t)i * (size_t)length;
        const size_t at = arg.text ? (size_t)rng_below(&r, (uint64_t)(count - length + 1)) : 0;
        for (int t = 0; t < length; t++)
            to[t] = arg.text ? id[at + (size_t)t] : (int32_t)rng_below(&r, (uint64_t)loaded->c.V);
        in[i] = (verify_input){to, length, (int)arg.context};
    }
    free(id);
    return in;
}

// Two orders of a sum round an activation to two neighbours now and then: eight steps of the type.
static double tolerance(void) {
    static const double eight_steps[] = {[DT_F16] = 0x1p-7, [DT_BF16] = 0x1p-4, [DT_Q8_0] = 8.0 / 127};
    const dtype type = arg.device.activations;
    return type == DT_F32 || cli_given(options, "tolerance") ? arg.tolerance : eight_steps[type];
}

static void open_predictor(contextual_source *context, const model *m) {
    const dtype type = (dtype)arg.masks.predictor_weights;
    context->p = predictor_open(arg.masks.predictor, arg.masks.criterion, m);
    if (!context->p || predictor_narrow(context->p, type) != 0 || predictor_place(context->p, m->o) != 0)
        die(1, "%s", err_get());
}

static model_above thresholds(const model *loaded, const mask_choice *choice) {
    float *least = xmalloc((size_t)loaded->c.L * sizeof *least);
    threshold t;
    tok *tk = tok_open_model(arg.model, &loaded->c);
    if (!tk || threshold_calibrate(&t, loaded, tk, arg.masks.calibrate, threshold_named(choice->path)) != 0)
        die(1, "%s", err_get());
    printf("calibration: %s %s, %ld tokens\n", arg.masks.calibrate, t.hash, t.tokens);
    const model_above above = threshold_at(least, &t, &choice->rule);
    threshold_free(&t);
    tok_close(tk);
    return above;
}

int main(int argc, char **argv) {
    model loaded = {0};
    mask m = {0};
    int32_t *pool;
    cli_parse(argc, argv,
              "proves on a model and a mask that the mask acts, that sparse passes equal masked dense ones, and what "
              "is pruned",
              options);
    mask_choice choice;
    if (mask_options_read(&choice, &arg.masks, MASKS_ALL) != 0) die(2, "%s", err_get());
    if (choice.kind == MASK_ORACLE && !cli_given(options, "units")) choice.rule.units = UNITS_HEADS;
    const ops *o = device_open(&arg.device);
    if (!o || model_load_as(&loaded, arg.model, o, arg.weights) || model_check_mode(&loaded.c, choice.rule.mode))
        die(1, "%s", err_get());
    if (arg.masks.dense_layers > loaded.c.L)
        die(2, "--dense-layers %ld: the model has %d layers", arg.masks.dense_layers, loaded.c.L);
    model_sparse_prepare(&loaded);
    mask_alloc(&m, &loaded.c);
    mask_source source = {.fixed = &m};
    contextual_source context = {.span = SPAN_DECODE};
    oracle *orc = NULL;
    const mask_model of = {.name = arg.model, .hash = loaded.file.hash, .c = &loaded.c};
    reference *own = NULL;
    model_above above = {0};
    if (choice.kind == MASK_REFERENCE) {
        const criterion *crit = crit_find(mask_options_criterion(&arg.masks));
        if (!crit) die(2, "--criterion %s: there is no such criterion", mask_options_criterion(&arg.masks));
        if (reference_check(crit, &choice.rule) != 0) die(2, "%s", err_get());
        if (mask_rule_prunes(&choice.rule, UNIT_NEURONS) && crit_check_neurons(crit, &loaded.c) != 0)
            die(1, "%s", err_get());
        own = reference_new(&loaded, crit, choice.rule.mode, (uint64_t)arg.masks.seed);
        source = reference_source(own, true, 1);
    } else if (choice.kind == MASK_THRESHOLD) {
        above = thresholds(&loaded, &choice);
    } else if (choice.kind == MASK_ORACLE) {
        orc = oracle_new(&loaded, choice.rule.mode == MODE_COMPAT ? 0 : choice.rule.dense_layers);
        source = oracle_source(orc);
    } else if (choice.kind == MASK_CONTEXTUAL) {
        open_predictor(&context, &loaded);
        source = (mask_source){.context = &context};
    } else {
        if (mask_options_make(&m, &arg.masks, &choice, &of) != 0) die(1, "%s", err_get());
    }
    mask_means means = {0};
    model_means *put_out = NULL;
    if (arg.masks.ablate == ABLATE_MEAN) {
        if (mask_options_means(&means, &arg.masks, &of) != 0) die(1, "%s", err_get());
        put_out = model_means_new(&loaded, means.of[UNIT_HEADS], means.of[UNIT_NEURONS]);
    }
    verify_input *in = make_inputs(&loaded, &pool);
    printf("%s, %s mask, %ld inputs of %ld + %ld tokens\n", arg.model, arg.masks.mask, arg.inputs, arg.context,
           arg.steps);
    if (loaded.changed) {
        model published;
        const ops *plain = arg.device.activations == DT_Q8_0 ? ops_open(arg.device.name) : o;
        if (model_load_as(&published, arg.model, plain, DT_F32) != 0) die(1, "%s", err_get());
        verify_weights(&loaded, &published, in, (int)arg.inputs, arg.text != NULL, stdout);
        model_free(&published);
    }
    const verify_what what = {
        &loaded, &source,    mask_has_rule(choice.kind) ? &choice.rule : NULL, (int)arg.masks.refresh,
        put_out, tolerance()};
    const int failed = above.least ? verify_thresholds(&loaded, &above, what.tolerance, in, (int)arg.inputs, stdout)
                                   : verify_run(&what, in, (int)arg.inputs, stdout);
    if (failed < 0) die(1, "%s", err_get());
    if (failed)
        printf("\n%d checks do not hold\n", failed);
    else
        printf("\neverything holds\n");
    stdout_end();
    predictor_close(context.p);
    oracle_free(orc);
    reference_free(own);
    free((void *)(uintptr_t)above.least);
    model_means_free(put_out);
    mask_means_free(&means);
    mask_free(&m);
    free(in);
    free(pool);
    model_free(&loaded);
    return failed ? 1 : 0;
}
