"""The command `compare`: check the matrix, run what is left, report; or report from run folders alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from fvcore.common.config import CfgNode

from clop_det.commands.common import add_traceback_flag
from clop_det.comparison.names import ASIDE_FOLDER, REPORT_FOLDER
from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.earlier import earlier_runs
from clop_det.comparison.planning.jobs import Job, check_folder, jobs_to_run
from clop_det.comparison.planning.matrix import Matrix, read_matrix
from clop_det.comparison.planning.other_code import OtherCode, other_code, question, to_run_again
from clop_det.comparison.planning.plan import Plan, build_plan, check_output, write_plan
from clop_det.comparison.report import tables
from clop_det.comparison.report.writing import write_report
from clop_det.comparison.results.summary import read_comparison
from clop_det.comparison.running.display import Display
from clop_det.comparison.running.launchers import COMMANDS, Commands, Launcher, LocalLauncher
from clop_det.comparison.running.measure import measure
from clop_det.comparison.running.moving_aside import move_aside
from clop_det.comparison.running.progress import Estimator, finished_seconds
from clop_det.comparison.running.scheduler import Outcome, Scheduler
from clop_det.comparison.running.slurm import SubmititLauncher
from clop_det.config.files import nested
from clop_det.config.imports import import_lines
from clop_det.config.reference import keys_help
from clop_det.engine.clock import clock
from clop_det.engine.stop import EXIT_STOPPED
from clop_det.errors import UserError
from clop_det.keys import COMPARISON
from clop_det.locks import exclusive_lock

EPILOG = """examples:
  python tools/compare.py --config-file configs/compare/digits.yaml              # run what is left, then report
  python tools/compare.py --config-file configs/compare/digits.yaml --dry-run    # list the jobs and what they cost
  python tools/compare.py --config-file ... --jobs 2 COMPARE.SEEDS "[0, 1, 2]"   # two jobs at once; more seeds
  python tools/compare.py --config-file ... --rerun                              # run again what ran under other code
  python tools/compare.py report output/demo                                     # rebuild the report from run folders
"""
_QUEUED = 64  # jobs that are queued or running at once on a cluster, by default


def main(argv: list[str] | None = None, commands: Commands = COMMANDS) -> int:
    """Entry point; returns the exit code: 0, 1 if a job failed, 75 if stopped (start again to go on).

    `commands` says how each kind of job is started.
    """

    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "report":
        return _report(_report_parser().parse_args(words[1:]))
    return _run(_run_parser().parse_args(words), commands)


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Pretrain, convert, fine-tune and probe a matrix of initialisations, and report.",
        epilog=f"{EPILOG}\n{keys_help(COMPARISON)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="the comparison's YAML")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help=f"jobs at once (default 1, with slurm {_QUEUED}); locally they share cores and GPUs",
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
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--keep", action="store_true", help="jobs that ran under other code stand; the report marks their rows"
    )
    choice.add_argument(
        "--rerun",
        action="store_true",
        help=f"jobs that ran under other code run again; their folders are moved to {ASIDE_FOLDER}/",
    )
    add_traceback_flag(parser)
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides, e.g. COMPARE.SEEDS '[0,1]'"
    )
    return parser


def _report_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compare.py report", description="Rebuild the report from run folders alone.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="comparison or run folders")
    parser.add_argument("--output", type=Path, help="folder of the report; default: report/ in the first DIR")
    parser.add_argument("--baseline", default="", help="initialisation that differences are taken against")
    parser.add_argument("--metric", default="", help="column of results.csv that the verdict is about; default AP")
    add_traceback_flag(parser)
    return parser


def _report(args: argparse.Namespace) -> int:
    comparison = read_comparison(args.folders, args.baseline, args.metric)
    page = write_report(comparison, args.output or args.folders[0] / REPORT_FOLDER)
    print(f"{tables.printed_table(comparison)}\n\nreport: {page}")
    return 0


def _run(args: argparse.Namespace, commands: Commands) -> int:
    if args.measure and not args.dry_run:
        raise UserError("--measure belongs to --dry-run; a comparison that runs times its jobs anyway.")
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs is {args.jobs}; it must be at least 1.")
    cfg = load_compare_config(args.config_file, args.opts)
    matrix = read_matrix(cfg, Path(args.config_file).parent)
    plan = build_plan(matrix)
    configs = [cfg, *(job.config for job in plan.jobs.values() if job.config is not None)]
    for line in import_lines(list(dict.fromkeys(entry for config in configs for entry in config.IMPORTS))):
        print(line)
    for name, job in plan.jobs.items():
        check_folder(job, plan.root / name)
    jobs = select_jobs(plan, args.only)
    others = other_code(plan.jobs, plan.root)
    again = _ask(args, plan, jobs, {name: other for name, other in others.items() if name in jobs})
    left = {*again, *jobs_to_run(jobs, plan.root)}
    todo = [name for name in jobs if name in left]
    for line in earlier_runs(jobs, todo, plan.root):
        print(f"note: {line}")
    if args.dry_run:
        here = LocalLauncher(1, commands, cfg.COMPARE.LAUNCH.GPUS_PER_JOB) if args.measure else None
        _describe(plan, jobs, todo, _slots(args), here)
        return 0
    launcher = _launcher(args, cfg, commands)
    busy = f"another comparison runs in {matrix.output}. Wait for it, or choose another OUTPUT_DIR."
    with exclusive_lock(matrix.output / ".lock", "Choose another OUTPUT_DIR.", busy):
        check_output(plan)
        place = move_aside(again, plan.root)
        if place is not None:
            print(f"moved the run folders of other code, and of what is built on them, to {place}")
        write_plan(plan, {name: other for name, other in others.items() if name not in again})
        outcome = _execute(plan, jobs, jobs_to_run(jobs, plan.root), launcher)
        _finish(matrix, outcome)
    if outcome.stopped:
        return EXIT_STOPPED
    return 1 if outcome.failed else 0


def _ask(args: argparse.Namespace, plan: Plan, jobs: Mapping[str, Job], others: Mapping[str, OtherCode]) -> list[str]:
    """Names of the jobs that --rerun runs again; refuses what only a person can decide, or what cannot be read.

    Args:
        jobs: those that are asked for; `others` are those of them that ran under other code.
    """
    problems = [f"{what}: {why}" for what, why in plan.unread_by(jobs.values()).items()]
    if others and not (args.keep or args.rerun):
        problems.append(question(others))
    if problems and not args.dry_run:
        raise UserError(problems[0])
    for text in problems:
        print(f"note: {text}")
    return to_run_again(plan.jobs, others) if args.rerun else []


def _launcher(args: argparse.Namespace, cfg: CfgNode, commands: Commands) -> Launcher:
    gpus = cfg.COMPARE.LAUNCH.GPUS_PER_JOB
    if args.launcher == "slurm":
        if not cfg.COMPARE.DEVICE:
            raise UserError(
                "--launcher slurm needs COMPARE.DEVICE (cuda or cpu): jobs are planned here, and this machine's devices"
                " say nothing about the nodes'."
            )
        parameters = nested(cfg.COMPARE.LAUNCH.SLURM)  # slurm_additional_parameters is a mapping
        return SubmititLauncher(_slots(args), Path(cfg.OUTPUT_DIR), parameters, gpus, commands)
    return LocalLauncher(_slots(args), commands, gpus)


def _slots(args: argparse.Namespace) -> int:
    return int(args.jobs or (_QUEUED if args.launcher == "slurm" else 1))


def select_jobs(plan: Plan, pattern: str) -> dict[str, Job]:
    """The jobs whose names match `pattern` (shell style, "" = all) and everything they need.

    Raises:
        UserError: nothing matches.
    """
    chosen = {name for name in plan.jobs if not pattern or fnmatch(name, pattern) or fnmatch(name, f"*{pattern}*")}
    if not chosen:
        raise UserError(f'--only "{pattern}" matches no job; --dry-run lists their names.')
    for name in reversed(list(plan.jobs)):
        if name in chosen:
            chosen.update(plan.jobs[name].needs)
    return {name: job for name, job in plan.jobs.items() if name in chosen}


def _execute(plan: Plan, jobs: Mapping[str, Job], todo: list[str], launcher: Launcher) -> Outcome:
    display = Display()
    some = f" of {len(plan.jobs)}" if len(jobs) < len(plan.jobs) else ""
    done = len(jobs) - len(todo)
    display.event(f"{plan.matrix.name}: {len(jobs)}{some} jobs, {done} done before, {len(todo)} to run")
    return Scheduler(plan.jobs, todo, plan.root, launcher, display).run()


def _finish(matrix: Matrix, outcome: Outcome) -> None:
    comparison = read_comparison([matrix.output])
    page = write_report(comparison, matrix.output / REPORT_FOLDER)
    print(f"\n{tables.printed_table(comparison)}")
    for name, reason in outcome.failed.items():
        print(f"failed: {name}: {reason}")
    if outcome.blocked:
        print(f"not run, because they need a failed job: {', '.join(outcome.blocked)}")
    if outcome.stopped:
        print("stopped; the same command goes on where it was")
    print(f"\nreport: {page}")


def _describe(plan: Plan, jobs: dict[str, Job], todo: list[str], slots: int, here: Launcher | None) -> None:
    """Print the jobs and what they take; with a launcher, the first steps of each kind are run and timed."""
    estimator = Estimator()
    for name, job in jobs.items():
        seconds = None if name in todo else finished_seconds(plan.root / name)
        if seconds is not None:
            estimator.learn(job, seconds)
    if here is not None:
        measure((jobs[name] for name in todo), estimator, here, Display())
    for name, job in jobs.items():
        expected = estimator.expected(job)
        state = "done" if name not in todo else "resume" if (plan.root / name).exists() else "run"
        steps = f"{job.iterations} steps" if job.iterations else ""
        about = f"about {clock(expected)}" if expected and state != "done" else ""
        print(f"{state:7} {name:64} {steps:12} {about}".rstrip())
    total, complete = estimator.remaining((jobs[name] for name in todo), {}, slots)
    time = f", {'about' if complete else 'at least'} {clock(total)} with {slots} at once" if total else ""
    print(f"{len(jobs)} jobs, {len(todo)} to run{time}")
    if todo and not complete and here is None:
        print("No job like some of these has been timed yet; add --measure to run the first steps of each kind.")
