"""The registry: every loss by name, options with defaults, errors that name what is registered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clop_det import keys
from clop_det.keys import Key, above
from clop_det.losses import (
    CLOP,
    DCL,
    CrossEntropy,
    InfoNCE,
    Loss,
    LossContext,
    SupCon,
    VICReg,
    build_loss,
    loss_names,
    loss_options,
    orthonormal_prototypes,
    register_loss,
)
from clop_det.losses.direct_clr import DirectCLR
from clop_det.losses.registry import LOSSES
from tests.losses.helpers import every_loss, some_labels, two_views

NAMES = [
    *(
        "barlow_twins",
        "clop",
        "cross_entropy",
        "dcl",
        "direct_clr",
        "dot_regression",
        "fixmatch_prototypes",
        "info_nce",
    ),
    *("lejepa", "mcr2", "mmcr", "nonl", "ntce", "paws", "prototype_pull", "prototype_softmax"),
    *("simsiam", "suncet", "supcon", "swav_prototypes", "tsc", "vicreg", "wmse"),
]


@pytest.fixture
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    monkeypatch.setattr(keys, "_DECLARED", dict(keys._DECLARED))


def test_every_loss_is_registered() -> None:
    assert loss_names() == NAMES
    assert sorted(loss_options()) == NAMES


def test_every_option_is_explained_and_has_a_plain_default() -> None:
    for options in loss_options().values():
        for name, option in options.items():
            assert name == name.upper()
            assert len(option.help) > 20
            assert isinstance(option.default, (bool, int, float, str, list))


@pytest.mark.parametrize("name", sorted(every_loss(3, 8)))
def test_every_loss_gives_one_scalar_that_is_the_sum_of_its_parts(name: str) -> None:
    loss = every_loss(3, 8)[name]
    embeddings, labels = two_views(10, 8, torch.float32).requires_grad_(), some_labels(10, 3)
    value, parts = loss(embeddings, labels), loss.parts(embeddings, labels)
    assert value.shape == ()
    torch.testing.assert_close(value, torch.stack(list(parts.values())).sum())
    value.backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert embeddings.grad.abs().sum() > 0


def test_options_reach_the_loss_and_its_base() -> None:
    loss = build_loss("clop", {"CLOP": {"BASE": "supcon", "WEIGHT": 3.0}, "SUPCON": {"TEMPERATURE": 0.7}}, 4, 8)
    assert isinstance(loss, CLOP)
    assert isinstance(loss.base, SupCon)
    assert (loss.weight, loss.base.temperature) == (3.0, 0.7)


@pytest.mark.usefixtures("_registry")
def test_a_new_loss_is_one_decorator() -> None:
    seen = []

    @register_loss("half_info_nce", {"TEMPERATURE": Key(0.5, "Temperature of the halved loss; above 0.")})
    def _build(options: dict[str, float], context: LossContext) -> InfoNCE:
        seen.append((dict(options), context.num_classes, context.embedding_dim))
        return InfoNCE(options["TEMPERATURE"] / 2)

    assert "half_info_nce" in loss_options()
    assert build_loss("half_info_nce", {}, 3, 8).temperature == 0.25
    assert build_loss("clop", {"clop": {"BASE": "half_info_nce"}}, 3, 8).base.temperature == 0.25
    assert seen == [({"TEMPERATURE": 0.5}, 3, 8)] * 2


@pytest.mark.usefixtures("_registry")
def test_a_class_is_registered_with_the_defaults_of_its_constructor() -> None:
    @register_loss("tempered", {"SHARE": ("Share of the classes.", above(0)), "TEMPERATURE": "Divides the cosines."})
    class Tempered(InfoNCE):
        def __init__(self, num_classes: int, share: float = 0.25, temperature: float = 0.5) -> None:
            super().__init__(temperature)
            self.share = share * num_classes

    options = loss_options()["tempered"]
    assert {name: key.default for name, key in options.items()} == {"SHARE": 0.25, "TEMPERATURE": 0.5}
    assert options["SHARE"].rule is not None
    assert options["SHARE"].rule.text == "be above 0"
    assert options["TEMPERATURE"] == Key(0.5, "Divides the cosines.")
    loss = build_loss("tempered", {"tempered": {"SHARE": 0.5}}, 4, 8)
    assert type(loss) is Tempered
    assert (loss.share, loss.temperature) == (2.0, 0.5)


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("options", "named"), [({}, "WEIGHT"), ({"WEIGHT": "A weight.", "SCALE": "A scale."}, "SCALE"), (None, "WEIGHT")]
)
def test_every_argument_of_a_class_is_explained_and_nothing_else(options: dict[str, str] | None, named: str) -> None:
    class Weighted(InfoNCE):
        def __init__(self, weight: float = 1.0) -> None:
            super().__init__()

    with pytest.raises(ValueError, match=f"Weighted cannot be registered because of {named}\\. Every argument"):
        register_loss("weighted", options)(Weighted)
    assert "weighted" not in loss_names()


@pytest.mark.usefixtures("_registry")
def test_an_argument_without_default_is_named() -> None:
    class Bare(InfoNCE):
        def __init__(self, weight: float) -> None:
            super().__init__()

    with pytest.raises(ValueError, match="because of WEIGHT"):
        register_loss("bare", {"WEIGHT": "A weight."})(Bare)


class _HasATemperature(VICReg):
    """A loss whose temperature is that of something else."""

    temperature = 0.2


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (InfoNCE(0.2), 51.2),
        (SupCon(0.5), 128.0),
        (DCL(0.1), 25.6),
        (DirectCLR(3, 0.1), 25.6),
        (CLOP(SupCon(0.5), orthonormal_prototypes(3, 8)), 128.0),
        (CLOP(VICReg(), orthonormal_prototypes(3, 8)), None),
        (VICReg(), None),
        (CrossEntropy(3, 8), None),
        (_HasATemperature(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else str(value),
)
def test_the_critical_learning_rate_is_what_the_loss_says(loss: Loss, expected: float | None) -> None:
    assert loss.critical_learning_rate(256) == (None if expected is None else pytest.approx(expected))


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: build_loss("infonce", {}, 3, 8),
            "the loss 'infonce', which is not registered. Did you mean info_nce",
        ),
        (lambda: build_loss("info_nce", {"info_nce": {"TEMP": 1.0}}, 3, 8), r"options=\['TEMP'\]: loss 'info_nce' has"),
        (lambda: build_loss("info_nce", {"INFO_NCE": {"TEMPERATURE": -1.0}}, 3, 8), "temperature=-1.0: must be"),
        (lambda: build_loss("clop", {"clop": {"BASE": "clop"}}, 3, 8), "BASE='clop': already pulls to prototypes"),
        (
            lambda: build_loss("clop", {"clop": {"BASE": "nothing"}}, 3, 8),
            "the loss 'nothing', which is not",
        ),
        (lambda: build_loss("clop", {"clop": {"WEIGHT": -1.0}}, 3, 8), "weight=-1.0: must be a finite number"),
        (lambda: build_loss("clop", {}, 9, 8), "num_classes=9, directions=1, dim=8: 9 orthonormal prototypes"),
        (lambda: build_loss("info_nce", {}, 0, 8), "num_classes=0: must be at least 1"),
        (lambda: build_loss("info_nce", {}, 3, 0), "embedding_dim=0: must be at least 1"),
        (
            lambda: register_loss("info_nce")(lambda o, c: InfoNCE()),
            "'info_nce' of .* is registered already, by",
        ),
        (lambda: register_loss("New")(lambda o, c: InfoNCE()), "'New' of .*in lower case"),
    ],
)
def test_bad_input_names_argument_value_and_rule(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_the_package_depends_on_torch_alone() -> None:
    code = (
        "import sys; import clop_det; before = set(sys.modules); import torch; with_torch = set(sys.modules)\n"
        "import clop_det.losses as losses\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - with_torch} - {'torch', 'clop_det'}\n"
        "ours = {m for m in set(sys.modules) - before if m.startswith('clop_det.') and 'losses' not in m}\n"
        "ours -= {'clop_det.errors', 'clop_det.keys', 'clop_det.registry'}\n"
        "foreign = {m for m in new if m not in sys.stdlib_module_names}\n"
        "print(sorted(foreign), sorted(ours))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[] []"


@pytest.mark.usefixtures("_registry")
def test_the_loss_in_the_docs_runs_word_for_word() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    block = page.split("## A new loss")[1].split("```python\n")[1].split("```")[0]
    exec(compile(block, "docs/losses.md", "exec"), {"__name__": "docs_example"})
    loss = build_loss("clop", {"clop": {"BASE": "uniformity"}, "uniformity": {"TEMPERATURE": 1.0}}, 3, 8)
    parts = loss.parts(two_views(6, 8, torch.float32), some_labels(6, 3))
    assert parts.keys() == {"uniformity", "prototype_pull"}
    assert loss.base.temperature == 1.0
