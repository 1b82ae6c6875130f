"""Where credentials, region and endpoint come from, and in which order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session

from s3dlio._s3.credentials import Credentials, CredentialSource
from s3dlio.config import ClientSettings
from s3dlio.errors import ConfigurationError, CredentialsError

SECRET = "the-very-secret"

Files = Callable[..., None]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Writes the two shared files."""

    def write(*, credentials: str = "", config: str = "") -> None:
        (tmp_path / "credentials").write_text(credentials)
        (tmp_path / "config").write_text(config)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    return write


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def source(**settings: Any) -> CredentialSource:
    return CredentialSource(ClientSettings(**settings))


def access_key(**settings: Any) -> str:
    found = source(**settings).frozen()
    assert found is not None
    return found.access_key


# ------------------------------------------------------------------------------------------ credentials


@pytest.mark.usefixtures("environment")
def test_the_environment_gives_credentials() -> None:
    assert source().frozen() == Credentials("ENV", SECRET, None)


@pytest.mark.usefixtures("environment")
def test_the_environment_gives_a_session_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert source().frozen() == Credentials("ENV", SECRET, "token")


def test_the_shared_files_give_credentials(files: Files) -> None:
    files(credentials=f"[default]\naws_access_key_id=FILE\naws_secret_access_key={SECRET}\naws_session_token=token\n")
    assert source().frozen() == Credentials("FILE", SECRET, "token")


def test_the_configuration_file_gives_credentials(files: Files) -> None:
    files(config=f"[default]\naws_access_key_id=CONFIG\naws_secret_access_key={SECRET}\n")
    assert access_key() == "CONFIG"


@pytest.mark.usefixtures("environment")
def test_the_environment_wins_over_the_default_profile(files: Files) -> None:
    files(credentials=f"[default]\naws_access_key_id=FILE\naws_secret_access_key={SECRET}\n")
    assert access_key() == "ENV"


@pytest.mark.usefixtures("environment")
def test_a_profile_given_wins_over_the_environment(files: Files) -> None:
    files(credentials=f"[other]\naws_access_key_id=OTHER\naws_secret_access_key={SECRET}\n")
    assert access_key(profile="other") == "OTHER"


def test_a_variable_chooses_the_profile(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files(credentials=f"[other]\naws_access_key_id=OTHER\naws_secret_access_key={SECRET}\n")
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert access_key() == "OTHER"


@pytest.mark.usefixtures("environment")
def test_credentials_given_win_over_everything() -> None:
    assert source(credentials=("MINE", "s")).frozen() == Credentials("MINE", "s", None)
    assert source(credentials=("MINE", "s", "t")).frozen() == Credentials("MINE", "s", "t")


@pytest.mark.usefixtures("environment")
def test_anonymous_access_has_no_credentials() -> None:
    assert source(credentials="anonymous").frozen() is None


def test_explicit_settings_need_no_botocore() -> None:
    program = (
        "import sys\n"
        "from s3dlio._s3.credentials import CredentialSource\n"
        "from s3dlio.config import ClientSettings\n"
        "s = CredentialSource(ClientSettings(endpoint_url='http://x', region='r', credentials=('a', 'b')))\n"
        "s.frozen(), s.region, s.endpoint_urls()\n"
        "print('botocore' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


# The variables that say who asks which store, as callers set them.
BOTH_KEYS = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": SECRET}
VARIABLES = [
    BOTH_KEYS,
    {**BOTH_KEYS, "AWS_SESSION_TOKEN": "token"},
    {**BOTH_KEYS, "AWS_SESSION_TOKEN": "token", "AWS_SECURITY_TOKEN": "older-name"},
    {**BOTH_KEYS, "AWS_DEFAULT_REGION": "eu-west-1"},
    {**BOTH_KEYS, "AWS_ENDPOINT_URL": "https://all.example"},
    {**BOTH_KEYS, "AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_S3": "https://s3.example"},
    {**BOTH_KEYS, "AWS_ENDPOINT_URL": "https://all.example", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "True"},
    {**BOTH_KEYS, "AWS_ENDPOINT_URL": "https://all.example", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "0"},
    {**BOTH_KEYS, "AWS_CREDENTIAL_EXPIRATION": "2099-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("variables", VARIABLES, ids=lambda v: " ".join(f"{name}={v[name]}" for name in [*v][2:]))
def test_variables_mean_what_botocore_takes_them_for(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    session = Session()
    theirs = session.get_credentials().get_frozen_credentials()
    ours = source().frozen()
    assert ours is not None
    assert (ours.access_key, ours.secret_key, ours.token) == tuple(theirs)[:3]
    assert source().region == (session.get_config_variable("region") or "us-east-1")
    client = session.create_client("s3", region_name="us-east-1")
    custom = client.meta.endpoint_url if "amazonaws.com" not in client.meta.endpoint_url else None
    assert source().endpoint_urls() == (() if custom is None else (custom,))


WITHOUT_A_SESSION = """
import sys
from s3dlio._s3.credentials import CredentialSource
from s3dlio.config import ClientSettings
asked = CredentialSource(ClientSettings())
asked.load()
url = next(iter(asked.endpoint_urls()), None)
print(asked.frozen().access_key, asked.region, url, dict(asked.profile_section()), asked.ca_bundle())
print("botocore" in sys.modules)
"""


@pytest.mark.usefixtures("environment")
def test_variables_alone_need_no_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    shown = subprocess.run([sys.executable, "-c", WITHOUT_A_SESSION], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == ["ENV eu-west-1 None {} None", "False"]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("written", ["config", "credentials"])
def test_beside_a_shared_file_its_profile_counts(written: str, files: Files, tmp_path: Path) -> None:
    text = "[default]\nregion = eu-west-2\nendpoint_url = http://from.file\n"
    files(**{written: text})
    (tmp_path / ("config" if written == "credentials" else "credentials")).unlink()
    shown = subprocess.run([sys.executable, "-c", WITHOUT_A_SESSION], capture_output=True, text=True, check=True)
    settings = {"region": "eu-west-2", "endpoint_url": "http://from.file"}
    assert shown.stdout.splitlines() == [f"ENV eu-west-2 http://from.file {settings} None", "True"]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_a_profile_named_where_no_file_exists_is_a_configuration_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "absent")
    with pytest.raises(ConfigurationError, match="absent"):
        source().load()


@pytest.mark.usefixtures("environment")
def test_renewed_credentials_of_the_environment_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = source()
    first = asked.frozen()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEXT")
    assert asked.frozen() == first
    assert asked.renew(first)
    assert asked.frozen() == Credentials("NEXT", SECRET)


def test_without_credentials_the_error_names_what_was_tried() -> None:
    with pytest.raises(CredentialsError, match=r"AWS_ACCESS_KEY_ID.*shared files.*profile.*anonymous"):
        source().frozen()


def test_credentials_that_appear_later_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    late = source()
    with pytest.raises(CredentialsError):
        late.frozen()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "LATE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert late.frozen() == Credentials("LATE", SECRET)


def test_half_of_the_credentials_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENV")
    with pytest.raises(CredentialsError, match="AWS_SECRET_ACCESS_KEY"):
        source().frozen()


@pytest.mark.parametrize("given", [("", "secret"), ("key", ""), (None, None), ("key", None)])
def test_half_of_the_credentials_given_are_refused(given: tuple[str | None, str | None]) -> None:
    with pytest.raises(CredentialsError, match="lack an access key or a secret key"):
        source(credentials=given).frozen()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("key\nx-amz-acl: public", "s"), "access key"),
        (("key ", "s"), "access key"),
        (("key", "s", "tok\r\nen"), "session token"),
        (("key", "s", "tokén"), "session token"),
    ],
)
def test_what_would_split_a_header_is_refused_and_not_repeated(given: tuple[str, ...], named: str) -> None:
    with pytest.raises(CredentialsError, match=f"the {named} contains") as caught:
        source(credentials=given).frozen()
    assert "public" not in str(caught.value)
    assert "tok" not in str(caught.value).replace("token", "")


def test_a_missing_profile_is_a_configuration_error(files: Files) -> None:
    files()
    with pytest.raises(ConfigurationError, match="nowhere"):
        source(profile="nowhere").frozen()


def test_a_malformed_shared_file_is_a_configuration_error(files: Files) -> None:
    files(config="this is no ini file")
    with pytest.raises(ConfigurationError, match="AWS configuration cannot be used"):
        source().frozen()


def test_secrets_are_in_no_repr() -> None:
    shown = repr(Credentials("KEY", SECRET, "the-token"))
    assert "KEY" in shown
    assert SECRET not in shown
    assert "the-token" not in shown


# -------------------------------------------------------------------------------------------- container


class Container:
    """A credentials endpoint on loopback; it answers what is in `answers`, the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[dict[str, str]] = []
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.headers["Authorization"])
                document = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                body = json.dumps(document).encode()
                self.send_response(200 if "AccessKeyId" in document else 403)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def give(self, key: str, lifetime: timedelta) -> None:
        expiration = (datetime.now(UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.answers.append(
            {"AccessKeyId": key, "SecretAccessKey": SECRET, "Token": f"{key}-token", "Expiration": expiration}
        )


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    served = Container()
    port = served.server.server_port
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/credentials")
    yield served
    served.server.shutdown()
    served.server.server_close()
    served.thread.join(10)


SOON = timedelta(minutes=1)
FAR = timedelta(hours=6)


def test_a_container_gives_credentials(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    container.give("FIRST", FAR)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let-me-in")
    assert source().frozen() == Credentials("FIRST", SECRET, "FIRST-token")
    assert container.asked == ["let-me-in"]


def test_credentials_are_refreshed_when_they_are_about_to_expire(container: Container) -> None:
    container.give("FIRST", SOON)
    container.give("SECOND", FAR)
    refreshing = source()
    seen = [refreshing.frozen() for _ in range(4)]
    assert seen[-1] == Credentials("SECOND", SECRET, "SECOND-token")
    assert len(container.asked) == 2


def test_credentials_that_last_are_asked_for_once(container: Container) -> None:
    container.give("FIRST", FAR)
    lasting = source()
    for _ in range(5):
        assert lasting.frozen() == Credentials("FIRST", SECRET, "FIRST-token")
    assert len(container.asked) == 1


def test_many_threads_share_one_refresh(container: Container) -> None:
    container.give("FIRST", FAR)
    shared = source()
    seen: list[Credentials | None] = []
    threads = [threading.Thread(target=lambda: seen.append(shared.frozen())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [Credentials("FIRST", SECRET, "FIRST-token")] * 8
    assert len(container.asked) == 1


def test_a_refused_refresh_is_a_credentials_error_with_its_cause(container: Container) -> None:
    container.give("FIRST", timedelta(minutes=-1))
    container.answers.append({"message": "denied"})
    with pytest.raises(CredentialsError, match="could not be found") as caught:
        source().frozen()
    assert caught.value.__cause__ is not None
    assert SECRET not in str(caught.value)


def test_a_provider_that_is_not_allowed_is_a_credentials_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/credentials")
    with pytest.raises(CredentialsError, match="could not be found") as caught:
        source().frozen()
    assert isinstance(caught.value.__cause__, ValueError)


# --------------------------------------------------------------------------------------------- region


def test_the_region_has_a_default() -> None:
    assert source().region == "us-east-1"


def test_the_region_comes_from_the_profile(files: Files) -> None:
    files(config="[default]\nregion=eu-west-3\n[profile other]\nregion=eu-west-2\n")
    assert source().region == "eu-west-3"
    assert source(profile="other").region == "eu-west-2"


def test_the_default_region_variable_wins_over_the_profile(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files(config="[default]\nregion=eu-west-3\n")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert source().region == "ap-south-1"


def test_the_region_variable_wins_over_the_default_region_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert source().region == "eu-north-1"


@pytest.mark.parametrize("region", ["eu-west-1\r\nx: y", "eu west", "eu/west", "-", "a" * 64, "ü"])
def test_what_is_no_region_is_refused_wherever_it_comes_from(
    files: Files, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    with pytest.raises(ConfigurationError, match="region"):
        source(region=region)
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    with pytest.raises(ConfigurationError, match="region"):
        _ = source().region


def test_the_bundle_of_a_profile_is_read_where_credentials_are(files: Files, tmp_path: Path) -> None:
    files(config=f"[default]\nca_bundle={tmp_path}/ca.pem\n[profile other]\nca_bundle=~/ca.pem\n")
    assert source().ca_bundle() == f"{tmp_path}/ca.pem"
    assert source(profile="other", credentials=("id", "secret")).ca_bundle() == os.path.expanduser("~/ca.pem")
    assert source(credentials=("id", "secret")).ca_bundle() is None


def test_without_a_bundle_there_is_none(files: Files) -> None:
    files(config="[default]\n")
    assert source().ca_bundle() is None


def test_the_region_given_wins_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert source(region="mine").region == "mine"


# ------------------------------------------------------------------------------------------- endpoint

PROFILE_ENDPOINTS = "[default]\nendpoint_url=http://profile\n"
SERVICE_ENDPOINTS = PROFILE_ENDPOINTS + "services=local\n[services local]\ns3 =\n  endpoint_url=http://profile-s3\n"


def test_without_a_word_there_is_no_endpoint() -> None:
    assert source().endpoint_urls() == ()


@pytest.mark.parametrize(
    ("config", "url"), [(PROFILE_ENDPOINTS, "http://profile"), (SERVICE_ENDPOINTS, "http://profile-s3")]
)
def test_the_endpoint_comes_from_the_profile(files: Files, config: str, url: str) -> None:
    files(config=config)
    assert source().endpoint_urls() == (url,)


def test_the_endpoint_variable_wins_over_the_profile(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files(config=PROFILE_ENDPOINTS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all")
    assert source().endpoint_urls() == ("http://all",)


def test_the_endpoint_variable_of_s3_wins_over_the_general_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    assert source().endpoint_urls() == ("http://s3",)


def test_the_endpoint_given_wins_over_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    assert source(endpoint_url="http://mine").endpoint_urls() == ("http://mine",)


def test_configured_endpoints_can_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert source().endpoint_urls() == ()


# ----------------------------------------------------------------------------------------------- fork


def test_a_child_forked_in_the_middle_of_a_refresh_finds_credentials() -> None:
    program = (
        "import os, signal\n"
        "from s3dlio._s3.credentials import CredentialSource\n"
        "from s3dlio.config import ClientSettings\n"
        "source = CredentialSource(ClientSettings())\n"
        "source.frozen()\n"
        "with source._lock:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(30)\n"
        "        os._exit(0 if source.frozen().access_key == 'ENV' else 1)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": SECRET}
    shown = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "0"
