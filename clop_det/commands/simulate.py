"""Learning rate against rank, as pictures, an animation and a table: why contrastive embeddings collapse.

clop-det simulate                       # into output/collapse, about half a minute
clop-det simulate --output FOLDER --seeds 0 1 2 3 4
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from clop_det.commands.common import plain_parser, run_tool
from clop_det.errors import UserError
from clop_det.files import write_json


def main(argv: list[str] | None = None) -> int:
    """Parse, simulate, print the table and where the files are."""
    parser = plain_parser("simulate", str(__doc__))
    parser.add_argument("--output", type=Path, default=Path("output/collapse"), help="folder for the files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the starting points")
    parser.add_argument(
        "--temperatures", type=float, nargs="+", default=[1.0, 0.5, 0.1], help="T; CLOP is simulated at the first"
    )
    args = parser.parse_args(argv)
    for seed in args.seeds:
        if not 0 <= seed < 2**64:
            raise UserError(f"--seeds {seed}: must lie between 0 and 2**64 - 1.")
    for temperature in args.temperatures:
        if not 1e-6 <= temperature <= 1e6:
            raise UserError(f"--temperatures {temperature}: must lie between 1e-06 and 1e+06.")

    import torch

    from clop_det.collapse.study import StudySettings, run_study
    from clop_det.provenance import collect_provenance

    settings = StudySettings(seeds=tuple(args.seeds), temperatures=tuple(args.temperatures))
    # Thousands of small matrices: a second thread waits more than it works.
    torch.set_num_threads(1)
    started = time.monotonic()
    print(f"simulating collapse into {args.output} (about half a minute)", flush=True)
    files = run_study(args.output, settings)
    write_json(
        args.output / "settings.json",
        {"settings": dataclasses.asdict(settings), "provenance": collect_provenance(None)},
    )
    print((args.output / "table.md").read_text(encoding="utf-8"))
    print(f"{time.monotonic() - started:.0f} s; written:", *files, args.output / "settings.json", sep="\n  ")
    return 0


if __name__ == "__main__":
    run_tool(main)
