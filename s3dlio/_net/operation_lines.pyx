# cython: language_level=3, cdivision=True
"""The lines of a series in the operation log, made of what the exchange has noted of each response.

Python would take longer for a line than the loop takes for a small request. Only `observing` calls it, which says what
the columns are.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from s3dlio._net.exchange cimport Exchange
from s3dlio._net.exchange_state cimport Request
from s3dlio._net.socket_calls cimport now_ns

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* length) except NULL

cdef enum:
    ROOM = 192  # bytes of a line beside its texts: numbers of at most 20 digits, and what stands between


cdef inline char* _digits(char* to, uint64_t number, int least) noexcept:
    """Writes a number with at least so many digits."""
    cdef char reverse[20]
    cdef int count = 0
    while number or count < least:
        reverse[count] = c"0" + <char>(number % 10)
        number //= 10
        count += 1
    while count:
        count -= 1
        to[0] = reverse[count]
        to += 1
    return to


cdef inline char* _seconds(char* to, int64_t nanoseconds) noexcept:
    """Writes seconds with six decimals."""
    cdef uint64_t micro
    if nanoseconds < 0:
        nanoseconds = 0
    micro = <uint64_t>(nanoseconds // 1000)
    to = _digits(to, micro // 1000000, 1)
    to[0] = c"."
    return _digits(to + 1, micro % 1000000, 6)


cdef inline char* _text(char* to, const char* text, Py_ssize_t length) noexcept:
    memcpy(to, text, length)
    return to + length


cdef bint _is_plain(const char* text, Py_ssize_t length) noexcept:
    """Whether no byte can end a line or a column: other keys are escaped by the caller's function."""
    cdef Py_ssize_t i
    cdef unsigned char one
    for i in range(length):
        one = text[i]
        if one < 0x20 or one >= 0x7f or one == c"\\":
            return False
    return True


def series_lines(
    Exchange exchange not None, list keys, list sizes, bytes name, bytes end, escaped, int64_t wall, int64_t began
):
    """The lines of the first ``len(keys)`` requests of a series, as UTF-8.

    Args:
        keys: a str for each request that has its response.
        sizes: bytes of the body of each request, or None for those of the responses.
        name: what stands between the time and the key, with its tabs.
        end: what stands behind the duration, with its tab and the end of the line.
        escaped: a function that makes a key fit for a line.
        wall: what added to the monotonic clock gives nanoseconds since 1970.
        began: when the series began, by the monotonic clock.
    """
    cdef Py_ssize_t count = len(keys), number, room = 0, length
    cdef int64_t start = began, head, finish
    cdef uint64_t moved
    cdef int status
    cdef Request* one
    cdef list texts = []
    cdef const char* text
    cdef char* to
    cdef bytes lines
    if not exchange._has_ended() or count > exchange.s.current + 1:
        raise ValueError("the series has not as many responses")
    for key in keys:
        try:
            text = PyUnicode_AsUTF8AndSize(key, &length)
            if not _is_plain(text, length):
                key = escaped(key)
        except UnicodeEncodeError:
            key = escaped(key)
        PyUnicode_AsUTF8AndSize(key, &length)
        texts.append(key)
        room += length
    room += count * (ROOM + PyBytes_GET_SIZE(name) + PyBytes_GET_SIZE(end))
    lines = PyBytes_FromStringAndSize(NULL, room)
    to = PyBytes_AS_STRING(lines)
    for number in range(count):
        if number < exchange.s.current:
            one = exchange.s.requests + number
            head, finish, status, moved = one.head_came, one.ended, one.status, one.body_length
        else:
            head, finish, status, moved = exchange.s.head_came, now_ns(), exchange.s.head.status, exchange.s.received
        if sizes is not None:
            moved = sizes[number]
        to = _seconds(to, wall + start)
        to = _text(to, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        text = PyUnicode_AsUTF8AndSize(texts[number], &length)
        to = _text(to, text, length)
        to[0] = c"\t"
        to = _digits(to + 1, moved, 1)
        to[0] = c"\t"
        to = _digits(to + 1, status, 1)
        to[0] = c"\t"
        to = _seconds(to + 1, head - start)
        to[0] = c"\t"
        to = _seconds(to + 1, finish - start)
        to = _text(to, PyBytes_AS_STRING(end), PyBytes_GET_SIZE(end))
        start = finish
    return lines[: to - PyBytes_AS_STRING(lines)]
