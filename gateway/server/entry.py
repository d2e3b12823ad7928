"""Where a worker process begins: `python -m gateway.server.entry FD`. It loads the worker, which does the rest."""

import gc
import sys
from importlib import import_module


def main() -> int:
    """Run the worker whose channel is the descriptor that the command line names."""
    gc.disable()  # until the worker serves: to collect while modules are loaded takes a third of the time, and frees nothing
    code: int = import_module("gateway.server.worker").main(int(sys.argv[1]))
    return code


if __name__ == "__main__":
    sys.exit(main())
