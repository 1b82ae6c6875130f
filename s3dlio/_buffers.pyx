# cython: language_level=3, cdivision=True
"""Page-aligned payload memory and the buffers that hand it out.

`BufferPool` is a page-run allocator over anonymous mappings; `Buffer` is one run with the buffer
protocol. Nothing here takes a lock, starts a thread or does I/O beyond mapping memory: only the GIL
guards the structure, because buffers are given back inside finalizers. Callers are `pool` and its users.
"""

from s3dlio._runtime.machine_memory import available_memory

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "Python.h":
    # With no exception type an int beyond the C range is clipped to it, so that a size check refuses it.
    Py_ssize_t _clipped "PyNumber_AsSsize_t"(object number, void* no_exception) except? -1

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/mman.h>
    #include <unistd.h>

    /* The values of all Linux architectures, for headers that are older than the kernel. */
    #if defined(__linux__) && !defined(MADV_HUGEPAGE)
    #define MADV_HUGEPAGE 14
    #endif
    #if defined(__linux__) && !defined(MADV_POPULATE_WRITE)
    #define MADV_POPULATE_WRITE 23
    #endif

    static const size_t HUGE_PAGE = (size_t)2 << 20;

    /* A mapping of `length` bytes whose base is a multiple of 2 MiB; NULL when there is no address space. */
    static char *map_aligned(size_t length) {
        size_t span = length + HUGE_PAGE;
        char *raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (raw == MAP_FAILED) return NULL;
        char *base = (char *)(((size_t)raw + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
        if (base > raw) munmap(raw, (size_t)(base - raw));
        size_t tail = (size_t)(raw + span - (base + length));
        if (tail) munmap(base + length, tail);
    #ifdef MADV_HUGEPAGE
        if (length >= HUGE_PAGE) madvise(base, length, MADV_HUGEPAGE);
    #endif
        return base;
    }

    /* Makes every page resident. Fails (-1) only where the kernel says that there is no memory. */
    static int populate(char *base, size_t length, size_t page) {
    #ifdef MADV_POPULATE_WRITE
        if (madvise(base, length, MADV_POPULATE_WRITE) == 0) return 0;
        if (errno == ENOMEM || errno == EFAULT) return -1;
    #endif
        for (size_t i = 0; i < length; i += page) ((volatile char *)base)[i] = 0;
        return 0;
    }

    /* A hole may need more mappings than the process may have: then the pages are freed and their addresses stay. */
    static void unmap(char *base, size_t length) {
        if (munmap(base, length) != 0) madvise(base, length, MADV_DONTNEED);
    }
    static size_t system_page(void) { return (size_t)sysconf(_SC_PAGESIZE); }
    """
    char* map_aligned(size_t length) noexcept nogil
    int populate(char* base, size_t length, size_t page) noexcept nogil
    void unmap(char* base, size_t length) noexcept nogil
    size_t system_page() noexcept nogil
    int getpid() noexcept nogil

cdef Py_ssize_t PAGE = <Py_ssize_t>system_page()
cdef Py_ssize_t HUGE = 2 << 20
# From this size on, a base aligned to a huge page is worth the gap it may leave.
cdef Py_ssize_t LARGE = 1 << 20
# Smaller buffers use ordinary memory: a run of pages would cost more than the bytes.
cdef Py_ssize_t SMALL = 64 << 10
# More than any machine has, and small enough that rounding up cannot overflow.
cdef Py_ssize_t MOST = <Py_ssize_t>1 << 56
cdef enum:
    BINS = 48

PAGE_SIZE = PAGE


def page_round(n):
    """`n` bytes rounded up to whole pages."""
    cdef Py_ssize_t length = _clipped(n, NULL)
    if length < 0 or length > MOST:
        raise ValueError(f"{n} bytes cannot be rounded to pages")
    return _page_round(length)


cdef inline Py_ssize_t _page_round(Py_ssize_t n) noexcept nogil:
    return (n + PAGE - 1) // PAGE * PAGE


cdef struct Block:
    char* base
    Py_ssize_t length
    Block* left        # address neighbours within one mapping, for coalescing; NULL at its ends
    Block* right
    Block* older       # idle blocks by age
    Block* newer
    Block* previous    # idle blocks of one bin
    Block* next
    bint idle


cdef inline int _bin(Py_ssize_t length) noexcept nogil:
    """Index of the bin for blocks of `length` bytes: the logarithm of its pages."""
    cdef int index = 0
    cdef Py_ssize_t pages = length // PAGE
    while pages > 1 and index < BINS - 1:
        pages >>= 1
        index += 1
    return index


cdef inline Py_ssize_t _gap(Block* block, Py_ssize_t align) noexcept nogil:
    """Bytes before the first base in the block that is aligned to `align`."""
    cdef uintptr_t base = <uintptr_t>block.base
    return <Py_ssize_t>((align - base % align) % align)


@cython.final
cdef class BufferPool:
    """Payload memory in page runs: best fit, split on use, joined again on return, kept warm up to a limit.

    Every mapped byte is resident: ``mapped_bytes == in_use_bytes + idle_bytes``.

    Args:
        idle_limit: bytes kept while unused; more are returned to the system, oldest first.
    """

    cdef Block* _bins[BINS]
    cdef Block* _oldest
    cdef Block* _newest
    cdef Py_ssize_t _idle_limit
    cdef readonly Py_ssize_t idle_bytes
    cdef readonly Py_ssize_t mapped_bytes
    cdef Py_ssize_t _coming   # bytes that threads without the GIL are making resident now
    cdef int _process         # whose threads these are: a forked child has none of them

    def __cinit__(self, idle_limit):
        self._set_limit(idle_limit)

    def __dealloc__(self):
        # Buffers hold a reference to their pool, so all that is left is idle.
        self._give_back(self.idle_bytes)

    @property
    def in_use_bytes(self):
        """Bytes in buffers that are alive."""
        return self.mapped_bytes - self.idle_bytes

    @property
    def idle_limit(self):
        """Unused bytes that the pool keeps."""
        return self._idle_limit

    @idle_limit.setter
    def idle_limit(self, limit):
        self._set_limit(limit)

    cdef int _set_limit(self, limit) except -1:
        cdef Py_ssize_t length = _clipped(limit, NULL)
        if length < 0:
            raise ValueError(f"idle_limit={limit} is negative")
        self._idle_limit = length
        self._enforce_limit()
        return 0

    def trim(self, keep=0):
        """Returns idle memory above `keep` bytes to the system; returns the number of bytes."""
        cdef Py_ssize_t kept = _clipped(keep, NULL)
        if kept < 0:
            raise ValueError(f"keep={keep} is negative")
        cdef Py_ssize_t before = self.idle_bytes
        if before > kept:
            self._give_back(before - kept)
        return before - self.idle_bytes

    def acquire(self, size, *, bint page_aligned=False):
        """A `Buffer` of `size` bytes: page-aligned, from 1 MiB up aligned to 2 MiB, resident.

        Args:
            size: bytes, at least 1.
            page_aligned: whole pages even below 64 KiB, where ordinary memory is used otherwise.

        Raises:
            ValueError: `size` is not positive.
            MemoryError: the machine or its cgroup does not have that much memory.
        """
        cdef Py_ssize_t length = _clipped(size, NULL)
        if length < 1:
            raise ValueError(f"a buffer of {size} bytes cannot be allocated; ask for at least 1")
        if length > MOST:
            raise MemoryError(f"{size} bytes are more than any machine has")
        cdef Buffer buffer = Buffer.__new__(Buffer)
        if length < SMALL and not page_aligned:
            buffer._memory = <char*>malloc(length)
            if buffer._memory == NULL:
                raise MemoryError(f"{size} bytes of ordinary memory cannot be allocated")
        else:
            buffer._block = self._take(_page_round(length))
            buffer._memory = buffer._block.base
        buffer._pool = self
        buffer.size = length
        return buffer

    # --- blocks -----------------------------------------------------------------------------------------

    cdef Block* _take(self, Py_ssize_t need) except NULL:
        cdef Py_ssize_t align = HUGE if need >= LARGE else PAGE
        cdef Block* block = self._best(need, align)
        if block == NULL:
            block = self._map(need)
        else:
            self._unlist(block)
        block.idle = False
        cdef Py_ssize_t gap = _gap(block, align)
        if gap:
            block = self._split(block, gap)
            self._list(block.left)
        if block.length > need:
            self._split(block, need)
            self._list(block.right)
        return block

    cdef Block* _best(self, Py_ssize_t need, Py_ssize_t align) noexcept:
        """The idle block that fits most tightly, or NULL."""
        cdef Block* best = NULL
        cdef Block* block
        cdef int index
        for index in range(_bin(need), BINS):
            block = self._bins[index]
            while block != NULL:
                if block.length >= need + _gap(block, align) and (best == NULL or block.length < best.length):
                    best = block
                    if best.length == need:
                        return best
                block = block.next
            if best != NULL:
                return best
        return NULL

    cdef Block* _map(self, Py_ssize_t need) except NULL:
        """A new, resident mapping. Idle memory that did not fit is freed first, so that the total does not grow."""
        cdef Py_ssize_t length = need if need >= LARGE else HUGE
        cdef char* base
        cdef int failed = 0
        self._give_back(length)
        cdef Block* block = <Block*>malloc(sizeof(Block))
        if block == NULL:
            raise MemoryError("no memory for the pool's own records")
        if self._process != getpid():
            self._process = getpid()
            self._coming = 0
        self._coming += length  # before the check of what is available, which other threads make at the same time
        try:
            self._check_available(length)
            with nogil:
                base = map_aligned(length)
                if base != NULL:
                    failed = populate(base, length, PAGE)
                    if failed:
                        unmap(base, length)
            if base == NULL or failed:
                raise MemoryError(
                    f"{length} bytes of payload memory cannot be mapped, {available_memory()} are available; "
                    "an address-space limit (ulimit -v) may stand in the way"
                )
        except BaseException:
            free(block)
            raise
        finally:
            self._coming -= length
        block.base = base
        block.length = length
        block.left = block.right = NULL
        block.idle = False
        self.mapped_bytes += length
        return block

    cdef int _check_available(self, Py_ssize_t length) except -1:
        available = available_memory()
        if available is not None and self._coming > available and self.idle_bytes:
            self._give_back(self.idle_bytes)  # our own idle memory counts as free: release it and check again
            available = available_memory()
        if available is not None and self._coming > available:
            raise MemoryError(
                f"{length} bytes of payload memory were asked for, {available} are available; "
                "ask for less, or release buffers first"
            )
        return 0

    cdef Block* _split(self, Block* block, Py_ssize_t at) except NULL:
        """Cuts a block that is not listed in two and returns the right half; neither half is listed."""
        cdef Block* right = <Block*>malloc(sizeof(Block))
        if right == NULL:
            block.idle = False
            self._list(block)
            raise MemoryError("no memory for the pool's own records")
        right.base = block.base + at
        right.length = block.length - at
        right.left = block
        right.right = block.right
        right.idle = False
        if right.right != NULL:
            right.right.left = right
        block.right = right
        block.length = at
        return right

    cdef void _give(self, Block* block) noexcept:
        """Takes a block back: joins it with idle neighbours and lists it. Allocates nothing."""
        cdef Block* other = block.left
        if other != NULL and other.idle:
            self._unlist(other)
            other.length += block.length
            other.right = block.right
            if block.right != NULL:
                block.right.left = other
            free(block)
            block = other
        other = block.right
        if other != NULL and other.idle:
            self._unlist(other)
            block.length += other.length
            block.right = other.right
            if other.right != NULL:
                other.right.left = block
            free(other)
        self._list(block)
        self._enforce_limit()

    cdef void _list(self, Block* block) noexcept:
        cdef int index = _bin(block.length)
        block.idle = True
        block.previous = NULL
        block.next = self._bins[index]
        if block.next != NULL:
            block.next.previous = block
        self._bins[index] = block
        block.newer = NULL
        block.older = self._newest
        if self._newest != NULL:
            self._newest.newer = block
        else:
            self._oldest = block
        self._newest = block
        self.idle_bytes += block.length

    cdef void _unlist(self, Block* block) noexcept:
        if block.previous != NULL:
            block.previous.next = block.next
        else:
            self._bins[_bin(block.length)] = block.next
        if block.next != NULL:
            block.next.previous = block.previous
        if block.newer != NULL:
            block.newer.older = block.older
        else:
            self._newest = block.older
        if block.older != NULL:
            block.older.newer = block.newer
        else:
            self._oldest = block.newer
        block.idle = False
        self.idle_bytes -= block.length

    cdef void _enforce_limit(self) noexcept:
        if self.idle_bytes > self._idle_limit:
            self._give_back(self.idle_bytes - self._idle_limit)

    cdef void _give_back(self, Py_ssize_t amount) noexcept:
        """Unmaps the oldest idle blocks until `amount` bytes are gone or nothing is idle."""
        cdef Block* block
        while amount > 0 and self._oldest != NULL:
            block = self._oldest
            self._unlist(block)
            if block.left != NULL:
                block.left.right = NULL
            if block.right != NULL:
                block.right.left = NULL
            self.mapped_bytes -= block.length
            amount -= block.length
            unmap(block.base, block.length)
            free(block)


@cython.final
@cython.no_gc  # refers to its pool only, which refers to nothing
cdef class Buffer:
    """One run of payload memory with the buffer protocol (format ``'B'``, one dimension, C-contiguous).

    Made by `BufferPool.acquire`. The memory goes back to the pool when the last reference, an export's
    included, is gone; `release` gives it back earlier.
    """

    cdef BufferPool _pool     # keeps the pool alive while this memory is in use
    cdef Block* _block        # NULL for ordinary memory
    cdef char* _memory
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t exports
    cdef readonly bint readonly

    def __init__(self):
        raise TypeError("buffers are made by BufferPool.acquire")

    def __dealloc__(self):
        # Runs under the GIL and possibly inside an allocation: takes no lock, creates no Python object.
        self._let_go()

    cdef void _let_go(self) noexcept:
        if self._block != NULL:
            self._pool._give(self._block)
            self._block = NULL
        else:
            free(self._memory)
        self._memory = NULL

    def __len__(self):
        self._check()
        return self.size

    @property
    def address(self):
        """Address of the first byte."""
        self._check()
        return <uintptr_t>self._memory

    @property
    def pinned(self):
        """Bytes that this buffer keeps resident; 0 once it was released."""
        if self._memory == NULL:
            return 0
        return self.size if self._block == NULL else self._block.length

    @property
    def released(self):
        """Whether the memory was returned to the pool."""
        return self._memory == NULL

    def set_readonly(self):
        """Makes all later exports read-only."""
        self._check()
        self.readonly = True

    def release(self):
        """Returns the memory to the pool now. BufferError while exports exist."""
        if self.exports:
            raise BufferError(f"{self.exports} exports of this buffer are alive; release them first")
        self._let_go()

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        self._check()
        PyBuffer_FillInfo(buffer, self, self._memory, self.size, self.readonly, flags)
        Py_DECREF(None)  # Cython's preset for `buffer.obj`, which the call overwrote
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1

    cdef int _check(self) except -1:
        if self._memory == NULL:
            raise ValueError("this buffer was released")
        return 0
