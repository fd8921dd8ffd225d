"""One Pascal VOC annotation file: what its elements say.

Plain files, which nearly all are (elements in the usual order; no attributes, entities, comments), are read by regular
expressions that account for every character. Anything else takes Python's parser, which then also words what is wrong.
"""

from __future__ import annotations

import codecs
import math
import re
from typing import NamedTuple
from xml.etree import ElementTree

from clop_det.annotations.checks import Fault
from clop_det.files import StrPath, open_ordinary

Box = tuple[float, ...]
Fields = dict[str, str]
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_WORDS = {"": 0, "true": 1, "yes": 1, "y": 1, "t": 1, "false": 0, "no": 0, "n": 0, "f": 0, "none": 0}
_LARGEST = 16 << 20  # bytes; the largest known annotations have some hundred thousand
_HEAD = re.compile(r"<\?xml version=[\"']1\.0[\"'](?: encoding=[\"']utf-8[\"'])?\s*\?>", re.IGNORECASE)
_ODD = re.compile("[&\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]|]]>")
_TAG = r"[A-Za-z_][\w.\-]*"
_CORNER = r"<([xy]m(?:in|ax))>([^<]*)</\{}>\s*"
_DIFFICULT = r"<difficult>([^<]*)</difficult>\s*"


def _others(group: str, *names: str) -> str:
    """Any elements of text that bear none of these names."""
    return rf"(?:<(?!{'|'.join(f'{name}>' for name in names)})(?P<{group}>{_TAG})>[^<]*</(?P={group})>\s*)*"


# Text, or elements of text.
_PART = rf"(?:<(?!object>|size>)(?P<{{0}}>{_TAG})>(?:[^<]*|\s*{_others('{1}', 'object')})</(?P={{0}})>\s*)*"
_SIDES = r"<width>(?P<width>[^<]*)</width>\s*<height>(?P<height>[^<]*)</height>\s*(?:<depth>[^<]*</depth>\s*)?"
_VERIFIED = r"(?: verified=[\"'](?:yes|no)[\"'])?"  # as labelImg writes
_START = re.compile(
    rf"\s*<annotation{_VERIFIED}>\s*{_PART.format('a', 'b')}"
    rf"(?:<size>\s*{_SIDES}</size>\s*{_PART.format('c', 'd')})?",
    re.ASCII,
)
_ASIDE = ("name", "difficult", "bndbox", "polygon")
_OBJECT = re.compile(
    rf"<object>\s*{_others('a', *_ASIDE)}<name>([^<]*)</name>\s*{_others('b', *_ASIDE)}"
    rf"(?:{_DIFFICULT}{_others('c', *_ASIDE)})?"
    rf"<bndbox>\s*{''.join(_CORNER.format(k) for k in (6, 8, 10, 12))}</bndbox>\s*"
    rf"{_others('d', *_ASIDE)}(?:{_DIFFICULT}{_others('e', *_ASIDE)})?</object>\s*",
    re.ASCII,
)
_END = re.compile(r"</annotation>\s*", re.ASCII)


class Described(NamedTuple):
    """One object.

    Attributes:
        name: of its class.
        box: xmin, ymin, xmax, ymax as written: pixel indices from 1, corners included.
        difficult: 0 or 1.
        unclear: the word in `difficult` that says neither; empty: none.
        outlined: whether the box is that of a polygon.
    """

    name: str
    box: Box
    difficult: int
    unclear: str
    outlined: bool


class Annotation(NamedTuple):
    """One annotation file.

    Attributes:
        width, height: pixels; 0: absent or unreadable.
        objects: in the order of the file.
        faults: of each object that could not be read, what it lacks.
    """

    width: int
    height: int
    objects: tuple[Described, ...]
    faults: tuple[str, ...]


def read_annotation(path: StrPath) -> Annotation:
    """One annotation file.

    Raises:
        Fault: missing_file; doctype (entities could read other files or exhaust the memory); unreadable_annotation.
    """
    try:
        with open_ordinary(path, buffering=0) as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise Fault("missing_file", f"the annotation {path} does not exist") from error
    except OSError as error:
        raise Fault("unreadable_annotation", f"cannot read the annotation {path}: {error.strerror or error}") from error
    if len(content) > _LARGEST:
        raise Fault("unreadable_annotation", f"{path} has more than {_LARGEST >> 20} MiB, as no annotation file has")
    return _plain(content) or _parsed(content, path)


def _plain(content: bytes) -> Annotation | None:
    """What a file says; None if it is not as plain as that, or lacks something."""
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        return None
    head = _HEAD.match(text)
    start = _START.match(text, head.end() if head else 0)
    if start is None or _ODD.search(text):
        return None
    place, objects = start.end(), []
    while found := _OBJECT.match(text, place):
        place = found.end()
        _, name, _, before, _, k0, v0, k1, v1, k2, v2, k3, v3, _, after, _ = found.groups()
        corners = {k0: v0, k1: v1, k2: v2, k3: v3}
        word = (before if before is not None else after) or "0"
        if len(corners) < 4 or word not in ("0", "1") or not (name := name.strip()):
            return None
        try:
            box = tuple([float(corners[corner]) for corner in _CORNERS])
        except ValueError:
            return None
        objects.append(Described(name, box, int(word), "", False))
    width, height = start.group("width", "height")
    return Annotation(_whole(width), _whole(height), tuple(objects), ()) if _END.fullmatch(text, place) else None


def _parsed(content: bytes, path: StrPath) -> Annotation:
    """The same by Python's parser, for any well-formed file without a DOCTYPE."""
    size, entries = _parsed_fields(content, path)
    objects, faults = [], []
    for entry in entries:
        try:
            objects.append(_object(entry))
        except (TypeError, ValueError) as error:
            faults.append(f"{path}: an object lacks a name or a box of four numbers ({error})")
    return Annotation(_whole(size.get("width")), _whole(size.get("height")), tuple(objects), tuple(faults))


def _parsed_fields(content: bytes, path: StrPath) -> tuple[Fields, list[Fields]]:
    """Fields of the size and of each object."""
    # Any encoding that the parser would take a declaration in: without the zeros, UTF-16 reads like ASCII.
    plain = content.replace(b"\x00", b"").lower()
    if b"<!doctype" in plain or b"<!entity" in plain:
        raise Fault("doctype", f"{path} holds a DOCTYPE or an entity, which annotations do not need; refused")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Fault("unreadable_annotation", f"{path} is not well-formed XML: {error}") from error
    size: Fields = {}
    for part in root.iterfind("size/*"):
        size.setdefault(part.tag, part.text or "")
    objects = []
    for entry in root.iterfind("object"):
        fields: Fields = {}
        for part in entry:
            fields.setdefault(part.tag, part.text or "")
            for inner in part:
                fields.setdefault(f"{part.tag}/{inner.tag}", inner.text or "")
        objects.append(fields)
    return size, objects


def _object(fields: Fields) -> Described:
    name = fields.get("name", "").strip()
    if not name:
        raise ValueError("no <name>")
    outlined = not any(f"bndbox/{corner}" in fields for corner in _CORNERS)
    box = _outline(fields) if outlined else tuple(float(fields.get(f"bndbox/{corner}", "")) for corner in _CORNERS)
    word = fields.get("difficult", "").strip()
    difficult = _WORDS.get(word.lower(), -1)
    if difficult < 0:
        number = _number(word)
        difficult, word = (0, word) if number is None else (int(number != 0), "")
    else:
        word = ""
    return Described(name, box, difficult, word, outlined)


def _outline(fields: Fields) -> Box:
    """The smallest box around <polygon><x1>..</x1><y1>..</y1><x2>.."""
    points = {key.removeprefix("polygon/"): float(v) for key, v in fields.items() if key.startswith("polygon/")}
    xs, ys = ([value for key, value in points.items() if key[:1] == axis and key[1:].isdigit()] for axis in "xy")
    if len(xs) < 3 or len(xs) != len(ys):
        raise ValueError("no <bndbox>")
    return min(xs), min(ys), max(xs), max(ys)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(text: str | None) -> int:
    value = _number(text or "0") or 0
    return int(value) if 0 <= value < 1e9 else 0
