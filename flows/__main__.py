"""The application's command line: `python -m flows`.

What a user can mend is one line on standard error and exit status 2; an interrupt is
exit status 130; everything else is a bug and keeps its traceback.
"""

import sys

from flows.commands import app
from mergegrid.errors import MergegridError


def main() -> None:
    """Run one command, and end the process with its exit status."""
    try:
        app()
    except MergegridError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
