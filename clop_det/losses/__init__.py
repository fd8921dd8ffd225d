"""Losses and prototypes, usable without the rest of the package: torch is their only dependency.

loss = CLOP(InfoNCE(temperature=0.2), orthonormal_prototypes(num_classes=10, dim=128, seed=0), weight=1.0)
value = loss(embeddings, labels)   # (2N, d): first views, then second views; (N,): -1 = unlabelled
"""

import importlib
import pkgutil

from clop_det.losses.assignment import best_assignment
from clop_det.losses.barlow_twins import BarlowTwins
from clop_det.losses.base import Loss
from clop_det.losses.clop import CLOP
from clop_det.losses.cross_entropy import CrossEntropy
from clop_det.losses.dcl import DCL
from clop_det.losses.frames import low_coherence_frame
from clop_det.losses.info_nce import InfoNCE
from clop_det.losses.prototype_pull import PrototypePull
from clop_det.losses.prototype_sets import build_prototypes
from clop_det.losses.prototypes import (
    coherence,
    orthonormal_prototypes,
    random_unit,
    simplex_etf,
    welch_bound,
)
from clop_det.losses.registry import LossContext, build_loss, loss_names, loss_options, register_loss
from clop_det.losses.supcon import SupCon
from clop_det.losses.vicreg import VICReg

__all__ = [
    "CLOP",
    "DCL",
    "BarlowTwins",
    "CrossEntropy",
    "InfoNCE",
    "Loss",
    "LossContext",
    "PrototypePull",
    "SupCon",
    "VICReg",
    "best_assignment",
    "build_loss",
    "build_prototypes",
    "coherence",
    "loss_names",
    "loss_options",
    "low_coherence_frame",
    "orthonormal_prototypes",
    "random_unit",
    "register_loss",
    "simplex_etf",
    "welch_bound",
]

# A loss registers itself when its file is imported, so that a new file in this folder is all that a new loss needs.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
