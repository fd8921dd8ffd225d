"""Every loss of this package beside InfoNCE.

    python benchmarks/loss_overheads.py --min-n 256 --max-n 1024 --output docs/results/loss_overheads

Forward and backward of one batch of N images (2N embeddings); `loss_timing.py` says how time and memory are measured.
"""

from __future__ import annotations

import sys
from typing import Any

from loss_cases import OURS, Case
from loss_timing import run

from clop_det.losses import loss_names

REFERENCE: Case = ("info_nce", OURS)
EVERY_LOSS: list[Case] = [REFERENCE, *((name, OURS) for name in loss_names() if name != REFERENCE[0])]


def overheads(records: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The records of every loss beside InfoNCE as Markdown."""
    said = (
        f"Embeddings of d = {machine['dim']}, ten classes, a tenth of the labels. N images are 2N embeddings. The\n"
        "encoder, which takes most of a step, is not in these figures. [Methods](method_overheads.md) have\n"
        "their own page."
    )
    return table("# Every loss beside InfoNCE, forward and backward", said, "loss", "InfoNCE", records, machine)


def table(
    title: str, said: str, kind: str, reference: str, records: list[dict[str, Any]], machine: dict[str, Any]
) -> str:
    """A page of records beside those of `reference`, as Markdown."""
    lines = [
        title,
        "",
        said,
        "",
        f"{machine['device']}; torch {machine['versions']['torch']}; {machine['precision']}. Times:",
        f"{machine['clock']}, median (and range) of rounds in which all take turns; the ratios are medians over the",
        "rounds. Memory: peak beyond what is there before the step, each in a process of its own.",
        machine["load"],
        "",
        f"    {machine['command']}",
        "",
        f"Commit {machine['commit']}.",
        "",
        f"| N | {kind} | seconds | time / {reference} | peak MiB |",
        "|---:|---|---:|---:|---:|",
    ]
    for r in records:
        spread = f"{r['median_s']:.4f} ({r['min_s']:.4f}-{r['max_s']:.4f})"
        memory = "not measured" if r.get("peak_mib") is None else f"{r['peak_mib']:.0f}"
        lines.append(f"| {r['n']} | {r['loss']} | {spread} | {r['time_ratio']:.2f} | {memory} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run(dict.fromkeys(EVERY_LOSS, REFERENCE), overheads, __doc__))
