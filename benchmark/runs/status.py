"""Where a suite stands: what is done, running, missing, failed or blocked. Torch-free."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from advbench.benchmark.records.schema import FAMILIES
from advbench.benchmark.runs.plan import Catalogue, State, Suite, WorkStatus, survey
from advbench.benchmark.runs.run_folder import RunFolder, StoreError
from advbench.benchmark.runs.store import Store

STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class RunStatus:
    """One run: training and attacks together.

    Attributes:
        id: identity of the run.
        label: name for people.
        state: the worst there is: failed before running before missing before blocked before done.
        trained: whether training is done.
        done, total: shards of the attacks on both checkpoints.
        reasons: why work failed, runs or is blocked, without repetition.
        logs: logs of the jobs that failed.
    """

    id: str
    label: str
    state: State
    trained: bool
    done: int
    total: int
    reasons: tuple[str, ...]
    logs: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """A suite: `counts` are of pieces of work (training, or one family on one checkpoint) by state."""

    runs: tuple[RunStatus, ...]
    counts: dict[State, int]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return all(run.state == "done" for run in self.runs)


def status(store: Store, suite: Suite, catalogue: Catalogue) -> Status:
    """Return where every run of a suite stands."""
    by_run: dict[str, list[WorkStatus]] = {}
    labels: dict[str, str] = {}
    counts: Counter[State] = Counter()
    for standing in survey(suite, store, catalogue):
        identity = standing.job.id.partition("-")[0]
        by_run.setdefault(identity, []).append(standing)
        labels[identity] = standing.job.run.label
        counts[standing.state] += 1
    runs = tuple(_run(identity, labels[identity], standings) for identity, standings in by_run.items())
    return Status(runs, {state: counts[state] for state in STATES})


def _run(identity: str, label: str, standings: list[WorkStatus]) -> RunStatus:
    training, *attacks = standings
    states = {standing.state for standing in standings}
    order: tuple[State, ...] = ("failed", "running", "missing", "blocked", "done")
    return RunStatus(
        id=identity,
        label=label,
        state=next(state for state in order if state in states),
        trained=training.state == "done",
        done=sum(standing.done for standing in attacks),
        total=sum(standing.total for standing in attacks),
        reasons=_unique(standing.reason for standing in standings),
        logs=_unique(standing.log for standing in standings),
    )


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


def stored_status(folder: RunFolder) -> RunStatus:
    """Return where a run of the store stands, whatever suite it was made for."""
    try:
        label = folder.spec.label
    except StoreError as error:
        return RunStatus(
            folder.id, folder.path.name, "failed", trained=False, done=0, total=0, reasons=(str(error),), logs=()
        )
    scan = folder.scan()
    done = total = 0
    if scan.trained is not None:
        shards = folder.spec.protocol.shards(scan.trained.data.test)
        total = shards * len(FAMILIES) * len(scan.trained.checkpoints)
        done = sum(len(found) for found in scan.shards.values())
    state: State = "missing"
    if scan.failures:
        state = "failed"
    elif scan.held:
        state = "running"
    elif scan.trained is not None and done >= total:
        state = "done"
    reasons = tuple(dict.fromkeys([one.reason for one in scan.failures] or list(scan.held.values())))
    logs = tuple(dict.fromkeys(one.log for one in scan.failures))
    return RunStatus(folder.id, label, state, scan.trained is not None, done, total, reasons, logs)


def queued_status(identity: str, label: str) -> RunStatus:
    """Return where a run stands that is queued, and of which the store knows nothing yet."""
    return RunStatus(identity, label, "missing", trained=False, done=0, total=0, reasons=(), logs=())
