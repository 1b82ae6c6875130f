"""Runs both fuzz targets for SECONDS each and prints how many inputs each has tried: ``run.py [SECONDS] [SEED]``.

It builds the instrumented scanner first, with gcc alone. A finding makes it fail, and stays below ``build/fuzz``;
once it is understood it goes into the corpus, where every test run looks at it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILT = ROOT / "build" / "fuzz"
FINDINGS = BUILT / "findings"
ATHERIS = "make fuzz needs atheris (pip install atheris), which has wheels for CPython 3.11 to 3.13 on Linux x86-64"
GCC = "make fuzz needs gcc, which counts the scanner's branches: install it, for example by apt-get install gcc"

# Longer inputs than these find nothing that shorter ones do not, and every prefix of a head is looked at.
OPTIONS = {
    "head": ["-max_len=1024", f"-dict={HERE / 'head.dict'}"],
    "xml": ["-max_len=4096", f"-dict={HERE / 'xml.dict'}"],
}
SLOWEST = 10  # seconds that one input may take, on a busy machine


def build() -> None:
    """The scanner with a call at every branch and every comparison; undefined behaviour and overflows trap."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    os.environ["CC"] = "gcc"
    instrumented = [
        "-fsanitize-coverage=trace-pc,trace-cmp",
        "-fsanitize=undefined",
        "-fsanitize-undefined-trap-on-error",
    ]
    scanner = Extension(
        "_scanner", [str(HERE / "_scanner.pyx")], extra_compile_args=["-O1", "-g", "-fno-wrapv", *instrumented]
    )
    modules = cythonize([scanner], include_path=[str(ROOT)], build_dir=str(BUILT), quiet=True)
    # Not instrumented itself: it would count itself counting.
    BUILT.mkdir(parents=True, exist_ok=True)
    counter = BUILT / "branches.o"
    subprocess.run(["gcc", "-O2", "-fPIC", "-c", str(HERE / "branches.c"), "-o", str(counter)], check=True)
    modules[0].extra_objects = [str(counter)]
    command = Distribution({"name": "fuzz", "ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib, command.build_temp, command.force = str(BUILT), str(BUILT / "temporary"), True
    command.ensure_finalized()
    command.run()


def fuzz(target: str, seconds: float, seed: int) -> int:
    """Runs one target; returns the number of inputs it has tried.

    Raises:
        SystemExit: an input broke a property, or the target could not run.
    """
    found, corpus = FINDINGS / target, BUILT / "corpus" / target
    for folder in (found, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    import atheris

    command = [
        sys.executable, str(HERE / "targets.py"), target, f"-max_total_time={seconds:g}", f"-seed={seed}",
        f"-timeout={SLOWEST}", "-print_final_stats=1", f"-artifact_prefix={found}/", *OPTIONS[target],
        str(corpus), str(HERE / "corpus" / target),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "S3DLIO_FUZZ_BUILT": str(BUILT),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        # libFuzzer before everything else, so that the scanner's module finds its functions.
        "LD_PRELOAD": str(Path(atheris.path()) / "ubsan_with_fuzzer.so"),
    }
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    executed = re.search(r"number_of_executed_units:\s*(\d+)", ended.stderr)
    if ended.returncode != 0 or executed is None:
        kept = "\n".join(str(path.relative_to(ROOT)) for path in sorted(found.iterdir()))
        raise SystemExit(f"{ended.stdout[-4000:]}{ended.stderr[-4000:]}\nfuzz {target}: failed; inputs kept:\n{kept}")
    return int(executed[1])


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(3), "little")
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit(ATHERIS)
    if shutil.which("gcc") is None:
        raise SystemExit(GCC)
    build()
    for target in OPTIONS:
        print(f"fuzz {target}: {fuzz(target, seconds, seed)} executions in {seconds:g} s, seed {seed}", flush=True)


if __name__ == "__main__":
    main()
