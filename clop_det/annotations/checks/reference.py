"""The page docs/reference/annotation_checks.md, made from the kinds of fault.

python -m clop_det.annotations.checks.reference > docs/reference/annotation_checks.md
"""

from __future__ import annotations

from clop_det.annotations.checks.kinds import KINDS

_HEAD = """\
# Annotation checks

This page is generated from the code, by
`python -m clop_det.annotations.checks.reference > docs/reference/annotation_checks.md`.

`DATASETS.CHECKS.<KIND>` says what is done about each kind of fault, `repair`, `drop` or `fail`;
[Checks before training](../detection.md#checks-before-training) explains them.
A kind without a repair refuses `repair`.

| kind | what is wrong | default | `repair` means | `drop` leaves out |
|---|---|---|---|---|
"""


def reference() -> str:
    """The page docs/reference/annotation_checks.md."""
    return _HEAD + "".join(
        f"| `{kind.name.upper()}` | {kind.meaning} | {kind.default} | {kind.repair or '-'} | {kind.dropped} |\n"
        for kind in KINDS.values()
    )


if __name__ == "__main__":
    print(reference(), end="")
