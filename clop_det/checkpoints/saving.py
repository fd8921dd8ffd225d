"""Checkpoints of runs: whole or not at all, digested, a few kept, and resumed from the newest that verifies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from torch import nn

from clop_det.checkpoints.containers import container_of
from clop_det.checkpoints.integrity import save_torch, sidecar_of, why_damaged
from clop_det.checkpoints.loading import check_all_loaded
from clop_det.checkpoints.newest import checkpoints_in, is_periodic, newest_first, newest_verified
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.errors import UserError
from clop_det.files import write_text


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, for model, optimizer, scheduler and trainer state, made safe.

    Only rank 0 writes. `.pth` files are read with `weights_only`, `.pkl` files through an allow-listed reader.

    Args:
        model: the model; a DistributedDataParallel wrapper is taken off.
        save_dir: folder of the run; "" saves nothing.
        keep: number of periodic checkpoints (`model_0000099.pth`) to keep; files with any other name stay.
        provenance: what every file says of where it comes from (plain values), stored under "provenance".
        save_to_disk: override "only rank 0".
        whole: whether loading refuses a file that lacks any parameter of the model.
        checkpointables: objects with `state_dict` and `load_state_dict`, stored under their names.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        keep: int = 2,
        provenance: Mapping[str, Any] | None = None,
        save_to_disk: bool | None = None,
        whole: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.keep = keep
        self.provenance = provenance
        self.whole = whole

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth with model, checkpointables and `kwargs`, its SHA-256 sidecar, and drop superfluous ones.

        Raises:
            UserError: the folder cannot be written to; the checkpoint that was there before is untouched.
            TypeError: a state holds something other than tensors and plain Python values.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        if self.provenance is not None:
            data["provenance"] = self.provenance
        data.update(kwargs)
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", path)
        save_torch(plain(data), path)
        self.tag_last_checkpoint(path.name)
        self._drop_superfluous(path)

    def ensure_final(self, iteration: int) -> None:
        """Write model_final unless it is there: a kill between the last periodic checkpoint and it must not lose it."""
        path = Path(self.save_dir) / "model_final.pth"
        if self.save_dir and (not path.is_file() or why_damaged(path) is not None):
            self.save("model_final", iteration=iteration)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note the newest file's name for Detectron2's own tools; resuming here does not depend on it."""
        write_text(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Whether the folder holds any checkpoint, readable or not."""
        return bool(self.save_dir) and bool(checkpoints_in(Path(self.save_dir)))

    def get_checkpoint_file(self) -> str:
        """The newest checkpoint that verifies, "" if there is no checkpoint; the same on every rank.

        Raises:
            UserError: there are checkpoints and none verifies.
        """
        found: str | UserError
        try:
            searched = bool(self.save_dir) and comm.is_main_process()
            path = newest_verified(Path(self.save_dir), list(self.checkpointables)) if searched else None
            found = str(path) if path else ""
        except UserError as error:
            found = error
        found = comm.all_gather(found)[0]  # ranks must not resume from different files, nor hang when rank 0 gives up
        if isinstance(found, UserError):
            raise found
        return found

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a file into the model and the checkpointables; returns what is left of it.

        Raises:
            UserError: missing, damaged, unsafe to read, or refused by `check_loaded` (with `whole`: no weights for any
                of the model's parameters in it).
        """
        try:
            extra: dict[str, Any] = super().load(path, *args, **kwargs)
            return extra
        except AssertionError as error:
            raise UserError(f"cannot load checkpoint {path!r}: {error}") from error
        finally:
            self._parsed_url_during_load = None  # Detectron2 forgets this when loading fails

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """With `resume`, everything from the newest checkpoint that verifies; else only the model, from `path`.

        Raises:
            UserError: see `get_checkpoint_file` and `load`.
        """
        newest = self.get_checkpoint_file() if resume else ""
        if newest:
            self.logger.info("Resuming from %s", newest)
            return self.load(newest)
        return self.load(path, checkpointables=[])

    def _drop_superfluous(self, saved: Path) -> None:
        periodic = newest_first(path for path in checkpoints_in(Path(self.save_dir)) if is_periodic(path))
        # Later ones than the one just saved did not verify when the run was resumed: they go first.
        later = periodic.index(saved) if saved in periodic else 0
        for path in (periodic[later:] + periodic[:later])[self.keep :]:
            path.unlink(missing_ok=True)
            sidecar_of(path).unlink(missing_ok=True)
        # What an earlier process was writing when it was killed; this one is the folder's only writer.
        for leftover in Path(self.save_dir).glob(".*.pth.*.tmp"):
            leftover.unlink(missing_ok=True)

    def _load_file(self, filename: str) -> dict[str, Any]:
        path = Path(filename)
        content = read_checkpoint(path)
        if not isinstance(content, dict):
            raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint (a dictionary).")
        if container_of(path) == "pickle" and not ("model" in content and "__author__" in content):
            # Detectron2's rule for its own .pkl files: no author means Caffe2's names.
            blobs = content.get("blobs", content)
            blobs = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
            return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
        if "model_state" in content:  # pycls
            weights = {key: value for key, value in content["model_state"].items() if "num_batches" not in key}
            return {"model": weights, "__author__": "pycls", "matching_heuristics": True}
        return content if "model" in content else {"model": content}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        provenance = checkpoint.get("provenance")
        incompatible = super()._load_model(checkpoint)
        self.check_loaded(incompatible, provenance if isinstance(provenance, dict) else {})
        return incompatible

    def check_loaded(self, incompatible: Any, provenance: Mapping[str, Any]) -> None:
        """Refuse, with UserError, a file that did not give what it must.

        Args:
            incompatible: what fvcore's `_load_model` returned.
            provenance: the file's.
        """
        if self.whole:
            check_all_loaded(self.model, incompatible)


def plain(value: Any, where: str = "state") -> Any:
    """`value` with NumPy numbers and arrays, and subclasses of containers, turned into what `weights_only` accepts.

    Raises:
        TypeError: something else; the message says where.
    """
    if value is None or type(value) in (bool, int, float, str, bytes) or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {plain(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items if isinstance(value, list) else set(items)
    for base in (int, float, str):  # an enum or another subclass of a number or of text
        if isinstance(value, base):
            return base(value)
    raise TypeError(f"{where} is a {type(value).__name__}; checkpoints hold tensors and plain Python values only")
