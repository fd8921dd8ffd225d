"""Checkpoints of every container."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from clop_det.checkpoints.reading import read_checkpoint, read_provenance
from clop_det.conversion.contents import flatten
from tests.fuzz.mutations import mutated_bytes
from tests.fuzz.targets.target import Target


def some_weights() -> dict[str, Any]:
    state = {"conv1.weight": torch.randn(4, 3, 3, 3), "bn1.bias": torch.zeros(4), "n": torch.tensor(3)}
    provenance = {"arch": "resnet18", "loss": "clop", "pixel_mean": [1.0, 2.0, 3.0]}
    return {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3, "provenance": provenance}


def read_weights(path: Path) -> None:
    for verify in (True, False):
        try:
            flatten(read_checkpoint(path, verify=verify), path)
        finally:
            read_provenance(path)


def prepare_pth(folder: Path) -> Target:
    torch.save(some_weights(), folder / "a.pth")
    torch.save(some_weights(), folder / "old.pth", _use_new_zipfile_serialization=False)

    def read(_: Path) -> None:
        read_weights(folder / "a.pth")
        read_weights(folder / "old.pth")

    return Target([("a.pth", mutated_bytes), ("old.pth", mutated_bytes)], read)


def prepare_pkl(folder: Path) -> Target:
    arrays = {"conv1_w": np.ones((4, 3, 3, 3), np.float32), "res2": [np.arange(3), np.float64(2), (b"x", "y", None)]}
    for protocol in (0, 2, 4, 5):
        with (folder / f"{protocol}.pkl").open("wb") as file:
            pickle.dump({"model": arrays, "__author__": "a", "shared": [arrays["res2"]] * 2}, file, protocol)

    def read(_: Path) -> None:
        for protocol in (0, 2, 4, 5):
            read_weights(folder / f"{protocol}.pkl")

    return Target([(f"{protocol}.pkl", mutated_bytes) for protocol in (0, 2, 4, 5)], read)


def prepare_safetensors(folder: Path) -> Target:
    state = {"model.conv1.weight": torch.randn(4, 3, 3, 3), "model.bn1.bias": torch.zeros(4)}
    save_file(state, folder / "a.safetensors", {"provenance": json.dumps({"arch": "resnet18", "seed": 3})})
    return Target([("a.safetensors", mutated_bytes)], lambda _: read_weights(folder / "a.safetensors"))


def prepare_distributed(folder: Path) -> Target:
    dcp.save(some_weights(), checkpoint_id=folder / "dcp", no_dist=True)

    def read(_: Path) -> None:
        flatten(read_checkpoint(folder / "dcp", verify=False), folder)

    return Target([("dcp/.metadata", mutated_bytes)] * 3 + [("dcp/__0_0.distcp", mutated_bytes)], read)
