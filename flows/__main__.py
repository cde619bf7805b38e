"""The application's command line: `python -m flows`.

What a user can mend is one line on standard error and exit status 2; an interrupt is
exit status 130; everything else is a bug and keeps its traceback.
"""

import os
import sys

from flows.commands import app
from mergegrid.errors import MergegridError


def main() -> int:
    """Run one command.

    Returns:
        The exit status.
    """
    try:
        app()
    except MergegridError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Prefect's threads outlive Python's modules, and DuckDB complains about that at
    # length. Everything has been stored and sent by now, so leave at once.
    os._exit(status)
