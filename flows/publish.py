"""What a run leaves for people: the database, the report, and artifacts in the UI."""

from tasks.workspace import Workspace


def publish(workspace: Workspace) -> None:
    """Bring the database and the report up to date.

    Args:
        workspace: the experiment at its root.
    """
