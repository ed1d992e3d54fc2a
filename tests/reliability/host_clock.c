/* The wall clock of one process moved while it runs, as an administrator or NTP moves a host's.

   Preloaded (LD_PRELOAD); HOST_CLOCK names a file of 8 bytes, nanoseconds to add, which the test writes while the
   process runs. CLOCK_REALTIME moves and no other clock does. A wait until a time of that clock ends when the moved
   clock gets there, whatever it was when the wait began: the kernel does so too, so it looks again every 20 ms. A
   faked clock without it makes each such wait last as long as the clock was moved, which no host does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SLICE 20000000LL

static volatile long long *moved;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HOST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) moved = page;
    if (file >= 0) close(file);
}

static long long in_ns(const struct timespec *at) { return at->tv_sec * SECOND + at->tv_nsec; }

static struct timespec of_ns(long long ns) {
    struct timespec at = {ns / SECOND, ns % SECOND};
    return at;
}

static int kernel(clockid_t which, struct timespec *at) { return syscall(SYS_clock_gettime, which, at); }

/* The kernel's time of the next look at a wait until the moved clock's `until`; 0 where that is over. */
static long long look(const struct timespec *until) {
    struct timespec now;
    kernel(CLOCK_REALTIME, &now);
    long long left = in_ns(until) - in_ns(&now) - (moved ? *moved : 0);
    return left <= 0 ? 0 : in_ns(&now) + (left < SLICE ? left : SLICE);
}

int clock_gettime(clockid_t which, struct timespec *at) {
    int failed = kernel(which, at);
    if (!failed && moved && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) *at = of_ns(in_ns(at) + *moved);
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) { return clock_gettime(CLOCK_REALTIME, at) ? 0 : base; }

/* One wait in slices; `wait` is the libc's own with the time as its last argument. */
#define SLICED(wait)                                    \
    for (;;) {                                          \
        long long next = look(until);                   \
        struct timespec at = of_ns(next ? next : 1);    \
        int result = (wait);                            \
        if (!next || !TIMED_OUT(result)) return result; \
    }

#define TIMED_OUT(result) ((result) == ETIMEDOUT)
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    /* The oldest version of the name is another condition's. */
    if (!wait) wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!wait) wait = real("pthread_cond_timedwait");
    /* Bit 1: made for the monotonic clock. */
    if (condition->__data.__wrefs & 2) return wait(condition, mutex, until);
    SLICED(wait(condition, mutex, &at))
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static int (*wait)(pthread_mutex_t *, const struct timespec *);
    if (!wait) wait = real("pthread_mutex_timedlock");
    SLICED(wait(mutex, &at))
}
#undef TIMED_OUT

#define TIMED_OUT(result) ((result) == thrd_timedout)
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
    if (!wait) wait = real("cnd_timedwait");
    SLICED(wait(condition, mutex, &at))
}
#undef TIMED_OUT

#define TIMED_OUT(result) ((result) == -1 && errno == ETIMEDOUT)
int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*wait)(sem_t *, const struct timespec *);
    if (!wait) wait = real("sem_timedwait");
    SLICED(wait(semaphore, &at))
}
