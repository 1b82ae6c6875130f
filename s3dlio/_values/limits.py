"""Numbers that S3 fixes, and units of size. Constants only."""

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MIN_PART_SIZE = 5 * MIB
MAX_PART_SIZE = 5 * GIB
MAX_PARTS = 10_000
MAX_OBJECT_SIZE = 5 << 40
