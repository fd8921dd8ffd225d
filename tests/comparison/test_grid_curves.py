from __future__ import annotations

from pathlib import Path

import pytest

from clop_det.comparison.report.grid_curves import main, read_curves
from clop_det.errors import UserError

TABLE = """init,label_fraction,seed,knn_top1,embedding_rankme,SOLVER.BASE_LR,status
info_nce,,0,0.3,40,0.1,done
info_nce,,1,0.2,30,0.1,done
clop,0.01,0,0.4,50,0.1,done
clop,0.01,0,0.1,2,10,done
clop,0.01,1,,,10,failed
"""


def test_rows_become_curves_and_a_failed_run_is_no_point(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(TABLE)
    panels = read_curves(path, "SOLVER.BASE_LR", ["knn_top1", "embedding_rankme"])
    assert list(panels) == [""]
    curves = panels[""]
    assert curves["info_nce"][0.1] == {"knn_top1": [0.3, 0.2], "embedding_rankme": [40, 30]}
    (clop,) = (points for label, points in curves.items() if label.startswith("clop"))
    assert {x: points["embedding_rankme"] for x, points in clop.items()} == {0.1: [50], 10: [2]}


def test_settings_of_another_grid_key_are_not_averaged_but_panels(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        """init,label_fraction,seed,knn_top1,SOLVER.BASE_LR,SOLVER.IMS_PER_BATCH,SOLVER.MOMENTUM,status
info_nce,,0,0.3,0.1,64,0.9,done
info_nce,,0,0.2,0.1,16,0.9,done
"""
    )
    panels = read_curves(path, "SOLVER.BASE_LR", ["knn_top1"])
    assert list(panels) == [", IMS_PER_BATCH 16", ", IMS_PER_BATCH 64"]
    assert [curves["info_nce"][0.1]["knn_top1"] for curves in panels.values()] == [[0.2], [0.3]]


def test_what_has_no_place_on_the_axis_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(TABLE + "random,,0,0.2,,,done\nclop,0.01,2,,7,10,done\n")
    curves = read_curves(path, "SOLVER.BASE_LR", ["knn_top1", "embedding_rankme"])[""]
    assert "random" not in curves
    (clop,) = (points for label, points in curves.items() if label.startswith("clop"))
    assert clop[10] == {"knn_top1": [0.1], "embedding_rankme": [2, 7]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.replace("done", "failed"), "no finished run"),
        (TABLE.replace("0.1,done", "SGD,done"), "takes numbers alone"),
    ],
)
def test_tables_without_a_curve_are_named(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "results.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        read_curves(tmp_path / "results.csv", "SOLVER.BASE_LR", ["knn_top1"])


def test_the_command_writes_both_pictures_and_the_same_twice(tmp_path: Path) -> None:
    for name in ("sgd", "lars"):
        (tmp_path / name / "report").mkdir(parents=True)
        (tmp_path / name / "report" / "results.csv").write_text(TABLE)
    tables = [str(tmp_path / name / "report" / "results.csv") for name in ("sgd", "lars")]
    for output in ("a", "b"):
        arguments = ["--metrics", "knn_top1", "embedding_rankme", "--output", str(tmp_path / output)]
        assert main([*tables, *arguments]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "a.svg").read_text()
    assert all(word in text for word in ("sgd", "lars", "info_nce", "clop", "SOLVER.BASE_LR"))


def test_a_missing_column_or_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(TABLE)
    with pytest.raises(UserError, match="no column rankme"):
        read_curves(path, "SOLVER.BASE_LR", ["rankme"])
    with pytest.raises(UserError, match=r"nothing\.csv"):
        read_curves(tmp_path / "nothing.csv", "SOLVER.BASE_LR", ["knn_top1"])
