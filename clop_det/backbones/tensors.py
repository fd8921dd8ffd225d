"""How a file's tensors differ from those of the network that they look like."""

from __future__ import annotations

from collections.abc import Mapping


def differences(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], name: str) -> list[str]:
    """In words, each tensor that is missing, has another shape, or is not in the network called `name`."""
    wrong = []
    for tensor, shape in expected.items():
        if tensor not in shapes:
            wrong.append(f"{tensor} (missing)")
        elif shapes[tensor] != shape:
            wrong.append(f"{tensor} ({shapes[tensor]} instead of {shape})")
    return wrong + [f"{tensor} (not in {name})" for tensor in shapes if tensor not in expected]


def some_of(wrong: list[str]) -> str:
    """The first six, for messages."""
    return ", ".join(wrong[:6]) + (f" and {len(wrong) - 6} more" if len(wrong) > 6 else "")
