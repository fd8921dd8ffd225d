"""Figures over one grid key of several comparisons, side by side: a picture for a page of its own.

python -m clop_det.commands.grid_curves output/study/sgd output/study/momentum --output study
"""

from __future__ import annotations

from pathlib import Path

from clop_det.commands.common import plain_parser, run_tool
from clop_det.comparison.report.grid_curves import comparison_panels, sheet
from clop_det.comparison.results.summary import read_comparison
from clop_det.figures import ACCURACY, CATALOGUE, COLLAPSE
from clop_det.files import atomic_write, write_text


def main(argv: list[str] | None = None) -> int:
    """Read the comparisons, write OUTPUT.svg and OUTPUT.png."""
    parser = plain_parser("grid-curves", str(__doc__))
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of comparisons; a column each")
    parser.add_argument("--x", default="SOLVER.BASE_LR", metavar="KEY", help="grid key of the horizontal axis")
    parser.add_argument("--metrics", nargs="+", metavar="COLUMN", help="columns of results.csv; a row of panels each")
    parser.add_argument("--output", type=Path, required=True, help="path of the picture without its ending")
    args = parser.parse_args(argv)
    comparisons = [read_comparison([folder]) for folder in args.folders]
    columns = args.metrics or [*CATALOGUE.names(COLLAPSE), *CATALOGUE.names(ACCURACY)[:1]]
    figures = [comparisons[0].catalogue.find(column) for column in columns]
    panels = {
        folder.resolve().name + others: points
        for folder, comparison in zip(args.folders, comparisons, strict=True)
        for others, points in comparison_panels(comparison, args.x, columns).items()
    }
    picture = sheet(panels, args.x, figures)
    write_text(args.output.with_suffix(".svg"), picture.svg)
    with atomic_write(args.output.with_suffix(".png")) as file:
        file.write(picture.png)
    print(f"written: {args.output.with_suffix('.svg')}, {args.output.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    run_tool(main)
