// cuda_memory_blocks - operations on whole blocks of memory: random weights (cuRAND), transposes, reading for its
// speed.
#include "cuda_host.h"

// Philox 4x32-10 in the order that cuRAND promises to keep on every GPU and in every release (Salmon et al. 2011;
// cuRAND's guide, 2.2.3): number i of a block depends on its seed and on i alone, whatever GPU it is on and however the
// block is cut.
static void generator(uint64_t seed) {
    if (!g->random) {
        RAND(curandCreateGenerator(&g->random, CURAND_RNG_PSEUDO_PHILOX4_32_10));
        RAND(curandSetStream(g->random, g->stream));
        RAND(curandSetGeneratorOrdering(g->random, CURAND_ORDERING_PSEUDO_LEGACY));
    }
    RAND(curandSetPseudoRandomGeneratorSeed(g->random, seed));
}

void cuda_random(void *to, dtype type, size_t n, double bound, uint64_t seed) {
    const size_t step = g->work_bytes / sizeof(float);
    const gpu_work_point mark = gpu_work_mark();
    float *uniform = gpu_work(g->work_bytes);
    generator(seed);
    for (size_t at = 0, some; at < n; at += some) {
        some = n - at < step ? n - at : step;
        RAND(curandSetGeneratorOffset(g->random, at));
        RAND(curandGenerateUniform(g->random, uniform, some));
        cuda_launch_random((char *)to + at * dtype_bytes(type), type, uniform, (float)bound, some, g->stream);
        LAUNCHED("random");
    }
    gpu_work_release(mark);
}

void cuda_transpose(void *to, const weight *w) {
    if (!w->rows || !w->cols) return;
    cuda_launch_transpose(to, w->data, (int)dtype_bytes(w->type), w->rows, w->cols, g->stream);
    LAUNCHED("transpose");
}

double cuda_read(uint64_t *sum, const void *p, size_t bytes) {
    const gpu_work_point mark = gpu_work_mark();
    unsigned long long *on_device = gpu_work(sizeof *on_device);
    float ms = 0;
    ASSERT(bytes % 16 == 0);
    cuda_zero(on_device, sizeof *on_device);
    CHECK(cudaEventRecord(g->clock[0], g->stream));
    cuda_launch_read(on_device, p, bytes, g->processors, g->stream);
    CHECK(cudaEventRecord(g->clock[1], g->stream));
    LAUNCHED("read");
    cuda_get(sum, on_device, sizeof *sum);
    gpu_work_release(mark);
    CHECK(cudaEventElapsedTime(&ms, g->clock[0], g->clock[1]));
    return 1e-3 * (double)ms;
}
