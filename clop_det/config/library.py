"""The configs that the package ships, found by name as Detectron2's model zoo finds its own.

In a checkout they lie in `configs/` beside the package, in an installed wheel inside it.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from pathlib import Path

import clop_det
from clop_det.errors import UserError

_PACKAGE = Path(clop_det.__file__).resolve().parent


def library() -> Path:
    """Folder of the shipped configs."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Names of the shipped configs, e.g. "compare/digits.yaml"; sorted."""
    return sorted(path.relative_to(library()).as_posix() for path in library().rglob("*.yaml"))


def find_config(name: str) -> str:
    """The path of a config: `name` itself if it is a file, else the shipped config or Detectron2's zoo config so named.

    Args:
        name: a path, or a name such as "compare/digits.yaml" or "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"; a
            leading "configs/" is allowed.

    Raises:
        UserError: there is neither a file nor such a config; the nearest name is given.
    """
    if "://" in name or (name and os.path.exists(Path(name).expanduser())):  # what is wrong with it, its reader says
        return name if "://" in name else str(Path(name).expanduser())
    short = name.removeprefix("configs/")
    for folder in (library(), _zoo()):
        if folder is not None and short and os.path.isfile(folder / short):
            return str(folder / short)
    names = config_names()
    near = difflib.get_close_matches(short, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(
        f"no config {name}: it is neither a file nor the name of a shipped config.{hint} `clop-det config list` shows"
        " the names."
    )


def _zoo() -> Path | None:
    """Folder of Detectron2's own configs, without importing its model zoo; None if there is none."""
    try:
        spec = importlib.util.find_spec("detectron2")
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model_zoo" / "configs"
    return folder if folder.is_dir() else None
