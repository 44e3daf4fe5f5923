"""Group metrics, robustness curves, intervals, selection rules, results."""

from ipgl.evaluation.aggregate import Comparison, Tested, compare
from ipgl.evaluation.curve_types import CurveType, curve_type
from ipgl.evaluation.curves import (
    area_under_curve,
    interpolation_axis,
    run_curves,
)
from ipgl.evaluation.metrics import (
    expected_calibration_error,
    group_metrics,
    group_results,
    pair_metrics,
    prediction_metrics,
    probability_metrics,
    wilson_interval,
)
from ipgl.evaluation.mixture import mixture_remarks, mixture_weights
from ipgl.evaluation.predict import predict_between, predict_logits
from ipgl.evaluation.predictions import Predictions, read_predictions
from ipgl.evaluation.run_result import CurvePoint, Failure, GroupCount, RunResult
from ipgl.evaluation.sampling_variance import weighted_accuracy
from ipgl.evaluation.selection import SELECTION_RULES
from ipgl.evaluation.significance import paired_permutation_test
from ipgl.evaluation.study_summary import (
    Estimate,
    GroupEstimate,
    MethodSummary,
    MethodTest,
    RuleAudit,
    RuleChoice,
    StudyResults,
    StudySummary,
    VarianceComponent,
)
from ipgl.evaluation.worst_case import worst_case_kl, worst_case_tv

__all__ = [
    "SELECTION_RULES",
    "Comparison",
    "CurvePoint",
    "CurveType",
    "Estimate",
    "Failure",
    "GroupCount",
    "GroupEstimate",
    "MethodSummary",
    "MethodTest",
    "Predictions",
    "RuleAudit",
    "RuleChoice",
    "RunResult",
    "StudyResults",
    "StudySummary",
    "Tested",
    "VarianceComponent",
    "area_under_curve",
    "compare",
    "curve_type",
    "expected_calibration_error",
    "group_metrics",
    "group_results",
    "interpolation_axis",
    "mixture_remarks",
    "mixture_weights",
    "pair_metrics",
    "paired_permutation_test",
    "predict_between",
    "predict_logits",
    "prediction_metrics",
    "probability_metrics",
    "read_predictions",
    "run_curves",
    "weighted_accuracy",
    "wilson_interval",
    "worst_case_kl",
    "worst_case_tv",
]
