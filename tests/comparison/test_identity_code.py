"""The code that counts for conversions, detections and inspections, also where no config names it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from clop_det.backbones.registry import BACKBONES
from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.earlier import earlier_runs
from clop_det.comparison.planning.identity import Identity, of_conversion, of_detection, of_inspection
from clop_det.comparison.planning.jobs import jobs_to_run, prepare_folder
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.other_code import other_code
from clop_det.comparison.planning.plan import Plan, build_plan
from clop_det.config import imports
from clop_det.config.imported import check_in_use_is_imported
from clop_det.config.reading import read_config
from clop_det.digests import Digests
from clop_det.errors import UserError
from clop_det.keys import PRETRAINING
from clop_det.losses.registry import LOSSES
from clop_det.methods.registry import METHODS
from clop_det.probes.base import PROBES
from tests.comparison.workplace import Workplace

FAMILY = """
from clop_det.backbones.base import Family
class Plain(Family):
    parts = frozenset({{"stem"}})
    def architectures(self): return ["{name}_s"]
    def find(self, arch): return None
    def build(self, arch, **options): raise NotImplementedError
    def targets(self, architecture): return ()
    def target_config(self, target): raise NotImplementedError
    def carried_by(self, cfg): return cfg.MODEL.BACKBONE.NAME == "{name}"
from clop_det.backbones.registry import register_backbone
register_backbone("{name}")(Plain)
"""
ROOT = ["CLASSIFICATION.ROOT", "digits://cluttered"]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    read_config("", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    for registry in (BACKBONES, LOSSES, METHODS, PROBES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    before = dict(imports.IMPORTED)
    yield
    imports.IMPORTED.clear()
    imports.IMPORTED.update(before)
    for name in [name for name in sys.modules if name.startswith("u_")]:
        del sys.modules[name]


def family(tmp_path: Path, name: str) -> Path:
    path = tmp_path / f"{name}.py"
    path.write_text(FAMILY.format(name=name))
    return path


def installed(path: Path) -> None:
    """Import a file as an installed package would be: no config names it."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[path.stem] = module
    exec(compile(path.read_text(), path, "exec"), module.__dict__)


def plan_of(workplace: Workplace) -> Plan:
    return build_plan(read_matrix(load_compare_config(workplace.config), workplace.folder))


def test_a_given_checkpoint_is_converted_by_the_code_of_every_family(tmp_path: Path) -> None:
    read_config("", ["IMPORTS", str([str(family(tmp_path, "u_other"))])])  # for another config of this process
    own = str(family(tmp_path, "u_own"))
    read_config("", ["IMPORTS", str([own])])
    files = set(of_conversion("0" * 64, "", None, [own]).code_files())
    assert {"clop_det/backbones/residual/family.py", "clop_det/conversion/convert.py", "u_own.py"} <= files
    assert "u_other.py" not in files
    assert "u_own.py" not in of_conversion("0" * 64, "", None).code_files()


def test_the_imports_of_a_comparison_reach_the_conversion_of_a_given_checkpoint(workplace: Workplace) -> None:
    path = family(workplace.folder, "u_given")
    (workplace.folder / "given.pth").write_bytes(b"weights")
    workplace.write({"INITS": ["random", {"NAME": "given", "CHECKPOINT": "given.pth"}]})
    workplace.config.write_text(f"IMPORTS: [{path.name}]\n{workplace.config.read_text()}")
    (convert,) = [job for job in plan_of(workplace).jobs.values() if job.kind == "convert"]
    assert "u_given.py" in convert.identity.code_files()


def test_the_family_of_an_installed_package_that_a_detector_carries_counts(tmp_path: Path) -> None:
    installed(family(tmp_path, "u_installed"))
    files = {}
    for name in ("u_installed", "build_resnet_fpn_backbone"):
        cfg = read_config("", [*ROOT, "PROBE.ENABLED", "False", "MODEL.BACKBONE.NAME", name, "DATASETS.TRAIN", "()"])
        cfg.defrost()
        cfg.DATASETS.TEST = ()
        files[name] = set(of_detection(cfg, "random", Digests()).code_files())
    assert "u_installed.py" in files["u_installed"]
    assert "u_installed.py" not in files["build_resnet_fpn_backbone"]


def test_images_that_an_inspection_cannot_read_are_its_problem_too(workplace: Workplace) -> None:
    text = (workplace.folder / "detect.yaml").read_text()
    (workplace.folder / "detect.yaml").write_text(f"CLASSIFICATION: {{ROOT: /absent/place}}\n{text}")
    plan = plan_of(workplace)
    (job, *_) = [job for job in plan.jobs.values() if job.kind == "inspect"]
    assert set(job.identity.reads) == {"run", "classification images of val"}
    assert list(plan.unread_by([job])) == ["classification images of val"]
    run = Identity("0" * 64)
    assert of_inspection(run, {}, 4).digest != of_inspection(run, {"classification images of val": "1"}, 4).digest


def test_an_earlier_run_with_an_odd_config_or_name_is_named_all_the_same(workplace: Workplace) -> None:
    workplace.write({"INITS": ["random", "clop"], "DETECTION": []})
    plan = plan_of(workplace)
    (name,) = plan.jobs
    folder = plan.root / f"{name.rsplit('-', 1)[0]}-ffffffff"
    prepare_folder(plan.jobs[name], folder)
    (folder / "results.json").write_text("{}")
    for odd in ("LOSS: 3\n1: {2: 3}\n", "PROBE: {TASKS: 3}\n", "LOSS: {NAME: [[]]}\n"):
        (folder / "job.yaml").write_text(odd)
        (line,) = earlier_runs(plan.jobs, jobs_to_run(plan.jobs, plan.root), plan.root)
        assert line.startswith("1 jobs ran here before")
    # A bracket in a value of a grid is no pattern.
    strange = name.replace("clop", "clop[1]")
    prepare_folder(plan.jobs[name], plan.root / f"{strange.rsplit('-', 1)[0]}-eeeeeeee")
    (plan.root / f"{strange.rsplit('-', 1)[0]}-eeeeeeee" / "results.json").write_text("{}")
    assert earlier_runs({strange: plan.jobs[name]}, [strange], plan.root)


def test_the_files_of_jobs_of_one_kind_are_read_once(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace.write({"SEEDS": list(range(8)), "EXAMPLES": 0})
    plan = plan_of(workplace)
    for name, job in plan.jobs.items():
        prepare_folder(job, plan.root / name)
        path = plan.root / name / "job.json"
        path.write_text(path.read_text().replace('"attempts": []', '"attempts": [{}]'))
    calls: list[Any] = []
    whole = Identity.code_files
    monkeypatch.setattr(Identity, "code_files", lambda self: calls.append(self) or whole(self))
    assert other_code(plan.jobs, plan.root) == {}
    assert len(plan.jobs) == 32
    assert len(calls) == 3  # pretrain, convert, detect


LOSS = "from clop_det.losses import register_loss\nregister_loss('u_loss')(lambda options, context: None)\n"
METHOD = "from clop_det.methods.registry import METHODS\nMETHODS.register('u_method')(lambda *arguments: None)\n"
PROBE = "from clop_det.probes.base import PROBES\nclass Spread: ...\nPROBES.register('u_probe')(Spread)\n"


@pytest.mark.parametrize(
    ("code", "key", "value"),
    [(LOSS, "LOSS.NAME", "u_loss"), (METHOD, "METHOD.NAME", "u_method"), (PROBE, "PROBE.TASKS", "['knn', 'u_probe']")],
)
def test_what_another_config_imported_is_no_part_of_this_one(tmp_path: Path, code: str, key: str, value: str) -> None:
    path = tmp_path / f"{'u_' + key.split('.')[0].lower()}.py"
    path.write_text(code)
    mine = read_config("", ["IMPORTS", str([str(path)]), key, value])
    check_in_use_is_imported(mine, PRETRAINING)
    with pytest.raises(UserError, match=rf"which this config does not import\. Add it to IMPORTS: {path}"):
        check_in_use_is_imported(read_config("", [key, value]), PRETRAINING)
    with pytest.raises(UserError, match="'absent', which is not registered"):
        check_in_use_is_imported(
            read_config("", [key, value.replace(value.strip("[]'").split("'")[-1], "absent")]), PRETRAINING
        )
