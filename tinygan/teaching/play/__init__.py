"""A playground in the browser: a small GAN in the plane on the real engine, one update, one op or many rounds at a time.

`games.py` has the settings and the presets, `engine.py` one game that is played, `frames.py` what a picture of it contains,
`session.py` the commands of one tab, `server.py` the server, and `page.py` the page.
"""
from __future__ import annotations

__all__ = ["serve"]

import threading
import webbrowser

from tinygan.errors import SettingsError

from .server import Playground


def serve(port: int = 0, browser: bool = True) -> None:
    """Serve the playground on loopback until the user interrupts it; prints the address. port: 0 takes a free one. browser:
    whether to open the page. Raises SettingsError if the port cannot be had."""
    try:
        server = Playground(port)
    except OSError as error:
        raise SettingsError(f"--port {port}: {error.strerror or error}; another program may have it: give another port, or "
                            "none") from error
    try:
        print(f"The playground is at {server.address}\nCtrl-C ends it.", flush=True)
        if browser:  # in a thread of its own, since a browser in the terminal returns when it is closed
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        print("\nThe playground has ended.", flush=True)
    finally:
        server.close()
