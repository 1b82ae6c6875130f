"""Runs the unit, protocol and lifecycle tests on other Pythons than the one that `make test` uses.

Usage: python tests/pythons.py [VERSION ...], for example 3.13; all of `VERSIONS` without any.

A Python is taken from the PATH or from pyenv. Where Debian's package tools and root are at hand, `FROM_DEBIAN` comes
from Debian unstable instead, in a root file system of its own below .cache: with it come the newest OpenSSL and gcc.
What cannot be had is named, and fails the run only if it was asked for by its version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "pythons"
VERSIONS = ("3.12", "3.13", "3.14")
FROM_DEBIAN = "3.14"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "s3dlio", "tests", "docs")
TESTS = ("tests/unit", "tests/protocol", "tests/lifecycle")
# What a root file system of its own needs of this machine to reach a package index.
SHARED = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
SHOW = "import ssl, sys; print('Python', sys.version.split()[0], 'with', ssl.OPENSSL_VERSION)"


def find(version: str) -> Path | None:
    """The interpreter of a version on this machine; the newest of several."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(pyenv.glob(f"versions/{version}.*/bin/python"), key=lambda path: path.stat().st_mtime)
    on_path = shutil.which(f"python{version}")
    if found or on_path is None:
        return found[-1] if found else None
    works = subprocess.run([on_path, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    return Path(on_path) if works else None


def debian_root() -> Path | None:
    """A root file system with `FROM_DEBIAN`, made once; None where this machine cannot make it."""
    root = CACHE / f"debian-{FROM_DEBIAN}"
    if (root / ".ready").exists():
        return root
    if os.geteuid() != 0 or not os.path.exists(KEYS) or shutil.which("apt-get") is None:
        return None
    if shutil.which("mmdebstrap") is None:
        subprocess.run(["apt-get", "update", "-q"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-q", "mmdebstrap"], check=False, stdout=subprocess.DEVNULL)
    if shutil.which("mmdebstrap") is None:
        return None
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    python = f"python{FROM_DEBIAN}"
    wanted = f"{python},{python}-dev,{python}-venv,gcc,libc6-dev,ca-certificates"
    # The index of a mirror that stands still expires. Which mirror is the tool's own default.
    options = ["--quiet", "--variant=apt", '--aptopt=Acquire::Check-Valid-Until "false"', f"--keyring={KEYS}"]
    command = ["mmdebstrap", *options, f"--include={wanted}", "sid", str(root)]
    if subprocess.run(command, check=False).returncode != 0:
        return None
    for name in SHARED:
        if os.path.exists(name):
            shutil.copy(name, root / name[1:])
    (root / ".ready").touch()
    return root


def copy_sources(to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    built = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    cached = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=built if name == "s3dlio" else cached)
        else:
            shutil.copy(ROOT / name, to / name)


# In a directory of sources, with an interpreter: an environment, the native modules, the tests.
SCRIPT = f"""
set -e
"$1" -c "$3"
[ -e "$2/bin/pip" ] || "$1" -m venv "$2"
"$2/bin/pip" install --quiet --disable-pip-version-check 'setuptools>=77' 'cython>=3.2' '.[test]'
"$2/bin/pip" uninstall --quiet --yes s3dlio
"$2/bin/python" setup.py -q build_ext --inplace > build.log 2>&1 || {{ cat build.log; exit 1; }}
exec "$2/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadfile {" ".join(TESTS)}
"""


def run_here(version: str, python: Path) -> int:
    sources = ROOT / "build" / f"python-{version}"
    copy_sources(sources)
    environment = CACHE / f"environment-{version}"
    environment.parent.mkdir(parents=True, exist_ok=True)
    command = ["sh", "-c", SCRIPT, "sh", str(python), str(environment), SHOW]
    return subprocess.run(command, cwd=sources, check=False).returncode


def run_in(root: Path) -> int:
    """As `run_here`, in the root file system, with the kernel's own file systems mounted for this run alone."""
    copy_sources(root / "src")
    mounts = (
        'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; mount --rbind /sys "$0/sys"; mount -t tmpfs tmpfs '
        '"$0/tmp"; cd "$0/src"; exec chroot "$0" sh -c \'cd /src; exec sh -c "$0" "$@"\' "$@"'
    )
    command = ["unshare", "--mount", "sh", "-c", mounts, str(root), SCRIPT, "sh",
               f"/usr/bin/python{FROM_DEBIAN}", "/environment", SHOW]  # fmt: skip
    return subprocess.run(
        command, env={**os.environ, "HOME": "/root", "PATH": "/usr/bin:/bin:/usr/sbin"}, check=False
    ).returncode


def run(version: str) -> int | None:
    """The exit status of the tests; None where this machine has no such Python."""
    root = debian_root() if version == FROM_DEBIAN else None
    if root is not None:
        return run_in(root)
    python = find(version)
    return None if python is None else run_here(version, python)


def main() -> int:
    status = 0
    for version in sys.argv[1:] or VERSIONS:
        result = run(version)
        if result is None:
            print(f"Python {version} is not to be had on this machine")
            status |= version in sys.argv[1:]
        else:
            status |= result != 0
    return status


if __name__ == "__main__":
    sys.exit(main())
