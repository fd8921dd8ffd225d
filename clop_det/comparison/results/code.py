"""Which code the rows' figures come from: rows of other code than the newest run's are marked, and named first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clop_det.comparison.results.runs import Run

MARK = "†"
_SHOWN = 4  # files


@dataclass(frozen=True)
class CodeMarks:
    """What is to be said of the code of a comparison's runs.

    Attributes:
        runs: name of a run folder -> what is to be said of its code, for those of other code.
        notes: sentences for the first lines of the report.
    """

    runs: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def of(self, folders: Iterable[Path]) -> str:
        """What is to be said of a row's runs; empty: nothing."""
        return "; ".join(dict.fromkeys(self.runs[folder.name] for folder in folders if folder.name in self.runs))


def code_marks(runs: Sequence[Run], kept: Mapping[str, Mapping[str, Any]]) -> CodeMarks:
    """Compare the code of all runs behind the rows.

    A file counts as the newest run has it: that began last. A run is marked if it has another content of a file, if it
    began under one code and went on under another, if it does not say its code while others do, or if it was kept.

    Args:
        kept: of plan.json: jobs that were kept although their code differs from that of the last start.
    """
    marks: dict[str, str] = {}
    differing: dict[str, None] = {}
    newest: dict[str, str] = {}
    known = [run for run in runs if _files(run.record.get("code"))]
    for run in sorted(known, key=_began):
        newest |= _files(run.record["code"])
    for run in runs:
        name, code = run.folder.name, run.record.get("code")
        files = [file for file, digest in _files(code).items() if newest[file] != digest]
        later = kept.get(name, {}).get("files")
        files += [str(file) for file in later if file not in files] if isinstance(later, list) else []
        if run.record.get("earlier_code"):
            marks[name] = "began under other code than it ended under"
        elif files:
            commit = code.get("commit") if isinstance(code, dict) else None
            marks[name] = f"other code (commit {str(commit or 'unknown')[:10]})"
        elif known and not _files(code):
            marks[name] = "does not say which code it ran"
        differing |= dict.fromkeys(files)
    return CodeMarks(marks, _notes(marks, list(differing), kept, runs))


def _notes(marks: Mapping[str, str], files: Sequence[str], kept: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    if not marks:
        return []
    shown = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
    texts = [
        f"These figures come from different versions of the code. Rows marked {MARK} ran other code than the newest run"
        f" ({len(marks)} of {len(runs)} jobs){f'; these files differ: {shown}' if files else ''}."
    ]
    count = sum(name in kept for name in marks)
    if count:
        texts.append(f"Jobs whose code differs from that of the last start: {count}.")
    return texts


def _files(code: Any) -> dict[str, str]:
    files = code.get("files") if isinstance(code, dict) else None
    return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}


def _began(run: Run) -> str:
    attempts = run.record.get("attempts") or [{}]
    return str(attempts[-1].get("started", "")) if isinstance(attempts[-1], dict) else ""
