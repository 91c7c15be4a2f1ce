// bin/world - writes the default world: text, held-out pages and seven task sets from a seed; or checks what was
// written.
#include "cli.h"
#include "world_sets.h"
#include <math.h>
#include <stdlib.h>

// The model's part of the check; false if it can do without the question.
static bool check_model(const char *dir, const char *model) {
    world_model_report r;
    if (world_check_model(dir, model, &r)) die(1, "%s", err_get());
    bool good = true;
    double mean = 0;
    printf("\n%-12s %7s %22s %22s %10s\n", "set", "chance", "without question,train", "without question,valid",
           "accuracy");
    for (int t = 0; t < WORLD_TASKS; t++) {
        printf("%-12s %7.3f", world_task_names[t], r.chance[t]);
        for (int v = 0; v < 2; v++) {
            const bool fair = fabs(r.blind[t][v] - r.chance[t]) <= 0.1;
            printf(" %21.3f%c", r.blind[t][v], fair ? ' ' : '!');
            good &= fair;
        }
        printf(" %10.3f\n", r.accuracy[t]);
        mean += r.accuracy[t] / WORLD_TASKS;
    }
    printf("%-12s %64s %.3f\n", "mean", "", mean);
    return good;
}

static int check(const char *dir, const char *model) {
    world_report r;
    if (world_check(dir, &r)) die(1, "%s", err_get());
    bool good = true;
    printf("%-12s %-6s %5s %7s", "set", "split", "rows", "chance");
    for (int k = 0; k < BLIND; k++) printf(" %9s", world_blind_names[k]);
    printf("\n");
    for (int t = 0; t < WORLD_TASKS; t++) {
        const world_set_report *s = &r.set[t];
        for (int v = 0; v < 2; v++) {
            printf("%-12s %-6s %5d %7.3f", world_task_names[t], v ? "valid" : "train", s->rows[v], s->chance);
            for (int k = 0; k < BLIND; k++) {
                const bool fair = fabs(s->blind[v][k] - s->chance) <= 0.1;
                printf(" %8.3f%c", s->blind[v][k], fair ? ' ' : '!');
                good &= fair;
            }
            printf("\n");
        }
        good &= !s->leaked && s->rows[0] >= 500 && s->rows[1] >= 200;
        if (s->leaked)
            printf("%s: %d validation questions stand in the training text with their answer\n", world_task_names[t],
                   s->leaked);
    }
    printf("text: %ld bytes, %ld words, %ld sentences, vocabulary %ld, %d templates\n", r.text.bytes, r.text.words,
           r.text.sentences, r.text.vocabulary, r.text.templates);
    printf("facts: %d, of which the text does not tell %d%s%s\n", r.facts, r.untold, r.untold ? ", first " : "",
           r.first_untold);
    good &= !r.untold && r.text.templates >= 200 && r.text.vocabulary >= 1400 && r.text.bytes >= 2000000 * 4L;
    if (*model) good &= check_model(dir, model);
    printf("%s\n", good ? "all conditions hold" : "some condition does not hold (marked !, or a count above)");
    stdout_end();
    return good ? 0 : 1;
}

int main(int argc, char **argv) {
    char *out = "build/world", *dir = "", *model = "";
    long seed = 1, tokens = 2300000, train = 600, valid = 300;
    const cli_option options[] = {
        {.name = "out", .type = CLI_STR, .value = &out, .arg = "DIR", .help = "folder to write"},
        {.name = "seed", .type = CLI_INT, .value = &seed, .arg = "N", .help = "of every draw", .min = 0, .max = 1e15},
        {.name = "tokens",
         .type = CLI_INT,
         .value = &tokens,
         .arg = "N",
         .help = "least size of the text, in tokens of four bytes",
         .min = 100000,
         .max = 1e8},
        {.name = "train",
         .type = CLI_INT,
         .value = &train,
         .arg = "N",
         .help = "least rows of a training set",
         .min = 4,
         .max = 5000},
        {.name = "valid",
         .type = CLI_INT,
         .value = &valid,
         .arg = "N",
         .help = "least rows of a validation set",
         .min = 4,
         .max = 2000},
        {.name = "check",
         .type = CLI_STR,
         .value = &dir,
         .arg = "DIR",
         .help = "check the world written there instead: balance, held-out questions, facts, counts"},
        {.name = "model",
         .type = CLI_STR,
         .value = &model,
         .arg = "DIR",
         .help =
             "with --check: this model's accuracy, and the candidates that it finds likeliest without the question"},
        {0},
    };
    cli_parse(argc, argv,
              "writes English text about a small consistent world and seven task sets about it, from a seed", options);
    if (*model && !*dir) die(2, "--model DIR goes with --check DIR");
    if (*dir) return check(dir, model);
    char *resolved = cli_resolved(options);
    printf("world: %s\n", resolved);
    free(resolved);
    world_counts c;
    const world_size size = {tokens, (int)train, (int)valid, (uint64_t)seed};
    if (world_write(out, &size, &c)) die(1, "%s", err_get());
    printf("text: %ld bytes, %ld words, %ld sentences, vocabulary %ld, %d templates, %ld questions with answers, %ld "
           "documents dropped; %d held-out pages\n",
           c.bytes, c.words, c.sentences, c.vocabulary, c.templates, c.questions, c.dropped, c.pages);
    stdout_end();
    return 0;
}
