"""Images chosen from one or several data sets: a sequence of dataset dicts that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from clop_det.annotations.table import Array, Boxes, Record, Table


class Chosen(Sequence[Record]):
    """Dataset dicts of some images; each says under `data_set` where it comes from.

    Args:
        parts: (name, table) of the data sets.
        part, row: (N,) of each image its data set, and its place there; by default all images of all.
    """

    def __init__(self, parts: Sequence[tuple[str, Table]], part: Array | None = None, row: Array | None = None) -> None:
        self.parts = parts
        counts = [len(table) for _, table in parts]
        self._part = np.repeat(np.arange(len(parts)), counts) if part is None else part
        self._row = np.concatenate([np.arange(0), *map(np.arange, counts)]) if row is None else row

    def __len__(self) -> int:
        return len(self._row)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name, table = self.parts[self._part[index]]
        return {**table[int(self._row[index])], "data_set": name}

    def heads(self) -> Iterator[Record]:
        """The dataset dicts without their annotations."""
        for part, row in zip(self._part.tolist(), self._row.tolist(), strict=True):
            name, table = self.parts[part]
            yield {**table.head(row), "data_set": name}

    def gather(self, what: Any) -> Array:
        """(N,) of each image what `what(table)`, an array over the images of a table, says."""
        values = np.concatenate([what(table) for _, table in self.parts])
        before = np.cumsum([0, *(len(table) for _, table in self.parts)])
        return np.asarray(values[before[self._part] + self._row])

    def take(self, chosen: Sequence[int] | Array) -> Chosen:
        """Some of these images."""
        rows = np.asarray(chosen, dtype=np.int64)
        return Chosen(self.parts, self._part[rows], self._row[rows])

    def boxes(self) -> list[Boxes]:
        """The annotations of these images, in the order of the data sets."""
        return [
            table.boxes.take(np.flatnonzero(np.isin(table.boxes.owner, self._row[self._part == part])))
            for part, (_, table) in enumerate(self.parts)
        ]
