"""Mutations of a file's bytes and of the values in a JSON file, from one generator: a seed names a case."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

_TOKENS = [b"", b"\0", b"\n", b"\xff\xfe", b"\xef\xbb\xbf", b"-1", b"1e309", b"NaN", b"9" * 5000, b"../" * 5, b"\r\n"]
_TOKENS += [b"{", b"}", b"[" * 2000, b"]", b'"', b",", b"\\ud800", b"%s", b"\x80\x04", b"PK\x03\x04", b"null", b"true"]
_TOKENS += [b"<", b"&a;", b"*s", b"!!python/name:os.system"]
_ODD: list[Any] = [None, True, -1, 0, 1, 2**63, 10**400, 1e308, -1e308, 0.5, float("nan"), float("inf"), "", "a"]
_ODD += ["../../x", "/etc/passwd", "=1+1", "$\\frac$", "<b>|`](x)", "\n\x1b[31m", "x" * 5000, "\ud800", [], {}, [[]]]
_ODD += [[None], {"a": 1}, [[[[[[]]]]]], [1e308, -1e308, 0, 0], ["a", 1]]


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """One to three changes: bytes, spans taken out, doubled or moved, tokens put in, the end cut off."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at, other = sorted((rng.randint(0, len(made)), rng.randint(0, len(made))))
        other = min(other, at + rng.choice((1, 4, 64, 4096)))
        kind = rng.randrange(7)
        if kind == 0 and made:
            made[min(at, len(made) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1 and made:
            made[min(at, len(made) - 1)] = rng.randrange(256)
        elif kind == 2:
            del made[at:other]
        elif kind == 3:
            made[at:at] = made[at:other]
        elif kind == 4:
            made[at:at] = rng.choice(_TOKENS)
        elif kind == 5:
            number = rng.choice([*re.finditer(rb"\d+", bytes(made))] or [None])
            if number is not None:
                made[number.start() : number.end()] = rng.choice((b"0", b"-1", b"99999999999999999999", b"1.5", b"x"))
        else:
            del made[at:]
    return bytes(made)


def mutated_json(rng: random.Random, content: bytes) -> bytes:
    """The JSON file with one to three of its values or keys replaced, left out or doubled; sometimes bytes instead."""
    if rng.random() < 0.2:
        return mutated_bytes(rng, content)
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = _places(value)
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif kind == 1:
            holder[rng.choice(("", "a", "\ud800", "../x", str(key) + " "))] = holder.pop(key)
        elif kind == 2:
            other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            holder[key] = copy.deepcopy(holder[other])
        else:
            holder[key] = copy.deepcopy(rng.choice(_ODD))
    return json.dumps(value).encode()


def mutated_lines(rng: random.Random, content: bytes) -> bytes:
    """`mutated_json` of one line of a file of JSON lines."""
    lines = content.splitlines(keepends=True)
    if rng.random() < 0.3 or not lines:
        return mutated_bytes(rng, content)
    at = rng.randrange(len(lines))
    lines[at] = mutated_json(rng, lines[at]) + rng.choice((b"\n", b"\n", b""))
    return b"".join(lines)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    found, left = [], [value]
    while left:
        holder = left.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                left.append(holder[key])
    return found
