"""The status of runs: what is done, running, missing, failed or blocked. Torch-free."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from advbench.benchmark.records.schema import FAMILIES
from advbench.benchmark.runs.plan import Catalogue, State, Suite, WorkStatus, survey
from advbench.benchmark.runs.run_folder import RunFolder, StoreError
from advbench.benchmark.runs.store import Store

RunState = State | Literal["partly done"]
"""Of a run: where something of what is missing is there already, it is partly done."""
WORST_FIRST: tuple[State, ...] = ("failed", "running", "missing", "blocked", "done")


@dataclass(frozen=True)
class RunStatus:
    """One run: training and attacks together.

    Attributes:
        id: identity of the run.
        label: name for people.
        state: the worst there is, in the order of `WORST_FIRST`.
        done, total: shards of the attacks on both checkpoints.
        reasons: why work failed, runs or is blocked, without repetition.
        logs: logs of the jobs that failed.
    """

    id: str
    label: str
    state: RunState
    done: int = 0
    total: int = 0
    reasons: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()


def status(store: Store, suite: Suite, catalogue: Catalogue) -> tuple[RunStatus, ...]:
    """Return the status of every run of a suite."""
    by_run: dict[str, list[WorkStatus]] = {}
    for work in survey(suite, store, catalogue):
        by_run.setdefault(work.job.run.id, []).append(work)
    return tuple(_run(identity, pieces) for identity, pieces in by_run.items())


def _run(identity: str, pieces: list[WorkStatus]) -> RunStatus:
    states = {work.state for work in pieces}
    worst = next(state for state in WORST_FIRST if state in states)
    begun = "done" in states or any(work.done for work in pieces)
    return RunStatus(
        id=identity,
        label=pieces[0].job.run.label,
        state="partly done" if worst == "missing" and begun else worst,
        done=sum(work.done for work in pieces[1:]),
        total=sum(work.total for work in pieces[1:]),
        reasons=_unique(work.reason for work in pieces),
        logs=_unique(work.log for work in pieces),
    )


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


def stored_status(folder: RunFolder) -> RunStatus:
    """Return the status of a run of the store, whatever suite it was made for."""
    try:
        label = folder.spec.label
    except StoreError as error:
        return RunStatus(folder.id, folder.path.name, "failed", reasons=(str(error),))
    scan = folder.scan()
    done = total = 0
    if scan.trained is not None:
        total = folder.spec.protocol.shards(scan.trained.data.test) * len(FAMILIES) * len(scan.trained.checkpoints)
        done = sum(len(found) for found in scan.shards.values())
    state: RunState = "missing"
    if scan.failures:
        state = "failed"
    elif scan.held:
        state = "running"
    elif scan.trained is not None:
        state = "done" if done >= total else "partly done"
    reasons = _unique([failure.reason for failure in scan.failures] or scan.held.values())
    return RunStatus(folder.id, label, state, done, total, reasons, _unique(failure.log for failure in scan.failures))
