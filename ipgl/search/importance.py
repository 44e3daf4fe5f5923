"""Importance of the searched hyperparameters for the score."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

from ipgl.config import Range
from ipgl.config.ranges import Scalar
from ipgl.search.space import distributions

MINIMUM_TRIALS = 6


def importances(
    trials: Sequence[tuple[Mapping[str, Scalar], float]], space: Mapping[str, Range]
) -> dict[str, float]:
    """Share of the score's variance by hyperparameter, the largest first (fANOVA, Hutter et al. 2014).

    Args:
        trials: Hyperparameters and score of each trial; trials whose score is NaN are left out.
        space: The search space.

    Returns:
        Shares that sum to 1; empty for fewer than six trials, or where all scores, or all hyperparameters, are equal.
    """
    known = distributions(space)
    scored = [
        (values, score) for values, score in trials if math.isfinite(score) and known.keys() <= values.keys()
    ]
    varied = any(len({values[key] for values, _ in scored}) > 1 for key in known)
    if len(scored) < MINIMUM_TRIALS or len({score for _, score in scored}) < 2 or not varied:
        return {}
    # Imports scikit-learn, which takes a second.
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for values, score in scored:
        params = {key: values[key] for key in known}
        study.add_trial(create_trial(params=params, distributions=known, value=score))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fANOVA warns of hyperparameters that never varied
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {key: float(share) for key, share in shares.items()}
