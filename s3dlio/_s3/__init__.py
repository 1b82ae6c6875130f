"""One S3 request: what it says, who signs it, how often it is sent, and what its response means.

`operations` builds a request, `service` runs it through its attempts, `attempts` signs it, leases a connection and has
the exchange made, and `failures` and `retry` say what a response or a broken connection means. What a client learns on
the way (its store's clock, the regions of buckets, refused checksums) stays in `endpoint_state`. Nothing here knows
parts, ranges or the callers' memory beyond the buffers of one request, and nothing here touches a socket.
"""
