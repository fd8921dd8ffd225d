from __future__ import annotations

import io

from clop_det.ranking.ranking import Ranking
from clop_det.ranking.rule import Standing
from clop_det.ranking.table import picture


def test_a_name_with_dollars_is_no_formula() -> None:
    found = [Standing("a$b_{$", 1.0, 0.0, 0.0), Standing("$x$", -1.0, 2.0, 0.5)]
    drawn = picture(Ranking(found, {}, {}, [], {}, (40, 4)))
    drawn.savefig(io.BytesIO(), format="svg")
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["$x$", "a$b_{$"]
