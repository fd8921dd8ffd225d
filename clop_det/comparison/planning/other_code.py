"""Jobs that ran, or began, under other code than that of now: only a person can say whether their figures stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clop_det.comparison.names import ASIDE_FOLDER, JOB_NAME
from clop_det.comparison.planning.jobs import Job, differing_files, is_done
from clop_det.files import read_json

_SHOWN = 4  # files


@dataclass(frozen=True)
class OtherCode:
    """The code of one job.

    Attributes:
        commit, dirty: of the checkout that it ran from; None: it ran from none.
        files: those that differ from the files of now.
        done: whether the job has ended, or only begun.
    """

    commit: str | None
    dirty: bool | None
    files: list[str]
    done: bool

    def as_dict(self) -> dict[str, Any]:
        """For plan.json."""
        return asdict(self)


def other_code(jobs: Mapping[str, Job], root: Path) -> dict[str, OtherCode]:
    """Those of `jobs` that have ended or begun in `root` under other code, by name."""
    found = {}
    known: dict[tuple[Any, ...], dict[str, str]] = {}  # jobs of one kind run the same files
    for name, job in jobs.items():
        path = root / name / JOB_NAME
        record = read_json(path) if path.is_file() else {}
        if not record.get("attempts"):
            continue
        code = record.get("code") or {}
        own = job.identity
        key = own.modules, tuple(sorted(own.imported.items()))
        if key not in known:
            known[key] = own.code_files()
        files = differing_files(code, known[key])
        if files:
            found[name] = OtherCode(code.get("commit"), code.get("dirty"), files, is_done(job, root / name))
    return found


def to_run_again(jobs: Mapping[str, Job], others: Collection[str]) -> list[str]:
    """The names in `others`, and those of all jobs that read what they make, needs before users."""
    again = set(others)
    for name, job in jobs.items():
        if again & set(job.needs):
            again.add(name)
    return [name for name in jobs if name in again]


def question(others: Mapping[str, OtherCode]) -> str:
    """What differs, and the choice, in one sentence each."""
    done = sum(other.done for other in others.values())
    begun = len(others) - done
    counts = [f"{done} finished" if done else "", f"{begun} begun" if begun else ""]
    files = list(dict.fromkeys(file for other in others.values() for file in other.files))
    shown = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
    one = len(others) == 1
    return (
        f"{' and '.join(filter(None, counts))} job{'' if one else 's'} of this comparison ran under other code. These"
        f" files differ since {commits(others.values())}: {shown}. Add --keep if the figures stand (the report marks"
        f" them), or --rerun to run the jobs again (their folders are moved to {ASIDE_FOLDER}/)."
    )


def commits(others: Iterable[OtherCode]) -> str:
    """ "commit 0123456789 (with changes that were not committed)"."""
    texts = dict.fromkeys(
        f"commit {other.commit[:10]}{' (with changes that were not committed)' if other.dirty else ''}"
        if other.commit
        else "a start outside any checkout"
        for other in others
    )
    return " and ".join(texts)
