"""Contrastive losses side by side: ours, the plain 2N x 2N form, lightly, pytorch-metric-learning.

    python benchmarks/losses.py --max-n 8192 --output docs/results/losses

Forward and backward of one batch of N images (2N embeddings); `loss_timing.py` says how time and memory are measured.
"matmul floor" does nothing but the three products 2N x 2N x d that a row-block gradient needs, in blocks.
"""

from __future__ import annotations

import sys
from typing import Any

from loss_cases import CASES, FLOOR, OURS
from loss_timing import run


def table(records: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The records as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Contrastive losses, forward and backward",
        "",
        f"{machine['device']}; {versions}; {machine['precision']}, d = {machine['dim']}, T = {machine['temperature']}.",
        f"N images are 2N embeddings. Times: {machine['clock']}, median (fastest to slowest) of rounds in which all",
        "take turns; the ratios to ours are medians over the rounds. Memory: peak beyond the input, each in a process",
        "of its own. pytorch-metric-learning's InfoNCE is its SupConLoss with a class per image: its NTXentLoss is the",
        "same in value, and needs memory that grows with N^3 (17 GiB at N = 512).",
        "",
        f"    {machine['command']}",
        "",
        f"Commit {machine['commit']}.",
        "",
        "| N | loss | implementation | seconds | time / ours | peak MiB | memory / ours |",
        "|---:|---|---|---:|---:|---:|---:|",
    ]
    for r in records:
        start = f"| {r['n']} | {r['loss']} | {r['implementation']} |"
        if r["skipped"]:
            lines.append(f"{start} {r['skipped']} | | | |")
            continue
        memory = f"{r['peak_mib']:.0f}" if r.get("peak_mib") is not None else "not measured"
        memory_ratio = f"{r['memory_ratio']:.1f}" if "memory_ratio" in r and r["implementation"] != FLOOR else ""
        spread = f"{r['median_s']:.4f} ({r['min_s']:.4f}-{r['max_s']:.4f})"
        lines.append(f"{start} {spread} | {r['time_ratio']:.2f} | {memory} | {memory_ratio} |")
    return "\n".join([*lines, "", *_floor_lines(records, machine["dim"])]) + "\n"


def _floor_lines(records: list[dict[str, Any]], dim: int) -> list[str]:
    lines = [
        "The floor is three products of 2N x 2N x d, nothing else, timed in the same rounds. Ours needs two, because",
        "it uses the symmetry of the similarities, so it can pass 100 %.",
        "",
        "| N | floor, GFLOP | the machine's GFLOP/s in it | floor time / our time |",
        "|---:|---:|---:|---:|",
    ]
    for r in records:
        if r["implementation"] == FLOOR and not r["skipped"]:
            work = 3 * 2 * (2 * r["n"]) ** 2 * dim / 1e9
            lines.append(f"| {r['n']} | {work:.1f} | {work / r['median_s']:.0f} | {100 * r['time_ratio']:.0f} % |")
    return lines


if __name__ == "__main__":
    sys.exit(run({case: (case[0], OURS) for case in CASES}, table, __doc__))
