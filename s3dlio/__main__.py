"""``python -m s3dlio`` is the command `s3dlio`."""

import sys

from .cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
