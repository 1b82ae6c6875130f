"""`python -m benchmarks run`: the same measurements against a store of the user's own, MinIO or S3.

It writes below one prefix of an existing bucket, deletes all that it wrote, and never looks at anything else there.
botocore finds the credentials.
"""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import compare, machine, peers, progress, report, turns
from .store import Store

OPERATIONS = ("put-reserve", "put-write-borrowed", "get", "get-ranged", "get-many", "put-many")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    parser.add_argument("--endpoint", help="http(s)://host[:port] (default: AWS)")
    parser.add_argument("--bucket", required=True, help="an existing bucket that may be written to")
    parser.add_argument("--prefix", default="s3dlio-benchmarks", help="all keys begin with it (default: %(default)s)")
    parser.add_argument("--region", help="region to sign for (default: the environment's, then us-east-1)")
    parser.add_argument("--ca-bundle", type=Path, help="PEM file of the authorities to trust (default: AWS_CA_BUNDLE)")
    compare.add_common_arguments(parser, pairs=3, size=256)
    parser.set_defaults(operations=list(OPERATIONS), small_count=1000)
    parser.add_argument("--contenders", nargs="+", default=["ours"], help=f"names, or {', '.join(peers.GROUPS)}")
    parser.add_argument("--output", type=Path, help="JSON file for the results (default: only print them)")


@contextmanager
def _store(options: argparse.Namespace) -> Iterator[Store]:
    import botocore.session

    session = botocore.session.Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise SystemExit("no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    frozen = credentials.get_frozen_credentials()
    keys = {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
    if frozen.token:
        keys["AWS_SESSION_TOKEN"] = frozen.token
    bundle = options.ca_bundle or (Path(os.environ["AWS_CA_BUNDLE"]) if os.environ.get("AWS_CA_BUNDLE") else None)
    trust = {"AWS_CA_BUNDLE": str(bundle.resolve()), "SSL_CERT_FILE": str(bundle.resolve())} if bundle else {}
    region = options.region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    store = Store(
        "own",
        f"Bucket {options.bucket} at {options.endpoint or 'AWS'}",
        options.endpoint,
        "unknown server",
        content=True,
        bucket=options.bucket,
        region=region,
        environment=keys | trust,
        ca=bundle.resolve() if bundle else None,
        prefix=f"{options.prefix.strip('/')}/{secrets.token_hex(4)}/",
    )
    try:
        yield store
    finally:
        _leave_nothing(store)


def _leave_nothing(store: Store) -> None:
    """Aborts uploads and deletes objects below this run's prefix that a failed process left behind."""
    uploads = store.client.get_paginator("list_multipart_uploads").paginate(Bucket=store.bucket)
    for page in uploads:
        for upload in page.get("Uploads", ()):
            if upload["Key"].startswith(store.prefix):
                store.client.abort_multipart_upload(Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=store.prefix):
        keys = [entry["Key"] for entry in page.get("Contents", ())]
        if keys:
            store.delete(keys)


def run(options: argparse.Namespace) -> None:
    """Measures with a progress bar, and reports at the end."""
    try:
        chosen = peers.prepare([one for one in peers.choose(options.contenders) if not one.is_floor])
    except ValueError as error:
        raise SystemExit(str(error)) from None
    facts, cases, results, complete = machine.facts(), compare.cases_of(options), turns.Results(), False
    setup = compare.setup_of(options, chosen)
    try:
        with _store(options) as store:
            headers = store.client.head_bucket(Bucket=store.bucket)["ResponseMetadata"]["HTTPHeaders"]
            setup["stores"]["own"] = compare.describe(store) | {"version": headers.get("server", "unknown server")}
            bar = progress.Bar(turns.count(store, cases, chosen, options.pairs))
            turns.run(store, cases, chosen, options.pairs, results, bar)
        complete = True
    finally:
        setup["versions"] = compare.versions_of(results.runs, facts)
        if options.output:
            compare.write(options.output, facts, setup, results, complete)
    rows, ratios = report.summarise(results.runs), report.compare(results.runs)
    print(report.markdown(facts, setup, rows, ratios, results.failures))
