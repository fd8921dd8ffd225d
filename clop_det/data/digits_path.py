"""Addresses of the embedded digits: `digits://cluttered?train=2600&val=1000&size=32&seed=0`, `digits://scenes?...`."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

from clop_det.data.building import build_once, cache_folder
from clop_det.data.cluttered_digits import write_cluttered
from clop_det.data.digit_scenes import write_scenes
from clop_det.errors import UserError

# Part of the key of a generated folder: raise it when the same parameters give other pixels or files.
GENERATOR_VERSION = 4

_log = logging.getLogger(__name__)


class _Parameter(NamedTuple):
    default: int
    low: int
    high: int


class _Generator(NamedTuple):
    write: Callable[..., None]
    parameters: dict[str, _Parameter]


_SEED = _Parameter(0, 0, 2**31 - 1)
_GENERATORS = {
    "cluttered": _Generator(
        write_cluttered,
        {
            "train": _Parameter(2600, 10, 1_000_000),
            "val": _Parameter(1000, 10, 1_000_000),
            "size": _Parameter(32, 16, 512),
            "seed": _SEED,
        },
    ),
    "scenes": _Generator(
        write_scenes,
        {
            "train": _Parameter(600, 1, 100_000),
            "val": _Parameter(100, 1, 100_000),
            "test": _Parameter(200, 1, 100_000),
            "size": _Parameter(128, 64, 1024),
            "seed": _SEED,
        },
    ),
}


def digits_folder(address: str) -> Path:
    """The folder of an address without its scheme, e.g. `cluttered?train=100`; generated into the cache on first use.

    Raises:
        UserError: unknown set or parameter, a value that is not a whole number in its range, an unwritable cache.
    """
    name, parameters = parse_address(address)
    text = "&".join(f"{key}={value}" for key, value in parameters.items())
    key = hashlib.sha256(f"{name}?{text}&version={GENERATOR_VERSION}".encode()).hexdigest()[:12]
    folder = cache_folder() / "digits" / f"{name}-{key}"
    start = time.monotonic()
    if build_once(folder, lambda temporary: _GENERATORS[name].write(temporary, **parameters)):
        _log.info("generated digits://%s?%s in %.1f s: %s", name, text, time.monotonic() - start, folder)
    return folder


def parse_address(address: str) -> tuple[str, dict[str, int]]:
    """Name of the set and all its parameters, defaults filled in, in a fixed order.

    Raises:
        UserError: as `digits_folder`.
    """
    name, _, query = address.partition("?")
    name = name.strip("/")
    if name not in _GENERATORS:
        raise UserError(f"unknown digits://{name}; known: {', '.join(f'digits://{known}' for known in _GENERATORS)}")
    known = _GENERATORS[name].parameters
    values = {key: parameter.default for key, parameter in known.items()}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise UserError(f"digits://{address}: {error}; write it as digits://{name}?key=value&key=value") from error
    for key, text in pairs:
        if key not in known:
            raise UserError(f"digits://{address}: unknown parameter {key!r}; known: {', '.join(known)}")
        low, high = known[key].low, known[key].high
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise UserError(f"digits://{address}: {key} is {text!r}; it must be a whole number from {low} to {high}")
        values[key] = int(text)
    return name, values
