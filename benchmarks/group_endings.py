"""How a two-process command ends, many times over: exit codes, and what an ending other than 0 said.

    python benchmarks/group_endings.py --runs 100               # as the tools end
    python benchmarks/group_endings.py --runs 100 --load 4      # beside so many processes that keep the cores busy
    python benchmarks/group_endings.py --runs 100 --ending interpreter    # destroy the group, then an ordinary exit
    python benchmarks/group_endings.py --runs 100 -- --config-file ...    # the fine-tuning with these arguments

Each run forks two processes that join over gloo as torchrun's do, exchange tensors up to their last moment, and end; or
two processes of `tools/train_net.py`, which train, evaluate, probe and save in a fresh folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from torch import distributed

import clop_det  # noqa: F401  (makes `import detectron2` work)

from detectron2.config import get_cfg  # isort: skip
from detectron2.utils import comm  # isort: skip
from clop_det.commands import train
from clop_det.commands.common import run_tool
from clop_det.config.build import register_built_in
from clop_det.detection import run as _detection  # noqa: F401  (imported once, for all runs)
from clop_det.engine.launching import launch_workers

SECONDS = 300  # a run that takes longer hangs


def worker(cfg: object, args: argparse.Namespace) -> None:
    """Some steps of collectives, up to the end."""
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64))
    for _ in range(20):
        model(torch.randn(8, 64)).sum().backward()
        comm.all_gather(distributed.get_rank())
    for _ in range(50):
        distributed.all_reduce(torch.ones(1000), async_op=True)
    comm.synchronize()


def main_of_a_rank(arguments: list[str]) -> int:
    """What each process runs: a fine-tuning if there are arguments of one."""
    if arguments:
        return train.main(arguments)
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    launch_workers(worker, cfg, argparse.Namespace(num_gpus=0, num_machines=1))
    return 0


def start(rank: int, port: int, folder: Path, ending: str, arguments: list[str]) -> int:
    """Fork one of the two processes, which ends as a process of its own does; returns its id.

    Its standard error goes to a file in `folder`.
    """
    process = os.fork()
    if process:
        return process
    variables = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in variables.items()}, MASTER_ADDR="127.0.0.1")
    os.dup2(os.open(folder / f"{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if ending == "interpreter":
        sys.exit(main_of_a_rank(arguments))
    run_tool(lambda _: main_of_a_rank(arguments))


def ended(process: int, until: float) -> int | str:
    """Exit code (negative: of a signal) of a process, which is killed if it is there after `until`."""
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return "hangs"
        time.sleep(0.01)


def once(folder: Path, ending: str, arguments: list[str]) -> list[int | str]:
    """The exit codes of one run."""
    if arguments:
        shutil.rmtree(folder / "run", ignore_errors=True)
        arguments = [*arguments, "OUTPUT_DIR", str(folder / "run")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [start(rank, port, folder, ending, arguments) for rank in range(2)]
    until = time.monotonic() + SECONDS
    return [ended(process, until) for process in processes]


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--load", type=int, default=0, help="processes that keep the cores busy meanwhile")
    parser.add_argument("--ending", choices=("tool", "interpreter"), default="tool")
    parser.add_argument("arguments", nargs="*", help="arguments of tools/train_net.py, after --")
    args = parser.parse_args()
    register_built_in()
    parent, folder = os.getpid(), Path(tempfile.mkdtemp())
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.load)]
    counts: Counter[str] = Counter()
    began = time.monotonic()
    try:
        for run in range(args.runs):
            codes = once(folder, args.ending, args.arguments)
            counts[" ".join(map(str, codes))] += 1
            for rank, code in enumerate(codes):
                if code != 0:
                    print(f"run {run}, rank {rank}: {code}\n{(folder / f'{rank}.txt').read_text()}", flush=True)
    finally:
        if os.getpid() == parent:  # a forked process ends through here
            shutil.rmtree(folder)
            for process in busy:
                process.kill()
    seconds = time.monotonic() - began
    what = "fine-tunings" if args.arguments else "runs"
    print(f"{args.runs} {what}, ending {args.ending}, load {args.load}, {seconds:.0f} s; exit codes: {dict(counts)}")


if __name__ == "__main__":
    main()
