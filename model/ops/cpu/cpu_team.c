// cpu_team - threads that share a short piece of work. Contract in cpu_team.h.
//
// A wait begins with a spin, until one was in vain: then the next two waits go to sleep at once, and after every
// further spin in vain twice as many. A thread that shares its core with the one that it waits for, or waits for one
// that has no core, thus hardly spins; where each has its own, all do.
//
// Among busy processes a thread that wakes waits for the end of somebody's time slice, some 3 ms, and its partners wait
// with it. Since Linux 6.12 a thread may ask for shorter slices of its own; it then runs at once, if it has not had
// more than its share, and the share remains the same (Documentation/scheduler/sched-eevdf.rst, sched_setattr(2)).
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

enum {
    PAUSES = 16,         // between two looks at the clock
    MOST_SKIPPED = 256,  // waits without a spin
    SLICE_NS = 100000
};
static const double SPIN_S = 200e-6;

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
    int skip, skip_next;  // of the one who waits: waits to come without a spin; after the next spin in vain
} signal_word;

static void rest(void) {
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

// Whether the value was another before the end of the spin.
static bool changes_soon(const signal_word *s, unsigned old) {
    const double start = clock_s();
    do
        for (int i = 0; i < PAUSES; i++) {
            if (atomic_load(&s->value) != old) return true;
            rest();
        }
    while (clock_s() - start < SPIN_S);
    return false;
}

// Until the value is no longer `old`.
static void wait_while(signal_word *s, unsigned old) {
    if (atomic_load(&s->value) != old) return;
    if (s->skip > 0)
        s->skip--;
    else if (changes_soon(s, old)) {
        s->skip_next = 2;
        return;
    } else {
        s->skip = s->skip_next > 2 ? s->skip_next : 2;
        s->skip_next = 2 * s->skip < MOST_SKIPPED ? 2 * s->skip : MOST_SKIPPED;
    }
    atomic_store(&s->asleep, true);
    while (atomic_load(&s->value) == old) syscall(SYS_futex, &s->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_store(&s->asleep, false);
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
