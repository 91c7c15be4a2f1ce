// sweep_options - the options of bin/sweep, and what they choose but for the masks (sweep_series.c). Contract in
// sweep.h.
#include <stdlib.h>
#include <string.h>
#include "sweep.h"

static const char *const span_names[] = {"decode", "all", NULL};  // SPAN_DECODE, SPAN_ALL
static const char *const aggregate_names[] = {"task", "all", NULL};
const char *const token_windows_names[] = {"disjoint", "gptq", "none", NULL};

static sweep_options arg = {
    .part = "",
    .pages = PAGES_AS_LIMIT,
    .span = SPAN_DECODE,
    .aggregate = {1, (const long[]){AGGREGATE_TASK}},
    .seed = {1, (const long[]){0}},
    .masks = {.mask = "none",
              .criterion = "all",
              .scopes = {1, (const long[]){SCOPE_GLOBAL}},
              .units = UNITS_BOTH,
              .sparsity = "0,10,20,30,40,50,60,70,80,90",
              .dense_layers = 1,
              .refresh = 128},
    .weights = -1,
    .device = {.name = "cpu"},
};

const cli_option sweep_table[] = {
    {.name = "model",
     .type = CLI_STR,
     .value = &arg.model,
     .arg = "DIR",
     .help = "checkpoint directory with its tokenizer"},
    {.name = "data", .type = CLI_STR, .value = &arg.data, .arg = "DIR", .help = "folder with one folder per task"},
    {.name = "tasks",
     .type = CLI_STR,
     .value = &arg.tasks,
     .arg = "a,b|all",
     .help = "tasks whose accuracy is measured"},
    {.name = "wikitext",
     .type = CLI_STR,
     .value = &arg.wikitext,
     .arg = "FILE",
     .help = "text whose perplexity is measured"},
    {.name = "requests",
     .type = CLI_STR,
     .value = &arg.requests,
     .arg = "FILE",
     .help = "instead: JSON lines {\"context\": .., \"continuation\": ..}, tokenised as today's harness does; writes "
             "log-likelihoods under one mask in their order, as JSON lines, to --out"},
    {.name = "mask",
     .type = CLI_STR,
     .value = &arg.masks.mask,
     .arg = "a,b",
     .help = "masks: none, random, static, contextual, oracle (heads unless --units is given), "
             "reference, threshold:gate|product, file:PATH"},
    {.name = "criterion",
     .type = CLI_STR,
     .value = &arg.masks.criterion,
     .arg = "a,b|all",
     .help = "criteria of static and contextual masks"},
    {.name = "predictor",
     .type = CLI_STR,
     .value = &arg.masks.predictor,
     .arg = "a,b",
     .help = "predictor files (bin/train) for contextual masks; {seed} in a name stands for the seed, \\, "
             "for a comma in it"},
    {.name = "predictor-weights",
     .type = CLI_CHOICE,
     .value = &arg.masks.predictor_weights,
     .arg = "TYPE",
     .help = "type that the predictor's weights are narrowed to; q8_0: matrices in blocks of 8 bits (CPU only)",
     .names = activation_options},
    {.group = mask_several_rows, .value = &arg.masks},
    {.group = mask_rule_rows, .value = &arg.masks},
    {.name = "mask-span",
     .type = CLI_CHOICE,
     .value = &arg.span,
     .arg = "SPAN",
     .help = "where masks act: from the end of the context on (contextual ones, unless this is given) or everywhere "
             "(all others)",
     .names = span_names},
    {.name = "refresh",
     .type = CLI_INT,
     .value = &arg.masks.refresh,
     .arg = "N",
     .help = "running text in span decode: input positions that share a contextual mask; the first N run dense",
     .min = 1,
     .max = 1e6},
    {.name = "aggregate",
     .type = CLI_CHOICES,
     .value = &arg.aggregate,
     .arg = "a,b",
     .help = "static scores of a task: its own (task), those over all tasks (all), or both",
     .names = aggregate_names},
    {.name = "shots",
     .type = CLI_INT,
     .value = &arg.shots,
     .arg = "K",
     .help = "few-shot examples before each question",
     .min = 0,
     .max = 1000},
    {.name = "split",
     .type = CLI_STR,
     .value = &arg.split,
     .arg = "SPLIT",
     .help = "split of the tasks instead of the usual one",
     .names = split_names},
    {.name = "limit",
     .type = CLI_INT,
     .value = &arg.limit,
     .arg = "N",
     .help = "documents per task, pages of the text, of a seeded order: more extend fewer; 0: all",
     .min = 0,
     .max = 1e9},
    {.name = "pages",
     .type = CLI_INT,
     .value = &arg.pages,
     .arg = "N",
     .help = "pages of the text where they are not as many as documents; 0: all, -1: as --limit says",
     .min = PAGES_AS_LIMIT,
     .max = 1e9},
    {.name = "page-words",
     .type = CLI_INT,
     .value = &arg.page_words,
     .arg = "N",
     .help = "words of each page, from its beginning: more pages say more about a text than longer ones; 0: all",
     .min = 0,
     .max = 1e9},
    {.name = "part",
     .type = CLI_STR,
     .value = &arg.part,
     .arg = "i/n",
     .help = "one of n disjoint parts of the documents (few-shot examples included) and pages, whatever the seed"},
    {.name = "allow-overlap",
     .type = CLI_FLAG,
     .value = &arg.allow_overlap,
     .help = "evaluate also documents that the scores or predictors have seen"},
    {.name = "seed",
     .type = CLI_INTS,
     .value = &arg.seed,
     .arg = "a,b",
     .help = "seeds: order of documents and pages, few-shot, random masks, bootstrap",
     .min = 0,
     .max = CLI_SEED_MAX},
    {.name = "over-long",
     .type = CLI_CHOICE,
     .value = &arg.over,
     .arg = "WHAT",
     .help = "documents longer than the model's positions",
     .names = over_long_names},
    {.name = "harness",
     .type = CLI_CHOICE,
     .value = &arg.harness,
     .arg = "WHICH",
     .help = "conventions of texts: of the evaluation harness of 2022, or of today's, which also takes the first "
             "documents and pages of a file",
     .names = harness_names},
    {.name = "bos",
     .type = CLI_CHOICE,
     .value = &arg.bos,
     .arg = "WHEN",
     .help = "put the tokenizer's BOS (OPT: </s>) before the text of a task; auto: 2022 never, today where the "
             "tokenizer does",
     .names = bos_names},
    {.name = "token-perplexity",
     .type = CLI_CHOICE,
     .value = &arg.windows,
     .arg = "WINDOWS",
     .help = "definition of the text's token perplexity",
     .names = token_windows_names},
    {.name = "mode",
     .type = CLI_CHOICE,
     .value = &arg.masks.mode,
     .arg = "MODE",
     .help = "sound definitions, or those of the published code",
     .names = mode_names},
    {.name = "details",
     .type = CLI_STR,
     .value = &arg.details,
     .arg = "FILE",
     .help = "JSON lines, one per document and page (needs --out)"},
    {.name = "out",
     .type = CLI_STR,
     .value = &arg.out,
     .arg = "FILE",
     .help = "CSV file, appended; rows present are skipped. Without it: standard output"},
    {.group = weights_rows, .value = &arg.weights},
    {.group = device_rows, .value = &arg.device},
    {.name = "estimate", .type = CLI_FLAG, .value = &arg.estimate, .help = "print how long it would take, and stop"},
    {.name = "list",
     .type = CLI_FLAG,
     .value = &arg.list,
     .help = "print the names of tasks, masks, scopes and criteria"},
    {0},
};

// ---------------------------------------------------------------- what they choose
static int choose_tasks(sweep *w) {
    bool take[TASK_COUNT] = {false};
    if (arg.tasks && task_select(arg.tasks, take) < 0) return err_prefix("--tasks");
    w->task = xcalloc(TASK_COUNT, sizeof *w->task);
    if (arg.tasks && !arg.data) return err_set("--tasks needs --data DIR");
    for (int k = 0; k < TASK_COUNT; k++)
        if (take[k]) w->task[w->n_tasks++] = task_names[k];
    if (arg.requests && (w->n_tasks || arg.wikitext || arg.details || arg.estimate))
        return err_set("--requests is measured by itself: leave out --tasks, --wikitext, --details and --estimate");
    if (arg.requests && w->ranks > 1) return err_set("--requests is the work of one process");
    if (w->n_tasks == 0 && !arg.wikitext && !arg.requests)
        return err_set("nothing to measure: name --tasks, --wikitext or both, or --requests");
    return 0;
}

// Of all tasks those that are in the folder.
static int leave_out_missing(sweep *w) {
    int n = 0;
    if (!arg.tasks || strcmp(arg.tasks, "all") != 0) return 0;
    for (int k = 0; k < w->n_tasks; k++) {
        if (task_there(arg.data, w->task[k]))
            w->task[n++] = w->task[k];
        else if (w->rank == 0)
            log_info("%s: not in %s, left out", w->task[k], arg.data);
    }
    w->n_tasks = n;
    return n ? 0 : err_set("%s: holds none of the tasks; data/README.md says how it is laid out", arg.data);
}

// The published static masks know one scope and one kind of unit, the contextual ones one span; asking for another is a
// misunderstanding, not a wish to grant.
static int check_compat(const sweep *w) {
    const cli_list *scopes = &arg.masks.scopes;
    bool has_static = false;
    for (int i = 0; i < w->n_series; i++) has_static |= w->series[i].kind == MASK_STATIC;
    if (has_static && cli_given(sweep_table, "scope") && (scopes->n > 1 || scopes->at[0] != SCOPE_GLOBAL))
        return err_set("--scope: published static masks are always global (their prune_style is ignored); use --mode "
                       "sound for other scopes");
    if (has_static && cli_given(sweep_table, "units") && w->units != UNITS_HEADS)
        return err_set(
            "--units %s: the published FFN mask never acted, so published static masks prune heads only; use "
            "--mode sound for neurons",
            mask_units_name(w->units));
    if (cli_given(sweep_table, "mask-span") && arg.span != SPAN_ALL)
        return err_set("--mask-span %s: published masks act at every position; use --mode sound for masks of decoding",
                       span_names[arg.span]);
    if (w->units != UNITS_HEADS) log_info("the published FFN mask never acted: neurons all run in --mode compat");
    return 0;
}

static int check_together(void) {
    if (arg.harness == HARNESS_TODAY && arg.masks.mode == MODE_COMPAT)
        return err_set("--harness today: the published code has the harness of 2022; use --mode sound");
    if (!arg.model) return err_set("--model is required (checkpoint directory); see --help");
    if (arg.details && !arg.out) return err_set("--details needs --out: its lines name rows of that file");
    return 0;
}

int sweep_options_read(sweep *w) {
    const bool span_given = cli_given(sweep_table, "mask-span");
    int bad;
    w->o = &arg;
    w->mode = arg.masks.mode;
    const bool compat = w->mode == MODE_COMPAT;
    w->units = compat && !cli_given(sweep_table, "units") ? UNITS_HEADS : arg.masks.units;
    w->span = compat ? SPAN_COMPAT : arg.span;
    w->after = w->span == SPAN_DECODE && span_given ? (int)arg.masks.refresh : 0;
    w->n_seeds = arg.seed.n;
    w->seed = xcalloc((size_t)w->n_seeds, sizeof *w->seed);
    for (int i = 0; i < w->n_seeds; i++) w->seed[i] = (uint64_t)arg.seed.at[i];
    if (check_together() || mask_options_check_means(&arg.masks) || choose_tasks(w)) return 2;
    if (doc_part_parse(&w->part, arg.part)) return err_set("--part %s", err_get()), 2;
    if ((bad = sweep_series_choose(w))) return bad;
    if (compat && check_compat(w)) return 2;
    if (leave_out_missing(w)) return 1;
    w->sparsity = mask_parse_sparsities(arg.masks.sparsity, &w->n_sparsities);
    return w->sparsity ? 0 : 2;
}
