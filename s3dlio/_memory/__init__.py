"""Payload memory: flat views of what callers give, the process-wide pool, and destinations that grow.

Every caller's buffer enters by `pool.flat_view`, which refuses what has no bytes of its own and copies nothing. Memory
of our own comes from `pool.pool()`, whose pages `_buffers` owns. Nothing here knows an object, a request or a socket.
"""
