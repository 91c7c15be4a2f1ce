// cpu_cudart_streams.cpp - streams, events, graphs and launches of the CUDA runtime on the CPU (cpu_cudart.h). Work
// waits in a list until something needs it, in the order that streams and events give.
#include "cpu_cudart_state.h"
#include <algorithm>
#include <cstring>
#include <ctime>
#include <random>

namespace cpu_cuda {
std::recursive_mutex big;
// never destroyed: programs may still call in while they exit
std::set<Stream *> &streams = *new std::set<Stream *>;
static auto &legacy = *new std::vector<Stream *>;  // one default stream per device
static auto &pending = *new std::vector<OpP>;      // not yet run, oldest first

template <class Work> static void run_as(const Work &w) {  // an Op or a Node
    if (!w.fn) return;
    int keep = run_dev;
    run_dev = w.dev;
    if (w.alone) close_others(w.dev);
    w.fn();
    if (w.alone) open_all();
    run_dev = keep;
}
static void run(const OpP &o) {
    if (o->done) return;
    Running r;       // one opening for all that this waits for
    o->done = true;  // set first: a cycle cannot occur, deps are older
    for (auto &d : o->deps) run(d);
    run_as(*o);
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
Stream *find(cudaStream_t s, int dev) {
    while ((int)legacy.size() < n_dev()) {
        Stream *l = new Stream;
        l->dev = (int)legacy.size();
        legacy.push_back(l);
    }
    if (!s || s == cudaStreamLegacy) return legacy[dev];
    Stream *p = (Stream *)s;
    return streams.count(p) ? p : nullptr;
}
static int capture_node(Capture *c, Stream *s, std::function<void()> fn, int extra, bool alone = false) {
    Node n{std::move(fn), {}, s->dev, alone};
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
    count(what);
    const bool alone = strcmp(what, "copy") && strcmp(what, "graph");
    if (s->cap) {
        capture_node(s->cap, s, std::move(fn), -1, alone);
        return cudaSuccess;
    }
    for (Stream *t : streams)
        if (t->cap && s == legacy[s->dev] && t->blocking) return fail(cudaErrorStreamCaptureImplicit);
    push(s, std::move(fn))->alone = alone;
    run_some();
    return cudaSuccess;
}
bool capturing() {
    return std::any_of(streams.begin(), streams.end(), [](Stream *s) { return s->cap != nullptr; });
}
cudaError_t wait_stream(cudaStream_t st) {
    Lock g(big);
    if (lost) return fail(cudaErrorDevicesUnavailable);
    Stream *s = find(st, cur_dev);
    if (!s) return fail(cudaErrorInvalidResourceHandle);
    if (s->cap) return fail(cudaErrorStreamCaptureUnsupported);
    note("wait for stream %p", (void *)st);
    count("wait");
    count("drain");
    if (s->last) run(s->last);
    return lost ? fail(cudaErrorDevicesUnavailable) : cudaSuccess;
}
cudaError_t wait_device(int dev) {
    Lock g(big);
    if (lost) return fail(cudaErrorDevicesUnavailable);
    if (capturing()) return fail(cudaErrorStreamCaptureUnsupported);
    for (auto &o : std::vector<OpP>(pending))
        if (o->dev == dev) run(o);
    return cudaSuccess;
}
// A launch: refused as CUDA would refuse it, else put on its stream.
cudaError_t launch(dim3 g, dim3 b, size_t smem, cudaStream_t st, std::function<void()> go) {
    if (!(g.x && g.y && g.z && b.x && b.y && b.z) || (size_t)b.x * b.y * b.z > 1024 || b.z > 64 || g.y > 65535 ||
        g.z > 65535 || smem > 166912)
        return fail(cudaErrorInvalidConfiguration);
    {
        Lock l(big);
        if (injected("launch")) return fail(cudaErrorLaunchFailure);
    }
    return enqueue(st, "kernel", std::move(go));
}
}  // namespace cpu_cuda
using namespace cpu_cuda;

extern "C" {
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
    return !p                          ? fail(cudaErrorInvalidResourceHandle)
           : !p->last || p->last->done ? cudaSuccess
                                       : (run(p->last), cudaErrorNotReady);
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
    if (!e->op) return cudaSuccess;
    count("wait");
    if (std::any_of(streams.begin(), streams.end(), [e](Stream *s) { return s->last == e->op; })) count("drain");
    run(e->op);
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
    if (!s || !st || injected("graph")) return fail(cudaErrorStreamCaptureUnsupported);
    if (s->cap) return fail(cudaErrorIllegalState);
    s->cap = new Capture{new Graph, {}, s};
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t st, cudaGraph_t *out) {
    Lock g(big);
    Stream *s = find(st, cur_dev);
    *out = nullptr;
    if (!s || !s->cap || s->cap->origin != s) return fail(cudaErrorIllegalState);
    if (injected("graph")) return fail(cudaErrorStreamCaptureInvalidated);
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
    if (injected("graph")) return fail(cudaErrorMemoryAllocation);
    *x = (cudaGraphExec_t) new Graph(*(Graph *)g);
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long f) {
    return cudaGraphInstantiate(x, g, f);
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete (Graph *)g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) {
    delete (Graph *)g;
    return cudaSuccess;
}
// Those that do something: waiting for an event is an edge. A node's handle is its number, from 1.
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t *out, size_t *n) {
    const auto &all = ((Graph *)g)->nodes;
    *n = 0;
    for (size_t i = 0; i < all.size(); i++) {
        if (!all[i].fn) continue;
        if (out) out[*n] = (cudaGraphNode_t)(i + 1);
        ++*n;
    }
    return cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaGraphGetEdges(cudaGraph_t g, cudaGraphNode_t *from, cudaGraphNode_t *to, cudaGraphEdgeData *,
                              size_t *n) {
#else
cudaError_t cudaGraphGetEdges(cudaGraph_t g, cudaGraphNode_t *from, cudaGraphNode_t *to, size_t *n) {
#endif
    const auto &all = ((Graph *)g)->nodes;
    std::vector<std::set<int>> before(all.size());
    *n = 0;
    for (size_t i = 0; i < all.size(); i++) {
        for (int d : all[i].deps)
            if (all[d].fn)
                before[i].insert(d);
            else
                before[i].insert(before[d].begin(), before[d].end());
        for (int d : before[i]) {
            if (!all[i].fn) continue;
            if (from) from[*n] = (cudaGraphNode_t)(uintptr_t)(d + 1), to[*n] = (cudaGraphNode_t)(i + 1);
            ++*n;
        }
    }
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t st) {
    if (injected("graph")) return fail(cudaErrorLaunchFailure);
    auto g = std::make_shared<Graph>(*(Graph *)x);
    return enqueue(st, "graph", [g] {  // youngest node first wherever the dependencies allow
        std::vector<char> done(g->nodes.size(), 0);
        std::function<void(int)> go = [&](int i) {
            if (done[i]) return;
            done[i] = 1;
            for (int d : g->nodes[i].deps) go(d);
            run_as(g->nodes[i]);
        };
        for (int i = (int)g->nodes.size(); i-- > 0;) go(i);
    });
}
}
