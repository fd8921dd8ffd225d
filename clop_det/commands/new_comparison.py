"""`clop-det compare --new`: asks for data and checkpoints, and writes the comparison that compares them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from clop_det.errors import UserError
from clop_det.files import write_text
from clop_det.keys import nearest

_NETWORKS = {"resnet18": "detection/Base-R_18_FPN.yaml", "resnet50": "detection/Base-R_50_FPN.yaml"}
_LAYOUTS = ("coco", "voc")
_RATES = [0.0025, 0.005, 0.01]
_STEPS = 2000

Ask = Callable[[str], str]


def new_comparison(answers: Ask | None = None) -> Path:
    """Ask on the terminal, write the comparison's YAML, and return its path.

    Args:
        answers: answers a question instead of the terminal.

    Raises:
        UserError: a folder or file that does not exist, an answer that is none of the choices, an output that exists.
    """
    ask = answers or input
    try:
        root = _existing(ask("Folder of your data set: "), "folder")
        layout = _one_of(ask(f"Layout of its annotations, coco or voc [{_guess(root)}]: ") or _guess(root), _LAYOUTS)
        splits = {what: _answer(ask, f"Name of the {what} split", what) for what in ("train", "val")}
        test = ask("Name of the test split; empty if there is none: ").strip()
        if len({*splits.values(), test}) < 3:
            raise UserError("two of the splits are the same images; name each once. Nothing is written.")
        network = _one_of(ask("Network of the checkpoints [resnet18]: ") or "resnet18", tuple(_NETWORKS))
        checkpoints = _checkpoints(ask)
        output = Path(_answer(ask, "File to write", "compare.yaml"))
    except EOFError as error:
        raise UserError("the answers ended before the last question; nothing is written.") from error
    if output.exists():
        raise UserError(f"{output} exists; name another file. Nothing is written.")
    splits |= {"test": test} if test else {}
    content = {"COMPARE": _compare(root, layout, splits, network, checkpoints), "OUTPUT_DIR": f"output/{output.stem}"}
    head = "# Written by `clop-det compare --new`. Every key is explained by `clop-det compare --help`.\n"
    write_text(output, head + yaml.safe_dump(content, sort_keys=False, width=110))
    return output


def _compare(
    root: Path, layout: str, splits: dict[str, str], network: str, checkpoints: dict[str, str]
) -> dict[str, Any]:
    sets = [{"NAME": f"my_{what}", "LAYOUT": layout, "ROOT": str(root), "SPLIT": name} for what, name in splits.items()]
    tuned = "test" in splits
    opts = {
        "DATASETS.REGISTER": sets,
        "DATASETS.TRAIN": ["my_train"],
        "DATASETS.TEST": ["my_val", "my_test"] if tuned else ["my_val"],
        "PROBE.ENABLED": False,
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.MAX_ITER": _STEPS,
        "SOLVER.WARMUP_ITERS": _STEPS // 10,
        "SOLVER.STEPS": [_STEPS * 7 // 10, _STEPS * 9 // 10],
    }
    # Each initialisation gets its own rate, where there are images to choose it on that do not judge.
    tuning = {"GRID": {"SOLVER.BASE_LR": _RATES}, "SELECT": {"BY": "my_val", "REPORT": "my_test"}}
    opts |= {} if tuned else {"SOLVER.BASE_LR": _RATES[1]}
    detection = {"NAME": "my_data", "CONFIG": _NETWORKS[network], "OPTS": opts, **(tuning if tuned else {})}
    return {
        "NAME": "My checkpoints on my data",
        "INITS": ["random", *({"NAME": name, "CHECKPOINT": path} for name, path in checkpoints.items())],
        "BASELINE": "random",
        "SEEDS": [0, 1, 2],
        "DETECTION": [detection],
    }


def _checkpoints(ask: Ask) -> dict[str, str]:
    """Name -> absolute path; a path with {seed} stays a pattern."""
    found: dict[str, str] = {}
    while True:
        text = ask(f"Checkpoint {len(found) + 1} (a file; {{seed}} stands for the seed; empty: no more): ").strip()
        if not text:
            break
        path = Path(text).expanduser().absolute()
        if "{seed}" not in text:
            _existing(text, "file")
        name = re.sub(r"[^A-Za-z0-9_.+-]+", "_", path.stem.replace("{seed}", "")).strip("_-.+")
        name = name or f"checkpoint{len(found) + 1}"
        while name in (*found, "random"):
            name = f"{name}_{len(found) + 1}"
        found[name] = str(path)
    if not found:
        raise UserError("no checkpoint is given, so there is nothing to compare; nothing is written.")
    return found


def _guess(root: Path) -> str:
    return "voc" if (root / "ImageSets").is_dir() or (root / "Annotations").is_dir() else "coco"


def _answer(ask: Ask, question: str, default: str) -> str:
    return ask(f"{question} [{default}]: ").strip() or default


def _one_of(answer: str, choices: tuple[str, ...]) -> str:
    answer = answer.strip().lower()
    if answer not in choices:
        raise UserError(f"{answer!r} is none of {', '.join(choices)}.{nearest(answer, choices)} Nothing is written.")
    return answer


def _existing(answer: str, what: str) -> Path:
    path = Path(answer.strip()).expanduser().absolute()
    if not answer.strip() or not (path.is_dir() if what == "folder" else path.is_file()):
        raise UserError(f"there is no {what} {answer.strip() or 'without a name'}. Nothing is written.")
    return path
