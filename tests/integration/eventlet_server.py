"""eventlet's own server, as it is usually started: patched before anything else is imported."""

import eventlet

eventlet.monkey_patch()

import signal  # noqa: E402
import sys  # noqa: E402

import app  # noqa: E402
from eventlet import wsgi  # noqa: E402

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), app.wsgi, log_output=False)
