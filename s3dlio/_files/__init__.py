"""Files of this machine: walking them in the order of their keys, naming them, reading and writing them.

It is the only folder that turns a key into a path. It knows no request; `_transfer` moves the bytes, and the public
`files` puts both together.
"""
