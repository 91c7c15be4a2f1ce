// fuzz_index - any bytes as the index of a sharded checkpoint whose shards are there: what is accepted can be read in
// full.
// seeds: tests/golden/ckpt/*_shards/*.index.json
#include "ckpt.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const shards[] = {"config.json", "model-00001-of-00002.safetensors",
                                     "model-00002-of-00002.safetensors"};
static char dir[] = "/tmp/fuzz_index.XXXXXX", link_path[3][64], index_path[64];

static void tidy(void) {
    for (int i = 0; i < 3; i++) unlink(link_path[i]);
    unlink(index_path);
    rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    char here[PATH_MAX], shard[PATH_MAX + 100];
    ASSERT(getcwd(here, sizeof here) && mkdtemp(dir));
    for (int i = 0; i < 3; i++) {
        snprintf(shard, sizeof shard, "%s/tests/golden/ckpt/st_shards/%s", here, shards[i]);
        snprintf(link_path[i], sizeof link_path[i], "%s/%s", dir, shards[i]);
        ASSERT(symlink(shard, link_path[i]) == 0);
    }
    snprintf(index_path, sizeof index_path, "%s/model.safetensors.index.json", dir);
    return atexit(tidy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    FILE *f = fopen(index_path, "wb");
    ASSERT(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
    ckpt c = {0};
    if (ckpt_open(&c, dir) == 0) ASSERT(ckpt_check_values(&c) == 0 && c.n_files == 2);
    ckpt_close(&c);
    return 0;
}
