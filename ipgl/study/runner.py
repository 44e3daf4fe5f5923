"""One execution of a study, from its file to its report, and going on after an interruption."""

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

# In this order, so that a study can be read as soon as its final runs have ended.
_RETRAINED: tuple[Phase, ...] = ("final", "component")


@dataclass(frozen=True)
class FinishedStudy:
    """What a study's end hands over."""

    results: StudyResults
    folder: StudyFolder
    links: dict[str, str]
    warnings: list[str]


def storage_folder(plan: StudyPlan) -> StudyFolder:
    """Where this study is or will be kept."""
    return StudyFolder.at(plan.config.storage, plan.config.name)


def start_study(plan: StudyPlan, watcher: Events, address: str | None = None) -> FinishedStudy:
    """Run a new study.

    Raises:
        StudyStateError: The name is in use on this storage, or the storage cannot be written.
        IpglError: Anything else that the user can mend.
        KeyboardInterrupt: It was interrupted; `resume_study` goes on.
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
        _refuse_name_in_use(plan, folder)  # another process may have begun it meanwhile
        write_atomically(folder.files.source, lambda file: file.write(plan.document.text.encode()))
        uri = plan.config.tracking.uri or ""
        if without_credentials(uri) != uri:
            folder.files.source.chmod(0o600)  # a password stands there, and resuming needs it
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
        KeyboardInterrupt: It was interrupted again.
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
    """The plan of a study on storage, whose storage is where it is now."""
    folder.fetch()
    document = read_document(folder.files.source)
    skipped = (folder.read_state() or {}).get("skip_bad", False)
    plan = make_plan(skipping_bad(document) if skipped else document)
    config = plan.config.model_copy(update={"storage": folder.storage})
    return StudyPlan(plan.document, config, plan.methods)


def require_state(folder: StudyFolder) -> StudyState:
    """A study's state.

    Raises:
        StudyStateError: There is no study in the folder; the message lists those beside it.
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

    def write_phase(phase: str) -> None:
        state["phase"], state["seconds"] = phase, before + time.monotonic() - started
        folder.write_state(state)

    state["sessions"] += 1
    state["environment"] = {"ray_cluster": address or os.environ.get("RAY_ADDRESS") or "local"}
    write_phase(state["phase"])
    # A new study stops at an address that cannot be used, because a typing mistake is likelier than a server that
    # is away; a resumed one goes on without it.
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
    """Summarise what is on storage, and write summary and report."""
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
    write_phase: Callable[[str], None],
) -> None:
    """Search, choose, retrain: whatever of it storage does not hold yet; Ray starts only if something is left."""
    winners = folder.read_winners()
    if winners is not None and not any(_left(plan, folder, winners, phase) for phase in _RETRAINED):
        return
    from ipgl.execution.engine import RayEngine  # over a second to import: not where a study is only shown

    with RayEngine(plan, folder, events, address) as engine:
        if winners is None:
            for method in plan.methods:
                engine.search(method.label)
            winners = choose_winners(plan, folder)
            folder.write_winners(winners)
        for phase in _RETRAINED:
            if left := _left(plan, folder, winners, phase):
                write_phase(phase)
                engine.final(left)


def _left(
    plan: StudyPlan, folder: StudyFolder, winners: Mapping[str, str | None], phase: Phase
) -> list[TrialConfig]:
    """Final or component runs without a result; draws outermost: an interruption leaves methods with equally many."""
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
    """Let SIGTERM (a stopped job) end the study as Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs it handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
