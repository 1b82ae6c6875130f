"""The fuzz targets: ``targets.py head|xml [libFuzzer's options] [corpus folders]``; `run.py` starts them.

The branches of the native scanner and of `s3dlio._s3.xml` guide the fuzzer; an input that breaks a property ends it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import atheris

BUILT = "S3DLIO_FUZZ_BUILT"  # names the folder where the instrumented scanner is


def head_target() -> Callable[[bytes], None]:
    sys.path.append(os.environ[BUILT])
    import _scanner
    import properties

    return lambda data: properties.check_head(data, _scanner.scan_head)


def xml_target() -> Callable[[bytes], None]:
    with atheris.instrument_imports(include=["s3dlio._s3.xml"]):
        import s3dlio._s3.xml  # noqa: F401
    import properties

    return properties.check_document


if __name__ == "__main__":
    target = {"head": head_target, "xml": xml_target}[sys.argv[1]]()
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()
