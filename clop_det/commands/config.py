"""The command `clop-det config`: the shipped configs and the config keys."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from clop_det.commands.common import plain_parser
from clop_det.config.described import keys_like
from clop_det.config.library import config_names, find_config
from clop_det.errors import UserError
from clop_det.files import write_text

_EPILOG = """examples:
  clop-det config list                                  # names that --config-file takes from any folder
  clop-det config show compare/digits.yaml
  clop-det config copy compare/digits.yaml my.yaml      # its _BASE_ and configs stay the shipped ones
  clop-det config keys LABELS                           # keys with this in their name: default, rule, meaning
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = plain_parser("config", "List, show and copy the shipped configs, and look config keys up.", _EPILOG)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | show | copy | keys")
    actions.add_parser("list", help="names of the shipped configs")
    for action, text in (("show", "print a config"), ("copy", "copy a config, to change it")):
        actions.add_parser(action, help=text).add_argument("name", metavar="NAME")
    actions.choices["copy"].add_argument(
        "output", nargs="?", type=Path, metavar="FILE", help="default: its own name here"
    )
    actions.add_parser("keys", help="config keys").add_argument("pattern", nargs="?", default="*", metavar="PATTERN")
    args = parser.parse_args(argv)
    if args.action == "list":
        print("\n".join(config_names()))
    elif args.action == "keys":
        print(keys_like(args.pattern))
    elif args.action == "show":
        path = find_config(args.name)
        print(f"# {path}\n{Path(path).read_text(encoding='utf-8')}", end="")
    else:
        _copy(args)
    return 0


def _copy(args: argparse.Namespace) -> None:
    """Copy a config; paths in it that are relative to its folder become absolute, so that it works anywhere."""
    source = Path(find_config(args.name))
    output: Path = args.output or Path(source.name)
    if output.is_dir():
        output = output / source.name
    if output.exists():
        raise UserError(f"{output} exists already. Name another file.")
    lines = source.read_text(encoding="utf-8").splitlines()
    write_text(output, "\n".join(_with_paths(line, source.parent) for line in lines) + "\n")
    print(f"written: {output}")


def _with_paths(line: str, folder: Path) -> str:
    """The line, where words that name a YAML or Python file in the source's folder are whole paths."""

    def whole(word: re.Match[str]) -> str:
        path = folder / word[0]
        return str(path.resolve()) if path.suffix in (".yaml", ".py") and path.is_file() else word[0]

    return re.sub(r"""[^\s,{}\[\]"']+""", whole, line)
