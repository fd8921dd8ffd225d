from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
import yaml

from clop_det.config.changed import CHANGED
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from clop_det.keys import value_of


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
        (["SEED", "[" * 100_000 + "]" * 100_000], "a value is nested more than 100 deep"),
        (["DATASETS.REGISTER", "[{ROOT: a: b}]"], r"not well-formed YAML \(.*in quotes"),
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
        (b"_BASE_: 3\n", "_BASE_ in .* must be the path"),
        (b"OUTPUT_DIR: 007\n", "must be of type str. Put it in quotes"),
        (b"SEED: 1\nSEED.X: 2\n", "SEED"),
        (b"SEED: {X: 2}\n", "SEED"),
        (b"SEED:\n", "SEED in .* has no value"),
    ],
)
def test_odd_files_are_one_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "odd.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_config(str(tmp_path / "odd.yaml"), [])


def test_a_broken_link_is_not_replaced_by_the_shipped_config_of_its_name(tmp_path: Path) -> None:
    config = write(tmp_path / "run.yaml", "_BASE_: detection/Base-R_18_FPN.yaml\n")
    assert read_config(config, []).MODEL.RESNETS.DEPTH == 18
    (tmp_path / "detection").mkdir()
    (tmp_path / "detection" / "Base-R_18_FPN.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match="cannot read the config .*Base-R_18_FPN.yaml"):
        read_config(config, [])


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


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("PROBE.ENABLED", "false", False),
        ("PROBE.ENABLED", "off", False),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
        ("SOLVER.BASE_LR", "2", 2.0),
        ("SOLVER.STEPS", "(3, 4)", (3, 4)),
        ("SOLVER.STEPS", "[3, 4]", (3, 4)),
        ("SOLVER.STEPS", "()", ()),
        ("SOLVER.WEIGHT_DECAY_BIAS", "1e-4", 1e-4),
        ("SOLVER.WEIGHT_DECAY_BIAS", "None", None),
        ("AUGMENT.BLUR_SIGMA", "[1e-1, 2]", (0.1, 2)),
        ("DATASETS.TRAIN", "[a, b]", ("a", "b")),
        ("DATASETS.TRAIN", "('a',)", ("a",)),
        ("DATASETS.REGISTER", "[{NAME: a, LAYOUT: voc, ROOT: ../x}]", [{"NAME": "a", "LAYOUT": "voc", "ROOT": "../x"}]),
        ("DATASETS.REGISTER", "[{'NAME': 'a', 'YEAR': 2007}]", [{"NAME": "a", "YEAR": 2007}]),
        ("OUTPUT_DIR", "007", "007"),
        ("OUTPUT_DIR", "on", "on"),
        ("OUTPUT_DIR", "1e5", "1e5"),
        ("OUTPUT_DIR", "null", "null"),
        ("OUTPUT_DIR", "a: b #c", "a: b #c"),
        ("OUTPUT_DIR", "'quoted'", "quoted"),
        ("OUTPUT_DIR", "", ""),
    ],
)
def test_values_on_the_command_line_are_yaml_in_the_type_of_the_key(key: str, text: str, value: object) -> None:
    found = value_of(read_config("", [key, text]), key, "absent")
    assert (found, type(found)) == (value, type(value))


def test_dotted_and_nested_keys_and_several_bases_mean_the_same(tmp_path: Path) -> None:
    write(tmp_path / "one.yaml", "SOLVER.BASE_LR: 0.5\nSOLVER.MAX_ITER: 7\nSEED: 1\n")
    write(tmp_path / "two.yaml", "SOLVER: {MAX_ITER: 8}\nSEED: 2\n")
    config = write(tmp_path / "run.yaml", "_BASE_: [one.yaml, two.yaml]\nSOLVER: {BASE_LR: 1e-2}\n")
    cfg = read_config(config, [])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SEED) == (0.01, 8, 2)


def test_a_key_of_an_earlier_version_says_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHANGED, "PROBE.OLD", "is called PROBE.BATCH_SIZE; rename it.")
    monkeypatch.setitem(CHANGED, "GONE", "is no more; remove it.")
    with pytest.raises(UserError, match=r"^config key PROBE.OLD in the command line is called PROBE.BATCH_SIZE;"):
        read_config("", ["PROBE.OLD", "1"])
    with pytest.raises(UserError, match=r"^config key GONE.DEEP.KEY in the command line is no more; remove it.$"):
        read_config("", ["GONE.DEEP.KEY", "1"])


def test_an_unknown_key_of_a_runs_own_config_may_be_one_of_another_version(tmp_path: Path) -> None:
    for name, said in (("config.yaml", True), ("mine.yaml", False)):
        with pytest.raises(UserError, match="Did you mean SOLVER.BASE_LR") as caught:
            read_config(write(tmp_path / name, "SOLVER: {BASE_LR_NEW: 1}\n"), [])
        assert ("another version" in str(caught.value)) == said


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
