#!/usr/bin/env python3
"""Many streams at once, with cancels and deadlines: nobody's output changes, nothing leaks."""
import random
import threading
import unittest

from daemon import Daemon, wait_until
import grpc
from moed.v1 import generation_pb2
from request_mix import FLAGS, Whole, make_request, shared_prefixes

SEED = 20240611


def make_requests(count):
    """Requests with every parameter; some begin alike, so that cached prompts are shared."""
    rng = random.Random(SEED)
    prefixes = shared_prefixes(rng, 6)
    return [make_request(rng, prefixes) for _ in range(count)]


class StreamsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Few blocks: not all of the streams fit at a time, some wait.
        cls.daemon = Daemon("--ranks", "8", "--kv-blocks", "48", "--max-batched-tokens", "48",
                            *FLAGS)

    @classmethod
    def tearDownClass(cls):
        code = cls.daemon.stop()
        cls.daemon.__exit__()
        assert code == 0, (code, cls.daemon.log)

    def run_together(self, requests, cancel_after):
        """Runs all at once; stream i is cancelled after cancel_after[i] messages, None: never."""
        results = [None] * len(requests)
        barrier = threading.Barrier(len(requests))

        def run(index):
            barrier.wait()
            call = self.daemon.generation.StreamGenerate(requests[index])
            messages = []
            try:
                if cancel_after[index] == 0:
                    call.cancel()
                for message in call:
                    messages.append(message)
                    if len(messages) == cancel_after[index]:
                        call.cancel()
                results[index] = (grpc.StatusCode.OK, messages)
            except grpc.RpcError as error:
                results[index] = (error.code(), messages)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(requests))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def test_64_streams_with_random_cancels_equal_their_solo_runs(self):
        requests = make_requests(64)
        total = self.daemon.wait_for_free_blocks()
        solo = [Whole(list(self.daemon.generation.StreamGenerate(r))) for r in requests]
        rng = random.Random(SEED + 1)
        for turn in range(3):
            cancel_after = [rng.randint(0, 30) if rng.random() < 0.4 else None for _ in requests]
            results = self.run_together(requests, cancel_after)
            finished = 0
            for index, (code, messages) in enumerate(results):
                what = f"seed {SEED}, turn {turn}, stream {index}"
                self.assertEqual([m.sequence for m in messages], list(range(len(messages))), what)
                if code == grpc.StatusCode.OK:
                    self.assertEqual(Whole(messages).outcome(), solo[index].outcome(), what)
                    finished += 1
                    continue
                self.assertEqual(code, grpc.StatusCode.CANCELLED, what)
                self.assertIsNotNone(cancel_after[index], what)
                self.assertTrue(Whole(messages).begins(solo[index]), what)
            self.assertGreaterEqual(finished, sum(after is None for after in cancel_after))
            self.assertEqual(self.daemon.wait_for_free_blocks(), total)

    def test_one_rank_says_the_same(self):
        requests = make_requests(64)
        together = self.run_together(requests, [None] * len(requests))
        with Daemon("--ranks", "1", "--no-prefix-cache", *FLAGS) as one:
            for index, request in enumerate(requests):
                self.assertEqual(Whole(list(one.generation.StreamGenerate(request))).outcome(),
                                 Whole(together[index][1]).outcome(),
                                 f"seed {SEED}, stream {index}: {request}")

    def long_request(self):
        return generation_pb2.StreamGenerateRequest(
            text="Once", stopping=dict(max_tokens=10**6, ignore_eos=True))

    def test_a_cancel_frees_the_blocks(self):
        call = self.daemon.generation.StreamGenerate(self.long_request())
        next(call)
        cache = self.daemon.kv_cache()
        self.assertLess(cache.free_blocks, cache.total_blocks)
        call.cancel()
        self.daemon.wait_for_free_blocks()

    def test_a_deadline_ends_the_request_and_frees_the_blocks(self):
        for timeout in (0.001, 0.05):
            with self.assertRaises(grpc.RpcError) as caught:
                list(self.daemon.generation.StreamGenerate(self.long_request(), timeout=timeout))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.daemon.wait_for_free_blocks()

    def test_a_vanished_client_frees_the_blocks(self):
        channel = grpc.insecure_channel(self.daemon.address,
                                        options=[("grpc.use_local_subchannel_pool", 1)])
        call = channel.unary_stream(
            "/moed.v1.GenerationService/StreamGenerate",
            generation_pb2.StreamGenerateRequest.SerializeToString, bytes)(self.long_request())
        next(call)
        channel.close()
        self.daemon.wait_for_free_blocks()


class QueueTest(unittest.TestCase):
    def test_a_full_queue_refuses_and_says_when_to_come_back(self):
        with Daemon("--max-sequences", "1", "--queue-limit", "2") as daemon:
            request = generation_pb2.StreamGenerateRequest(
                text="Once", stopping=dict(max_tokens=200, ignore_eos=True))
            calls = [daemon.generation.StreamGenerate(request) for _ in range(12)]
            outcomes = {"finished": 0, "refused": 0}
            for call in calls:
                try:
                    messages = list(call)
                    self.assertEqual(messages[-1].finish.usage.completion_tokens, 200)
                    outcomes["finished"] += 1
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
                    self.assertIn("grpc-retry-pushback-ms", dict(error.trailing_metadata()))
                    outcomes["refused"] += 1
            self.assertGreaterEqual(outcomes["finished"], 2)
            self.assertGreaterEqual(outcomes["refused"], 1)
            wait_until(lambda: daemon.kv_cache().free_blocks == daemon.kv_cache().total_blocks,
                       "free blocks")


if __name__ == "__main__":
    unittest.main()
