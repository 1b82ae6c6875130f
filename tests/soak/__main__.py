"""Everything at once for some minutes, against the scripted peer, MinIO, and a MinIO behind a proxy that alters answers
(`places`); and then what the stores say of it.

``python tests/soak MINUTES [SEED]``. It goes in rounds: threads run scenarios, then nothing runs and all stores are
audited, then fresh ones take their place. Beside them the state machines search and the fuzzer runs. Its last line has
to be ``lost 0, orphaned 0 (reported N), mixed 0``; it exits with 1 where it is not.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
for folder in ("support", "faults", "models", "soak"):
    sys.path.insert(0, str(TESTS / folder))


def main() -> int:
    from servers import SKIPPED, minio_binary
    from soak import Soak

    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else int.from_bytes(os.urandom(4), "little")
    binary = minio_binary()
    if binary is None:
        print(SKIPPED)
        return 2
    print(f"SEED={seed} MINUTES={minutes:g}", flush=True)
    return Soak(seed, binary).run(minutes * 60)


if __name__ == "__main__":
    sys.exit(main())
