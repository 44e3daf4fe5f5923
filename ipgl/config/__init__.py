"""Study files: schema, search ranges, and errors with file, line and key."""

from ipgl.config.base import Settings
from ipgl.config.document import Document, DocumentError, parse_document, read_document
from ipgl.config.load import check_document, load_study
from ipgl.config.ranges import (
    RANGES,
    Choice,
    Int,
    LogInt,
    LogUniform,
    Range,
    RangeError,
    Uniform,
    parse_range,
)
from ipgl.config.study import (
    Component,
    EvaluationSettings,
    ResourceSettings,
    SchedulerSettings,
    SearchSettings,
    Source,
    StudyConfig,
    TrackingSettings,
)
from ipgl.config.training import OptimiserSettings, ScheduleSettings, TrainingSettings
from ipgl.config.trial import Phase, TrialConfig, config_hash
from ipgl.config.validation import ConfigError, Violation, dotted, violations_of

__all__ = [
    "RANGES",
    "Choice",
    "Component",
    "ConfigError",
    "Document",
    "DocumentError",
    "EvaluationSettings",
    "Int",
    "LogInt",
    "LogUniform",
    "OptimiserSettings",
    "Phase",
    "Range",
    "RangeError",
    "ResourceSettings",
    "ScheduleSettings",
    "SchedulerSettings",
    "SearchSettings",
    "Settings",
    "Source",
    "StudyConfig",
    "TrackingSettings",
    "TrainingSettings",
    "TrialConfig",
    "Uniform",
    "Violation",
    "check_document",
    "config_hash",
    "dotted",
    "load_study",
    "parse_document",
    "parse_range",
    "read_document",
    "violations_of",
]
