"""One socket: addresses, pooled connections, and the native exchange of an HTTP/1.1 request and its response.

`connections` connects, verifies and leases. An `exchange` holds the memory of one or more requests; the threads of
`drivers` run `exchange_loop`, which moves their bytes without the GIL, plain or by `tls`. `http` finishes the responses
that the loop does not understand. Nothing here knows S3, signs or retries.
"""
