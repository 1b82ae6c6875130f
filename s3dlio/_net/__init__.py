"""One socket: addresses, pooled connections, and the native exchange of an HTTP/1.1 request and its response.

`connections` connects, verifies and leases; an `exchange` holds the memory of one request or a series of them, and the
loop of `exchange_loop`, in which `drivers` sit, moves its bytes without the GIL, plain or by `tls`. What the loop does
not know how to read is finished by `http`. Nothing here knows S3, signs or retries.
"""
