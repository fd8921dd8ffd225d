"""A COCO file as a source: its categories, its table, its images' folder, and what tells that it has changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from clop_det.annotations.checks import Checks
from clop_det.annotations.coco import CocoSource, find_categories, load_coco
from clop_det.annotations.coco_file import CocoFile, read_coco
from clop_det.annotations.file_content import content_sha256
from clop_det.annotations.names import files_below, find_file, find_upload, uploads
from clop_det.annotations.table import Table
from clop_det.data.decoding import IMAGE_SUFFIXES
from clop_det.errors import UserError

_FEW = 20  # images that are looked for in a folder before it is held to be theirs


class CocoSet:
    """One COCO annotation file, all of it or a list of its images.

    Args:
        path: the JSON file.
        folders: where its images may lie; the first that holds some of them is taken.
        given: class names; empty: the file's.
        only: file names of the images to take; empty: all.
        mode: of the boxes.
        known: category id -> class name, where another source says so.
    """

    def __init__(
        self,
        path: Path,
        folders: Sequence[Path],
        given: tuple[str, ...] = (),
        only: tuple[str, ...] = (),
        mode: BoxMode = BoxMode.XYWH_ABS,
        known: dict[Any, str] | None = None,
    ) -> None:
        self.path, self._folders, self._given, self._only, self._mode = path, folders, given, only, mode
        self._known = known
        self._uploads: dict[Path, dict[str, str]] = {}

    def key(self) -> str:
        """The entry and the content of the file."""
        there = [folder for folder in self._folders if folder.is_dir()]  # what decides where the images are looked for
        entry = (self.path, self._folders, there, self._given, self._only, self._mode, self._known)
        return f"coco {entry} {self._sha256}"

    @cached_property
    def _sha256(self) -> str:
        try:
            return content_sha256(self.path)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from error

    @cached_property
    def _file(self) -> CocoFile:
        return read_coco(self.path)

    @cached_property
    def source(self) -> CocoSource:
        """The file with its folder of images and its categories.

        Raises:
            UserError: see `read_coco` and `find_categories`.
        """
        categories = self._known or find_categories(self._file, self._given, self.path)
        return CocoSource(self.path, self._image_dir(), categories, self._given, self._mode)

    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.source.names

    def metadata(self) -> dict[str, Any]:
        """Class names, category ids and the folder of the images."""
        source = self.source
        categories = [[category, index] for category, index in source.index.items()]
        return {
            "thing_classes": list(source.names),
            "categories": categories,
            "image_root": str(source.image_dir),
        }

    def read(self, checks: Checks) -> Table:
        """See `load_coco`."""
        source, file = self.source, self._file
        del self.__dict__["_file"]  # its arrays go into the table
        return load_coco(source, checks, self._only, file)

    def find(self, path: str) -> str | None:
        """The file that an image's name means in another spelling."""
        folder = self.source.image_dir
        found = self._find(folder, os.path.relpath(path, folder))
        return None if found is None else str(found)

    def _find(self, folder: Path, name: str) -> Path | None:
        if found := find_file(folder, name):
            return found
        if folder not in self._uploads:
            files = files_below(folder, IMAGE_SUFFIXES).values()
            self._uploads[folder] = uploads(os.path.relpath(file, folder) for file in files)
        upload = find_upload(name, self._uploads[folder])
        return None if upload is None else folder / upload

    def _image_dir(self) -> Path:
        there = [folder for folder in self._folders if folder.is_dir()]
        if len(there) > 1:
            names = (self._only or self._file.names)[:_FEW]
            for find in (lambda folder, name: os.path.isfile(folder / name) or find_file(folder, name), self._find):
                for folder in there:
                    if any(find(folder, name) for name in names if "\0" not in name):
                        return folder
        return there[0] if there else self._folders[-1]
