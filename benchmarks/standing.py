"""What `bench.py` runs, and what is aimed at. A new script joins by one line in PARTS; it writes `turns.write_figures`.

`{threads}`, `{clock}` and `{folder}` in the words stand for those of the call and a folder that goes away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One script in a process of its own.

    Attributes:
        name: for `--only` and as a heading.
        script: from the root of the checkout.
        words: its options in both forms.
        short: further options of the short form.
        full: further options of the full form.
        pairs: KEY VALUE pairs, which come last.
        stem: whether its --output takes a path without an ending.
    """

    name: str
    script: str
    words: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    stem: bool = False


@dataclass(frozen=True)
class Aim:
    """What one ratio should be.

    Attributes:
        what: for a person.
        part: of PARTS.
        ratio: its name in the part's file.
        value: it should be at least that, or at most, as the ratio says.
    """

    what: str
    part: str
    ratio: str
    value: float


TURNS = ["--clock", "{clock}", "--threads", "{threads}"]
# The demo's detector and a ResNet-50 with its pyramid on the same scenes, enlarged to 640 px.
LARGE = "MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.RES2_OUT_CHANNELS 256 MODEL.FPN.OUT_CHANNELS 256 SOLVER.IMS_PER_BATCH 2"
LARGE += " INPUT.MIN_SIZE_TRAIN (640,) INPUT.MAX_SIZE_TRAIN 640 PROBE.ENABLED False"
LOSSES = ["--no-memory", *TURNS]
PARTS = [
    Part(
        "pretraining",
        "benchmarks/pretrain.py",
        ["--cases", "resnet18:32", "--batch", "128", "--precision", "fp32", "--workers", "{threads}", *TURNS],
        ["--contenders", "ours", "lightly", "encoder only", "--rounds", "3", "--seconds", "4"],
        ["--rounds", "8", "--seconds", "6"],
    ),
    Part(
        "precision",
        "benchmarks/pretrain.py",
        ["--cases", "resnet18:32", "--batch", "128", "--precision", "bf16", "--workers", "{threads}", *TURNS],
        ["--contenders", "ours", "ours, fp32", "--rounds", "3", "--seconds", "4"],
        ["--contenders", "ours", "ours, fp32", "lightly", "--rounds", "8", "--seconds", "6"],
    ),
    Part(
        "timm",
        "benchmarks/timm_networks.py",
        ["--cases", "timm:convnext_atto", *TURNS],
        ["--batch", "16", "--images", "2", "--rounds", "4", "--steps", "1"],
        ["--rounds", "10"],
    ),
    Part(
        "detection",
        "benchmarks/detection_overhead.py",
        TURNS,
        ["--rounds", "3", "--steps", "3", "--warm-up", "2", "--evaluations", "5"],
        ["--rounds", "7", "--evaluations", "5"],
    ),
    Part(
        "detection at 640 px",
        "benchmarks/detection_overhead.py",
        [*TURNS, "--evaluations", "0", "--warm-up", "1"],
        ["--rounds", "3", "--steps", "1"],
        ["--rounds", "5", "--steps", "3"],
        LARGE.split(),
    ),
    Part("start-up", "benchmarks/start_up.py", [], ["--rounds", "2"], ["--rounds", "5"]),
    Part(
        "losses",
        "benchmarks/losses.py",
        LOSSES,
        ["--min-n", "512", "--max-n", "512", "--seconds-per-size", "15"],
        ["--min-n", "1024", "--max-n", "8192"],
        stem=True,
    ),
    Part(
        "loss overheads",
        "benchmarks/loss_overheads.py",
        LOSSES,
        ["--min-n", "256", "--max-n", "256", "--seconds-per-size", "15"],
        ["--min-n", "256", "--max-n", "1024"],
        stem=True,
    ),
    Part(
        "annotations",
        "benchmarks/coco_scale.py",
        ["--folder", "{folder}/annotations"],
        ["--images", "12000", "--boxes", "87000", "--voc", "1700", "--rounds", "2"],
        ["--rounds", "3"],
    ),
]
# Real photographs beside the checkout, where they are there.
PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "data"
if PHOTOGRAPHS.is_dir():
    streaming = ["--data", "../shared/data", "--clock", "{clock}"]
    rounds = ["--rounds", "3", "--seconds", "0.2"]
    PARTS.append(Part("streaming", "benchmarks/streaming.py", streaming, rounds, ["--rounds", "8"]))
FIRST = "first step: clop-det {} over import torch, torchvision"
SPEED = "training speed of ours over Detectron2"
AIMS = [
    Aim("`--help` of any command, seconds", "start-up", "slowest quick answer, s", 0.5),
    Aim("`--help` of any command, MiB", "start-up", "largest quick answer, MiB", 60),
    Aim("pretraining to its first step, over `import torch, torchvision`", "start-up", FIRST.format("pretrain"), 1.3),
    Aim("start on COCO's annotations, over Detectron2's reader", "annotations", "coco: first start over Detectron2", 1),
    Aim("pretraining step, fp32: speed over lightly", "pretraining", "resnet18:32: ours over lightly", 2.0),
    Aim("pretraining step, bf16: speed over our fp32", "precision", "resnet18:32: ours over ours, fp32", 1.5),
    Aim("crops of 224 px a second, over the best peer", "streaming", "500 x 375: ours over the best peer", 1.5),
    Aim("evaluation with probes, over one without", "detection", "evaluation with probes over without", 1.1),
    Aim("detection step, 128 px: speed over Detectron2", "detection", SPEED, 1.22),
    Aim("detection step, R50-FPN, 640 px: speed over Detectron2", "detection at 640 px", SPEED, 1.0),
]
