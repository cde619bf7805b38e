"""Jobs handed to the workers of a Prefect work pool, in shares.

A share is a run of another deployment (`flows.share`), which any worker of its pool
takes. A worker needs 5-9 s to start one, so jobs are grouped: about two shares for each
worker that is online, so that a slow one does not keep all others waiting, and with
what only reads what the share itself makes. Whatever a share's run says of itself, what
it made is looked up in the store.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    WorkerFilter,
    WorkerFilterStatus,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelling

from flows.here import Here
from flows.jobs import CHEAP, Job
from flows.schedule import Outcome
from flows.story import Pace
from mergegrid.errors import InputError, MergegridError
from tasks.progress import News, tell
from tasks.workspace import Workspace

SHARES_PER_WORKER = 2
"""Open shares for each worker that is online: one that it works on, one that waits."""

MOST_JOBS = 16
"""In a share: beyond that, its start costs nothing beside its work."""

LITTLE = 0.2
"""Of what is left to do: less than that waits for more, as long as others are busy."""

MOST_ATTEMPTS = 3
"""Runs of one share whose worker dies."""

SECONDS_BETWEEN_POLLS = 2.0
"""Between two looks at the states of the shares' runs."""

SECONDS_BETWEEN_LISTINGS = 10.0
"""Between two looks at what has been recorded, for the progress that is shown."""

SECONDS_BETWEEN_COMPLAINTS = 20.0
"""Between two lines that say that no worker is online."""


GOES_ON = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
"""States of shares that a coordinator which is started again waits for."""


class ShareError(MergegridError):
    """A share's run ended without making everything that it was to make."""


@dataclass
class _Share:
    """Jobs that one worker does."""

    keys: frozenset[str]
    label: str
    run: UUID
    attempts: int = 1


class Pool:
    """Runs cheap jobs here, and all others as shares on a work pool's workers.

    Args:
        workspace: the experiment at its root.
        deployment: the deployment that does shares, as "flow/name".
        here: where cheap jobs run.

    Raises:
        InputError: if there is no such deployment.
    """

    def __init__(self, workspace: Workspace, deployment: str, here: Here) -> None:
        self._workspace = workspace
        self._deployment = deployment
        self._here = here
        self._here_keys: set[str] = set()
        self._client: SyncPrefectClient = get_client(sync_client=True)
        self._log = get_run_logger()
        try:
            found = self._client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            raise InputError(
                f"The Prefect server has no deployment {deployment!r}; "
                "`python -m flows deploy` makes it."
            ) from None
        self._pool = found.work_pool_name or ""
        self._tag = f"of-{flow_run.id}"
        self._poll_due = Pace(SECONDS_BETWEEN_POLLS).due
        self._listing_due = Pace(SECONDS_BETWEEN_LISTINGS).due
        self._complaint_due = Pace(SECONDS_BETWEEN_COMPLAINTS).due
        self._told: set[str] = set()
        # A coordinator that is started again finds the shares of its last attempt.
        self._open = [
            _Share(frozenset(run.parameters["keys"]), run.name, run.id)
            for run in self._runs(
                FlowRunFilter(
                    tags=FlowRunFilterTags(all_=[self._tag]),
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=GOES_ON)),
                )
            )
        ]
        if self._open:
            count = len(self._open)
            self._log.info("%d shares of an earlier attempt go on.", count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Cancel what is still open, if the coordinator was cancelled or failed."""
        if kind is None:
            return
        for share in self._open:
            self._client.set_flow_run_state(share.run, Cancelling(), force=True)

    @property
    def shares(self) -> list[frozenset[str]]:
        """The keys of each share that is open."""
        return [share.keys for share in self._open]

    @property
    def busy(self) -> bool:
        """Whether anything that was started has not ended."""
        return self._here.busy or bool(self._open)

    def start(self, ready: Sequence[Job], later: Sequence[Job]) -> Collection[Job]:
        """Start cheap jobs here, and as many shares as workers can take.

        Args:
            ready: jobs that can run now.
            later: jobs that wait; those that wait for jobs of one share join it.

        Returns:
            The jobs that were started.
        """
        open_keys = frozenset[str]().union(*self.shares)
        taken = [job for job in ready if open_keys.intersection(job.keys)]
        cheap = [job for job in ready if job.kind in CHEAP and job not in taken]
        self._here_keys.update(key for job in cheap for key in job.keys)
        self._here.start(cheap, [])
        heavy = [job for job in ready if job not in taken and job not in cheap]
        left = sum(job.flops for job in (*heavy, *later))
        little = sum(job.flops for job in heavy) < LITTLE * left
        if not heavy or (little and self.busy):
            return [*taken, *cheap]
        places = SHARES_PER_WORKER * self._workers()
        groups = split(heavy, places - len(self._open))
        pending = open_keys | self._here_keys
        pending |= {key for job in (*ready, *later) for key in job.keys}
        for group in groups:
            join(group, later, pending, most=left / places)
            keys = frozenset(key for job in group for key in job.keys)
            label = f"{self._workspace.experiment.name}: {share_label(group)}"
            self._open.append(_Share(keys, label, self._create(keys, label)))
        return [*taken, *cheap, *(job for group in groups for job in group)]

    def wait(self) -> Outcome:
        """Wait for jobs to end, for a second or two.

        Returns:
            How those ended that did.
        """
        outcome = Outcome()
        if self._here.busy:
            outcome = self._here.wait()
            self._here_keys -= {*outcome.done, *outcome.failed}
        elif self._open:
            time.sleep(1)
        if self._open and self._poll_due():
            outcome.add(self._poll())
        if self._open and self._listing_due():
            self._tell()
        return outcome

    def _workers(self) -> int:
        """Count the workers that are online, and say so if there are none."""
        online = self._client.read_workers_for_work_pool(
            self._pool,
            WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"])),
        )
        if not online and self._complaint_due():
            self._log.warning(
                "No worker of work pool %s is online; `python -m flows worker %s` "
                "starts one.",
                self._pool,
                self._pool,
            )
        return max(len(online), 1)

    def _create(self, keys: frozenset[str], label: str) -> UUID:
        run: Any = run_deployment(
            self._deployment,
            parameters={
                "experiment": self._workspace.experiment.model_dump_json(),
                "root": self._workspace.root.url,
                "keys": sorted(keys),
            },
            flow_run_name=label,
            tags=[self._tag],
            timeout=0,
        )
        return run.id

    def _runs(self, which: FlowRunFilter) -> list[FlowRun]:
        return self._client.read_flow_runs(flow_run_filter=which)

    def _poll(self) -> Outcome:
        """See which shares have ended."""
        wanted = FlowRunFilterId(any_=[share.run for share in self._open])
        states = {run.id: run.state for run in self._runs(FlowRunFilter(id=wanted))}
        outcome = Outcome()
        still_open: list[_Share] = []
        for share in self._open:
            state = states.get(share.run)
            if state is not None and state.is_final():
                outcome.add(self._settle(share, state, still_open))
            else:
                still_open.append(share)
        self._open = still_open
        return outcome

    def _settle(
        self, share: _Share, state: State[Any], still_open: list[_Share]
    ) -> Outcome:
        """Look up what a share made, and give it to another worker if its own died."""
        made = self._made(share.keys)
        left = share.keys - made
        self._announce(made)
        outcome = Outcome(done=sorted(made))
        if left and state.is_crashed() and share.attempts < MOST_ATTEMPTS:
            self._log.warning(
                "%s was cut off and goes on elsewhere: %s", share.label, state.message
            )
            run = self._create(left, share.label)
            still_open.append(_Share(left, share.label, run, share.attempts + 1))
        elif left:
            error = ShareError(
                state.message or f"{share.label} ended as {state.name} and says no more"
            )
            outcome.failed |= dict.fromkeys(sorted(left), error)
            for key in left:
                tell(News("failed", key))
        return outcome

    def _made(self, keys: frozenset[str]) -> frozenset[str]:
        workspace = self._workspace
        scored = keys & workspace.steps.scored.keys()
        artifacts = keys - scored
        missing = workspace.store.missing(set(artifacts)) if artifacts else set[str]()
        return (artifacts - missing) | workspace.ledger.recorded(scored)

    def _tell(self) -> None:
        """Pass on what workers have recorded since, for the progress that is shown."""
        open_keys = frozenset[str]().union(*self.shares)
        self._announce(self._workspace.ledger.recorded(open_keys))

    def _announce(self, keys: Collection[str]) -> None:
        for key in keys:
            if key not in self._told:
                self._told.add(key)
                tell(News("done", key))


def split(jobs: Sequence[Job], groups: int) -> list[list[Job]]:
    """Divide jobs so that all groups take about as long.

    Args:
        jobs: in the order in which they are wanted.
        groups: how many groups at most.

    Returns:
        Groups of at most `MOST_JOBS` jobs, in that order; what finds no place is left
        out.
    """
    if groups < 1:
        return []
    # Those that come first are wanted first: what is left out is from the end.
    taken = list(jobs[: groups * MOST_JOBS])
    found: list[list[Job]] = [[] for _ in range(min(groups, len(taken)))]
    for job in sorted(taken, key=lambda job: -job.flops):
        smallest = min(
            (group for group in found if len(group) < MOST_JOBS),
            key=lambda group: (sum(other.flops for other in group), len(group)),
        )
        smallest.append(job)
    order = {job: place for place, job in enumerate(taken)}
    for group in found:
        group.sort(key=order.__getitem__)
    return sorted(found, key=lambda group: order[group[0]])


def join(
    group: list[Job], later: Sequence[Job], pending: Collection[str], *, most: float
) -> None:
    """Add to a group the jobs that wait for nothing but its own.

    Args:
        group: jobs that can run now; it grows.
        later: jobs that wait.
        pending: keys of everything that has not been made.
        most: FLOPs that it does not grow beyond, for others to have their part.
    """
    keys = {key for job in group for key in job.keys}
    flops = sum(job.flops for job in group)
    for job in later:
        waits_for = job.after.intersection(pending)
        alone = job.kind not in CHEAP and waits_for and waits_for <= keys
        if alone and flops + job.flops <= most:
            group.append(job)
            keys.update(job.keys)
            flops += job.flops


def share_label(group: Sequence[Job]) -> str:
    """Say what a share is about.

    Args:
        group: its jobs.

    Returns:
        What its one job is about, or how many there are of each kind.
    """
    if len(group) == 1:
        return f"{group[0].kind} {group[0].label}"
    counts: dict[str, int] = {}
    for job in group:
        counts[job.kind] = counts.get(job.kind, 0) + len(job.keys)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())
