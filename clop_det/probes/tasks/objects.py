"""The object probe: the other probes on annotated boxes, a labelled image set that every detection set carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clop_det.figures import ON_BOXES
from clop_det.keys import Key, at_least
from clop_det.probes.base import BOXES, IMAGES, Probe, ProbeData, register_probe


@register_probe(
    "objects",
    {
        "MAX": Key(
            500,
            "Annotated boxes of the training set in the bank of the object probe, and at most as many of each test set"
            " as its queries (seeded).",
            at_least(1),
        ),
        "SIZE": Key(
            0,
            "Side of the squares that the boxes are cut out to, in pixels; 0: CLASSIFICATION.IMAGE_SIZE.",
            at_least(0),
        ),
    },
)
class Objects(Probe):
    """`object_<figure>` for the figures of every probe in PROBE.TASKS that needs labelled images."""

    needs = BOXES
    tasks: Sequence[Probe] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """By the other probes."""
        return tuple(ON_BOXES + name for task in self.tasks for name in task.names)

    def join(self, tasks: Sequence[Probe]) -> None:
        self.tasks = [task for task in tasks if task.needs == IMAGES]

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        return {ON_BOXES + name: value for task in self.tasks for name, value in task.measure(data).items()}
