#!/usr/bin/env python3
"""What a client sees of a daemon that serves the demonstration model on four ranks."""
import math
import os
import shutil
import tempfile
import unittest

from daemon import DEMO_MODEL, NOT_SERVING, SERVING, Daemon
import grpc
from moed.v1 import experts_pb2, generation_pb2, model_pb2, tokenizer_pb2

GREEDY = generation_pb2.SamplingParams(temperature=0)


def request(text="Once upon a time", max_tokens=24, **fields):
    fields.setdefault("sampling", GREEDY)
    stopping = fields.pop("stopping", generation_pb2.StoppingParams())
    if max_tokens is not None:
        stopping.max_tokens = max_tokens
    if "token_ids" not in fields and "chat" not in fields:
        fields["text"] = text
    return generation_pb2.StreamGenerateRequest(stopping=stopping, **fields)


class ServingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--ranks", "4")

    @classmethod
    def tearDownClass(cls):
        code = cls.daemon.stop()
        cls.daemon.__exit__()
        assert code == 0, (code, cls.daemon.log)

    def stream(self, message, **options):
        return list(self.daemon.generation.StreamGenerate(message, **options))

    def test_streams_in_order_and_ends_with_a_finish(self):
        messages = self.stream(request(request_id="mine"))
        self.assertEqual([m.sequence for m in messages], list(range(len(messages))))
        self.assertEqual({m.request_id for m in messages}, {"mine"})
        self.assertTrue(messages[0].HasField("prompt"))
        self.assertFalse(any(m.HasField("prompt") for m in messages[1:]))
        self.assertFalse(any(m.HasField("finish") for m in messages[:-1]))
        finish = messages[-1].finish
        self.assertEqual(finish.reason, generation_pb2.FINISH_REASON_LENGTH)
        self.assertEqual(finish.usage.completion_tokens, 24)
        self.assertEqual(finish.usage.prompt_tokens, messages[0].prompt.prompt_tokens)
        self.assertEqual(finish.experts_per_token, 2)
        self.assertGreater(finish.timing.first_token_seconds, 0)
        self.assertGreaterEqual(finish.timing.total_seconds, finish.timing.first_token_seconds)

    def test_unary_gives_the_streams_text(self):
        streamed = "".join(m.text_delta for m in self.stream(request()))
        unary = generation_pb2.GenerateRequest.FromString(request().SerializeToString())
        answer = self.daemon.generation.Generate(unary)
        self.assertEqual(answer.continuations[0].text, streamed)
        self.assertEqual(answer.continuations[0].finish.usage.completion_tokens, 24)
        self.assertGreater(len(streamed), 10)

    def test_a_seed_draws_the_same_again(self):
        def text(seed):
            sampling = generation_pb2.SamplingParams(temperature=1, seed=seed)
            return "".join(m.text_delta for m in self.stream(request(sampling=sampling)))
        self.assertEqual(text(5), text(5))
        self.assertNotEqual(text(5), text(6))

    def test_token_ids_decode_to_the_text(self):
        options = generation_pb2.ResponseOptions(text=True, token_ids=True)
        messages = self.stream(request(response=options))
        ids = [i for m in messages for i in m.token_ids]
        self.assertEqual(len(ids), 24)
        prompt = self.daemon.tokenizer.Tokenize(
            tokenizer_pb2.TokenizeRequest(text="Once upon a time")).token_ids
        whole = self.daemon.tokenizer.Detokenize(
            tokenizer_pb2.DetokenizeRequest(token_ids=list(prompt) + ids)).text
        self.assertEqual(whole, "Once upon a time" + "".join(m.text_delta for m in messages))

    def test_a_prompt_of_ids_is_the_same_prompt(self):
        prompt = self.daemon.tokenizer.Tokenize(
            tokenizer_pb2.TokenizeRequest(text="Once upon a time")).token_ids
        by_ids = self.stream(request(token_ids=generation_pb2.TokenIds(ids=prompt)))
        by_text = self.stream(request())
        self.assertEqual("".join(m.text_delta for m in by_ids),
                         "".join(m.text_delta for m in by_text))

    def test_logprobs_are_of_the_tokens_and_their_best_alternatives(self):
        options = generation_pb2.ResponseOptions(token_ids=True, logprobs=20)
        messages = self.stream(request(response=options))
        ids = [i for m in messages for i in m.token_ids]
        logprobs = [entry for m in messages for entry in m.logprobs]
        self.assertEqual([entry.token_id for entry in logprobs], ids)
        for entry in logprobs:
            self.assertEqual(len(entry.top), 20)
            values = [top.logprob for top in entry.top]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLessEqual(sum(math.exp(v) for v in values), 1 + 1e-4)
            # Greedy: the token drawn is the most likely one.
            self.assertEqual(entry.top[0].token_id, entry.token_id)
            self.assertEqual(entry.top[0].logprob, entry.logprob)

    def test_a_stop_string_ends_before_itself(self):
        whole = "".join(m.text_delta for m in self.stream(request(max_tokens=60)))
        stop = whole[20:26]
        stopping = generation_pb2.StoppingParams(stop_strings=[stop])
        messages = self.stream(request(max_tokens=60, stopping=stopping))
        self.assertEqual("".join(m.text_delta for m in messages), whole[:whole.index(stop)])
        self.assertEqual(messages[-1].finish.reason, generation_pb2.FINISH_REASON_STOP)
        self.assertEqual(messages[-1].finish.stop_string, stop)

    def test_a_stop_token_ends_the_stream(self):
        options = generation_pb2.ResponseOptions(token_ids=True)
        ids = [i for m in self.stream(request(response=options)) for i in m.token_ids]
        stopping = generation_pb2.StoppingParams(stop_token_ids=[ids[5]])
        messages = self.stream(request(response=options, stopping=stopping))
        self.assertEqual(messages[-1].finish.reason, generation_pb2.FINISH_REASON_STOP)
        self.assertEqual(messages[-1].finish.token_id, ids[5])
        self.assertEqual([i for m in messages for i in m.token_ids], ids[:ids.index(ids[5]) + 1])

    def test_a_prompt_as_long_as_the_context_gets_one_token(self):
        context = self.daemon.models.GetModel(
            model_pb2.GetModelRequest()).model.limits.context_tokens
        full = generation_pb2.TokenIds(ids=[5] * context)
        messages = self.stream(request(token_ids=full, max_tokens=None))
        self.assertEqual(messages[-1].finish.usage.completion_tokens, 1)
        with self.assertRaises(grpc.RpcError) as caught:
            self.stream(request(token_ids=generation_pb2.TokenIds(ids=[5] * (context + 1))))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn(str(context + 1), caught.exception.details())

    def test_a_length_beyond_the_context_ends_at_it(self):
        stopping = generation_pb2.StoppingParams(ignore_eos=True)
        ids = generation_pb2.TokenIds(ids=[5] * 500)
        messages = self.stream(request(token_ids=ids, max_tokens=2**31 - 1, stopping=stopping))
        finish = messages[-1].finish
        self.assertEqual(finish.reason, generation_pb2.FINISH_REASON_LENGTH)
        self.assertEqual(finish.usage.completion_tokens, 512 - 500 + 1)

    def test_chat_reads_what_render_chat_shows(self):
        chat = {"messages": [{"role": "user", "content": "Tell me a story."}]}
        rendered = self.daemon.tokenizer.RenderChat(tokenizer_pb2.RenderChatRequest(chat=chat))
        self.assertIn("[INST] Tell me a story. [/INST]", rendered.text)
        by_chat = self.stream(request(chat=chat))
        by_ids = self.stream(request(token_ids=generation_pb2.TokenIds(ids=rendered.token_ids)))
        self.assertEqual("".join(m.text_delta for m in by_chat),
                         "".join(m.text_delta for m in by_ids))

    def test_offsets_cover_the_text(self):
        text = "A cat — näive 🐈 sat."
        answer = self.daemon.tokenizer.Tokenize(
            tokenizer_pb2.TokenizeRequest(text=text, include_offsets=True))
        data = text.encode()
        self.assertEqual(b"".join(data[o.begin:o.end] for o in answer.offsets), data)

    def test_the_load_of_the_experts_counts_every_computed_token(self):
        def totals():
            load = self.daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
            self.assertEqual(len(load.layers), 4)
            for layer in load.layers:
                self.assertEqual(len(layer.tokens), 8)
                self.assertAlmostEqual(sum(layer.share), 1.0)
            return [sum(layer.tokens) for layer in load.layers]
        self.stream(request())
        before = totals()
        usage = self.stream(request())[-1].finish.usage
        # The last token is not read again; two experts a token.
        computed = usage.prompt_tokens + usage.completion_tokens - 1
        self.assertEqual([b - a for a, b in zip(before, totals())], [2 * computed] * 4)

    def test_health_of_each_service_is_true(self):
        for service in ("", "moed.v1.GenerationService", "moed.v1.TokenizerService",
                        "moed.v1.ModelService", "moed.v1.ExpertService"):
            self.assertEqual(self.daemon.health(service), SERVING, service)


class WithoutTokenizerTest(unittest.TestCase):
    def test_serves_ids_and_refuses_text(self):
        with tempfile.TemporaryDirectory() as directory:
            for name in ("config.json", "model.safetensors"):
                shutil.copy(os.path.join(DEMO_MODEL, name), directory)
            with Daemon("--model-name", "bare", model=directory) as daemon:
                model = daemon.models.GetModel(model_pb2.GetModelRequest()).model
                self.assertEqual(model.name, "bare")
                self.assertFalse(model.HasField("tokenizer"))
                ids = generation_pb2.TokenIds(ids=[1, 50, 60])
                messages = list(daemon.generation.StreamGenerate(request(token_ids=ids)))
                self.assertEqual(sum(len(m.token_ids) for m in messages), 24)
                self.assertFalse(any(m.text_delta for m in messages))
                for call in (lambda: list(daemon.generation.StreamGenerate(request())),
                             lambda: daemon.tokenizer.Tokenize(
                                 tokenizer_pb2.TokenizeRequest(text="x"))):
                    with self.assertRaises(grpc.RpcError) as caught:
                        call()
                    self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)


class SmallCacheTest(unittest.TestCase):
    def test_the_context_is_what_a_ranks_cache_holds(self):
        with Daemon("--kv-blocks", "2", "--block-size", "16") as daemon:
            model = daemon.models.GetModel(model_pb2.GetModelRequest()).model
            self.assertEqual(model.limits.context_tokens, 32)
            for prompt, tokens in ((32, 1), (31, 2), (1, 32)):
                ids = generation_pb2.TokenIds(ids=[5] * prompt)
                stopping = generation_pb2.StoppingParams(ignore_eos=True)
                messages = list(daemon.generation.StreamGenerate(
                    request(token_ids=ids, max_tokens=None, stopping=stopping)))
                self.assertEqual(messages[-1].finish.usage.completion_tokens, tokens)
            with self.assertRaises(grpc.RpcError) as caught:
                list(daemon.generation.StreamGenerate(
                    request(token_ids=generation_pb2.TokenIds(ids=[5] * 33))))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)


class LoadingTest(unittest.TestCase):
    def test_health_is_false_and_calls_are_unavailable_until_ready(self):
        with tempfile.TemporaryDirectory() as directory:
            config = slow_config(directory)
            with Daemon("--load-format", "dummy", "--kv-blocks", "8", model=config,
                        wait_ready=False) as daemon:
                self.assertEqual(daemon.health(), NOT_SERVING)
                self.assertEqual(daemon.health("moed.v1.GenerationService"), NOT_SERVING)
                with self.assertRaises(grpc.RpcError) as caught:
                    daemon.models.GetModel(model_pb2.GetModelRequest(), wait_for_ready=True)
                self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
                self.assertIn("loading", caught.exception.details())
                # The end while loading is clean, and quick.
                self.assertEqual(daemon.stop(), 0)


def slow_config(directory):
    """A config whose dummy weights take long to make: 350 million parameters."""
    from config_files import write_config
    return write_config(directory, hidden_size=1024, intermediate_size=3584, num_hidden_layers=4)


if __name__ == "__main__":
    unittest.main()
