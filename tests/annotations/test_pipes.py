"""A pipe where a file is expected ends in a documented way at once; reading it would wait for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clop_det.annotations.checks.findings import Fault
from clop_det.annotations.checks.image_facts import UNREADABLE, read_facts
from clop_det.annotations.coco_file import read_coco
from clop_det.annotations.images import read_image
from clop_det.annotations.sources import read_lines
from clop_det.annotations.voc_xml import read_annotation
from clop_det.data.decoding import UnreadableImage, extent_of
from clop_det.data.image_sources import FileSource
from clop_det.data.layouts.table import read_text
from clop_det.errors import UserError

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (read_annotation, Fault),
        (read_coco, UserError),
        (lambda path: read_lines(path, "CLASSES"), UserError),
        (lambda path: read_image({"file_name": str(path)}, "RGB"), UserError),
        (extent_of, UnreadableImage),
        (lambda path: FileSource(path.parent, [path.name]).image(0), UnreadableImage),
        (read_text, OSError),
    ],
)
def test_a_pipe_is_an_error_at_once(read: Callable[[Path], object], error: type[Exception], pipe: Path) -> None:
    with pytest.raises(error, match="no ordinary file"):
        read(pipe)


def test_the_header_of_a_pipe_cannot_be_read(pipe: Path) -> None:
    assert read_facts(pipe).fault == UNREADABLE
