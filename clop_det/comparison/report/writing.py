"""Writes the report of a comparison: tables, pictures, page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clop_det.comparison.report import csv_files, tables
from clop_det.comparison.report.bundle import write_bundle
from clop_det.comparison.report.escaping import file_name, markdown
from clop_det.comparison.report.examples import galleries, sheet
from clop_det.comparison.report.figures import all_figures
from clop_det.comparison.report.html import problems, render_page
from clop_det.comparison.report.style import Picture
from clop_det.comparison.results import recipe
from clop_det.comparison.results.summary import Comparison
from clop_det.files import atomic_write, write_text


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write everything into `folder`; returns the page.

    Args:
        comparison: what `read_comparison` gave.
        folder: created if need be; files of an earlier report are replaced.
    """
    pictures = all_figures(comparison)
    shown = galleries(comparison)
    write_text(folder / "results.csv", csv_files.results_csv(comparison))
    write_text(folder / "differences.csv", csv_files.differences_csv(comparison))
    write_text(folder / "results.tex", tables.latex_table(comparison))
    names = [(picture.title, f"figures/{file_name(picture.name)}.png") for picture in pictures]
    for picture in pictures:
        _write_picture(picture, folder / "figures")
    for index, gallery in enumerate(shown):
        name = f"{file_name(f'detections_{gallery.title or index}')}.png"
        with atomic_write(folder / "figures" / name) as file:
            file.write(sheet(gallery))
        names.append((f"Detections on the same test images ({gallery.title})", f"figures/{name}"))
    write_text(folder / "results.md", _markdown(comparison, names))
    page = folder / "report.html"
    write_text(page, render_page(comparison, pictures, shown))
    write_bundle(comparison, folder)
    return page


def _write_picture(picture: Picture, folder: Path) -> None:
    name = file_name(picture.name)
    write_text(folder / f"{name}.svg", picture.svg)
    with atomic_write(folder / f"{name}.png") as file:
        file.write(picture.png)


def _markdown(comparison: Comparison, pictures: list[tuple[str, str]]) -> str:
    parts = [f"# {markdown(comparison.name)}", *map(markdown, comparison.first_lines)]
    parts += [markdown(comparison.description), tables.markdown_table(comparison)]
    parts += map(markdown, tables.notes(comparison))
    facts = [("varied", recipe.varied(comparison)), *recipe.shared(comparison), *recipe.measured(comparison)]
    parts.append(_items(f"{name}: {text}" for name, text in facts))
    if comparison.choices:
        parts.append(_items(choice.sentence for choice in comparison.choices))
    parts.append(_items(tables.verdicts(comparison)))
    incomplete = problems(comparison)
    if incomplete:
        parts.append(f"Not complete:\n\n{_items(incomplete)}")
    parts += [f"## {markdown(title)}\n\n![{markdown(title)}]({path})" for title, path in pictures]
    return tables.join_lines(parts)


def _items(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {markdown(sentence)}" for sentence in sentences)
