"""A process that only starts: how long the import of a library takes, and how long until the first object is there.

It imports nothing before the library that the library might import itself, so that the library pays for all of it.
"""

import sys
import time

entered = time.monotonic()
name, text, *libraries = sys.argv[1:]
started = time.perf_counter()
for library in libraries:
    __import__(library)
imported = time.perf_counter()
loads = {f"loads_{module}": int(module in sys.modules) for module in ("botocore", "numpy")}

import json  # noqa: E402

module = __import__(f"clients.with_{name}", fromlist=["Client"])
job = module.Job.of(json.loads(text))
print(json.dumps({"next": 0}), flush=True)
key = sys.stdin.readline().strip()
asked = time.perf_counter()
result = module.Client(job).get(key)
first = time.perf_counter()
if len(result) != job.size:
    raise ValueError(f"{len(result)} bytes came and not {job.size}")
numbers = {
    "interpreter_s": entered - job.spawned,
    "import_s": imported - started,
    "first_get_s": first - asked,
    "start_s": imported - started + first - asked,
    "file": module.source_file(),
}
print(json.dumps(numbers | loads))
