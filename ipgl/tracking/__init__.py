"""Experiment tracking in MLflow. The only package that imports mlflow, and only once a tracker is used."""

from ipgl.tracking.base import DataView, ModelView, RunView, StudyView, Tracker
from ipgl.tracking.fetch import FetchedStudy, fetch_study
from ipgl.tracking.mlflow_tracker import MlflowTracker
from ipgl.tracking.none_tracker import NoneTracker
from ipgl.tracking.registry import TRACKERS, make_tracker
from ipgl.tracking.store import Store, locate
from ipgl.tracking.ui import run_ui, ui_command

__all__ = [
    "TRACKERS",
    "DataView",
    "FetchedStudy",
    "MlflowTracker",
    "ModelView",
    "NoneTracker",
    "RunView",
    "Store",
    "StudyView",
    "Tracker",
    "fetch_study",
    "locate",
    "make_tracker",
    "run_ui",
    "ui_command",
]
