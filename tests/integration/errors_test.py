#!/usr/bin/env python3
"""Bad requests are the client's fault, by code and with the field's name, and cost nothing."""
import unittest

from daemon import Daemon
import grpc
from moed.v1 import experts_pb2, generation_pb2, model_pb2, tokenizer_pb2

Code = grpc.StatusCode
NAN = float("nan")

# Fields of the request in place of the good ones, the code, and what the text must say.
REFUSED = [
    (dict(model="gpt"), Code.NOT_FOUND, "model"),
    (dict(request_id="a b"), Code.INVALID_ARGUMENT, "request_id"),
    (dict(text=""), Code.INVALID_ARGUMENT, "text"),
    (dict(token_ids=dict(ids=[])), Code.INVALID_ARGUMENT, "token_ids"),
    (dict(token_ids=dict(ids=[1, 2048])), Code.INVALID_ARGUMENT, "token_ids.ids[1]"),
    (dict(token_ids=dict(ids=[2**32 - 1])), Code.INVALID_ARGUMENT, "token_ids.ids[0]"),
    (dict(token_ids=dict(ids=[5] * 513)), Code.INVALID_ARGUMENT, "512"),
    (dict(chat=dict(messages=[])), Code.INVALID_ARGUMENT, "chat.messages"),
    (dict(chat=dict(messages=[dict(role="robot", content="x")])), Code.INVALID_ARGUMENT,
     "chat.messages[0].role"),
    (dict(sampling=dict(temperature=NAN)), Code.INVALID_ARGUMENT, "sampling.temperature"),
    (dict(sampling=dict(temperature=-1)), Code.INVALID_ARGUMENT, "sampling.temperature"),
    (dict(sampling=dict(temperature=float("inf"))), Code.INVALID_ARGUMENT, "sampling.temperature"),
    (dict(sampling=dict(top_p=0)), Code.INVALID_ARGUMENT, "sampling.top_p"),
    (dict(sampling=dict(top_p=1.1)), Code.INVALID_ARGUMENT, "sampling.top_p"),
    (dict(sampling=dict(top_k=-1)), Code.INVALID_ARGUMENT, "sampling.top_k"),
    (dict(sampling=dict(n=0)), Code.INVALID_ARGUMENT, "sampling.n"),
    (dict(sampling=dict(n=10**9)), Code.INVALID_ARGUMENT, "sampling.n"),
    (dict(sampling=dict(n=17)), Code.INVALID_ARGUMENT, "sampling.n"),
    (dict(sampling=dict(min_p=-0.1)), Code.INVALID_ARGUMENT, "sampling.min_p"),
    (dict(sampling=dict(typical_p=0)), Code.INVALID_ARGUMENT, "sampling.typical_p"),
    (dict(sampling=dict(typical_p=1.5)), Code.INVALID_ARGUMENT, "sampling.typical_p"),
    (dict(sampling=dict(presence_penalty=2.1)), Code.INVALID_ARGUMENT, "sampling.presence_penalty"),
    (dict(sampling=dict(frequency_penalty=NAN)), Code.INVALID_ARGUMENT,
     "sampling.frequency_penalty"),
    (dict(sampling=dict(repetition_penalty=0)), Code.INVALID_ARGUMENT,
     "sampling.repetition_penalty"),
    (dict(sampling=dict(logit_bias={5: 1e30})), Code.INVALID_ARGUMENT, "sampling.logit_bias[5]"),
    (dict(sampling=dict(logit_bias={2048: 1})), Code.INVALID_ARGUMENT, "sampling.logit_bias"),
    (dict(sampling=dict(logit_bias={i: 1 for i in range(1025)})), Code.INVALID_ARGUMENT,
     "sampling.logit_bias"),
    (dict(sampling=dict(allowed_token_ids=[5, 2048])), Code.INVALID_ARGUMENT,
     "sampling.allowed_token_ids[1]"),
    (dict(sampling=dict(bad_words=["x"] * 65)), Code.INVALID_ARGUMENT, "sampling.bad_words"),
    (dict(sampling=dict(bad_words=["x", "  "])), Code.INVALID_ARGUMENT, "sampling.bad_words[1]"),
    (dict(sampling=dict(bad_words=["x" * 257])), Code.INVALID_ARGUMENT, "sampling.bad_words[0]"),
    (dict(stopping=dict(max_tokens=0)), Code.INVALID_ARGUMENT, "stopping.max_tokens"),
    (dict(stopping=dict(max_tokens=-1)), Code.INVALID_ARGUMENT, "stopping.max_tokens"),
    (dict(stopping=dict(stop_strings=["x"] * 17)), Code.INVALID_ARGUMENT, "stopping.stop_strings"),
    (dict(stopping=dict(stop_strings=["x" * 257])), Code.INVALID_ARGUMENT,
     "stopping.stop_strings[0]"),
    (dict(stopping=dict(time_limit_ms=0)), Code.INVALID_ARGUMENT, "stopping.time_limit_ms"),
    (dict(stopping=dict(min_tokens=5, max_tokens=4)), Code.INVALID_ARGUMENT,
     "stopping.min_tokens"),
    (dict(stopping=dict(stop_token_ids=[2048])), Code.INVALID_ARGUMENT,
     "stopping.stop_token_ids[0]"),
    (dict(response=dict(logprobs=21)), Code.INVALID_ARGUMENT, "response.logprobs"),
    (dict(response=dict(prompt_logprobs=21)), Code.INVALID_ARGUMENT, "response.prompt_logprobs"),
    (dict(response=dict(routed_experts=True)), Code.PERMISSION_DENIED, "response.routed_experts"),
    (dict(moe=dict(experts_per_token=0)), Code.INVALID_ARGUMENT, "moe.experts_per_token"),
    (dict(moe=dict(experts_per_token=3)), Code.INVALID_ARGUMENT, "moe.experts_per_token"),
    (dict(scheduling=dict(priority=101)), Code.INVALID_ARGUMENT, "scheduling.priority"),
    (dict(scheduling=dict(home_rank=1)), Code.INVALID_ARGUMENT, "scheduling.home_rank"),
    (dict(cache=dict(salt="x" * 257)), Code.INVALID_ARGUMENT, "cache.salt"),
]

METHODS = [f"/moed.v1.{method}" for method in (
    "GenerationService/StreamGenerate", "GenerationService/Generate", "TokenizerService/Tokenize",
    "TokenizerService/Detokenize", "TokenizerService/RenderChat", "ModelService/GetModel",
    "ModelService/ListModels", "ExpertService/GetExpertLoad", "ExpertService/GetExpertTokens")]


class ErrorsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def assert_refused(self, call, code, text):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertEqual((caught.exception.code(), text in caught.exception.details()),
                         (code, True), caught.exception.details())
        self.assert_tells_nothing(caught.exception.details())

    def assert_tells_nothing(self, text):
        for inside in ("/", "0x", ".cc", ".h:"):
            self.assertNotIn(inside, text.replace("max/min", ""))

    def test_streamed_and_unary_requests_are_refused_alike(self):
        for fields, code, text in REFUSED:
            fields = dict(fields)
            if not any(prompt in fields for prompt in ("text", "token_ids", "chat")):
                fields["text"] = "Hello"
            with self.subTest(**{key: str(value)[:60] for key, value in fields.items()}):
                stream = generation_pb2.StreamGenerateRequest(**fields)
                unary = generation_pb2.GenerateRequest(**fields)
                self.assert_refused(lambda: list(self.daemon.generation.StreamGenerate(stream)),
                                    code, text)
                self.assert_refused(lambda: self.daemon.generation.Generate(unary), code, text)
        self.daemon.wait_for_free_blocks()

    def test_queries_are_refused_by_name(self):
        daemon = self.daemon
        self.assert_refused(lambda: daemon.models.GetModel(model_pb2.GetModelRequest(model="x")),
                            Code.NOT_FOUND, "model")
        self.assert_refused(lambda: daemon.tokenizer.Detokenize(
            tokenizer_pb2.DetokenizeRequest(token_ids=[1, 2048])), Code.INVALID_ARGUMENT,
            "token_ids[1]")
        for seconds in (0, 3601, NAN):
            self.assert_refused(lambda: daemon.experts.GetExpertLoad(
                experts_pb2.GetExpertLoadRequest(window_seconds=seconds)), Code.INVALID_ARGUMENT,
                "window_seconds")
        for limit in (0, 101):
            self.assert_refused(lambda: daemon.experts.GetExpertTokens(
                experts_pb2.GetExpertTokensRequest(limit=limit)), Code.INVALID_ARGUMENT, "limit")

    def call_raw(self, method, data):
        if method.endswith("StreamGenerate"):
            call = self.daemon.channel.unary_stream(method, bytes, bytes)
            return lambda: list(call(data))
        call = self.daemon.channel.unary_unary(method, bytes, bytes)
        return lambda: call(data)

    def test_malformed_bytes_are_invalid_arguments(self):
        for method in METHODS:
            for data in (b"\xff" * 11, b"\x0a\x7f", b"\x00", b"{\"text\": \"x\"}"):
                with self.subTest(method=method, data=data):
                    self.assert_refused(self.call_raw(method, data), Code.INVALID_ARGUMENT, "")

    def test_bad_utf8_names_the_field(self):
        # Field 3, `text`: a cut short, an overlong and a surrogate code point.
        for text in (b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80"):
            data = b"\x1a" + bytes([len(text)]) + text
            self.assert_refused(self.call_raw(METHODS[1], data), Code.INVALID_ARGUMENT, "text")

    def test_awkward_text_is_served_as_valid_utf8(self):
        for text in ("\0", "\ufeffx", "\uffff", "a" + "\u0301" * 100, "</s>"):
            request = generation_pb2.StreamGenerateRequest(
                text=text, stopping=dict(max_tokens=4), sampling=dict(seed=1))
            messages = list(self.daemon.generation.StreamGenerate(request))
            self.assertGreater(messages[-1].finish.usage.completion_tokens, 0)

    def test_a_message_beyond_the_limit_exhausts_it(self):
        request = generation_pb2.GenerateRequest(text="x" * (4 << 20))
        self.assert_refused(lambda: self.daemon.generation.Generate(request),
                            Code.RESOURCE_EXHAUSTED, "")

    def test_a_request_id_cannot_be_used_twice_at_a_time(self):
        request = generation_pb2.StreamGenerateRequest(
            text="Once", request_id="twin", stopping=dict(max_tokens=500, ignore_eos=True))
        first = self.daemon.generation.StreamGenerate(request)
        next(first)
        self.assert_refused(lambda: list(self.daemon.generation.StreamGenerate(request)),
                            Code.ALREADY_EXISTS, "request_id")
        first.cancel()
        self.daemon.wait_for_free_blocks()

    def test_the_daemon_still_answers(self):
        request = generation_pb2.GenerateRequest(text="Once", stopping=dict(max_tokens=2))
        self.assertTrue(self.daemon.generation.Generate(request).continuations)


if __name__ == "__main__":
    unittest.main()
