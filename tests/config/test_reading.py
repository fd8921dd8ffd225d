from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import yaml

from clop_det.config.reading import read_config
from clop_det.errors import UserError


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_base_file_then_file_then_command_line(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "SEED: 1\nSOLVER: {BASE_LR: 0.5, MAX_ITER: 7}\n")
    config = write(tmp_path / "run.yaml", "_BASE_: base.yaml\nSOLVER: {BASE_LR: 0.25}\n")
    cfg = read_config(config, ["SOLVER.MAX_ITER", "9", "AUGMENT.CROP_SCALE", "[0.5, 1.0]"])
    assert (cfg.SEED, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (1, 0.25, 9)
    assert cfg.AUGMENT.CROP_SCALE == (0.5, 1.0)
    assert cfg.is_frozen()


@pytest.mark.parametrize("text", ["1e-3", "1", "0.001"])
def test_numbers_that_yaml_reads_as_text_or_whole_are_floats(tmp_path: Path, text: str) -> None:
    config = write(tmp_path / "run.yaml", f"SOLVER: {{BASE_LR: {text}}}\n")
    assert float(text) == read_config(config, []).SOLVER.BASE_LR


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("LOSS.NAM", "LOSS.NAME"), ("SOLVER.BASE_RL", "SOLVER.BASE_LR"), ("MODEL.BASE_LR", "SOLVER.BASE_LR")],
)
def test_an_unknown_key_names_the_nearest_known_one(key: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"unknown config key {key} in the command line. Did you mean {nearest}?"):
        read_config("", [key, "1"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SEED"], "odd number"),
        (["SEED", "1", "--resume"], "--resume must come before the KEY VALUE pairs"),
        (["SEED", "one"], r"SEED in the command line is 'one' \(str\); it must be of type int"),
        (["SOLVER", "1"], "SOLVER in the command line is a group of keys"),
        (["PROBE.ENABLED", "1"], "must be of type bool"),
    ],
)
def test_bad_overrides(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_config("", overrides)


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    config = write(tmp_path / "evil.yaml", f"SEED: !!python/object/apply:os.mkdir ['{marker}']\n")
    with pytest.raises(UserError, match="not safe"):
        read_config(config, [])
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no mapping"),
        (b"# nothing yet\n", "no mapping"),
        (b"- SEED\n", "no mapping"),
        (b"OUTPUT_DIR: \xe4\n", "not UTF-8"),
        (b"_BASE_: odd.yaml\nSEED: 1\n", "its own _BASE_"),
        (b"_BASE_: 3\n", "_BASE_"),
        (b"SEED:\n", "SEED in .* has no value"),
    ],
)
def test_odd_files_are_one_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "odd.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_config(str(tmp_path / "odd.yaml"), [])


def test_odd_values_are_one_error() -> None:
    with pytest.raises(UserError, match="MAX_ITER in the command line has no value"):
        read_config("", ["SOLVER.MAX_ITER", "None"])
    assert read_config("", ["OUTPUT_DIR", "{[]: 1}"]).OUTPUT_DIR == "{[]: 1}"  # not Python, so text


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"no/such\.yaml"):
        read_config("no/such.yaml", [])


def test_every_default_survives_a_round_trip_through_its_own_yaml(tmp_path: Path) -> None:
    cfg = read_config("", [])
    again = read_config(write(tmp_path / "config.yaml", cfg.dump()), [])
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())  # YAML has no tuples


def test_a_base_elsewhere_on_the_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("_BASE_: https://example.org/base.yaml\n")
    with pytest.raises(UserError, match="is a URL. Download it"):
        read_config(str(tmp_path / "a.yaml"), [])


@pytest.mark.parametrize("use", ["SOLVER: {BASE_LR: *h}", "SOLVER: {<<: [*h, *h]}"])
def test_aliases_that_multiply_are_refused(use: str, tmp_path: Path) -> None:
    names = "abcdefgh"
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in itertools.pairwise(names)]
    (tmp_path / "a.yaml").write_text("\n".join([*lines, use]))
    with pytest.raises(UserError, match="more than 100000 values"):
        read_config(str(tmp_path / "a.yaml"), [])


def test_deep_nesting_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("[" * 1000)
    with pytest.raises(UserError, match="nested more than 100 deep"):
        read_config(str(tmp_path / "deep.yaml"), [])
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UserError, match="no ordinary file"):
        read_config(str(tmp_path / "pipe.yaml"), [])


def test_an_ordinary_alias_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("SOLVER: &s {BASE_LR: 0.5}\nDATASETS: {TRAIN: &t [a], TEST: *t}\n")
    assert read_config(str(tmp_path / "a.yaml"), []).DATASETS.TEST == ("a",)
