"""What the interface of a family speaks of: networks, their stages and names, and the settings of a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

# The forms in which a file may spell a network.
OWN, NUMBERED, DETECTRON2, TRANSFORMERS = "own", "numbered", "detectron2", "transformers"
IMAGENET_MEAN = (123.675, 116.280, 103.530)
IMAGENET_STD = (58.395, 57.120, 57.375)


@dataclass(frozen=True)
class Stage:
    """Width C and stride of a stage's map (N,C,H/stride,W/stride)."""

    width: int
    stride: int


class Backbone(nn.Module):
    """A network that is pretrained: called with images (N,3,H,W), normalised, it returns pooled features (N,D).

    Attributes:
        feature_dim: D.
        map_shapes: name of each map -> its width and stride, from the first stage to the last.
    """

    feature_dim: int
    map_shapes: dict[str, Stage]

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N,3,H,W), normalised -> {stage: (N,C,H/stride,W/stride)}."""
        raise NotImplementedError

    def quieten(self) -> None:
        """Switch off, in place and for good, what is random in training, e.g. drop path: a teacher has no such noise.

        A family whose networks have something of the kind overrides it.
        """

    def features_and_maps(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What a call gives, and the maps; a family overrides it where one pass gives both."""
        return self(images), self.maps(images)

    @property
    def stride_before_last(self) -> int:
        """Stride of the map that the last stage reads."""
        return list(self.map_shapes.values())[-2].stride


@dataclass(frozen=True)
class Architecture:
    """One network of a family; a family that must tell more of it adds fields and overrides `facts`.

    Attributes:
        name: the value of ENCODER.ARCH.
    """

    name: str

    @property
    def facts(self) -> dict[str, Any]:
        """The provenance's fields that say which network it is."""
        return {"arch": self.name}


@dataclass(frozen=True)
class Network:
    """A network that was recognised by its tensors.

    Attributes:
        architecture: which it is.
        stem: name of what stands before its first stage; "" where the family has only one.
        misfit: completes "it has a ..." where a detector has no place for that stem; "" where it has.
        note: what the tensors leave open, for the report of a conversion; "" where they say it all.
    """

    architecture: Architecture
    stem: str = ""
    misfit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """A config key of a detector that must agree with its weights.

    Attributes:
        key: the config key.
        field: the field of the provenance that holds the weights' value.
        label: two or three words for reports.
        default: value of a source that does not say it.
        help: meaning, for `--help` of the converter; "" where the converter has no such option.
    """

    key: str
    field: str
    label: str
    default: Any = None
    help: str = ""


@dataclass(frozen=True)
class Stock:
    """A network as a model that Detectron2 has itself, for configs that are not this package's.

    Attributes:
        model: name of Detectron2's class.
        arguments: of its constructor.
        tensors: all of the model's tensors, under its names.
        dropped: why a tensor has no place there -> own names.
        network: the model.
        read: images -> the model's maps by name.
        source: the source's own network.
        expected: images -> its maps by the same names.
        added: names of tensors that the source does not have, with the values that the model begins with.
        size: height and width of the images of the proof; None: as for the family's own detectors.
    """

    model: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    dropped: dict[str, list[str]]
    network: nn.Module
    read: Callable[[Tensor], dict[str, Tensor]]
    source: nn.Module
    expected: Callable[[Tensor], dict[str, Tensor]]
    added: list[str]
    size: tuple[int, int] | None = None


INPUT_SETTINGS = (
    Setting("INPUT.FORMAT", "channel_order", "channel order", "RGB"),
    Setting("MODEL.PIXEL_MEAN", "pixel_mean", "pixel mean", IMAGENET_MEAN),
    Setting("MODEL.PIXEL_STD", "pixel_std", "pixel std", IMAGENET_STD),
)


@dataclass(frozen=True)
class Root:
    """One network in a file.

    Attributes:
        family: the family's name.
        prefix: what stands before its tensors' names, "" or ending in a dot.
        form: `OWN`, `NUMBERED` (children of an `nn.Sequential`), `DETECTRON2` or `TRANSFORMERS`.
        layout: the form in words, for messages.
        names: name in the file -> own name, or the name in the file's terms where there is none.
    """

    family: str
    prefix: str
    form: str
    layout: str
    names: dict[str, str] = field(repr=False)

    @property
    def shown(self) -> str:
        """The prefix for messages."""
        return repr(self.prefix) if self.prefix else "no prefix"
