"""The command `clop-det demo`: the whole chain on embedded real digits."""

from __future__ import annotations

import argparse

from clop_det.commands import compare
from clop_det.commands.common import plain_parser

_EPILOG = """It is `clop-det compare --config-file compare/digits.yaml --jobs 2 --rerun`.
On two cores it takes 10 to 20 minutes."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    text = (
        "Pretrain on handwritten digits that come with scikit-learn, convert, fine-tune a detector, and write a report."
    )
    parser = plain_parser("demo", text, _EPILOG)
    parser.add_argument("--output", default="output/demo", metavar="DIR", help="folder (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs at once (default %(default)s)")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides of the config, after all options"
    )
    args = parser.parse_args(argv)
    words = ["--config-file", "compare/digits.yaml", "--jobs", str(args.jobs), "--rerun", "OUTPUT_DIR", args.output]
    return compare.main([*words, *args.opts])
