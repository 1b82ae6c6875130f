"""A process that only starts: the time of a library's import, and the time until its first object has arrived.

Before the library it imports nothing that the library might import itself, so that all of that counts for the library.
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
    raise ValueError(f"{len(result)} bytes arrived, {job.size} were expected")
numbers = {
    "interpreter_s": entered - job.spawned,
    "import_s": imported - started,
    "first_get_s": first - asked,
    "start_s": imported - started + first - asked,
    "file": module.source_file(),
}
print(json.dumps(numbers | loads))
