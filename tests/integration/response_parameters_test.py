#!/usr/bin/env python3
"""Each field of ResponseOptions and MoeParams against the demonstration model in NumPy, and what is
told of the experts against routing counted here."""
import itertools
import math
import unittest

from asking import (BOS, EOS, LOGPROB_TOLERANCE, PROMPT, ask, encode, exact_daemon, greedy, one,
                    request, tokenizer)
import grpc
from moed.v1 import experts_pb2, generation_pb2, model_pb2
import numpy as np
from reference_model import log_softmax, reference_model


class Checks(unittest.TestCase):
    def assert_logprobs(self, entries, targets, rows, alternatives, what=""):
        """entries[i] tells of targets[i], drawn from the log probabilities rows[i]."""
        self.assertEqual([entry.token_id for entry in entries], list(targets), what)
        for entry, token, row in zip(entries, targets, rows):
            self.assertAlmostEqual(entry.logprob, row[token], delta=LOGPROB_TOLERANCE, msg=what)
            self.assertEqual(len(entry.top), alternatives, what)
            falling = -np.sort(-row)
            for place, top in enumerate(entry.top):
                self.assertAlmostEqual(top.logprob, row[top.token_id], delta=LOGPROB_TOLERANCE)
                self.assertAlmostEqual(top.logprob, falling[place], delta=LOGPROB_TOLERANCE)
            self.assertEqual(len({top.token_id for top in entry.top}), alternatives)

    def assert_refused(self, call, code, text):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertEqual(caught.exception.code(), code)
        self.assertIn(text, caught.exception.details())


class ResponseParametersTest(Checks):
    @classmethod
    def setUpClass(cls):
        cls.daemon = exact_daemon("--ranks", "2", "--allow-routed-experts",
                                  "--max-experts-per-token", "4")
        cls.prompt = encode(PROMPT)
        cls.drawn = greedy(cls.daemon, max_tokens=30)
        cls.forward = reference_model().forward(cls.prompt + cls.drawn[:-1])
        cls.logprobs = log_softmax(cls.forward.logits)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def ask(self, prompt=PROMPT, sampling=None, stopping=None, **response):
        return ask(self.daemon, prompt, sampling={"temperature": 0, **(sampling or {})},
                   stopping={"max_tokens": 30, "ignore_eos": True, **(stopping or {})},
                   response=response)

    def stream(self, prompt=PROMPT, **groups):
        return list(self.daemon.generation.StreamGenerate(
            request(prompt, generation_pb2.StreamGenerateRequest, **groups)))

    def test_text_and_token_ids_are_sent_as_asked(self):
        text = tokenizer.decode(self.prompt[1:] + self.drawn)[len(PROMPT):]
        for ask_text, ask_ids in itertools.product((None, False, True), repeat=2):
            options = {name: value for name, value in (("text", ask_text), ("token_ids", ask_ids))
                       if value is not None}
            # Without `asking`, which asks for ids.
            answer = self.daemon.generation.Generate(generation_pb2.GenerateRequest(
                text=PROMPT, sampling={"temperature": 0}, response=options,
                stopping={"max_tokens": 30, "ignore_eos": True})).continuations[0]
            sends_text = ask_text is not False
            sends_ids = not sends_text if ask_ids is None else ask_ids
            self.assertEqual(answer.text, text if sends_text else "", options)
            self.assertEqual(list(answer.token_ids), self.drawn if sends_ids else [], options)

    def test_logprobs_are_the_models_own(self):
        rows = self.logprobs[len(self.prompt) - 1:]
        for alternatives in (0, 1, 20):
            entries = self.ask(logprobs=alternatives).continuations[0].logprobs
            self.assert_logprobs(entries, self.drawn, rows, alternatives)
        self.assertEqual(len(self.ask().continuations[0].logprobs), 0)

    def test_logprobs_do_not_see_what_changes_the_draw(self):
        sampling = {"temperature": 0, "presence_penalty": 2, "repetition_penalty": 1.5,
                    "logit_bias": {self.drawn[0]: -50}, "seed": 1, "top_k": 3}
        answer = self.ask(sampling=sampling, logprobs=2).continuations[0]
        drawn = list(answer.token_ids)
        self.assertNotEqual(drawn, self.drawn)
        rows = log_softmax(reference_model().forward(self.prompt + drawn[:-1]).logits)
        self.assert_logprobs(answer.logprobs, drawn, rows[len(self.prompt) - 1:], 2)

    def test_prompt_logprobs(self):
        for alternatives in (0, 3, 20):
            for _ in range(2):  # the second time the prompt is in the cache
                answer = self.ask(prompt_logprobs=alternatives)
                self.assert_logprobs(answer.prompt.prompt_logprobs, self.prompt[1:], self.logprobs,
                                     alternatives)
                self.assertEqual(answer.prompt.cached_tokens, 0)
                self.assertEqual(list(answer.continuations[0].token_ids), self.drawn)
        self.assertEqual(len(self.ask().prompt.prompt_logprobs), 0)

    def test_echo_puts_the_prompt_first(self):
        answer = self.ask(echo=True, text=True).continuations[0]
        self.assertEqual(list(answer.token_ids), self.prompt + self.drawn)
        self.assertEqual(answer.text, tokenizer.decode(self.prompt[1:] + self.drawn))
        self.assertEqual(len(answer.logprobs), 0)
        # What is used counts what was drawn.
        self.assertEqual(answer.finish.usage.completion_tokens, len(self.drawn))

    def test_echo_with_logprobs_has_the_prompts_as_well(self):
        answer = self.ask(echo=True, logprobs=2, sampling={"n": 2})
        self.assertEqual(len(answer.continuations), 2)
        for continuation in answer.continuations:
            self.assert_logprobs(continuation.logprobs, (self.prompt + self.drawn)[1:],
                                 self.logprobs, 2)
        self.assertEqual(len(answer.prompt.prompt_logprobs), 0)
        both = self.ask(echo=True, logprobs=2, prompt_logprobs=1)
        self.assert_logprobs(both.prompt.prompt_logprobs, self.prompt[1:], self.logprobs, 1)

    def test_stop_strings_do_not_look_at_the_echo(self):
        answer = self.ask(echo=True, text=True,
                          stopping={"stop_strings": ["upon a"]}).continuations[0]
        self.assertTrue(answer.text.startswith(PROMPT))

    def test_skip_special_tokens(self):
        force = {"logit_bias": {EOS: 100}}
        for skipped, text in ((None, ""), (True, ""), (False, "</s></s>")):
            options = {} if skipped is None else {"skip_special_tokens": skipped}
            answer = self.ask(sampling=force, stopping={"max_tokens": 2}, text=True, **options)
            self.assertEqual(answer.continuations[0].text, text)
        echoed = self.ask(stopping={"max_tokens": 1}, echo=True, text=True,
                          skip_special_tokens=False).continuations[0].text
        self.assertTrue(echoed.startswith("<s>"), echoed)

    def test_special_tokens_of_a_prompt_of_ids_are_ids(self):
        prompt = [BOS, BOS] + self.prompt[1:]
        rows = log_softmax(reference_model().forward(prompt).logits)
        answer = self.ask(prompt, prompt_logprobs=0)
        self.assert_logprobs(answer.prompt.prompt_logprobs, prompt[1:], rows, 0)

    def routing_of(self, forward):
        """[tokens, layers, k] flat."""
        return np.stack(forward.experts, axis=1).ravel().tolist()

    def test_routed_experts(self):
        self.assertGreater(self.forward.margin, 1e-5, "another prompt: float32 cannot tell these")
        for _ in range(2):  # the second time the prompt is in the cache
            routed = self.ask(routed_experts=True).continuations[0].routed_experts
            self.assertEqual((routed.num_tokens, routed.num_layers, routed.experts_per_token),
                             (len(self.prompt) + 29, 4, 2))
            self.assertEqual(list(routed.expert_ids), self.routing_of(self.forward))
        pieces = self.stream(sampling={"temperature": 0}, response={"routed_experts": True},
                             stopping={"max_tokens": 30, "ignore_eos": True})
        self.assertEqual([e for m in pieces for e in m.routed_experts.expert_ids],
                         self.routing_of(self.forward))
        self.assertFalse(self.ask().continuations[0].HasField("routed_experts"))

    def test_routed_experts_of_n_continuations(self):
        answer = self.ask(routed_experts=True, sampling={"n": 2})
        whole = self.routing_of(self.forward)
        first, second = (list(c.routed_experts.expert_ids) for c in answer.continuations)
        self.assertEqual(first, whole)
        self.assertEqual(second, whole[len(self.prompt) * 4 * 2:])

    def test_experts_per_token(self):
        for count in (1, 2, 3, 4):
            answer = ask(self.daemon, PROMPT, sampling={"temperature": 0},
                         stopping={"max_tokens": 12, "ignore_eos": True},
                         moe={"experts_per_token": count},
                         response={"logprobs": 1, "routed_experts": True})
            only = answer.continuations[0]
            drawn = list(only.token_ids)
            forward = reference_model().forward(self.prompt + drawn[:-1], top_k=count)
            self.assert_logprobs(only.logprobs, drawn,
                                 log_softmax(forward.logits)[len(self.prompt) - 1:], 1,
                                 f"{count} experts")
            self.assertEqual(only.finish.experts_per_token, count)
            self.assertEqual(only.routed_experts.experts_per_token, count)
            self.assertEqual(list(only.routed_experts.expert_ids), self.routing_of(forward))
        self.assertEqual(self.ask().continuations[0].finish.experts_per_token, 2)
        for count in (0, 5):
            self.assert_refused(lambda: ask(self.daemon, moe={"experts_per_token": count}),
                                grpc.StatusCode.INVALID_ARGUMENT, "moe.experts_per_token")


class WithoutLeaveTest(Checks):
    def test_what_tells_about_content_is_refused_by_default(self):
        with exact_daemon() as daemon:
            self.assert_refused(lambda: ask(daemon, response={"routed_experts": True}),
                                grpc.StatusCode.PERMISSION_DENIED, "response.routed_experts")
            self.assert_refused(
                lambda: daemon.experts.GetExpertTokens(experts_pb2.GetExpertTokensRequest()),
                grpc.StatusCode.FAILED_PRECONDITION, "--expert-token-statistics")
            self.assert_refused(lambda: ask(daemon, moe={"experts_per_token": 3}),
                                grpc.StatusCode.INVALID_ARGUMENT, "moe.experts_per_token")


class CapacityTest(Checks):
    def test_dropped_pairs_are_those_of_the_published_rule(self):
        prompt = encode(PROMPT + " wanted to play with the red ball in the garden")
        for factor in (0.5, 1.0, 1.25):
            with exact_daemon("--ranks", "1", "--capacity-factor", str(factor)) as daemon:
                # The prompt is one step; its only token is not read.
                answer = ask(daemon, prompt, sampling={"temperature": 0},
                             stopping={"max_tokens": 1}, response={"logprobs": 0})
                only = answer.continuations[0]
                capacity = math.ceil(factor * len(prompt) * 2 / 8)
                forward = reference_model().forward(prompt, capacity=capacity)
                self.assertGreater(forward.dropped, 0)
                self.assertEqual(only.finish.dropped_pairs, forward.dropped)
                self.assert_logprobs(only.logprobs, only.token_ids,
                                     log_softmax(forward.logits)[-1:], 0)
                load = daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
                self.assertEqual(load.dropped_pairs, forward.dropped)
                activity = daemon.models.GetModel(model_pb2.GetModelRequest()).activity
                self.assertEqual(activity.dropped_pairs, forward.dropped)
                # What the router chose is counted, dropped or not.
                self.assertEqual([sum(layer.tokens) for layer in load.layers],
                                 [2 * len(prompt)] * 4)

    def test_nothing_is_dropped_without_a_factor(self):
        with exact_daemon() as daemon:
            self.assertEqual(one(daemon, stopping={"max_tokens": 4}).finish.dropped_pairs, 0)


if __name__ == "__main__":
    unittest.main()
