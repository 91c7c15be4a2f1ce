// test_cuda_query - attention of one query over a long past (cuda_transformer_query.cu), as decoding has it: CUDA's
// numbers are the CPU's, alone, among others, and where a replay finds pasts and live heads in device memory.
#include "opt_fixture.h"
#include "orders.h"
#include "shim.h"

static const ops *gpu;
static int each = 1;  // cases are taken in steps of so many

// Sequences of one token after pasts of these lengths, and two of several tokens among them, one of which has one
// query.
static const int pasts[] = {0, 1, 63, 64, 200, 1023, 1024, 1025, 1700};
enum { SEQS = sizeof pasts / sizeof *pasts, ROWS = SEQS + 3, H = 3, LONGEST = 1700 };

// The same arrays on one device or another: out, q, k, v and what out begins as; K and V of the past; the heads whose
// list is longer than the recording was told.
typedef struct {
    const ops *o;
    int D;
    bool live;
    float *x[5], *past[2];
    uint8_t *has;
    int32_t *unit, *count, *first;
} queries;

static float *random_array(const ops *o, uint64_t seed, size_t n) {
    rng r = rng_make(seed);
    float *x = xmalloc(n * sizeof *x), *p = o->alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)rng_normal(&r);
    o->put(p, x, n * sizeof *x);
    free(x);
    return p;
}

static void open_queries(queries *q, const ops *o, int D, bool live) {
    static const int32_t unit[] = {0, 2}, count = 2;
    static uint8_t has[LONGEST * H];
    const size_t E = (size_t)(H * D);
    rng r = rng_make((uint64_t)D);
    // of the last head whole parts are missing
    for (int i = 0; i < LONGEST * H; i++) has[i] = i / H < 128 ? i % H != 2 : rng_below(&r, 2) != 0;
    *q = (queries){.o = o,
                   .D = D,
                   .live = live,
                   .has = o->alloc(sizeof has),
                   .unit = o->alloc(sizeof unit),
                   .count = o->alloc(sizeof count),
                   .first = o->alloc(sizeof pasts)};
    for (int k = 0; k < 5; k++) q->x[k] = random_array(o, (uint64_t)(10 * D + k), ROWS * E);
    for (int k = 0; k < 2; k++) q->past[k] = random_array(o, (uint64_t)(10 * D + 7 + k), LONGEST * E);
    o->put(q->has, has, sizeof has);
    o->put(q->unit, unit, sizeof unit);
    o->put(q->count, &count, sizeof count);
    o->put(q->first, pasts, sizeof pasts);
}

static void close_queries(queries *q) {
    for (int k = 0; k < 5; k++) q->o->release(q->x[k]);
    for (int k = 0; k < 2; k++) q->o->release(q->past[k]);
    void *rest[] = {q->has, q->unit, q->count, q->first};
    for (int k = 0; k < 4; k++) q->o->release(rest[k]);
}

// The head outputs [ROWS, E] of the sequences, `together` at a time; recorded: by a replay that finds pasts and the
// number of heads in device memory, not where they were.
static float *attend(const queries *q, int together, bool recorded) {
    const attn_heads heads = {.H = H, .K = H, .D = q->D};
    const size_t bytes = (size_t)ROWS * (size_t)(H * q->D) * sizeof(float);
    const live_units u = {.unit = q->unit, .n = recorded ? 1 : 2, .seqs = SEQS, .n_at = recorded ? q->count : NULL};
    attn_seq s[SEQS];
    for (int i = 0, row = 0; i < SEQS; i++) {
        const int n = 1 + 2 * (i == 4) + (i == 5);
        s[i] = (attn_seq){.s = {row, n},
                          .from = i == 5,
                          .past_k = q->past[0],
                          .past_v = q->past[1],
                          .past = recorded ? 0 : pasts[i],
                          .past_at = recorded ? q->first + i : NULL,
                          .past_most = LONGEST,
                          .past_has = q->live ? q->has : NULL};
        row += n;
    }
    float *out = xmalloc(bytes);
    q->o->copy(q->x[0], q->x[4], bytes);
    if (recorded) q->o->record();
    for (int i = 0; i < SEQS; i += together)
        if (q->live)
            q->o->live_attention(q->x[0], q->x[1], q->x[2], q->x[3], &heads, &u, s + i, together);
        else
            q->o->attention(q->x[0], q->x[1], q->x[2], q->x[3], &heads, s + i, together);
    if (recorded) {
        struct recording *kept = q->o->recorded();
        q->o->replay(kept);
        q->o->forget(kept);
    }
    q->o->get(out, q->x[0], bytes);
    return out;
}

static void one_query(void **state) {
    (void)state;
    static const int sizes[] = {7, 32, 64, 80, 128};
    for (int k = 0; k < 10; k += each) {
        const int D = sizes[k / 2];
        const bool live = k % 2;
        const size_t bytes = (size_t)(ROWS * H * D) * sizeof(float);
        queries host, device;
        open_queries(&host, ops_cpu(), D, live);
        open_queries(&device, gpu, D, live);
        float *want = attend(&host, SEQS, false), *got = attend(&device, SEQS, false),
              *alone = attend(&device, 1, false), *replayed = gpu->record ? attend(&device, SEQS, true) : NULL;
        for (int i = 0; i < ROWS * H; i++) {
            double w[128];
            char what[80];
            for (int d = 0; d < D; d++) w[d] = (double)want[i * D + d];
            snprintf(what, sizeof what, "one query, D %d, live %d, row %d, head %d", D, live, i / H, i % H);
            assert_agree(what, got + i * D, w, (size_t)D, 1e-5);
        }
        assert_same_bits("one query alone and among others", alone, got, bytes);
        if (replayed) assert_same_bits("one query replayed", replayed, got, bytes);
        free(want), free(got), free(alone), free(replayed);
        close_queries(&host), close_queries(&device);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_query)};
    gpu = shim_open();
    if (!gpu) return 77;
    const bool first = !getenv("EACH"), stand_in = strstr(gpu->about, "stand-in") != NULL;
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    each = first && stand_in ? 3 : 1;
    if (getenv("EACH")) each = atoi(getenv("EACH"));
    int bad = cmocka_run_group_tests(tests, NULL, NULL) != 0;
    if (!first || !stand_in) return bad;
    static const char *const settings[] = {"EACH=1", "EACH=7 CUH_ORDER=rev CU_FAKE_STREAMS=eager",
                                           "EACH=7 CUH_ORDER=20261 CU_FAKE_STREAMS=7", "EACH=7 KIT_GRAPH=0"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) bad |= again(argv[0], "*", settings[i]);
    return bad;
}
