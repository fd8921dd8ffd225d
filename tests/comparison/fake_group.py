"""Stands in for a trainer on several GPUs: a worker of a torchrun group that says who it is, and stops as runs do.

python fake_group.py --config-file FILE [--resume]
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml


def main() -> int:
    folder = Path(yaml.safe_load(Path(sys.argv[sys.argv.index("--config-file") + 1]).read_text())["OUTPUT_DIR"])
    rank = os.environ["RANK"]
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    entry = {"rank": int(rank), "world": int(os.environ["WORLD_SIZE"]), "agent": os.getppid()}
    with (folder / f"rank{rank}.jsonl").open("a") as file:
        file.write(json.dumps({**entry, "resume": "--resume" in sys.argv}) + "\n")
    (folder / "config.yaml").touch()
    while not stop and not (folder / "go").exists():
        time.sleep(0.05)
    if stop:
        time.sleep(0.3)
        (folder / f"saved{rank}").touch()
        (folder / "go").touch()  # a resumed group ends at once
        return 75
    if rank == "0":
        (folder / "model_final.pth").write_bytes(b"weights")
        (folder / "results.json").write_text("{}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
