from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from clop_det.config.reading import read_config
from clop_det.engine import run_folder
from clop_det.engine.run_folder import claim_run_folder, has_begun, own_run_folder, write_results
from clop_det.errors import UserError
from clop_det.files import read_json


@pytest.mark.parametrize(("name", "content"), [("metrics.json", "{}\n"), ("model_0000009.pth", "")])
def test_another_runs_folder_is_refused_and_left_alone(tmp_path: Path, name: str, content: str) -> None:
    claim_run_folder(read_config("", ["OUTPUT_DIR", str(tmp_path), "SEED", "1"]), resume=False)
    (tmp_path / name).write_text(content)
    before = (tmp_path / "config.yaml").read_bytes()
    other = read_config("", ["OUTPUT_DIR", str(tmp_path), "SEED", "2", "LOSS.NAME", "supcon"])
    for resume in (False, True):
        with pytest.raises(UserError, match=r"differs in LOSS\.NAME, SEED"):
            claim_run_folder(other, resume)
    assert (tmp_path / "config.yaml").read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_never_began_leaves_its_folder_free(tmp_path: Path, resume: bool) -> None:
    claim_run_folder(read_config("", ["OUTPUT_DIR", str(tmp_path), "SEED", "1"]), resume=False)
    for name in ("metrics.json", "log.txt"):  # what a run leaves that ends before its first step
        (tmp_path / name).touch()
    assert not has_begun(tmp_path)
    corrected = read_config("", ["OUTPUT_DIR", str(tmp_path), "SEED", "2"])
    claim_run_folder(corrected, resume)
    assert (tmp_path / "config.yaml").read_text() == corrected.dump()


def test_the_same_run_needs_resume_once_it_has_a_checkpoint(tmp_path: Path) -> None:
    cfg = read_config("", ["OUTPUT_DIR", str(tmp_path)])
    claim_run_folder(cfg, resume=False)
    claim_run_folder(cfg, resume=False)
    (tmp_path / "model_0000009.pth").touch()
    with pytest.raises(UserError, match="--resume"):
        claim_run_folder(cfg, resume=False)
    assert claim_run_folder(cfg, resume=True) == tmp_path


def test_a_run_of_an_earlier_version_goes_on_with_the_defaults_of_new_keys(tmp_path: Path) -> None:
    cfg = read_config("", ["OUTPUT_DIR", str(tmp_path)])
    (tmp_path / "model_0000009.pth").touch()
    earlier = yaml.safe_load(cfg.dump())
    del earlier["METHOD"], earlier["AUGMENT"]["CROP_SCALE"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(earlier))
    assert claim_run_folder(cfg, resume=True) == tmp_path
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**earlier, "GONE": 1}))
    other = read_config("", ["OUTPUT_DIR", str(tmp_path), "AUGMENT.CROP_SCALE", "(0.1, 1.0)"])
    with pytest.raises(UserError, match=r"differs in AUGMENT\.CROP_SCALE, GONE\."):
        claim_run_folder(other, resume=True)


def test_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run's config stays, whether or not it has taken a step."""
    monkeypatch.setattr(run_folder, "_PATIENCE", 0.0)
    cfg = read_config("", ["OUTPUT_DIR", str(tmp_path)])
    other = read_config("", ["OUTPUT_DIR", str(tmp_path), "SEED", "2"])
    with own_run_folder(cfg, resume=False):
        with pytest.raises(UserError, match="a run is under way"), own_run_folder(other, resume=False):
            pass
        with own_run_folder(cfg, resume=False, first=False):  # the run's own second process
            pass
        assert (tmp_path / "config.yaml").read_text() == cfg.dump()
    with own_run_folder(other, resume=False):
        assert (tmp_path / "config.yaml").read_text() == other.dump()


def test_checkpoints_of_unknown_origin_are_not_built_upon(tmp_path: Path) -> None:
    (tmp_path / "model_final.pth").touch()
    with pytest.raises(UserError, match=r"no config\.yaml"):
        claim_run_folder(read_config("", ["OUTPUT_DIR", str(tmp_path)]), resume=True)


def test_a_run_folder_may_be_moved(tmp_path: Path) -> None:
    claim_run_folder(read_config("", ["OUTPUT_DIR", str(tmp_path / "old")]), resume=False)
    (tmp_path / "old").rename(tmp_path / "new")
    claim_run_folder(read_config("", ["OUTPUT_DIR", str(tmp_path / "new")]), resume=True)


def test_results_carry_their_origin(tmp_path: Path) -> None:
    cfg = read_config("", ["OUTPUT_DIR", str(tmp_path), "SEED", "3"])
    path = write_results(cfg, "pretraining", {"knn_top1": 0.5}, init="clop")
    content = read_json(path)
    assert content["metrics"] == {"knn_top1": 0.5}
    assert (content["kind"], content["init"], content["seed"]) == ("pretraining", "clop", 3)
    assert len(content["provenance"]["config_sha256"]) == 64


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"- 3"])
def test_a_damaged_config_is_written_anew_where_a_run_goes_on(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = read_config("", ["OUTPUT_DIR", str(tmp_path)])
    claim_run_folder(cfg, resume=False)
    (tmp_path / "model_0000009.pth").touch()
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"Choose another OUTPUT_DIR, or --resume"):
        claim_run_folder(cfg, resume=False)
    claim_run_folder(cfg, resume=True)
    assert "cannot be compared with the one the run began with" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == cfg.dump()


def test_an_empty_name_of_a_folder_is_refused() -> None:
    with pytest.raises(UserError, match="OUTPUT_DIR is empty"):
        claim_run_folder(read_config("", ["OUTPUT_DIR", ""]), resume=False)


def test_a_name_that_is_no_utf8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bytes that are not UTF-8"):
        claim_run_folder(read_config("", ["OUTPUT_DIR", os.fsdecode(os.fsencode(tmp_path) + b"/\xff")]), resume=False)
    assert not [*tmp_path.iterdir()]
