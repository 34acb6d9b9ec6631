"""`python -m paletta_server.alive`: exit status 0 while the API of this container answers `/healthz`, else 1.

The standard library only: it runs every few seconds.
"""

from __future__ import annotations

import http.client
import sys

HOST, PORT, SECONDS = "127.0.0.1", 8750, 4.0


def alive(port: int = PORT) -> bool:
    """Whether the process behind `port` runs its event loop; nothing about what is behind it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if alive() else 1)
