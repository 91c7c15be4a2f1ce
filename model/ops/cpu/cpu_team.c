// cpu_team - threads that share a short piece of work. Contract in cpu_team.h.
//
// How long to spin follows the kernel's polling of idle virtual processors (Linux, Documentation/virt/kvm/halt-polling):
// after a wait that was longer than the most, not at all; after one that was longer than the spin but not too long,
// twice as long.
//
// Among busy processes a thread that wakes waits for the end of somebody's time slice, some 3 ms, and its partners wait
// with it. Since Linux 6.12 a thread may ask for shorter slices of its own; it then runs at once, if it has not had more
// than its share, and the share remains the same (Documentation/scheduler/sched-eevdf.rst, sched_setattr(2)). A spinning
// thread yields, so that a partner on the same core does not wait for the end of the spin.
#include "cpu_team.h"
#include "base.h"
#include <linux/futex.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAUSES = 16, SLICE_NS = 100000 };  // between two looks at the clock; of a time slice
static const double FIRST_SPIN = 10e-6, MOST_SPIN = 200e-6;

void cpu_short_slices(void) {
    struct {
        uint32_t bytes, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.bytes = 48};  // the first version of struct sched_attr
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0 || a.policy != SCHED_OTHER) return;
    a.bytes = sizeof a;
    a.runtime = SLICE_NS;
    syscall(SYS_sched_setattr, 0, &a, 0);
}

// A number that one thread changes and another waits for.
typedef struct {
    _Alignas(64) atomic_uint value;
    atomic_bool asleep;
    double spin;  // of the one who waits: seconds
} signal_word;

static void rest(void) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

// Until the value is no longer `old`.
static void wait_while(signal_word *s, unsigned old) {
    const double start = clock_s();
    while (atomic_load(&s->value) == old) {
        for (int i = 0; i < PAUSES && atomic_load_explicit(&s->value, memory_order_relaxed) == old; i++) rest();
        if (clock_s() - start < s->spin) {
            sched_yield();
            continue;
        }
        atomic_store(&s->asleep, true);
        while (atomic_load(&s->value) == old) syscall(SYS_futex, &s->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
        atomic_store(&s->asleep, false);
    }
    const double waited = clock_s() - start;
    if (waited > MOST_SPIN)
        s->spin = 0;
    else if (waited > s->spin)
        s->spin = s->spin > 0 ? 2 * s->spin : FIRST_SPIN;
}

static void wake(signal_word *s) {
    if (atomic_load(&s->asleep)) syscall(SYS_futex, &s->value, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

typedef struct {
    signal_word pieces;  // that this worker was given
    int thread;
} worker;

static struct {
    worker **of;  // [n], thread i + 1 is worker i
    int n, cap;
    team_work *work;
    void *data;
    signal_word left;  // workers that are not done
    atomic_bool taken;
} team;

static void *live(void *of) {
    worker *w = of;
    for (unsigned done = 0;; done++) {
        wait_while(&w->pieces, done);
        team.work(team.data, w->thread);
        if (atomic_fetch_sub(&team.left.value, 1) == 1) wake(&team.left);
    }
    return NULL;
}

// Workers live as long as the program.
static void hire(int n) {
    while (team.n < n) {
        worker *w = xaligned(sizeof *w);
        memset(w, 0, sizeof *w);
        w->thread = team.n + 1;
        pthread_t id;
        const int why = pthread_create(&id, NULL, live, w);
        if (why) die(1, "cannot start a thread: %s; use fewer --threads", strerror(why));
        pthread_detach(id);
        VEC_PUSH(team.of, team.n, team.cap, w);
    }
}

void cpu_team(int threads, team_work *work, void *of) {
    if (threads < 2 || omp_in_parallel() || atomic_exchange(&team.taken, true)) {
        for (int t = 0; t < threads; t++) work(of, t);
        return;
    }
    hire(threads - 1);
    team.work = work;
    team.data = of;
    atomic_store(&team.left.value, (unsigned)threads - 1);
    for (int i = 0; i < threads - 1; i++) {
        atomic_fetch_add(&team.of[i]->pieces.value, 1);
        wake(&team.of[i]->pieces);
    }
    work(of, 0);
    for (unsigned left; (left = atomic_load(&team.left.value)) > 0;) wait_while(&team.left, left);
    atomic_store(&team.taken, false);
}
