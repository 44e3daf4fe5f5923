"""The Markdown report: the same content as the page, with all markup escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from ipgl.evaluation import StudyResults
from ipgl.report import markdown_report
from ipgl.report.markdown import escaped, markdown_table
from ipgl.report.tables import DataTable

if TYPE_CHECKING:
    from tests.report.conftest import Build


def test_sections_and_numbers(two_methods: StudyResults) -> None:
    text = markdown_report(two_methods)
    assert text.startswith("# colours\n\n> Does it follow the colour?\n")
    for said in (
        "## Findings\n\nipg has the highest accuracy",
        "| Method | Needs | Agreement 100% (severity 0%) | Agreement 10% (severity 90%) |",
        "| erm |  | **90.0%** (88.0 to 92.0) | 25.2% (23.0 to 27.4) |",
        "| Bias-conflicting | Agreement | erm | ipg |\n| ---: | ---: | ---: | ---: |",
        "| 90% | 10% | 25.2% (23.0 to 27.4) | 66.4% (64.1 to 68.7) |",
        "```sh\nipgl study run colours.yaml\n```",
        "- Data fingerprint: `f00d`",
    ):
        assert said in text


def test_the_configuration_can_be_read_back(two_methods: StudyResults) -> None:
    block = markdown_report(two_methods).split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(block) == two_methods.summary.config


def test_markup_is_shown_not_followed() -> None:
    assert escaped("a|b <img src=x> [x](y) *z* `c` _d_") == (
        r"a\|b &lt;img src=x&gt; \[x\](y) \*z\* \`c\` \_d\_"
    )
    assert escaped("two\nlines") == "two lines"


def test_a_fence_is_longer_than_any_inside(build: type[Build]) -> None:
    summary = build.summary(build.method("a", build.ipg), config={"question": "```\nout\n```"})
    text = markdown_report(build.results(summary))
    assert "````yaml\n" in text


def test_remarks_come_before_findings_and_failures_are_listed(build: type[Build]) -> None:
    summary = build.summary(build.method("a", build.ipg), remarks=("A file is damaged.",))
    text = markdown_report(build.results(summary, build.failed_run("a", 1), build.failed_run("a", 2)))
    assert text.index("- A file is damaged.") < text.index("## Findings")
    assert "- a, search, 2 runs: **NonFiniteLoss** the loss is nan" in text


def test_an_empty_table_is_said() -> None:
    assert markdown_table(DataTable("Nothing", ("a",), ())) == "Nothing to show."


def test_no_credentials(build: type[Build]) -> None:
    summary = build.summary(
        build.method("a", build.ipg),
        config={"tracking": {"uri": "https://ann:hunter2@host/"}},
        environment={"HF_TOKEN": "hunter2"},
        remarks=("no answer from https://ann:hunter2@host/",),
    )
    assert "hunter2" not in markdown_report(
        build.results(summary, build.failed_run("a", message="https://u:hunter2@h"))
    )


def test_a_method_that_guesses_is_said_in_the_table_and_explained_below(build: type[Build]) -> None:
    guesser = build.method("a", build.ipg, guessing=True, guessing_finals=2)
    text = markdown_report(build.results(build.summary(guesser, build.method("b", build.erm))))
    assert "| a (no better than guessing) |" in text
    assert "| b |" in text
    explained = "No better than guessing: on the validation split one class alone is predicted, or"
    assert explained in text
    assert explained not in markdown_report(build.results(build.summary(build.method("b", build.erm))))
