"""From the config node CLASSIFICATION to the images of a split: stored if small, streamed if large."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clop_det.data.flat import check_not_flat
from clop_det.data.image_list import ImageList, joined
from clop_det.data.images import Images
from clop_det.data.layouts import layout_options, read_images
from clop_det.data.layouts.folder import read_unlabelled
from clop_det.data.store import open_store
from clop_det.data.streaming import open_stream
from clop_det.data.unreadable import Unreadable
from clop_det.data.views import BatchViews, ViewPlan
from clop_det.engine.seeding import generator
from clop_det.errors import UserError

_log = logging.getLogger(__name__)


class ClassificationImages(Protocol):
    """The images of one split, stored or streamed."""

    @property
    def images(self) -> Images:
        """(N, 3, S, S) uint8 RGB, the central squares; read when they are asked for."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64, -1 = unlabelled."""

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names."""

    @property
    def files(self) -> tuple[str, ...]:
        """N names."""

    def __len__(self) -> int: ...

    def views(self, plan: ViewPlan, device: torch.device) -> BatchViews:
        """The views of the batches of `plan`, on `device`."""


def list_images(settings: Mapping[str, Any], split: str) -> ImageList:
    """The images of one split as CLASSIFICATION.* says; those of UNLABELLED_ROOT belong to TRAIN_SPLIT.

    The classes are those of TRAIN_SPLIT and EVAL_SPLIT together.

    Raises:
        UserError: no ROOT, or see `read_images` and `read_unlabelled`.
    """
    if not settings["ROOT"]:
        raise UserError("CLASSIFICATION.ROOT is empty; it must name a folder of images (or a digits:// address).")
    used = (settings["TRAIN_SPLIT"], settings["EVAL_SPLIT"])
    listed = read_images(settings["LAYOUT"], settings["ROOT"], split, used, **layout_options(settings))
    if settings["UNLABELLED_ROOT"] and split == settings["TRAIN_SPLIT"]:
        listed = joined([listed, read_unlabelled(settings["UNLABELLED_ROOT"], listed.classes)])
    return listed


def open_images(settings: Mapping[str, Any], listed: ImageList, workers: int = 0) -> ClassificationImages:
    """Open `listed`: decoded into a store if IMAGE_SIZE is at most STORE_MAX_SIZE, else streamed by `workers`.

    Raises:
        UserError: see `check_not_flat` and `open_store`.
    """
    source = listed.source
    check_not_flat(listed.files, lambda index: np.asarray(source.image(index)), source.content)
    size, limit = settings["IMAGE_SIZE"], settings["STORE_MAX_SIZE"]
    unreadable = Unreadable.from_config(settings)
    if size <= limit:
        store = open_store(listed, size, unreadable=unreadable)
        _log.info("%d images of %d px decoded once, in %s", len(store), size, store.folder)
        return store
    _log.info(
        "%d images of %s stream, since %d px is more than CLASSIFICATION.STORE_MAX_SIZE %d: decoded for each batch by"
        " %d worker processes (DATALOADER.NUM_WORKERS)",
        *(len(listed), listed.root, size, limit, workers),
    )
    return open_stream(listed, size, workers, unreadable, settings["STREAM_CROPS"])


def probe_indices(labels: Tensor, limit: int = 0, seed: int = 0, purpose: str = "probe bank") -> Tensor:
    """Sorted indices of the images that a probe uses: all labelled ones, or a seeded subset of `limit` (0: all).

    Subsets for another `purpose` are drawn independently.
    """
    labelled = (labels >= 0).nonzero().view(-1)
    if not limit or limit >= len(labelled):
        return labelled
    order = torch.randperm(len(labelled), generator=generator(seed, purpose))
    return labelled[order[:limit].sort().values]
