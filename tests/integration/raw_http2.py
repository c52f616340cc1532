"""HTTP/2 as bytes, for what no client library would send or leave unread."""
import collections
import select
import socket
import struct
import time

import hpack

from daemon import PATIENCE_SECONDS
from moed.v1 import generation_pb2

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 3, 4, 6, 7, 8, 9)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = 8
LARGEST_WINDOW = 2**31 - 1
FIRST_WINDOW = 65535
STREAM_GENERATE = "/moed.v1.GenerationService/StreamGenerate"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A header that is in no table. Names and values are short."""
    assert len(name) < 127 and len(value) < 127
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def header_block(path=STREAM_GENERATE, **extra):
    """`extra`: further headers, with _ for -."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
               "content-type": "application/grpc", "te": "trailers",
               **{name.replace("_", "-"): value for name, value in extra.items()}}
    return b"".join(literal(name, value) for name, value in headers.items())


def message_bytes(request):
    """A message as a call's data has it."""
    data = request.SerializeToString()
    return b"\0" + struct.pack(">I", len(data)) + data


def start_frames(stream, request, **extra):
    return (frame(HEADERS, END_HEADERS, stream, header_block(**extra)) +
            frame(DATA, END_STREAM, stream, message_bytes(request)))


def reset_frame(stream):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


class RawHttp2:
    """A connection; with `reads` its windows are so large that they never matter, without, they
    are the protocol's and nothing opens them again."""

    def __init__(self, port, reads=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.trailers = {}  # stream to the last headers that came for it
        self.data = collections.defaultdict(bytes)
        self.resets = set()
        self.counts = collections.Counter()  # frames by kind
        self.closed = False
        self._unparsed = b""
        self._decoder = hpack.Decoder()
        settings, grow = b"", b""
        if reads:
            settings = struct.pack(">HI", 4, LARGEST_WINDOW)  # of each stream
            grow = frame(WINDOW_UPDATE, payload=struct.pack(">I", LARGEST_WINDOW - FIRST_WINDOW))
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, payload=settings) + grow)

    def send(self, data):
        """False where the other side has closed the connection."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True
            return False

    def read(self):
        """Takes what has come, without waiting."""
        while not self.closed and select.select([self.socket], [], [], 0)[0]:
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionResetError:
                data = b""
            self.closed = not data
            self._unparsed += data
            self._parse()

    def wait(self, condition, seconds=PATIENCE_SECONDS):
        """Reads until the condition holds; whether it does."""
        end = time.monotonic() + seconds
        while True:
            self.read()
            if condition():
                return True
            if self.closed or time.monotonic() > end:
                return False
            select.select([self.socket], [], [], 0.01)

    def open_windows(self, stream):
        """Lets everything come that was held back."""
        grow = struct.pack(">I", LARGEST_WINDOW - FIRST_WINDOW)
        self.send(frame(WINDOW_UPDATE, payload=grow) + frame(WINDOW_UPDATE, 0, stream, grow))

    def ended(self, stream):
        return stream in self.resets or "grpc-status" in self.trailers.get(stream, {})

    def status(self, stream):
        """The number of the code that the call ended with."""
        return int(self.trailers[stream]["grpc-status"])

    def messages(self, stream):
        """Those that have come whole."""
        data, found = self.data[stream], []
        while len(data) >= 5:
            size = struct.unpack(">I", data[1:5])[0]
            if len(data) < 5 + size:
                break
            found.append(generation_pb2.StreamGenerateResponse.FromString(data[5:5 + size]))
            data = data[5 + size:]
        return found

    def vanish(self):
        """Ends the connection with a reset instead of a goodbye."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _parse(self):
        data, at = self._unparsed, 0
        while len(data) - at >= 9:
            size = int.from_bytes(data[at:at + 3], "big")
            if len(data) - at - 9 < size:
                break
            kind, flags, stream = struct.unpack(">BBI", data[at + 3:at + 9])
            self._take(kind, flags, stream & LARGEST_WINDOW, data[at + 9:at + 9 + size])
            at += 9 + size
        self._unparsed = data[at:]

    def _take(self, kind, flags, stream, payload):
        self.counts[kind] += 1
        if kind == HEADERS:
            self.trailers[stream] = dict(self._decoder.decode(payload))
        elif kind == DATA:
            self.data[stream] += payload
        elif kind == RST_STREAM:
            self.resets.add(stream)
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self.send(frame(kind, ACK, payload=payload if kind == PING else b""))
