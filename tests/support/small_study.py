"""A finished study on storage within two seconds: real trials, run one after the other without a cluster."""

from __future__ import annotations

import time
from itertools import chain
from pathlib import Path

import torch

from ipgl.config import read_document
from ipgl.plan.final_runs import component_trials, final_trials
from ipgl.plan.study_plan import StudyPlan, make_plan
from ipgl.storage.study_dir import StudyFolder, StudyState
from ipgl.study.results import choose_winners
from ipgl.study.runner import finish, storage_folder, stored_plan
from ipgl.training import SilentReporter
from ipgl.trial.run import run_trial
from ipgl.trial.user_code import copy_imports

STUDY = """\
name: {name}
question: Do pairs help?
dataset: {{name: colored_mnist, source: digits, seed: {data_seed}, pairs: {{train: {pairs}, held_out: 40}}}}
model: {{name: mlp, width: 16, depth: 1}}
methods:
  erm: {{}}
  ipg: {{update: additive, discrepancy: logit, adaptivity: "off", strength: 10}}
training: {{epochs: 3, batch_size: 100, evaluations: 3, optimiser: {{name: adam, lr: 3e-3}}, device: cpu}}
search: {{trials: 1, final_seeds: 2}}
evaluation: {{permutations: 200{evaluation}}}
tracking: {{name: none}}
storage: {storage}
{more}
"""


def study_text(
    storage: Path,
    name: str = "small",
    *,
    data_seed: int = 0,
    pairs: int = 60,
    evaluation: str = "",
    more: str = "",
) -> str:
    """A study file; `evaluation` and `more` are added to it."""
    return STUDY.format(
        name=name, data_seed=data_seed, pairs=pairs, evaluation=evaluation, storage=storage, more=more
    )


def finished_study(storage: Path, text: str | None = None) -> tuple[StudyPlan, StudyFolder]:
    """Run a study file's text from beginning to end."""
    storage.mkdir(parents=True, exist_ok=True)
    file = storage.parent / "study.yaml"
    file.write_text(text or study_text(storage))
    plan = make_plan(read_document(file))
    folder = storage_folder(plan)
    folder.path.mkdir()
    folder.files.source.write_text(file.read_text())
    copy_imports(plan.config.imports, file.parent, folder.path)
    state: StudyState = {
        "execution": f"{plan.config.name}-1",
        "config_hash": plan.hash,
        "file": str(file),
        "created_at": time.time(),
        "seconds": 3.0,
        "sessions": 1,
        "phase": "search",
    }
    folder.write_state(state)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            for method in plan.methods:
                config = plan.trial(method.label, {}, "search", plan.config.search.seed)
                run_trial(config, folder.trial(config.key), SilentReporter())
            folder.write_winners(choose_winners(plan, folder))
            finals = [final_trials(plan, method.label, {}) for method in plan.methods]
            repeated = [t.config for m in plan.methods for t in component_trials(plan, m.label, {})]
            for config in (*chain(*zip(*finals, strict=True)), *repeated):
                run_trial(config, folder.trial(config.key), SilentReporter())
    finally:
        torch.set_num_threads(threads)
    folder.write_state(state | {"phase": "finished"})
    finish(plan, folder)
    return stored_plan(folder), folder
