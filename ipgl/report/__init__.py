"""Figures and the HTML report from a study's results."""

from ipgl.report.convergence import convergence_figure, diagnosed_runs
from ipgl.report.figures import learning_figure, robustness_figure, trials_figure
from ipgl.report.html import render_report, write_report
from ipgl.report.text import findings

__all__ = [
    "convergence_figure",
    "diagnosed_runs",
    "findings",
    "learning_figure",
    "render_report",
    "robustness_figure",
    "trials_figure",
    "write_report",
]
