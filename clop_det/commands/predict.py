"""The command `clop-det predict`."""

from __future__ import annotations

import sys
from pathlib import Path

from clop_det.commands.common import plain_parser
from clop_det.config.files import read_pairs
from clop_det.engine.importing import without_collecting
from clop_det.errors import UserError

_EPILOG = """examples:
  clop-det predict output/detect photo.jpg --output found
  clop-det predict output/detect/model_best.pth folder/of/images --output found --threshold 0.3
DIR then holds detections.json (COCO's results), images.json (which image and class each number is) and pictures/.
exit codes: 0 done; 1 some images could not be read; 2 refused, with the reason on the standard error."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 if an image could not be read."""
    parser = plain_parser("predict", "Apply a trained detector to images.", _EPILOG)
    parser.add_argument("source", type=Path, metavar="RUN_OR_WEIGHTS", help="run folder, or a checkpoint in one")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, and folders of them")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="SCORE", help="least score that is kept (default %(default)s)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY VALUE", help="overrides, e.g. MODEL.DEVICE cpu")
    parser.add_argument(
        "--allow-imports", action="store_true", help="import what the run's config names; this runs its code"
    )
    args = parser.parse_args(argv)
    for path in (args.source, *args.images):
        if not path.exists():
            raise UserError(f"{path} does not exist. Name a run folder or a checkpoint, then images or folders.")
    read_pairs(args.set)

    with without_collecting():
        from clop_det import api

    done = api.predict(
        args.source,
        args.images,
        args.output,
        overrides=args.set,
        threshold=args.threshold,
        draw=not args.no_pictures,
        allow_imports=args.allow_imports,
        progress=_show,
    )
    for reason in done.unreadable.values():
        print(f"left out: {reason}", file=sys.stderr)
    print(f"{done.count} detections in {done.results}" + (f", pictures in {done.pictures}" if done.pictures else ""))
    return int(bool(done.unreadable))


def _show(done: int, total: int) -> None:
    """One line that is written over on a terminal; in a file every hundredth image."""
    if sys.stderr.isatty():
        print(f"\r{done} of {total} images", end="\n" if done == total else "", file=sys.stderr, flush=True)
    elif done % 100 == 0 or done == total:
        print(f"{done} of {total} images", file=sys.stderr, flush=True)
