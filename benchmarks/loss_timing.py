"""What `losses.py` and the two `*_overheads.py` share: time and memory of forward and backward, case by case.

Times: all cases take turns within a round, and the ratios are medians of the ratios within the rounds, so that a busy
machine slows all of them alike. Memory: peak beyond the input, each measurement in a process of its own. A case that
would not fit is left out, with the reason.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loss_cases import FLOOR, OURS, PEERS, Case, build
from torch import Tensor
from turns import CLOCKS, HIGHER, LOWER, in_turns, ratio, seconds_of, spread, write_figures

from clop_det.files import write_text

Record = dict[str, Any]
MIB = 1 << 20


def inputs(images: int, arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """(2N, d) embeddings and (N,) labels, a tenth of them known."""
    generator = torch.Generator().manual_seed(images)
    embeddings = torch.randn(2 * images, arguments.dim, generator=generator)
    labels = torch.randint(10, (images,), generator=generator)
    labels[torch.rand(images, generator=generator) > 0.1] = -1
    return embeddings.to(arguments.device), labels.to(arguments.device)


def step(function: Callable[[Tensor], Tensor], embeddings: Tensor) -> None:
    """Forward and backward, finished when this returns."""
    function(embeddings.detach().requires_grad_()).backward()
    if embeddings.is_cuda:
        torch.cuda.synchronize()


def measure_memory(case: Case, images: int, arguments: argparse.Namespace) -> float:
    """MiB beyond the input, to be called in a fresh process."""
    embeddings, labels = inputs(images, arguments)
    step(build(case, labels[:32], arguments.dim, arguments.temperature), torch.randn_like(embeddings[:64]))
    function = build(case, labels, arguments.dim, arguments.temperature)
    if embeddings.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(function, embeddings)
        return (torch.cuda.max_memory_allocated() - before) / MIB
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = _status("VmRSS")
    step(function, embeddings)
    return (_status("VmHWM") - before) / MIB


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def memory_in_a_fresh_process(case: Case, images: int, arguments: argparse.Namespace) -> float | None:
    """MiB beyond the input, or None where it cannot be measured (no /proc, no room)."""
    own = [*arguments.forwarded, "--memory-of", *case, str(images)]
    run = subprocess.run([sys.executable, sys.argv[0], *own], capture_output=True, text=True, check=False)
    if run.returncode:
        print(f"  memory of {case}, N = {images}: {run.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(json.loads(run.stdout))


def measure_times(cases: list[Case], images: int, arguments: argparse.Namespace) -> dict[Case, list[float]]:
    """Seconds of every case in every round."""
    embeddings, labels = inputs(images, arguments)
    functions = {case: build(case, labels, arguments.dim, arguments.temperature) for case in cases}
    clock = CLOCKS[arguments.clock]
    runs = {
        case: functools.partial(seconds_of, functools.partial(step, function, embeddings), clock)
        for case, function in functions.items()
    }
    warm_up = sum(run() for run in runs.values())
    rounds = min(arguments.max_rounds, max(arguments.min_rounds, int(arguments.seconds_per_size / warm_up)))
    return in_turns(runs, rounds)


def run_size(
    cases: dict[Case, Case], images: int, previous: list[Record], arguments: argparse.Namespace
) -> list[Record]:
    """All cases at one N: one record each. `cases` maps each case to the one that its ratios are to."""
    records: dict[Case, Record] = {}
    for case in cases:
        record: Record = {"n": images, "loss": case[0], "implementation": case[1]}
        record["skipped"] = _reason_to_skip(case, _expected_mib(case, images, previous), arguments)
        if not record["skipped"] and not arguments.no_memory:
            record["peak_mib"] = memory_in_a_fresh_process(case, images, arguments)
        records[case] = record
    times = measure_times([case for case in cases if not records[case]["skipped"]], images, arguments)
    for case, seconds in times.items():
        ours = times[cases[case]]
        records[case].update(
            **{f"{key}_s": value for key, value in spread(seconds).items()},
            rounds=len(seconds),
            ratio=ratio(seconds, ours, HIGHER if case[0] == cases[case][0] else LOWER),
        )
        records[case]["time_ratio"] = records[case]["ratio"]["median"]
        peak, own_peak = records[case].get("peak_mib"), records[cases[case]].get("peak_mib")
        if peak and own_peak:
            records[case]["memory_ratio"] = peak / own_peak
    return list(records.values())


def _title(record: Record, cases: dict[Case, Case]) -> str:
    """What a record's ratio compares: "supcon over info_nce, N = 256"; "" where nothing was compared."""
    case = (record["loss"], record["implementation"])
    other = cases[case]
    if case == other or "ratio" not in record:
        return ""
    same = case[0] == other[0]
    names = (f"{case[0]}: {case[1]}", other[1]) if same else (case[0], other[0])
    return f"{names[0]} over {names[1]}, N = {record['n']}"


def _reason_to_skip(case: Case, expected_mib: float, arguments: argparse.Namespace) -> str | None:
    if case[1] in PEERS:
        try:
            importlib.metadata.version(case[1])
        except importlib.metadata.PackageNotFoundError:
            return "not installed; pip install 'clop_det[bench]'"
    if expected_mib > arguments.memory_limit * 1024:
        return f"would need about {expected_mib / 1024:.1f} GiB"
    return None


def _expected_mib(case: Case, images: int, previous: list[Record]) -> float:
    """Memory that grows with N^2, from the last N at which it was measured; ours and the floor are always tried."""
    known = [r for r in previous if (r["loss"], r["implementation"]) == case and r.get("peak_mib")]
    if case[1] in (OURS, FLOOR) or not known:
        return 0.0
    return float(known[-1]["peak_mib"]) * (images / known[-1]["n"]) ** 2


def describe_machine(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the figures hold for."""
    packages = ("torch", *PEERS)
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    if arguments.device == "cuda":
        processor = torch.cuda.get_device_name()
    else:
        models = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if s.startswith("model name")]
        model = models[0].split(":")[1].strip() if models else platform.machine()
        processor = f"{model}, {torch.get_num_threads()} threads"
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or "unknown",
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "device": f"{arguments.device}: {processor}",
        "clock": f"{arguments.clock} time",
        "load": f"The machine's load average of 15 minutes was {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores.",
        "precision": "float32",
        "dim": arguments.dim,
        "temperature": arguments.temperature,
        "versions": {name: installed[name] for name in packages if name in installed},
    }


def parse(argv: list[str], description: str) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--min-n", type=int, default=256, help="smallest number of images; doubled up to --max-n")
    parser.add_argument("--max-n", type=int, default=8192, help="largest number of images")
    parser.add_argument("--dim", type=int, default=128, help="d, dimensions of an embedding")
    parser.add_argument("--temperature", type=float, default=0.2, help="T")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--min-rounds", type=int, default=3, help="fewest timed rounds per N")
    parser.add_argument("--max-rounds", type=int, default=30, help="most timed rounds per N")
    parser.add_argument("--seconds-per-size", type=float, default=30, help="time for the rounds of one N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's default")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for a busy machine, with --threads 1")
    parser.add_argument("--memory-limit", type=float, default=0, help="GiB a peer may need; 0: 70 %% of what is free")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--output", help="write OUTPUT.md and OUTPUT.json")
    parser.add_argument("--memory-of", nargs=3, metavar=("LOSS", "IMPLEMENTATION", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.forwarded = ["--dim", str(arguments.dim), "--temperature", str(arguments.temperature)]
    arguments.forwarded += ["--device", arguments.device, "--threads", str(arguments.threads)]
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.clock == "cpu" and arguments.device != "cpu":
        parser.error("--clock cpu measures the processor alone; a GPU needs --clock wall")
    if not arguments.memory_limit:
        arguments.memory_limit = 0.7 * _free_gib(arguments.device)
    return arguments


def _free_gib(device: str) -> float:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / 2**30
    memory = Path("/proc/meminfo")
    lines = memory.read_text().splitlines() if memory.exists() else ["MemAvailable: 8388608"]
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 2**20


def run(cases: dict[Case, Case], page: Callable[[list[Record], Record], str], description: str) -> int:
    """Measure the cases and print the page, or, in a child process, measure the memory of one case.

    Args:
        cases: each case, with the one that its ratios are to.
        page: Markdown of the records and the machine.
        description: for `--help`.
    """
    arguments = parse(sys.argv[1:], description)
    if arguments.memory_of:
        loss, implementation, images = arguments.memory_of
        print(json.dumps(measure_memory((loss, implementation), int(images), arguments)))
        return 0
    records: list[Record] = []
    images = arguments.min_n
    while images <= arguments.max_n:
        print(f"N = {images} ...", file=sys.stderr, flush=True)
        records += run_size(cases, images, records, arguments)
        images *= 2
    machine = describe_machine(arguments)
    text = page(records, machine)
    print(text)
    if arguments.output:
        write_text(f"{arguments.output}.md", text)
        ratios = {_title(record, cases): record["ratio"] for record in records if _title(record, cases)}
        write_figures(Path(f"{arguments.output}.json"), arguments, ratios, machine=machine, records=records)
    return 0
