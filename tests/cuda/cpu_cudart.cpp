// cpu_cudart.cpp - a CUDA runtime whose devices are this machine's CPU: streams, events, graphs, several devices, faults.
//
// Used by both ways of running kernels (../shim: .cu compiled as host C++; ../ptxrun: nvcc's PTX). Device memory is host memory.
// It is stricter than a GPU on purpose. Environment:
//   CU_FAKE_STREAMS=lazy|eager|SEED   lazy (default): work on a stream runs only when something waits for it, as late as CUDA allows;
//                                     eager: at once; a number: a random part of the pending work after every call
//   CU_FAKE_PROTECT=0                 device memory is unreadable to the host (PROT_NONE) unless a kernel or copy runs; 0 switches that off
//   CU_FAKE_DEVICES=N                 N devices (default 1); memory and streams belong to one; peers need cudaDeviceEnablePeerAccess
//   CU_FAKE_PEERS=0                   a machine whose devices do not reach each other's memory; a kernel that does faults (unless CU_FAKE_PROTECT=0)
//   CU_FAKE_MEM=BYTES                 memory per device (default 8 GiB)
//   CU_FAKE_FAIL=KIND:K               the K-th such call fails. KIND: malloc, pinned (host memory), copy, launch (cuBLAS too); lost: from the K-th
//                                     piece of work on, every call fails. list: nothing fails; of every place in the program that makes such
//                                     calls, a line "KIND:K PLACE" on standard error names the first
//   CU_FAKE_LOG=1                     prints each call that enqueues or waits
#include "cpu_cudart.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <dlfcn.h>
#include <execinfo.h>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <sys/mman.h>
#include <vector>

namespace cpu_cuda {
struct Stream;
struct Op {
    std::function<void()> fn;
    std::vector<std::shared_ptr<Op>> deps;
    bool done = false;
    int dev = 0;
    bool alone = false; // touches memory of its own device only, and of peers
};
using OpP = std::shared_ptr<Op>;
struct Node {
    std::function<void()> fn;
    std::vector<int> deps;
};
struct Graph {
    std::vector<Node> nodes;
};
struct Capture {
    Graph *g;
    std::map<Stream *, int> last;
    Stream *origin;
};
struct Stream {
    int dev = 0;
    bool blocking = true;
    OpP last;
    Capture *cap = nullptr;
};
struct Event {
    OpP op;
    std::shared_ptr<double> ms;
    Capture *cap = nullptr;
    int node = -1;
};
struct Alloc {
    size_t n;
    int dev;
}; // dev < 0: pinned host memory

static std::recursive_mutex big;
using Lock = std::lock_guard<std::recursive_mutex>;
// never destroyed: programs may still call in while they exit
static auto &allocs = *new std::map<uintptr_t, Alloc>;
static auto &streams = *new std::set<Stream *>;
static auto &legacy = *new std::vector<Stream *>; // one default stream per device
static auto &pending = *new std::vector<OpP>;     // not yet run, oldest first
static auto &peers = *new std::set<std::pair<int, int>>;
static thread_local int cur_dev;
static thread_local cudaError_t last_error;
static thread_local int run_dev = -1; // device whose work runs on this thread
static size_t used[64];
static bool lost;
static int depth;

static const char *env(const char *k, const char *d) {
    const char *v = getenv(k);
    return v ? v : d;
}
static int n_dev() {
    static int n = std::max(1, std::min(64, atoi(env("CU_FAKE_DEVICES", "1"))));
    return n;
}
static size_t mem() {
    static size_t n = strtoull(env("CU_FAKE_MEM", "8589934592"), 0, 10);
    return n;
}
static bool protect() {
    static bool p = atoi(env("CU_FAKE_PROTECT", "1")) != 0;
    return p;
}
static void note(const char *f, ...) {
    static bool on = getenv("CU_FAKE_LOG");
    if (!on) return;
    va_list a;
    va_start(a, f);
    fputs("cuda-on-cpu: ", stderr);
    vfprintf(stderr, f, a);
    fputc('\n', stderr);
    va_end(a);
}
cudaError_t fail(cudaError_t e) {
    if (e) last_error = e;
    return e;
}
static void list_site(const char *what) {
    enum { FRAMES = 5 }; // past this file: the launcher, the operation
    static std::map<std::string, long> calls;
    static std::set<std::string> seen;
    void *at[FRAMES];
    std::string site = what;
    for (int i = 0, n = backtrace(at, FRAMES); i < n; i++) { // offsets within a library: the same in every process
        Dl_info d;
        char offset[32];
        snprintf(offset, sizeof offset, ".%zx", dladdr(at[i], &d) ? (size_t)((char *)at[i] - (char *)d.dli_fbase) : 0);
        site += offset;
    }
    long k = ++calls[what];
    if (seen.insert(site).second) fprintf(stderr, "%s:%ld %s\n", what, k, site.c_str());
}
bool injected(const char *what) {
    static std::string kind;
    static long k = -1;
    static bool read;
    if (!read) {
        read = true;
        std::string v = env("CU_FAKE_FAIL", "");
        size_t c = v.find(':');
        kind = v.substr(0, c);
        if (c != v.npos) k = atol(v.c_str() + c + 1);
    }
    Lock g(big);
    if (kind == "list") list_site(what);
    return kind == what && --k == 0;
}
static size_t pages(size_t n) { return (n + 4095) & ~(size_t)4095; }
static void open_memory(bool open) {
    if (!protect()) return;
    for (auto &a : allocs)
        if (a.second.dev >= 0) mprotect((void *)a.first, pages(a.second.n), open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
// Within a Running: only what a kernel of this device may touch.
static void open_own(int dev) {
    if (!protect() || n_dev() < 2) return;
    for (auto &a : allocs)
        if (a.second.dev >= 0 && a.second.dev != dev && !peers.count({dev, a.second.dev})) mprotect((void *)a.first, pages(a.second.n), PROT_NONE);
}
struct Running {
    Running() {
        if (depth++ == 0) open_memory(true);
    }
    ~Running() {
        if (--depth == 0) open_memory(false);
    }
};

static void run(const OpP &o) {
    if (o->done) return;
    Running r; // one opening for all that this waits for
    o->done = true; // set first: a cycle cannot occur, deps are older
    for (auto &d : o->deps) run(d);
    if (o->fn) {
        int keep = run_dev;
        run_dev = o->dev;
        if (o->alone) open_own(o->dev);
        o->fn();
        if (o->alone && n_dev() > 1) open_memory(true);
        run_dev = keep;
    }
    o->fn = nullptr;
    o->deps.clear();
}
static void run_some() {
    static std::string mode = env("CU_FAKE_STREAMS", "lazy");
    static std::mt19937 rng(atoi(mode.c_str()));
    pending.erase(std::remove_if(pending.begin(), pending.end(), [](const OpP &o) { return o->done; }), pending.end());
    if (mode == "lazy") {
        if (pending.size() > 5000) run(pending.front());
        return;
    }
    if (mode == "eager") {
        for (size_t i = 0; i < pending.size(); i++) run(pending[i]);
        pending.clear();
        return;
    }
    for (int i = rng() % 3; i-- && !pending.empty();) run(pending[rng() % pending.size()]);
}
static Stream *find(cudaStream_t s, int dev) {
    while ((int)legacy.size() < n_dev()) {
        Stream *l = new Stream;
        l->dev = (int)legacy.size();
        legacy.push_back(l);
    }
    if (!s || s == cudaStreamLegacy) return legacy[dev];
    Stream *p = (Stream *)s;
    return streams.count(p) ? p : nullptr;
}
static int capture_node(Capture *c, Stream *s, std::function<void()> fn, int extra) {
    Node n{std::move(fn), {}};
    if (c->last.count(s)) n.deps.push_back(c->last[s]);
    if (extra >= 0) n.deps.push_back(extra);
    c->g->nodes.push_back(std::move(n));
    return c->last[s] = (int)c->g->nodes.size() - 1;
}
static OpP push(Stream *s, std::function<void()> fn, OpP extra = nullptr) {
    OpP o = std::make_shared<Op>();
    o->fn = std::move(fn);
    o->dev = s->dev;
    if (s->last && !s->last->done) o->deps.push_back(s->last);
    if (extra && !extra->done) o->deps.push_back(extra);
    Stream *l = legacy[s->dev];
    if (s == l) {
        for (Stream *t : streams)
            if (t->dev == s->dev && t->blocking && t->last && !t->last->done) o->deps.push_back(t->last);
    } else if (s->blocking && l->last && !l->last->done)
        o->deps.push_back(l->last);
    s->last = o;
    pending.push_back(o);
    return o;
}
// Puts work on a stream (or into the graph that the stream is being captured into).
cudaError_t enqueue(cudaStream_t st, const char *what, std::function<void()> fn) {
    Lock g(big);
    if (lost || injected("lost")) {
        lost = true;
        return fail(cudaErrorDevicesUnavailable);
    }
    Stream *s = find(st, cur_dev);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (s->dev != cur_dev && strcmp(what, "copy")) {
        note("%s on a stream of device %d while device %d is current", what, s->dev, cur_dev);
        return fail(cudaErrorInvalidResourceHandle);
    }
    note("%s on stream %p of device %d", what, (void *)st, s->dev);
    if (s->cap) {
        capture_node(s->cap, s, std::move(fn), -1);
        return cudaSuccess;
    }
    for (Stream *t : streams)
        if (t->cap && s == legacy[s->dev] && t->blocking) return fail(cudaErrorStreamCaptureImplicit);
    push(s, std::move(fn))->alone = strcmp(what, "copy") != 0;
    run_some();
    return cudaSuccess;
}
static cudaError_t wait_stream(cudaStream_t st) {
    Lock g(big);
    if (lost) return fail(cudaErrorDevicesUnavailable);
    Stream *s = find(st, cur_dev);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (s->cap) return fail(cudaErrorStreamCaptureUnsupported);
    note("wait for stream %p", (void *)st);
    if (s->last) run(s->last);
    return lost ? fail(cudaErrorDevicesUnavailable) : cudaSuccess;
}
static cudaError_t wait_device(int dev) {
    Lock g(big);
    if (lost) return fail(cudaErrorDevicesUnavailable);
    for (Stream *s : streams)
        if (s->cap) return fail(cudaErrorStreamCaptureUnsupported);
    for (auto &o : std::vector<OpP>(pending))
        if (o->dev == dev) run(o);
    return cudaSuccess;
}
static const Alloc *find_alloc(const void *p, size_t n) {
    auto it = allocs.upper_bound((uintptr_t)p);
    if (it == allocs.begin()) return nullptr;
    --it;
    return (uintptr_t)p + n <= it->first + it->second.n ? &it->second : nullptr;
}
// For kernels that check their addresses: does [p, p+n) lie in memory that the running device may touch?
bool may_access(const void *p, size_t n) {
    const Alloc *a = find_alloc(p, n);
    return a && (a->dev < 0 || run_dev < 0 || a->dev == run_dev || peers.count({run_dev, a->dev}));
}
void *device_alloc(size_t n, int dev) {
    size_t m = pages(n ? n : 1);
    void *p = mmap(nullptr, m, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    memset(p, 0xFF, n); // NaN: reading what was never written shows
    allocs[(uintptr_t)p] = {n, dev};
    if (dev >= 0 && protect() && !depth) mprotect(p, m, PROT_NONE);
    return p;
}
static cudaError_t copy(void *d, const void *s, size_t n, cudaStream_t st, bool block) {
    Lock g(big);
    if (injected("copy")) return fail(cudaErrorUnknown);
    if (!n) return cudaSuccess;
    const Alloc *ad = find_alloc(d, n), *as = find_alloc(s, n);
    bool dd = find_alloc(d, 1) != nullptr, ds = find_alloc(s, 1) != nullptr;
    if ((dd && !ad) || (ds && !as)) {
        fprintf(stderr, "cuda-on-cpu: copy of %zu bytes past the end of its block\n", n);
        return fail(cudaErrorInvalidValue);
    }
    Stream *strm = find(st, cur_dev);
    if (!strm) return fail(cudaErrorInvalidResourceHandle);
    cudaError_t e;
    if (!as && !strm->cap) { // pageable source: staged at once, as CUDA does
        auto buf = std::make_shared<std::vector<char>>((const char *)s, (const char *)s + n);
        e = enqueue(st, "copy", [=] { memcpy(d, buf->data(), n); });
    } else
        e = enqueue(st, "copy", [=] { memmove(d, s, n); });
    if (!e && (block || !ad) && !strm->cap) e = wait_stream(st); // pageable target: done on return
    return e;
}
} // namespace cpu_cuda
using namespace cpu_cuda;

extern "C" {
// ---- memory
cudaError_t cudaMalloc(void **p, size_t n) {
    Lock g(big);
    *p = nullptr;
    if (lost) return fail(cudaErrorDevicesUnavailable);
    if (injected("malloc") || used[cur_dev] + n > mem() || !(*p = device_alloc(n, cur_dev))) return fail(cudaErrorMemoryAllocation);
    used[cur_dev] += n;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    Lock g(big);
    if (!p) return cudaSuccess;
    auto it = allocs.find((uintptr_t)p);
    if (it == allocs.end()) return fail(cudaErrorInvalidValue);
    if (it->second.dev >= 0) {
        wait_device(it->second.dev);
        used[it->second.dev] -= it->second.n;
    }
    size_t n = pages(it->second.n);
    allocs.erase(it);
    munmap(p, n);
    return lost ? fail(cudaErrorDevicesUnavailable) : cudaSuccess;
}
cudaError_t cudaMallocAsync(void **p, size_t n, cudaStream_t) { return cudaMalloc(p, n); }
cudaError_t cudaFreeAsync(void *p, cudaStream_t) { return cudaFree(p); }
cudaError_t cudaMallocManaged(void **p, size_t n, unsigned) {
    Lock g(big);
    return (*p = device_alloc(n, -1)) ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) {
    Lock g(big);
    if (injected("pinned")) return fail(cudaErrorMemoryAllocation);
    return (*p = device_alloc(n, -1)) ? cudaSuccess : fail(cudaErrorMemoryAllocation);
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
cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind) { return copy(d, s, n, nullptr, true); }
cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind, cudaStream_t st) { return copy(d, s, n, st, false); }
cudaError_t cudaMemcpyPeer(void *d, int, const void *s, int, size_t n) { return copy(d, s, n, nullptr, true); }
cudaError_t cudaMemcpyPeerAsync(void *d, int, const void *s, int, size_t n, cudaStream_t st) { return copy(d, s, n, st, false); }
cudaError_t cudaMemcpy2DAsync(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind, cudaStream_t st) {
    for (size_t i = 0; i < h; i++)
        if (cudaError_t e = copy((char *)d + i * dp, (const char *)s + i * sp, w, st, false)) return e;
    return cudaSuccess;
}
cudaError_t cudaMemcpy2D(void *d, size_t dp, const void *s, size_t sp, size_t w, size_t h, cudaMemcpyKind k) {
    cudaError_t e = cudaMemcpy2DAsync(d, dp, s, sp, w, h, k, nullptr);
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
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    Lock g(big);
    const Alloc *f = find_alloc(p, 1);
    memset(a, 0, sizeof *a);
    a->type = !f ? cudaMemoryTypeUnregistered : f->dev < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    a->device = f ? std::max(0, f->dev) : 0;
    if (f) a->devicePointer = (void *)p;
    return cudaSuccess;
}
// ---- errors
cudaError_t cudaGetLastError(void) {
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return lost ? cudaErrorDevicesUnavailable : e;
}
cudaError_t cudaPeekAtLastError(void) { return lost ? cudaErrorDevicesUnavailable : last_error; }
const char *cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
    case cudaErrorDevicesUnavailable:
        return "cudaErrorDevicesUnavailable";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorNotReady:
        return "cudaErrorNotReady";
    default:
        return "cudaError";
    }
}
const char *cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
    case cudaErrorDevicesUnavailable:
        return "device lost";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorNotReady:
        return "device not ready";
    default:
        return "error";
    }
}
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
    p->minor = 0;
    p->multiProcessorCount = 4;
    p->totalGlobalMem = mem();
    p->maxThreadsPerBlock = 1024;
    p->warpSize = 32;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = 166912;
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
    switch (a) {
    case cudaDevAttrComputeCapabilityMajor:
        *v = 8;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *v = 0;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *v = 1024;
        break;
    case cudaDevAttrWarpSize:
        *v = 32;
        break;
    case cudaDevAttrMultiProcessorCount:
        *v = 4;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *v = 49152;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *v = 166912;
        break;
    case cudaDevAttrMemoryClockRate:
        *v = 1000000;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *v = 128;
        break;
    case cudaDevAttrL2CacheSize:
        *v = 1 << 20;
        break;
    default:
        *v = 0;
    }
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
cudaError_t cudaRuntimeGetVersion(int *v) {
    *v = 13000;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncSetCacheConfig(const void *, cudaFuncCache) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *, int, size_t, unsigned) {
    *n = 2;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *, int, size_t) {
    *n = 2;
    return cudaSuccess;
}
// ---- streams and events
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    Lock g(big);
    find(nullptr, 0);
    Stream *n = new Stream;
    n->dev = cur_dev;
    n->blocking = !(flags & cudaStreamNonBlocking);
    streams.insert(n);
    *s = (cudaStream_t)n;
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) { return cudaStreamCreateWithFlags(s, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned f, int) { return cudaStreamCreateWithFlags(s, f); }
cudaError_t cudaDeviceGetStreamPriorityRange(int *a, int *b) {
    *a = 0;
    *b = -1;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) { return wait_stream(s); }
cudaError_t cudaStreamQuery(cudaStream_t s) {
    Lock g(big);
    Stream *p = find(s, cur_dev);
    return !p ? fail(cudaErrorInvalidResourceHandle) : !p->last || p->last->done ? cudaSuccess : (run(p->last), cudaErrorNotReady);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    Lock g(big);
    Stream *p = (Stream *)s;
    if (!streams.count(p)) return fail(cudaErrorInvalidResourceHandle);
    if (p->last) run(p->last);
    streams.erase(p);
    delete p;
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    *e = (cudaEvent_t) new Event;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete (Event *)e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t ev, cudaStream_t st) {
    Lock g(big);
    Event *e = (Event *)ev;
    Stream *s = find(st, cur_dev);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (s->cap) {
        e->cap = s->cap;
        e->node = s->cap->last.count(s) ? s->cap->last[s] : -1;
        return cudaSuccess;
    }
    e->cap = nullptr;
    auto ms = e->ms = std::make_shared<double>(0);
    e->op = push(s, [ms] {
        timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        *ms = t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
    });
    run_some();
    return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned) { return cudaEventRecord(e, s); }
cudaError_t cudaEventSynchronize(cudaEvent_t ev) {
    Lock g(big);
    Event *e = (Event *)ev;
    if (lost) return fail(cudaErrorDevicesUnavailable);
    if (e->op) run(e->op);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t ev) {
    Lock g(big);
    Event *e = (Event *)ev;
    if (!e->op || e->op->done) return cudaSuccess;
    run(e->op);
    return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
    Lock g(big);
    Event *x = (Event *)a, *y = (Event *)b;
    if (!x->op || !y->op) return fail(cudaErrorInvalidResourceHandle);
    if (!x->op->done || !y->op->done) return fail(cudaErrorNotReady);
    *ms = (float)(*y->ms - *x->ms);
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t st, cudaEvent_t ev, unsigned) {
    Lock g(big);
    Event *e = (Event *)ev;
    Stream *s = find(st, cur_dev);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (e->cap) {
        if (s->cap && s->cap != e->cap) return fail(cudaErrorStreamCaptureMerge);
        s->cap = e->cap;
        capture_node(s->cap, s, nullptr, e->node);
        return cudaSuccess;
    }
    if (s->cap) return fail(cudaErrorStreamCaptureIsolation);
    if (e->op) push(s, nullptr, e->op);
    return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void *a) {
    return enqueue(s, "host function", [=] { f(a); });
}
// ---- graphs
cudaError_t cudaStreamBeginCapture(cudaStream_t st, cudaStreamCaptureMode) {
    Lock g(big);
    Stream *s = find(st, cur_dev);
    if (!s || !st) return fail(cudaErrorStreamCaptureUnsupported);
    if (s->cap) return fail(cudaErrorIllegalState);
    s->cap = new Capture{new Graph, {}, s};
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t st, cudaGraph_t *out) {
    Lock g(big);
    Stream *s = find(st, cur_dev);
    *out = nullptr;
    if (!s || !s->cap || s->cap->origin != s) return fail(cudaErrorIllegalState);
    Capture *c = s->cap;
    bool open = false;
    // every joined stream must have come back: its last node must be an ancestor of the origin's last node
    std::vector<char> seen(c->g->nodes.size(), 0);
    std::vector<int> todo;
    if (c->last.count(s)) todo.push_back(c->last[s]);
    while (!todo.empty()) {
        int i = todo.back();
        todo.pop_back();
        if (seen[i]) continue;
        seen[i] = 1;
        for (int d : c->g->nodes[i].deps) todo.push_back(d);
    }
    for (auto &l : c->last)
        if (!seen[l.second]) open = true;
    for (Stream *t : streams)
        if (t->cap == c) t->cap = nullptr;
    Graph *gr = c->g;
    delete c;
    if (open) {
        delete gr;
        return fail(cudaErrorStreamCaptureUnjoined);
    }
    *out = (cudaGraph_t)gr;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t st, cudaStreamCaptureStatus *v) {
    Lock g(big);
    Stream *s = find(st, cur_dev);
    *v = s && s->cap ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long) {
    *x = (cudaGraphExec_t) new Graph(*(Graph *)g);
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long f) { return cudaGraphInstantiate(x, g, f); }
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete (Graph *)g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) {
    delete (Graph *)g;
    return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *, size_t *n) {
    *n = ((Graph *)g)->nodes.size();
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t st) {
    auto g = std::make_shared<Graph>(*(Graph *)x);
    return enqueue(st, "graph", [g] { // youngest node first wherever the dependencies allow
        std::vector<char> done(g->nodes.size(), 0);
        std::function<void(int)> go = [&](int i) {
            if (done[i]) return;
            done[i] = 1;
            for (int d : g->nodes[i].deps) go(d);
            if (g->nodes[i].fn) g->nodes[i].fn();
        };
        for (int i = (int)g->nodes.size(); i-- > 0;) go(i);
    });
}
}
namespace cpu_cuda {
// A launch: refused as CUDA would refuse it, else put on its stream.
cudaError_t launch(dim3 g, dim3 b, size_t smem, cudaStream_t st, std::function<void()> go) {
    if (!(g.x && g.y && g.z && b.x && b.y && b.z) || (size_t)b.x * b.y * b.z > 1024 || b.z > 64 || g.y > 65535 || g.z > 65535 || smem > 166912)
        return fail(cudaErrorInvalidConfiguration);
    {
        Lock l(big);
        if (injected("launch")) return fail(cudaErrorLaunchFailure);
    }
    return enqueue(st, "kernel", std::move(go));
}
} // namespace cpu_cuda
