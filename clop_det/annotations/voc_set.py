"""A Pascal VOC folder as a source: its classes, its table, and what tells that it has changed."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from clop_det.annotations.checks import Checks, Fault, marks
from clop_det.annotations.names import files_below
from clop_det.annotations.table import Table
from clop_det.annotations.voc import VocSource, load_voc
from clop_det.annotations.voc_xml import Annotation, read_annotation
from clop_det.data.decoding import IMAGE_SUFFIXES
from clop_det.errors import UserError


class VocSet:
    """One split of a Pascal VOC folder.

    Args:
        source: the folder.
        given: class names; empty: all that occur in the folder, whatever the split, sorted.
    """

    def __init__(self, source: VocSource, given: tuple[str, ...] = ()) -> None:
        self.source, self._given = source, given

    def key(self) -> str:
        """The folder, its files and the list; of the annotation files sizes and times stand for the content."""
        return self._key

    @cached_property
    def _key(self) -> str:
        annotations = (self._files if self._given else self._all_files).values()
        lists = [self.source.list_file] if self.source.list_file else []
        return f"voc {self.source} {self._given} {marks([*annotations, *lists])} {[*self._pictures.values()]}"

    @cached_property
    def _files(self) -> dict[str, str]:
        """The annotation files, by name."""
        if self.source.annotation_dir == self.source.class_dir:
            return self._all_files
        return files_below(self.source.folder / self.source.annotation_dir, (".xml",))

    @cached_property
    def _all_files(self) -> dict[str, str]:
        """Those of all splits."""
        return files_below(self.source.folder / self.source.class_dir, (".xml",))

    @cached_property
    def _pictures(self) -> dict[str, str]:
        """The image files, by name."""
        return files_below(self.source.folder / self.source.image_dir, IMAGE_SUFFIXES)

    def classes(self) -> tuple[str, ...]:
        """Class names.

        Raises:
            UserError: none is given, and no annotation names an object.
        """
        return self._given or self._found

    def metadata(self) -> dict[str, Any]:
        """Class names."""
        return {"thing_classes": list(self.classes())}

    @cached_property
    def _read(self) -> dict[str, Annotation | Fault]:
        """What all annotation files of the folder say, whatever the split."""
        return {path: _try_reading(path) for path in self._all_files.values()}

    @cached_property
    def _found(self) -> tuple[str, ...]:
        # Files that cannot be read name nothing here; loading a split that lists one reports it.
        read = (found for found in self._read.values() if isinstance(found, Annotation))
        names = {entry.name for found in read for entry in found.objects}
        if not names:
            raise UserError(f"no annotation in {self.source.folder / self.source.class_dir} names an object.")
        return tuple(sorted(names))

    def read(self, checks: Checks) -> Table:
        """See `load_voc`."""
        classes = self.classes()
        read = self.__dict__.pop("_read", {})  # once read, it is in the table
        return load_voc(self.source, classes, checks, self._files, self._pictures, read)

    def find(self, path: str) -> str | None:
        """Images are found by their ids already."""
        return None


def _try_reading(path: str) -> Annotation | Fault:
    try:
        return read_annotation(path)
    except Fault as fault:
        return fault
