"""Figures, tables, and the report of a study's results as HTML, Markdown, CSV and Parquet."""

from ipgl.report.convergence import DiagnosedRun, convergence_figure, diagnosed_runs
from ipgl.report.export import report_tables, write_tables
from ipgl.report.figures import invariance_figure, learning_figure, robustness_figure, trials_figure
from ipgl.report.findings import findings
from ipgl.report.gallery import Gallery, Mistake, PicturePair
from ipgl.report.html import render_report, write_report
from ipgl.report.markdown import markdown_report
from ipgl.report.timeline import timeline_figure

__all__ = [
    "DiagnosedRun",
    "Gallery",
    "Mistake",
    "PicturePair",
    "convergence_figure",
    "diagnosed_runs",
    "findings",
    "invariance_figure",
    "learning_figure",
    "markdown_report",
    "render_report",
    "report_tables",
    "robustness_figure",
    "timeline_figure",
    "trials_figure",
    "write_report",
    "write_tables",
]
