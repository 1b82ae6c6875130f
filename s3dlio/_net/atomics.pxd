"""Atomic loads and stores, and a lock-free stack: what exchanges share with the loops that drive them.

Every store is a release and every load an acquire: a thread that sees a value also sees everything written before it.
"""

cdef extern from *:
    """
    /* A byte count that grows while other threads read it: a reader of the count may read those bytes. */
    static inline void store_size(size_t *count, size_t value) { __atomic_store_n(count, value, __ATOMIC_RELEASE); }
    static inline size_t load_size(const size_t *count) { return __atomic_load_n(count, __ATOMIC_ACQUIRE); }

    /* A stage, a flag or a small number. */
    static inline void store(int *at, int value) { __atomic_store_n(at, value, __ATOMIC_RELEASE); }
    static inline int load(const int *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
    static inline int add(int *at, int change) { return __atomic_add_fetch(at, change, __ATOMIC_ACQ_REL); }
    static inline int swap(int *at, int value) { return __atomic_exchange_n(at, value, __ATOMIC_ACQ_REL); }

    /* A stack: any thread pushes, one thread takes all of it. */
    static inline void push(void **top, void *item, void **next) {
        void *old = __atomic_load_n(top, __ATOMIC_RELAXED);
        do *next = old;
        while (!__atomic_compare_exchange_n(top, &old, item, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    }
    static inline void *take_all(void **top) { return __atomic_exchange_n(top, NULL, __ATOMIC_ACQUIRE); }
    """
    void store_size(size_t* count, size_t value) noexcept nogil
    size_t load_size(const size_t* count) noexcept nogil
    void store(int* at, int value) noexcept nogil
    int load(const int* at) noexcept nogil
    int add(int* at, int change) noexcept nogil
    int swap(int* at, int value) noexcept nogil
    void push(void** top, void* item, void** next) noexcept nogil
    void* take_all(void** top) noexcept nogil
