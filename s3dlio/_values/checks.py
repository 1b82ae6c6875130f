"""Checks of single settings: each returns the value in its final form, or raises a ConfigurationError (an
OptionTypeError where the type is wrong).

The error names the setting, its value and what is allowed. Nothing here reads the environment. Callers are `config`,
`environment` and the public functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError, OptionTypeError
from .limits import KIB

_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# As MinIO's servers take them.
_NUMBERS = re.compile(r"\{([0-9]{1,9})\.\.\.([0-9]{1,9})\}")
MOST_ENDPOINTS = 1024
# A header name (RFC 9110, section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_integer(name: str, value: Any, low: int, high: int, unit: str, remedy: str = "") -> int:
    """`value` as int, from `low` to `high`."""
    hint = f"; {remedy}" if remedy else ""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise OptionTypeError(f"{name}={value!r} is not a whole number of {unit}{hint}")
    number: int = value.__index__()
    if not low <= number <= high:
        raise ConfigurationError(f"{name}={number} is outside {low} to {high} {unit}{hint}")
    return number


def check_seconds(name: str, value: Any) -> float:
    """`value` as a positive, finite number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionTypeError(f"{name}={value!r} is not a number of seconds")
    if not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name}={value!r} is not a positive number of seconds")
    return float(value)


def check_boolean(name: str, value: Any) -> bool:
    """`value`, if it is True or False."""
    if not isinstance(value, bool):
        raise OptionTypeError(f"{name}={value!r} is not True or False")
    return value


def is_region(text: str) -> bool:
    """Whether `text` can be the name of a region."""
    return _REGION.fullmatch(text) is not None


def check_region(region: str) -> str:
    """`region`, if it can be one: the signature of every request contains it."""
    if not is_region(region):
        raise ConfigurationError(f"region={region!r} is not a region name; use letters, digits and hyphens")
    return region


def parse_boolean(text: str) -> bool | None:
    """True or False in their usual forms; None for anything else."""
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    return False if lowered in ("0", "false", "no", "off") else None


def check_header_text(name: str, value: Any) -> str:
    """`value` as text that an HTTP header may contain (RFC 9110, section 5.5)."""
    if not isinstance(value, str):
        raise OptionTypeError(f"{name}={value!r} is not a str")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ConfigurationError(f"{name}={value!r} contains a control character; remove CR, LF and the like")
    if not value.isascii():
        raise ConfigurationError(
            f"{name}={value!r} contains characters outside ASCII; encode them (for example with urllib.parse.quote)"
        )
    return value.strip()


def expanded(url: str, name: str) -> list[str]:
    """The URLs that one with ranges of numbers stands for: ``http://10.0.0.{1...8}:9000``, or ``{01...08}``.

    Raises:
        ConfigurationError: a brace is no range, a range is empty, or they are too many.
    """
    found = _NUMBERS.search(url)
    if found is None:
        if "{" in url or "}" in url:
            raise ConfigurationError(f"{name}: {url!r} has a brace that is no range of numbers, as in {{1...8}}")
        return [url]
    low, high, width = int(found[1]), int(found[2]), len(found[1]) if found[1].startswith("0") else 0
    if not low <= high:
        raise ConfigurationError(f"{name}: {found[0]} is empty; write the smaller number first")
    if high - low >= MOST_ENDPOINTS:
        raise ConfigurationError(f"{name}: {found[0]} has more than {MOST_ENDPOINTS} numbers")
    urls = [
        one
        for number in range(low, high + 1)
        for one in expanded(f"{url[: found.start()]}{number:0{width}}{url[found.end() :]}", name)
    ]
    if len(urls) > MOST_ENDPOINTS:
        raise ConfigurationError(f"{name}: {url!r} stands for more than {MOST_ENDPOINTS} endpoints")
    return urls


def check_endpoints(value: Any) -> str | tuple[str, ...]:
    """`endpoint_url` in its final form: one URL, or several of one store."""
    if isinstance(value, str):
        urls = expanded(check_header_text("endpoint_url", value), "endpoint_url")
        return urls[0] if len(urls) == 1 else tuple(urls)
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise OptionTypeError(f"endpoint_url={value!r} is not a str, or a sequence of them")
    if not value:
        raise ConfigurationError("endpoint_url is an empty sequence; give at least one URL, or None")
    return tuple(url for one in value for url in expanded(check_header_text("endpoint_url", one), "endpoint_url"))


def check_version_id(value: Any) -> str:
    """`value` as the version of an object: text that is not empty ("null" is the version of an unversioned object)."""
    if not isinstance(value, str):
        raise OptionTypeError(f"version_id={value!r} is not a str; leave it out for the current version")
    if not value:
        raise ConfigurationError("version_id is empty; leave it out for the current version")
    return value


def check_metadata(value: Any) -> dict[str, str]:
    """User metadata: names that are header tokens, ASCII values, at most 2 KiB in total.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
    """
    metadata = _check_mapping("metadata", value)
    for key, text in metadata.items():
        if not _TOKEN.fullmatch(key):
            raise ConfigurationError(f"metadata key {key!r} is not a valid header name; use letters, digits and -")
        check_header_text(f"metadata[{key!r}]", text)
    size = sum(len(k) + len(v) for k, v in metadata.items())
    if size > 2 * KIB:
        raise ConfigurationError(f"metadata has {size} bytes; S3 stores at most {2 * KIB}")
    return metadata


def check_tags(value: Any) -> dict[str, str]:
    """Object tags: at most 10, keys up to 128 characters, values up to 256.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
    """
    tags = _check_mapping("tags", value)
    if len(tags) > 10:
        raise ConfigurationError(f"tags has {len(tags)} entries; S3 stores at most 10")
    for key, text in tags.items():
        if not 1 <= len(key) <= 128 or not isinstance(text, str) or len(text) > 256:
            raise ConfigurationError(f"tag {key!r}={text!r}: keys have 1 to 128, values up to 256 characters")
    return tags


def _check_mapping(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise OptionTypeError(f"{name}={value!r} is not a mapping of str to str")
    return {str(k): v for k, v in value.items()}
