"""The benchmark harness: `python -m benchmarks compare`. Never imported by the package, and never shipped with it."""
