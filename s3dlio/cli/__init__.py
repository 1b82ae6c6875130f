"""The command `s3dlio`: what the library does, from a shell.

Data goes to stdout and everything else to stderr, and one tally feeds both what is printed and the exit code. It uses
the public face and nothing below it. It loads that face only when a command needs it, so that ``--help`` answers at
once.
"""

from .entry import main as main
