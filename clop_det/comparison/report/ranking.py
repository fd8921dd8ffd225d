"""The score that a ranking gave before any fine-tuning, against what came out."""

from __future__ import annotations

from matplotlib import figure as plots

from clop_det.comparison.report.labels import conditions, detections, legend, on_axis
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.results.statistics import correlation, ranks
from clop_det.comparison.results.summary import Comparison


def metric_against_score(comparison: Comparison) -> list[Picture]:
    """One picture for each detection config; none without a ranking, or with fewer than two of its checkpoints."""
    pictures = (_picture(comparison, detection) for detection in filter(None, detections(comparison)))
    return [picture for picture in pictures if picture is not None]


def _picture(comparison: Comparison, detection: str) -> Picture | None:
    scores = comparison.ranking.get("scores") or {}
    shown = [
        (summary.setting.init, summary.metrics[comparison.metric])
        for summary in comparison.summaries
        if summary.setting.detection == detection
        and summary.setting.init in scores
        and comparison.metric in summary.metrics
    ]
    if len(shown) < 2:
        return None
    palette, metric = colours(comparison.inits), comparison.catalogue.find(comparison.metric)

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for init, interval in shown:
            score, uncertain = scores[init]
            colour = palette[init]
            axes.plot([score - uncertain, score + uncertain], [interval.mean] * 2, color=colour, alpha=0.6)
            if interval.n > 2:
                axes.plot([score] * 2, [interval.low, interval.high], color=colour, alpha=0.6)
            axes.plot(score, interval.mean, "o", color=colour, label=init, markersize=7)
        axes.margins(0.08)
        axes.set_xlabel("score of the ranking, before any fine-tuning")
        axes.set_ylabel(on_axis(metric))
        legend(axes)

    x, y = [scores[init][0] for init, _ in shown], [interval.mean for _, interval in shown]
    rho = correlation(ranks(x), ranks(y))
    caption = (
        f"Means over seeds. Rule: {comparison.ranking['rule']}. Level lines are the 95 % interval of a score's distance"
        f" to the first, upright ones that of {metric.label} over seeds."
    )
    caption += f" Spearman rho = {rho:.2f}." if len(shown) > 2 else ""
    title = f"Did the ranking predict {metric.label}?{conditions(comparison, detection, None)}"
    return render(f"metric_against_score_{detection}", title, caption, draw)
