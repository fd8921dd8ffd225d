"""The command `clop-det verify`: check the archive of a report."""

from __future__ import annotations

from pathlib import Path

from clop_det.commands.common import plain_parser
from clop_det.engine.importing import without_collecting
from clop_det.errors import UserError

_EPILOG = """example:
  clop-det verify output/demo/report/report.zip
Every AP is computed again from the detections in the archive: COCO's by pycocotools, VOC's by this package.
exit codes: 0 everything holds; 1 something has changed or does not hold; 2 refused, with the reason on the standard
error."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 if something does not hold."""
    parser = plain_parser(
        "verify", "Check that a report.zip is unchanged and that its detections give its AP.", _EPILOG
    )
    parser.add_argument("bundle", type=Path, metavar="REPORT_ZIP", help="report.zip, beside the page of a comparison")
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="folder of the comparison, for files that the archive had no room for"
    )
    args = parser.parse_args(argv)
    if not args.bundle.is_file():
        raise UserError(f"no file {args.bundle}. Give the report.zip of a comparison.")

    if args.runs is not None and not args.runs.is_dir():
        raise UserError(f"no folder {args.runs}: --runs names the folder of the comparison.")

    with without_collecting():
        from clop_det import api

    found = api.verify(args.bundle, args.runs)
    for name, count in found.tests.items():
        print(f"{name}: {count} figures computed again")
    for line in (*found.notes, *(f"does not hold: {fault}" for fault in found.faults)):
        print(line)
    figures = f"{sum(found.tests.values())} figures of {len(found.tests)} tests, largest difference {found.largest:.1e}"
    print(f"{'does not hold' if found.faults else 'holds'}: {args.bundle} ({figures})\nsha256 {found.digest}")
    return int(bool(found.faults))
