"""Fetching credentials may take long: it is done once for all threads, and whoever waits hears an interrupt."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from s3dlio._s3 import credentials
from s3dlio._s3.credentials import Credentials, CredentialSource
from s3dlio._s3.requests import Cancelled, CancelScope
from s3dlio.config import ClientSettings
from s3dlio.errors import ConfigurationError, CredentialsError
from s3dlio.errors import TimeoutError as OurTimeoutError

DEADLINE = 30.0
LONG = 36_000

# Counts its starts, and answers once the test lets it: with the number of the start as access key.
PROGRAM = """
import json, os, sys, time
folder = sys.argv[1]
with open(os.path.join(folder, "started"), "a") as log:
    log.write("x")
number = os.path.getsize(os.path.join(folder, "started"))
while not os.path.exists(os.path.join(folder, "go")):
    time.sleep(0.01)
if os.path.exists(os.path.join(folder, "fail")):
    sys.exit("the vault is sealed")
found = {"Version": 1, "AccessKeyId": f"KEY{number}", "SecretAccessKey": "s", "SessionToken": f"token-{number}"}
with open(os.path.join(folder, "lifetimes")) as file:
    lifetimes = [float(one) for one in file.read().split()]
lifetime = lifetimes[min(number, len(lifetimes)) - 1]
found["Expiration"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + lifetime))
print(json.dumps(found))
"""


class Process:
    """A `credential_process` of the default profile."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "program.py").write_text(PROGRAM)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
        command = f"{sys.executable} {folder / 'program.py'} {folder}"
        (folder / "config").write_text(f"[default]\ncredential_process = {command}\n")
        self.last(LONG)

    def last(self, *seconds: int) -> None:
        """How long the credentials of each start are valid, the last one's those of all later ones."""
        (self.folder / "lifetimes").write_text(" ".join(map(str, seconds)))

    @property
    def started(self) -> int:
        log = self.folder / "started"
        return log.stat().st_size if log.exists() else 0

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + DEADLINE
        while self.started < count:
            assert time.monotonic() < deadline, f"started {self.started} times"
            threading.Event().wait(0.01)

    def go(self) -> None:
        (self.folder / "go").touch()

    def hold(self) -> None:
        (self.folder / "go").unlink()

    def fail(self) -> None:
        (self.folder / "fail").touch()


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    made = Process(tmp_path, monkeypatch)
    yield made
    made.go()
    end_fetches()


def end_fetches() -> None:
    for thread in threading.enumerate():
        if thread.name == "s3dlio-credentials":
            thread.join(DEADLINE)


class Threads:
    """Calls on threads of their own; each result or exception is kept."""

    def __init__(self, count: int, call: Callable[[], Any]) -> None:
        self.results: list[Any] = []
        self._call = call
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            self.results.append(self._call())
        except BaseException as error:
            self.results.append(error)

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        return self.results


def source(**settings: Any) -> CredentialSource:
    return CredentialSource(ClientSettings(**settings))


def test_many_threads_run_one_process(process: Process) -> None:
    shared = source()
    threads = Threads(16, shared.frozen)
    process.wait_for(1)
    process.go()
    assert threads.join() == [Credentials("KEY1", "s", "token-1")] * 16
    assert process.started == 1


def test_many_threads_share_one_failure_and_each_gets_an_error_of_its_own(process: Process) -> None:
    shared = source()
    threads = Threads(8, shared.frozen)
    process.wait_for(1)
    process.fail()
    process.go()
    errors = threads.join()
    assert {type(one) for one in errors} == {CredentialsError}
    assert len({id(one) for one in errors}) == 8
    assert "the vault is sealed" in str(errors[0])
    assert process.started == 1


def test_a_cancel_ends_the_wait_and_others_still_get_their_credentials(process: Process) -> None:
    shared, scope = source(), CancelScope()
    cancelled, patient = Threads(3, lambda: shared.frozen(scope.check)), Threads(1, shared.frozen)
    process.wait_for(1)
    scope.cancel()
    assert [type(one) for one in cancelled.join()] == [Cancelled] * 3
    process.go()
    assert patient.join() == [Credentials("KEY1", "s", "token-1")]
    assert process.started == 1


def test_a_deadline_ends_the_wait_and_the_fetch_serves_the_next(process: Process) -> None:
    shared = source()
    with pytest.raises(OurTimeoutError, match="credentials were not found in time"):
        shared.frozen(within=0.05)
    process.wait_for(1)
    with pytest.raises(OurTimeoutError):
        shared.frozen(within=0.0)
    process.go()
    assert shared.frozen() == Credentials("KEY1", "s", "token-1")
    assert process.started == 1


INTERRUPTED = """
import os, signal, sys, threading
from s3dlio._s3.credentials import CredentialSource
from s3dlio.config import ClientSettings
signal.signal(signal.SIGINT, signal.default_int_handler)
source = CredentialSource(ClientSettings())
source.load()
print("asking", flush=True)
try:
    source.frozen()
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
print(source.frozen().access_key, flush=True)
"""


def test_an_interrupt_ends_the_wait_and_the_next_call_has_credentials(process: Process) -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "asking\n"
        process.wait_for(1)
        running.send_signal(signal.SIGINT)
        assert running.stdout.readline() == "interrupted\n"
        process.go()
        told, _ = running.communicate("\n", timeout=DEADLINE)
    assert told == "KEY1\n"
    assert process.started == 1


def test_credentials_that_are_still_valid_are_used_while_they_are_refreshed(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between 10 and 15 minutes before they expire botocore refreshes, and would have one thread wait for it."""
    monkeypatch.setattr(credentials, "NEXT_TRY", 0.0)
    process.last(720, 720, LONG)
    process.go()
    shared = source()
    valid = shared.frozen()  # of the second start, as botocore refreshes once more what comes so late
    assert valid == Credentials("KEY2", "s", "token-2")
    process.hold()
    assert Threads(4, shared.frozen).join() == [valid] * 4
    process.wait_for(3)
    assert shared.frozen() == valid
    process.go()
    end_fetches()
    assert shared.frozen() == Credentials("KEY3", "s", "token-3")
    assert process.started == 3


def test_credentials_that_are_about_to_expire_are_refreshed_once_for_all(process: Process) -> None:
    process.last(60, 60, LONG)
    process.go()
    shared = source()
    shared.frozen()
    process.hold()
    threads = Threads(8, shared.frozen)
    process.wait_for(3)
    process.go()
    assert threads.join() == [Credentials("KEY3", "s", "token-3")] * 8
    assert process.started == 3


def test_a_renewal_is_one_for_all_who_were_refused_with_the_same(process: Process) -> None:
    process.go()
    shared = source()
    expired = shared.frozen()
    assert Threads(16, lambda: shared.renew(expired)).join() == [True] * 16
    process.hold()
    threads = Threads(16, shared.frozen)
    process.wait_for(2)
    assert shared.renew(expired)
    process.go()
    assert threads.join() == [Credentials("KEY2", "s", "token-2")] * 16
    assert shared.renew(expired)
    assert shared.frozen() == Credentials("KEY2", "s", "token-2")
    assert process.started == 2


def test_what_was_renewed_can_be_renewed_again(process: Process) -> None:
    process.go()
    shared = source()
    for number in range(1, 4):
        found = shared.frozen()
        assert found == Credentials(f"KEY{number}", "s", f"token-{number}")
        assert shared.renew(found)


def test_given_credentials_cannot_be_renewed() -> None:
    assert not source(credentials=("a", "b")).renew(Credentials("a", "b"))
    assert not source(credentials="anonymous").renew(None)


def test_a_cancelled_first_wait_leaves_no_lock_held(process: Process) -> None:
    shared = source()
    with pytest.raises(OurTimeoutError):
        shared.frozen(within=0.05)
    assert shared.region == "us-east-1"
    assert shared.endpoint_urls() == ()


WITHOUT_THREADS = """
import threading
from s3dlio._s3.credentials import CredentialSource
from s3dlio.config import ClientSettings
def refuse(self):
    raise RuntimeError("can't start new thread")
source = CredentialSource(ClientSettings())
threading.Thread.start = refuse
print(source.frozen().access_key)
"""


def test_where_no_thread_is_to_be_had_the_caller_fetches_itself(process: Process) -> None:
    process.go()
    shown = subprocess.run([sys.executable, "-c", WITHOUT_THREADS], capture_output=True, text=True, check=True)
    assert shown.stdout == "KEY1\n"


def test_a_child_forked_during_a_fetch_fetches_itself(process: Process) -> None:
    program = (
        "import os, signal, sys, threading\n"
        "from s3dlio._s3.credentials import CredentialSource\n"
        "from s3dlio.config import ClientSettings\n"
        "source = CredentialSource(ClientSettings())\n"
        "source.load()\n"
        "threading.Thread(target=source.frozen, daemon=True).start()\n"
        "sys.stdin.readline()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n"
        "    os._exit(0 if source.frozen().access_key.startswith('KEY') else 1)\n"
        "print('forked', flush=True)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        process.wait_for(1)
        running.stdin.write("\n")
        running.stdin.flush()
        assert running.stdout.readline() == "forked\n"
        process.wait_for(2)
        process.go()
        told, _ = running.communicate(timeout=DEADLINE)
    assert told == "0\n"


# ------------------------------------------------------------------------------------------------------ assumed roles


class TokenService(ThreadingHTTPServer):
    """STS on loopback: gives a role's credentials, and keeps what it was asked and how that was signed."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, list[str]], str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.asked.append((parse_qs(body), self.headers["Authorization"]))
                expires = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
                answer = (
                    "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE</AccessKeyId>"
                    "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
                    f"<Expiration>{expires}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
                ).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def sts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenService]:
    with TokenService() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        (tmp_path / "config").write_text(
            "[default]\nrole_arn=arn:aws:iam::123456789012:role/mine\nsource_profile=base\n"
            "[profile base]\naws_access_key_id=BASE\naws_secret_access_key=s\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
        thread.join(DEADLINE)


@pytest.mark.parametrize(
    ("given", "variable", "signed"),
    [
        ({"region": "eu-west-3"}, None, "eu-west-3"),
        ({}, "eu-north-1", "eu-north-1"),
        ({"region": "eu-west-3"}, "eu-north-1", "eu-west-3"),
        ({}, None, "us-east-1"),
    ],
    ids=["given", "variable", "both", "none"],
)
def test_a_role_is_assumed_in_the_region_of_the_client(
    sts: TokenService, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], variable: str | None, signed: str
) -> None:
    if variable is not None:
        monkeypatch.setenv("AWS_REGION", variable)
    shared = source(**given)
    assert shared.frozen() == Credentials("ROLE", "s", "t")
    assert shared.region == signed
    ((asked, authorization),) = sts.asked
    assert asked["Action"] == ["AssumeRole"]
    assert f"/{signed}/sts/aws4_request" in authorization


# ---------------------------------------------------------------------------------------------- empty means unset


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(
        f"[default]\nregion=eu-west-3\nca_bundle={tmp_path}/ca.pem\nendpoint_url=http://default\n"
        "[profile other]\nregion=eu-west-2\n"
    )
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id=DEFAULT\naws_secret_access_key=s\n"
        "[other]\naws_access_key_id=OTHER\naws_secret_access_key=s\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


EMPTY = [
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_METADATA_SERVICE_TIMEOUT",
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS", "AWS_EC2_METADATA_DISABLED",
]  # fmt: skip


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("names", [*([one] for one in EMPTY), EMPTY], ids=[*EMPTY, "all"])
def test_an_empty_variable_counts_as_unset(names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in names:
        monkeypatch.setenv(name, "")
    one = source()
    one.load()
    assert one.frozen() == Credentials("DEFAULT", "s")
    assert one.region == "eu-west-3"
    assert one.ca_bundle() == f"{tmp_path}/ca.pem"
    assert one.endpoint_urls() == ("http://default",)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("empty", "name"), [("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")]
)
def test_an_empty_profile_variable_does_not_hide_the_other(
    empty: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(empty, "")
    monkeypatch.setenv(name, "other")
    assert source().frozen() == Credentials("OTHER", "s")
    assert source().region == "eu-west-2"


@pytest.mark.usefixtures("files")
def test_beside_an_empty_variable_the_others_count_as_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert source().frozen() == Credentials("ENV", "s")
    assert source(profile="other").frozen() == Credentials("OTHER", "s")
    with pytest.raises(ConfigurationError, match="nowhere"):
        source(profile="nowhere").load()


@pytest.mark.usefixtures("files")
def test_a_profile_section_is_read_only_where_the_client_needs_the_profile() -> None:
    assert source().profile_section()["region"] == "eu-west-3"
    assert source(profile="other").profile_section()["region"] == "eu-west-2"
    assert source(credentials=("a", "b")).profile_section()["region"] == "eu-west-3"
    explicit = {"credentials": ("a", "b"), "endpoint_url": "http://x"}
    assert source(**explicit).profile_section() == {}
    assert source(**explicit, profile="other").profile_section()["region"] == "eu-west-2"
