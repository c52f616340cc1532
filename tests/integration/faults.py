"""What is to be the same after a fault as before it."""
import contextlib
import os
import re
import threading
import unittest

from daemon import PATIENCE_SECONDS, Daemon, wait_until
import grpc
from moed.v1 import generation_pb2, model_pb2

# Syllables that nobody computes, a millisecond each.
NULL_FLAGS = ("--null-step-time", "0.001", "--max-sequences", "8", "--max-n", "8")
# gRPC keeps threads for a while, or for ever, as many as it once had work for.
IDLE_THREADS = 8
# In every text that a client sends here: no error and no line of the log may have it.
SECRET = "xyzzy"


def resident_mib(daemon):
    with open(f"/proc/{daemon.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def is_sanitized(daemon):
    """Whether it keeps what it has freed, to find what still uses it."""
    with open(f"/proc/{daemon.process.pid}/maps") as file:
        return "libasan" in file.read()


def count_of(daemon, what):
    """`what`: fd or task."""
    return len(os.listdir(f"/proc/{daemon.process.pid}/{what}"))


def activity(daemon):
    return daemon.models.GetModel(model_pb2.GetModelRequest()).activity


def metric(daemon, name, **labels):
    """The sum over the series of this name that have these labels."""
    total = 0.0
    for series, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", daemon.get("/metrics")[1],
                                    re.MULTILINE):
        if all(f'{label}="{text}"' in series for label, text in labels.items()):
            total += float(value)
    return total


def stream_request(max_tokens=10**6, prompt=SECRET, **groups):
    """Never ends before `max_tokens`; a million is more than the context."""
    groups.setdefault("sampling", dict(seed=1))
    return generation_pb2.StreamGenerateRequest(
        text=prompt, stopping=dict(max_tokens=max_tokens, ignore_eos=True), **groups)


def text_of(messages):
    return "".join(message.text_delta for message in messages)


class Witness(threading.Thread):
    """Has the same answer streamed again and again, on a connection of its own. In a crowd a full
    queue may turn it away: then it comes back when it is told to."""

    def __init__(self, daemon, in_crowd=False):
        super().__init__(daemon=True)
        self.channel = grpc.insecure_channel(
            daemon.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.call = self.channel.unary_stream(
            "/moed.v1.GenerationService/StreamGenerate",
            generation_pb2.StreamGenerateRequest.SerializeToString,
            generation_pb2.StreamGenerateResponse.FromString)
        self.request = stream_request(150, sampling=dict(seed=77),
                                      scheduling=dict(priority=100))
        self.alone = self.ask()
        self.in_crowd = in_crowd
        self.answers = 0
        self.wrong = None
        self.ended = threading.Event()

    def ask(self):
        return text_of(self.call(self.request, timeout=PATIENCE_SECONDS))

    def run(self):
        while not self.wrong:
            try:
                answer = self.ask()
            except grpc.RpcError as error:
                trailers = dict(error.trailing_metadata())
                if self.in_crowd and b"QUEUE_FULL" in trailers.get("grpc-status-details-bin", b""):
                    self.ended.wait(int(trailers["grpc-retry-pushback-ms"]) / 1000)
                    continue
                self.wrong = f"{error.code()}: {error.details()}"
                return
            if answer != self.alone:
                self.wrong = f"{answer!r} instead of {self.alone!r}"
            self.answers += 1
            if self.ended.is_set():
                return

    def stop(self):
        self.ended.set()
        self.join(PATIENCE_SECONDS)
        if self.is_alive():
            self.wrong = "no end"


class FaultTest(unittest.TestCase):
    """Tests of one daemon without a model, with a class's FLAGS and ENVIRONMENT, which nothing that
    they do to it may harm."""

    FLAGS = ()
    ENVIRONMENT = {}
    daemon: Daemon

    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(*NULL_FLAGS, *cls.FLAGS, model="null", env=cls.ENVIRONMENT)
        cls.generation = cls.daemon.generation

    @classmethod
    def tearDownClass(cls):
        code = cls.daemon.stop()
        cls.daemon.__exit__()
        assert code == 0, (code, cls.daemon.log)
        assert not any(SECRET in line for line in cls.daemon.log), "the log has a client's text"

    def wait_for_more(self, name, count=1, **labels):
        """What waits until the metric has grown by this from now on."""
        before = metric(self.daemon, name, **labels)
        return lambda: wait_until(
            lambda: metric(self.daemon, name, **labels) >= before + count, f"{name} to grow")

    @contextlib.contextmanager
    def nothing_lost(self, witness=True, crowd=False):
        """Around a fault: another client's streams are what they are without it, and blocks,
        descriptors and threads are again as many as before. `crowd`: it may fill the queue."""
        daemon = self.daemon
        witness = Witness(daemon, in_crowd=crowd) if witness else None
        blocks = daemon.wait_for_free_blocks()
        descriptors, threads = count_of(daemon, "fd"), count_of(daemon, "task")
        if witness:
            witness.start()
        try:
            yield
        finally:
            if witness:
                witness.stop()
        if witness:
            self.assertIsNone(witness.wrong)
            self.assertGreater(witness.answers, 0)
        self.assertEqual(daemon.get("/livez")[0], 200)
        wait_until(lambda: count_of(daemon, "fd") <= descriptors, "descriptors to be closed")
        wait_until(lambda: count_of(daemon, "task") <= threads + IDLE_THREADS, "threads to end")
        # Of what a client had sent before it left, some may have come only now.
        wait_until(self.is_idle, "requests to be gone")
        self.assertEqual(daemon.wait_for_free_blocks(), blocks)
        wait_until(lambda: metric(daemon, "moed_requests_accepted_total") ==
                   metric(daemon, "moed_requests_total"), "accepted requests to have ended")

    def only_the_witness(self):
        """Whether no other generation is left."""
        now = activity(self.daemon)
        return now.running + now.waiting <= 1

    def is_idle(self):
        now = activity(self.daemon)
        return now.running + now.waiting == 0

    def assert_error(self, call, code, reason=""):
        """Reads the call to its end: an error of this code, with the reason in its details."""
        with self.assertRaises(grpc.RpcError) as caught:
            list(call)
        self.check_error(caught.exception, code, reason)
        return caught.exception

    def check_error(self, error, code, reason=""):
        self.assertEqual(error.code(), code, error.details())
        details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
        if reason:
            self.assertIn(b"google.rpc.ErrorInfo", details)
            self.assertIn(reason.encode(), details)
        self.assert_tells_nothing(error.details() + repr(details))

    def assert_tells_nothing(self, text):
        """No text of a client, no key, no address of a machine or in memory, no path."""
        self.assertNotIn(SECRET, text)
        for pattern in (r"0x[0-9a-f]{4}", r"\d+\.\d+\.\d+\.\d+", r"\[::", r"(?<![\w.])/\w+/\w+",
                        r"\.(cc|h):\d", r"sha256"):
            self.assertNotRegex(text, pattern)
