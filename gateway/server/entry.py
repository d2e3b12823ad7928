"""Where a worker process begins: `python -m gateway.server.entry FD`. It loads the worker, which does the rest."""

import sys

from gateway.server.loading import load


def main() -> int:
    """Run the worker whose channel is the descriptor that the command line names."""
    code: int = load("gateway.server.worker").main(int(sys.argv[1]))
    return code


if __name__ == "__main__":
    sys.exit(main())
