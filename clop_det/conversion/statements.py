"""What a file says of itself in its own way: how its images were fed, in tensors, arguments or files beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor

from clop_det.backbones.base import Family
from clop_det.backbones.parts import IMAGENET_MEAN
from clop_det.errors import UserError
from clop_det.files import read_json

# Files beside the weights in a folder of Hugging Face's hub; their keys stand behind the file's name.
_BESIDE = ("config.json", "preprocessor_config.json")
_HUB_NAMES = ("model", "pytorch_model")
# Pairs of names for mean and std: the last part of a key or of a tensor's name.
_PAIRS = (
    ("mean", "std"),
    ("new_mean", "new_std"),
    ("pixel_mean", "pixel_std"),
    ("image_mean", "image_std"),
    ("img_mean", "img_std"),
    ("mu", "sigma"),
)
_OF_255 = ("pixel_mean", "data_preprocessor")  # Detectron2's and mmengine's names, on the scale of 0 to 255
# A tensor called mean or std may be anything; these parts say that it is of images.
_OF_IMAGES = ("normalize", "normalise", "normalizer", "normaliser", "normalization", "data_preprocessor", "preprocess")
_LIBRARIES = ("args.", "config.json.", "preprocessor_config.json.", "hyper_parameters.", "pretrained_cfg.")


@dataclass(frozen=True)
class Statements:
    """How images were fed, as far as a file says it.

    Attributes:
        conventions: field of the provenance -> value.
        where: the names that say it, for messages; "" if nothing does.
    """

    conventions: dict[str, Any] = field(default_factory=dict)
    where: str = ""


def facts_beside(path: Path) -> dict[str, Any]:
    """What configuration files of Hugging Face beside weights say, as `config.json.KEY`.

    Args:
        path: the weights, or the folder that holds them.

    Raises:
        UserError: one is damaged.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and not path.name.startswith(_HUB_NAMES):
        return {}
    found: dict[str, Any] = {}
    for name in _BESIDE:
        if (folder / name).is_file():
            content = read_json(folder / name)
            if isinstance(content, dict):
                flat = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
                nested = content.get("pretrained_cfg")  # timm's
                flat |= {f"pretrained_cfg.{k}": v for k, v in nested.items()} if isinstance(nested, Mapping) else {}
                found |= {f"{name}.{key}": value for key, value in flat.items()}
    return found


def statements_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], family: Family) -> Statements:
    """What a file says of how its images were fed.

    Args:
        tensors: all of its tensors that no one asked to leave out.
        facts: plain values beside them.
        family: of its network.

    Raises:
        UserError: it says two things that differ.
    """
    said = {**_in_facts(facts), **_in_tensors(tensors)}  # in words first: tensors may be of half precision
    values = list(said.values())
    if any(not all(map(_same, value[:2], values[0][:2])) for value in values[1:]):
        both = "; ".join(f"{where}: mean {_short(mean)}, std {_short(std)}" for where, (mean, std, _) in said.items())
        raise UserError(
            f"the file says in several ways how its images were fed, and they differ ({both}). Leave tensors out that"
            " say it wrongly with --drop NAME."
        )
    conventions = family.conventions_said(facts)
    if not values:
        return Statements(conventions)
    mean, std, _ = values[0]
    order = next((order for *_, order in values if order), "")
    conventions |= {"pixel_mean": list(mean), "pixel_std": list(std)} | ({"channel_order": order} if order else {})
    return Statements(conventions, ", ".join(said))


_Said = tuple[tuple[float, ...], tuple[float, ...], str]  # mean and std on the scale of 0 to 255, channel order or ""


def _in_tensors(tensors: Mapping[str, Tensor]) -> dict[str, _Said]:
    found = {}
    for name, tensor in tensors.items():
        parent, _, last = name.rpartition(".")
        other = dict(_PAIRS).get(last)
        std = tensors.get(f"{parent}.{other}" if parent else str(other))
        if other is None or std is None or tensor.numel() != 3 or std.numel() != 3:
            continue
        parts = name.split(".")
        if last in ("mean", "std", "mu", "sigma") and not any(part in _OF_IMAGES for part in parts) and parent:
            continue
        mean, std_values = (tuple(value.flatten().double().tolist()) for value in (tensor, std))
        if all(map(math.isfinite, (*mean, *std_values))):
            found[name] = _scaled(mean, std_values, any(part in _OF_255 for part in parts))
    return found


def _in_facts(facts: Mapping[str, Any]) -> dict[str, _Said]:
    found = {}
    for key, mean in facts.items():
        parent, _, last = key.rpartition(".")
        other = dict(_PAIRS).get(last)
        std = facts.get(f"{parent}.{other}" if parent else str(other))
        if not (_is_three(mean) and _is_three(std)):
            continue
        if facts.get(f"{parent}.do_normalize") is False:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        numbers = (tuple(float(value) for value in mean), tuple(float(value) for value in std))
        # transformers' preprocessors multiply by 1/255 first, unless they are told not to.
        scaled = _scaled(*numbers, of_255=facts.get(f"{parent}.do_rescale") is False or last == "pixel_mean")
        order = scaled[2] or ("RGB" if key.startswith(_LIBRARIES) else "")  # these libraries read images with PIL
        found[key] = (*scaled[:2], order)
    return found


def _is_three(value: Any) -> TypeGuard[Sequence[float]]:
    three = isinstance(value, list | tuple) and len(value) == 3
    return three and all(isinstance(item, int | float) and math.isfinite(item) for item in value)


def _scaled(mean: tuple[float, ...], std: tuple[float, ...], of_255: bool) -> _Said:
    scale = 1.0 if of_255 or max(map(abs, (*mean, *std))) > 1 else 255.0
    # The last binary digits of a float32 go; those of a half-precision number stay.
    mean, std = (tuple(float(f"{value * scale:.6g}") for value in values) for values in (mean, std))
    return mean, std, "RGB" if _near(mean, IMAGENET_MEAN) else "BGR" if _near(mean, IMAGENET_MEAN[::-1]) else ""


def _same(values: tuple[float, ...], others: tuple[float, ...]) -> bool:
    """Whether two statements agree to what bfloat16 keeps of a number."""
    return all(math.isclose(one, two, rel_tol=0.004) for one, two in zip(values, others, strict=True))


def _near(mean: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(one - two) < 1 for one, two in zip(mean, other, strict=True))


def _short(values: tuple[float, ...]) -> str:
    return str([round(value, 3) for value in values])
