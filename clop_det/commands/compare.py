"""The command `clop-det compare`: run what is left of a comparison, then report; or report from run folders alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clop_det.commands.common import add_config_arguments, find_config_of, plain_parser
from clop_det.commands.new_comparison import new_comparison
from clop_det.comparison.names import ASIDE_FOLDER
from clop_det.config.described import keys_help
from clop_det.engine.importing import without_collecting
from clop_det.engine.leaving import EXIT_STOPPED
from clop_det.errors import UserError
from clop_det.keys import COMPARISON

EPILOG = """examples:
  clop-det compare --config-file compare/digits.yaml              # run what is left, then report
  clop-det compare --config-file compare/digits.yaml --dry-run    # list the jobs and what they cost
  clop-det compare --config-file ... --jobs 2 COMPARE.SEEDS "[0, 1, 2]"   # two jobs at once; more seeds
  clop-det compare --config-file ... --rerun                      # run again what ran under other code
  clop-det compare --config-file ... --power 1.0                  # how many seeds tell a difference of 1 AP
  clop-det compare --new                                          # asks for your data and checkpoints
  clop-det compare report output/demo                             # rebuild the report from run folders
"""


def main(argv: list[str] | None = None, commands: Mapping[str, Sequence[str]] | None = None) -> int:
    """Entry point; returns the exit code: 0, 1 if a job failed, 75 if stopped (start again to go on).

    `commands` says how each kind of job is started, where that is not the usual way.
    """
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "report":
        return _report(_report_parser().parse_args(words[1:]))
    args = _run_parser().parse_args(words)
    if args.new:
        path = new_comparison()
        print(f"wrote {path}. See what it would run: clop-det compare --config-file {path} --dry-run")
        return 0
    find_config_of(args)

    if args.power is not None:
        with without_collecting():
            from clop_det.comparison.experiment import power

        power(args.config_file, args.opts, args.power)
        return 0

    with without_collecting():
        from clop_det import api

    asked = {name: getattr(args, name) for name in ("jobs", "launcher", "dry_run", "measure", "only", "keep", "rerun")}
    done = api.compare(args.config_file, args.opts, **asked, **({"commands": commands} if commands else {}))
    if done.stopped:
        return EXIT_STOPPED
    return 1 if done.failed else 0


def _run_parser() -> argparse.ArgumentParser:
    parser = plain_parser(
        "compare",
        "Pretrain, convert, fine-tune and probe a matrix of initialisations, and report.",
        f"{EPILOG}\n{keys_help(COMPARISON)}",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="jobs at once (default 1, with slurm 64); locally they share cores and GPUs",
    )
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where jobs run; default local")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs and the time they take; run nothing")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="with --dry-run: run the first steps of each kind to time them",
    )
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="only jobs whose name matches, and what they need: 'detect*clop*'"
    )
    parser.add_argument(
        "--new", action="store_true", help="ask for your data and checkpoints, write a comparison of them, run nothing"
    )
    parser.add_argument(
        "--power",
        type=float,
        metavar="X",
        help="run nothing; forecast from the seeds so far how many tell a difference of X in COMPARE.METRIC",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--keep", action="store_true", help="jobs that ran under other code stand; the report marks their rows"
    )
    choice.add_argument(
        "--rerun",
        action="store_true",
        help=f"jobs that ran under other code run again; their folders are moved to {ASIDE_FOLDER}/",
    )
    add_config_arguments(parser)
    return parser


def _report_parser() -> argparse.ArgumentParser:
    parser = plain_parser("compare report", "Rebuild the report from run folders alone.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="comparison or run folders")
    parser.add_argument("--output", type=Path, help="folder of the report; default: report/ in the first DIR")
    parser.add_argument("--baseline", default="", help="initialisation that differences are taken against")
    parser.add_argument("--metric", default="", help="column of results.csv that the verdict is about; default AP")
    return parser


def _report(args: argparse.Namespace) -> int:
    for folder in args.folders:
        if not folder.exists():
            raise UserError(f"no folder {folder}: name the folder of a comparison or of a run.")

    with without_collecting():
        from clop_det.comparison.experiment import report

    report(args.folders, args.output, args.baseline, args.metric)
    return 0
