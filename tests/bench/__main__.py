"""`python tests/bench`: measure the gateway on this machine. `--help` lists the options."""

import os
import sys
from pathlib import Path

# A folder that is run as a program finds only its own modules; these are imported by their place in the project.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from gateway.server.processor import USUAL_BITS, openssl_settings  # noqa: E402  the line above must come first

# The floor is that of the gateway's workers. OpenSSL reads this when it is loaded.
os.environ.update(openssl_settings(USUAL_BITS) | os.environ)

from tests.bench.run import main  # noqa: E402  as above

if __name__ == "__main__":
    sys.exit(main())
