// bench_peer - other programs that decode the same shape (bench_peer.py) or the same GGUF file (bench_peer_llama.py),
// asked in the same rounds. Contract in bench.h.
#include "bench.h"
#include "gguf.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *engine, *weights;
} peers[] = {{"torch", "fp32"}, {"ctranslate2", "fp32"}, {"ctranslate2", "int8"}};
enum { PEERS = sizeof peers / sizeof *peers };

// The script's first line says what runs; without one the package is not there.
static bool start_script(bench_peer *p, const bench_options *o, const char *const *argument) {
    char line[512] = "";
    child_start(&p->c, argument);
    if (!fgets(line, sizeof line, p->c.from)) {
        child_end(&p->c, NULL);
        log_info("no peer %s %s: %s lacks it (above)", p->engine, p->weights, o->peer);
        return false;
    }
    line[strcspn(line, "\n")] = 0;
    p->about = xstrdup(line);
    p->prefill = xcalloc((size_t)o->rounds, sizeof *p->prefill);
    p->token = xcalloc((size_t)o->rounds, sizeof *p->token);
    return true;
}

static bool start(bench_peer *p, const bench_group *g, const char *config) {
    const bench_options *o = g->o;
    char *script = child_script("experiments/benchmarks/bench_peer.py");
    char *number[] = {xasprintf("%d", g->prompt), xasprintf("%d", g->tokens), xasprintf("%d", g->batch),
                      xasprintf("%ld", o->device.threads)};
    const char *const argument[] = {o->peer,
                                    script,
                                    "--engine",
                                    p->engine,
                                    "--weights",
                                    p->weights,
                                    o->model ? "--model" : "--config",
                                    o->model ? o->model : config,
                                    "--prompt",
                                    number[0],
                                    "--tokens",
                                    number[1],
                                    "--batch",
                                    number[2],
                                    "--threads",
                                    number[3],
                                    NULL};
    const bool there = start_script(p, o, argument);
    for (int k = 0; k < 4; k++) free(number[k]);
    free(script);
    return there;
}

// llama.cpp reads the file itself, so weights are those of the file.
static bool start_llama(bench_peer *p, const bench_group *g, const char *file) {
    const bench_options *o = g->o;
    char *script = child_script("experiments/benchmarks/bench_peer_llama.py");
    char *number[] = {xasprintf("%d", g->prompt), xasprintf("%d", g->tokens), xasprintf("%d", g->batch),
                      xasprintf("%ld", o->device.threads)};
    const char *const argument[] = {o->peer,   script,    "--model", file,        "--prompt", number[0], "--tokens",
                                    number[1], "--batch", number[2], "--threads", number[3],  NULL};
    const bool there = start_script(p, o, argument);
    for (int k = 0; k < 4; k++) free(number[k]);
    free(script);
    return there;
}

void bench_peers_start(bench_group *g) {
    if (!g->o->peer) return;
    signal(SIGPIPE, SIG_IGN);
    int bad;
    char *file = g->o->model ? gguf_find(g->o->model, &bad) : NULL;
    if (file) {
        g->peer = xcalloc(1, sizeof *g->peer);
        *g->peer = (bench_peer){.engine = "llama.cpp", .weights = g->model->weights};
        if (g->model->m.weights < 0) g->n_peers = start_llama(g->peer, g, file);
        free(file);
        return;
    }
    char *config = model_config_text(&g->model->m.c);
    g->peer = xcalloc(PEERS, sizeof *g->peer);
    for (int k = 0; k < PEERS; k++) {
        bench_peer *p = &g->peer[g->n_peers];
        *p = (bench_peer){.engine = peers[k].engine, .weights = peers[k].weights};
        g->n_peers += start(p, g, config);
    }
    free(config);
}

int bench_peers_ask(bench_group *g, int round) {
    for (int k = 0; k < g->n_peers; k++) {
        bench_peer *p = &g->peer[k];
        fprintf(p->c.to, "go\n");
        if (fscanf(p->c.from, "%lf %lf", &p->prefill[round], &p->token[round]) != 2)
            return err_set("peer %s %s ended before its time", p->engine, p->weights);
    }
    return 0;
}

void bench_peers_stop(bench_group *g) {
    for (int k = 0; k < g->n_peers; k++) {
        bench_peer *p = &g->peer[k];
        child_end(&p->c, NULL);
        free(p->about);
        free(p->prefill);
        free(p->token);
    }
    free(g->peer);
    g->peer = NULL;
    g->n_peers = 0;
}
