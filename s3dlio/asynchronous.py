"""The asynchronous twins of the package's functions; `awaiting` says how they run."""

from __future__ import annotations

from . import (
    buckets,
    copying,
    deletion,
    files,
    listing,
    objects,
    original,
    presigning,
    reader,
    streams,
    syncing,
    uploads,
    versions,
)
from .async_listing import AsyncObjectIterator, AsyncVersionIterator
from .async_streams import AsyncObjectChunks
from .awaiting import twin, twin_of_iterator

abort_uploads_async = twin(uploads.abort_uploads)
copy_async = twin(copying.copy)
create_bucket_async = twin(buckets.create_bucket)
delete_async = twin(deletion.delete)
delete_all_versions_async = twin(versions.delete_all_versions)
delete_bucket_async = twin(buckets.delete_bucket)
download_async = twin(files.download)
exists_async = twin(listing.exists)
get_async = twin(reader.get)
get_into_async = twin(reader.get_into)
get_iter_async = twin_of_iterator(streams.get_iter, AsyncObjectChunks)
get_many_async = twin(reader.get_many)
get_many_stats_async = twin(original.get_many_stats)
get_range_async = twin(reader.get_range)
iter_objects_async = twin_of_iterator(listing.iter_objects, AsyncObjectIterator)
list_async = twin(listing.list)
list_buckets_async = twin(buckets.list_buckets)
list_full_uris_async = twin(original.list_full_uris)
list_keys_async = twin(original.list_keys)
list_uploads_async = twin(uploads.list_uploads)
list_versions_async = twin_of_iterator(versions.list_versions, AsyncVersionIterator)
mkdir_async = twin(original.mkdir)
presign_async = twin(presigning.presign)
put_bytes_async = twin(objects.put_bytes)
put_many_async = twin(objects.put_many)
stat_async = twin(objects.stat)
sync_async = twin(syncing.sync)
upload_async = twin(files.upload)
