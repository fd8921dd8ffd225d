"""What a comparison varies, what all its rows share, and what its figures were measured on: read from the configs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clop_det.comparison.results.reading import clean, number, read_object
from clop_det.comparison.results.rows import grid_text
from clop_det.comparison.results.summary import Comparison
from clop_det.config.files import load_yaml
from clop_det.detection.stored import TRUTH
from clop_det.engine.run_folder import CONFIG_NAME
from clop_det.errors import UserError
from clop_det.figures import FAMILIES

_RULES = {
    "coco": "COCO's rule (101 recall points",
    "voc07": "VOC's rule of 2007 (11 recall points",
    "voc12": "VOC's rule of 2010 to 2012 (area under the curve",
}
_SOME = 4  # values that are listed
_CHECKS = "annotation_checks.json"  # written by `detection.run_data`


def varied(comparison: Comparison) -> str:
    """What differs between the rows by intent: initialisations, shares of labels, grids, detection configs, seeds."""
    settings = [summary.setting for summary in comparison.summaries]
    parts = [f"the initialisation ({', '.join(comparison.inits)})"]
    shares = sorted({setting.label_fraction for setting in settings if setting.label_fraction is not None})
    if len(shares) > 1:
        parts.append(f"the share of labels ({', '.join(f'{100 * share:g} %' for share in shares)})")
    points = {(*setting.pretrain_grid, *setting.detection_grid) for setting in settings} - {()}
    keys = dict.fromkeys(key for point in points for key, _ in point)
    parts += [f"{grid_text(((key, ''),)).strip()} ({_listed(_of(points, key))})" for key in keys]
    names = list(dict.fromkeys(setting.detection for setting in settings if setting.detection))
    parts += [f"the detection config ({', '.join(names)})"] if len(names) > 1 else []
    return "; ".join(parts) + "."


def shared(comparison: Comparison) -> list[tuple[str, str]]:
    """(name, what it is) of the recipe; values that differ between the runs are all named."""
    pretraining, detection = (_configs(comparison, kind) for kind in ("pretrain", "detect"))
    lines = []
    if pretraining:
        parts = [_steps(pretraining), _word(pretraining, "ENCODER.ARCH"), _images(pretraining)]
        lines.append(("pretraining", ", ".join(filter(None, parts))))
    if detection:
        parts = [_word(detection, "MODEL.META_ARCHITECTURE"), _word(detection, "MODEL.BACKBONE.NAME", "with ")]
        lines.append(("detector", " ".join(filter(None, parts))))
        sets = _listed({", ".join(_texts(_get(cfg, "DATASETS.TRAIN"))) for cfg in detection.values()})
        given = [_get(cfg, "DATASETS.TRAIN_FRACTION") for cfg in detection.values()]
        share = {f"{100 * value:g} %" for value in given if number(value, 0, 1) and value != 1}
        part = f", {_listed(share)} of the images" if share else ""
        lines.append(("fine-tuning", ", ".join(filter(None, [_steps(detection), f"on {sets}{part}" if sets else ""]))))
    seeds = sorted({row.seed for row in comparison.rows})
    text = ", ".join(map(str, seeds[:12])) + (f" and {len(seeds) - 12} more" if len(seeds) > 12 else "")
    lines.append(("seeds", f"{text}; one seed gives every row the same split, views and order of images"))
    return [line for line in lines if line[1].strip()]


def measured(comparison: Comparison) -> list[tuple[str, str]]:
    """(figure, by which rule and on what) for the average precision and the kNN accuracy."""
    lines = []
    for detection in dict.fromkeys(row.setting.detection for row in comparison.rows if row.setting.detection):
        runs = [row.folders["detect"] for row in comparison.rows if _ended(row, detection)]
        if runs:
            several = len({row.setting.detection for row in comparison.rows}) > 1
            lines.append((f"AP ({detection})" if several else "AP", _precision(comparison, runs, detection)))
    configs = list((_configs(comparison, "detect") or _configs(comparison, "pretrain")).values())
    texts = {text for cfg in configs if (text := _neighbours(cfg))}
    if texts and any("knn_top1" in row.metrics for row in comparison.rows):
        lines.append(("kNN", _listed(texts)))
    return lines


def truth_of(run: Path) -> dict[str, Any]:
    """The ground truth that a run has kept of its (first) test set; empty: none."""
    found = sorted(run.glob(f"{TRUTH}*.json"))
    return read_object(found[0]) if found else {}


def _ended(row: Any, detection: str) -> bool:
    return row.status == "done" and row.setting.detection == detection and "detect" in row.folders


def _precision(comparison: Comparison, runs: Sequence[Path], detection: str) -> str:
    kept = next(filter(None, map(truth_of, runs)), {})
    info: dict[str, Any] = _get(kept, "info") if isinstance(_get(kept, "info"), dict) else {}
    names = _texts([info.get("data_set")] if info else _get(_config(comparison, runs[0]), "DATASETS.TEST")) or [""]
    headline = info.get("headline") or _family(comparison, detection)
    rule = _RULES.get(str(headline), "a rule that the runs do not name (")
    most = info.get("most")
    limit = f"; the best {most} detections of a class in an image" if headline == "coco" and number(most) else ""
    boxes, images = kept.get("annotations"), kept.get("images")
    checks = _get(read_object(runs[0] / _CHECKS), "data_sets") or {}
    entry = checks.get(names[0]) if isinstance(checks, dict) else None
    if isinstance(boxes, list) and isinstance(images, list):
        counted = [box for box in boxes if isinstance(box, dict) and not (box.get("difficult") or box.get("iscrowd"))]
        classes = len({str(box.get("category_id")) for box in counted})
        on = f"{len(images)} images, {len(counted)} boxes of {classes} classes"
        ignored = len(boxes) - len(counted)
        on += f" ({ignored} further boxes, difficult or crowds, count neither way)" if ignored else ""
    elif isinstance(entry, dict):
        on = f"{entry.get('images')} images, {entry.get('annotations')} boxes"
    else:
        on = "images that the runs do not count"
    return f"{rule}, mean over overlaps .50 to .95{limit}) on {clean(names[0])}: {on}"


def _family(comparison: Comparison, detection: str) -> str:
    """The family whose figures the headline repeats; "" if several do, or none."""
    found = [row.metrics for row in comparison.rows if row.setting.detection == detection and "AP" in row.metrics]
    same = [name for name in FAMILIES if all(metrics.get(f"{name}/AP") == metrics["AP"] for metrics in found)]
    return same[0] if found and len(same) == 1 else ""


def _neighbours(cfg: Mapping[str, Any]) -> str:
    settings = _get(cfg, "CLASSIFICATION")
    if not isinstance(settings, dict) or not settings.get("ROOT"):
        return ""
    neighbours = _get(cfg, "PROBE.KNN.K")
    votes = f"votes of {neighbours[0]} neighbours; " if isinstance(neighbours, list) and neighbours else ""
    bank, queries = (_get(cfg, f"PROBE.{key}") for key in ("MAX_BANK", "MAX_QUERIES"))
    texts = [
        f"{f'at most {most} images' if most else 'all images'} of {settings.get(split, '?')}"
        for most, split in ((bank, "TRAIN_SPLIT"), (queries, "EVAL_SPLIT"))
    ]
    return str(clean(f"{votes}bank: {texts[0]}, queries: {texts[1]}, of {settings['ROOT']}"))


def _steps(configs: Mapping[Path, Mapping[str, Any]]) -> str:
    words = [
        _word(configs, "SOLVER.MAX_ITER", after=" steps"),
        _word(configs, "SOLVER.IMS_PER_BATCH", "of ", " images"),
    ]
    return ", ".join(filter(None, [" ".join(filter(None, words)), _word(configs, "SOLVER.BASE_LR", "learning rate ")]))


def _images(configs: Mapping[Path, Mapping[str, Any]]) -> str:
    return " ".join(
        filter(None, [_word(configs, "CLASSIFICATION.ROOT"), _word(configs, "CLASSIFICATION.IMAGE_SIZE", "at ", " px")])
    )


def _word(configs: Mapping[Path, Mapping[str, Any]], key: str, before: str = "", after: str = "") -> str:
    text = _listed({clean(str(value)) for cfg in configs.values() if (value := _get(cfg, key)) not in (None, "")})
    return f"{before}{text}{after}" if text else ""


def _listed(values: Iterable[str]) -> str:
    """ "a", or "a or b": values that differ between the runs."""
    ordered = sorted(values, key=lambda text: (len(text), text))
    more = f" or {len(ordered) - _SOME} others" if len(ordered) > _SOME else ""
    return " or ".join(ordered[:_SOME]) + more


def _of(points: Iterable[Sequence[tuple[str, str]]], key: str) -> set[str]:
    return {dict(point)[key] for point in points if key in dict(point)}


def _configs(comparison: Comparison, kind: str) -> dict[Path, Mapping[str, Any]]:
    folders = dict.fromkeys(row.folders[kind] for row in comparison.rows if kind in row.folders)
    return {folder: cfg for folder in folders if (cfg := _config(comparison, folder))}


def _config(comparison: Comparison, folder: Path) -> Mapping[str, Any]:
    if folder not in comparison.configs:
        try:
            comparison.configs[folder] = load_yaml(folder / CONFIG_NAME)
        except UserError:
            comparison.configs[folder] = {}
    return comparison.configs[folder]


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _get(content: Any, key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
