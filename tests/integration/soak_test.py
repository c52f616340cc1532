#!/usr/bin/env python3
"""Everything at once for as long as one likes: nobody's answer changes, nothing grows, and the
counters add up.

    soak_test.py --seconds 600 --seed 7

A pool of seeded requests with every parameter is answered one at a time. Then clients send them in
random company, some cancelled, some late, while others do not read, flood, reset and vanish, and
both pages of metrics are read twenty times a second.
"""
import argparse
import collections
import os
import random
import re
import socket
import statistics
import sys
import threading
import time
import unittest

from daemon import PATIENCE_SECONDS, Daemon, wait_until
from faults import count_of, is_sanitized, metric, resident_mib
import grpc
from moed.v1 import generation_pb2, generation_pb2_grpc
from raw_http2 import RawHttp2, reset_frame, start_frames
from request_mix import FLAGS, Whole, anywhere, make_request, shared_prefixes

OPTIONS = argparse.Namespace(seconds=float(os.environ.get("MOED_SOAK_SECONDS", "15")),
                             seed=20251123)
RANKS, CLIENTS, SCRAPES_PER_SECOND = 2, 12, 20
ENDS = ("OK", "CANCELLED", "DEADLINE_EXCEEDED", "unread", "floods")
DAEMON_FLAGS = ("--ranks", str(RANKS), "--kv-blocks", "64", "--max-sequences", "32",
                "--queue-limit", "32", "--stream-buffer-size", "32KiB", "--slow-reader-timeout",
                "10", *FLAGS)
# Of what is flat: what allocator and library may keep after a while.
MAX_GROWTH_MIB = 8.0
MAX_GROWTH_DESCRIPTORS = 8
# Every client's own, and calls that count after their client has seen their end.
MOST_AT_ONCE = 2 * (CLIENTS + 32 + 32)


class Case:
    def __init__(self, request, messages):
        self.request = request
        self.alone = Whole(messages)
        self.outcome = self.alone.outcome()


def counters(page):
    """Name and labels to value, of all that may only grow."""
    return {series: float(value) for series, value in
            re.findall(r"^(\w+(?:_total|_count|_bucket)(?:\{.*\})?) (\S+)$", page, re.MULTILINE)}


class Soak:
    """Threads that go on until the time is over or something is wrong."""

    def __init__(self, daemon, cases):
        self.daemon, self.cases = daemon, cases
        self.deadline = time.monotonic() + OPTIONS.seconds
        self.wrong = []
        self.ends = collections.Counter()
        self.lock = threading.Lock()
        self.samples = []  # (resident MiB, descriptors)
        self.scrapes = 0

    def goes_on(self):
        """Until the time is over, and on a slow machine until everything has happened."""
        now = time.monotonic()
        lacks_some = not all(self.ends[end] for end in ENDS)
        return not self.wrong and (
            now < self.deadline or (lacks_some and now < self.deadline + PATIENCE_SECONDS))

    def run(self):
        workers = [(self.ask, number) for number in range(CLIENTS)]
        workers += [(self.do_not_read, 0), (self.flood, 1), (self.scrape, 2), (self.watch, 3)]
        threads = [threading.Thread(target=self.guard, args=worker) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def guard(self, work, number):
        rng = random.Random(f"{OPTIONS.seed} {work.__name__} {number}")
        try:
            while self.goes_on():
                work(rng)
        except BaseException as error:
            self.wrong.append(f"{work.__name__}: {type(error).__name__} {error}")

    def count(self, what):
        with self.lock:
            self.ends[what] += 1

    def check(self, holds, what):
        if not holds:
            self.wrong.append(what)

    def ask(self, rng):
        """One request of the pool, and what becomes of it."""
        case = rng.choice(self.cases)
        request = anywhere(rng, case.request, RANKS)
        fate = rng.random()
        cancel_after = rng.randint(0, 30) if fate < 0.15 else None
        deadline = rng.choice([0.001, 0.05, 0.5]) if 0.15 <= fate < 0.3 else None
        if cancel_after is None and rng.random() < 0.2:
            unary = generation_pb2.GenerateRequest.FromString(request.SerializeToString())
            call = self.daemon.generation.Generate.future(unary, timeout=deadline)
            code, texts = call.code(), None
            if code == grpc.StatusCode.OK:
                texts = [c.text for c in call.result().continuations]
                alone = [case.alone.texts[i] for i in range(request.sampling.n or 1)]
                self.check(texts == alone, f"{texts} instead of {alone}")
        else:
            code = self.stream(case, request, deadline, cancel_after)
        expected = {grpc.StatusCode.OK: True,
                    grpc.StatusCode.CANCELLED: cancel_after is not None,
                    grpc.StatusCode.DEADLINE_EXCEEDED: deadline is not None,
                    grpc.StatusCode.RESOURCE_EXHAUSTED: True}
        self.check(expected.get(code), f"an end by {code}: {request}")
        self.count(code.name)
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            time.sleep(0.05 * rng.random())  # as it was told to come back later

    def stream(self, case, request, deadline, cancel_after):
        call = self.daemon.generation.StreamGenerate(request, timeout=deadline)
        messages = []
        try:
            if cancel_after == 0:
                call.cancel()
            for message in call:
                messages.append(message)
                if len(messages) == cancel_after:
                    call.cancel()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.check("queue is full" in error.details(), error.details())
        whole = Whole(messages)
        if call.code() == grpc.StatusCode.OK:
            self.check(whole.outcome() == case.outcome, f"another answer: {request}")
        else:
            self.check(whole.begins(case.alone), f"another beginning: {request}")
        return call.code()

    def do_not_read(self, rng):
        """A stream whose client takes nothing."""
        request = generation_pb2.StreamGenerateRequest(
            text="Once", sampling=dict(n=4, seed=rng.getrandbits(32)),
            response=dict(text=True, logprobs=20),
            stopping=dict(max_tokens=10**6, ignore_eos=True))
        with RawHttp2(self.daemon.port, reads=False) as client:
            client.send(start_frames(1, request))
            until = time.monotonic() + rng.uniform(0.5, 3)
            while self.goes_on() and time.monotonic() < until:
                time.sleep(0.05)
            if rng.random() < 0.5:
                client.vanish()
        self.count("unread")

    def flood(self, rng):
        """One of several, and a pause."""
        way = rng.randrange(5)
        if way == 0:
            with RawHttp2(self.daemon.port) as client:
                streams = range(1, 2 * rng.randint(10, 200), 2)
                request = generation_pb2.StreamGenerateRequest(text="Once")
                client.send(b"".join(start_frames(s, request) + reset_frame(s) for s in streams))
        elif way == 1:
            crowd = [socket.create_connection(("127.0.0.1", self.daemon.port))
                     for _ in range(rng.randint(1, 60))]
            for connection in crowd:
                connection.close()
        elif way == 2:
            with RawHttp2(self.daemon.port) as client:
                request = generation_pb2.StreamGenerateRequest(
                    text="Once", stopping=dict(max_tokens=2))
                client.send(b"".join(start_frames(s, request) for s in range(1, 200, 2)))
                client.wait(lambda: all(client.ended(s) for s in range(1, 200, 2)), 20)
        elif way == 3:
            with grpc.insecure_channel(self.daemon.address, options=[
                    ("grpc.use_local_subchannel_pool", 1)]) as channel:
                generation = generation_pb2_grpc.GenerationServiceStub(channel)
                calls = [generation.Generate.future(generation_pb2.GenerateRequest(
                    text="x", sampling=dict(temperature=-1))) for _ in range(50)]
                for call in calls:
                    self.check(call.code() == grpc.StatusCode.INVALID_ARGUMENT, call.code())
        else:
            with socket.create_connection(("127.0.0.1", self.daemon.admin_port)) as client:
                client.sendall(rng.randbytes(rng.randint(1, 2000)))
        self.count("floods")
        time.sleep(rng.uniform(0, 0.3))

    def scrape(self, _rng):
        """Both pages, and whether what may only grow has."""
        last = {}
        next_time = time.monotonic()
        while self.goes_on():
            now = {}
            for path in ("/metrics", "/metrics/experts"):
                status, page = self.daemon.get(path)
                self.check(status == 200, f"{path}: {status}")
                now.update(counters(page))
            for series, value in last.items():
                self.check(now.get(series, -1) >= value, f"{series} shrinks")
            last = now
            ended = sum(value for series, value in now.items()
                        if series.startswith("moed_requests_total{"))
            live = now["moed_requests_accepted_total"] - ended
            self.check(0 <= live <= MOST_AT_ONCE, f"{live} requests live")
            self.scrapes += 1
            next_time = max(next_time + 1 / SCRAPES_PER_SECOND, time.monotonic() - 1)
            time.sleep(max(0, next_time - time.monotonic()))

    def watch(self, _rng):
        self.samples.append((resident_mib(self.daemon), count_of(self.daemon, "fd")))
        time.sleep(0.5)

    def thirds(self, column):
        """Medians of the thirds of the run: floods are short."""
        values = [sample[column] for sample in self.samples]
        third = max(1, len(values) // 3)
        return [statistics.median(part)
                for part in (values[:third], values[third:-third] or values, values[-third:])]


class SoakTest(unittest.TestCase):
    def make_cases(self, daemon):
        rng = random.Random(OPTIONS.seed)
        prefixes = shared_prefixes(rng, 8)
        count = int(min(300, 40 + OPTIONS.seconds))
        requests = [make_request(rng, prefixes, long=0.1) for _ in range(count)]
        return [Case(request, list(daemon.generation.StreamGenerate(request)))
                for request in requests]

    def test_nothing_changes_grows_or_is_lost(self):
        with Daemon(*DAEMON_FLAGS) as daemon:
            cases = self.make_cases(daemon)
            blocks = daemon.wait_for_free_blocks()
            descriptors = count_of(daemon, "fd")
            soak = Soak(daemon, cases)
            soak.run()
            self.report(soak)
            self.assertEqual(soak.wrong[:3], [])
            self.assertEqual(daemon.wait_for_free_blocks(), blocks)
            wait_until(lambda: count_of(daemon, "fd") <= descriptors, "descriptors to be closed")
            self.check_counters(daemon)
            if OPTIONS.seconds >= 60 and not is_sanitized(daemon):
                self.check_growth(soak)
            self.assertEqual(daemon.get("/livez")[0], 200)
            self.assertEqual(daemon.stop(), 0, daemon.log)
        for end in ENDS:
            self.assertGreater(soak.ends[end], 0, end)

    def check_counters(self, daemon):
        """Accepted = finished + aborted + running; and none runs."""
        def accepted_have_ended():
            return (metric(daemon, "moed_requests_accepted_total") ==
                    metric(daemon, "moed_requests_total"))
        wait_until(accepted_have_ended, "accepted requests to have ended")
        for name in ("moed_requests_running", "moed_requests_waiting"):
            self.assertEqual(metric(daemon, name), 0)
        finished = metric(daemon, "moed_requests_total", code="OK")
        aborted = metric(daemon, "moed_requests_total", finish_reason="aborted")
        self.assertEqual(metric(daemon, "moed_requests_accepted_total"), finished + aborted)

    def check_growth(self, soak):
        for column, most, what in ((0, MAX_GROWTH_MIB, "memory"),
                                   (1, MAX_GROWTH_DESCRIPTORS, "descriptors")):
            _, second, last = soak.thirds(column)
            self.assertLess(last - second, most, f"{what} grows: {soak.thirds(column)}")

    def report(self, soak):
        resident = ", ".join(f"{value:.1f}" for value in soak.thirds(0))
        descriptors = ", ".join(f"{value:.0f}" for value in soak.thirds(1))
        print(f"\n{len(soak.cases)} requests, {OPTIONS.seconds:.0f} s, seed {OPTIONS.seed}: "
              f"{dict(soak.ends)}\n  {soak.scrapes} scrapes of both pages; resident memory "
              f"{resident} MiB and descriptors {descriptors} in the thirds", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=OPTIONS.seconds)
    parser.add_argument("--seed", type=int, default=OPTIONS.seed)
    OPTIONS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
