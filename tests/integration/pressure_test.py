#!/usr/bin/env python3
"""Mixed load at twice the capacity of the KV cache: nobody's answer changes, nothing leaks.

    pressure_test.py --seconds 600 --seed 7

A pool of seeded requests with every parameter is answered one at a time by a daemon with room for
all. Then a daemon with few KV blocks gets them in random order and company, so many that those it
has accepted need twice the blocks it has, some of them cancelled, with deadlines and time limits.
"""
import argparse
import collections
import concurrent.futures
import os
import random
import statistics
import sys
import threading
import time
import unittest

from daemon import PATIENCE_SECONDS, Daemon
import grpc
from moed.v1 import generation_pb2, model_pb2
from request_mix import FLAGS, Whole, anywhere, as_messages, make_request, shared_prefixes

OPTIONS = argparse.Namespace(seconds=float(os.environ.get("MOED_PRESSURE_SECONDS", "15")),
                             seed=20250606, requests=0)
RANKS, BLOCKS, BLOCK_TOKENS = 2, 48, 16
OVERLOAD = 2.0
TIME_LIMIT = generation_pb2.FINISH_REASON_TIME_LIMIT
OUTCOMES = ("finished", "TIME_LIMIT", "CANCELLED", "DEADLINE_EXCEEDED")
# Of a daemon whose memory is flat: what an allocator may keep after a while.
MAX_GROWTH_MIB = 8.0


class Case:
    def __init__(self, request, solo):
        self.request = request
        self.solo = Whole(solo)
        self.outcome = self.solo.outcome()
        prompt = self.solo.prompt[0].prompt_tokens
        n = request.sampling.n or 1
        last = -(-(prompt + request.stopping.max_tokens - 1) // BLOCK_TOKENS)
        # The most it can come to need: continuations share the full blocks of their prompt.
        self.blocks = last + (n - 1) * (last - prompt // BLOCK_TOKENS)


class Gate:
    """Lets requests through while those under way need less than `limit` blocks."""

    def __init__(self, limit):
        self.limit = limit
        self.used = 0
        self.changed = threading.Condition()

    def enter(self, blocks, patience):
        with self.changed:
            self.changed.wait_for(lambda: self.used < self.limit, timeout=patience)
            self.used += blocks

    def leave(self, blocks):
        with self.changed:
            self.used -= blocks
            self.changed.notify_all()


class Watcher(threading.Thread):
    """Looks at the daemon once a second."""

    def __init__(self, daemon, gate):
        super().__init__(daemon=True)
        self.daemon_process, self.gate = daemon, gate
        self.samples = []  # (seconds, resident MiB, descriptors, used blocks, demand in blocks)
        self.ended = threading.Event()

    def look(self):
        process = f"/proc/{self.daemon_process.process.pid}"
        with open(f"{process}/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        cache = self.daemon_process.kv_cache()
        self.samples.append((time.monotonic(), resident, len(os.listdir(f"{process}/fd")),
                             cache.total_blocks - cache.free_blocks, self.gate.used))

    def run(self):
        while not self.ended.wait(1.0):
            self.look()

    def thirds(self, column):
        """Means of the thirds of the run."""
        values = [sample[column] for sample in self.samples]
        third = max(1, len(values) // 3)
        return [statistics.mean(part)
                for part in (values[:third], values[third:-third] or values, values[-third:])]


class PressureTest(unittest.TestCase):
    def make_cases(self, rng):
        count = OPTIONS.requests or int(min(1000, 100 + 2 * OPTIONS.seconds))
        prefixes = shared_prefixes(rng, 12)
        with Daemon("--ranks", "1", "--no-prefix-cache", *FLAGS) as daemon:
            return [Case(request, list(daemon.generation.StreamGenerate(request)))
                    for request in (make_request(rng, prefixes, long=0.5) for _ in range(count))]

    def disturbed(self, rng, case):
        """(request, seconds until its deadline, messages until it is cancelled, in one piece?)."""
        request = anywhere(rng, case.request, RANKS)
        unary = rng.random() < 0.2
        fate = rng.random()
        if fate < 0.1:
            return request, None, rng.randint(0, 30), False
        if fate < 0.2:
            return request, rng.choice([0.001, 0.05, 0.5]), None, unary
        if fate < 0.3:
            request.stopping.time_limit_ms = rng.choice([1, 100, 800])
        return request, None, None, unary

    def messages_of(self, daemon, request, deadline, cancel_after, unary):
        if unary:
            same = generation_pb2.GenerateRequest.FromString(request.SerializeToString())
            yield from as_messages(daemon.generation.Generate(same, timeout=deadline))
            return
        call = daemon.generation.StreamGenerate(request, timeout=deadline)
        if cancel_after == 0:
            call.cancel()
        for count, message in enumerate(call, start=1):
            yield message
            if count == cancel_after:
                call.cancel()

    def run_one(self, daemon, case, seed):
        """(how it ended, tokens, preemptions); raises what is wrong."""
        request, deadline, cancel_after, unary = self.disturbed(random.Random(seed), case)
        messages = []
        code = grpc.StatusCode.OK
        try:
            for message in self.messages_of(daemon, request, deadline, cancel_after, unary):
                messages.append(message)
        except grpc.RpcError as error:
            code = error.code()
        what = f"seed {OPTIONS.seed}, run {seed}: {code.name}"
        self.assertEqual([m.sequence for m in messages], list(range(len(messages))), what)
        whole = Whole(messages)
        if code != grpc.StatusCode.OK:
            expected = {grpc.StatusCode.DEADLINE_EXCEEDED: deadline is not None,
                        grpc.StatusCode.CANCELLED: cancel_after is not None}
            self.assertTrue(expected.get(code), what)
            self.assertTrue(whole.begins(case.solo), f"{what}: {request}")
            return code.name, len(messages), 0
        n = request.sampling.n or 1
        self.assertEqual(sorted(whole.finishes), list(range(n)), what)
        self.assertTrue(all(len(finishes) == 1 for finishes in whole.finishes.values()), what)
        if any(f.reason == TIME_LIMIT for part in whole.finishes.values() for f in part):
            self.assertTrue(request.stopping.time_limit_ms > 0, what)
            self.assertTrue(whole.begins(case.solo), f"{what}: {request}")
            return "TIME_LIMIT", whole.completion_tokens(), whole.preemptions()
        self.assertEqual(whole.outcome(), case.outcome, f"{what}: {request}")
        return "finished", whole.completion_tokens(), whole.preemptions()

    def press(self, daemon, cases, rng, gate):
        """Sends until the time is over; what became of the requests."""
        ends = collections.Counter()
        lock = threading.Lock()
        failures = []

        def run(case, seed):
            try:
                how, tokens, preemptions = self.run_one(daemon, case, seed)
                with lock:
                    ends.update({how: 1, "tokens": tokens, "preemptions": preemptions,
                                 "preempted": int(preemptions > 0)})
            except BaseException as error:
                failures.append(error)
            finally:
                gate.leave(case.blocks)

        def goes_on():
            """Until the time is over, and on a slow machine until everything has happened."""
            now = time.monotonic()
            lacks_some = not all(ends[what] for what in (*OUTCOMES, "preemptions"))
            return not failures and (now < end or (lacks_some and now < end + PATIENCE_SECONDS))

        end = time.monotonic() + OPTIONS.seconds
        with concurrent.futures.ThreadPoolExecutor(max_workers=256) as pool:
            while goes_on():
                case = rng.choice(cases)
                gate.enter(case.blocks, 60)
                pool.submit(run, case, rng.getrandbits(32))
                ends["sent"] += 1
        for failure in failures[:1]:
            raise failure
        return ends

    def test_answers_are_the_same_and_nothing_leaks(self):
        rng = random.Random(OPTIONS.seed)
        begin = time.monotonic()
        cases = self.make_cases(rng)
        solo_seconds = time.monotonic() - begin
        with Daemon("--ranks", str(RANKS), "--kv-blocks", str(BLOCKS), "--block-size",
                    str(BLOCK_TOKENS), "--max-batched-tokens", "96", "--max-sequences", "48",
                    *FLAGS) as daemon:
            total = daemon.wait_for_free_blocks()
            self.assertEqual(total, RANKS * BLOCKS)
            gate = Gate(OVERLOAD * total)
            watcher = Watcher(daemon, gate)
            watcher.start()
            ends = self.press(daemon, cases, rng, gate)
            watcher.ended.set()
            watcher.join()
            self.assertEqual(daemon.wait_for_free_blocks(), total)
            activity = daemon.models.GetModel(model_pb2.GetModelRequest()).activity
            self.assertEqual(daemon.stop(), 0, daemon.log)
        self.report(cases, solo_seconds, watcher, ends, activity, total)
        # One end for each that was sent.
        self.assertEqual(sum(ends[outcome] for outcome in OUTCOMES), ends["sent"])
        for outcome in OUTCOMES:
            self.assertGreater(ends[outcome], 0, outcome)
        self.assertEqual((activity.waiting, activity.running), (0, 0))
        self.assertGreater(activity.preemptions, 0)
        self.assertGreater(ends["preemptions"], 0)
        self.assertGreater(activity.recomputed_tokens, 0)
        self.assertGreater(activity.cached_tokens, 0)
        if OPTIONS.seconds >= 60:  # before, the first pages of everything are still being touched
            first, _, last = watcher.thirds(1)
            self.assertLess(last - first, MAX_GROWTH_MIB, "resident memory grows")
            first, _, last = watcher.thirds(2)
            self.assertLess(last - first, 8, "descriptors grow")

    def report(self, cases, solo_seconds, watcher, ends, activity, total):
        resident = ", ".join(f"{mean:.2f}" for mean in watcher.thirds(1))
        descriptors = ", ".join(f"{mean:.1f}" for mean in watcher.thirds(2))
        used = [sample[3] for sample in watcher.samples]
        demand = [sample[4] for sample in watcher.samples]
        print(f"\n{len(cases)} requests answered alone in {solo_seconds:.0f} s; then "
              f"{OPTIONS.seconds:.0f} s, seed {OPTIONS.seed}:\n"
              f"  sent {ends['sent']}: {ends['finished']} finished as alone, "
              f"{ends['TIME_LIMIT']} by time limit, {ends['CANCELLED']} cancelled, "
              f"{ends['DEADLINE_EXCEEDED']} past their deadline\n"
              f"  {ends['tokens']} tokens, {activity.steps} steps\n"
              f"  demand {statistics.mean(demand) / total:.2f} times the {total} blocks; used "
              f"{statistics.mean(used) / total:.0%} in the mean, {max(used) / total:.0%} at most\n"
              f"  {activity.preemptions} preemptions of {ends['preempted']} finished requests and "
              f"others, {activity.recomputed_tokens} tokens computed again\n"
              f"  {activity.cached_tokens} of {activity.prompt_tokens} prompt tokens cached\n"
              f"  resident memory {resident} MiB and descriptors {descriptors} in the thirds", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=OPTIONS.seconds)
    parser.add_argument("--seed", type=int, default=OPTIONS.seed)
    parser.add_argument("--requests", type=int, default=0, help="size of the pool")
    OPTIONS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
