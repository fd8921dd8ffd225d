"""A comparison as one call: check the matrix, run what is left, report; or list what would run, or report alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from detectron2.config import CfgNode

from clop_det.comparison.names import REPORT_FOLDER
from clop_det.comparison.planning.boundary import check_boundary
from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.earlier import earlier_runs
from clop_det.comparison.planning.jobs import Job, check_folder, jobs_to_run
from clop_det.comparison.planning.matrix import Matrix, read_matrix
from clop_det.comparison.planning.other_code import OtherCode, other_code, question, to_run_again
from clop_det.comparison.planning.plan import Plan, build_plan
from clop_det.comparison.planning.plan_file import check_output, write_plan
from clop_det.comparison.report import tables
from clop_det.comparison.report.writing import write_report
from clop_det.comparison.results.power import power_table
from clop_det.comparison.results.rows import setting_of
from clop_det.comparison.results.summary import Comparison, open_runs, read_comparison
from clop_det.comparison.running.display import Display
from clop_det.comparison.running.dry_run import describe
from clop_det.comparison.running.launchers import COMMANDS, Commands, Launcher, LocalLauncher
from clop_det.comparison.running.moving_aside import move_aside
from clop_det.comparison.running.scheduler import Outcome, Scheduler
from clop_det.comparison.running.slurm import SubmititLauncher
from clop_det.config.files import nested
from clop_det.config.imports import import_lines
from clop_det.config.library import find_config
from clop_det.errors import UserError
from clop_det.locks import exclusive_lock

LAUNCHERS = ("local", "slurm")
_QUEUED = 64  # jobs that are queued or running at once on a cluster, by default


@dataclass(frozen=True)
class Asked:
    """What is asked of a comparison beside its config.

    Attributes:
        jobs: at once; None: 1, on a cluster 64.
        launcher: one of `LAUNCHERS`.
        dry_run: only list the jobs; with `measure` time the first steps of each kind.
        only: pattern of job names; empty: all.
        keep: let jobs stand that ran under other code.
        rerun: run them again; without `keep` and `rerun` they are refused.
        commands: says how each kind of job is started.
    """

    jobs: int | None = None
    launcher: str = "local"
    dry_run: bool = False
    measure: bool = False
    only: str = ""
    keep: bool = False
    rerun: bool = False
    commands: Commands = field(default_factory=lambda: COMMANDS)

    @property
    def slots(self) -> int:
        """Jobs at once."""
        return int(self.jobs or (_QUEUED if self.launcher == "slurm" else 1))


@dataclass(frozen=True)
class Compared:
    """A comparison that has run, or the part of it that was asked for.

    Attributes:
        page: the report, an HTML file; results.csv and the rest lie beside it. None after a dry run.
        comparison: rows, summaries and differences as the report shows them. None after a dry run.
        failed: job -> reason.
        stopped: whether a stop signal ended it before its end; the same call goes on.
    """

    page: Path | None = None
    comparison: Comparison | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False


def report(folders: Sequence[Path], output: Path | None = None, baseline: str = "", metric: str = "") -> Compared:
    """Rebuild the report from run folders alone, into `output` (default: report/ in the first), and print the table.

    Raises:
        UserError: no such folder, baseline or metric.
    """
    comparison = read_comparison(folders, baseline, metric)
    page = write_report(comparison, output or folders[0] / REPORT_FOLDER)
    print(f"{tables.printed_table(comparison)}\n\nreport: {page}")
    return Compared(page, comparison)


def power(config_file: str, overrides: Sequence[str], difference: float) -> None:
    """Print how many seeds each difference of a comparison needs, forecast from the seeds that it has run so far.

    Raises:
        UserError: no runs yet, or a difference that is not positive.
    """
    cfg = load_compare_config(config_file, overrides)
    found = read_comparison([Path(cfg.OUTPUT_DIR)], cfg.COMPARE.BASELINE, cfg.COMPARE.METRIC)
    print(power_table(found, difference))


def compare(config_file: str, overrides: Sequence[str] = (), asked: Asked | None = None) -> Compared:
    """Run what is left of a comparison and write its report; prints the jobs as they run, and the table.

    Args:
        config_file: the comparison's YAML, or the name of a shipped one.
        overrides: ["KEY", "VALUE", ...].
        asked: what is asked beside the config.

    Raises:
        UserError: whatever can be refused before a job starts.
    """
    args = asked or Asked()
    if args.measure and not args.dry_run:
        raise UserError("--measure belongs to --dry-run; a comparison that runs times its jobs anyway.")
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs is {args.jobs}; it must be at least 1.")
    if args.keep and args.rerun:
        raise UserError("keep and rerun exclude each other: jobs that ran under other code stand, or run again.")
    if args.launcher not in LAUNCHERS:
        raise UserError(f"the launcher is {args.launcher!r}; it must be one of {', '.join(LAUNCHERS)}.")
    cfg = load_compare_config(config_file, overrides)
    matrix = read_matrix(cfg, Path(find_config(config_file)).parent)
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
        here = LocalLauncher(1, args.commands, cfg.COMPARE.LAUNCH.GPUS_PER_JOB) if args.measure else None
        describe(plan, jobs, todo, again, args.slots, here)
        return Compared()
    boundary = check_boundary(plan, jobs)
    launcher = _launcher(args, cfg)
    busy = f"another comparison runs in {matrix.output}. Wait for it, or choose another OUTPUT_DIR."
    with exclusive_lock(matrix.output / ".lock", "Choose another OUTPUT_DIR.", busy):
        check_output(plan)
        place = move_aside(again, plan.root)
        if place is not None:
            print(f"moved the run folders of other code, and of what is built on them, to {place}")
        write_plan(plan, {name: other for name, other in others.items() if name not in again}, boundary)
        outcome = _run_left(plan, jobs, launcher)
        return _finish(matrix, outcome)


def _ask(args: Asked, plan: Plan, jobs: Mapping[str, Job], others: Mapping[str, OtherCode]) -> list[str]:
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


def _launcher(args: Asked, cfg: CfgNode) -> Launcher:
    gpus = cfg.COMPARE.LAUNCH.GPUS_PER_JOB
    if args.launcher == "slurm":
        if not cfg.COMPARE.DEVICE:
            raise UserError(
                "--launcher slurm needs COMPARE.DEVICE (cuda or cpu): jobs are planned here, and this machine's devices"
                " say nothing about the nodes'."
            )
        parameters = nested(cfg.COMPARE.LAUNCH.SLURM)  # slurm_additional_parameters is a mapping
        return SubmititLauncher(args.slots, Path(cfg.OUTPUT_DIR), parameters, gpus, args.commands)
    return LocalLauncher(args.slots, args.commands, gpus)


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


def _run_left(plan: Plan, jobs: Mapping[str, Job], launcher: Launcher) -> Outcome:
    """Run the jobs that are left; with COMPARE.SEQUENTIAL as long as a verdict waits for some."""
    if not plan.matrix.sequential:
        return _execute(plan, jobs, jobs_to_run(jobs, plan.root), launcher)
    outcome = Outcome()
    while not (outcome.failed or outcome.blocked or outcome.stopped):
        found = read_comparison([plan.matrix.output])
        runs = open_runs(found.summaries, found.metric, found.rules)
        names = {
            name
            for cell in plan.cells
            if (setting_of(asdict(cell)), cell.seed) in runs
            for name in (cell.pretrain, cell.convert, cell.detect, cell.inspect)
        }
        wanted = {name: job for name, job in jobs.items() if name in names}
        left = jobs_to_run(wanted, plan.root)
        if not left:
            break
        outcome = _execute(plan, wanted, left, launcher)
    return outcome


def _execute(plan: Plan, jobs: Mapping[str, Job], todo: list[str], launcher: Launcher) -> Outcome:
    display = Display()
    some = f" of {len(plan.jobs)}" if len(jobs) < len(plan.jobs) else ""
    done = len(jobs) - len(todo)
    display.event(f"{plan.matrix.name}: {len(jobs)}{some} jobs, {done} done before, {len(todo)} to run")
    return Scheduler(plan.jobs, todo, plan.root, launcher, display).run()


def _finish(matrix: Matrix, outcome: Outcome) -> Compared:
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
    return Compared(page, comparison, outcome.failed, outcome.stopped)
