"""The catalogue of figures: families from the base figure, and facts that travel with a run."""

from __future__ import annotations

import pytest

import clop_det.detection.average_precision
import clop_det.probes.tasks  # noqa: F401  (register the shipped figures)
from clop_det.errors import UserError
from clop_det.figures import ACCURACY, CATALOGUE, HIGHER, LOWER, Catalogue, Figure


@pytest.mark.parametrize(
    ("name", "label", "decimals", "better"),
    [
        ("AP", "AP", 1, HIGHER),
        ("coco/AP50", "COCO AP50", 1, HIGHER),
        ("segm/AP", "mask AP", 1, HIGHER),
        ("bbox/AP-person", "AP-person", 1, HIGHER),
        ("coco/AP-w/o helmet@night", "COCO AP-w/o helmet@night", 1, HIGHER),
        ("my_val/bbox/AP", "my_val AP", 1, HIGHER),
        ("AP@my_val", "AP@my_val", 1, HIGHER),
        ("a{0}b/AP", "a{0}b AP", 1, HIGHER),
        ("knn_top1", "kNN", 3, HIGHER),
        ("probe/object_knn_top1", "kNN on boxes", 3, HIGHER),
        ("object_knn200_top1_finetuned", "kNN at 200 on boxes after", 3, HIGHER),
        ("embedding_mean_norm", "length of the mean embedding", 3, None),
        ("nc1_finetuned", "nc1 after", 3, None),
        ("what_nobody_knows", "what nobody knows", 3, None),
    ],
)
def test_families_are_derived(name: str, label: str, decimals: int, better: str | None) -> None:
    figure = CATALOGUE.find(name)
    assert (figure.name, figure.label, figure.decimals, figure.better) == (name, label, decimals, better)


def test_values_are_written_with_the_decimals() -> None:
    assert CATALOGUE.find("AP").text(12.345) == "12.3"
    assert CATALOGUE.find("AP").text(12.345, "+", more=1) == "+12.35"


def test_facts_of_foreign_figures_travel_and_those_of_shipped_ones_do_not() -> None:
    writer = Catalogue({name: CATALOGUE.find(name) for name in ("AP", "knn_top1")})
    writer.register([Figure("spread*", "spread at *", 4, "m", LOWER, ACCURACY)], "my_probe")
    assert writer.facts(["bbox/AP", "probe/knn_top1"]) == []
    facts = writer.facts(["probe/object_spread3", "bbox/AP"])
    assert [fact["name"] for fact in facts] == ["spread*"]
    reader = CATALOGUE.with_facts(facts)
    figure = reader.find("object_spread3_finetuned")
    assert (figure.label, figure.decimals, figure.better) == ("spread at 3 on boxes after", 4, LOWER)
    assert CATALOGUE.find("spread3").label == "spread3"


FACT = {"name": "x", "label": "x", "decimals": 1, "unit": "", "better": None, "group": ""}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../x"},
        {"name": "x**"},
        {"label": "x" * 81},
        {"label": "two\nlines"},
        {"decimals": 10**9},
        {"decimals": "3"},
        {"better": "sideways"},
        {"group": None},
        {"more": 1},
        {"name": "AP", "label": "mine"},
    ],
)
def test_facts_that_are_none_or_known_already_are_left_out(change: dict[str, object]) -> None:
    reader = CATALOGUE.with_facts([{**FACT, **change}, ["x"], None])
    assert reader.find("x").decimals == 3  # unknown
    assert reader.find("AP").label == "AP"
    assert CATALOGUE.with_facts([FACT]).find("x").decimals == 1


def test_facts_do_not_rename_what_is_derived_from_shipped_figures() -> None:
    reader = CATALOGUE.with_facts([{**FACT, "name": "*", "label": "mine"}])
    for name in ("coco/AP", "AP@val", "object_knn_top1_finetuned", "knn200_top1", "bbox/AP-x"):
        assert reader.find(name) == CATALOGUE.find(name)


def test_a_name_is_registered_once_and_must_be_a_name() -> None:
    catalogue = Catalogue()
    catalogue.register([Figure("a*b", "a", 1)], "one")
    with pytest.raises(UserError, match="'axb' of two is registered already"):
        catalogue.register([Figure("axb", "a", 1)], "two")
    with pytest.raises(UserError, match=r"'c/d' of two must have a name of letters"):
        catalogue.register([Figure("c/d", "a", 1)], "two")


def test_what_rounds_to_nothing_has_no_sign() -> None:
    figure = CATALOGUE.find("AP")
    assert figure.text(-0.01) == "0.0"
    assert figure.text(-0.01, "+") == "+0.0"
    assert figure.text(-0.06, "+") == "-0.1"
    assert figure.text(float("nan")) == "nan"
