"""Payload memory: flat views of callers' buffers, the process-wide pool, and destinations for bodies.

Every buffer of a caller passes through `pool.flat_view`, which refuses buffers without bytes of their own and copies
nothing. Memory of our own comes from `pool.pool()`, whose pages `_buffers` owns. Nothing here knows an object, a
request or a socket.
"""
