"""Group metrics, robustness curves, intervals, selection rules, results."""

from ipgl.evaluation.curves import area_under_curve, mixture_curve, mixture_weights, weighted_accuracy
from ipgl.evaluation.metrics import group_metrics, group_results, pair_metrics, prediction_metrics
from ipgl.evaluation.predict import predict_logits
from ipgl.evaluation.result import CurvePoint, Failure, GroupCount, RunResult
from ipgl.evaluation.selection import SELECTION_RULES
from ipgl.evaluation.summary import Estimate, MethodSummary, RuleAudit, RuleChoice, StudyResults, StudySummary

__all__ = [
    "SELECTION_RULES",
    "CurvePoint",
    "Estimate",
    "Failure",
    "GroupCount",
    "MethodSummary",
    "RuleAudit",
    "RuleChoice",
    "RunResult",
    "StudyResults",
    "StudySummary",
    "area_under_curve",
    "group_metrics",
    "group_results",
    "mixture_curve",
    "mixture_weights",
    "pair_metrics",
    "predict_logits",
    "prediction_metrics",
    "weighted_accuracy",
]
