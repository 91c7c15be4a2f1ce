// cpu_cudart_memory.cpp - memory and devices of the CUDA runtime on the CPU (cpu_cudart.h). Device memory is host
// memory that only running work can touch; it begins as NaN, so that reading what was never written shows.
#include "cpu_cudart_state.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>

namespace cpu_cuda {
struct Alloc {
    size_t n;
    int dev;  // < 0: pinned host memory
};
// never destroyed: programs may still call in while they exit
static auto &allocs = *new std::map<uintptr_t, Alloc>;
static auto &peers = *new std::set<std::pair<int, int>>;
static size_t used[64];
static int depth;
thread_local int cur_dev;
thread_local int run_dev = -1;

int n_dev() {
    static int n = std::max(1, std::min(64, atoi(env("CU_FAKE_DEVICES", "1"))));
    return n;
}
static size_t mem() {
    static size_t n = strtoull(env("CU_FAKE_MEM", "8589934592"), 0, 10);
    return n;
}
// of a block, at most
static int shared_most() {
    static int n = atoi(env("CU_FAKE_SHARED", "166912"));
    return n;
}
static bool protect() {
    static bool p = atoi(env("CU_FAKE_PROTECT", "1")) != 0;
    return p;
}
static size_t pages(size_t n) { return (n + 4095) & ~(size_t)4095; }

// ---- who may touch what
static void open_memory(bool open) {
    if (!protect()) return;
    for (auto &a : allocs)
        if (a.second.dev >= 0) mprotect((void *)a.first, pages(a.second.n), open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
void open_all() {
    if (n_dev() > 1) open_memory(true);
}
void close_others(int dev) {
    if (!protect() || n_dev() < 2) return;
    for (auto &a : allocs)
        if (a.second.dev >= 0 && a.second.dev != dev && !peers.count({dev, a.second.dev}))
            mprotect((void *)a.first, pages(a.second.n), PROT_NONE);
}
Running::Running() {
    if (depth++ == 0) open_memory(true);
}
Running::~Running() {
    if (--depth == 0) open_memory(false);
}
static const Alloc *find_alloc(const void *p, size_t n) {
    auto it = allocs.upper_bound((uintptr_t)p);
    if (it == allocs.begin()) return nullptr;
    --it;
    return (uintptr_t)p + n <= it->first + it->second.n ? &it->second : nullptr;
}
Where where(const void *p, size_t n) {
    const Alloc *a = find_alloc(p, n);
    return a ? (a->dev < 0 ? Where::pinned : Where::device) : find_alloc(p, 1) ? Where::beyond : Where::host;
}
bool may_access(const void *p, size_t n) {
    const Alloc *a = find_alloc(p, n);
    return a && (a->dev < 0 || run_dev < 0 || a->dev == run_dev || peers.count({run_dev, a->dev}));
}
// A kernel finds host memory here, but not on a GPU.
void check_argument(const void *p) {
    if (!p || may_access(p, 1)) return;
    fprintf(stderr, "cuda-on-cpu: a kernel is given %p, which its device cannot reach\n", p);
    abort();
}

static void *map(size_t n, int dev) {
    const size_t m = pages(n ? n : 1);
    void *p = mmap(nullptr, m, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    memset(p, 0xFF, n);
    allocs[(uintptr_t)p] = {n, dev};
    if (dev >= 0 && protect() && !depth) mprotect(p, m, PROT_NONE);
    return p;
}

static cudaError_t copy(void *d, const void *s, size_t n, cudaStream_t st, bool block) {
    Lock g(big);
    if (injected("copy")) return fail(cudaErrorUnknown);
    if (!n) return cudaSuccess;
    const Where to = where(d, n), from = where(s, n);
    if (to == Where::beyond || from == Where::beyond) {
        fprintf(stderr, "cuda-on-cpu: copy of %zu bytes past the end of its block\n", n);
        return fail(cudaErrorInvalidValue);
    }
    Stream *stream = find(st, cur_dev);
    if (!stream) return fail(cudaErrorInvalidResourceHandle);
    // a replay would find it gone
    if (stream->cap && (to == Where::host || from == Where::host)) return fail(cudaErrorStreamCaptureUnsupported);
    cudaError_t e;
    if (from == Where::host) {  // pageable source: staged at once, as CUDA does
        auto buf = std::make_shared<std::vector<char>>((const char *)s, (const char *)s + n);
        e = enqueue(st, "copy", [=] { memcpy(d, buf->data(), n); });
    } else
        e = enqueue(st, "copy", [=] { memmove(d, s, n); });
    if (!e && (block || to == Where::host) && !stream->cap) e = wait_stream(st);  // pageable target: done on return
    return e;
}
static cudaError_t host_memory(void **p, size_t n) {
    return (*p = map(n, -1)) ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}
}  // namespace cpu_cuda
using namespace cpu_cuda;

extern "C" {
// ---- memory
cudaError_t cudaMalloc(void **p, size_t n) {
    Lock g(big);
    *p = nullptr;
    if (lost) return fail(cudaErrorDevicesUnavailable);
    if (capturing()) return fail(cudaErrorStreamCaptureUnsupported);
    if (injected("malloc") || used[cur_dev] + n > mem() || !(*p = map(n, cur_dev)))
        return fail(cudaErrorMemoryAllocation);
    used[cur_dev] += n;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    Lock g(big);
    if (!p) return cudaSuccess;
    auto it = allocs.find((uintptr_t)p);
    if (it == allocs.end()) return fail(cudaErrorInvalidValue);
    if (it->second.dev >= 0) {
        if (capturing()) return fail(cudaErrorStreamCaptureUnsupported);
        wait_device(it->second.dev);
        used[it->second.dev] -= it->second.n;
    }
    const size_t n = pages(it->second.n);
    allocs.erase(it);
    munmap(p, n);
    return lost ? fail(cudaErrorDevicesUnavailable) : cudaSuccess;
}
cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t) { return cudaMalloc(p, n); }
cudaError_t cudaFreeAsync(void *p, cudaStream_t) { return cudaFree(p); }
cudaError_t cudaMallocManaged(void **p, size_t n, unsigned) {
    Lock g(big);
    return host_memory(p, n);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) {
    Lock g(big);
    return injected("pinned") ? fail(cudaErrorMemoryAllocation) : host_memory(p, n);
}
cudaError_t cudaMallocHost(void **p, size_t n) { return cudaHostAlloc(p, n, 0); }
cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }
cudaError_t cudaHostRegister(void *p, size_t n, unsigned) {
    Lock g(big);
    allocs[(uintptr_t)p] = {n, -1};
    return cudaSuccess;
}
cudaError_t cudaHostUnregister(void *p) {
    Lock g(big);
    return allocs.erase((uintptr_t)p) ? cudaSuccess : fail(cudaErrorInvalidValue);
}
cudaError_t cudaHostGetDevicePointer(void **d, void *h, unsigned) {
    *d = h;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *f, size_t *t) {
    *t = mem();
    *f = mem() - used[cur_dev];
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    Lock g(big);
    const Alloc *f = find_alloc(p, 1);
    memset(a, 0, sizeof *a);
    a->type = !f ? cudaMemoryTypeUnregistered : f->dev < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    a->device = f ? std::max(0, f->dev) : 0;
    if (f) a->devicePointer = (void *)p;
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind) { return copy(d, s, n, nullptr, true); }
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind, cudaStream_t st) {
    return copy(d, s, n, st, false);
}
cudaError_t cudaMemcpyPeer(void *d, int, const void *s, int, size_t n) { return copy(d, s, n, nullptr, true); }
cudaError_t cudaMemcpyPeerAsync(void *d, int, const void *s, int, size_t n, cudaStream_t st) {
    Lock g(big);
    const Stream *stream = find(st, cur_dev);
    return stream && stream->cap ? fail(cudaErrorStreamCaptureUnsupported) : copy(d, s, n, st, false);
}
cudaError_t cudaMemcpy2DAsync(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind,
                              cudaStream_t st) {
    for (size_t i = 0; i < h; i++)
        if (cudaError_t e = copy((char *)d + i * dp, (const char *)s + i * sp, w, st, false)) return e;
    return cudaSuccess;
}
cudaError_t cudaMemcpy2D(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind k) {
    const cudaError_t e = cudaMemcpy2DAsync(d, dp, s, sp, w, h, k, nullptr);
    return e ? e : cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t st) {
    {
        Lock g(big);
        if (n && !find_alloc(d, n)) {
            fprintf(stderr, "cuda-on-cpu: memset outside device memory\n");
            return fail(cudaErrorInvalidValue);
        }
    }
    return enqueue(st, "memset", [=] { memset(d, v, n); });
}
cudaError_t cudaMemset(void *d, int v, size_t n) { return cudaMemsetAsync(d, v, n, nullptr); }

// ---- devices
cudaError_t cudaGetDeviceCount(int *n) {
    *n = n_dev();
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
    if (d < 0 || d >= n_dev()) return fail(cudaErrorInvalidDevice);
    cur_dev = d;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *d) {
    *d = cur_dev;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) { return wait_device(cur_dev); }
cudaError_t cudaDeviceReset(void) { return wait_device(cur_dev); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int d) {
    if (d < 0 || d >= n_dev()) return fail(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "CPU stand-in %d", d);
    p->major = 8;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = mem();
    p->maxThreadsPerBlock = 1024;
    p->warpSize = 32;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = (size_t)shared_most();
    p->sharedMemPerMultiprocessor = 167936;
    p->maxThreadsPerMultiProcessor = 2048;
    p->l2CacheSize = 1 << 20;
    p->regsPerBlock = 65536;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->asyncEngineCount = 2;
    p->unifiedAddressing = 1;
    p->pciBusID = d;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int) {
    static const std::map<cudaDeviceAttr, int> known = {{cudaDevAttrComputeCapabilityMajor, 8},
                                                        {cudaDevAttrMaxThreadsPerBlock, 1024},
                                                        {cudaDevAttrWarpSize, 32},
                                                        {cudaDevAttrMultiProcessorCount, 4},
                                                        {cudaDevAttrMaxSharedMemoryPerBlock, 49152},
                                                        {cudaDevAttrMemoryClockRate, 1000000},
                                                        {cudaDevAttrGlobalMemoryBusWidth, 128},
                                                        {cudaDevAttrL2CacheSize, 1 << 20}};
    *v = known.count(a) ? known.at(a) : 0;
    if (a == cudaDevAttrMaxSharedMemoryPerBlockOptin) *v = shared_most();
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *v, int a, int b) {
    *v = atoi(env("CU_FAKE_PEERS", "1")) && a != b && a < n_dev() && b < n_dev();
    return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int d, unsigned) {
    Lock g(big);
    if (d == cur_dev || d < 0 || d >= n_dev() || !atoi(env("CU_FAKE_PEERS", "1"))) return fail(cudaErrorInvalidDevice);
    return peers.insert({cur_dev, d}).second ? cudaSuccess : fail(cudaErrorPeerAccessAlreadyEnabled);
}
cudaError_t cudaDriverGetVersion(int *v) {
    *v = 13000;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v) { return cudaDriverGetVersion(v); }
cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute a, int v) {
    const bool most = a == cudaFuncAttributeMaxDynamicSharedMemorySize;
    return most && v > shared_most() ? fail(cudaErrorInvalidValue) : cudaSuccess;
}
cudaError_t cudaFuncSetCacheConfig(const void *, cudaFuncCache) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *, int, size_t, unsigned) {
    *n = 2;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *k, int threads, size_t shared) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(n, k, threads, shared, 0);
}
}
