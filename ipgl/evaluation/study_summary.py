"""`StudySummary`, the outcome of a study: estimates, curves and tests of each method over final seeds."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ipgl.config.ranges import WidthUnit
from ipgl.evaluation.run_result import CurvePoint, MaybeNaN, RunResult


class Estimate(BaseModel):
    """A mean over the final seeds with its confidence interval.

    The interval is about the method, over other seeds and other test examples; with one seed, about that trained model
    and other test examples. Its ends are NaN where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: MaybeNaN
    low: MaybeNaN
    high: MaybeNaN


class GroupEstimate(BaseModel):
    """One group's test accuracy over the final seeds of a method.

    Attributes:
        aligned: As in `GroupCount`.
        count: Test examples of the group.
        training_count: Training examples of the group; 0 is a group that training never sees.
        accuracy: Mean over seeds with interval; NaN for an empty group.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: int
    attribute: int
    aligned: bool | None
    count: int
    training_count: int
    accuracy: Estimate


class MethodTest(BaseModel):
    """One method against another on the shifted test accuracy, with seeds and test examples both random.

    Each interval excludes 0 exactly if the p-value beside it is below `1 - confidence`.

    Attributes:
        a: Label of the first method.
        b: Label of the second.
        difference: `a - b` with its interval.
        p_value: Two-sided p-value of equal methods; NaN where one of them has a single run, or an accuracy is unknown.
        corrected: `a - b` with the interval that allows for the number of pairs of methods (Holm 1979).
        corrected_p_value: `p_value` corrected alike.
        degrees_of_freedom: Of Student's t behind them; NaN with a single run, infinite where no run differs.
        p_value_of_trained_models: Two-sided paired permutation test over the test examples, given the trained models:
            it says whether *these models* would differ on other examples, and nothing about training again. NaN where
            the two were not tested on the same examples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    a: str
    b: str
    difference: Estimate
    p_value: MaybeNaN
    corrected: Estimate
    corrected_p_value: MaybeNaN
    degrees_of_freedom: MaybeNaN = math.nan
    p_value_of_trained_models: MaybeNaN = math.nan


class SearchedSetting(BaseModel):
    """A setting that a method's search drew, by its dotted key.

    Attributes:
        range: As the study file writes it: `{log_uniform: [0.1, 100]}`.
        width: `log10(high / low)` in `decades`, the number of `values` of a choice, or `high - low` of a range that
            begins at 0 or below (`wide`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    range: str
    width: float
    unit: WidthUnit


class MethodBudget(BaseModel):
    """Budget of a method: search trials, training steps, and labelled or paired data.

    Attributes:
        trials: Search trials planned.
        ended: Search trials run, by status (`completed`, `stopped`, `failed`).
        epochs: Epochs of one trial that is not stopped; None where the search draws them.
        steps: Optimiser steps that the search trials took together.
        searched: What the search drew.
        fixed: The method's own settings that the study file sets to one value.
        starts: Known points that the search tried first.
        training_pairs: Pairs that training may use, 0 for a method that needs none; None for all that there are but
            the held-out ones, or a number that the search draws.
        held_out_pairs: Pairs set aside to measure invariance; None where the search draws their number.
        training_labels: What training reads beside images and pairs (`class labels`, `groups`, `environments`).
        selection_reads: What ranks and chooses the trials (`class labels`, `held-out pairs`, `validation groups`,
            `test split`: an oracle).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: int
    ended: dict[str, int]
    epochs: int | None
    steps: int
    searched: tuple[SearchedSetting, ...]
    fixed: dict[str, Any]
    starts: int
    training_pairs: int | None
    held_out_pairs: int | None
    training_labels: tuple[str, ...]
    selection_reads: tuple[str, ...]

    @property
    def selected_by_pairs(self) -> bool:
        """Whether held-out pairs had a say in which trial won."""
        return "held-out pairs" in self.selection_reads


class VarianceComponent(BaseModel):
    """How much of a test accuracy one source of randomness makes, as a standard deviation (a fraction).

    Attributes:
        source: What is drawn again while the rest stays, or `all` for the final runs' own spread.
        metric: The accuracy.
        deviation: Square root of `variance`; 0 where that is negative.
        low: Lower end of the deviation's interval.
        high: Upper end of the deviation's interval.
        variance: Unbiased estimate, which may be negative.
        noise: Variance that the finite number of test examples makes, already subtracted from `variance`.
        runs: Pairs of runs behind it (final runs for `all`); 0 where the method does not read the source.
        same_examples: Whether every pair was tested on the same examples. If not, nothing could be subtracted, and
            the component contains the draw of the test examples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["weights", "pairs", "data", "all"]
    metric: str
    deviation: MaybeNaN
    low: MaybeNaN
    high: MaybeNaN
    variance: MaybeNaN
    noise: MaybeNaN
    runs: int
    same_examples: bool


class MethodSummary(BaseModel):
    """Results of one method.

    Attributes:
        needs: Data that the method needs beyond labels, and what else its settings were selected by.
        winner: Key of the search trial that the selection rule chose; None if no trial completed.
        hyperparameters: The winner's searched values.
        score: The winner's value under the selection rule.
        estimates: Test metric name -> mean over the final seeds with interval (accuracies are fractions). A metric
            that is no mean over examples (`auroc`, `nll`, `brier`, `ece`, `rho`) has no interval (NaN). `worst_group`
            is the lowest of the groups' means over seeds; `worst_group_of_runs` is the mean over seeds of each run's
            lowest group, as papers print it, which several uncertain groups make too low: it has no interval.
        curves: Curve name -> points averaged over the final seeds.
        groups: Test accuracy of each group.
        importances: Searched setting -> its share of the score's variance over the search's trials (fANOVA,
            Hutter et al. 2014); empty where too few trials completed to tell.
        final_runs: Keys of the completed final runs.
        counts: Search trials by status (`completed`, `stopped`, `failed`).
        guessing: Whether the winner is no better than guessing on the validation split.
        guessing_finals: How many of the final runs are.
        budget: What the method was given; None in a summary that was written without it.
        components: What each source of randomness makes of the test accuracies, by source and metric; empty unless
            the study varies several sources.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    method: str
    needs: str = ""
    winner: str | None
    hyperparameters: dict[str, Any]
    score: MaybeNaN
    estimates: dict[str, Estimate]
    curves: dict[str, tuple[CurvePoint, ...]]
    groups: tuple[GroupEstimate, ...] = ()
    importances: dict[str, float] = {}
    final_runs: tuple[str, ...]
    counts: dict[str, int]
    guessing: bool = False
    guessing_finals: int = 0
    budget: MethodBudget | None = None
    components: tuple[VarianceComponent, ...] = ()


class RuleChoice(BaseModel):
    """The search trial that a selection rule would have chosen for one method.

    Attributes:
        shifted_accuracy: The trial's test accuracy at the study's target severity.
        regret: How much less that is than the best completed trial's of the method.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    trial: str
    shifted_accuracy: MaybeNaN
    regret: MaybeNaN


class RuleAudit(BaseModel):
    """Performance of a selection rule, computed afterwards on the test split.

    Attributes:
        oracle: The rule itself reads test data.
        trials: Completed search trials over all methods.
        spearman: Rank correlation over them between the rule's value and the shifted test accuracy. Methods that
            differ much from one another raise it even where the rule cannot tell one method's trials apart.
        within: Label -> the same correlation over that method's trials alone, where a winner is chosen; NaN below
            three trials.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    needs_groups: bool
    oracle: bool
    trials: int
    spearman: MaybeNaN
    within: dict[str, MaybeNaN] = {}
    choices: tuple[RuleChoice, ...]


class StudySummary(BaseModel):
    """Summary of a study, which the table, the report and the tracking server's parent run show.

    Attributes:
        config: The study file as resolved, defaults included.
        differences: `"a - b"` -> difference on the (general) mixture curve at each severity, for each pair of methods
            that share one, with an interval that allows for the number of pairs (Holm 1979, at each severity).
        tests: Each pair of methods compared on the shifted accuracy.
        class_names: Names of the classes, by label.
        attribute_names: Names of the attribute's values.
        remarks: What a reader must know before trusting the numbers (a run without a curve, an empty group, a
            damaged file, ...), one sentence each.
        rules: What each selection rule would have chosen.
        chance: Accuracy of guessing by the test split's class shares.
        seconds: Wall time of all sessions of the study together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    question: str
    selection: str
    confidence: float
    config: dict[str, Any]
    config_hash: str
    data_fingerprint: str
    environment: dict[str, str]
    methods: tuple[MethodSummary, ...]
    differences: dict[str, tuple[CurvePoint, ...]]
    tests: tuple[MethodTest, ...] = ()
    class_names: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    rules: tuple[RuleAudit, ...] = ()
    chance: MaybeNaN
    seconds: float


class StudyResults(BaseModel):
    """The summary with every run behind it; `histories` maps a run's key to its evaluation rows.

    `traces` maps the key of each method's first final run to what its training steps reported, in some 200 rows
    (`TrainingOutcome.trace`); empty where results were read from elsewhere than the study's folder.

    A history row holds `step`, `epoch`, `time` (seconds since the epoch) and float metrics
    (`train/loss`, `validation/accuracy`, `validation/flip_rate`, `validation/rho`, `score`, ...).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: StudySummary
    runs: tuple[RunResult, ...]
    histories: dict[str, tuple[dict[str, float], ...]]
    traces: dict[str, tuple[dict[str, float], ...]] = {}
