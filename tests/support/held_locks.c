/* Preloaded: reports, with a back trace, each lock of OpenSSL's that another thread holds while the process forks.

   OpenSSL's locks are reader-writer locks, and little else uses those. Threads other than the main one hold them for
   longer than they would, so that forks meet them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 24
#define MOST 256

static struct {
    void *lock;
    int thread, depth;
    void *trace[DEPTH];
} held[MOST];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

static int call(const char *name, pthread_rwlock_t *lock) {
    return ((int (*)(pthread_rwlock_t *))dlsym(RTLD_NEXT, name))(lock);
}

static void add(pthread_rwlock_t *lock) {
    void *trace[DEPTH];
    int depth = backtrace(trace, DEPTH);
    pthread_mutex_lock(&table);
    for (int i = 0; i < MOST; i++)
        if (!held[i].lock) {
            held[i].lock = lock;
            held[i].thread = gettid();
            held[i].depth = depth;
            memcpy(held[i].trace, trace, sizeof trace);
            break;
        }
    pthread_mutex_unlock(&table);
}

int pthread_rwlock_wrlock(pthread_rwlock_t *lock) {
    int result = call("pthread_rwlock_wrlock", lock);
    add(lock);
    return result;
}

int pthread_rwlock_rdlock(pthread_rwlock_t *lock) {
    int result = call("pthread_rwlock_rdlock", lock);
    add(lock);
    return result;
}

int pthread_rwlock_unlock(pthread_rwlock_t *lock) {
    if (gettid() != getpid()) usleep(5);
    pthread_mutex_lock(&table);
    for (int i = 0; i < MOST; i++)
        if (held[i].lock == lock && held[i].thread == gettid()) {
            held[i].lock = NULL;
            break;
        }
    pthread_mutex_unlock(&table);
    return call("pthread_rwlock_unlock", lock);
}

static void report(void) {
    static const char line[] = "a lock is held by another thread:\n";
    pthread_mutex_lock(&table);
    for (int i = 0; i < MOST; i++)
        if (held[i].lock && held[i].thread != gettid()) {
            (void)!write(2, line, sizeof line - 1);
            backtrace_symbols_fd(held[i].trace, held[i].depth, 2);
        }
}

static void go_on(void) { pthread_mutex_unlock(&table); }

static void start_afresh(void) {
    memset(held, 0, sizeof held);
    pthread_mutex_unlock(&table);
}

__attribute__((constructor)) static void start(void) {
    void *trace[1];
    backtrace(trace, 1); /* the first call allocates */
    pthread_atfork(report, go_on, start_afresh);
}
