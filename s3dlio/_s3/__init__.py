"""One S3 request: its content, its signature, its attempts, and what its response means.

`object_operations` and `multipart_operations` build requests and read responses. `service` runs a request through its
attempts; `attempts` signs it, leases a connection and has the exchange made; `failures` and `retry` say what a response
or a broken connection means. What a client learns about its store (clock, regions of buckets, refused checksums) stays
in `endpoint_state`. Nothing here knows parts, ranges or the callers' memory beyond the buffers of one request, and
nothing here touches a socket.
"""
