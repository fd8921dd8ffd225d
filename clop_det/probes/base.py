"""A probe: a task on a frozen backbone, named in the config list PROBE.TASKS.

A new probe is one file in `clop_det/probes/tasks`, or a module that IMPORTS names, with one `@register_probe`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from clop_det.errors import UserError
from clop_det.figures import CATALOGUE, Figure
from clop_det.keys import BOTH, Key
from clop_det.registry import Registry

# What a probe may need: the images of CLASSIFICATION.*; these, and what a projector makes of them (pretraining alone);
# the annotated boxes of the detection data, cut out (fine-tuning alone).
IMAGES, EMBEDDINGS, BOXES = "images", "embeddings", "boxes"


@dataclass(frozen=True)
class ProbeData:
    """What a frozen network makes of a bank of images to learn from and of images to ask about.

    Attributes:
        bank: features (N, D) float32.
        bank_labels: (N,) int64 >= 0.
        queries: features (M, D) float32.
        query_labels: (M,) int64 >= 0.
        embeddings: (N, d) float32, the projector's outputs for the bank, not normalised; None without a projector.
    """

    bank: Tensor
    bank_labels: Tensor
    queries: Tensor
    query_labels: Tensor
    embeddings: Tensor | None = None


class Probe(ABC):
    """A task on frozen features; the class is registered, and built from the values of its options.

    Attributes:
        needs: `IMAGES`, `EMBEDDINGS` or `BOXES`. A stage that does not have this data leaves the task out.
        figures: what it gives; they are registered with it.
    """

    needs: ClassVar[str] = IMAGES
    figures: ClassVar[tuple[Figure, ...]] = ()

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the figures that this very task may give; a class whose `figures` hold a pattern says which."""
        return tuple(figure.name for figure in self.figures)

    def join(self, tasks: Sequence[Probe]) -> None:  # noqa: B027 (most tasks have nothing to do here)
        """Called once with all tasks of the run, in the order of PROBE.TASKS."""

    @abstractmethod
    def measure(self, data: ProbeData) -> Mapping[str, float]:
        """The figures by name; one that is undefined or infinite is left out of the run's."""


PROBES: Registry[type[Probe]] = Registry("probe", "PROBE", BOTH, "PROBE.TASKS")


def register_probe(name: str, options: Mapping[str, Key] | None = None) -> Callable[[type[Probe]], type[Probe]]:
    """Register a `Probe` class under `name`, with its figures.

    Args:
        name: lower case; an entry of the config list PROBE.TASKS.
        options: option name in capitals -> its key, PROBE.<NAME>.<OPTION> in the config.

    Raises:
        UserError: the name or that of a figure is taken, or they are not in the expected form.
    """

    def decorate(probe: type[Probe]) -> type[Probe]:
        if probe.needs not in (IMAGES, EMBEDDINGS, BOXES):
            raise UserError(
                f"the probe {name!r} of {probe.__module__} needs {probe.needs!r}; it must be {IMAGES}, {EMBEDDINGS} or"
                f" {BOXES}."
            )
        PROBES.register(name, options)(probe)
        CATALOGUE.register(probe.figures, probe.__module__)
        return probe

    return decorate
