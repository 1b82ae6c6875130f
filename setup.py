"""Builds the native modules; everything else stands in pyproject.toml.

Switches, by environment: S3DLIO_DEBUG=1 (no optimisation, symbols), S3DLIO_SANITIZE=1 (address and
undefined behaviour) or S3DLIO_SANITIZE=thread (data races), S3DLIO_COVERAGE=1 (line tracing in Cython code).
"""

import os
import sys

if sys.platform == "win32":
    raise SystemExit("s3dlio needs POSIX sockets and mmap: build it on Linux or macOS")
if sys.maxsize < 1 << 32:
    raise SystemExit(
        f"s3dlio needs a 64-bit Python: objects have up to 5 TiB, and this one ({sys.executable}) addresses 32 bits"
    )

from Cython.Build import cythonize
from setuptools import Extension, setup


def switch(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


compile_args = ["-O3", "-g0"]
link_args = []
macros = []
directives = {"language_level": 3}
if switch("S3DLIO_DEBUG"):
    compile_args = ["-O0", "-g"]
if switch("S3DLIO_SANITIZE"):
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    if os.environ["S3DLIO_SANITIZE"] == "thread":
        sanitizers = ["-fsanitize=thread"]
    compile_args = ["-O1", "-g", "-fno-omit-frame-pointer", *sanitizers]
    link_args = sanitizers
if switch("S3DLIO_COVERAGE"):
    directives["linetrace"] = True
    macros = [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]

extensions = [
    Extension(
        f"s3dlio.{name}",
        [f"s3dlio/{name.replace('.', '/')}.pyx"],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=macros,
    )
    for name in (
        "_buffers",
        "_memory.views",
        "_net.tls",
        "_net.exchange",
        "_net.exchange_steps",
        "_net.exchange_loop",
        "_net.operation_lines",
        "_transfer.open_buffer",
    )
]
setup(ext_modules=cythonize(extensions, compiler_directives=directives))
