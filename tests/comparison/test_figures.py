"""What the report's figures show: which settings, under which name, and that their legends fit."""

from __future__ import annotations

import dataclasses
import itertools
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from clop_det.comparison.report.class_maps import class_cosines, related
from clop_det.comparison.report.figures import all_figures, spectra
from clop_det.comparison.report.labels import LIMIT, legend
from clop_det.comparison.results.summary import Comparison


def test_spectra_are_drawn_for_each_label_fraction(comparison: Comparison) -> None:
    few, more = spectra(comparison)
    assert (few.name, few.title) == ("singular_values_10pct", "Singular-value spectra (10 % labels)")
    assert more.name == "singular_values_50pct"
    for picture in (few, more):
        assert all(f">{init}<" in picture.svg for init in ("info_nce", "supcon", "clop"))
        assert "first 10 of" not in picture.caption
    alone = [s for s in comparison.summaries if s.setting.label_fraction in (0.1, None)]
    assert [picture.name for picture in spectra(dataclasses.replace(comparison, summaries=alone))] == [
        "singular_values"
    ]


def test_a_caption_says_what_its_figure_leaves_out(comparison: Comparison) -> None:
    (clop,) = [s for s in comparison.summaries if (s.setting.init, s.setting.label_fraction) == ("clop", 0.1)]
    many = [
        dataclasses.replace(clop, setting=dataclasses.replace(clop.setting, pretrain_grid=(("X.Y", str(value)),)))
        for value in range(LIMIT + 2)
    ]
    (picture,) = spectra(dataclasses.replace(comparison, summaries=many))
    assert picture.caption.endswith(" The first 10 of 12 settings.")


def test_class_cosines_are_drawn_for_each_label_fraction(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert comparison.rows[0].setting.label_fraction is None
    inspected = {"class_cosines_before": [[1.0, -0.5], [-0.5, 1.0]], "classes": ["cat", "dog"]}
    monkeypatch.setitem(comparison.rows[0].results, "inspect", inspected)
    assert [picture.name for picture in class_cosines(comparison)] == ["class_cosines_10pct", "class_cosines_50pct"]
    assert all(">cat<" in picture.svg for picture in class_cosines(comparison))
    shown = [set(re.findall(r'data-row="([\d ]+)"', picture.svg)) for picture in class_cosines(comparison)]
    assert all(shown)
    assert set.union(*shown) <= {str(row) for row in range(len(comparison.summaries))}  # a panel for each line


def test_related_classes_stand_together_in_one_order_for_all() -> None:
    groups = np.random.default_rng(0).permutation([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    near = np.where(groups[:, None] == groups[None, :], 0.9, -0.2)
    noise = np.random.default_rng(1).normal(0, 0.05, near.shape)
    order = related([(near + noise).tolist(), (near - noise.T).tolist()])
    assert sorted(order) == list(range(12))
    assert sum(a != b for a, b in itertools.pairwise(groups[order])) == 2  # three runs of one group each
    assert related([[[1.0, 0.1], [0.1, 1.0]]]) == [0, 1]


def test_many_classes_keep_their_names(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"class {k}" for k in range(25)]
    inspected = {"class_cosines_before": np.eye(25).tolist(), "classes": names}
    monkeypatch.setitem(comparison.rows[0].results, "inspect", inspected)
    picture = class_cosines(comparison)[0]
    assert all(f">{name}<" in picture.svg for name in names)
    more = {"class_cosines_before": np.eye(80).tolist(), "classes": [f"class {k}" for k in range(80)]}
    monkeypatch.setitem(comparison.rows[0].results, "inspect", more)
    picture = class_cosines(comparison)[0]
    assert ">class 3<" not in picture.svg
    assert "80 classes, too many for their names." in picture.caption


def test_names_of_figures_are_unique(comparison: Comparison) -> None:
    names = [picture.name for picture in all_figures(comparison)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("label", "columns"), [("clop", 3), ("info_nce, base_lr 0.03", 2), ("m" * 30, 1)])
def test_a_legend_takes_as_many_columns_as_fit(label: str, columns: int) -> None:
    figure = Figure(figsize=(5.4, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for index in range(9):
        axes.plot([0, 1], label=f"{label}{index}")
    legend(axes)
    figure.draw_without_rendering()
    drawn = axes.get_legend()
    assert drawn is not None
    assert len({round(text.get_window_extent().x0) for text in drawn.get_texts()}) == columns
    assert drawn.get_window_extent().x0 >= 0
    assert drawn.get_window_extent().x1 <= figure.bbox.width
