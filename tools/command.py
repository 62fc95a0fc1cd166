"""How every script here begins and ends: with its result, or with one line that says what to do."""

import sys
from collections.abc import Callable
from pathlib import Path

from tools.heap import keep_freed_memory


def run(main: Callable[[], None]) -> None:
    """Call `main`; what a user can cause (ValueError, OSError) becomes one line on standard error and exit
    code 2."""
    keep_freed_memory()
    try:
        main()
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f"{Path(sys.argv[0]).name}: interrupted {interrupt}".rstrip(), file=sys.stderr)
        sys.exit(130)
