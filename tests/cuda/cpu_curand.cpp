// cpu_curand.cpp - the part of cuRAND that weights are drawn by: Philox 4x32-10 (Salmon et al. 2011), in order with the
// generator's stream and in the order of CURAND_ORDERING_PSEUDO_LEGACY: the real library's bits, of which
// test_ops_memory knows some.
#include "cpu_cudart.h"
#include <curand.h>
namespace {
struct Gen {
    cudaStream_t stream = nullptr;
    unsigned long long seed = 0, offset = 0;
};
struct Four {
    uint32_t w[4];
};
Four philox(uint64_t seed, uint64_t low, uint64_t high) {
    uint32_t c[4] = {(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high, (uint32_t)(high >> 32)},
             key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53 * c[0], b = (uint64_t)0xCD9E8D57 * c[2];
        const uint32_t c0 = (uint32_t)(b >> 32) ^ c[1] ^ key[0], c2 = (uint32_t)(a >> 32) ^ c[3] ^ key[1];
        c[0] = c0, c[1] = (uint32_t)b, c[2] = c2, c[3] = (uint32_t)a;
        key[0] += 0x9E3779B9, key[1] += 0xBB67AE85;
    }
    return {{c[0], c[1], c[2], c[3]}};
}
// 65536 sequences, four numbers of each in turn.
uint32_t number(uint64_t seed, uint64_t i) { return philox(seed, i >> 18, i >> 2 & 65535).w[i & 3]; }
template <class F> curandStatus_t draw(curandGenerator_t g, size_t n, F put) {
    Gen *gen = (Gen *)g;
    const uint64_t seed = gen->seed, offset = gen->offset;
    gen->offset += n;
    if (cpu_cuda::injected("launch")) return CURAND_STATUS_LAUNCH_FAILURE;
    return cpu_cuda::enqueue(gen->stream, "curand",
                             [=] {
                                 for (size_t i = 0; i < n; i++) put(i, number(seed, offset + i));
                             })
               ? CURAND_STATUS_LAUNCH_FAILURE
               : CURAND_STATUS_SUCCESS;
}
}  // namespace
extern "C" {
curandStatus_t curandCreateGenerator(curandGenerator_t *g, curandRngType_t type) {
    *g = nullptr;
    if (type != CURAND_RNG_PSEUDO_PHILOX4_32_10) return CURAND_STATUS_TYPE_ERROR;
    if (cpu_cuda::injected("malloc")) return CURAND_STATUS_ALLOCATION_FAILED;
    *g = (curandGenerator_t) new Gen;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t g) {
    delete (Gen *)g;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetStream(curandGenerator_t g, cudaStream_t s) {
    ((Gen *)g)->stream = s;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t g, unsigned long long seed) {
    ((Gen *)g)->seed = seed;
    ((Gen *)g)->offset = 0;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOffset(curandGenerator_t g, unsigned long long offset) {
    ((Gen *)g)->offset = offset;
    return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOrdering(curandGenerator_t, curandOrdering_t o) {
    return o == CURAND_ORDERING_PSEUDO_LEGACY ? CURAND_STATUS_SUCCESS : CURAND_STATUS_OUT_OF_RANGE;
}
curandStatus_t curandGenerate(curandGenerator_t g, unsigned *p, size_t n) {
    return draw(g, n, [=](size_t i, uint32_t u) { p[i] = u; });
}
curandStatus_t curandGenerateUniform(curandGenerator_t g, float *p, size_t n) {
    return draw(g, n, [=](size_t i, uint32_t u) { p[i] = (float)u * 0x1p-32f + 0x1p-33f; });  // (0, 1]
}
}
