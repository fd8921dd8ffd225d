"""Keys of a comparison's YAML, read as the runs' own configs are: `_BASE_`, KEY VALUE overrides, safe loading."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode as CN

from clop_det.config.reading import load_yaml
from clop_det.errors import UserError

# Nodes whose keys are those of the runs, or of submitit.
_OPEN = ("COMPARE.PRETRAIN.OPTS.", "COMPARE.PRETRAIN.GRID.", "COMPARE.LAUNCH.SLURM.")


def add_compare_config(cfg: CN) -> None:
    """Add the comparison's keys and defaults to an empty node, in place."""
    # Folder of the comparison: jobs/ holds the run folders, report/ the report.
    cfg.OUTPUT_DIR = "output/compare"
    cfg.COMPARE = CN()
    # Title of the report; empty: the name of the YAML file.
    cfg.COMPARE.NAME = ""
    # One or two sentences for the head of the report: what is asked, on which data.
    cfg.COMPARE.DESCRIPTION = ""
    # Initialisations: "random", the name of a loss, or a mapping with NAME and
    #   LOSS: loss to pretrain with (default: NAME), OPTS: {config key: value} for its pretraining,
    #   GRID: False to leave it out of PRETRAIN.GRID, USES_LABELS: False if the label fraction does not concern it, or
    #   CHECKPOINT: path of a given checkpoint (then no pretraining), SOURCE: its format ("" = recognised by content).
    cfg.COMPARE.INITS = ["random", "info_nce", "clop"]
    # Name of the initialisation that differences are taken against; it must be in the matrix.
    cfg.COMPARE.BASELINE = "random"
    # Shares of the training labels, each in (0, 1].
    cfg.COMPARE.LABEL_FRACTIONS = [0.1]
    # Seeds >= 0. One seed sets the split, views and order of every initialisation, so differences are paired.
    cfg.COMPARE.SEEDS = [0]

    cfg.COMPARE.PRETRAIN = CN()
    # Pretraining config, relative to the comparison's file (or to the working directory).
    cfg.COMPARE.PRETRAIN.CONFIG = ""
    # Config values of every pretraining: {SOLVER.MAX_ITER: 100, ...}.
    cfg.COMPARE.PRETRAIN.OPTS = CN()
    # Config key -> list of values; every combination is a setting of its own: {SOLVER.BASE_LR: [0.1, 0.3]}.
    cfg.COMPARE.PRETRAIN.GRID = CN()

    # Detection configs, each a mapping with CONFIG and optionally NAME (default: the file's name), OPTS, GRID and
    # SELECT: {BY: data set of DATASETS.TEST on which the best setting of GRID is chosen, REPORT: data set reported}.
    # Empty: the comparison ends with the probes of pretraining.
    cfg.COMPARE.DETECTION = []
    # Device of all runs ("cpu", "cuda"); empty: what their configs say.
    cfg.COMPARE.DEVICE = ""
    cfg.COMPARE.LAUNCH = CN()
    # GPUs per job; above 1 each pretraining and detection is one torchrun group. Results do not depend on it.
    cfg.COMPARE.LAUNCH.GPUS_PER_JOB = 1
    # Parameters of submitit's executor, for --launcher slurm: {timeout_min: 240, slurm_partition: gpu, ...}.
    cfg.COMPARE.LAUNCH.SLURM = CN()
    # Metric that the verdict is about: a column of results.csv.
    cfg.COMPARE.METRIC = "AP"
    # Test images drawn per initialisation in the report; 0: none.
    cfg.COMPARE.EXAMPLES = 4
    # Detections drawn have at least this score, in [0.05, 1].
    cfg.COMPARE.EXAMPLE_SCORE = 0.5


def load_compare_config(path: str | Path, overrides: Sequence[str] = ()) -> CN:
    """Read a comparison: defaults, then the file (and its `_BASE_`), then KEY VALUE pairs; frozen.

    Raises:
        UserError: no such file, not YAML, an unknown key (the nearest known one is named) or a value of another type.
    """
    cfg = CN()
    add_compare_config(cfg)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no comparison config at {path}: give an existing YAML file with --config-file.")
    _merge(cfg, load_yaml(str(path)), str(path))
    for key, value in _pairs(overrides):
        _merge(cfg, nested({key: value}), "the command line")
    if not cfg.COMPARE.NAME:
        cfg.COMPARE.NAME = path.stem
    cfg.freeze()
    return cfg


def flattened(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"A": {"B": 1}} and {"A.B": 1} both become {"A.B": 1}."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flattened(value, name + "."))
        else:
            flat[name] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"A.B": 1} becomes {"A": {"B": 1}}.

    Raises:
        UserError: a key and another one below it.
    """
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{key} is set, and {parent} too, which is a group of keys and takes no value.")
        if isinstance(node.get(leaf), dict):
            raise UserError(f"{key} is a group of keys and takes no value ({value!r}), and keys in it are set, too.")
        node[leaf] = value
    return tree


def nearest(name: str, known: Sequence[str]) -> str:
    """ " Did you mean X?" or an empty string."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f' Did you mean "{match[0]}"?' if match else ""


def _merge(cfg: CN, values: Mapping[str, Any], origin: str) -> None:
    known = sorted(_keys(cfg))
    flat = flattened(values)
    for key in flat:
        if key not in known and not key.startswith(_OPEN):
            raise UserError(f"{origin}: unknown key {key}.{nearest(key, known)}")
    # Below an open node the runs' keys stay dotted: SOLVER.BASE_LR is one entry of COMPARE.PRETRAIN.OPTS.
    tree = nested({key: value for key, value in flat.items() if not key.startswith(_OPEN)})
    try:
        cfg.merge_from_other_cfg(CN(tree))
    except (KeyError, ValueError, AssertionError) as error:
        raise UserError(f"{origin}: {' '.join(str(error).split())}") from error
    for node in _OPEN:
        _, group, name, _ = node.split(".")
        opened = cfg.COMPARE[group][name]
        opened.update({key.removeprefix(node): value for key, value in flat.items() if key.startswith(node)})


def _keys(node: CN, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CN):
            yield from _keys(value, f"{prefix}{key}.")
        yield prefix + key


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for word in overrides:
        if word.startswith("--"):
            raise UserError(f"{word} stands behind the KEY VALUE overrides: put it in front of them.")
    if len(overrides) % 2:
        raise UserError(
            f"overrides come as KEY VALUE pairs, but there are {len(overrides)} words: {' '.join(overrides)}"
        )
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        try:
            yield key, yaml.safe_load(text)
        except yaml.YAMLError:
            yield key, text
