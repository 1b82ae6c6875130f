"""Reads ordinary response heads without the GIL: where a head ends, its status, its Content-Length, its fields.

A head that this does not understand is garbage or unusual, never guessed at: httptools reads an unusual head in Python
(`http`), which also receives its body. `exchange_steps` calls `scan`, `exchange` calls `find_field`.
"""

from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp, memset, strncasecmp

cdef struct Head:
    Py_ssize_t end             # bytes up to and including the blank line; 0 while it is incomplete, -1 for garbage
    int status
    int64_t content_length     # -1 where there is none
    bint unusual
    bint closes                # the peer closes the connection after this response


cdef inline bint _is_name(const unsigned char* name, Py_ssize_t length) noexcept nogil:
    """Whether it has only letters, digits, hyphens and underscores. httptools reads the few names with others."""
    cdef unsigned char good = length > 0
    cdef unsigned char c, letter, digit
    cdef Py_ssize_t i
    for i in range(length):
        c = name[i]
        letter = (c | 0x20) - <unsigned char>c"a"
        digit = c - <unsigned char>c"0"
        good &= (letter < 26) | (digit < 10) | (c == c"-") | (c == c"_")
    return good


cdef inline bint _is_text(const unsigned char* head, Py_ssize_t length) noexcept nogil:
    """Whether its lines have no control characters but tabs (RFC 9110, section 5.5); each LF follows a CR already."""
    cdef unsigned char bad = 0
    cdef unsigned char c
    cdef Py_ssize_t i
    # Without branches, so that the compiler vectorizes it.
    for i in range(length - 1):
        c = head[i]
        bad |= ((c < 0x20) & (c != c"\t") & (c != c"\r") & (c != c"\n")) | (c == 0x7F)
        bad |= (c == c"\r") & (head[i + 1] != c"\n")
    return bad == 0


cdef inline bint _is_blank(char c) noexcept nogil:
    return c == c" " or c == c"\t"


cdef inline bint _holds_close(const char* value, Py_ssize_t length) noexcept nogil:
    """Whether a Connection field says close. Part of a longer word counts too: that only costs a connection."""
    cdef Py_ssize_t i
    for i in range(length - 4):
        if strncasecmp(value + i, b"close", 5) == 0:
            return True
    return False


cdef inline void _read_length(Head* head, const char* value, Py_ssize_t length) noexcept nogil:
    """Takes over one Content-Length (RFC 9110, section 8.6); 18 digits cannot overflow."""
    cdef int64_t number = 0
    cdef Py_ssize_t i
    if length < 1 or length > 18:
        head.unusual = True
        return
    for i in range(length):
        if value[i] < c"0" or value[i] > c"9":
            head.unusual = True
            return
        number = number * 10 + (value[i] - c"0")
    if head.content_length >= 0:  # a second one, even if it says the same
        head.unusual = True
    head.content_length = number


cdef inline void _read_field(Head* head, const char* line, Py_ssize_t length) noexcept nogil:
    cdef const char* colon = <const char*>memchr(line, c":", length)
    cdef Py_ssize_t name = colon - line
    # A folded line, or a blank before the colon, means different things to different parsers (RFC 9112, section 5).
    if colon == NULL or not _is_name(<const unsigned char*>line, name):
        head.unusual = True
        return
    cdef const char* value = colon + 1
    cdef Py_ssize_t rest = length - name - 1
    while rest > 0 and _is_blank(value[0]):
        value += 1
        rest -= 1
    while rest > 0 and _is_blank(value[rest - 1]):
        rest -= 1
    if name == 14 and strncasecmp(line, b"content-length", 14) == 0:
        _read_length(head, value, rest)
    elif name == 17 and strncasecmp(line, b"transfer-encoding", 17) == 0:
        head.unusual = True
    elif name == 10 and strncasecmp(line, b"connection", 10) == 0 and _holds_close(value, rest):
        head.closes = True


cdef inline bint _read_status(const char* data, Head* head) noexcept nogil:
    """Reads ``HTTP/1.x NNN`` and what has to follow it, of at least 13 bytes; false for anything else."""
    cdef Py_ssize_t i
    if (data[7] != c"0" and data[7] != c"1") or data[8] != c" " or (data[12] != c" " and data[12] != c"\r"):
        return False
    for i in range(9, 12):
        if data[i] < c"0" or data[i] > c"9":
            return False
        head.status = head.status * 10 + (data[i] - c"0")
    # HTTP/1.0 closes unless both sides agree otherwise, and this side never does.
    head.closes = data[7] == c"0"
    return head.status >= 100


cdef inline void scan(const char* data, Py_ssize_t length, Head* head) noexcept nogil:
    """Reads the head at the start of `length` >= 1 bytes; a bare LF or anything but HTTP/1.x is garbage."""
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t newline
    cdef const char* found
    memset(head, 0, sizeof(Head))
    head.content_length = -1
    if memcmp(data, b"HTTP/1.", length if length < 7 else 7) != 0:
        head.end = -1
        return
    if length < 13:
        return
    if not _read_status(data, head):
        head.end = -1
        return
    while True:
        found = <const char*>memchr(data + start, c"\n", length - start)
        if found == NULL:
            return
        newline = found - data
        if newline == start or data[newline - 1] != c"\r":
            head.end = -1
            return
        if newline - 1 == start:
            head.end = newline + 1
            if not _is_text(<const unsigned char*>data, head.end):
                head.unusual = True
            return
        if start:
            _read_field(head, data + start, newline - 1 - start)
        start = newline + 1


cdef inline Py_ssize_t find_field(const char* data, Py_ssize_t length, Py_ssize_t at, const char* name,
                                  Py_ssize_t name_length, Py_ssize_t* value, Py_ssize_t* value_length) noexcept nogil:
    """Looks for a field in a complete usual head from the line at `at` on (0: after the status line).

    Returns:
        Where the line after it begins, with its value's place in `value`; 0 where there is none.
    """
    cdef const char* found
    cdef Py_ssize_t start, end
    while True:
        found = <const char*>memchr(data + at, c"\n", length - at)
        if found == NULL:
            return 0
        if at == 0:
            at = found - data + 1
            continue
        start = at
        end = found - data - 1
        at = end + 2
        if end - start > name_length and data[start + name_length] == c":" and (
            strncasecmp(data + start, name, name_length) == 0
        ):
            start += name_length + 1
            while start < end and _is_blank(data[start]):
                start += 1
            while end > start and _is_blank(data[end - 1]):
                end -= 1
            value[0] = start
            value_length[0] = end - start
            return at
