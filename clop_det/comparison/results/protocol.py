"""What a report says first: by which rules the rows were made comparable, and whether the run folders bear it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clop_det.comparison.names import KEEP, REDRAW
from clop_det.comparison.results.reading import read_object
from clop_det.comparison.results.rows import Row

SHARED_MARK = "‡"
_RECORD = "start.json"  # written by `detection.start`


def protocol_lines(rows: Sequence[Row], plan: Mapping[str, Any], spared: int = 0) -> list[str]:
    """Sentences on the heads of the detectors, and on initialisations that are one file in all seeds.

    Args:
        plan: content of plan.json; without it only what the run folders say counts.
        spared: runs that were not needed any more.
    """
    lines = [*_heads(rows, str(plan.get("heads") or "")), *_shared(shared_inits(rows, plan))]
    if plan.get("sequential"):
        lines.append(
            f"Seeds were run one after the other (COMPARE.SEQUENTIAL): {spared} of {len(rows) + spared} runs were not"
            " needed, because the verdicts they serve were settled before."
        )
    return lines


def shared_inits(rows: Iterable[Row], plan: Mapping[str, Any]) -> list[str]:
    """The initialisations that have several seeds, and one given file for all of them."""
    given = plan.get("one_file")
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row.setting.init, set()).add(row.seed)
    return [name for name in given or [] if len(seeds.get(name, ())) > 1] if isinstance(given, list) else []


def _shared(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        f"Rows marked {SHARED_MARK} start from one given file in all seeds ({', '.join(names)}). Their intervals leave"
        " out how much one pretraining differs from the next."
    ]


def _heads(rows: Sequence[Row], policy: str) -> list[str]:
    """What the records of the runs say of the heads, group by group of rows that are compared."""
    groups: dict[tuple[Any, ...], list[tuple[Row, dict[str, Any]]]] = {}
    silent = total = 0
    for row in rows:
        if "detect" not in row.results:
            continue
        total += 1
        found = read_object(row.folders["detect"] / _RECORD)
        if isinstance(found.get("drawn"), dict) and isinstance(found.get("loaded"), list):
            setting = row.setting
            groups.setdefault((setting.detection, setting.detection_grid, row.seed), []).append((row, found))
        else:
            silent += 1
    if not groups:
        return []
    lines = [text for group in groups.values() for text in _differing(group)]
    if not lines:
        lines = [_agreed(policy, [found for group in groups.values() for _, found in group])]
    if silent:
        lines.append(f"{silent} of {total} detection runs do not say which heads they started with.")
    return lines


def _agreed(policy: str, found: Sequence[Mapping[str, Any]]) -> str:
    drawn = max(len(item["drawn"]) for item in found)
    loaded = max(len(item["loaded"]) for item in found)
    runs = f"checked in {len(found)} run{'s' if len(found) > 1 else ''}"
    if policy == KEEP or loaded:
        return (
            f"Every detector keeps the pyramid and heads of its weights (COMPARE.HEADS {KEEP}): {loaded} tensors. The"
            f" other {drawn} are drawn anew, and are equal in all rows of a seed ({runs})."
        )
    return (
        f"Every detector draws its pyramid and heads anew (COMPARE.HEADS {REDRAW}): the {drawn} tensors outside the"
        f" backbone are equal in all rows of a seed ({runs})."
    )


def _differing(group: Sequence[tuple[Row, Mapping[str, Any]]]) -> list[str]:
    """What keeps the rows of one seed from having started with the same heads; at most one sentence."""
    first, reference = group[0]
    for row, found in group[1:]:
        names = f"{first.setting.label} and {row.setting.label} (seed {row.seed})"
        if sorted(map(str, found["loaded"])) != sorted(map(str, reference["loaded"])):
            return [
                f"{names} did not start alike: {len(reference['loaded'])} and {len(found['loaded'])} tensors of their"
                " heads came from their weights. Their difference is not one of the backbone alone."
            ]
        other = [name for name, digest in found["drawn"].items() if reference["drawn"].get(name) != digest]
        if other or len(found["drawn"]) != len(reference["drawn"]):
            return [f"{names} did not start with the same heads ({', '.join(other[:1]) or 'fewer tensors'} differs)."]
    return []
