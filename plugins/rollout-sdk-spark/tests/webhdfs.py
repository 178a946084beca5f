"""A file system that is reached over HTTP, by the protocol WebHDFS: what an object store is, as far as Spark sees."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


def status(path, name):
    kind = "DIRECTORY" if path.is_dir() else "FILE"
    return {
        "pathSuffix": name, "type": kind, "length": path.stat().st_size if kind == "FILE" else 0, "owner": "o", "group": "g",
        "permission": "755", "accessTime": 0, "modificationTime": 1, "blockSize": 1 << 27, "replication": 1,
    }  # fmt: skip


@contextmanager
def served(folder):
    """The files of a folder; gives the port, and the list of operations that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            query = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
            path = folder / unquote(url.path).removeprefix("/webhdfs/v1").lstrip("/")
            asked.append(query["op"])
            if not path.exists():
                message = {
                    "exception": "FileNotFoundException",
                    "javaClassName": "java.io.FileNotFoundException",
                    "message": "none",
                }
                return self.say(404, {"RemoteException": message})
            if query["op"] == "GETFILESTATUS":
                return self.say(200, {"FileStatus": status(path, "")})
            if query["op"] == "LISTSTATUS":
                found = [status(each, each.name) for each in sorted(path.iterdir())]
                return self.say(200, {"FileStatuses": {"FileStatus": found}})
            if query["op"] == "OPEN":
                start = int(query.get("offset", 0))
                data = path.read_bytes()[start:]
                return self.say(200, data[: int(query.get("length", len(data)))])
            message = {"exception": "UnsupportedOperationException", "message": query["op"]}
            return self.say(400, {"RemoteException": message})

        def say(self, code, answer):
            is_data = isinstance(answer, bytes)
            data = answer if is_data else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/octet-stream" if is_data else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
