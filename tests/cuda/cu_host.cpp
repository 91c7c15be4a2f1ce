// cu_host.cpp -- run-time half of cu_host.h: fibers and barriers. Blocks run one after another on the caller's thread;
// what runs side by side are tests.
#include "cu_host.h"
#include <string>
#include <vector>
#include <sys/mman.h>
#ifdef CUH_UCONTEXT
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
namespace cuh {
Thread *cur;
Block *blk;
static const size_t STACK = 64 * 1024;
struct Worker {
    std::vector<Thread> th;
    std::vector<char *> st;
    std::vector<Warp> warps;
    std::vector<int> order;  // threads that have not left the kernel, in the order of their turns
    std::vector<char> dyn;
    const std::function<void()> *body;
    int pos;  // in order: the one that runs
    void *main_sp;
#ifdef CUH_UCONTEXT
    std::vector<ucontext_t> uc;
    ucontext_t main_uc;
#endif
    void *fake;
    const void *mbot;
    size_t msz;
};
static Worker worker, *const W = &worker;
void die(const char *m) {
    fprintf(stderr, "cuh: %s  block (%u,%u,%u) thread (%u,%u,%u)\n", m, blk->bid.x, blk->bid.y, blk->bid.z, cur->tid.x,
            cur->tid.y, cur->tid.z);
    abort();
}
#ifndef CUH_UCONTEXT
#if defined(__x86_64__)
extern "C" void cuh_switch(void **save, void *to);
asm(".text\n.globl cuh_switch\n.type cuh_switch,@function\ncuh_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size cuh_switch,.-cuh_switch\n");
#else
#error "use -DCUH_UCONTEXT on this machine"
#endif
#endif
static void to_fiber(int i, void **save)  // leave through *save, enter fiber i
{
    cur = &W->th[i];
#ifdef CUH_UCONTEXT
    ucontext_t *from =
        save == &W->main_sp ? &W->main_uc : &W->uc[(Thread *)((char *)save - offsetof(Thread, sp)) - W->th.data()];
    swapcontext(from, &W->uc[i]);
#else
#if defined(__SANITIZE_ADDRESS__)
    void *f;
    __sanitizer_start_switch_fiber(&f, W->st[i], STACK);
    cuh_switch(save, cur->sp);
    __sanitizer_finish_switch_fiber(f, nullptr, nullptr);
#else
    cuh_switch(save, cur->sp);
#endif
#endif
}
static bool is_ready(const Thread &t) { return !t.waits || (*t.waits & t.bits) != t.was; }
// The next in turn that does not wait, the running one last; without threads left, -1.
static int next_ready() {
    const int n = (int)W->order.size();
    for (int k = 1, p = W->pos; k <= n; k++) {
        p = p + 1 < n ? p + 1 : 0;
        if (is_ready(W->th[W->order[p]])) {
            W->pos = p;
            return W->order[p];
        }
    }
    if (n) die("deadlock: a barrier or warp exchange that not all its threads reach");
    return -1;
}
// Runs others until the bits of *at change.
static void wait_for(const unsigned *at, unsigned bits) {
    Thread *me = cur;
    me->waits = at, me->bits = bits, me->was = *at & bits;
    to_fiber(next_ready(), &me->sp);
    me->waits = nullptr;
}
static void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &W->mbot, &W->msz);
#endif
    (*W->body)();
    blk->alive--;
    cur->warp->alive &= ~(1u << cur->lane);
    if (blk->alive && blk->arrived == blk->alive) {
        blk->redout[0] = blk->red[0];
        blk->red[0] = 0;
        blk->arrived = 0;
        blk->gen++;
    }
    Thread *me = cur;
    W->order.erase(W->order.begin() + W->pos--);
    int i = next_ready();
    if (i >= 0)
        to_fiber(i, &me->sp);
    else {
#ifdef CUH_UCONTEXT
        setcontext(&W->main_uc);
#else
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(nullptr, W->mbot, W->msz);
#endif
        cuh_switch(&me->sp, W->main_sp);
#endif
    }
    abort();
}
unsigned block_barrier(int pred) {
    Block *b = blk;
    unsigned g = b->gen;
    b->red[0] += !!pred;
    if (++b->arrived == b->alive) {
        b->redout[0] = b->red[0];
        b->red[0] = 0;
        b->arrived = 0;
        b->gen++;
        return g;
    }
    wait_for(&b->gen, ~0u);
    return g;
}
unsigned warp_exchange(unsigned mask, uint64_t v, int pred) {
    Thread *t = cur;
    Warp *w = t->warp;
    unsigned p = t->par++ & 1;
    if (!(mask >> t->lane & 1)) die("warp exchange whose mask lacks the caller");
    w->slot[p][t->lane] = v;
    unsigned bit = 1u << t->lane;
    if (pred)
        w->pred[p] |= bit;
    else
        w->pred[p] &= ~bit;
    w->arrived |= bit;
    if (mask & ~w->alive) die("warp exchange with a lane that has left the kernel");
    if ((w->arrived & mask) == mask) {
        w->arrived &= ~mask;
        w->done ^= mask;
        w->gen++;
        return p;
    }  // last lane in: release the others
    wait_for(&w->done, bit);
    return p;
}
static void run_block(dim3 g, dim3 b, size_t smem, unsigned id, const std::function<void()> &body, int mode,
                      unsigned seed) {
    Block B{};
    B.bdim = b;
    B.gdim = g;
    B.n = B.alive = b.x * b.y * b.z;
    B.bid = {id % g.x, id / g.x % g.y, id / g.x / g.y};
    Worker &w = *W;
    int n = B.n, nw = (n + 31) / 32;
    w.th.resize(n);
    w.order.resize(n);
    w.warps.assign(nw, Warp{});
    while ((int)w.st.size() < n)
        w.st.push_back(
            (char *)mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    w.dyn.assign(smem + 16, (char)0xFF);
    B.dyn = (void *)(((uintptr_t)w.dyn.data() + 15) & ~(uintptr_t)15);
#ifdef CUH_UCONTEXT
    w.uc.resize(n);
#endif
    w.body = &body;
    blk = &B;
    for (int i = 0; i < n; i++) {
        Thread &t = w.th[i];
        t = Thread{};
        t.tid = {i % b.x, i / b.x % b.y, i / b.x / b.y};
        t.lane = i & 31;
        t.warp = &w.warps[i / 32];
        t.warp->alive |= 1u << t.lane;
        w.order[i] = mode == 1 ? n - 1 - i : i;
#ifdef CUH_UCONTEXT
        getcontext(&w.uc[i]);
        w.uc[i].uc_stack.ss_sp = w.st[i];
        w.uc[i].uc_stack.ss_size = STACK;
        w.uc[i].uc_link = nullptr;
        makecontext(&w.uc[i], fiber_main, 0);
#else
#if defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(w.st[i], STACK);  // fiber_main is never left, so its frame there stays poisoned
#endif
        uintptr_t *s = (uintptr_t *)(w.st[i] + STACK - 64);
        *--s = 0;
        *--s = (uintptr_t)fiber_main;
        s -= 6;
        memset(s, 0, 48);
        t.sp = s;
#endif
    }
    if (mode == 2) {
        unsigned x = seed * 2654435761u + id * 40503u + 1;
        for (int i = n - 1; i > 0; i--) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            std::swap(w.order[i], w.order[x % (i + 1)]);
        }
    }
    w.pos = 0;
    to_fiber(w.order[0], &w.main_sp);
    blk = nullptr;
    cur = nullptr;
}
void run_grid(dim3 g, dim3 b, size_t smem, const std::function<void()> &body) {
    static int mode = -1;
    static unsigned seed;
    // CUH_ORDER = fwd | rev | <seed>: order in which a block's threads run, to bring missing barriers to light
    if (mode < 0) {
        const char *o = getenv("CUH_ORDER");
        mode = !o || !strcmp(o, "fwd") ? 0 : !strcmp(o, "rev") ? 1 : 2;
        seed = o ? atoi(o) : 0;
    }
    unsigned nb = g.x * g.y * g.z;
    if (!nb || b.x * b.y * b.z > 1024 || smem > 227 * 1024 || g.y > 65535 || g.z > 65535) {
        fprintf(stderr, "cuh: bad launch\n");
        abort();
    }
    for (unsigned i = 0; i < nb; i++) run_block(g, b, smem, mode == 1 ? nb - 1 - i : i, body, mode, seed);
}
}  // namespace cuh
