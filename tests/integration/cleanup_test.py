#!/usr/bin/env python3
"""Every method x every way to end: whatever a call ends by, it leaves no live state behind."""
import collections
import signal
import unittest

from daemon import PATIENCE_SECONDS, wait_until
from contract_test import methods_of_the_contract
from faults import SECRET, FaultTest
import grpc
from moed.v1 import admin_pb2, experts_pb2, generation_pb2, model_pb2, tokenizer_pb2

Code = grpc.StatusCode
# Not OK: a message that none of the contract's reads as.
MALFORMED = b"\xff" * 11
LONG = dict(text=SECRET, stopping=dict(max_tokens=10**6, ignore_eos=True))
CHAT = dict(messages=[dict(role="user", content=SECRET)])

DRAIN = "/moed.v1.AdminService/Drain"
# A good request of each, and whether it goes on until it is ended.
REQUESTS = {
    "/moed.v1.GenerationService/StreamGenerate": (
        generation_pb2.StreamGenerateRequest(**LONG), True),
    "/moed.v1.GenerationService/Generate": (generation_pb2.GenerateRequest(**LONG), True),
    "/moed.v1.TokenizerService/Tokenize": (tokenizer_pb2.TokenizeRequest(text=SECRET), False),
    "/moed.v1.TokenizerService/Detokenize": (
        tokenizer_pb2.DetokenizeRequest(token_ids=[5]), False),
    "/moed.v1.TokenizerService/RenderChat": (tokenizer_pb2.RenderChatRequest(chat=CHAT), False),
    "/moed.v1.ModelService/GetModel": (model_pb2.GetModelRequest(), False),
    "/moed.v1.ModelService/ListModels": (model_pb2.ListModelsRequest(), False),
    "/moed.v1.ExpertService/GetExpertLoad": (experts_pb2.GetExpertLoadRequest(), False),
    "/moed.v1.ExpertService/WatchExpertLoad": (experts_pb2.WatchExpertLoadRequest(), True),
    "/moed.v1.ExpertService/GetExpertTokens": (experts_pb2.GetExpertTokensRequest(), False),
    "/moed.v1.ExpertService/GetPlacement": (experts_pb2.GetPlacementRequest(), False),
    "/moed.v1.AdminService/ListRanks": (admin_pb2.ListRanksRequest(), False),
    "/moed.v1.AdminService/WatchRanks": (admin_pb2.WatchRanksRequest(), True),
    "/moed.v1.AdminService/AbortRequest": (
        admin_pb2.AbortRequestRequest(request_id="none"), False),
    "/moed.v1.AdminService/SetLogLevel": (admin_pb2.SetLogLevelRequest(level="info"), False),
    # Ends the daemon: its turn comes last.
    DRAIN: (admin_pb2.DrainRequest(timeout_seconds=0), False),
}
# What these answer instead of OK: the null model counts no tokens, and there is no such request.
REFUSED = {"/moed.v1.ExpertService/GetExpertTokens": Code.FAILED_PRECONDITION,
           "/moed.v1.AdminService/AbortRequest": Code.NOT_FOUND}
STREAMS = ("StreamGenerate", "WatchExpertLoad", "WatchRanks")
PLACES = 8


class Call:
    def __init__(self, daemon, method, data, timeout=PATIENCE_SECONDS):
        self.is_stream = method.endswith(STREAMS)
        if self.is_stream:
            self.call = daemon.channel.unary_stream(method, bytes, bytes)(data, timeout=timeout)
        else:
            self.call = daemon.channel.unary_unary(method, bytes, bytes).future(
                data, timeout=timeout)

    def code(self):
        """Waits for the end."""
        try:
            if self.is_stream:
                collections.deque(self.call, 0)
            else:
                self.call.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            pass
        return self.call.code()


class CleanupTest(FaultTest):
    # A call gives its place back a little after its client has seen the end: there are more than
    # the witness and what is tested need. In the end all must be there.
    FLAGS = ("--max-requests-per-client", str(PLACES))

    def ok(self, method, request, endless):
        if method.endswith("/Generate"):
            request.stopping.max_tokens, endless = 3, False
        call = Call(self.daemon, method, request.SerializeToString())
        if endless:
            next(call.call)
            call.call.cancel()  # the only end there is
        self.assertEqual(call.code(), Code.CANCELLED if endless else REFUSED.get(method, Code.OK))

    def cancel(self, method, request, endless):
        for wait_first in (False, True):
            call = Call(self.daemon, method, request.SerializeToString())
            if wait_first and endless and call.is_stream:
                next(call.call)
            call.call.cancel()
            code = call.code()
            # What needs no waiting may have been quicker.
            self.assertIn(code, (Code.CANCELLED,) if endless else
                          (Code.CANCELLED, REFUSED.get(method, Code.OK)))

    def deadline(self, method, request, endless):
        for timeout in (0.001, 0.1):
            code = Call(self.daemon, method, request.SerializeToString(), timeout).code()
            self.assertIn(code, (Code.DEADLINE_EXCEEDED,) if endless else
                          (Code.DEADLINE_EXCEEDED, REFUSED.get(method, Code.OK)))

    def error(self, method, _request, _endless):
        self.assertEqual(Call(self.daemon, method, MALFORMED).code(), Code.INVALID_ARGUMENT)

    def has_all_places(self):
        """Whether this client may have as many generations at a time as it is allowed."""
        wait_until(self.is_idle, "requests to be gone")
        calls = [self.generation.StreamGenerate(generation_pb2.StreamGenerateRequest(**LONG))
                 for _ in range(PLACES)]
        try:
            for call in calls:
                next(call)
            return True
        except grpc.RpcError as error:
            self.check_error(error, Code.RESOURCE_EXHAUSTED, "CLIENT_LIMIT")
            return False
        finally:
            for call in calls:
                call.cancel()

    def check(self, way, methods):
        with self.nothing_lost():
            for method in methods:
                kind, endless = type(REQUESTS[method][0]), REQUESTS[method][1]
                request = kind()
                request.CopyFrom(REQUESTS[method][0])
                with self.subTest(method, way=way.__name__):
                    way(method, request, endless)
                    wait_until(self.only_the_witness, "the call's request to be gone")
        with self.nothing_lost(witness=False):
            wait_until(self.has_all_places, "every place to be given back")

    def test_the_table_has_every_method(self):
        self.assertEqual(set(REQUESTS), methods_of_the_contract())

    def test_calls_that_succeed_are_cancelled_or_late_leave_nothing(self):
        for way in (self.ok, self.cancel, self.deadline):
            self.check(way, [method for method in REQUESTS if method != DRAIN])

    def test_calls_that_are_refused_leave_nothing(self):
        self.check(self.error, REQUESTS)


class ShutdownTest(FaultTest):
    def test_every_call_ends_and_so_does_the_process(self):
        calls = {}
        for method, (request, endless) in REQUESTS.items():
            calls[method] = Call(self.daemon, method, request.SerializeToString())
            if endless and calls[method].is_stream:
                next(calls[method].call)
        self.daemon.send(signal.SIGTERM)
        for method, call in calls.items():
            with self.subTest(method):
                ends = {Code.UNAVAILABLE}
                if not REQUESTS[method][1]:
                    ends.add(REFUSED.get(method, Code.OK))
                self.assertIn(call.code(), ends)
        self.assertEqual(self.daemon.wait(), 0, self.daemon.log)


if __name__ == "__main__":
    unittest.main()
