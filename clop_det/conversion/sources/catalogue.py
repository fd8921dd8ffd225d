"""The projects whose checkpoints people have, and by what each is recognised.

Names are those of the file with dots between nested keys and without wrapper parts such as `module.`. An entry fits
when one network's prefix matches `root` and every pattern of `marks` is found in some name or outermost key.
The first entry that fits wins, so the particular stand before the general.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from clop_det.backbones.base import Family
from clop_det.backbones.parts import DETECTRON2, NUMBERED, OWN, TRANSFORMERS, Root
from clop_det.backbones.registry import BACKBONES

# Outermost keys under which training scripts keep their state dict.
_BOX = r"(?:state_dict\.|model\.|model_state_dict\.|model_state\.|net\.)?"
_INPUT_01 = (
    "SimCLR code often feeds images in [0, 1] without further normalisation; ImageNet's mean and std are assumed."
    " If it did: --pixel-mean 0 0 0 --pixel-std 255 255 255"
)


@dataclass(frozen=True)
class Source:
    """One entry of the catalogue.

    Attributes:
        name: what `--source` takes and the provenance records.
        root: pattern of the backbone's prefix, matched whole.
        marks: patterns, each of which must be found at the start of a name, or be an outermost key.
        why: the reason, in words; {shown}, {shown_detectron2} and {layout} are the family's.
        forms: how the network may be spelled (see `clop_det.backbones.parts.Root`).
        layout: the family's layout that the entry asks for; "" takes any.
        classifier_is_projector: the network's own classifier is the projector (MoCo, SimSiam).
        extra_drops: further (reason, pattern at the start of a name) of this project.
        warning: what the file cannot say and a person should check.
        by_content: whether it can be recognised; the others are only taken when `--source` names them.
    """

    name: str
    root: str
    why: str
    marks: tuple[str, ...] = ()
    forms: tuple[str, ...] = (OWN,)
    layout: str = ""
    classifier_is_projector: bool = False
    extra_drops: tuple[tuple[str, str], ...] = field(default=())
    warning: str = ""
    by_content: bool = True

    def fits(self, root: Root) -> bool:
        """Whether a network of a file can be this source's backbone."""
        named = root.form in self.forms and self.layout in ("", BACKBONES[root.family].layout)
        return named and re.fullmatch(self.root, root.prefix) is not None

    def reason(self, family: Family) -> str:
        """`why`, with the family's words."""
        detectron2 = family.shown_detectron2 or f"{family.name}."
        return self.why.format(shown=family.shown, shown_detectron2=detectron2, layout=family.layout)


_ENTRIES = (
    Source(
        "clop_det",
        r"model\.encoder\.backbone\.",
        "encoder.backbone. beside encoder.projector. and a provenance: a pretraining run of this project",
        marks=(r"model\.encoder\.projector\.", r"provenance$"),
        extra_drops=(("loss state", r"model\.loss\."),),
    ),
    Source(
        "vissl",
        r"(?:classy_state_dict\.base_model\.model\.trunk\.|model_state_dict\.)?(?:base_model\.)?_feature_blocks\.",
        "_feature_blocks., VISSL's name for its trunk",
    ),
    Source(
        "dino",
        rf"{_BOX}teacher\.(?:backbone\.)?",
        "teacher. beside student.: DINO; the teacher is the network that DINO evaluates",
        marks=(rf"{_BOX}student\.",),
        extra_drops=(("student twin", rf"{_BOX}student\."), ("projector", rf"{_BOX}teacher\.head\.")),
    ),
    Source(
        "lightly",
        rf"{_BOX}teacher_backbone\.",
        "teacher_backbone. beside student_backbone.: lightly's DINO; the teacher is the network that DINO evaluates",
        marks=(rf"{_BOX}student_backbone\.",),
        forms=(OWN, NUMBERED),
        extra_drops=(("student twin", rf"{_BOX}student_"), ("projector", rf"{_BOX}teacher_head\.")),
    ),
    Source(
        "huggingface",
        r"(?:.+\.)?",
        "embedder. and encoder.stages.: the ResNet of Hugging Face's transformers",
        forms=(TRANSFORMERS,),
        layout="torchvision",
    ),
    Source(
        "huggingface",
        r"(?:.+\.)?",
        "the names of Hugging Face's transformers",
        forms=(TRANSFORMERS,),
        layout="timm",
    ),
    Source(
        "torchvision",
        r"(?:.+\.)?",
        "torchvision's names of a network that timm has",
        forms=("torchvision",),
        extra_drops=(("classifier", rf"{_BOX}(?:classifier|heads|head|fc)\..+"),),
    ),
    Source(
        "mae",
        _BOX,
        "{shown} beside a decoder: MAE",
        marks=(rf"{_BOX}decoder_blocks\.",),
        layout="timm",
    ),
    Source(
        "dinov3",
        _BOX,
        "storage_tokens, DINOv3's name for its registers",
        marks=(rf"{_BOX}storage_tokens$",),
        layout="timm",
        extra_drops=(("normalisation of local crops", rf"{_BOX}local_cls_norm\."),),
    ),
    Source(
        "dinov3",
        _BOX,
        "the names of ConvNeXt's own code, and norms.3. as its norm.: DINOv3",
        marks=(rf"{_BOX}norms\.3\.",),
        layout="timm",
        extra_drops=(("the same tensors under another name", rf"{_BOX}norms\.3\."),),
    ),
    Source(
        "dinov2",
        _BOX,
        "{shown} beside a mask token, as DINOv2 and its relatives release them",
        marks=(rf"{_BOX}mask_token$",),
        layout="timm",
    ),
    Source(
        "huggingface",
        r"timm_model\.",
        "timm_model.: a timm network in Hugging Face's TimmWrapper",
    ),
    Source(
        "moco",
        rf"{_BOX}encoder_q\.",
        "encoder_q., MoCo's query encoder",
        classifier_is_projector=True,
    ),
    Source(
        "moco_v3",
        rf"{_BOX}base_encoder\.",
        "base_encoder., MoCo v3's encoder",
        classifier_is_projector=True,
    ),
    Source(
        "openselfsup",
        r"state_dict\.(?:backbone|encoder_q\.0|online_net\.0|encoder\.0)\.",
        "backbone. beside neck. or head.: OpenSelfSup, mmselfsup",
        marks=(r"(?:state_dict\.(?:neck|head|encoder_q\.1|online_net\.1|encoder\.1)\.|author$)",),
        extra_drops=(("projector", r"state_dict\.(?:encoder_q|online_net|encoder)\.1\."),),
    ),
    Source(
        "barlow_twins",
        r"model\.backbone\.",
        "backbone. and projector. beside bn. without weight: Barlow Twins",
        marks=(r"model\.projector\.", r"model\.bn\.running_mean"),
        extra_drops=(("normalisation behind the projector", r"model\.bn\."),),
    ),
    Source(
        "vicreg",
        r"model\.backbone\.",
        "backbone. beside projector., saved as 'model' with an epoch: VICReg",
        marks=(r"model\.projector\.", r"epoch$"),
    ),
    Source(
        "lightly",
        rf"{_BOX}(?:backbone|model\.backbone)\.",
        "backbone. with numbered children ({shown} of an nn.Sequential): lightly",
        forms=(NUMBERED,),
    ),
    Source(
        "byol_pytorch",
        rf"{_BOX}(?:online_encoder\.net|net)\.",
        "online_encoder.net. beside target_encoder.: byol-pytorch",
        marks=(rf"{_BOX}online_encoder\.",),
    ),
    Source(
        "byol_pytorch",
        r"online_network_state_dict\.(?:encoder|net|backbone)\.",
        "online_network_state_dict beside target_network_state_dict: PyTorch-BYOL",
        forms=(OWN, NUMBERED),
    ),
    Source(
        "supcontrast",
        r"model\.encoder\.",
        "encoder. beside head., blocks with 'shortcut': SupContrast",
        marks=(r"model\.head\.", r"model\.encoder\.layer\d\.\d+\.shortcut\."),
    ),
    Source(
        "simsiam",
        rf"{_BOX}encoder\.",
        "encoder. with a projector as its fc, beside predictor.: SimSiam",
        marks=(rf"{_BOX}encoder\.fc\.\d", rf"{_BOX}predictor\."),
        classifier_is_projector=True,
    ),
    Source(
        "solo_learn",
        r"state_dict\.(?:backbone|encoder)\.",
        "backbone. beside projector. or classifier. in a Lightning checkpoint: solo-learn",
        marks=(r"pytorch-lightning_version$", r"state_dict\.(?:momentum_)?(?:projector|classifier|predictor)\."),
    ),
    Source(
        "simclr",
        rf"{_BOX}(?:backbone|encoder|convnet|f)\.",
        "an encoder beside a projection (or with one as its fc): SimCLR in PyTorch",
        marks=(rf"{_BOX}(?:projector|projection|projection_head|g|(?:backbone|encoder|convnet)\.fc\.\d)",),
        forms=(OWN, NUMBERED),
        classifier_is_projector=True,
        warning=_INPUT_01,
    ),
    Source(
        "swav",
        _BOX,
        "{shown} beside projection_head. and prototypes.: SwAV, DeepCluster v2",
        marks=(rf"{_BOX}(?:projection_head|prototypes)\.",),
    ),
    Source(
        "timm",
        r"state_dict\.",
        "{shown} under 'state_dict' with 'arch' and 'version': a timm training run",
        marks=(r"arch$", r"version$"),
        extra_drops=(("momentum twin", r"state_dict_ema\."),),
    ),
    Source(
        "timm",
        r"",
        "forced; under {layout}'s names",
        by_content=False,
    ),
    Source(
        "lightning",
        r"state_dict\.(?:.+\.)?",
        "one {layout} network in a Lightning checkpoint",
        marks=(r"pytorch-lightning_version$",),
        forms=(OWN, NUMBERED),
    ),
    Source(
        "torchvision",
        _BOX,
        "{shown} without a prefix: torchvision's names, which timm's and many released backbones share",
        layout="torchvision",
    ),
    Source(
        "timm",
        _BOX,
        "{shown} without a prefix",
        layout="timm",
        extra_drops=(("classifier", rf"{_BOX}head\.(?:fc\.)?(?:weight|bias)$"),),
    ),
    Source(
        "bare",
        _BOX,
        "{shown} without a prefix: {layout}'s names",
    ),
    Source(
        "detectron2",
        r"(?:model\.)?(?:backbone\.)?(?:(?:bottom_up|net)\.)?",
        "{shown_detectron2}: Detectron2",
        warning=(
            "Detectron2's own MSRA networks (R-50.pkl, R-101.pkl) want --channel-order BGR, --pixel-mean 103.53 116.28"
            " 123.675, --pixel-std 1 1 1 and --stride-in-1x1"
        ),
        forms=(DETECTRON2,),
    ),
    Source(
        "prefixed",
        r".+\.",
        "one {layout} network under a prefix of no known project",
        forms=(OWN, NUMBERED),
    ),
)

SOURCES: tuple[Source, ...] = _ENTRIES


def source_names() -> list[str]:
    """The names that `--source` takes, in the order of the catalogue."""
    return list(dict.fromkeys(source.name for source in SOURCES))
