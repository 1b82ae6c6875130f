"""What threads tell each other without a lock: counts, facts, and a stack of what was handed over.

Every store releases and every load acquires: a thread that sees a value sees too what was written before it, on every
processor. Users are the exchanges, and the loops that drive them while Python looks on.
"""

cdef extern from *:
    """
    /* A count that grows while others look: whoever sees it sees the bytes that it counts. */
    static inline void publish(size_t *count, size_t value) { __atomic_store_n(count, value, __ATOMIC_RELEASE); }
    static inline size_t published(const size_t *count) { return __atomic_load_n(count, __ATOMIC_ACQUIRE); }

    /* A stage, a flag or a small number. */
    static inline void tell(int *fact, int value) { __atomic_store_n(fact, value, __ATOMIC_RELEASE); }
    static inline int told(const int *fact) { return __atomic_load_n(fact, __ATOMIC_ACQUIRE); }
    static inline int add(int *number, int change) { return __atomic_add_fetch(number, change, __ATOMIC_ACQ_REL); }
    static inline int swap(int *fact, int value) { return __atomic_exchange_n(fact, value, __ATOMIC_ACQ_REL); }

    /* A stack that any thread may push onto and one takes whole. */
    static inline void push(void **top, void *item, void **next) {
        void *old = __atomic_load_n(top, __ATOMIC_RELAXED);
        do *next = old;
        while (!__atomic_compare_exchange_n(top, &old, item, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    }
    static inline void *take_all(void **top) { return __atomic_exchange_n(top, NULL, __ATOMIC_ACQUIRE); }
    """
    void publish(size_t* count, size_t value) noexcept nogil
    size_t published(const size_t* count) noexcept nogil
    void tell(int* fact, int value) noexcept nogil
    int told(const int* fact) noexcept nogil
    int add(int* number, int change) noexcept nogil
    int swap(int* fact, int value) noexcept nogil
    void push(void** top, void* item, void** next) noexcept nogil
    void* take_all(void** top) noexcept nogil
