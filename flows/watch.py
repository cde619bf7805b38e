"""Automations on the Prefect server that notice runs whose machine is gone.

A worker reports the end of its runs' processes. When the worker is gone as well nobody
does, and whoever waits for such a run would wait for ever.
"""

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SECONDS_WITHOUT_A_SIGN = 90
"""After so long without a heartbeat a run that has begun counts as crashed."""

MINUTES_TO_BEGIN = 20
"""After so long a run that a worker has taken and not begun counts as crashed; an image
that a machine does not have yet takes minutes."""

HEARTBEAT = "prefect.flow-run.heartbeat"
TAKEN = frozenset(f"prefect.flow-run.{name}" for name in ("Pending", "Submitting"))
ENDED = frozenset(
    f"prefect.flow-run.{name}"
    for name in ("Completed", "Failed", "Cancelled", "Crashed", "AwaitingRetry")
)


async def watch_for_the_silent() -> list[str]:
    """Have the server notice runs of which nobody else can say that they are over.

    Returns:
        What it does now, a line each.
    """
    silent = _crash(
        "mergegrid: a run without a sign of life has crashed",
        after={HEARTBEAT},
        expect={HEARTBEAT, *ENDED},
        within=timedelta(seconds=SECONDS_WITHOUT_A_SIGN),
        message="no sign of life from its worker",
    )
    stuck = _crash(
        "mergegrid: a run that does not begin has crashed",
        after=set(TAKEN),
        expect={"prefect.flow-run.Running", *TAKEN, *ENDED},
        within=timedelta(minutes=MINUTES_TO_BEGIN),
        message=f"a worker took it, and it did not begin in {MINUTES_TO_BEGIN} minutes",
    )
    for wanted in (silent, stuck):
        try:
            await Automation.aread(name=wanted.name)
        except ValueError:
            await wanted.acreate()
    return [
        f"runs silent for {SECONDS_WITHOUT_A_SIGN} s count as crashed, and so do runs "
        f"that do not begin in {MINUTES_TO_BEGIN} min"
    ]


def _crash(
    name: str, *, after: set[str], expect: set[str], within: timedelta, message: str
) -> Automation:
    """Describe what crashes a run after which something expected does not happen."""
    return Automation(
        name=name,
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                name=None, state=StateType.CRASHED, message=message, force=False
            )
        ],
    )
