"""Equal tuning budget: every initialisation's best fine-tuning setting, chosen on one test set, reported on another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clop_det.comparison.results.rows import Row, Setting, grid_text
from clop_det.comparison.results.statistics import mean_interval
from clop_det.figures import CATALOGUE


@dataclass(frozen=True)
class Choice:
    """What was chosen for one initialisation under one condition.

    Attributes:
        setting: without its detection grid.
        by: data set that decided.
        tried: (grid text, mean AP there over the seeds, how many those are) in the order of the grid; no mean if none.
        chosen: grid text of the best.
    """

    setting: Setting
    by: str
    tried: list[tuple[str, float | None, int]]
    chosen: str

    @property
    def sentence(self) -> str:
        """The choice in words, with every alternative's figure."""
        most = max(seeds for *_, seeds in self.tried)
        figures = ", ".join(
            f"{text}: {_mean_text(mean)}{'' if seeds == most else f' ({seeds} of {most} seeds)'}"
            for text, mean, seeds in self.tried
        )
        labels = "" if self.setting.label_fraction is None else f", {100 * self.setting.label_fraction:g} % labels"
        return f"{self.setting.label}{labels}: {self.chosen}, chosen by AP on {self.by} among {figures}."


def _mean_text(mean: float | None) -> str:
    return "–" if mean is None else CATALOGUE.find("AP").text(mean)  # noqa: RUF001 (a dash)


def choose(rows: Sequence[Row], select: Mapping[str, Sequence[str]]) -> tuple[list[Row], list[Choice]]:
    """Keep, for each initialisation and condition of a detection config in `select`, the rows of its best setting.

    Args:
        rows: all rows.
        select: detection config -> (data set that decides, data set that is reported).

    Returns:
        rows, where those of a tuned config carry no detection grid any more; and the choices made. The mean over the
        seeds decides, among the settings that have most seeds: one whose other runs failed is not judged by the rest.
        The first of equals wins. Where nothing has been measured yet, the first setting stands in.
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
        figures = {setting: _figures(items, column_on("AP", by)) for setting, items in options.items()}
        most = max(map(len, figures.values()))
        means = {setting: mean_interval(values).mean if values else None for setting, values in figures.items()}
        best = max(
            (setting for setting, values in figures.items() if len(values) == most),
            key=lambda setting: means[setting] or 0.0,
        )
        kept += [dataclasses.replace(row, setting=general) for row in options[best]]
        tried = [(grid_text(s.detection_grid), means[s], len(values)) for s, values in figures.items()]
        choices.append(Choice(general, by, tried, grid_text(best.detection_grid)))
    return kept, choices


def column_on(metric: str, data_set: str) -> str:
    """Column of a figure on another test set than the reported one."""
    return f"{metric}@{data_set}"


def _figures(rows: Sequence[Row], column: str) -> list[float]:
    return [row.metrics[column] for row in rows if column in row.metrics]
