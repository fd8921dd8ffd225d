"""The standing measurements on one page, beside those stored before: `make bench`, about ten minutes on two cores.

    python benchmarks/bench.py                           # the short form
    python benchmarks/bench.py --only pretraining losses # some parts; the others keep what is stored
    python benchmarks/bench.py --full                    # more rounds, sets of full size: about an hour

Each part is a script of this folder in a process of its own, which writes its ratios as JSON. They are stored by
machine in docs/results/bench.json, and docs/results/bench.md is written from them: what was stored for this machine
before, what was measured now, and a mark where the two ranges do not overlap. A part that fails is named, keeps what
was stored, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from standing import AIMS, PARTS, Aim, Part
from turns import HIGHER, told

from clop_det.files import read_json, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "docs" / "results" / "bench.json"
SAID = (
    "A ratio is the median of the ratios within rounds in which all take turns, with the smallest and the largest of",
    "them. The last column has a mark where the range before and the range now do not overlap.",
    "[Benchmarks](../../benchmarks/README.md) says what each script compares.",
)
Ratio = Mapping[str, Any]  # median, min, max; better: "higher" or "lower"
Stored = dict[str, dict[str, Any]]  # part -> command, seconds, ratios, ...


def machine(threads: int) -> str:
    """What figures hold for: the processor, what it computes with, threads, and torch."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "processor")
    bf16 = any("bf16" in line for line in lines if line.startswith("flags"))
    capability = f"{torch.backends.cpu.get_cpu_capability()}{', bf16' if bf16 else ''}"
    return f"{model} ({capability}), {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"


def run_part(part: Part, arguments: argparse.Namespace, folder: Path) -> dict[str, Any] | None:
    """Run a script; its command and ratios, or None if it failed, with a line on the standard error."""
    target = folder / f"{part.name}.json"
    # A script with a page of its own takes a stem, for two files.
    words = [part.script, "--output", str(target.with_suffix("") if part.stem else target)]
    words += [word.format(threads=arguments.threads, clock=arguments.clock, folder=folder) for word in part.words]
    words += [*(part.full if arguments.full else part.short), *part.pairs]
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-W", "ignore", *words], cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode or not target.is_file():
        print(f"{part.name}: {part.script} failed (exit code {done.returncode})", file=sys.stderr)
        return None
    found = read_json(target)
    return {
        "command": shlex.join(["python", *words[:1], *words[3:]]).replace(str(folder), "FOLDER"),
        "seconds": round(time.monotonic() - start, 1),
        "clock": arguments.clock,
        "commit": found["provenance"]["commit"],
        "ratios": found["ratios"],
    }


def compared(before: Ratio | None, now: Ratio) -> str:
    """ "better" or "worse" where the ranges do not overlap, else ""."""
    if before is None or (now["min"] <= before["max"] and before["min"] <= now["max"]):
        return ""
    rose = now["min"] > before["max"]
    return "**better**" if rose == (now["better"] == HIGHER) else "**worse**"


def joined(stored: Stored, found: Stored) -> Stored:
    """What is to be stored: parts that were measured, each with the ratios of the time before, and all others."""
    return stored | {part: {**own, "before": stored.get(part, {}).get("ratios", {})} for part, own in found.items()}


def page(name: str, parts: Stored) -> str:
    """Markdown: the aims, then every ratio of every part, as measured last and as stored before."""
    ratios = {(part, what): ratio for part, content in parts.items() for what, ratio in content["ratios"].items()}
    lines = ["# Standing measurements", "", f"`make bench` on: {name}.", "", *SAID, ""]
    lines += ["| what | aim | measured | reached |", "|---|---|---|---|"]
    for aim in AIMS:
        ratio = ratios.get((aim.part, aim.ratio))
        cells = [aim.what, f"{aim.value:g}", *([told(ratio), reached(aim, ratio)] if ratio else ["not measured", ""])]
        lines.append(f"| {' | '.join(cells)} |")
    for part, content in parts.items():
        facts = f"{content['clock']} time, {content['seconds']:.0f} s, commit {str(content['commit'])[:12]}."
        lines += ["", f"## {part}", "", f"`{content['command']}`", "", facts, ""]
        lines += ["| ratio | better | before | now | |", "|---|---|---|---|---|"]
        for what, now in content["ratios"].items():
            before = content["before"].get(what)
            cells = [what, now["better"], told(before) if before else "", told(now), compared(before, now)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def reached(aim: Aim, ratio: Ratio) -> str:
    """Whether the median is what was aimed at."""
    return "yes" if (ratio["median"] - aim.value) * (1 if ratio["better"] == HIGHER else -1) >= 0 else "no"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, store and print; 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--full", action="store_true", help="more rounds, sets of full size: about an hour")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where other programs run, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="1 with --clock cpu")
    parser.add_argument("--stored", type=Path, default=STORED, help="JSON file to compare with and to store into")
    arguments = parser.parse_args(argv)
    name = machine(arguments.threads)
    stored: dict[str, Stored] = read_json(arguments.stored) if arguments.stored.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = [part for part in PARTS if part.name in arguments.only]
        found = {part.name: run_part(part, arguments, Path(folder)) for part in chosen}
    parts = joined(stored.get(name, {}), {part: own for part, own in found.items() if own is not None})
    text = page(name, parts)
    write_json(arguments.stored, {**stored, name: parts})
    write_text(arguments.stored.with_suffix(".md"), text)
    print(text)
    return int(None in found.values())


if __name__ == "__main__":
    sys.exit(main())
