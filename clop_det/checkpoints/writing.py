"""Output files that are proved before they get their name: written aside, checked, then renamed."""

from __future__ import annotations

import json
import os
import pickle
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clop_det.checkpoints.integrity import digested_write, save_torch, sidecar_of
from clop_det.errors import UserError
from clop_det.files import atomic_write, sha256_of, write_text


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A path in `output`'s folder to write to; it becomes `output`, with a SHA-256 sidecar, if the block succeeds.

    An exception in the block leaves no new file, and an older `output` as it was.

    Raises:
        UserError: the folder cannot be written to.
    """
    staging = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.staging")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield staging
        digest = sha256_of(staging)
        sidecar_of(output).unlink(missing_ok=True)
        os.replace(staging, output)
        write_text(sidecar_of(output), f"{digest}  {output.name}\n")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}. Choose another folder.") from error
    finally:
        for leftover in (staging, sidecar_of(staging)):
            with suppress(OSError):  # nothing there, or no folder either
                leftover.unlink()


def write_detectron2(
    path: Path, state: Mapping[str, Tensor], provenance: Mapping[str, Any], *, as_pickle: bool = False
) -> None:
    """Write tensors (Detectron2's names) so that Detectron2 loads them into FPN and C4 detectors alike.

    Args:
        path: the file.
        state: the tensors.
        provenance: plain values; Detectron2 ignores them.
        as_pickle: a `.pkl` of NumPy arrays, as Detectron2's model zoo has them, not a `.pth`.
    """
    if as_pickle:
        # NumPy has no bfloat16.
        arrays = {
            name: (t.float() if t.dtype == torch.bfloat16 else t).detach().cpu().numpy() for name, t in state.items()
        }
        # Without an author Detectron2 takes a .pkl for Caffe2's, without the flag it renames nothing.
        content = {
            "model": arrays,
            "__author__": "clop_det",
            "matching_heuristics": True,
            "provenance": dict(provenance),
        }
        with digested_write(path) as file:
            pickle.dump(content, file, protocol=4)
        return
    # Cloned: a slice of a larger storage would otherwise drag the whole storage into the file.
    model = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    save_torch({"model": model, "matching_heuristics": True, "provenance": dict(provenance)}, path)


def write_named(path: Path, state: Mapping[str, Tensor], provenance: Mapping[str, Any], container: str) -> None:
    """Write tensors under torchvision's names.

    Args:
        path: the file.
        state: the tensors.
        provenance: goes into the file's metadata (safetensors) or beside the `state_dict`.
        container: "safetensors"; "state_dict" (`{"state_dict": ..., "arch": ..., "provenance": ...}`, which timm's
            loader reads) or "flat" (only the tensors, as torchvision's own files: no room for the provenance).
    """
    model = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    if container == "safetensors":
        from safetensors.torch import save

        metadata = {"format": "pt", "provenance": json.dumps(dict(provenance))}
        with atomic_write(path) as file:
            file.write(save(model, metadata=metadata))
    elif container == "state_dict":
        save_torch({"arch": provenance.get("arch"), "state_dict": model, "provenance": dict(provenance)}, path)
    else:
        save_torch(model, path)
