"""What a check sees and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from detectron2.config import CfgNode

from clop_det.conversion.weights import Weights

OK, WARN, ERROR = "ok", "warn", "error"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was looked at.
        status: "ok"; "warn": it runs, but look at it; "error": the run would fail or mean nothing.
        message: what was found.
        remedy: what to do; "" if nothing.
    """

    check: str
    status: str
    message: str
    remedy: str = ""


@dataclass
class Situation:
    """What the checks look at.

    Attributes:
        cfg: the configuration, not frozen; the first check fits it to the processes, the others change nothing in it.
        processes: processes of the run, on all its machines.
        machines: machines of the run.
        refused: names of the checks of the run itself (`config_checks`) that refuse the configuration; filled in by the
            check of the settings.
        weights: the file of MODEL.WEIGHTS; None without one, or where it could not be read.
        images: data set -> number of images, filled in by the check of the data.
        training_images: images that DATASETS.TRAIN_FRACTION or its file chooses of them; 0 until they are known.
    """

    cfg: CfgNode
    processes: int = 1
    machines: int = 1
    refused: set[str] = field(default_factory=set)
    weights: Weights | None = None
    images: dict[str, int] = field(default_factory=dict)
    training_images: int = 0


Check = Callable[[Situation], Iterator[Finding]]
