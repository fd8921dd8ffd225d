"""Settings over their seeds: intervals for every figure, paired differences against the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clop_det.detection.average_precision
import clop_det.probes.tasks  # noqa: F401  (both register the figures that the package ships)
from clop_det.comparison.results.code import MARK, CodeMarks, code_marks
from clop_det.comparison.results.judging import Pair, Rules, judge, rules_of, wanted_runs
from clop_det.comparison.results.protocol import SHARED_MARK, protocol_lines, shared_inits
from clop_det.comparison.results.reading import clean
from clop_det.comparison.results.rows import Row, Setting, one_a_seed, other_rows, planned_rows, report_on
from clop_det.comparison.results.runs import Run, find_plans, find_runs
from clop_det.comparison.results.statistics import Interval, PairedDifference, mean_interval
from clop_det.comparison.results.tuning import Choice, choose
from clop_det.errors import UserError
from clop_det.figures import ACCURACY, CATALOGUE, Catalogue
from clop_det.keys import nearest


@dataclass
class Summary:
    """One setting over its seeds.

    Attributes:
        rows: its runs, by seed.
        metrics: column -> interval over the seeds that have it.
        difference: of the comparison's metric against the baseline; None if it is the baseline or nothing pairs.
        against: the baseline's setting that the difference is taken to.
    """

    setting: Setting
    rows: list[Row]
    metrics: dict[str, Interval]
    difference: PairedDifference | None = None
    against: Setting | None = None

    @property
    def finished(self) -> int:
        """Seeds whose run has ended."""
        return sum(row.status == "done" for row in self.rows)

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed -> figure."""
        return {row.seed: row.metrics[metric] for row in self.rows if metric in row.metrics}


@dataclass
class Comparison:
    """Everything that the report shows.

    Attributes:
        example_score: detections are drawn from it on; 0: each detector's from a score of its own.
        catalogue: names the columns.
        code: whose code ran.
        protocol: by which rules the rows are comparable.
        one_file: initialisations that are one given file in all seeds.
        rules: how differences are judged.
        cost: of a class label and of a boxed image; empty: not given.
        boundary: which pretraining images the comparison itself compared with the test images; empty: it did not.
        ranking: the rule, and the scores of the initialisations that a ranking chose; empty: none did.
        sources: the folders that all this was read from.
        configs: those of run folders that were read so far, which takes longer than all the rest.
    """

    name: str
    description: str
    baseline: str
    metric: str
    rows: list[Row]
    summaries: list[Summary]
    runs: dict[str, Run]
    choices: list[Choice] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    example_score: float = 0.0
    catalogue: Catalogue = CATALOGUE
    code: CodeMarks = field(default_factory=CodeMarks)
    sources: Sequence[Path] = ()
    protocol: list[str] = field(default_factory=list)
    one_file: list[str] = field(default_factory=list)
    rules: Rules = field(default_factory=Rules)
    cost: Mapping[str, float] = field(default_factory=dict)
    boundary: Mapping[str, Any] = field(default_factory=dict)
    ranking: Mapping[str, Any] = field(default_factory=dict)
    configs: dict[Path, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def first_lines(self) -> list[str]:
        """What a reader must know before any figure."""
        return [*self.code.notes, *self.protocol]

    @property
    def inits(self) -> list[str]:
        """Names of the initialisations, in the order of the matrix."""
        return list(dict.fromkeys(row.setting.init for row in self.rows))

    @property
    def complete(self) -> bool:
        """Whether every row has its figures."""
        return all(row.status == "done" for row in self.rows)

    def label(self, summary: Summary) -> str:
        """The name of a setting in tables; marks tell of other code, and of one file in all seeds."""
        other_code = any(self.code.of(row.folders.values()) for row in summary.rows)
        marks = [MARK] * other_code + [SHARED_MARK] * (summary.setting.init in self.one_file)
        return " ".join([summary.setting.label, *marks])

    @property
    def most_seeds(self) -> int:
        """Largest number of finished seeds of a setting."""
        return max((summary.finished for summary in self.summaries), default=0)


def read_comparison(folders: Sequence[Path], baseline: str = "", metric: str = "") -> Comparison:
    """Rebuild a comparison from run folders, and from the plan.json beside them if there is one.

    Raises:
        UserError: a folder does not exist, holds no run, the baseline has none, or no run has the metric asked for.
    """
    plans = find_plans(folders)
    runs = find_runs(folders)
    rows, remarks = _rows(runs, plans)
    remarks += [
        f"{run.folder}: entries of another form than expected are left out: {_some(run.faults)}."
        for run in runs.values()
        if run.faults
    ]
    if not rows:
        raise UserError(f"no runs to report in {', '.join(map(str, folders))}.")
    select = {name: pair for _, item in plans for name, pair in (item.get("select") or {}).items()}
    for row in rows:
        report_on(row, select.get(row.setting.detection, ("", ""))[1])
    plan: Mapping[str, Any] = plans[0][1] if plans else {}
    names = list(dict.fromkeys(row.setting.init for row in rows))
    chosen = baseline or str(plan.get("baseline") or "")
    if baseline and baseline not in names:
        raise UserError(f'the baseline "{baseline}" is not among the runs: {", ".join(names)}.')
    chosen = chosen or ("random" if "random" in names else names[0])
    wanted = metric or str(plan.get("metric") or "AP")
    if not any(row.setting.detection for row in rows) and wanted == "AP":
        wanted = CATALOGUE.names(ACCURACY)[0]  # a comparison that ends with pretraining
    columns = sorted({column for row in rows if row.status == "done" for column in row.metrics})
    if columns and wanted not in columns:
        text = f'no run has a figure "{wanted}";{nearest(wanted, columns)} There are {", ".join(columns)}.'
        if metric:
            raise UserError(text)
        remarks.append(f"{text} Name one by COMPARE.METRIC, or report --metric.")
    compared, choices = choose(rows, select)
    rules = rules_of(plan)
    summaries = summarise(compared, chosen, wanted, rules)
    spared = _spare(summaries, wanted, rules)
    rows = [row for row in rows if id(row) not in spared]
    title = str(plan.get("name") or clean(folders[0].resolve().name))
    description, score = str(plan.get("description") or ""), float(plan.get("example_score") or 0.0)
    given = [plan["kept"] for _, plan in plans if isinstance(plan.get("kept"), dict)]
    kept = {name: item for items in given for name, item in items.items() if isinstance(item, dict)}
    used = {folder for row in rows for kind, folder in row.folders.items() if kind != "inspect"}
    return Comparison(
        *(title, description, chosen, wanted, rows, summaries, runs, choices, remarks, score),
        catalogue=CATALOGUE.with_facts(fact for row in rows for fact in _figure_facts(row)),
        code=code_marks([run for run in runs.values() if run.folder in used], kept),
        sources=tuple(folders),
        protocol=protocol_lines(rows, plan, len(spared)),
        one_file=shared_inits(rows, plan),
        rules=rules,
        cost=plan.get("cost") or {},
        boundary=plan.get("boundary") or {},
        ranking=plan.get("ranking") or {},
    )


def _figure_facts(row: Row) -> Iterable[Any]:
    """What the row's runs wrote of figures that this package does not ship; nobody vouches for it."""
    found = (results.get("figures") for results in row.results.values())
    return [fact for facts in found if isinstance(facts, list) for fact in facts]


def _rows(runs: Mapping[str, Run], plans: Sequence[tuple[Path, Mapping[str, Any]]]) -> tuple[list[Row], list[str]]:
    """What the plans ask for, and the runs outside the plans' folders; strays in those are named, not mixed in."""
    planned = planned_rows(runs, [plan for _, plan in plans])
    used = {folder.name for row in planned for folder in row.folders.values()}
    left = {name: run for name, run in runs.items() if name not in used}
    strays = {name for name, run in left.items() if any(top in run.folder.parents for top, _ in plans)}
    others = other_rows({name: run for name, run in left.items() if name not in strays})
    rows, remarks = one_a_seed([*planned, *others])
    if strays:
        remarks.append(
            f"{len(strays)} jobs here are not part of the matrix any more and are left out: {_some(strays)}."
        )
    return rows, remarks


def _some(names: Iterable[str], limit: int = 4) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:limit]) + (f" and {len(ordered) - limit} more" if len(ordered) > limit else "")


def summarise(rows: Iterable[Row], baseline: str, metric: str, rules: Rules | None = None) -> list[Summary]:
    """Group rows by setting; p values are corrected over all differences together (`rules`: paired t test, Holm)."""
    groups: dict[Setting, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    summaries = [_summary(setting, sorted(items, key=lambda row: row.seed)) for setting, items in groups.items()]
    for summary in summaries:
        reference = None if summary.setting.init == baseline else _reference(summary.setting, summaries, baseline)
        if reference is not None:
            summary.against = reference.setting
    judged = judge(pairs_of(summaries, metric), rules or Rules())
    for summary in summaries:
        summary.difference = judged.get(summary.setting)
    return summaries


def pairs_of(summaries: Sequence[Summary], metric: str) -> dict[Setting, Pair]:
    """The figures of every setting that has a baseline, with the baseline's."""
    figures = {summary.setting: summary.by_seed(metric) for summary in summaries}
    return {s.setting: Pair(figures[s.setting], figures[s.against], s.against) for s in summaries if s.against}


def open_runs(summaries: Sequence[Summary], metric: str, rules: Rules) -> set[tuple[Setting, int]]:
    """(setting, seed) of the runs that a verdict waits for; without any comparison a setting runs all its seeds."""
    pairs = pairs_of(summaries, metric)
    judged = {*pairs, *(pair.against for pair in pairs.values())}
    free = {
        (summary.setting, row.seed) for summary in summaries if summary.setting not in judged for row in summary.rows
    }
    return free | wanted_runs(pairs, rules)


def _spare(summaries: Sequence[Summary], metric: str, rules: Rules) -> set[int]:
    """Take the runs out of the summaries that no verdict waits for any more; returns the ids of their rows."""
    if not rules.seeds:
        return set()
    waiting = {setting for setting, _ in open_runs(summaries, metric, rules)}  # may need any of their seeds
    spared: set[int] = set()
    for summary in summaries:
        idle = [row for row in summary.rows if row.status == "missing" and summary.setting not in waiting]
        spared |= {id(row) for row in idle}
        summary.rows = [row for row in summary.rows if id(row) not in spared]
    return spared


def _summary(setting: Setting, rows: list[Row]) -> Summary:
    columns = dict.fromkeys(column for row in rows for column in row.metrics)
    metrics = {
        column: mean_interval([row.metrics[column] for row in rows if column in row.metrics]) for column in columns
    }
    return Summary(setting, rows, metrics)


def _reference(setting: Setting, summaries: Iterable[Summary], baseline: str) -> Summary | None:
    """The baseline's summary under the same conditions; conditions that one of the two does not have do not count.

    None if the baseline has none or several of them (a baseline at two label fractions, and a setting without one).
    """
    found = []
    for candidate in summaries:
        other = candidate.setting
        if (
            other.init == baseline
            and (other.detection, other.detection_grid) == (setting.detection, setting.detection_grid)
            and (
                None in (other.label_fraction, setting.label_fraction) or other.label_fraction == setting.label_fraction
            )
            and (not other.pretrain_grid or not setting.pretrain_grid or other.pretrain_grid == setting.pretrain_grid)
        ):
            found.append(candidate)
    return found[0] if len(found) == 1 else None
