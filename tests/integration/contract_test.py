#!/usr/bin/env python3
"""A Python client drives every method of the contract: one that none drives fails the test."""
import glob
import importlib
import os
import unittest

from daemon import PATIENCE_SECONDS, Daemon, wait_until
import grpc
from moed.v1 import admin_pb2, admin_pb2_grpc, experts_pb2, experts_pb2_grpc, generation_pb2
from moed.v1 import generation_pb2_grpc, model_pb2, model_pb2_grpc, tokenizer_pb2
from moed.v1 import tokenizer_pb2_grpc


def methods_of_the_contract():
    """Path of every method that the generated modules describe: "/moed.v1.X/Y"."""
    found = set()
    for path in glob.glob(os.path.join(os.environ["MOED_PROTO_PYTHON"], "moed", "v1", "*_pb2.py")):
        module = importlib.import_module("moed.v1." + os.path.basename(path)[:-len(".py")])
        for service in module.DESCRIPTOR.services_by_name.values():
            found.update(f"/{service.full_name}/{method.name}" for method in service.methods)
    return found


class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Remembers which methods were called."""

    def __init__(self):
        self.called = set()

    def intercept_unary_unary(self, continuation, details, request):
        self.called.add(details.method)
        return continuation(details, request)

    intercept_unary_stream = intercept_unary_unary


class ContractTest(unittest.TestCase):
    def drive(self, channel):
        """Each method with a request that succeeds, and a look at its answer; Drain ends it all."""
        generation = generation_pb2_grpc.GenerationServiceStub(channel)
        tokenizer = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        models = model_pb2_grpc.ModelServiceStub(channel)
        experts = experts_pb2_grpc.ExpertServiceStub(channel)
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        fields = dict(text="Once upon a time", sampling=dict(seed=3),
                      stopping=dict(max_tokens=8, ignore_eos=True))

        stream = list(generation.StreamGenerate(generation_pb2.StreamGenerateRequest(**fields)))
        whole = generation.Generate(generation_pb2.GenerateRequest(**fields))
        self.assertEqual("".join(message.text_delta for message in stream),
                         whole.continuations[0].text)
        ids = tokenizer.Tokenize(tokenizer_pb2.TokenizeRequest(text="The cat")).token_ids
        self.assertEqual(tokenizer.Detokenize(
            tokenizer_pb2.DetokenizeRequest(token_ids=ids)).text, "The cat")
        chat = dict(messages=[dict(role="user", content="Hello")])
        self.assertIn("[INST] Hello [/INST]", tokenizer.RenderChat(
            tokenizer_pb2.RenderChatRequest(chat=chat)).text)
        self.assertEqual(models.GetModel(model_pb2.GetModelRequest()).model.name, "demo")
        self.assertEqual(len(models.ListModels(model_pb2.ListModelsRequest()).models), 1)

        def load():
            return experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
        wait_until(lambda: sum(load().layers[3].tokens) > 0, "the load to be counted")
        watched = experts.WatchExpertLoad(experts_pb2.WatchExpertLoadRequest())
        self.assertEqual(next(watched).load.layers[3].tokens, load().layers[3].tokens)
        watched.cancel()
        tokens = experts.GetExpertTokens(experts_pb2.GetExpertTokensRequest(limit=1))
        self.assertEqual(len(tokens.layers), 4)
        self.assertEqual(experts.GetPlacement(experts_pb2.GetPlacementRequest()).num_ranks, 2)

        self.assertEqual(len(admin.ListRanks(admin_pb2.ListRanksRequest()).ranks), 2)
        ranks = admin.WatchRanks(admin_pb2.WatchRanksRequest())
        self.assertEqual(next(ranks).ranks.phase, admin_pb2.DAEMON_PHASE_READY)
        ranks.cancel()
        admin.SetLogLevel(admin_pb2.SetLogLevelRequest(level="debug"))
        self.abort_one(generation, admin)
        admin.Drain(admin_pb2.DrainRequest())

    def abort_one(self, generation, admin):
        """Ends a request; what comes before its end does not matter."""
        while True:
            call = generation.StreamGenerate(generation_pb2.StreamGenerateRequest(
                request_id="ended", text="Once", sampling=dict(n=8),
                stopping=dict(max_tokens=500, ignore_eos=True)), timeout=PATIENCE_SECONDS)
            next(call)
            try:
                admin.AbortRequest(admin_pb2.AbortRequestRequest(request_id="ended"))
            except grpc.RpcError as error:  # it was through already
                self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
                continue
            with self.assertRaises(grpc.RpcError) as caught:
                list(call)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.ABORTED)
            return

    def test_every_method_is_driven(self):
        recorder = Recorder()
        with Daemon("--ranks", "2", "--expert-token-statistics") as daemon:
            self.drive(grpc.intercept_channel(daemon.channel, recorder))
            self.assertEqual(daemon.wait(), 0, daemon.log)
        self.assertEqual(recorder.called, methods_of_the_contract())


if __name__ == "__main__":
    unittest.main()
