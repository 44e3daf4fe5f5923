"""Running a study from its plan to its report, and resuming one that was interrupted."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import FrameType

from ipgl.config import Phase, TrialConfig, read_document
from ipgl.core.atomic_files import write_atomically
from ipgl.core.errors import StudyStateError
from ipgl.core.redaction import without_credentials
from ipgl.evaluation import StudyResults
from ipgl.execution.events import AllEvents, Events
from ipgl.plan.final_runs import component_trials, final_trials
from ipgl.plan.preflight import check_by_building
from ipgl.plan.study_plan import StudyPlan, make_plan, skipping_bad
from ipgl.report import write_report
from ipgl.storage.study_dir import StudyFolder, StudyState, studies_at, study_command, try_to_write
from ipgl.storage.study_lock import locked
from ipgl.study.background_sync import BackgroundSync
from ipgl.study.gallery import make_gallery
from ipgl.study.results import choose_winners, summarise
from ipgl.study.study_tracker import StudyTracker
from ipgl.tracking import Tracker, make_tracker
from ipgl.trial.user_code import copy_imports

# In this order, so that results are available as soon as the final runs have ended.
_RETRAINED: tuple[Phase, ...] = ("final", "component")


@dataclass(frozen=True)
class FinishedStudy:
    """A study that has finished.

    Attributes:
        results: Its results.
        folder: Its folder on storage.
        links: Addresses of the study in the tracker's user interface, by title.
        warnings: What the tracker could not record, one sentence each.
    """

    results: StudyResults
    folder: StudyFolder
    links: dict[str, str]
    warnings: list[str]


def storage_folder(plan: StudyPlan) -> StudyFolder:
    """The folder in which the results of this study are stored."""
    return StudyFolder.at(plan.config.storage, plan.config.name)


def start_study(plan: StudyPlan, watcher: Events, address: str | None = None) -> FinishedStudy:
    """Run a new study.

    Raises:
        StudyStateError: The name is in use on this storage, or the storage cannot be written.
        IpglError: Another error that the user can correct.
        KeyboardInterrupt: The study was interrupted; `resume_study` continues it.
    """
    folder = storage_folder(plan)
    if folder.remote and plan.config.tracking.name == "mlflow" and plan.config.tracking.uri is None:
        raise StudyStateError(
            f"storage {folder.remote.display_uri}: MLflow cannot keep its database at a URI; set `tracking.uri` in "
            f"{plan.document.source} to a server or database, or `tracking: {{name: none}}`"
        )
    _refuse_name_in_use(plan, folder)
    fingerprint = check_by_building(plan).fingerprint
    _create(folder)
    tracker = make_tracker(plan.config.tracking, folder.path.parent, folder.files.tracking)
    tracker.check()
    with locked(folder):
        _refuse_name_in_use(plan, folder)  # another process may have created it meanwhile
        write_atomically(folder.files.source, lambda file: file.write(plan.document.text.encode()))
        uri = plan.config.tracking.uri or ""
        if without_credentials(uri) != uri:
            folder.files.source.chmod(0o600)  # it contains a password, which resuming needs
        copy_imports(plan.config.imports, Path(plan.document.source).parent, folder.path)
        folder.publish()
        execution = f"{plan.config.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        folder.write_state(
            {
                "execution": execution,
                "config_hash": plan.hash,
                "file": plan.document.source,
                "created_at": time.time(),
                "seconds": 0.0,
                "sessions": 0,
                "phase": "search",
                "skip_bad": bool(plan.config.dataset.settings.get("skip_bad", False)),
            }
        )
        return _run(plan, folder, watcher, tracker, address, fingerprint)


def _refuse_name_in_use(plan: StudyPlan, folder: StudyFolder) -> None:
    state = folder.read_state()
    if state is None:
        return
    done = state["phase"] == "finished"
    advice = (
        f"see it with `{study_command(folder, 'show')}`"
        if done
        else f"go on with it by `{study_command(folder, 'resume')}`"
    )
    raise StudyStateError(
        f"{folder.display_uri}: a study's name may be used once in a storage folder, and {folder.name!r} is "
        f"{'finished' if done else 'begun'}; {advice}, or change `name` in {plan.document.source}, or remove the folder"
    )


def resume_study(folder: StudyFolder, watcher: Events, address: str | None = None) -> FinishedStudy:
    """Go on with an interrupted study; of a finished one, the summary and the report are made again.

    Raises:
        StudyStateError: There is no such study, it is running, or its files do not fit together.
        KeyboardInterrupt: The study was interrupted again.
    """
    state = require_state(folder)
    plan = stored_plan(folder)
    if plan.hash != state["config_hash"]:
        raise StudyStateError(
            f"{folder.files.source}: the file was changed after the study began, and its trials would not compare; "
            "restore it, or start another study with the changed file"
        )
    fingerprint = check_by_building(plan).fingerprint
    tracker = make_tracker(plan.config.tracking, folder.path.parent, folder.files.tracking)
    with locked(folder):
        return _run(plan, folder, watcher, tracker, address, fingerprint)


def stored_plan(folder: StudyFolder) -> StudyPlan:
    """The plan of a study on storage; its `storage` is the present location, which may differ from the file's."""
    folder.fetch()
    document = read_document(folder.files.source)
    skipped = (folder.read_state() or {}).get("skip_bad", False)
    plan = make_plan(skipping_bad(document) if skipped else document)
    config = plan.config.model_copy(update={"storage": folder.storage})
    return StudyPlan(plan.document, config, plan.methods)


def require_state(folder: StudyFolder) -> StudyState:
    """The state of a study that must exist.

    Raises:
        StudyStateError: There is no study in the folder; the message lists the studies on the same storage.
    """
    state = folder.read_state()
    if state is None:
        names = [other.name for other in studies_at(folder.storage)]
        known = (
            f"studies there: {', '.join(names)}" if names else "there is no study yet: `ipgl study run FILE`"
        )
        raise StudyStateError(f"{folder.display_uri}: no study of this name; {known}")
    return state


def _run(
    plan: StudyPlan,
    folder: StudyFolder,
    watcher: Events,
    tracker: Tracker,
    address: str | None,
    fingerprint: str,
) -> FinishedStudy:
    state = require_state(folder)
    started, before = time.monotonic(), float(state["seconds"])

    def write_phase(phase: str, packing: str = "") -> None:
        state["phase"], state["seconds"] = phase, before + time.monotonic() - started
        if packing:
            state["environment"]["packing"] = packing
        folder.write_state(state)

    state["sessions"] += 1
    cluster = address or os.environ.get("RAY_ADDRESS") or "local"
    state["environment"] = state.get("environment", {}) | {"ray_cluster": cluster}
    write_phase(state["phase"])
    # An unusable address ends a new study, where it is probably mistyped; a resumed study runs without the tracker.
    study = StudyTracker(
        tracker, plan, folder, str(state["execution"]), float(state["created_at"]), fingerprint
    )
    sync = BackgroundSync(study, must_open=state["sessions"] == 1)
    try:
        with _interruptible(), sync:
            _train(plan, folder, AllEvents(sync, watcher), address, write_phase)
            results = finish(plan, folder)
            sync.close(results)
            write_phase("finished")
    except BaseException:
        write_phase(state["phase"])
        raise
    return FinishedStudy(results, folder, tracker.links, sync.warnings)


def finish(plan: StudyPlan, folder: StudyFolder) -> StudyResults:
    """Compute the results of a study and write its summary and report."""
    results = summarise(plan, folder)
    folder.write_summary(results.summary)
    write_report(results, folder.files.report, gallery=make_gallery(plan, folder, results))
    folder.publish()
    return results


def _train(
    plan: StudyPlan,
    folder: StudyFolder,
    events: Events,
    address: str | None,
    write_phase: Callable[..., None],
) -> None:
    """Run the search, the final and the component runs that have no result yet; Ray starts only if there are any."""
    winners = folder.read_winners()
    if winners is not None and not any(_left(plan, folder, winners, phase) for phase in _RETRAINED):
        return
    from ipgl.execution.engine import RayEngine  # takes over a second to import

    with RayEngine(plan, folder, events, address) as engine:
        if winners is None:
            for method in plan.methods:
                engine.search(method.label)
            write_phase("search", engine.packing)
            winners = choose_winners(plan, folder)
            folder.write_winners(winners)
        for phase in _RETRAINED:
            if left := _left(plan, folder, winners, phase):
                write_phase(phase)
                engine.final(left)


def _left(
    plan: StudyPlan, folder: StudyFolder, winners: Mapping[str, str | None], phase: Phase
) -> list[TrialConfig]:
    """Final or component runs without a result, ordered by draw first, so that all methods advance alike."""
    numbered: list[tuple[int, TrialConfig]] = []
    for key in winners.values():
        if key is None:
            continue
        run = folder.trial(key).require_result()
        if phase == "final":
            numbered += enumerate(final_trials(plan, run.label, run.hyperparameters))
        else:
            repeated = component_trials(plan, run.label, run.hyperparameters)
            numbered += [(trial.number, trial.config) for trial in repeated]
    configs = [config for _, config in sorted(numbered, key=itemgetter(0))]
    return [config for config in configs if folder.trial(config.key).read_result() is None]


def _create(folder: StudyFolder) -> None:
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if error := try_to_write(folder):
            raise error
    except OSError as error:
        raise StudyStateError(
            f"{folder.display_uri}: the storage folder cannot be written ({error.strerror}); "
            "set `storage` to a folder that can, or change its permissions"
        ) from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, which a stopped job receives."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # only the main thread can handle signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
