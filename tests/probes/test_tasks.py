"""The probes as tasks: what the config names is what runs, on the data that it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from detectron2.config import CfgNode

from clop_det.config.reading import read_config
from clop_det.errors import UserError
from clop_det.figures import CATALOGUE, Figure
from clop_det.keys import BOTH, check_rules
from clop_det.probes.base import BOXES, EMBEDDINGS, IMAGES, PROBES, Probe, ProbeData, register_probe
from clop_det.probes.measures.embeddings import embedding_figures
from clop_det.probes.measures.geometry import geometry
from clop_det.probes.measures.knn import knn_top1
from clop_det.probes.measures.linear import linear_probe
from clop_det.probes.measures.spectrum import rankme
from clop_det.probes.running import build_tasks, figure_names, run_tasks
from tests.probes.test_encoding import encode, images


def config(*pairs: str) -> CfgNode:
    return read_config("", pairs)


def data(classes: int = 4) -> ProbeData:
    (bank, labels), (queries, asked) = images(260, 0), images(90, 1)
    features = encode(bank)
    return ProbeData(features, labels % classes, encode(queries), asked % classes, features[:, :8])


def test_every_figure_is_its_own_measure_in_the_order_of_the_tasks() -> None:
    tasks, seen = build_tasks(config()), data()
    found = run_tasks(tasks, {IMAGES: {"": lambda: seen}, EMBEDDINGS: {"": lambda: seen}})
    x, y, t, u = seen.bank, seen.bank_labels, seen.queries, seen.query_labels
    nearest = knn_top1(x, y, t, u, (20, 200))
    expected = {"knn_top1": nearest[20], "knn200_top1": nearest[200]} | linear_probe(x, y, t, u)
    expected |= {"rankme": rankme(x)} | geometry(x, y) | embedding_figures(seen.bank[:, :8])
    assert found == expected
    assert list(found) == list(expected) == figure_names(tasks, [IMAGES, EMBEDDINGS])
    assert found["knn_top1"] != found["knn200_top1"]
    assert all(type(value) is float for value in found.values())


def test_the_object_probe_is_every_probe_of_images_on_boxes() -> None:
    tasks, seen = build_tasks(config("PROBE.TASKS", "('objects', 'rankme', 'embeddings', 'knn')")), data()
    found = run_tasks(tasks, {BOXES: {"a/probe/": lambda: seen, "b/probe/": lambda: seen}})
    names = ["object_rankme", "object_knn_top1", "object_knn200_top1"]
    assert list(found) == [f"{test_set}/probe/{name}" for test_set in "ab" for name in names]
    assert figure_names(tasks, [BOXES]) == names
    assert found["a/probe/object_rankme"] == rankme(seen.bank)


def test_the_data_are_made_once_for_all_tasks_and_not_at_all_for_none() -> None:
    calls = []

    def read() -> ProbeData:
        calls.append(1)
        return data()

    tasks = build_tasks(config("PROBE.TASKS", "('rankme', 'embeddings', 'geometry')"))
    run_tasks(tasks, {IMAGES: {"": read}, EMBEDDINGS: {"": read}, BOXES: {"": lambda: pytest.fail("nobody needs it")}})
    assert calls == [1]
    assert build_tasks(config("PROBE.ENABLED", "False", "PROBE.TASKS", "('nothing',)")) == []


def test_a_collapsed_encoder_is_measured_not_refused() -> None:
    flat, labels = torch.full((80, 16), 0.3), torch.arange(80) % 3
    tasks = build_tasks(config("PROBE.KNN.K", "(5,)"))
    found = run_tasks(tasks, {IMAGES: {"": lambda: ProbeData(flat, labels, flat, labels)}})
    assert found["linear_top1"] == pytest.approx(27 / 80)
    assert found["rankme"] == pytest.approx(1, abs=1e-4)
    zero = ProbeData(0 * flat, labels, 0 * flat, labels)
    assert run_tasks(tasks, {IMAGES: {"": lambda: zero}})["rankme"] == 0


@pytest.mark.parametrize("directions", [1, 2])
def test_the_shape_of_collapsed_features_lacks_what_they_have_not(directions: int) -> None:
    bank = torch.eye(8)[torch.arange(100) % directions]
    labels = torch.zeros(100, dtype=torch.int64)
    seen = ProbeData(bank, labels, bank, labels, bank)
    found = run_tasks(build_tasks(config("PROBE.TASKS", "('shape',)")), {IMAGES: {"": lambda: seen}})
    assert found.pop("sigreg", None) is None or directions == 2
    assert found == pytest.approx({1: {"nesum": 0, "idest": 0, "two_nn": 0}, 2: {"nesum": 1}}[directions])


def test_a_single_class_has_accuracies_but_no_geometry() -> None:
    found = run_tasks(build_tasks(config()), {IMAGES: {"": lambda: data(classes=1)}})
    assert found["knn_top1"] == found["linear_top1"] == 1.0
    assert "nc1" not in found


def test_the_first_k_is_the_headline() -> None:
    seen = data()
    tasks = build_tasks(config("PROBE.KNN.K", "(1, 7)", "PROBE.TASKS", "('knn',)"))
    same = ProbeData(seen.bank, seen.bank_labels, seen.bank, seen.bank_labels)
    found = run_tasks(tasks, {IMAGES: {"": lambda: same}})
    assert list(found) == ["knn_top1", "knn7_top1"]
    assert found["knn_top1"] == 1.0  # each image is its own nearest neighbour


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("PROBE.TASKS", "('knm',)"), "PROBE.TASKS names the probe 'knm'.* Did you mean knn"),
        (("PROBE.TASKS", "()"), r"PROBE\.TASKS is empty.*PROBE\.ENABLED False"),
        (("PROBE.TASKS", "('knn', 'knn')"), r"PROBE\.TASKS names knn twice"),
    ],
)
def test_settings_that_no_probe_can_honour_are_named(pairs: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_tasks(config(*pairs))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (("PROBE.KNN.K", "(2.5,)"), r"PROBE\.KNN\.K is \(2\.5,\); it must .*whole number"),
        (("PROBE.OBJECTS.MAX", "0"), r"PROBE\.OBJECTS\.MAX is 0; it must be at least 1"),
        (("PROBE.MAX_BANK", "-1"), r"PROBE\.MAX_BANK is -1; it must be at least 0"),
    ],
)
@pytest.mark.parametrize("stage", BOTH)
def test_values_that_no_probe_can_honour_are_refused(pairs: tuple[str, str], message: str, stage: str) -> None:
    with pytest.raises(UserError, match=message):
        check_rules(config("INPUT.FORMAT", "RGB", "SEED", "0", *pairs), stage)


def test_options_of_a_probe_that_is_not_in_use_do_not_matter() -> None:
    assert len(build_tasks(config("PROBE.KNN.K", "()", "PROBE.TASKS", "('rankme',)"))) == 1


def test_a_taken_name_is_refused_and_what_is_undefined_left_out() -> None:
    class Odd(Probe):
        figures = (Figure("odd_figure", "odd", 2), Figure("undefined_figure", "undefined", 2))

        def measure(self, data: ProbeData) -> Mapping[str, float]:
            return {"odd_figure": 1, "undefined_figure": math.nan}

    assert run_tasks([Odd({})], {IMAGES: {"": data}}) == {"odd_figure": 1.0}
    with pytest.raises(UserError, match=r"probe 'knn' .* registered already"):
        register_probe("knn")(Odd)
    Odd.figures = (Figure("rankme", "mine", 2),)
    with pytest.raises(UserError, match=r"figure 'rankme' .* registered already"):
        register_probe("odd_probe_of_a_test")(Odd)
    PROBES._entries.pop("odd_probe_of_a_test", None)
    assert CATALOGUE.find("rankme").label == "RankMe"


def test_a_probe_that_needs_what_no_stage_has_is_refused_before_it_is_registered() -> None:
    class Hungry(Probe):
        needs = "captions"

        def measure(self, data: ProbeData) -> Mapping[str, float]:
            return {}

    with pytest.raises(UserError, match=r"the probe 'hungry' of .* needs 'captions'; it must be images, embeddings or"):
        register_probe("hungry")(Hungry)
    assert "hungry" not in PROBES


@pytest.mark.gpu
def test_features_on_a_gpu_give_the_same_figures() -> None:
    seen, tasks = data(), build_tasks(config("PROBE.KNN.K", "(5, 20)"))
    moved = ProbeData(seen.bank.cuda(), seen.bank_labels, seen.queries.cuda(), seen.query_labels)
    here, there = (run_tasks(tasks, {IMAGES: {"": lambda d=d: d}}) for d in (seen, moved))
    assert there == pytest.approx(here, rel=1e-3, abs=2 / 90)
