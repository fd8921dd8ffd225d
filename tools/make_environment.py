#!/usr/bin/env python3
"""Make the virtual environment that `make setup` installs into; run by the interpreter that it is to be made from.

An official Detectron2 that this interpreter can import is kept: the environment then builds on the interpreter's own
packages (its torch is what that Detectron2 was compiled for), and nothing is pinned over it.

  python tools/make_environment.py .venv     make it, and print "official" or "copy": which Detectron2 it is for
  python tools/make_environment.py --stamp   print what the environment depends on: another line, another environment
"""

from __future__ import annotations

import argparse
import importlib.util
import site
import sys
import venv
from pathlib import Path


def official_build() -> str:
    """The file of an official Detectron2 that this interpreter finds; empty if there is none."""
    spec = importlib.util.find_spec("detectron2")
    # A mere folder of that name (an uninstalled clone beside this one) has no file.
    return spec.origin if spec is not None and spec.origin is not None else ""


def make(folder: Path) -> str:
    """Make the environment; returns "official" or "copy"."""
    official = bool(official_build())
    venv.EnvBuilder(system_site_packages=official, with_pip=True, clear=True).create(folder)
    if official and sys.prefix != sys.base_prefix:
        # An environment made from another one sees the packages of the interpreter behind both, not that one's.
        (packages,) = folder.glob("lib/python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
        (packages / "_interpreter.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "official" if official else "copy"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="of the environment")
    parser.add_argument("--stamp", action="store_true", help="print what the environment depends on")
    args = parser.parse_args()
    if args.stamp or args.folder is None:
        print(sys.executable, sys.prefix, sys.version, official_build())
    else:
        print(make(args.folder))


if __name__ == "__main__":
    main()
