"""The command `clop-det`: one name for all of them. Only the command that is asked for is imported."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import clop_det
from clop_det.commands.common import run_tool
from clop_det.errors import UserError
from clop_det.keys import nearest

# Command -> (module in this room, what it does).
COMMANDS = {
    "demo": ("demo", "run the whole chain on embedded handwritten digits"),
    "pretrain": ("pretrain", "pretrain an encoder on images"),
    "convert": ("convert", "turn a checkpoint into a Detectron2 checkpoint, with proof; or back"),
    "train": ("train", "fine-tune and evaluate a detector"),
    "predict": ("predict", "apply a detector to images"),
    "rank": ("rank", "rank checkpoints for a detection data set before any fine-tuning"),
    "compare": ("compare", "run a whole comparison of initialisations, and report"),
    "doctor": ("doctor", "check a fine-tuning run before it starts"),
    "simulate": ("simulate", "show how contrastive embeddings collapse at high learning rates"),
    "config": ("config", "list, show and copy the shipped configs; look config keys up"),
}


def usage() -> str:
    """The text of `clop-det --help`."""
    lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        ["usage: clop-det COMMAND ...", "", *lines, "", "`clop-det COMMAND --help` lists the arguments of a command."]
    )


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code.

    Raises:
        UserError: there is no such command.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version", "version"):
        print(f"clop_det {clop_det.__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise UserError(f"clop-det has no command {words[0]}.{nearest(words[0], list(COMMANDS))} See clop-det --help.")
    module = importlib.import_module(f"clop_det.commands.{COMMANDS[words[0]][0]}")
    return int(module.main(words[1:]))


def run() -> NoReturn:
    """The installed command."""
    run_tool(main)


if __name__ == "__main__":
    run()
