"""Mutated files for a given time: every one must end in a result or in a UserError, soon, and within some memory.

python -m tests.fuzz.campaign --seconds 600             # each target so long; `make fuzz` for hours
python -m tests.fuzz.campaign coco --case 7:1234        # one case again: seed and number
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from clop_det.errors import UserError
from tests.fuzz.targets import PREPARE, Target

HANG = 30.0  # seconds of computing that one file may take
MEMORY = 12 << 30  # bytes of address space; torch alone takes 4 GB of it


class Hang(BaseException):
    """A file took longer than `HANG`."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Within, a call that computes for too long is interrupted, and memory has an end."""

    def interrupt(number: int, frame: object) -> None:
        raise Hang(f"more than {HANG:g} s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGPROF, interrupt)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limits[1]))
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def fault(target: Target, folder: Path, seed: int, number: int) -> str | None:
    """The traceback of case `number` of a seed, or None if it ended in a documented way."""
    rng = random.Random(f"{seed}:{number}")
    name, mutate = rng.choice(target.files)
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(mutate(rng, whole))
    signal.setitimer(signal.ITIMER_PROF, HANG)
    try:
        target.read(folder)
    except UserError:
        pass
    except (Exception, Hang):
        return f"{name}, case {seed}:{number}\n{traceback.format_exc()}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)
    return None


def run(name: str, seconds: float, seed: int, most_faults: int = 5) -> tuple[int, list[str]]:
    """Mutate for `seconds`; how many cases there were, and the faults."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    faults: list[str] = []
    number, end = 0, time.monotonic() + seconds
    try:
        target = PREPARE[name](folder)
        with guarded():
            while time.monotonic() < end and len(faults) < most_faults:
                found = fault(target, folder, seed, number)
                faults += [found] if found else []
                number += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return number, faults


def main() -> int:
    """The command: a line a target, then what was found; exit code 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[*PREPARE, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", type=int, default=5, help="after so many a target ends")
    parser.add_argument("--case", help="SEED:NUMBER of one case")
    args = parser.parse_args()
    failed = False
    for name in args.targets or PREPARE:
        if args.case:
            folder = Path(tempfile.mkdtemp())
            with guarded():
                print(fault(PREPARE[name](folder), folder, *map(int, args.case.split(":"))) or "as documented")
            continue
        count, faults = run(name, args.seconds, args.seed, args.faults)
        print(f"{name}: {count} mutations (seed {args.seed}), {len(faults)} faults", flush=True)
        for text in faults:
            print(text, flush=True)
        failed |= bool(faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
