"""Transfers of whole objects: cutting a writer's data into parts, planning ranges, one upload, one download, a batch.

A reservation's bytes become segments in `intake`, the `assembler` cuts them into parts, `upload` sends them and
`completion` publishes the object; `download` fetches ranges straight into their destination, and `batch` many small
objects in series. Nothing here builds a request, signs, retries or opens a socket: `_s3` and `_net` do that.
"""
