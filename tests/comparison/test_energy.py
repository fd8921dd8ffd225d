"""Energy of jobs: counted where the machine counts it, absent where it does not, never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clop_det.comparison.report.pareto import cost_table
from clop_det.comparison.results.summary import read_comparison
from clop_det.comparison.running import energy
from clop_det.comparison.running.energy import GPUS, PROCESSORS, Meter, counters
from tests.comparison.kept import kept_comparison
from tests.comparison.workplace import Workplace


def zone(folder: Path, name: str, microjoules: int, most: int = 1_000_000_000) -> Path:
    folder.mkdir(parents=True)
    for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (folder / file).write_text(f"{content}\n")
    return folder / "energy_uj"


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two processors; the cores of one and its memory are counted apart, and the whole machine once more."""
    folder = tmp_path / "powercap"
    for number, name in enumerate(("package-0", "package-1", "psys")):
        zone(folder / f"intel-rapl:{number}", name, 5_000_000)
    zone(folder / "intel-rapl:0:0", "core", 0)
    zone(folder / "intel-rapl:0:1", "dram", 0)
    monkeypatch.setattr(energy, "POWERCAP", folder)
    return folder


def test_processors_and_memory_are_added_up_over_the_end_of_a_counter(powercap: Path) -> None:
    meter = Meter(counters(True, []))
    assert meter.joules() == {PROCESSORS: 0.0}
    (powercap / "intel-rapl:0" / "energy_uj").write_text("15000000\n")  # 10 J
    (powercap / "intel-rapl:0:0" / "energy_uj").write_text("9000000\n")  # a part of them
    (powercap / "intel-rapl:0:1" / "energy_uj").write_text("2500000\n")  # 2.5 J
    (powercap / "intel-rapl:2" / "energy_uj").write_text("99000000\n")
    assert meter.joules() == {PROCESSORS: 12.5}
    (powercap / "intel-rapl:1" / "energy_uj").write_text("1000000\n")  # from 5 J over 1000 J to 1 J
    assert meter.joules() == {PROCESSORS: 12.5 + 996.0}
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules() == {}


def test_what_cannot_be_counted_is_absent(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Meter(counters(False, [])).joules() == {}
    (powercap / "intel-rapl:1" / "energy_uj").write_text("?")
    assert counters(True, []) == {PROCESSORS: [], GPUS: []}
    monkeypatch.setattr(energy, "POWERCAP", powercap / "absent")
    assert Meter(counters(True, [])).joules() == {}
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert counters(True, ["0"])[GPUS] == []


class Nvml:
    """NVIDIA's library with two cards that have taken 7 J each."""

    names = (b"card", b"card")

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, count) -> int:
        count._obj.value = len(self.names)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle) -> int:
        handle._obj.value = index + 1
        return 0 if index < len(self.names) else 6

    def nvmlDeviceGetName(self, handle, name, length) -> int:
        name.value = self.names[handle.value - 1]
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, value) -> int:
        value._obj.value = 7000
        return 0


def test_gpus_of_one_kind_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Nvml()
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda name: library)
    assert [counter() for counter, _ in counters(False, ["0", "1"])[GPUS]] == [7.0, 7.0]
    assert counters(False, ["5"])[GPUS] == counters(False, ["GPU-5a"])[GPUS] == []
    library.names = (b"card", b"faster card")  # CUDA numbers them by speed
    assert counters(False, ["0"])[GPUS] == []


@pytest.mark.parametrize(("jobs", "told"), [("1", True), ("2", False)])
def test_a_job_that_has_the_processors_to_itself_is_measured(
    workplace: Workplace, powercap: Path, jobs: str, told: bool
) -> None:
    assert workplace.run("--jobs", jobs) == 0
    records = [json.loads(path.read_text()) for path in workplace.output.glob("jobs/*/job.json")]
    assert [record["attempts"][-1].get("joules") for record in records] == [{PROCESSORS: 0.0} if told else None] * 6
    header, _ = cost_table(read_comparison([workplace.output]))
    assert ("energy" in header) == told


def test_the_table_of_costs_names_energy_where_all_of_a_run_is_known(tmp_path: Path) -> None:
    folder = kept_comparison(tmp_path)
    for seed, joules in ((0, {PROCESSORS: 1000.0, GPUS: 3000.0}), (1, {PROCESSORS: 2000.0, GPUS: 6000.0})):
        path = folder / "jobs" / f"detect-clop-{seed}" / "job.json"
        record = json.loads(path.read_text())
        record["attempts"] = [{**record["attempts"][0], "joules": joules}]
        path.write_text(json.dumps(record))
    header, lines = cost_table(read_comparison([folder]))
    assert header[-1] == "energy"
    found = {line[0]: line[-1] for line in lines}
    assert found["clop"] == "1.5 kJ (processors), 4.5 kJ (GPUs)"
    assert found["random"] not in (found["clop"], "0")
