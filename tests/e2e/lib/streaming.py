"""exec, attach and port-forward as kubectl sees them: a WebSocket with one channel for each stream.

Each message's first byte names the channel (protocol v4.channel.k8s.io): 0 stdin, 1 stdout,
2 stderr, 3 the end, as JSON, 4 the terminal's size. For port-forward: 2n data, 2n+1 errors, and
the first message of each is the port.
"""

import json
import time

from . import proc
from .runner import Skip, check

STDIN, STDOUT, STDERR, END, SIZE = range(5)


class Stream:
    def __init__(self, url, deadline=30):
        try:
            import websocket
        except ImportError:
            raise Skip("no WebSocket for Python (package python3-websocket)") from None
        self.websocket = websocket
        self.ws = websocket.create_connection(url.replace("http:", "ws:"), timeout=deadline * proc.patience,
                                              subprotocols=["v4.channel.k8s.io"])
        self.got = {}

    def close(self):
        self.ws.close()

    def send(self, data, channel=STDIN):
        self.ws.send_binary(bytes([channel]) + data)

    def resize(self, width, height):
        self.send(json.dumps({"Width": width, "Height": height}).encode(), SIZE)

    def _receive(self):
        """False: the other side has closed."""
        try:
            message = self.ws.recv()
        except self.websocket.WebSocketConnectionClosedException:
            return False
        if message:
            channel, data = message[0], message[1:]
            self.got[channel] = self.got.get(channel, b"") + data
        return bool(message)

    def until(self, text, channel=STDOUT, seconds=30):
        end = time.monotonic() + seconds * proc.patience
        while text not in self.got.get(channel, b""):
            check(time.monotonic() < end and self._receive(), f"{text!r} did not come, {self.got} did")

    def end(self):
        """Reads to the end. The status as Kubernetes tells it."""
        while self._receive():
            pass
        return json.loads(self.got.get(END, b"{}"))


def exit_code(status):
    """Of what end() returned."""
    if status.get("status") == "Success":
        return 0
    return int(next(c["message"] for c in status["details"]["causes"] if c["reason"] == "ExitCode"))
