"""Initialisations from the first checkpoints of a ranking: COMPARE.INITS_FROM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clop_det.checkpoints.folders import parts_of
from clop_det.comparison.planning.values import find, read_mapping
from clop_det.errors import UserError
from clop_det.ranking.ranking_file import Ranked, read_ranking_file

_WHERE = "COMPARE.INITS_FROM"
_UNFIT = re.compile(r"[^A-Za-z0-9_.+-]+")


def ranked_inits(node: Any, folder: Path) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Entries of COMPARE.INITS with NAME and CHECKPOINT, and what the report says of the ranking; both may be empty.

    Args:
        node: {RANKING: path of a ranking.json, TOP: how many; without TOP all that are not told apart from the first}.
        folder: of the comparison's file.

    Raises:
        UserError: no ranking there, fewer checkpoints than TOP, or one that has changed since.
    """
    values = read_mapping(node, ("RANKING", "TOP"), _WHERE)
    if not values:
        return [], {}
    if not isinstance(values.get("RANKING"), str):
        raise UserError(f"{_WHERE} names no RANKING: give the path of a ranking.json that clop-det rank wrote.")
    path = find(values["RANKING"], folder)
    rule, ranked = read_ranking_file(path)
    chosen = _chosen(ranked, values, path)
    for item in chosen:
        if not item.path.exists() or parts_of(item.path).digest != item.digest:
            raise UserError(f"{item.path} is gone, or has changed since {path} was written. Rank again.")
    names = {item: _UNFIT.sub("-", item.name).lstrip("-_.+") or "checkpoint" for item in chosen}
    entries = [{"NAME": name, "CHECKPOINT": str(item.path)} for item, name in names.items()]
    scores = {name: [item.score, item.uncertain] for item, name in names.items()}
    return entries, {"rule": rule, "scores": scores}


def _chosen(ranked: list[Ranked], values: Mapping[str, Any], path: Path) -> list[Ranked]:
    if "TOP" not in values:
        return [item for item in ranked if not item.apart]
    top = values["TOP"]
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= len(ranked):
        raise UserError(f"{_WHERE} TOP is {top!r}; it must be a whole number from 1 to {len(ranked)}, as {path} holds.")
    return ranked[:top]
