"""The command `clop-det rank`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clop_det.commands.common import plain_parser
from clop_det.config.files import read_pairs
from clop_det.engine.importing import without_collecting
from clop_det.errors import UserError

_EPILOG = """examples:
  clop-det rank --data my_voc_folder --output ranking a.pth b.safetensors output/clop/model_final.pth
  clop-det rank --data detection/voc/faster_rcnn_R_18_FPN_bccd.yaml --output ranking runs/*.pth
  clop-det rank --calibrate output/compare other/comparison --output my_calibration
It looks at annotated boxes of the training images alone. DIR then holds ranking.txt, ranking.csv, ranking.svg, and the
converted checkpoints; the same command goes on where it was ended. With --calibrate it reads finished
comparisons, adds them to DIR/calibration.csv and judges the rules in DIR/calibration.md.
exit codes: 0 ranked; 1 checkpoints were left out or not begun; 2 refused, with the reason on the standard error."""


def main(argv: list[str] | None = None) -> int:
    """Print the ranking, or the calibration; returns the exit code."""
    args = _parser().parse_args(argv)
    for path in [*args.checkpoints, *args.calibrate]:
        if not path.exists():
            raise UserError(f"{path} does not exist; name checkpoint files, folders of one, or of comparisons.")
    if args.calibrate:
        return _calibrate(args)
    if not args.data or not args.checkpoints:
        raise UserError("a ranking needs --data and checkpoints; --calibrate needs neither.")
    if args.early < 0:
        raise UserError(f"--early is {args.early}; it must be at least 0.")
    read_pairs(args.set)

    with without_collecting():
        from clop_det.api import rank
        from clop_det.ranking.calibration_table import read_table
        from clop_det.ranking.choosing import learn
        from clop_det.ranking.table import text, write_ranking

    rule = learn(read_table(args.calibration)) if args.calibration else None
    ranking = rank(
        args.data, args.checkpoints, args.output, overrides=args.set, boxes=args.boxes, side=args.size, seed=args.seed,
        budget=args.budget, early=args.early, rule=rule, say=_say,
    )  # fmt: skip
    paths = write_ranking(ranking, args.output)
    print(text(ranking))
    print(f"written: {', '.join(map(str, paths))}")
    return int(bool(ranking.left_out or ranking.waiting or ranking.early_failed))


def _parser() -> argparse.ArgumentParser:
    parser = plain_parser("rank", "Rank checkpoints for a detection data set before any fine-tuning.", _EPILOG)
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT", help="any source that convert knows")
    parser.add_argument(
        "--data", default="", metavar="CONFIG_OR_FOLDER", help="detection config, folder (VOC, COCO) or COCO file"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--boxes", type=int, default=1000, metavar="N", help="boxes to look at (default %(default)s)")
    parser.add_argument("--size", type=int, default=128, metavar="PIXELS", help="side of a box (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws boxes and halves (default %(default)s)")
    parser.add_argument(
        "--budget", type=float, default=0.0, metavar="MINUTES", help="begin no further checkpoint after that time"
    )
    parser.add_argument(
        "--early", type=int, default=0, metavar="N", help="fine-tune the first N for a tenth of the config's schedule"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="calibration.csv of --calibrate (default: the project's own)"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY VALUE", help="overrides of the data's config")
    parser.add_argument(
        "--calibrate", nargs="+", type=Path, default=[], metavar="RUNS", help="folders of finished comparisons"
    )
    parser.add_argument(
        "--allow-imports", action="store_true", help="import what the configs in RUNS name; this runs its code"
    )
    return parser


def _calibrate(args: argparse.Namespace) -> int:
    if args.data or args.checkpoints or args.set or args.calibration:
        raise UserError(
            "--calibrate reads data and checkpoints from RUNS; leave out --data, --set, --calibration and checkpoints."
        )

    from clop_det.comparison.calibration.calibrate import calibrate

    done = calibrate(
        args.calibrate, args.output, boxes=args.boxes, side=args.size, seed=args.seed, say=_say,
        allow_imports=args.allow_imports,
    )  # fmt: skip
    print(done.page.read_text(encoding="utf-8"))
    for name, why in done.left_out.items():
        print(f"left out: {name}: {why}")
    print(f"written: {done.table}, {done.page}")
    return int(bool(done.left_out))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
