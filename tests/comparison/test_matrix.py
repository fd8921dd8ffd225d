"""The matrix: what is read, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import build_plan
from clop_det.config.files import flatten, nested
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace


def plan(workplace: Workplace, changes: dict[str, Any], *overrides: str) -> Any:
    path = workplace.write(changes)
    return build_plan(read_matrix(load_compare_config(path, overrides), path.parent))


REFUSED = [
    ({"INITS": ["random", "clopp"]}, r"COMPARE.INITS clopp: LOSS.NAME names the loss 'clopp', .*mean clop\?"),
    ({"INITS": ["random", {"NAME": "a", "LOSS": "supconn"}]}, r"'supconn'.*mean supcon\?"),
    ({"INITS": []}, "INITS must be a list with at least one"),
    ({"INITS": ["random", "clop", "clop"]}, "has clop twice"),
    ({"INITS": ["random", {"NAME": "clop", "LOS": "clop"}]}, "unknown key LOS.*LOSS"),
    ({"INITS": ["random", {"NAME": "bad/name"}]}, "no usable NAME"),
    ({"INITS": ["random", {"NAME": "x", "CHECKPOINT": "absent.pth"}]}, "no file.*absent.pth"),
    ({"INITS": ["random", {"NAME": "x", "CHECKPOINT": "pretrain.yaml", "LOSS": "clop"}]}, "can have no LOSS"),
    (
        {"INITS": ["random", {"NAME": "x", "CHECKPOINT": "pretrain.yaml", "SOURCE": "torchvison"}]},
        r'SOURCE "torchvison".*mean torchvision\?',
    ),
    ({"INITS": ["random", {"NAME": "clop", "GRID": "no"}]}, "GRID must be True or False"),
    ({"INITS": ["random", "clop", {"NAME": "same", "LOSS": "clop"}]}, "are the same run"),
    ({"BASELINE": "randon"}, "BASELINE.*not in the matrix.*random"),
    ({"SEEDS": []}, r"SEEDS is \[\]; it must be a list of at least 1 value"),
    ({"SEEDS": [0, -1]}, "-1"),
    ({"SEEDS": [0, True]}, "whole number"),
    ({"SEEDS": [1, 1]}, "has 1 twice"),
    ({"LABEL_FRACTIONS": [0]}, r"\(0, 1\]"),
    ({"LABEL_FRACTIONS": [1.5]}, "1.5"),
    ({"LABEL_FRACTIONS": ["a"]}, r"\(0, 1\]"),
    ({"PRETRAIN": {"CONFIG": "pretrai.yaml"}}, 'no file "pretrai.yaml".*pretrain.yaml'),
    ({"PRETRAIN": {"CONFIG": ""}}, "PRETRAIN.CONFIG is empty"),
    ({"PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"SOLVER.BASE_LRR": 1}}}, "SOLVER.BASE_LRR.*SOLVER.BASE_LR"),
    ({"PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"SEED": 1}}}, "sets SEED"),
    ({"PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"OUTPUT_DIR": "x"}}}, "sets OUTPUT_DIR"),
    ({"PRETRAIN": {"CONFIG": "pretrain.yaml", "GRID": {"SOLVER.BASE_LR": 0.1}}}, "must be a list"),
    ({"PRETRAIN": {"CONFIG": "pretrain.yaml", "GRID": {"SOLVER.BASE_LR": [0.1, 0.1]}}}, "twice"),
    ({"DETECTION": [{"NAME": "x"}]}, "has no CONFIG"),
    ({"DETECTION": ["detect.yaml", "detect.yaml"]}, "has detect twice"),
    ({"DETECTION": [{"CONFIG": "detect.yaml", "OPTS": {"MODEL.WEIGHTS": "x"}}]}, "sets MODEL.WEIGHTS"),
    ({"DETECTION": [{"CONFIG": "detect.yaml", "SELECT": {"BY": "b"}}]}, "both BY and REPORT"),
    ({"DETECTION": [{"CONFIG": "detect.yaml", "SELECT": {"BY": "b", "REPORT": "b"}}]}, "use another"),
    ({"DETECTION": [{"CONFIG": "detect.yaml", "SELECT": {"BY": "b", "REPORT": "c"}}]}, "c is not in"),
    ({"INITS": ["random"], "DETECTION": []}, "nothing to run"),
    ({"BASELIN": "random"}, "unknown config key COMPARE.BASELIN .*COMPARE.BASELINE"),
    ({"SEEDS": "all"}, "SEEDS"),
    ({"INITS": ["random", {"NAME": "clop", "OPTS": {"LABELS.FRACTION": 1.0}}]}, "COMPARE.LABEL_FRACTIONS"),
    ({"INITS": ["random", {"NAME": "clop", "OPTS": {"LOSS.NAME": "supcon"}}]}, "Use LOSS of an entry"),
    ({"PRETRAIN": {"CONFIG": "pretrain.yaml", "GRID": {"LABELS.FRACTION": [0.1]}}}, "COMPARE.LABEL_FRACTIONS"),
    (
        {
            "INITS": ["random", {"NAME": "clop", "OPTS": {"SOLVER.BASE_LR": 0.5}}],
            "PRETRAIN": {"CONFIG": "pretrain.yaml", "GRID": {"SOLVER.BASE_LR": [0.1]}},
        },
        "clop sets SOLVER.BASE_LR, which COMPARE.PRETRAIN.GRID varies",
    ),
    (
        {"DETECTION": [{"CONFIG": "detect.yaml", "OPTS": {"SEED2": 1, "A.B": 1}, "GRID": {"A.B": [1]}}]},
        "sets A.B, which its GRID varies",
    ),
    ({"INITS": [{"NAME": "random", "LOSS": "clop"}, "clop"]}, "random is not pretrained and has no use for LOSS"),
    (
        {"LABEL_FRACTIONS": [0.1, 1.0], "PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"LABELS.PER_CLASS": 4}}},
        "would be the same run",
    ),
    ({"PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"LOSS": "clop"}}}, "LOSS.*group of keys"),
    ({"DETECTION": [{"CONFIG": "detect.yaml", "OPTS": {"MODEL": "x"}}]}, "MODEL.*group of keys"),
    ({"DETECTION": [{"CONFIG": "detect.yaml", "SELECT": {"BY": "", "REPORT": "c"}}]}, "both BY and REPORT"),
    ({"EXAMPLES": -1}, "EXAMPLES is -1"),
    ({"EXAMPLE_SCORE": 0.01}, "EXAMPLE_SCORE is 0.01"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refused_before_anything_runs(workplace: Workplace, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(workplace, changes)
    assert not workplace.output.exists()


def test_missing_and_unsafe_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a file nor the name"):
        load_compare_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("COMPARE: !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(UserError, match="not safe"):
        load_compare_config(tmp_path / "bad.yaml")
    assert not Path("pwned").exists()
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="mapping"):
        load_compare_config(tmp_path / "list.yaml")


def test_base_and_overrides(workplace: Workplace) -> None:
    workplace.write({"SEEDS": [3]})
    child = workplace.folder / "child.yaml"
    child.write_text(
        "_BASE_: compare.yaml\nCOMPARE: {LABEL_FRACTIONS: [0.5], PRETRAIN: {OPTS: {SOLVER: {MAX_ITER: 3}}}}\n"
    )
    cfg = load_compare_config(child, ["COMPARE.SEEDS", "[4, 5]", "COMPARE.PRETRAIN.OPTS.SOLVER.BASE_LR", "0.5"])
    matrix = read_matrix(cfg, child.parent)
    assert matrix.seeds == (4, 5)
    assert matrix.fractions == (0.5,)
    assert matrix.pretrain_opts == {"SOLVER.MAX_ITER": 3, "SOLVER.BASE_LR": 0.5}
    assert matrix.name == "child"
    with pytest.raises(UserError, match="KEY VALUE"):
        load_compare_config(child, ["COMPARE.SEEDS"])
    with pytest.raises(UserError, match="--dry-run must come before"):
        load_compare_config(child, ["COMPARE.SEEDS", "[1]", "--dry-run"])


def test_flattened_and_nested_are_inverse() -> None:
    tree = {"A": {"B": 1, "C": {"D": [2]}}, "E": 3}
    flat = {"A.B": 1, "A.C.D": [2], "E": 3}
    assert dict(flatten(tree)) == flat == dict(flatten({"A.B": 1, "A": {"C.D": [2]}, "E": 3}))
    assert nested(dict(flatten(tree))) == tree


def test_plan_pairs_seeds_and_shares_jobs(workplace: Workplace) -> None:
    made = plan(
        workplace,
        {
            "INITS": ["random", {"NAME": "info_nce", "USES_LABELS": False}, "clop"],
            "LABEL_FRACTIONS": [0.1, 0.5],
            "SEEDS": [0, 7],
        },
    )
    kinds = [job.kind for job in made.jobs.values()]
    # Per seed: random and InfoNCE once, CLOP for each fraction; pictures from the first seed alone.
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"pretrain": 6, "convert": 6, "detect": 8, "inspect": 4}
    assert len(made.cells) == 8
    for cell in made.cells:
        for name in filter(None, (cell.pretrain, cell.detect)):
            assert cell.seed == made.jobs[name].config.SEED
        if cell.init == "random":
            assert made.jobs[cell.detect].config.MODEL.WEIGHTS == ""
            assert not cell.pretrain
        else:
            assert made.jobs[cell.detect].config.MODEL.WEIGHTS.endswith(f"{cell.convert}/backbone.pth")
            assert cell.init == made.jobs[cell.pretrain].config.LOSS.NAME
    assert {cell.label_fraction for cell in made.cells if cell.init == "clop"} == {0.1, 0.5}
    assert [cell.seed for cell in made.cells] == [0] * 4 + [7] * 4  # a cut-short comparison is complete for its seeds
    for index, name in enumerate(made.jobs):
        assert set(made.jobs[name].needs) <= set(list(made.jobs)[:index])


def test_grids(workplace: Workplace) -> None:
    made = plan(
        workplace,
        {
            "PRETRAIN": {
                "CONFIG": "pretrain.yaml",
                "GRID": {"SOLVER.BASE_LR": [0.1, 0.2], "SOLVER.IMS_PER_BATCH": [8, 16]},
            },
            "INITS": ["random", "clop", {"NAME": "supcon", "GRID": False}],
            "DETECTION": [{"NAME": "d", "CONFIG": "detect.yaml", "GRID": {"SOLVER.BASE_LR": [0.01, 0.02, 0.04]}}],
        },
    )
    per_init = [cell.init for cell in made.cells]
    assert {init: per_init.count(init) for init in set(per_init)} == {"random": 3, "clop": 12, "supcon": 3}
    points = {
        (c.pretrain_grid["SOLVER.BASE_LR"], c.pretrain_grid["SOLVER.IMS_PER_BATCH"])
        for c in made.cells
        if c.init == "clop"
    }
    assert points == {(0.1, 8), (0.1, 16), (0.2, 8), (0.2, 16)}
    for cell in made.cells:
        assert cell.detection_grid["SOLVER.BASE_LR"] == made.jobs[cell.detect].config.SOLVER.BASE_LR


def test_job_names_follow_content(workplace: Workplace) -> None:
    first = list(plan(workplace, {}).jobs)
    assert list(plan(workplace, {}).jobs) == first
    longer = {"DETECTION": [{"NAME": "scenes", "CONFIG": "detect.yaml", "OPTS": {"SOLVER.MAX_ITER": 9}}]}
    other = list(plan(workplace, longer).jobs)
    changed = {name.split("-")[0] for name in set(first) ^ set(other)}
    assert changed == {"detect", "inspect"}  # pretraining and conversion stay what they were
    weaker = list(plan(workplace, {"PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"SOLVER.BASE_LR": 0.7}}}).jobs)
    assert {name for name in first if "random" in name} <= set(weaker)
    assert not {name for name in first if "clop" in name} & set(weaker)
    # Where the comparison lies is no content.
    elsewhere = list(plan(workplace, {}, "OUTPUT_DIR", str(workplace.folder / "elsewhere")).jobs)
    assert elsewhere == first


def test_a_given_checkpoint_is_converted_once_and_known_by_content(workplace: Workplace) -> None:
    (workplace.folder / "net.pth").write_bytes(b"one")
    changes = {
        "INITS": ["random", {"NAME": "imagenet", "CHECKPOINT": "net.pth", "SOURCE": "torchvision"}],
        "SEEDS": [0, 1],
    }
    made = plan(workplace, changes)
    convert = [job for job in made.jobs.values() if job.kind == "convert"]
    assert len(convert) == 1
    assert not convert[0].needs
    assert convert[0].arguments["format"] == "torchvision"
    assert not [job for job in made.jobs.values() if job.kind == "pretrain"]
    (workplace.folder / "net.pth").write_bytes(b"two")
    assert convert[0].name not in plan(workplace, changes).jobs


def test_a_count_of_labels_is_no_label_fraction(workplace: Workplace) -> None:
    made = plan(workplace, {"PRETRAIN": {"CONFIG": "pretrain.yaml", "GRID": {"LABELS.PER_CLASS": [2, 4]}}})
    cells = [cell for cell in made.cells if cell.init == "clop"]
    assert [(cell.label_fraction, cell.pretrain_grid["LABELS.PER_CLASS"]) for cell in cells] == [(None, 2), (None, 4)]


def test_a_split_file_counts_with_its_content(workplace: Workplace, tmp_path: Path) -> None:
    split = tmp_path / "split.txt"
    names = []
    for content in ("a.png\n", "b.png\n"):
        split.write_text(content)
        made = plan(workplace, {"PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"LABELS.SPLIT_FILE": str(split)}}})
        names.append({name for name in made.jobs if name.startswith("pretrain")})
    assert not names[0] & names[1]
    split.unlink()
    with pytest.raises(UserError, match=r"no file .*LABELS\.SPLIT_FILE"):
        plan(workplace, {"PRETRAIN": {"CONFIG": "pretrain.yaml", "OPTS": {"LABELS.SPLIT_FILE": str(split)}}})


def test_a_long_grid_value_still_makes_a_folder(workplace: Workplace) -> None:
    value = [0.123456789 + i for i in range(60)]
    made = plan(workplace, {"PRETRAIN": {"CONFIG": "pretrain.yaml", "GRID": {"SOLVER.STEPS": [value, value[1:]]}}})
    assert all(len(name) < 200 for name in made.jobs)


def test_parameters_of_the_cluster_keep_their_mappings(workplace: Workplace) -> None:
    path = workplace.write({"LAUNCH": {"SLURM": {"timeout_min": 3, "slurm_additional_parameters": {"account": "me"}}}})
    cfg = load_compare_config(path, ["COMPARE.LAUNCH.SLURM.slurm_additional_parameters.qos", "low"])
    assert nested(cfg.COMPARE.LAUNCH.SLURM) == {
        "timeout_min": 3,
        "slurm_additional_parameters": {"account": "me", "qos": "low"},
    }


def test_the_cluster_needs_a_device(workplace: Workplace) -> None:
    with pytest.raises(UserError, match="needs COMPARE.DEVICE"):
        workplace.run("--launcher", "slurm")
    assert not workplace.output.exists()


def test_pretraining_alone(workplace: Workplace) -> None:
    made = plan(workplace, {"INITS": ["clop", "supcon"], "BASELINE": "supcon", "DETECTION": []})
    assert {job.kind for job in made.jobs.values()} == {"pretrain"}
    assert len(made.cells) == 2
