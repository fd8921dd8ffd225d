"""ranking.json: a ranking for programs, above all for a comparison that fine-tunes its first checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clop_det.checkpoints.folders import parts_of
from clop_det.errors import UserError
from clop_det.files import read_json, write_json
from clop_det.ranking.ranking import Ranking

NAME = "ranking.json"


@dataclass(frozen=True)
class Ranked:
    """A checkpoint of a ranking.

    Attributes:
        name: that the ranking calls it by.
        digest: of the file, or of the parts of a folder.
        score, behind, uncertain: see `rule.Standing`.
        apart: whether it is told apart from the first.
    """

    name: str
    path: Path
    digest: str
    score: float
    behind: float
    uncertain: float
    apart: bool


def write_ranking_file(ranking: Ranking, output: Path) -> Path:
    """Write ranking.json into `output`; returns its path."""
    checkpoints = [
        {"name": s.name, "path": str(ranking.files[s.name]), "digest": parts_of(ranking.files[s.name]).digest,
         "score": s.score, "behind": s.behind, "uncertain": s.uncertain, "apart": s.apart}
        for s in ranking.standings
    ]  # fmt: skip
    write_json(output / NAME, {"rule": ranking.rule.name, "verdict": ranking.verdict, "checkpoints": checkpoints})
    return output / NAME


def read_ranking_file(path: Path) -> tuple[str, list[Ranked]]:
    """The rule's name, and the checkpoints, the best first.

    Raises:
        UserError: no such file, or none that `write_ranking_file` wrote.
    """
    content = read_json(path)
    try:
        ranked = [_ranked(item) for item in content["checkpoints"]]
        rule = content["rule"]
    except (KeyError, TypeError, ValueError):
        ranked, rule = [], ""
    if not ranked or not isinstance(rule, str):
        raise UserError(f"{path} is no ranking. Name the ranking.json that clop-det rank writes.")
    return rule, ranked


def _ranked(item: Any) -> Ranked:
    texts = [item[key] for key in ("name", "path", "digest")]
    score, behind, uncertain = (float(item[key]) for key in ("score", "behind", "uncertain"))
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError(texts)
    return Ranked(texts[0], Path(texts[1]), texts[2], score, behind, uncertain, bool(item["apart"]))
