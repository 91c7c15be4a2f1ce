// cu_host.h -- lets one .cu source build with nvcc (GPU) or with g++/clang++ (CPU, fibers).
// Prototype.  Host build:  g++ -std=c++17 -x c++ -I/usr/local/cuda/include -include cu_host.h k.cu
#pragma once
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#if defined(__CUDACC__)
#define CU_LAUNCH(k, grid, block, smem, stream, ...) k<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)
#define CU_DYN_SHARED(T, name)                                                                                         \
    extern __shared__ __align__(16) unsigned char cu_dyn_shared_[];                                                    \
    T *name = reinterpret_cast<T *>(cu_dyn_shared_)
#else
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#undef __shared__
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__                                   static  // blocks run one after another
namespace cpu_cuda {
cudaError_t launch(dim3, dim3, size_t, cudaStream_t, std::function<void()>);
void check_argument(const void *p);
}  // namespace cpu_cuda
namespace cuh {
struct Warp {
    uint64_t slot[2][32];
    unsigned pred[2];
    unsigned arrived, done, gen, alive;
};
struct Thread {  // one CUDA thread = one fiber
    uint3 tid;
    void *sp;
    Warp *warp;
    int lane;
    unsigned par;
    const unsigned *waits;  // not NULL: the fiber waits until the bits of *waits differ from was
    unsigned bits, was;
};
struct Block {
    uint3 bid;
    dim3 bdim, gdim;
    void *dyn;
    int n, alive, arrived;
    unsigned gen;
    int red[3], redout[3];
};
extern Thread *cur;
extern Block *blk;
void run_grid(dim3 g, dim3 b, size_t smem, const std::function<void()> &body);
[[noreturn]] void die(const char *msg);
unsigned block_barrier(int pred);
unsigned warp_exchange(unsigned mask, uint64_t v, int pred);  // returns buffer parity to read
template <class T> inline void check_argument(const T &v) {
    constexpr bool text = std::is_same<T, const char *>::value;  // a name that a kernel hands on to the host
    if constexpr (std::is_pointer<T>::value && !text) cpu_cuda::check_argument(v);
}
template <class... P, class... A>
inline void launch(dim3 g, dim3 b, size_t smem, cudaStream_t st, void (*k)(P...), A &&...a) {
    // by value: the launch may run long after this returns
    std::tuple<typename std::decay<P>::type...> t(static_cast<P>(a)...);
    cpu_cuda::launch(g, b, smem, st, [=] {
        std::apply([](const auto &...v) { (check_argument(v), ...); }, t);
        run_grid(g, b, smem, [&] { std::apply(k, t); });
    });
}
template <class T> inline uint64_t pack(T v) {
    uint64_t u = 0;
    static_assert(sizeof(T) <= 8, "");
    memcpy(&u, &v, sizeof v);
    return u;
}
template <class T> inline T unpack(uint64_t u) {
    T v;
    memcpy(&v, &u, sizeof v);
    return v;
}
template <class T> inline T shfl(unsigned mask, T v, int src) {
    if (src < 0 || src > 31 || !(mask >> src & 1)) {
        if (src >= 0 && src < 32) die("shfl from a lane outside the mask");
    }
    unsigned p = warp_exchange(mask, pack(v), 0);
    return unpack<T>(cur->warp->slot[p][src]);
}
}  // namespace cuh
#define CU_LAUNCH(k, grid, block, smem, stream, ...) ::cuh::launch((grid), (block), (smem), (stream), k, ##__VA_ARGS__)
#define CU_DYN_SHARED(T, name)                       T *name = static_cast<T *>(::cuh::blk->dyn)
#define threadIdx                                    (::cuh::cur->tid)
#define blockIdx                                     (::cuh::blk->bid)
#define blockDim                                     (::cuh::blk->bdim)
#define gridDim                                      (::cuh::blk->gdim)
#define warpSize                                     32
static inline void __syncthreads() { cuh::block_barrier(0); }
static inline int __syncthreads_count(int p) {
    unsigned g = cuh::block_barrier(p);
    (void)g;
    return cuh::blk->redout[0];
}
static inline int __syncthreads_or(int p) {
    cuh::block_barrier(p);
    return cuh::blk->redout[0] != 0;
}
static inline int __syncthreads_and(int p) {
    cuh::block_barrier(!p);
    return cuh::blk->redout[0] == 0;
}
static inline void __syncwarp(unsigned m = ~0u) { cuh::warp_exchange(m, 0, 0); }
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() {}
static inline unsigned __ballot_sync(unsigned m, int p) {
    unsigned b = cuh::warp_exchange(m, 0, p);
    return cuh::cur->warp->pred[b] & m;
}
static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
static inline int __all_sync(unsigned m, int p) { return __ballot_sync(m, p) == m; }
template <class T> inline T __shfl_sync(unsigned m, T v, int src, int w = 32) {
    int l = cuh::cur->lane;
    return cuh::shfl(m, v, (l & ~(w - 1)) | (src & (w - 1)));
}
template <class T> inline T __shfl_xor_sync(unsigned m, T v, int x, int w = 32) {
    int l = cuh::cur->lane, s = l ^ x;
    if (s > (l | (w - 1))) s = l;
    return cuh::shfl(m, v, s);
}
template <class T> inline T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32) {
    int l = cuh::cur->lane, s = l + (int)d;
    if (s > (l | (w - 1))) s = l;
    return cuh::shfl(m, v, s);
}
template <class T> inline T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) {
    int l = cuh::cur->lane, s = l - (int)d;
    if (s < (l & ~(w - 1))) s = l;
    return cuh::shfl(m, v, s);
}
// mma.sync.aligned.m16n8k8 with tf32 operands, whose last 13 bits are not read: c += A B, A of the warp's a (rows, 8),
// B of its b (8, columns); n of them in turn.
static inline void cu_mma_tf32(float *c, const unsigned *const *a, const unsigned *const *b, int n) {
    struct operands {
        const unsigned *const *a, *const *b;
    } mine = {a, b};
    const unsigned p = cuh::warp_exchange(~0u, cuh::pack(&mine), 0);
    const auto of = [p](int lane) { return cuh::unpack<const operands *>(cuh::cur->warp->slot[p][lane]); };
    const auto number = [](unsigned bits) { return cuh::unpack<float>(bits & ~0x1fffu); };
    const int row = cuh::cur->lane / 4, col = cuh::cur->lane % 4 * 2;
    for (int m = 0; m < n; m++)
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 8; k++)
                c[i] += number(of(4 * row + k % 4)->a[m][i / 2 + k / 4 * 2]) *
                        number(of(4 * (col + i % 2) + k % 4)->b[m][k / 4]);
    cuh::warp_exchange(~0u, 0, 0);
}
template <class T> inline T cuh_cas_loop(T *p, const std::function<T(T)> &f);
static inline float atomicAdd(float *p, float v) {
    float o, n;
    o = *p;
    uint32_t oi, ni;
    do {
        n = o + v;
        memcpy(&oi, &o, 4);
        memcpy(&ni, &n, 4);
        if (__atomic_compare_exchange_n((uint32_t *)p, &oi, ni, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) break;
        memcpy(&o, &oi, 4);
    } while (1);
    return o;
}
static inline double atomicAdd(double *p, double v) {
    double o = *p, n;
    uint64_t oi, ni;
    do {
        n = o + v;
        memcpy(&oi, &o, 8);
        memcpy(&ni, &n, 8);
        if (__atomic_compare_exchange_n((uint64_t *)p, &oi, ni, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) break;
        memcpy(&o, &oi, 8);
    } while (1);
    return o;
}
static inline int atomicAdd(int *p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
static inline unsigned atomicAdd(unsigned *p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
static inline unsigned long long atomicAdd(unsigned long long *p, unsigned long long v) {
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
}
static inline int atomicMax(int *p, int v) {
    int o = *p;
    while (o < v && !__atomic_compare_exchange_n(p, &o, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return o;
}
static inline int atomicCAS(int *p, int c, int v) {
    __atomic_compare_exchange_n(p, &c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return c;
}
static inline unsigned atomicCAS(unsigned *p, unsigned c, unsigned v) {
    __atomic_compare_exchange_n(p, &c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return c;
}
template <class T> inline T __ldg(const T *p) { return *p; }
#define __expf(x)                                    expf(x) /* glibc declares __expf itself */
#define __logf(x)                                    logf(x)
#define __powf(x, y)                                 powf(x, y)
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline int __float_as_int(float f) {
    int i;
    memcpy(&i, &f, 4);
    return i;
}
static inline float __int_as_float(int i) {
    float f;
    memcpy(&f, &i, 4);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned i;
    memcpy(&i, &f, 4);
    return i;
}
static inline float __uint_as_float(unsigned i) {
    float f;
    memcpy(&f, &i, 4);
    return f;
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
template <class T> inline typename std::enable_if<std::is_arithmetic<T>::value, T>::type min(T a, T b) {
    return b < a ? b : a;
}
template <class T> inline typename std::enable_if<std::is_arithmetic<T>::value, T>::type max(T a, T b) {
    return a < b ? b : a;
}
static inline __half __hfma(__half a, __half b, __half c) {
    return __float2half(fmaf(__half2float(a), __half2float(b), __half2float(c)));
}
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    return __halves2half2(__hfma(__low2half(a), __low2half(b), __low2half(c)),
                          __hfma(__high2half(a), __high2half(b), __high2half(c)));
}
#endif
