"""Every method beside one encoder with InfoNCE: the step of each recipe for the digits, without data and optimiser.

    python benchmarks/method_overheads.py --min-n 64 --max-n 64 --output docs/results/method_overheads

Forward, backward and `after_step` of one batch of N images; `loss_timing.py` says how time and memory are measured.
"""

from __future__ import annotations

import sys
from typing import Any

from loss_cases import METHOD, Case
from loss_overheads import table
from loss_timing import run

from clop_det.methods import METHODS

REFERENCE: Case = ("single", METHOD)
OTHERS: list[Case] = [(name, METHOD) for name in METHODS.names() if name != REFERENCE[0]]


def overheads(records: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The records of every method beside `single` as Markdown."""
    said = (
        "Each row is a step of `configs/pretrain/<method>_digits.yaml` (ResNet-18, views of 32 pixels, ten classes, a\n"
        "tenth of the labels): forward, backward and what follows the update. `single` is one encoder with InfoNCE.\n"
        "Making the views and the optimiser are not in these figures. A teacher, a queue or a bank is there before\n"
        "the step and not in its memory; a teacher of this network is 45 MB."
    )
    return table("# Every method beside one encoder with InfoNCE", said, "method", "single", records, machine)


if __name__ == "__main__":
    sys.exit(run(dict.fromkeys([REFERENCE, *OTHERS], REFERENCE), overheads, __doc__))
