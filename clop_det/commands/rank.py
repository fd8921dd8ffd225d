"""The command `clop-det rank`."""

from __future__ import annotations

import sys
from pathlib import Path

from clop_det.commands.common import plain_parser
from clop_det.config.files import read_pairs
from clop_det.errors import UserError

_EPILOG = """examples:
  clop-det rank --data my_voc_folder --output ranking a.pth b.safetensors output/clop/model_final.pth
  clop-det rank --data detection/voc/faster_rcnn_R_18_FPN_bccd.yaml --output ranking runs/*.pth
It looks at annotated boxes of the training images alone. DIR then holds ranking.txt, ranking.csv, ranking.svg, and the
converted checkpoints; the same command goes on where it was ended.
exit codes: 0 ranked; 1 checkpoints were left out or not begun; 2 refused, with the reason on the standard error."""


def main(argv: list[str] | None = None) -> int:
    """Print the ranking; returns the exit code."""
    parser = plain_parser("rank", "Rank checkpoints for a detection data set before any fine-tuning.", _EPILOG)
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="any source that convert knows")
    parser.add_argument(
        "--data", required=True, metavar="CONFIG_OR_FOLDER", help="detection config, folder (VOC, COCO) or COCO file"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--boxes", type=int, default=1000, metavar="N", help="boxes to look at (default %(default)s)")
    parser.add_argument("--size", type=int, default=128, metavar="PIXELS", help="side of a box (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draws boxes and halves (default %(default)s)")
    parser.add_argument(
        "--budget", type=float, default=0.0, metavar="MINUTES", help="begin no further checkpoint after that time"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY VALUE", help="overrides of the data's config")
    args = parser.parse_args(argv)
    for path in args.checkpoints:
        if not path.exists():
            raise UserError(f"{path} does not exist; name checkpoint files, or folders of one.")
    read_pairs(args.set)

    from clop_det.ranking.ranking import rank
    from clop_det.ranking.table import text, write_ranking

    ranking = rank(
        args.data, args.checkpoints, args.output, overrides=args.set, boxes=args.boxes, side=args.size, seed=args.seed,
        budget=args.budget, say=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    paths = write_ranking(ranking, args.output)
    print(text(ranking))
    print(f"written: {', '.join(map(str, paths))}")
    return int(bool(ranking.left_out or ranking.waiting))
