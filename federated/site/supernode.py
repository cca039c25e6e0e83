"""Flower's SuperNode as a process that ends when its work does.

A line that is cut in the middle of a TLS handshake counts as a wrong certificate for Flower 1.41:
its main thread ends, while a thread that serves apps keeps the process, and the site would wait for
nothing. Ended as a whole, it is started again by `federated.site.join`.
"""

import logging
import os
import sys

from flwr.supernode.cli import flower_supernode


def main() -> None:
    """Run until Flower's main thread ends, in whatever way."""
    try:
        flower_supernode()
    except Exception:
        logging.getLogger(__name__).exception("the SuperNode ended")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
