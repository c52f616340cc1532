#!/usr/bin/env python3
"""Connections in crowds and against the protocol, signals in storms, a clock that jumps, weights
that are no numbers: the daemon lives, and nobody else notices."""
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import struct
import tempfile
import time
import unittest

from daemon import DEMO_MODEL, PATIENCE_SECONDS, run_moed, wait_until
from faults import FaultTest, count_of, is_sanitized, resident_mib, stream_request
from moed.v1 import generation_pb2
from raw_http2 import (CONTINUATION, HEADERS, PING, SETTINGS, RawHttp2, frame,
                       header_block, literal, reset_frame, start_frames)

# What gRPC and the allocator may keep of what a flood took.
KEPT_MIB = 48


class ConnectionFaultsTest(FaultTest):
    @contextlib.contextmanager
    def bounded_memory(self, most_mib=200):
        before = resident_mib(self.daemon)
        yield
        if is_sanitized(self.daemon):
            return
        self.assertLess(resident_mib(self.daemon), before + most_mib)
        wait_until(lambda: resident_mib(self.daemon) < before + KEPT_MIB, "memory to be free")

    @contextlib.contextmanager
    def descriptors_for(self, more):
        """The daemon may open so many more than it has."""
        pid, kind = self.daemon.process.pid, resource.RLIMIT_NOFILE
        before = resource.prlimit(pid, kind)
        limit = count_of(self.daemon, "fd") + more
        resource.prlimit(pid, kind, (limit, before[1]))
        try:
            yield limit
        finally:
            resource.prlimit(pid, kind, before)

    def test_after_a_flood_of_connections_new_ones_are_served_at_once(self):
        waits = []
        for _ in range(3):  # a busy machine may take its time once
            with self.nothing_lost(), self.descriptors_for(64) as limit:
                with contextlib.ExitStack() as crowd:
                    for _ in range(300):
                        crowd.enter_context(
                            socket.create_connection(("127.0.0.1", self.daemon.port)))
                    # As far as it may: an eighth is left for the rest of the process.
                    wait_until(lambda: count_of(self.daemon, "fd") >= limit - limit // 8 - 8,
                               "descriptors to run out")
                    self.assertEqual(self.daemon.get("/livez")[0], 200)
                released = time.monotonic()
                with RawHttp2(self.daemon.port) as client:
                    self.assertTrue(client.wait(lambda: client.counts[SETTINGS] > 0))
                waits.append(time.monotonic() - released)
            if waits[-1] < 1:
                break
        if not is_sanitized(self.daemon):
            self.assertLess(waits[-1], 1, waits)

    def test_streams_that_are_reset_at_once(self):
        # gRPC takes up every stream before it sees that it is gone: some 20 KB each, until the
        # last of them has been looked at.
        with self.nothing_lost(crowd=True), self.bounded_memory(1000):
            with RawHttp2(self.daemon.port) as client:
                number, count = 0, 2_000 if is_sanitized(self.daemon) else 20_000
                while number < count and not client.closed:
                    client.send(b"".join(
                        start_frames(stream, stream_request()) + reset_frame(stream)
                        for stream in range(2 * number + 1, 2 * number + 201, 2)))
                    number += 100
                    client.read()

    def test_a_flood_of_pings_ends_the_connection(self):
        with self.nothing_lost(), self.bounded_memory(), RawHttp2(self.daemon.port) as client:
            for _ in range(100):
                client.send(frame(PING, payload=b"12345678") * 100)
            self.assertFalse(client.wait(lambda: False))
            self.assertTrue(client.closed)

    def test_a_flood_of_settings_costs_no_memory(self):
        for reads in (True, False):
            with self.nothing_lost(), self.bounded_memory(), \
                    RawHttp2(self.daemon.port, reads=reads) as client:
                client.socket.settimeout(2)  # the daemon need not read what nobody waits for
                with contextlib.suppress(socket.timeout):
                    for _ in range(300):
                        client.send(frame(SETTINGS, payload=struct.pack(">HI", 4, 65535)) * 100)
                        if reads:
                            client.read()

    def test_headers_without_end_are_refused(self):
        block = header_block() + b"".join(literal(f"x-{i}", "y" * 100) for i in range(100))
        with self.nothing_lost(), self.bounded_memory(), RawHttp2(self.daemon.port) as client:
            client.send(frame(HEADERS, 0, 1, block))
            for _ in range(3000):  # 33 MB
                if not client.send(frame(CONTINUATION, 0, 1, block)):
                    break
                client.read()

    def test_bytes_that_are_no_protocol_end_the_connection(self):
        with self.nothing_lost():
            for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\x02\0" * 100):
                with socket.create_connection(("127.0.0.1", self.daemon.port)) as client:
                    client.settimeout(PATIENCE_SECONDS)
                    client.sendall(data)
                    with contextlib.suppress(ConnectionResetError):
                        while client.recv(4096):
                            pass
            with RawHttp2(self.daemon.port) as client:  # settings of a stream
                client.send(frame(SETTINGS, stream=1))
                self.assertFalse(client.wait(lambda: False))
                self.assertTrue(client.closed)

    def test_a_storm_of_hangups_changes_nothing(self):
        with self.nothing_lost():
            calls = [self.generation.StreamGenerate(stream_request(300)) for _ in range(4)]
            for _ in range(500):
                self.daemon.send(signal.SIGHUP)
            for call in calls:
                self.assertEqual(list(call)[-1].finish.usage.completion_tokens, 300)
            self.daemon.wait_for_log("SIGHUP")


class ClockTest(FaultTest):
    """Another wall clock than the machine's, for the daemon alone."""

    @classmethod
    def setUpClass(cls):
        cls.shift = tempfile.NamedTemporaryFile()
        cls.set_clock(0)
        cls.ENVIRONMENT = {
            "LD_PRELOAD": os.environ["MOED_SHIFTED_CLOCK_LIBRARY"],
            "MOED_SHIFTED_CLOCK": cls.shift.name,
            # The library stands before the sanitizer's own, and replaces nothing of it.
            "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.shift.close()

    @classmethod
    def set_clock(cls, seconds):
        with open(cls.shift.name, "r+b") as file:
            file.write(struct.pack("q", seconds))

    def hour_of_the_log(self):
        """Of its newest line, in the same words as here."""
        return json.loads(self.daemon.log[-1])["time"][:13]

    def test_deadlines_and_time_limits_are_not_the_wall_clocks(self):
        limited = stream_request(response=dict(text=True))
        limited.stopping.time_limit_ms = 1000
        with self.nothing_lost(), RawHttp2(self.daemon.port) as client:
            late = self.wait_for_more("moed_requests_total", code="DEADLINE_EXCEEDED")
            began = time.monotonic()
            client.send(start_frames(1, stream_request(), grpc_timeout="1000m") +
                        start_frames(3, limited) + start_frames(5, stream_request(1200)))
            ends = {}
            for seconds in (3600, -3600, 0):
                self.set_clock(seconds)
                first = time.monotonic() - began
                while time.monotonic() < began + first + 0.25:
                    client.wait(lambda: False, 0.02)
                    self.note_ends(client, ends, began)
            while len(ends) < 3:
                self.assertLess(time.monotonic(), began + PATIENCE_SECONDS)
                client.wait(lambda: False, 0.02)
                self.note_ends(client, ends, began)
            late()
            self.assertEqual([client.status(stream) for stream in (3, 5)], [0, 0])
            self.assertEqual(client.messages(3)[-1].finish.reason,
                             generation_pb2.FINISH_REASON_TIME_LIMIT)
            self.assertEqual(client.messages(5)[-1].finish.usage.completion_tokens, 1200)
            for stream in (1, 3):
                self.assertGreater(ends[stream], 0.95)
                self.assertLess(ends[stream], 10)

    def note_ends(self, client, ends, began):
        for stream in (1, 3, 5):
            if stream not in ends and client.ended(stream):
                ends[stream] = time.monotonic() - began

    def test_the_clock_does_jump(self):
        hours = set()
        for seconds in (0, 7200, -7200):  # three hours, also where one passes meanwhile
            self.set_clock(seconds)
            lines = len(self.daemon.log)
            list(self.generation.StreamGenerate(stream_request(1)))
            wait_until(lambda: len(self.daemon.log) > lines, "an access line")
            hours.add(self.hour_of_the_log())
        self.set_clock(0)
        self.assertEqual(len(hours), 3)

    def test_waiting_connections_are_served_whatever_the_clock_says(self):
        for seconds in (-3600, 3600, 0):
            self.set_clock(seconds)
            with RawHttp2(self.daemon.port) as client:
                client.send(start_frames(1, stream_request(3)))
                self.assertTrue(client.wait(lambda: client.ended(1)))
                self.assertEqual(client.status(1), 0)


class CheckpointFaultsTest(unittest.TestCase):
    TENSOR = "model.layers.1.block_sparse_moe.experts.5.w2.weight"

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        shutil.copytree(DEMO_MODEL, self.directory.name, dirs_exist_ok=True)
        self.weights = os.path.join(self.directory.name, "model.safetensors")

    def overwrite(self, data):
        """In the middle of the tensor."""
        with open(self.weights, "r+b") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            begin, end = json.loads(file.read(size))[self.TENSOR]["data_offsets"]
            file.seek(8 + size + (begin + end) // 2 // 4 * 4)
            file.write(data)

    def assert_refused(self, *texts):
        result = run_moed("--model", self.directory.name, "--verify-checkpoint", "--listen",
                          "127.0.0.1:0")
        self.assertEqual(result.returncode, 78, result.stderr)
        for text in texts:
            self.assertIn(text, result.stderr)

    def test_weights_that_are_no_numbers_are_78_with_file_and_tensor(self):
        self.overwrite(b"\xff\x7f\xff\x7f")  # NaN in every type of 16 and 32 bits
        self.assert_refused("model.safetensors", self.TENSOR)

    def test_a_shard_with_another_digest_is_78(self):
        with open(self.weights, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        with open(os.path.join(self.directory.name, "SHA256SUMS"), "w") as file:
            file.write(f"{digest}  model.safetensors\n")
        self.overwrite(b"\0\0\0\0")
        self.assert_refused("model.safetensors", "digest")


if __name__ == "__main__":
    unittest.main()
