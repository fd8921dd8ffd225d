"""Networks of timm as this package runs them, beside the modules that timm and torchvision make themselves.

    OMP_NUM_THREADS=2 python benchmarks/timm_networks.py --output docs/results/timm_networks.json

Two steps, each forward, backward and update on one batch that lies ready, so that only the network and what is around
it count. In pretraining ours is the trainer's whole step (checks and gradient norm included) with InfoNCE; the others
are timm's or torchvision's network, the same projector, loss and optimiser in a loop of four lines. In detection all
are Faster R-CNN of the digits config; ours has `build_timm_*_backbone`, the others the bare network below Detectron2's
own pyramid. Contenders take turns in one process, another order each round. A ratio is theirs over ours, the median of
the ratios within the rounds: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import copy
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clop_det  # noqa: F401  (makes `import detectron2` work)

# isort: split
import timm
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from pretrain import our_step
from torch import Tensor, nn
from turns import CLOCKS, HIGHER, in_turns, ratio, seconds_of, spread, told, write_figures

from clop_det.backbones.timm_networks.architectures import facts_of, find
from clop_det.config.reading import read_config
from clop_det.detection.model import build_detector
from clop_det.detection.optimizer import build_optimizer as detection_optimizer
from clop_det.losses import build_loss
from clop_det.methods.encoder import build_projector
from clop_det.pretraining.build import check_config
from clop_det.pretraining.data import open_data
from clop_det.pretraining.optimizers import build_optimizer
from clop_det.pretraining.trainer import PretrainTrainer

OURS, TIMM, TORCHVISION = "ours", "timm", "torchvision"
CASES = ["timm:convnext_atto", "timm:vit_tiny_patch16_224:img_size=32:patch_size=8", "timm:convnext_tiny"]
Step = Callable[[], object]


def bare(name: str, whose: str) -> nn.Module:
    """The network that timm or torchvision makes, without a classifier."""
    found = find(name)
    assert found is not None
    if whose == TORCHVISION:
        network: Any = getattr(torchvision.models, found.timm_name)()
        network.classifier[-1] = nn.Identity()
        return network  # type: ignore[no-any-return]
    sizes = {"dynamic_img_size": True} if facts_of(found).plain else {}
    return timm.create_model(found.timm_name, num_classes=0, **dict(found.settings), **sizes)  # type: ignore[no-any-return]


def contenders(name: str) -> list[str]:
    """Who makes the network; torchvision's ConvNeXt stands for what it has under timm's names."""
    found = find(name)
    has = found is not None and found.timm_name.startswith("convnext") and hasattr(torchvision.models, found.timm_name)
    return [OURS, TIMM, *([TORCHVISION] if has else [])]


def pretraining_steps(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Step]:
    """One step of each contender, on the same views."""
    data = f"digits://cluttered?train={max(10, 2 * arguments.batch)}&val=20&size=32"
    options = ["ENCODER.ARCH", name, "CLASSIFICATION.ROOT", data, "SOLVER.IMS_PER_BATCH", str(arguments.batch)]
    options += ["LOSS.NAME", "info_nce", "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "1000000", "OUTPUT_DIR", str(folder)]
    cfg = read_config("pretrain/convnext_atto_digits.yaml", [*options, "SOLVER.PRECISION", "fp32"])
    check_config(cfg)
    steps: dict[str, Step] = {OURS: our_step(cfg, views_once=True)}
    pixels = PretrainTrainer(cfg, open_data(cfg), {}).step.batches(0)[0].stacked
    labels = torch.full((arguments.batch,), -1)
    for whose in contenders(name)[1:]:
        network = bare(name, whose)
        width = network.train()(pixels[:2]).shape[-1]
        model = nn.Sequential(network, build_projector(width, cfg.PROJECTOR.HIDDEN_DIM, cfg.PROJECTOR.OUT_DIM))
        loss, optimizer = build_loss("info_nce", {}, 1, cfg.PROJECTOR.OUT_DIM), build_optimizer(cfg, model)

        def step(model: Any = model, loss: Any = loss, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            sum(loss.parts(model(pixels), labels).values()).backward()
            optimizer.step()

        steps[whose] = step
    return steps


class _Bare(Backbone):
    """A bare network's maps, as a Detectron2 backbone."""

    def __init__(self, name: str, whose: str) -> None:
        super().__init__()
        found = find(name)
        assert found is not None
        facts = facts_of(found)
        names = list(facts.maps)[-1:] if facts.plain else list(facts.maps)
        stages = {key: facts.maps[key][1] for key in names}
        self._shapes = {key: ShapeSpec(channels=stage.width, stride=stage.stride) for key, stage in stages.items()}
        self.plain, self.whose = facts.plain, whose
        if whose == TORCHVISION:
            self.network: Any = bare(name, whose).features
        elif facts.plain:
            self.network = bare(name, whose)
        else:
            self.network = timm.create_model(found.timm_name, features_only=True)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if self.plain:
            maps = self.network.forward_intermediates(images, indices=1, intermediates_only=True)
        elif self.whose == TIMM:
            maps = self.network(images)
        else:
            maps = []
            for index, layer in enumerate(self.network):
                images = layer(images)
                maps += [images] if index % 2 else []
        return dict(zip(self._shapes, maps, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self._shapes


@BACKBONE_REGISTRY.register()
def build_bare_backbone(cfg: Any, input_shape: ShapeSpec) -> nn.Module:
    """The bare network that MODEL.TIMM.ARCH names below the same pyramid as ours; cfg.BARE says whose."""
    network = _Bare(cfg.MODEL.TIMM.ARCH, cfg.BARE)
    names, channels, norm = list(network.output_shape()), cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM
    top = LastLevelMaxPool()
    if network.plain:
        stride = network.output_shape()[names[0]].stride
        scales = [scale for scale in (4.0, 2.0, 1.0, 0.5) if stride / scale >= 4]
        top.in_feature = f"p{round(stride / scales[-1]).bit_length() - 1}"
        return SimpleFeaturePyramid(network, names[0], channels, scales, top, norm)
    top.in_feature = f"p{network.output_shape()[names[-1]].stride.bit_length() - 1}"
    return FPN(network, names, channels, norm, top)


def detection_steps(name: str, arguments: argparse.Namespace) -> dict[str, Step]:
    """One step of each contender on the same images and boxes."""
    found = find(name)
    assert found is not None
    kind = "vitdet_ViT_tiny" if facts_of(found).plain else "ConvNeXt_atto_FPN"
    path = f"detection/digits/faster_rcnn_{kind}_digits.yaml"
    options = ["MODEL.TIMM.ARCH", name, "MODEL.TIMM.MAP_NORM", "none", "SOLVER.PRECISION", "fp32"]
    base: Any = read_config(path, [*options, "PROBE.ENABLED", "False"])
    draw = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(arguments.images):
        instances = Instances((128, 128))
        corner = torch.rand(5, 2, generator=draw) * 80
        instances.gt_boxes = Boxes(torch.cat([corner, corner + 30], dim=1))
        instances.gt_classes = torch.arange(5)
        image = torch.randint(256, (3, 128, 128), generator=draw, dtype=torch.uint8)
        batch.append({"image": image, "instances": instances, "height": 128, "width": 128})
    steps: dict[str, Step] = {}
    for whose in contenders(name):
        cfg = copy.deepcopy(base)
        cfg.defrost()
        cfg.SEED, cfg.BARE = 0, whose
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 10
        if whose != OURS:
            cfg.MODEL.BACKBONE.NAME = "build_bare_backbone"
        model: Any = build_detector(cfg).train()
        optimizer = detection_optimizer(cfg, model, model)

        def step(model: Any = model, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            sum(model(batch).values()).backward()
            optimizer.step()

        steps[whose] = step
    return steps


def timed(steps: dict[str, Step], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds a step, of every contender in every round."""
    for step in steps.values():
        step()
    clock = CLOCKS[arguments.clock]
    runs = {name: functools.partial(seconds_of, step, clock, arguments.steps) for name, step in steps.items()}
    return in_turns(runs, arguments.rounds)


def ratios(label: str, seconds: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Theirs over ours, and a line for each contender."""
    found = {name: ratio(own, seconds[OURS], HIGHER) for name, own in seconds.items()}
    for name, own in seconds.items():
        said = "" if name == OURS else told(found[name])
        print(f"| {label} | {name} | {spread(own)['median']:.4f} | {said} |", flush=True)
    return {f"{label}: {name} over {OURS}": each for name, each in found.items() if name != OURS}


def main() -> None:
    """Print the table; with --output store the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, help="values of ENCODER.ARCH")
    parser.add_argument("--batch", type=int, default=64, help="images of a pretraining step, two views each")
    parser.add_argument("--images", type=int, default=4, help="images of a detection step, 128 px")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="steps of a contender in a round")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: where other programs run meanwhile")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| step of | network | seconds | theirs over ours |\n|---|---|---:|---|")
    seconds: dict[str, dict[str, list[float]]] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            own = {f"pretraining, {name}": timed(pretraining_steps(name, arguments, Path(folder)), arguments)}
        with EventStorage():
            own |= {f"detection, {name}": timed(detection_steps(name, arguments), arguments)}
        for label in own:
            found |= ratios(label, own[label])
        seconds |= own
    write_figures(arguments.output, arguments, found, seconds_a_step=seconds)


if __name__ == "__main__":
    main()
