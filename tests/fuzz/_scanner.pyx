# cython: language_level=3
"""The head scanner as the fuzzer sees it: the code of `s3dlio/_net/response_head.pxd`, with its branches counted.

Built by `run.py` and used by `targets.py` only; the library's own `s3dlio._net.exchange.scan_head` answers the same.
"""

from s3dlio._net.response_head cimport Head, scan


def scan_head(data):
    """(end, status, content_length, unusual, closes), as `s3dlio._net.exchange.scan_head` gives it."""
    cdef const unsigned char[::1] view = data
    cdef Head head
    if view.shape[0] == 0:
        return 0, 0, -1, False, False
    scan(<const char*>&view[0], view.shape[0], &head)
    return head.end, head.status, head.content_length, bool(head.unusual), bool(head.closes)
