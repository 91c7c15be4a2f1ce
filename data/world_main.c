// bin/world - writes the default world: text, held-out pages and seven task sets from a seed; or checks what was written.
#include "cli.h"
#include "world_sets.h"
#include <stdlib.h>

int main(int argc, char **argv) {
    char *out = "build/world";
    long seed = 1, tokens = 2300000, train = 600, valid = 300;
    const cli_option options[] = {
        { .name = "out", .type = CLI_STR, .value = &out, .arg = "DIR", .help = "folder to write" },
        { .name = "seed", .type = CLI_INT, .value = &seed, .arg = "N", .help = "of every draw", .min = 0, .max = 1e15 },
        { .name = "tokens", .type = CLI_INT, .value = &tokens, .arg = "N", .help = "least size of the text, in tokens of four bytes", .min = 100000, .max = 1e8 },
        { .name = "train", .type = CLI_INT, .value = &train, .arg = "N", .help = "least rows of a training set", .min = 4, .max = 5000 },
        { .name = "valid", .type = CLI_INT, .value = &valid, .arg = "N", .help = "least rows of a validation set", .min = 4, .max = 2000 },
        { 0 },
    };
    cli_parse(argc, argv, "writes English text about a small consistent world and seven task sets about it, from a seed", options);
    char *resolved = cli_resolved(options);
    printf("world: %s\n", resolved);
    free(resolved);
    world_counts c;
    const world_size size = { tokens, (int)train, (int)valid, (uint64_t)seed };
    if (world_write(out, &size, &c)) die(1, "%s", err_get());
    printf("text: %ld bytes, %ld words, %ld sentences, vocabulary %ld, %d templates, %ld questions with answers, %ld documents dropped; %d held-out pages\n", c.bytes,
           c.words, c.sentences, c.vocabulary, c.templates, c.questions, c.dropped, c.pages);
    return 0;
}
