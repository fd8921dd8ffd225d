"""Equal tuning budget: every initialisation's best fine-tuning setting, chosen on one test set, reported on another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clop_det.comparison.rows import Row, Setting, grid_text
from clop_det.comparison.statistics import mean_interval


@dataclass(frozen=True)
class Choice:
    """What was chosen for one initialisation under one condition.

    Attributes:
        setting: without its detection grid.
        by: data set that decided.
        tried: (grid text, mean AP there over the seeds) in the order of the grid; no figure if no run has ended.
        chosen: grid text of the best.
    """

    setting: Setting
    by: str
    tried: list[tuple[str, float | None]]
    chosen: str

    @property
    def sentence(self) -> str:
        """The choice in words, with every alternative's figure."""
        figures = ", ".join(f"{text}: {'–' if mean is None else f'{mean:.1f}'}" for text, mean in self.tried)  # noqa: RUF001
        labels = "" if self.setting.label_fraction is None else f", {100 * self.setting.label_fraction:g} % labels"
        return f"{self.setting.label}{labels}: {self.chosen}, chosen by AP on {self.by} among {figures}."


def choose(rows: Sequence[Row], select: Mapping[str, Sequence[str]]) -> tuple[list[Row], list[Choice]]:
    """Keep, for each initialisation and condition of a detection config in `select`, the rows of its best setting.

    Args:
        rows: all rows.
        select: detection config -> (data set that decides, data set that is reported).

    Returns:
        rows, where those of a tuned config carry no detection grid any more; and the choices made. The mean over the
        seeds decides; the first of equals wins. Where nothing has been measured yet, the first setting stands in.
    """
    groups: dict[Setting, dict[Setting, list[Row]]] = {}
    kept: list[Row] = []
    for row in rows:
        if row.setting.detection in select and row.setting.detection_grid:
            general = dataclasses.replace(row.setting, detection_grid=())
            groups.setdefault(general, {}).setdefault(row.setting, []).append(row)
        else:
            kept.append(row)
    choices = []
    for general, options in groups.items():
        by = select[general.detection][0]
        means = {setting: _mean(items, column_on("AP", by)) for setting, items in options.items()}
        best = max(options, key=lambda setting: -1.0 if means[setting] is None else means[setting] or 0.0)
        kept += [dataclasses.replace(row, setting=general) for row in options[best]]
        tried = [(grid_text(setting.detection_grid), mean) for setting, mean in means.items()]
        choices.append(Choice(general, by, tried, grid_text(best.detection_grid)))
    return kept, choices


def column_on(metric: str, data_set: str) -> str:
    """Column of a figure on another test set than the reported one."""
    return f"{metric}@{data_set}"


def _mean(rows: Sequence[Row], column: str) -> float | None:
    values = [row.metrics[column] for row in rows if column in row.metrics]
    return mean_interval(values).mean if values else None
