"""Reading one XML file: the short way gives what Python's parser gives, and takes nothing that the parser refuses."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clop_det.annotations import voc_xml
from clop_det.annotations.checks import Fault
from clop_det.annotations.voc_xml import read_annotation

BOX = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>13</ymax></bndbox>"
PIECES = [
    *("<annotation>", "</annotation>", "<object>", "</object>", "<name>cat</name>", "<name> dog\r\n</name>", "<name/>"),
    *(
        BOX,
        "<part>",
        "</part>",
        "<size><width>40</width><height>24</height></size>",
        "<difficult>1</difficult>",
        "\n\t",
    ),
    *(
        "&amp;",
        "&lt;",
        "<!-- <object> -->",
        "<![CDATA[<object>]]>",
        ' a="b"',
        "text",
        "\x01",
        "]]>",
        "<",
        ">",
        "é",
        "<?p?>",
    ),
]


def both(content: bytes) -> tuple[Any, Any]:
    try:
        parsed: Any = voc_xml._parsed(content, Path("x.xml"))
    except Fault as fault:
        parsed = fault
    return voc_xml._plain(content), parsed


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(0, 3))
def test_the_short_way_agrees_with_the_parser_or_steps_back(pieces: list[str], wraps: int) -> None:
    middle = "".join(pieces)
    middle = middle if wraps < 1 else f"<annotation>{middle}</annotation>"
    middle = middle if wraps < 2 else middle.replace("<annotation>", "<annotation><object>" + BOX + "</object>", 1)
    head = '<?xml version="1.0" encoding="utf-8"?>\n' if wraps == 3 else ""
    plain, parsed = both((head + middle).encode())
    assert plain is None or plain == parsed


WHOLE = re.findall(
    r"<[^>]*>|[^<]+",
    "<annotation><folder>f</folder><source><database>d</database></source>"
    "<size><width>40</width><height>24</height><depth>3</depth></size><segmented>0</segmented>"
    f"<object><name>cat</name><pose>Left</pose><difficult>1</difficult>{BOX}</object>"
    "<object><pose>Left</pose><name>dog</name><bndbox><xmax>9</xmax><xmin>1</xmin><ymax>8.5</ymax><ymin>2</ymin></bndbox>"
    "<difficult>0</difficult></object></annotation>",
)
CHANGES = [
    *PIECES,
    "<bndbox>",
    "</bndbox>",
    "<name>",
    "</name>",
    "<size>",
    "</size>",
    "nan",
    "",
    "Left",
    "<xmin>7</xmin>",
]


def test_a_usual_file_is_read_the_short_way() -> None:
    plain, parsed = both("".join(WHOLE).replace("><", ">\n\t<").encode())
    assert plain == parsed
    assert [(entry.name, entry.difficult) for entry in plain.objects] == [("cat", 1), ("dog", 0)]
    assert plain.objects[1].box == (1, 2, 9, 8.5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 3), st.sampled_from(CHANGES)), max_size=3))
def test_a_changed_file_is_read_as_the_parser_reads_it_or_by_it(changes: list[tuple[int, int, str]]) -> None:
    parts = list(WHOLE)
    for place, how, piece in changes:
        parts[place] = (piece, parts[place] + piece, parts[place] * 2, "")[how]
    plain, parsed = both("".join(parts).encode())
    assert plain is None or repr(plain) == repr(parsed)  # as text, where NaN is itself


def test_real_files_are_read_the_short_way(real_data: Path) -> None:
    for name in ("bccd_voc", "aquarium_det"):
        for path in sorted((real_data / name / "Annotations").glob("*.xml"))[::5]:
            plain, parsed = both(path.read_bytes())
            assert plain is not None
            assert plain == parsed


@pytest.mark.parametrize(
    "head",
    ["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="UTF-8"?>\n', "\ufeff", "<!-- made by hand -->"],
)
def test_heads(tmp_path: Path, head: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"{head}<annotation><object><name>cat</name>{BOX}</object></annotation>", encoding="utf-8")
    (found,) = read_annotation(path).objects
    assert (found.name, found.box) == ("cat", (3, 4, 12, 13))


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?><annotation><object><name>café</name>{BOX}</object></annotation>'
    )
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert read_annotation(tmp_path / "a.xml").objects[0].name == "café"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("declaration", ['<!DOCTYPE a [<!ENTITY x "y">]>', "<!doctype a>", '<!ENTITY x "y">'])
def test_doctypes_and_entities_are_refused(tmp_path: Path, declaration: str, encoding: str) -> None:
    (tmp_path / "a.xml").write_bytes(f"{declaration}<annotation/>".encode(encoding))
    with pytest.raises(Fault, match="holds a DOCTYPE or an entity"):
        read_annotation(tmp_path / "a.xml")


def test_limits(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b" " * ((16 << 20) + 1))
    with pytest.raises(Fault, match="more than 16 MiB"):
        read_annotation(tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text("<a>" * 50_000 + "</a>" * 50_000)
    assert read_annotation(tmp_path / "b.xml").objects == ()


@pytest.mark.parametrize(
    ("word", "difficult", "unclear"),
    [
        *(("", 0, ""), ("0", 0, ""), ("1", 1, ""), ("0.0", 0, ""), (" 1.0\n", 1, ""), ("True", 1, ""), ("no", 0, "")),
        *(("Unspecified", 0, "Unspecified"), ("nan", 0, "nan"), ("1e999", 0, "1e999"), ("7", 1, "")),
    ],
)
def test_difficult_in_words(tmp_path: Path, word: str, difficult: int, unclear: str) -> None:
    text = f"<annotation><object><name>cat</name><difficult>{word}</difficult>{BOX}</object></annotation>"
    (tmp_path / "a.xml").write_text(text)
    (found,) = read_annotation(tmp_path / "a.xml").objects
    assert (found.difficult, found.unclear) == (difficult, unclear)


@pytest.mark.parametrize(("before", "behind"), [("", ""), (BOX, "<part><name>head</name></part>")])
def test_an_object_of_many_elements_takes_time_by_its_length(before: str, behind: str) -> None:
    many = "<pose>Left</pose>" * 40_000
    content = f"<annotation><object><name>cat</name>{before}{many}{behind}</object></annotation>".encode()
    start = time.monotonic()
    assert voc_xml._plain(content) is None
    assert time.monotonic() - start < 5
