"""The report: tables, figures and the page, from run folders alone."""

from __future__ import annotations

import dataclasses
import html.parser
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from clop_det.comparison.report.csv_files import results_csv
from clop_det.comparison.report.style import colours, render
from clop_det.comparison.report.tables import (
    class_table,
    family_table,
    further_tables,
    latex_table,
    main_table,
    notes,
    printed_table,
    standing,
    verdicts,
)
from clop_det.comparison.report.writing import write_report
from clop_det.comparison.results.summary import Comparison, read_comparison, summarise
from clop_det.figures import CATALOGUE, LOWER, Catalogue
from tests.comparison.kept import kept_comparison
from tests.comparison.workplace import REPORT, Workplace, lines


def test_summaries_and_paired_differences_against_scipy(comparison: Comparison) -> None:
    table = lines(results_csv(comparison))
    ap = {
        (init, share): [float(row["AP"]) for row in table if (row["init"], row["label_fraction"]) == (init, share)]
        for init, share in (("random", ""), ("info_nce", ""), ("clop", "0.1"), ("clop", "0.5"))
    }
    p_values = []
    for summary in comparison.summaries:
        share = summary.setting.label_fraction
        values = ap.get((summary.setting.init, "" if share is None else f"{share:g}"))
        if summary.difference is not None:
            p_values.append(summary.difference.p_t)
        if values is None:
            continue
        assert summary.metrics["AP"].mean == pytest.approx(np.mean(values), rel=1e-5)
        assert summary.metrics["AP"].std == pytest.approx(np.std(values, ddof=1), rel=1e-3)
        if summary.setting.init == "random":
            assert summary.difference is None
        else:
            reference = stats.ttest_rel(values, ap["random", ""])
            assert summary.difference is not None
            assert summary.difference.p_t == pytest.approx(reference.pvalue, rel=1e-3)
            low, high = reference.confidence_interval()
            assert summary.difference.interval.low == pytest.approx(low, abs=1e-3)
            assert summary.difference.interval.high == pytest.approx(high, abs=1e-3)
    assert len(p_values) == 5
    smallest = min(comparison.summaries, key=lambda s: s.difference.p_t if s.difference else 2).difference
    assert smallest is not None
    assert smallest.p_corrected == pytest.approx(5 * smallest.p_t)


def test_tables_say_what_they_are_about(comparison: Comparison) -> None:
    header, body = main_table(comparison)
    assert header[:5] == ["initialisation", "labels", "seeds", "AP", "against random"]
    assert [line[0] for line in body] == ["random", "info_nce", "supcon", "clop", "supcon", "clop"]
    assert body[0][4] == "baseline"
    assert re.fullmatch(r"\+\d+\.\d \[[+-]\d+\.\d, \+\d+\.\d\] p 0\.\d{3}", body[3][4])
    text = printed_table(comparison)
    assert "paired by seed" in text
    assert "Holm-corrected over 5" in text
    assert any("clop is ahead of random" in sentence for sentence in verdicts(comparison))
    tex = latex_table(comparison)
    assert tex.count(r"\\") == 7
    assert r"info\_nce" in tex
    assert r"10 \%" in tex
    assert r"$\pm$" in tex


def test_latex_escapes_what_tex_reads(comparison: Comparison) -> None:
    odd = dataclasses.replace(comparison.summaries[0].setting, init="a_b", pretrain_grid=(("X.Y", "50%&#${}~^\\<>"),))
    summary = dataclasses.replace(comparison.summaries[0], setting=odd)
    line = latex_table(dataclasses.replace(comparison, summaries=[summary])).splitlines()[5]
    escaped = r"50\%\&\#\$\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}$<$$>$"
    assert line.startswith(rf"a\_b $\cdot$ y {escaped} & ")


def test_families_and_probes_on_boxes_have_columns(comparison: Comparison, finished: Workplace) -> None:
    header, body = family_table(comparison)
    assert header == ["initialisation", "labels", "COCO AP", "VOC07 AP", "VOC07 AP50"]
    assert len(body) == 6
    names, _ = main_table(comparison)
    assert names[-4:] == ["kNN on boxes", "linear on boxes", "kNN after", "linear after"]
    further = {title: header[2:] for title, header, _ in further_tables(comparison)}
    after_on_boxes = {"after fine-tuning, on annotated boxes": ["kNN", "linear"]}
    assert further == {"before fine-tuning": ["nc1"], "after fine-tuning": ["RankMe", "nc1"], **after_on_boxes}
    pictures = {path.stem for path in (finished.output / REPORT / "figures").glob("*.png")}
    for probe in ("knn_top1", "linear_top1", "rankme", "object_knn_top1", "object_linear_top1"):
        assert f"{probe}_against_metric_scenes" in pictures


def test_every_row_says_what_it_cost_and_what_made_it(comparison: Comparison, finished: Workplace) -> None:
    table = lines(results_csv(comparison))
    for row, line in zip(comparison.rows, table, strict=True):
        attempts = []
        for kind, folder in row.folders.items():
            record = json.loads((folder / "job.json").read_text())
            attempts += record["attempts"] if kind != "inspect" else []
        assert int(line["core_seconds"]) == round(sum(a["seconds"] * a["cores"] for a in attempts))
        assert int(line["seconds"]) == round(sum(a["seconds"] for a in attempts))
        assert line["gpu_seconds"] == ""
        assert line["commit"] == "0123456789abcdef"
        assert line["device"] == "cpu (fake)"
        assert line["config"] == json.loads((row.folders["detect"] / "job.json").read_text())["digest"][:10]


def test_classes_without_a_box_in_the_test_set_have_no_line(tmp_path: Path) -> None:
    read = read_comparison([kept_comparison(tmp_path)])
    assert all(row.metrics["AP-absent"] == 0 for row in read.rows)  # as VOC's rule counts it
    header, body = class_table(read)
    assert header == ["class", "clop", "random"]
    assert [line[0] for line in body] == ["disc", "square", "triangle"]
    assert all(re.fullmatch(r"\d+\.\d ± \d+\.\d", cell) for line in body for cell in line[1:])


def test_one_seed_ranks_nothing(workplace: Workplace) -> None:
    assert workplace.run() == 0
    comparison = read_comparison([workplace.output])
    assert verdicts(comparison) == []
    assert "ranks nothing" in notes(comparison)[0]
    _, body = main_table(comparison)
    assert "(1 seed)" in body[1][4]
    assert "±" not in str(body)
    assert [line[0] for line in body] == ["random", "clop"]  # the matrix's order, not that of the figures
    page = (workplace.output / REPORT / "report.html").read_text()
    assert "takes several seeds" in page
    assert 'class="ahead"' not in page


def test_of_a_figure_where_lower_is_better_the_higher_one_is_behind(comparison: Comparison) -> None:
    (ahead,) = [s for s in verdicts(comparison) if s.startswith("clop is ahead of random (scenes, 10 %")]
    for better, words in ((LOWER, "is behind"), (None, "is above")):
        spread = dataclasses.replace(comparison.catalogue.find("AP"), name="spread", label="spread", better=better)
        read = dataclasses.replace(comparison, metric="spread", catalogue=Catalogue({"spread": spread}))
        assert ahead.replace("is ahead of", words).replace(" AP,", " spread,") in verdicts(read)
    assert standing(next(s.difference for s in comparison.summaries if s.difference), spread) == "ahead"


def test_a_label_from_a_run_folder_is_escaped(comparison: Comparison, tmp_path: Path) -> None:
    fact = {**dataclasses.asdict(comparison.catalogue.find("knn_top1")), "name": "evil", "label": "<u>$\\frac{$ | x"}
    for row in comparison.rows:
        row.metrics["evil"] = row.metrics["knn_top1"]
    read = dataclasses.replace(
        comparison,
        catalogue=CATALOGUE.with_facts([fact, {**fact, "name": "../evil"}]),
        metric="evil",
        summaries=summarise(comparison.rows, "random", "evil"),
    )
    page = write_report(read, tmp_path / "report").read_text()
    for row in comparison.rows:
        del row.metrics["evil"]
    assert "<u>" not in page
    assert "&lt;u&gt;$\\frac{$ | x" in page
    assert (tmp_path / "report" / "figures" / "evil_against_metric_scenes.svg").is_file()
    assert r"\$" in (tmp_path / "report" / "results.tex").read_text()


class Page(html.parser.HTMLParser):
    """Collects tags and attributes, and checks that what is opened is closed."""

    void = frozenset(("meta", "link", "img", "br", "input"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_self_contained(finished: Workplace) -> None:
    text = (finished.output / REPORT / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert [attributes for tag, attributes in page.found if tag == "script"] == [{}]  # one, and its text is in the page
    images = [attributes for tag, attributes in page.found if tag == "img"]
    assert len(images) >= 8
    for attributes in images:
        assert str(attributes["src"]).startswith(("data:image/svg+xml;base64,", "data:image/jpeg;base64,"))
        assert attributes["alt"]
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", text)
    assert {"results", "families", "further", "costs", "runs", "settings", "jobs"} <= {
        a.get("id") for tag, a in page.found if tag == "table"
    }
    assert "<title>Stand-ins &lt;compared&gt;</title>" in text  # what a user names is escaped
    assert "cpu (fake)" in text  # provenance


def test_svg_follows_the_reader_and_png_does_not(tmp_path: Path) -> None:
    def draw(figure, ink):  # type: ignore[no-untyped-def]
        axes = figure.add_subplot()
        axes.plot([0, 1], color=ink.strong, label="a < b")
        axes.set_xlabel("x")

    picture = render("name", "title", "caption", draw)
    ElementTree.fromstring(picture.svg)
    assert "prefers-color-scheme:dark" in picture.svg
    for stand_in in ("#010203", "#040506", "#070809"):
        assert stand_in not in picture.svg
    assert picture.svg == render("name", "title", "caption", draw).svg  # the same figure has the same bytes
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"))
    assert (pixels[0, 0] == 255).all()


def test_colours_do_not_change_when_random_joins() -> None:
    assert colours(["clop", "supcon"])["supcon"] == colours(["random", "clop", "supcon"])["supcon"]
    assert len(set(colours([f"i{k}" for k in range(10)]).values())) == 11
