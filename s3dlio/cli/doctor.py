"""`doctor`: what is used, what works, and what to do about the rest.

Each check says one line. A check that fails ends those that build on it, and no others.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import s3dlio

from .. import diagnosis
from .exits import UsageError, exit_of
from .invocation import Invocation
from .text import duration, human, stamp

# A signature may be 15 minutes old; the library corrects larger differences, other tools do not.
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
TOLERATED_SKEW = timedelta(minutes=5)
SOON = timedelta(days=14)
FEW_DESCRIPTORS = 1024


def doctor(invocation: Invocation) -> None:
    """Checks the settings, the way to the store, a bucket and a prefix where they are given, and this machine."""
    bucket, prefix = _place(invocation.options.uri)
    checks = Checks(invocation)
    _versions(checks)
    client = checks.step("client", lambda: invocation.client)
    if client is not None and _settings(checks, client) and _way(checks, client, bucket):
        answered = _answer(checks, client, bucket)
        if answered and prefix is not None and bucket is not None:
            _supports(checks, client, bucket, prefix)
    _machine(checks)


def _place(uri: str | None) -> tuple[str | None, str | None]:
    """The bucket, and the prefix that may be written to; None where they were not given."""
    if uri is None:
        return None, None
    if not uri.startswith("s3://"):
        raise UsageError(f"{uri!r} is not an S3 URI; write s3://bucket or s3://bucket/prefix/")
    bucket, slash, prefix = uri.removeprefix("s3://").partition("/")
    if prefix and not prefix.endswith("/"):
        raise UsageError(f"{uri} names one object; write s3://bucket, or {uri}/ to try writing below it")
    return bucket, prefix if slash else None


class Checks:
    """The lines of the report."""

    def __init__(self, invocation: Invocation) -> None:
        self._report = invocation.report

    def good(self, check: str, value: str, **fields: Any) -> None:
        """Something is as it should be, or just is."""
        self._say("ok", check, value, **fields)

    def bad(self, check: str, value: str, advice: str, **fields: Any) -> None:
        """Something works, but not well."""
        self._say("warning", check, value, advice=advice, **fields)

    def step(self, check: str, attempt: Callable[[], Any], advice: str = "") -> Any:
        """What `attempt` returns; None where it failed, which is a line of its own."""
        try:
            return attempt()
        except Exception as error:
            self._say("failed", check, str(error), advice=advice or _advice(error), code=exit_of(error))
            return None

    def _say(self, status: str, check: str, value: str, **fields: Any) -> None:
        code = fields.pop("code", None)
        source, advice = fields.get("source"), fields.get("advice")
        line = f"{status:<8} {check:<18} {value}" + (f"  [{source}]" if source else "")
        if advice:
            line += f"\n{'':27} -> {advice}"
        known = {name: text for name, text in fields.items() if text}
        self._report.checked(line, status, code, check=check, value=value, **known)


def _advice(error: Exception) -> str:
    """What to do about an error, where that is known."""
    code, status = getattr(error, "code", None), getattr(error, "status", None)
    if isinstance(error, s3dlio.CredentialsError):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; --no-sign-request for public buckets"
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return "the keys are not those of this store; look at the line of the credentials, and at the endpoint's"
    if status == 403:
        return "the store knows the credentials, and does not let them do this; ask for a policy that does"
    if status == 404:
        return "there is no such bucket at this endpoint; s3dlio mb makes one, --endpoint-url names another store"
    if isinstance(error, s3dlio.TimeoutError):
        return "a firewall, a proxy (HTTPS_PROXY, NO_PROXY) or a wrong port may swallow the connection"
    text = str(error).lower()
    if "certificate" in text:
        return "give the authority's certificate with --ca-bundle or AWS_CA_BUNDLE"
    if "wrong_version_number" in text or "record layer" in text:
        return "the store does not speak TLS on this port; write http:// in the endpoint"
    if isinstance(error, s3dlio.TransportError | OSError):
        return "check the endpoint's host and port, and that the store runs"
    return ""


def _versions(checks: Checks) -> None:
    from importlib.metadata import PackageNotFoundError, version

    found = [f"s3dlio {s3dlio.__version__}", f"Python {platform.python_version()}", platform.platform(terse=True)]
    for package in ("urllib3", "botocore", "awscrt"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            checks.bad("versions", f"{package} is not installed", f"{sys.executable} -m pip install {package}")
    checks.good("versions", ", ".join(found))


def _settings(checks: Checks, client: s3dlio.Client) -> bool:
    """Whether all could be found."""
    good = True
    for find in diagnosis.settings_in_use(client):
        setting = checks.step("settings", find)
        good = good and setting is not None
        if setting is None:
            continue
        if setting.name == "endpoint" and setting.source == diagnosis.DEFAULT:
            advice = "this is Amazon S3; if that is not meant, set AWS_ENDPOINT_URL_S3 or give --endpoint-url"
            checks.good(setting.name, setting.value, source=setting.source, advice=advice)
        elif setting.name == "certificates" and setting.value == "any is accepted":
            checks.bad(setting.name, setting.value, "leave --no-verify-ssl out", source=setting.source)
        else:
            checks.good(setting.name, setting.value, source=setting.source)
    return good


def _way(checks: Checks, client: s3dlio.Client, bucket: str | None) -> bool:
    host = checks.step("host", lambda: diagnosis.host_of(client, bucket))
    if host is None:
        return False
    proxy = checks.step("proxy", lambda: diagnosis.proxy_of(client, bucket) or "none")
    if proxy == "none":
        addresses = checks.step("resolves", lambda: diagnosis.addresses_of(client, bucket))
        if addresses is None:
            return False
        checks.good("resolves", f"{host} to {', '.join(addresses[:4])}")
    elif proxy is not None:
        checks.good("proxy", proxy, source="environment")
    way = checks.step("connects", lambda: diagnosis.connect(client, bucket))
    if way is None:
        return False
    checks.good("connects", f"to {way.address} in {way.seconds * 1000:.0f} ms")
    if way.tls is None:
        checks.good("tls", "none: requests and data are readable on the way")
    elif way.certificate_ends is None:
        checks.good("tls", way.tls)
    elif way.certificate_ends - datetime.now(UTC) < SOON:
        checks.bad(
            "tls", f"{way.tls}, certificate until {stamp(way.certificate_ends)}", "renew the store's certificate"
        )
    else:
        checks.good("tls", f"{way.tls}, certificate until {stamp(way.certificate_ends)}")
    return True


def _answer(checks: Checks, client: s3dlio.Client, bucket: str | None) -> bool:
    asked = "ListBuckets" if bucket is None else f"HeadBucket of {bucket}"
    answer = checks.step("signed request", lambda: diagnosis.ask(client, bucket))
    if answer is None:
        return False
    server = f", {answer.server}" if answer.server else ""
    checks.good("signed request", f"{asked} succeeded in {answer.seconds * 1000:.0f} ms{server}")
    if answer.region is not None:
        checks.good("bucket region", answer.region)
    if answer.skew is None:
        checks.good("clock", "the store reports no time")
    elif abs(answer.skew) > TOLERATED_SKEW:
        way = "ahead" if answer.skew > timedelta() else "behind"
        checks.bad(
            "clock",
            f"the store's is {duration(abs(answer.skew).total_seconds())} {way}",
            "set this machine's clock, for example by NTP",
        )
    else:
        checks.good("clock", f"within {max(1, abs(round(answer.skew.total_seconds())))} s of the store's")
    if bucket is not None and checks.step("list", lambda: _lists(client, bucket)):
        checks.good("list", "allowed")
    return True


def _lists(client: s3dlio.Client, bucket: str) -> bool:
    found = client.iter_objects(f"s3://{bucket}/")
    next(found, None)
    found.close()
    return True


def _supports(checks: Checks, client: s3dlio.Client, bucket: str, prefix: str) -> None:
    probe = diagnosis.Probe(client, bucket, prefix)
    try:
        written = checks.step("write", lambda: (probe.checksum(),))
        if written is not None:
            checks.good("write", f"allowed below s3://{bucket}/{prefix}")
            _features(checks, probe, written[0])
    finally:
        checks.step("clean-up", probe.close, f"delete {probe.uri}")


def _features(checks: Checks, probe: diagnosis.Probe, checksum: str | None) -> None:
    if checksum is None:
        advice = "only TLS, where it is used, protects the bytes of uploads"
        checks.bad("checksums", "the store confirms none", advice)
    else:
        checks.good("checksums", f"{checksum}, confirmed by the store")
    ranges = checks.step("ranges", probe.ranges)
    if ranges is False:
        checks.bad(
            "ranges", "the store sends whole objects instead", "get_range fails here; leave range_optimization off"
        )
    elif ranges:
        checks.good("ranges", "supported")
    conditions = checks.step("conditional writes", lambda: (probe.conditions(),))
    if conditions is None:
        return
    if conditions[0] is None:
        checks.bad("conditional writes", "the store refuses them", "if_none_match and --no-overwrite fail here")
    elif conditions[0]:
        checks.good("conditional writes", "supported")
    else:
        advice = "never rely on if_none_match or --no-overwrite here: two writers both succeed"
        checks.bad("conditional writes", "the store ignores If-None-Match", advice)


def _machine(checks: Checks) -> None:
    machine = checks.step("machine", diagnosis.machine)
    if machine is None:
        return
    checks.good("machine", f"{machine.processors} processors, {human(machine.memory)} of memory")
    if machine.huge_pages == "never":
        advice = "write madvise to /sys/kernel/mm/transparent_hugepage/enabled: large buffers cost fewer page faults"
        checks.bad("huge pages", "never", advice)
    else:
        checks.good("huge pages", machine.huge_pages or "not known here")
    if machine.descriptors < FEW_DESCRIPTORS:
        checks.bad("open files", f"at most {machine.descriptors}", "raise it, for example ulimit -n 4096")
    else:
        checks.good("open files", f"at most {machine.descriptors}")
    checks.good("copy speed", f"{human(machine.copy_speed)}/s, which no transfer can exceed by much in one thread")
