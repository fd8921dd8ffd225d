"""A ranking: every checkpoint converted with proof, encoded once, measured, and set in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from clop_det.checkpoints.folders import parts_of
from clop_det.checkpoints.integrity import sidecar_of
from clop_det.conversion.convert import convert_checkpoint
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.ranking.choosing import shipped_rule
from clop_det.ranking.data import ranking_config, ranking_records
from clop_det.ranking.encoding import Encoder
from clop_det.ranking.kept import digest_of, keep, kept, key_of, measured_in
from clop_det.ranking.measuring import Measured, measure
from clop_det.ranking.objects import LEAST, Objects, choose_objects
from clop_det.ranking.rule import PLAIN, Rule, Standing, standings, verdict

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ranking:
    """What was found.

    Attributes:
        standings: of the checkpoints, the best first.
        measured: name -> figures; with those of networks that have learnt nothing as "random ARCH".
        left_out: name -> why it has no figures.
        waiting: names for which the budget was too small.
        seconds: name -> time that its figures took, conversion and proof included.
        objects: how many boxes of how many images were looked at.
        files: name -> checkpoint.
        rule: by which they are in order.
        early: name -> early AP in percent, of the first few; empty: not asked for.
        early_failed: name -> why it has none.
    """

    standings: list[Standing]
    measured: dict[str, Measured]
    left_out: dict[str, str]
    waiting: list[str]
    seconds: dict[str, float]
    objects: tuple[int, int]
    files: dict[str, Path] = field(default_factory=dict)
    rule: Rule = PLAIN
    early: dict[str, float] = field(default_factory=dict)
    early_failed: dict[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One sentence about who leads; see `rule.verdict`."""
        return verdict(self.standings)


@dataclass
class _Shop:
    """What all checkpoints of one ranking share."""

    objects: Objects
    digest: str
    seed: int
    output: Path
    say: Say
    random: dict[str, Measured] = field(default_factory=dict)


def rank(
    data: str,
    checkpoints: Sequence[Path],
    output: Path,
    *,
    overrides: Sequence[str] = (),
    boxes: int = 1000,
    side: int = 128,
    seed: int = 0,
    budget: float = 0.0,
    rule: Rule | None = None,
    say: Say = lambda line: None,
) -> Ranking:
    """Rank checkpoints by what their frozen features make of the training images of a detection data set.

    What was measured is kept in `output`; the same call goes on, and measures again only what has changed.

    Args:
        data: see `ranking_config`.
        checkpoints: files and folders of any source that conversion knows.
        output: folder for converted files and figures.
        overrides: KEY VALUE words for the config of the data.
        boxes: annotated boxes to look at, half of them as a bank.
        side: to which boxes and windows are resized, in pixels.
        seed: draws the boxes, their windows and views, and the halves.
        budget: minutes after which no further checkpoint is begun; 0: all are.
        rule: how figures become a score, e.g. by a calibration of one's own (`choosing.learn`); None: the shipped one.
        say: called with a line of progress.

    Raises:
        UserError: bad data or settings, or no checkpoint that can be measured.
    """
    if boxes < LEAST or side < 32 or budget < 0:
        raise UserError(f"boxes is {boxes}, size {side}, budget {budget:g}; they must be at least {LEAST}, 32 and 0.")
    started = time.monotonic()
    names, rule = _names(checkpoints), rule or shipped_rule()
    objects = choose_objects(ranking_records(ranking_config(data, overrides)), boxes, side, generator(seed, "ranking"))
    shop = _Shop(objects, digest_of(objects), seed, output, say)
    measured: dict[str, Measured] = {}
    left_out: dict[str, str] = {}
    waiting: list[str] = []
    seconds: dict[str, float] = {}
    for name, path in names.items():
        if budget and measured and time.monotonic() - started > 60 * budget:
            waiting.append(name)
            continue
        try:
            measured[name], seconds[name] = _measured(name, path, shop)
        except UserError as error:
            left_out[name] = str(error)
            say(f"{name}: left out: {error}")
    if not measured:
        raise UserError(f"none of the {len(names)} checkpoints could be measured: {next(iter(left_out.values()))}")
    count = len(objects), len(torch.unique(objects.images))
    found = standings(measured, rule)
    return Ranking(found, {**measured, **shop.random}, left_out, waiting, seconds, count, names, rule)


def _names(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """A short name for each checkpoint: its stem, or as much of its path as tells it from the others."""
    given = [path.absolute() for path in checkpoints]
    sidecars = set(map(sidecar_of, given))
    paths = [path for path in given if path not in sidecars]  # a pattern such as runs/* names them, too
    if not paths:
        raise UserError("no checkpoint is given; name two or more.")
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; name checkpoint files, or folders of one.")
    if len(set(paths)) < len(paths):
        raise UserError("a checkpoint is named twice; name each once.")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["-".join([*path.parts[-length:-1], path.stem]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    return {"-".join(path.parts[1:]): path for path in paths}  # they differ in their endings alone


def _measured(name: str, path: Path, shop: _Shop) -> tuple[Measured, float]:
    started = time.monotonic()
    file, key = shop.output / "measured" / f"{name}.json", key_of(parts_of(path).digest, shop.digest, shop.seed)
    content = kept(file, key)
    if content is None:
        converted = shop.output / "converted" / f"{name}.pth"
        converted.parent.mkdir(parents=True, exist_ok=True)
        shop.say(f"{name}: conversion and proof")
        convert_checkpoint(path, converted)
        encoder = Encoder(converted)
        found = _encode_and_measure(name, encoder, shop)
        _measure_random(encoder.arch, converted, shop)
        content = keep(file, key, found, encoder.arch, time.monotonic() - started)
    arch = str(content["arch"])
    if (random := kept(_random_file(shop, arch), key_of("random", shop.digest, shop.seed))) is not None:
        shop.random[f"random {arch}"] = measured_in(random)
    return measured_in(content), float(content["seconds"])


def _measure_random(arch: str, converted: Path, shop: _Shop) -> None:
    """Measure the network of that architecture that has learnt nothing, once."""
    file, key = _random_file(shop, arch), key_of("random", shop.digest, shop.seed)
    if kept(file, key) is None:
        found = _encode_and_measure(f"random {arch}", Encoder(converted, random=0), shop)
        keep(file, key, found, arch, 0.0)


def _encode_and_measure(name: str, encoder: Encoder, shop: _Shop) -> Measured:
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        shop.say(f"{name}: {done} of {total} images encoded, about {left:.0f} s left")

    features = encoder.features(shop.objects, shop.seed, progress)
    shop.say(f"{name}: measures")
    return measure(shop.objects, features, shop.seed)


def _random_file(shop: _Shop, arch: str) -> Path:
    return shop.output / "measured" / f"random {arch.replace('/', '-').replace(':', '-')}.json"
