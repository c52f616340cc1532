#!/usr/bin/env python3
"""The admin port of a daemon: probes, metrics, status, keys, and what it refuses."""
import hashlib
import http.client
import json
import os
import signal
import socket
import tempfile
import unittest

from daemon import PATIENCE_SECONDS, Daemon, wait_until
from moed.v1 import experts_pb2, generation_pb2

SECURITY_FIELDS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
DATA_ROUTES = ("/", "/app.js", "/app.css", "/api/status", "/metrics", "/metrics/experts")


def fetch(daemon, path, method="GET", headers=None):
    """Status, header fields and text."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.admin_port,
                                            timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def say(daemon, data):
    """All that is answered to `data` until the connection ends."""
    with socket.create_connection(("127.0.0.1", daemon.admin_port), PATIENCE_SECONDS) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(1 << 16):
            answer += piece
    return answer


def generate(daemon, **stopping):
    return daemon.generation.Generate(generation_pb2.GenerateRequest(
        text="Once upon a time", sampling={"temperature": 0},
        stopping={"max_tokens": 24, "ignore_eos": True, **stopping}))


class AdminHttpTest(unittest.TestCase):
    """One daemon that has served a few requests."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--ranks", "2")
        for _ in range(3):
            generate(cls.daemon)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def test_probes_answer(self):
        self.assertEqual(fetch(self.daemon, "/livez")[::2], (200, "live\n"))
        self.assertEqual(fetch(self.daemon, "/readyz")[::2], (200, "ready\n"))
        status, _, text = fetch(self.daemon, "/startupz")
        self.assertEqual(status, 200)
        startup = json.loads(text)
        self.assertEqual((startup["phase"], startup["percent"]), ("ready", 100))
        self.assertEqual([rank["rank"] for rank in startup["ranks"]], [0, 1])

    def test_every_answer_has_the_fields_of_security(self):
        for path in DATA_ROUTES + ("/livez", "/readyz", "/startupz", "/nothing"):
            _, fields, _ = fetch(self.daemon, path)
            for name, value in SECURITY_FIELDS.items():
                self.assertEqual(fields[name], value, path)
        self.assertIn("script-src 'self'", fetch(self.daemon, "/")[1]["Content-Security-Policy"])

    def test_metrics_are_prometheus_text(self):
        for path, family in (("/metrics", "moed_requests_total"),
                             ("/metrics/experts", "moed_expert_tokens_total")):
            status, fields, text = fetch(self.daemon, path)
            self.assertEqual(status, 200)
            self.assertEqual(fields["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            self.assertIn(f"\n{family}", text)

    def test_status_counts_what_the_expert_service_counts(self):
        load = self.daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
        status = json.loads(fetch(self.daemon, "/api/status?window=all")[2])
        layers = status["experts"]["layers"]
        self.assertEqual([layer["tokens"] for layer in layers],
                         [list(layer.tokens) for layer in load.layers])
        self.assertGreater(sum(layers[0]["tokens"]), 0)
        for ours, theirs in zip(layers, load.layers):
            self.assertAlmostEqual(ours["max_over_mean"], theirs.max_over_mean)
            self.assertAlmostEqual(ours["gini"], theirs.gini)
            self.assertAlmostEqual(ours["entropy"], theirs.entropy)
        self.assertEqual(len(status["ranks"]), 2)
        for rank in status["ranks"]:
            self.assertGreater(rank["kv_blocks"]["total"], 0)
            self.assertGreater(rank["memory_bytes"]["weights"], 0)
        self.assertEqual(status["requests"], {"waiting": 0, "running": 0})

    def test_head_is_answered_without_a_body(self):
        status, fields, text = fetch(self.daemon, "/metrics", method="HEAD")
        self.assertEqual((status, text), (200, ""))
        self.assertGreater(int(fields["Content-Length"]), 0)

    def test_what_is_not_there_or_not_for_reading_is_refused(self):
        self.assertEqual(fetch(self.daemon, "/nothing")[0], 404)
        self.assertEqual(fetch(self.daemon, "/../../etc/passwd")[0], 404)
        self.assertEqual(fetch(self.daemon, "/api/status?window=0")[0], 400)
        status, fields, _ = fetch(self.daemon, "/livez", method="POST")
        self.assertEqual((status, fields["Allow"]), (405, "GET, HEAD"))

    def test_smuggling_and_floods_are_refused_and_others_served(self):
        start = b"POST /livez HTTP/1.1\r\nHost: x\r\n"
        cases = [
            (start + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
            (start + b"Transfer-Encoding: xchunked\r\n\r\n", b"400"),
            (start + b"Transfer-Encoding: chunked\r\n\r\n" + 100_000 * b"1\r\nx\r\n", b"413"),
            (start + b"Content-Length: 100000000\r\n\r\n", b"413"),
            (start + b"A: " + (1 << 20) * b"a" + b"\r\n\r\n", b"431"),
            (b"\x16\x03\x01 not HTTP\r\n\r\n", b"400"),
        ]
        for data, code in cases:
            answer = say(self.daemon, data)
            self.assertTrue(answer.startswith(b"HTTP/1.1 " + code), (data[:100], answer[:100]))
            self.assertIn(b"Connection: close\r\n", answer)
            self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
            self.assertEqual(fetch(self.daemon, "/livez")[0], 200)

    def test_pipelined_requests_are_answered_in_order(self):
        answer = say(self.daemon, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
                                  b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
                                  b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        codes = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
        self.assertEqual(codes, [b"200", b"404", b"200"])


class AdminKeysAndDrainTest(unittest.TestCase):
    """A daemon with keys, which then drains."""

    def test_keys_guard_data_and_probes_follow_the_drain(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "keys")
            with open(path, "w") as file:
                for role in ("user", "monitor"):
                    key = hashlib.sha256(f"{role}-key".encode()).hexdigest()
                    file.write(f"{role} the-{role} sha256:{key}\n")
            os.chmod(path, 0o600)
            with Daemon("--key-file", path) as daemon:
                self.check_keys(daemon)
                self.check_drain(daemon)

    def check_keys(self, daemon):
        for path in DATA_ROUTES:
            status, fields, _ = fetch(daemon, path)
            self.assertEqual(status, 401, path)
            self.assertIn("Basic", ", ".join(fields.get_all("WWW-Authenticate")))
            for key, expected in (("monitor-key", 200), ("user-key", 403), ("wrong", 401)):
                answer = fetch(daemon, path, headers={"Authorization": f"Bearer {key}"})
                self.assertEqual(answer[0], expected, (path, key))

    def check_drain(self, daemon):
        call = daemon.generation.StreamGenerate(generation_pb2.StreamGenerateRequest(
            text="Once upon a time", stopping={"max_tokens": 400, "ignore_eos": True}),
            metadata=(("authorization", "Bearer user-key"),))
        next(call)
        daemon.send(signal.SIGTERM)
        wait_until(lambda: fetch(daemon, "/readyz")[::2] == (503, "draining\n"), "the drain")
        self.assertEqual(fetch(daemon, "/livez")[0], 200)
        self.assertEqual(fetch(daemon, "/startupz")[0], 200)
        call.cancel()
        self.assertEqual(daemon.wait(), 0)


if __name__ == "__main__":
    unittest.main()
