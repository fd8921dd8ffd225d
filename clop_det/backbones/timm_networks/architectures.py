"""Names of timm's networks, and what a run on the meta device tells of each: maps, strides, width, sizes it takes."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clop_det.backbones.parts import Architecture, Stage
from clop_det.errors import UserError

PREFIX = "timm:"
FORM = "timm:NAME"
# Arguments of timm's constructors that a name may set, as timm:vit_tiny_patch16_224:img_size=64:patch_size=8.
SETTINGS = (
    *("class_token", "embed_dim", "global_pool", "img_size", "init_values", "no_embed_class", "num_heads"),
    *("patch_size", "qkv_bias", "reg_tokens", "window_size"),
)
# What makes timm's networks take images of any size, by the first that a constructor has. Swin's windows keep their
# size and their shift on small maps, as in Swin's own detectors and in Detectron2's.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False, "always_partition": True},
    {"dynamic_img_size": True},
    {},
)


@dataclass(frozen=True)
class TimmArchitecture(Architecture):
    """One of timm's networks.

    Attributes:
        timm_name: what `timm.create_model` takes.
        settings: arguments of its constructor that differ from the name's own.
    """

    timm_name: str
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known of an architecture without its weights.

    Attributes:
        feature_dim: width D of the pooled features.
        maps: name -> (index that timm's `forward_intermediates` takes, width and stride), in their order.
        plain: whether all maps have one stride: a transformer without stages.
        size: side of the square images that it was made for, in pixels.
        refuses: why it takes images of no other size; "" where it does.
        unused: parameters that no map depends on, such as those of the last normalisation.
        windows: whether its attention can be kept within windows: a plain VisionTransformer.
        batch_norm: whether it has batch normalisations.
    """

    feature_dim: int
    maps: dict[str, tuple[int, Stage]]
    plain: bool
    size: int
    refuses: str
    unused: frozenset[str]
    windows: bool
    batch_norm: bool

    @property
    def stride(self) -> int:
        """The largest stride of a map."""
        return max(stage.stride for _, stage in self.maps.values())


def find(arch: str) -> TimmArchitecture | None:
    """The architecture of a name; None: not one of timm's.

    Raises:
        UserError: timm has no such network, or a setting that is none.
    """
    if not arch.startswith(PREFIX) or arch == FORM:
        return None
    import timm  # here, for it takes a second

    name, *settings = arch.removeprefix(PREFIX).split(":")
    base = name.split(".")[0]  # behind the dot stands which weights timm would download
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"timm {timm.__version__} has no network {base!r}, which {arch} names.{hint}")
    return named(base, dict(_setting(arch, text) for text in settings))


def named(timm_name: str, settings: dict[str, Any]) -> TimmArchitecture:
    """The architecture of a network with some settings, under the one name that it has."""
    ordered = tuple(sorted(settings.items()))
    return TimmArchitecture(":".join((f"{PREFIX}{timm_name}", *(f"{k}={v}" for k, v in ordered))), timm_name, ordered)


def _setting(arch: str, text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    if key not in SETTINGS or not value:
        raise UserError(f"{arch}: {text!r} is no setting; write KEY=VALUE with one of {', '.join(SETTINGS)}.")
    if value in ("True", "False"):
        return key, value == "True"
    if key == "global_pool":
        return key, value
    for read in (int, float):
        try:
            return key, read(value)
        except ValueError:
            pass
    raise UserError(f"{arch}: {text!r} sets no number. Write a number, True or False, e.g. {key}=1.")


def create(architecture: TimmArchitecture, drop_path: float = 0.0) -> nn.Module:
    """timm's network without a classifier, randomly initialised, for images of any size where it can take them.

    Raises:
        UserError: the network does not have one of the settings.
    """
    import timm

    settings = dict(architecture.settings) | ({"drop_path_rate": drop_path} if drop_path else {})
    for index, options in enumerate(_ANY_SIZE):
        try:
            made: nn.Module = timm.create_model(
                architecture.timm_name, pretrained=False, num_classes=0, **options, **settings
            )
            return made
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            if index == len(_ANY_SIZE) - 1:
                said = ", ".join(f"{key} {value}" for key, value in settings.items()) or "no settings"
                raise UserError(
                    f"timm cannot build {architecture.timm_name} with {said}: {error}. Leave the setting out."
                ) from error
    raise AssertionError("not reached")


@functools.cache
def facts_of(architecture: TimmArchitecture) -> Facts:
    """Facts from a run of the network on the meta device, which takes no memory.

    Raises:
        UserError: the network gives no maps.
    """
    import timm

    with torch.device("meta"):
        network: Any = create(architecture).eval()
    size = int(dict(architecture.settings).get("img_size", network.pretrained_cfg["input_size"][-1]))
    if not hasattr(network, "forward_intermediates"):
        raise UserError(
            f"{architecture.name} has no feature maps: timm's {type(network).__name__} gives pooled features alone."
            " Choose a network that timm lists as one with forward_intermediates, e.g. timm:convnext_tiny."
        )
    found = _maps(network, size, size)
    strides = [round(size / height) for _, height in found]
    plain = len(found) > 1 and len(set(strides)) == 1
    maps: dict[str, tuple[int, Stage]] = {}
    if plain:
        maps = {f"block{i + 1}": (i, Stage(width, strides[i])) for i, (width, _) in enumerate(found)}
    else:
        # What stands before the stages, at a stride of 2, is no map of a detector.
        kept = {stride: index for index, stride in enumerate(strides) if stride >= 4}
        for number, (stride, index) in enumerate(sorted(kept.items()), start=1):
            maps[f"stage{number}"] = (index, Stage(found[index][0], stride))
    refuses = ""
    unit = max(strides)
    try:
        _maps(network, 10 * unit, 12 * unit)
    except (AssertionError, RuntimeError, ValueError) as error:
        refuses = str(error).splitlines()[0]
    with torch.no_grad():
        pooled = network(torch.zeros(1, 3, size, size, device="meta"))
    unused = _unused(network, size, [index for index, _ in maps.values()])
    windows = plain and isinstance(network, timm.models.VisionTransformer)
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return Facts(pooled.shape[-1], maps, plain, size, refuses, unused, windows, batch_norm)


def _maps(network: Any, height: int, width: int) -> list[tuple[int, int]]:
    """(Width C, height) of every map for images of that size."""
    with torch.no_grad():
        images = torch.zeros(1, 3, height, width, device="meta")
        return [(m.shape[1], m.shape[2]) for m in network.forward_intermediates(images, intermediates_only=True)]


def _unused(network: Any, size: int, indices: list[int]) -> frozenset[str]:
    images = torch.zeros(1, 3, size, size, device="meta")
    total = sum(m.sum() for m in network.forward_intermediates(images, indices=indices, intermediates_only=True))
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return frozenset(name for name, gradient in zip(names, gradients, strict=True) if gradient is None)


def check_size(architecture: TimmArchitecture, size: int, key: str) -> None:
    """Refuse square images of a size that the network cannot take.

    Raises:
        UserError: names `key`, the size, the network and a size that it takes.
    """
    with torch.device("meta"):
        network: Any = create(architecture).eval()
        try:
            with torch.no_grad():
                network(torch.zeros(2, 3, size, size))
        except (AssertionError, RuntimeError, ValueError) as error:
            facts = facts_of(architecture)
            unit = facts.stride
            near = max(unit, round(size / unit) * unit)
            remedy = f"Set {key} {facts.size}" if facts.refuses else f"Set {key} to a multiple of {unit}, e.g. {near}"
            own = ", or give the network another patch size (:patch_size=P behind its name)" if facts.plain else ""
            said = str(error).splitlines()[0].removesuffix(".")
            raise UserError(
                f"{key} is {size}, which {architecture.name} cannot take: {said}. {remedy}{own}."
            ) from error
