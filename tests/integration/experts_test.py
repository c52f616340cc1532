#!/usr/bin/env python3
"""What ExpertService tells of the experts against routing that is computed and counted here."""
import collections
import random
import unittest

from asking import PROMPT, encode, exact_daemon, one, tokenizer
from moed.v1 import admin_pb2, experts_pb2
import numpy as np
from reference_model import reference_model

SEED = 20250301
TEXTS = ["Once upon a time there was a little dog. The little dog liked to play in the garden.",
         "The king said: I want to eat a big cake, and then I want to play with the big dog.",
         "Tom and Lily went to the park. Tom saw a big tree. Lily saw a little bird in the tree.",
         PROMPT]


class ExpertsTest(unittest.TestCase):
    """One daemon computes some requests, in chunks of 16 tokens; nothing else runs on it."""

    @classmethod
    def setUpClass(cls):
        cls.daemon = exact_daemon("--ranks", "2", "--max-batched-tokens", "16",
                                  "--max-sequences", "4", "--expert-token-statistics")
        rng = random.Random(SEED)
        cls.rows = []     # ids of each sequence that were read
        cls.experts = []  # [sequence][tokens, layers, k]
        for text in TEXTS * 2:
            prompt = encode(text)
            drawn = list(one(cls.daemon, prompt,
                             sampling={"temperature": 1, "seed": rng.getrandbits(32)},
                             stopping={"max_tokens": 40, "ignore_eos": True},
                             cache={"bypass": True}).token_ids)
            read = prompt + drawn[:-1]
            forward = reference_model().forward(read)
            assert forward.margin > 1e-6, "another seed: float32 cannot tell these experts apart"
            cls.rows.append(read)
            cls.experts.append(np.stack(forward.experts, axis=1))
        cls.num_rows = sum(len(read) for read in cls.rows)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def load(self, **fields):
        return self.daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest(**fields))

    def test_load_and_how_even_it_is(self):
        chosen = np.concatenate(self.experts)
        for load in (self.load(), self.load(window_seconds=3600)):
            self.assertEqual(load.experts_per_token, 2)
            self.assertEqual(load.dropped_pairs, 0)
            for number, layer in enumerate(load.layers):
                counts = np.bincount(chosen[:, number].ravel(), minlength=8)
                self.assertEqual(list(layer.tokens), counts.tolist())
                self.assertEqual(counts.sum(), 2 * self.num_rows)
                share = counts / counts.sum()
                np.testing.assert_allclose(layer.share, share, atol=1e-9)
                self.assertAlmostEqual(layer.max_over_mean, counts.max() / counts.mean())
                apart = np.abs(counts[:, None] - counts[None, :]).sum()
                self.assertAlmostEqual(layer.gini, apart / (2 * 8 * counts.sum()))
                used = share[share > 0]
                self.assertAlmostEqual(layer.entropy, -(used * np.log(used)).sum() / np.log(8))
                self.assertEqual(layer.dead_experts, (counts == 0).sum())

    def test_a_watch_tells_the_same_as_asking(self):
        for fields in ({}, {"window_seconds": 3600}):
            watch = self.daemon.experts.WatchExpertLoad(
                experts_pb2.WatchExpertLoadRequest(interval_seconds=0.1, **fields))
            for _ in range(2):
                watched, asked = next(watch).load, self.load(**fields)
                self.assertGreater(watched.window_seconds, 0)
                # The time goes on between the two.
                watched.window_seconds = asked.window_seconds
                self.assertEqual(watched, asked)
            watch.cancel()

    def test_the_load_of_a_rank_is_that_of_its_experts(self):
        placement = self.daemon.experts.GetPlacement(experts_pb2.GetPlacementRequest())
        load = self.load()
        held = np.zeros(placement.num_ranks)
        for layer, ranks in zip(load.layers, placement.layers):
            self.assertEqual(len(ranks.rank), len(layer.tokens))
            for tokens, rank in zip(layer.tokens, ranks.rank):
                held[rank] += tokens
        self.assertEqual(held.sum(), 2 * self.num_rows * len(load.layers))
        answer = self.daemon.admin.ListRanks(admin_pb2.ListRanksRequest())
        # By home, where that counts by expert: the sums are one.
        self.assertEqual(sum(rank.routed_pairs for rank in answer.ranks), held.sum())

    def test_repetition_of_consecutive_tokens(self):
        load = self.load()
        self.assertAlmostEqual(load.random_first_repetition, 1 / 8)
        self.assertAlmostEqual(load.random_any_repetition, 1 - (6 * 5) / (8 * 7))
        for number, layer in enumerate(load.layers):
            pairs = [(a, b) for experts in self.experts
                     for a, b in zip(experts[:-1, number], experts[1:, number])]
            self.assertEqual(layer.repetition_tokens, len(pairs))
            first = sum(a[0] == b[0] for a, b in pairs) / len(pairs)
            shared = sum(bool(set(a) & set(b)) for a, b in pairs) / len(pairs)
            self.assertAlmostEqual(layer.first_repetition, first)
            self.assertAlmostEqual(layer.any_repetition, shared)

    def test_tokens_that_each_expert_received_most(self):
        answer = self.daemon.experts.GetExpertTokens(experts_pb2.GetExpertTokensRequest(limit=7))
        self.assertEqual(answer.counted_tokens, self.num_rows)
        self.assertAlmostEqual(answer.random_agreement, 1 / 8)
        ids = np.concatenate(self.rows)
        chosen = np.concatenate(self.experts)
        occurrences = collections.Counter(ids.tolist())
        for number, layer in enumerate(answer.layers):
            self.assertEqual(layer.layer, number)
            for expert in layer.experts:
                counts = collections.Counter(
                    ids[(chosen[:, number] == expert.expert).any(axis=1)].tolist())
                most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:7]
                self.assertEqual([(t.token_id, t.count) for t in expert.tokens], most)
                for token in expert.tokens:
                    self.assertAlmostEqual(token.share,
                                           token.count / occurrences[token.token_id])
                    self.assertEqual(token.piece, tokenizer.id_to_piece(token.token_id))
        default = self.daemon.experts.GetExpertTokens(experts_pb2.GetExpertTokensRequest())
        self.assertEqual(max(len(e.tokens) for l in default.layers for e in l.experts), 10)

    def test_how_faithful_the_router_is_to_token_ids(self):
        answer = self.daemon.experts.GetExpertTokens(experts_pb2.GetExpertTokensRequest(limit=1))
        ids = np.concatenate(self.rows)
        chosen = np.concatenate(self.experts)
        for number, layer in enumerate(answer.layers):
            first = collections.defaultdict(list)
            for token, expert in zip(ids.tolist(), chosen[:, number, 0].tolist()):
                first[token].append(expert)
            repeated = [experts for experts in first.values() if len(experts) >= 2]
            rows = sum(len(experts) for experts in repeated)
            self.assertEqual((layer.repeated_tokens, layer.repeated_token_ids),
                             (rows, len(repeated)))
            favourite = sum(max(collections.Counter(e).values()) for e in repeated) / rows
            self.assertAlmostEqual(layer.favourite_share, favourite)
            same = sum(len(e) * sum(e[i] == e[j] for i in range(len(e)) for j in range(i))
                       / (len(e) * (len(e) - 1) / 2) for e in repeated) / rows
            self.assertAlmostEqual(layer.agreement, same)
            self.assertAlmostEqual(layer.random_favourite_share, self.random_favourite(repeated),
                                   delta=0.01)

    def random_favourite(self, repeated):
        """The mean over a thousand routers that draw at random."""
        rng = np.random.default_rng(SEED)
        rows = sum(len(experts) for experts in repeated)
        total = 0.0
        for experts in repeated:
            counts = rng.multinomial(len(experts), [1 / 8] * 8, size=1000)
            total += counts.max(axis=1).mean()
        return total / rows


if __name__ == "__main__":
    unittest.main()
