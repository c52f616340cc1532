#!/usr/bin/env python3
"""SchedulingParams, CacheParams and what is reported of the cache: they change when an answer comes
and never what it is."""
import unittest

from asking import PROMPT, ask, encode, exact_daemon, one, request
from daemon import wait_until
import grpc
from moed.v1 import generation_pb2, model_pb2

BLOCK = 16
LONG = encode(" ".join([PROMPT] * 6))
CAN_BE_CACHED = (len(LONG) - 1) // BLOCK * BLOCK  # the last token is always computed


def drawn_with_logprobs(daemon, prompt=LONG, sampling=None, **groups):
    """What must be the same, bit for bit, and the tokens taken from the cache."""
    answer = ask(daemon, prompt, sampling={"temperature": 1, "seed": 3, **(sampling or {})},
                 stopping={"max_tokens": 6, "ignore_eos": True},
                 response={"logprobs": 5, "token_ids": True}, **groups)
    kept = [(list(c.token_ids), [e.SerializeToString() for e in c.logprobs])
            for c in answer.continuations]
    cached = answer.prompt.cached_tokens
    assert all(c.finish.usage.cached_tokens == cached for c in answer.continuations)
    return kept, cached


class SchedulingTest(unittest.TestCase):
    def test_a_higher_priority_runs_first(self):
        # One runs at a time, slowly; the others wait behind it until it is cancelled.
        with exact_daemon("--max-sequences", "1", "--cpu-isa", "reference") as daemon:
            def waiting_and_running():
                activity = daemon.models.GetModel(model_pb2.GetModelRequest()).activity
                return activity.waiting, activity.running

            def start(priority, max_tokens, waiting):
                call = daemon.generation.StreamGenerate(request(
                    "Once", generation_pb2.StreamGenerateRequest,
                    scheduling={"priority": priority},
                    stopping={"max_tokens": max_tokens, "ignore_eos": True}))
                wait_until(lambda: waiting_and_running() == (waiting, 1), f"{waiting} to wait")
                return call
            first = start(0, 500, 0)
            calls = {priority: start(priority, 4, place + 1)
                     for place, priority in enumerate((-100, 0, 50, 100))}
            first.cancel()
            queued = {priority: list(call)[-1].finish.timing.queue_seconds
                      for priority, call in calls.items()}
            # Sent last, the highest has waited least; each ran after all of the higher ones.
            self.assertEqual(sorted(queued, key=queued.get), [100, 50, 0, -100])

    def test_home_rank_changes_no_bit(self):
        with exact_daemon("--ranks", "3") as daemon:
            expected, _ = drawn_with_logprobs(daemon)
            for rank in (0, 1, 2):
                kept, _ = drawn_with_logprobs(daemon, scheduling={"home_rank": rank},
                                              cache={"salt": f"rank {rank}"})
                self.assertEqual(kept, expected)
            for rank in (-1, 3):
                with self.assertRaises(grpc.RpcError) as caught:
                    one(daemon, scheduling={"home_rank": rank})
                self.assertIn("scheduling.home_rank", caught.exception.details())

    def test_home_rank_is_where_the_prompt_is_cached(self):
        with exact_daemon("--ranks", "2") as daemon:
            self.assertEqual(drawn_with_logprobs(daemon, scheduling={"home_rank": 1})[1], 0)
            self.assertEqual(drawn_with_logprobs(daemon, scheduling={"home_rank": 0})[1], 0)
            for rank in (0, 1):
                self.assertEqual(drawn_with_logprobs(daemon, scheduling={"home_rank": rank})[1],
                                 CAN_BE_CACHED)


class CacheTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = exact_daemon("--ranks", "2", "--max-experts-per-token", "4",
                                  "--allow-routed-experts")
        with exact_daemon("--ranks", "1", "--no-prefix-cache") as bare:
            cls.expected, _ = drawn_with_logprobs(bare)
            cls.of_one_expert, _ = drawn_with_logprobs(bare, moe={"experts_per_token": 1})
            assert [drawn_with_logprobs(bare)[1] for _ in range(2)] == [0, 0]

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def check(self, cached, expected=None, **groups):
        kept, taken = drawn_with_logprobs(self.daemon, **groups)
        self.assertEqual(kept, expected or self.expected)
        self.assertEqual(taken, cached)

    def test_salt_separates_and_cached_tokens_are_reported(self):
        before = self.daemon.models.GetModel(model_pb2.GetModelRequest()).activity
        for salt in ("a", "b", "x" * 256):
            self.check(0, cache={"salt": salt})
            self.check(CAN_BE_CACHED, cache={"salt": salt})
        after = self.daemon.models.GetModel(model_pb2.GetModelRequest()).activity
        self.assertEqual(after.cached_tokens - before.cached_tokens, 3 * CAN_BE_CACHED)
        self.assertEqual(after.prompt_tokens - before.prompt_tokens, 6 * len(LONG))
        self.assertGreaterEqual(self.daemon.kv_cache().cached_blocks, 3 * CAN_BE_CACHED // BLOCK)

    def test_bypass_neither_takes_nor_leaves(self):
        for _ in range(2):
            self.check(0, cache={"salt": "bypassed", "bypass": True})
        self.check(0, cache={"salt": "bypassed"})
        self.check(0, cache={"salt": "bypassed", "bypass": True})
        self.check(CAN_BE_CACHED, cache={"salt": "bypassed"})

    def test_a_part_that_is_the_same_is_taken(self):
        cache = {"salt": "parts"}
        drawn_with_logprobs(self.daemon, LONG, cache=cache)
        for same in (1, BLOCK, BLOCK + 1, 3 * BLOCK - 1, 3 * BLOCK):
            prompt = LONG[:same] + [5, 6, 7]
            _, taken = drawn_with_logprobs(self.daemon, prompt, cache=cache)
            self.assertEqual(taken, same // BLOCK * BLOCK, same)
        # What is the same but stands elsewhere is another.
        _, taken = drawn_with_logprobs(self.daemon, [9] + LONG, cache=cache)
        self.assertEqual(taken, 0)

    def test_experts_per_token_is_part_of_the_key(self):
        cache = {"salt": "k"}
        self.check(0, cache=cache)
        for cached in (0, CAN_BE_CACHED):
            self.check(cached, self.of_one_expert, cache=cache, moe={"experts_per_token": 1})
        self.check(CAN_BE_CACHED, cache=cache, moe={"experts_per_token": 2})

    def test_sampling_is_not(self):
        cache = {"salt": "sampling"}
        self.check(0, cache=cache)
        _, taken = drawn_with_logprobs(self.daemon, cache=cache, sampling={
            "temperature": 0, "presence_penalty": 1, "n": 3, "logit_bias": {5: 1}})
        self.assertEqual(taken, CAN_BE_CACHED)

    def test_what_needs_every_position_takes_nothing(self):
        for response in ({"prompt_logprobs": 0}, {"echo": True, "logprobs": 0},
                         {"routed_experts": True}):
            for _ in range(2):
                answer = ask(self.daemon, LONG, stopping={"max_tokens": 1}, response=dict(response))
                self.assertEqual(answer.prompt.cached_tokens, 0, response)


if __name__ == "__main__":
    unittest.main()
