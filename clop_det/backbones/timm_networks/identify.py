"""Which of timm's networks some tensors are."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from clop_det.backbones.tensors import differences, some_of
from clop_det.backbones.timm_networks.architectures import PREFIX, TimmArchitecture, create, find, named
from clop_det.errors import UserError

_KINDS = (
    r"patch_embed\.proj\.weight",  # plain transformers, Swin, hiera
    r"stages\.0\.blocks\.0\.conv_dw\.weight",  # ConvNeXt
    r"s1\.b1\.conv1\.conv\.weight",  # RegNet
    r"conv_stem\.weight",  # EfficientNet, MobileNet
    r"stages\.0\.blocks\.0\..+\.weight",
    r"conv1\.0\.weight",  # ResNets with a deep stem
    r"layer1\.0\.conv1\.weight",  # those of the residual family come first
)
ANCHORS = tuple(re.compile(rf"(?P<root>(?:.+\.)?){kind}") for kind in _KINDS)

# First parts of the names of networks; what else a file holds beside them is judged by the rules for leftovers.
PARTS = re.compile(
    r"(bn\d|blocks|cls_token|conv1|conv_head|conv_stem|dist_token|downsample_layers|fc_norm|features|final_conv"
    r"|head(?=\.(norm|pre_logits))|layer\d|layers|norm|norm_head|norm_pre|patch_embed|patch_embeds|pos_block|pos_embed"
    r"|pos_embed_win(dow)?|reg_token|rope|s\d|stages(_\d)?|stem)(?![^.])"
)
Shapes = dict[str, tuple[int, ...]]
_WIDTHS = {64: "test", 192: "tiny", 384: "small", 512: "medium", 768: "base", 1024: "large", 1280: "huge"}
_WIDTHS |= {1536: "giant", 4096: "7b"}


def identify(state: Mapping[str, Tensor], hints: Iterable[str], is_own_name: Callable[[str], bool]) -> TimmArchitecture:
    """The network whose tensors `state` holds, all of them and no others.

    Args:
        state: tensors under timm's names.
        hints: names that the file, or its user, gives to the network; timm's names count.
        is_own_name: whether a detector carries a tensor.

    Raises:
        UserError: no known network has these tensors; says how the nearest differs.
    """
    shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    nearest: tuple[int, str] | None = None
    for candidate in _candidates(shapes, hints):
        try:
            fitted = fit(candidate, shapes)
            expected = {name: shape for name, shape in _default_shapes(fitted).items() if is_own_name(name)}
        except UserError:  # no such network can be built with what the tensors show
            continue
        wrong = differences(shapes, expected, fitted.name)
        if not wrong:
            return fitted
        if nearest is None or len(wrong) < nearest[0]:
            nearest = len(wrong), f" The nearest is {fitted.name}, of which {len(wrong)} do not fit: {some_of(wrong)}."
    raise UserError(
        f"the {len(shapes)} tensors are those of no network of timm that was tried.{nearest[1] if nearest else ''} If"
        " you know which it is, say so with --arch timm:NAME."
    )


def meant(name: str) -> TimmArchitecture | None:
    """The network of timm that a name in a file means; None: timm has no such network."""
    try:
        return find(name if name.startswith(PREFIX) else PREFIX + name.split("/")[-1])
    except UserError:
        return None


def _candidates(shapes: Shapes, hints: Iterable[str]) -> Iterator[TimmArchitecture]:
    tried = set()
    for name in (*hints, *_names(shapes)):
        found = meant(name)
        if found is not None and found.name not in tried:
            tried.add(found.name)
            yield found


def _names(shapes: Shapes) -> list[str]:
    """Names of networks whose kind, width and depth the tensors show, the commonest first."""
    import timm

    if "stages.0.blocks.0.conv_dw.weight" in shapes:
        width = shapes["stages.0.blocks.0.conv_dw.weight"][0]
        first = {40: "atto", 48: "femto", 64: "pico", 80: "nano", 96: "", 128: "base", 192: "large", 256: "xlarge"}
        version = "convnextv2" if any(".grn." in name for name in shapes) else "convnext"
        known = [first[width]] if first.get(width) else ["tiny", "small"]
        return [name for size in known for name in timm.list_models(f"{version}_{size}*")] + ["test_convnext"]
    if any("relative_position_bias_table" in name for name in shapes):
        return list(timm.list_models("swin_*"))
    if "blocks.0.attn.qkv.weight" in shapes and "patch_embed.proj.weight" in shapes:
        return _transformers(shapes)
    if "layer1.0.conv1.weight" in shapes:
        return _residual(shapes)
    if "s1.b1.conv1.conv.weight" in shapes:
        kind = "regnety" if any(".se." in name for name in shapes) else "regnetx"
        return list(timm.list_models(f"{kind}_*"))
    return []


def _transformers(shapes: Shapes) -> list[str]:
    width, _, patch, _ = shapes["patch_embed.proj.weight"]
    size = _WIDTHS.get(width, "*")
    if any(".ls1.gamma" in name for name in shapes):
        plain = f"vit_{size}_patch14_{'reg4_' if 'reg_token' in shapes else ''}dinov2"
        return [plain] if size != "test" else ["test_vit2", "test_vit3"]
    if "blocks.0.gamma_1" in shapes and "reg_token" in shapes:
        import timm

        return list(timm.list_models(f"vit_{size}_*patch{patch}_dinov3*"))
    clip = [f"vit_{size}_patch{patch}_clip_224"] if "norm_pre.weight" in shapes else []
    return [*clip, f"vit_{size}_patch{patch}_224", f"vit_{size}_patch16_224", "test_vit"]


def _residual(shapes: Shapes) -> list[str]:
    import timm

    blocks = len({tuple(name.split(".")[:2]) for name in shapes if name.startswith("layer")})
    depth = blocks * (3 if "layer1.0.conv3.weight" in shapes else 2) + 2
    return [name for name in timm.list_models("*res*") if re.search(rf"(?<!\d){depth}(?!\d)", name)]


def fit(architecture: TimmArchitecture, shapes: Shapes) -> TimmArchitecture:
    """The architecture with the patch size, the image size and the pooling that tensors show."""
    settings: dict[str, Any] = dict(architecture.settings)
    made = _default_shapes(architecture)
    kernel, own = shapes.get("patch_embed.proj.weight"), made.get("patch_embed.proj.weight")
    patch = kernel[-1] if kernel and len(kernel) == 4 else 0
    if kernel and own and patch != own[-1]:
        settings["patch_size"] = patch
    for name, setting in (("cls_token", "class_token"), ("reg_token", "reg_tokens")):
        if name in made and name not in shapes:
            settings[setting] = False if setting == "class_token" else 0
    if "fc_norm.weight" in shapes and "fc_norm.weight" not in made and "norm.weight" not in shapes:
        settings["global_pool"] = "avg"
    fitted = named(architecture.timm_name, settings)
    positions = shapes.get("pos_embed")
    if positions and patch and len(positions) == 3 and "pos_embed" in made:
        settings |= _image_size(fitted, positions, patch)
    return named(architecture.timm_name, settings)


def _image_size(architecture: TimmArchitecture, positions: tuple[int, ...], patch: int) -> dict[str, Any]:
    try:
        there = _default_shapes(architecture)["pos_embed"]
    except UserError:
        return {}
    if there == positions:
        return {}
    for prefix in range(6):
        side = round((positions[1] - prefix) ** 0.5) if positions[1] > prefix else 0
        if side > 0 and side * side == positions[1] - prefix:
            sized = named(architecture.timm_name, {**dict(architecture.settings), "img_size": side * patch})
            if _default_shapes(sized).get("pos_embed") == positions:
                return {"img_size": side * patch}
    return {}


@functools.cache
def _default_shapes(architecture: TimmArchitecture) -> Shapes:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in create(architecture).state_dict().items()}
