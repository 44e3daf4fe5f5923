"""The Python interface of IPGL; its functions are also attributes of `ipgl` itself."""

from ipgl.api.evaluating import Evaluation, evaluate
from ipgl.api.registering import register_dataset, register_method, register_model
from ipgl.api.studies import Study, load_study, run_study
from ipgl.api.training import Trained, train

__all__ = [
    "Evaluation",
    "Study",
    "Trained",
    "evaluate",
    "load_study",
    "register_dataset",
    "register_method",
    "register_model",
    "run_study",
    "train",
]
