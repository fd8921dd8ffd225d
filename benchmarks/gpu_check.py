"""What a first run on a GPU should show, in under 8 minutes on one card: the tests that need one, then the benchmarks.

    make gpu-check        # or: python benchmarks/gpu_check.py --output output/gpu_check

Writes OUTPUT/report.md, the tables for docs/results/pretraining.md and docs/results/detection.md beside what each part
said, and OUTPUT/report.json. A part that fails or takes too long is said and does not stop the others; the exit code is
then 1. Without a GPU the tests are run to show that they skip, and nothing is measured; a card that torch cannot use is
an error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from clop_det.engine.device import unused_gpus
from clop_det.files import read_json, write_json, write_text
from clop_det.provenance import collect_provenance

_ROOT = Path(__file__).resolve().parents[1]
_BUDGET = 470.0  # seconds for everything


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: heading in the report, and the name of its JSON file.
        command: after the interpreter.
        seconds: limit.
        figures: option that takes a JSON file for figures; "" for none.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    figures: str = "--output"


PARTS = (
    Part("tests", ("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"), 240, figures=""),
    Part(
        "pretraining",
        ("benchmarks/pretrain.py", "--device", "cuda", "--batch", "1024", "--images", "4096", "--cases", "resnet18:32",
         "--rounds", "2", "--seconds", "3"),
        120,
    ),
    Part(
        "detection",
        ("benchmarks/detection_overhead.py", "--rounds", "3", "--evaluations", "1", "MODEL.DEVICE", "cuda"),
        120,
    ),
    Part("losses", ("benchmarks/losses.py", "--device", "cuda", "--min-n", "1024", "--max-n", "8192",
                    "--seconds-per-size", "4"), 90),
)  # fmt: skip


def run_part(part: Part, folder: Path, left: float) -> dict[str, object]:
    """Run one part; how it ended, what it said and its figures."""
    # The losses' option names a stem, for two files.
    target = folder / (part.name if part.name == "losses" else f"{part.name}.json")
    # Options stand before the KEY VALUE pairs.
    figures = [part.figures, str(target)] if part.figures else []
    command = (
        [sys.executable, part.command[0], *figures, *part.command[1:]] if figures else [sys.executable, *part.command]
    )
    start = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, timeout=max(1.0, min(part.seconds, left))
        )
        ended, said = done.returncode, done.stdout + ("" if done.returncode == 0 else done.stderr)
    except subprocess.TimeoutExpired as error:
        ended, said = -1, f"took longer than {error.timeout:.0f} s\n{_text(error.stdout)}"
    found = folder / f"{part.name}.json"
    return {
        "command": " ".join(["python", *command[1:]]),
        "exit_code": ended,
        "seconds": round(time.monotonic() - start, 1),
        "said": said[-8000:],
        "figures": read_json(found) if found.is_file() else None,
    }


def _text(said: bytes | str | None) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""


def report(results: dict[str, dict[str, object]], card: str) -> str:
    """Markdown: one section a part, with its command and what it printed (tables are Markdown already)."""
    sections = [
        f"## {name}\n\n`{found['command']}`: exit code {found['exit_code']}, {found['seconds']} s\n\n{found['said']}"
        for name, found in results.items()
    ]
    return f"# GPU check: {card}, torch {torch.__version__}\n\n" + "\n\n".join(sections) + "\n"


def main() -> int:
    """Run the parts; 1 if one failed, 2 if torch cannot use the GPU that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/gpu_check"), help="folder for the report")
    folder = parser.parse_args().output.resolve()
    if not torch.cuda.is_available():
        if unused := unused_gpus("cuda"):
            print(f"error: {unused}", file=sys.stderr)
            return 2
        print("no GPU here: its tests skip, and nothing is measured.", flush=True)
        return subprocess.run([sys.executable, *PARTS[0].command], cwd=_ROOT, check=False).returncode
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, object]] = {}
    end = time.monotonic() + _BUDGET
    for part in PARTS:
        print(f"{part.name} ...", flush=True)
        results[part.name] = run_part(part, folder, end - time.monotonic())
    text = report(results, torch.cuda.get_device_name())
    write_text(folder / "report.md", text)
    write_json(folder / "report.json", {"parts": results, "provenance": collect_provenance()})
    print(text)
    return int(any(found["exit_code"] != 0 for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
