#!/usr/bin/env python3
"""What administrators see and do, against what the daemon does for its other clients."""
import json
import signal
import tempfile
import threading
import time
import unittest

from config_files import write_config
from daemon import PATIENCE_SECONDS, Daemon, wait_until
import grpc
from moed.v1 import admin_pb2, experts_pb2, generation_pb2, model_pb2

LOADING, READY, DRAINING = (admin_pb2.DAEMON_PHASE_LOADING, admin_pb2.DAEMON_PHASE_READY,
                            admin_pb2.DAEMON_PHASE_DRAINING)
RANKS = 3
# Steps of 5 ms without compute: streams that last as long as a test wants.
NULL_MODEL = ("--null-step-time", "0.005", "--ranks", "2")


def request(request_id="", max_tokens=400, n=1):
    return generation_pb2.StreamGenerateRequest(
        request_id=request_id, text="Once upon a time", sampling=dict(seed=11, n=n),
        stopping=dict(max_tokens=max_tokens, ignore_eos=True))


def code_of(call):
    """How a call ends."""
    try:
        list(call)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


class ServingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--ranks", str(RANKS), "--dtype", "float32")

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def list_ranks(self):
        return self.daemon.admin.ListRanks(admin_pb2.ListRanksRequest())

    def text(self):
        stream = self.daemon.generation.StreamGenerate(request(max_tokens=60))
        return "".join(message.text_delta for message in stream)

    def test_ranks_tell_what_they_hold_and_have_done(self):
        self.text()
        self.daemon.wait_for_free_blocks()
        answer = self.list_ranks()
        self.assertEqual((answer.phase, answer.load_fraction), (READY, 1))
        self.assertEqual((answer.running, answer.waiting), (0, 0))
        self.assertEqual([rank.rank for rank in answer.ranks], list(range(RANKS)))
        model = self.daemon.models.GetModel(model_pb2.GetModelRequest())
        cache = model.kv_cache
        for name in ("total", "free", "cached"):
            self.assertEqual(sum(getattr(rank, f"{name}_kv_blocks") for rank in answer.ranks),
                             getattr(cache, f"{name}_blocks"), name)
        for rank in answer.ranks:
            self.assertTrue(rank.up)
            self.assertEqual(rank.device, model.model.backend)
            memory = {use.kind: use.bytes for use in rank.memory}
            self.assertEqual(list(memory), ["weights", "kv_cache", "activations", "exchange",
                                            "workspace"])
            self.assertGreater(memory["weights"], 0)
            self.assertGreater(memory["kv_cache"], 0)
            self.assertEqual(rank.steps, model.activity.steps)
            self.assertGreater(rank.compute_seconds, 0)
            self.assertGreater(rank.exchange_bytes_sent, 0)
        # What one sends another receives.
        self.assertEqual(sum(rank.exchange_bytes_sent for rank in answer.ranks),
                         sum(rank.exchange_bytes_received for rank in answer.ranks))
        load = self.daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
        self.assertEqual(sum(rank.routed_pairs for rank in answer.ranks),
                         sum(sum(layer.tokens) for layer in load.layers))

    def test_placement_is_as_even_as_can_be(self):
        placement = self.daemon.experts.GetPlacement(experts_pb2.GetPlacementRequest())
        self.assertEqual(placement.num_ranks, RANKS)
        # docs/expert_parallelism.md: expert e of layer l on rank (l * num_experts + e) mod ranks.
        self.assertEqual([list(layer.rank) for layer in placement.layers],
                         [[(number * 8 + expert) % RANKS for expert in range(8)]
                          for number in range(4)])
        self.assertEqual([layer.layer for layer in placement.layers], [0, 1, 2, 3])

    def test_watched_load_grows_with_what_is_served(self):
        watch = self.daemon.experts.WatchExpertLoad(
            experts_pb2.WatchExpertLoadRequest(interval_seconds=0.1), timeout=PATIENCE_SECONDS)
        before = [sum(layer.tokens) for layer in next(watch).load.layers]
        self.text()
        wait_until(lambda: all(sum(layer.tokens) > old for layer, old in
                               zip(next(watch).load.layers, before)), "the load to grow")
        self.daemon.wait_for_free_blocks()
        now = self.daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
        wait_until(lambda: [list(layer.tokens) for layer in next(watch).load.layers]
                   == [list(layer.tokens) for layer in now.layers], "the load now")
        watch.cancel()

    def test_a_watch_keeps_its_interval(self):
        began = time.monotonic()
        watch = self.daemon.admin.WatchRanks(admin_pb2.WatchRanksRequest(interval_seconds=0.2),
                                             timeout=PATIENCE_SECONDS)
        for _ in range(4):
            self.assertEqual(next(watch).ranks.phase, READY)
        self.assertGreaterEqual(time.monotonic() - began, 0.55)
        watch.cancel()

    def test_intervals_and_windows_out_of_range_are_named(self):
        for interval in (0.05, 3601, float("nan")):
            for watch, kind in ((self.daemon.admin.WatchRanks, admin_pb2.WatchRanksRequest),
                                (self.daemon.experts.WatchExpertLoad,
                                 experts_pb2.WatchExpertLoadRequest)):
                with self.assertRaises(grpc.RpcError) as caught:
                    next(watch(kind(interval_seconds=interval)))
                self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
                self.assertIn("interval_seconds must be in [0.1, 3600]",
                              caught.exception.details())


class RequestsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(*NULL_MODEL, model="null")

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def start(self, request_id, **fields):
        """A call that has had its first message."""
        call = self.daemon.generation.StreamGenerate(request(request_id, **fields))
        return call, [next(call)]

    def abort(self, request_id):
        return self.daemon.admin.AbortRequest(admin_pb2.AbortRequestRequest(request_id=request_id))

    def test_abort_ends_that_call_and_nobody_else(self):
        def text(call, messages):
            return "".join(m.text_delta for m in messages + list(call))
        alone = text(*self.start("alone", max_tokens=100))
        calls = {name: self.start(name, max_tokens=100 if name != "ended" else 400)
                 for name in ("before", "ended", "after")}
        self.abort("ended")
        with self.assertRaises(grpc.RpcError) as caught:
            list(calls["ended"][0])
        self.assertEqual(caught.exception.code(), grpc.StatusCode.ABORTED)
        self.assertEqual(caught.exception.details(), "the request was ended by an administrator")
        for name in ("before", "after"):
            self.assertEqual(text(*calls[name]), alone)
        self.daemon.wait_for_free_blocks()

    def test_abort_ends_every_continuation_and_a_unary_call_too(self):
        call, _ = self.start("several", n=4)
        self.abort("several")
        self.assertEqual(code_of(call), grpc.StatusCode.ABORTED)
        future = self.daemon.generation.Generate.future(generation_pb2.GenerateRequest(
            request_id="unary", text="Once", stopping=dict(max_tokens=400, ignore_eos=True)))
        wait_until(lambda: self.try_abort("unary"), "the request to be live")
        self.assertEqual(future.exception(PATIENCE_SECONDS).code(), grpc.StatusCode.ABORTED)
        self.daemon.wait_for_free_blocks()

    def try_abort(self, request_id):
        try:
            return self.abort(request_id) is not None
        except grpc.RpcError as error:
            self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
            return False

    def test_abort_of_what_is_not_live_is_not_found(self):
        call, messages = self.start("over", max_tokens=1)
        list(call)
        self.assertFalse(self.try_abort("over"))
        self.assertFalse(self.try_abort("never"))
        with self.assertRaises(grpc.RpcError) as caught:
            self.abort("")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_running_requests_are_seen(self):
        watch = self.daemon.admin.WatchRanks(admin_pb2.WatchRanksRequest(interval_seconds=0.1),
                                             timeout=PATIENCE_SECONDS)
        call, _ = self.start("seen", n=3)
        seen = wait_until(lambda: (lambda ranks: ranks if ranks.running == 3 else None)(
            next(watch).ranks), "three continuations to run")
        self.assertLess(sum(rank.free_kv_blocks for rank in seen.ranks),
                        sum(rank.total_kv_blocks for rank in seen.ranks))
        call.cancel()
        wait_until(lambda: next(watch).ranks.running == 0, "none to run")
        watch.cancel()

    def test_the_log_level_changes_what_is_logged_until_a_hangup(self):
        def level(name):
            self.daemon.admin.SetLogLevel(admin_pb2.SetLogLevelRequest(level=name))

        def logged(request_id):
            """Whether a call's access line is in the log; lines come in order."""
            list(self.daemon.generation.StreamGenerate(request(request_id, max_tokens=1)))
            return lambda: any(json.loads(line).get("request_id") == request_id
                               for line in list(self.daemon.log))
        level("error")
        silent = logged("silent")
        level("info")
        wait_until(logged("told"), "an access line")
        self.assertFalse(silent())
        level("error")
        self.daemon.send(signal.SIGHUP)
        number = iter(range(1000))
        wait_until(lambda: logged(f"again-{next(number)}")(), "access lines after a hangup")
        with self.assertRaises(grpc.RpcError) as caught:
            level("loud")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)


class DrainTest(unittest.TestCase):
    def test_running_streams_finish_new_ones_are_refused_and_the_daemon_ends_with_0(self):
        with Daemon(*NULL_MODEL, model="null") as daemon:
            call = daemon.generation.StreamGenerate(request(max_tokens=100))
            messages = [next(call)]
            watch = daemon.admin.WatchRanks(admin_pb2.WatchRanksRequest(interval_seconds=0.1))
            next(watch)
            answer = daemon.admin.Drain(admin_pb2.DrainRequest())
            self.assertEqual((answer.running, answer.waiting), (1, 0))
            wait_until(lambda: next(watch).ranks.phase == DRAINING, "the drain")
            self.assertEqual(code_of(daemon.generation.StreamGenerate(request())),
                             grpc.StatusCode.UNAVAILABLE)
            daemon.admin.Drain(admin_pb2.DrainRequest(timeout_seconds=0))  # changes nothing
            messages.extend(call)
            self.assertEqual(messages[-1].finish.usage.completion_tokens, 100)
            self.assertEqual(code_of(watch), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_the_time_given_is_what_running_streams_have(self):
        with Daemon("--drain-timeout", "600", *NULL_MODEL, model="null") as daemon:
            call = daemon.generation.StreamGenerate(request())
            next(call)
            with self.assertRaises(grpc.RpcError) as caught:
                daemon.admin.Drain(admin_pb2.DrainRequest(timeout_seconds=-1))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
            next(call)
            daemon.admin.Drain(admin_pb2.DrainRequest(timeout_seconds=0.1))
            self.assertEqual(code_of(call), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(daemon.wait(), 0, daemon.log)


class LoadingTest(unittest.TestCase):
    def test_is_watched_and_can_be_ended(self):
        with tempfile.TemporaryDirectory() as directory:
            config = write_config(directory, hidden_size=1024, intermediate_size=3584,
                                  num_hidden_layers=4)
            with Daemon("--load-format", "dummy", "--kv-blocks", "8", "--ranks", "2",
                        model=config, wait_ready=False) as daemon:
                watch = daemon.admin.WatchRanks(
                    admin_pb2.WatchRanksRequest(interval_seconds=0.1), wait_for_ready=True,
                    timeout=PATIENCE_SECONDS)
                ranks = wait_until(lambda: (lambda answer: answer if answer.ranks else None)(
                    next(watch).ranks), "a rank to load")
                self.assertEqual(ranks.phase, LOADING)
                self.assertLess(ranks.load_fraction, 1)
                for rank in ranks.ranks:
                    self.assertFalse(rank.up)
                    self.assertIn("weights", rank.load_phase)
                with self.assertRaises(grpc.RpcError) as caught:
                    daemon.admin.AbortRequest(admin_pb2.AbortRequestRequest(request_id="none"))
                self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)
                with self.assertRaises(grpc.RpcError) as caught:
                    daemon.experts.GetPlacement(experts_pb2.GetPlacementRequest())
                self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
                ended = threading.Event()
                watch.add_callback(ended.set)
                began = time.monotonic()
                daemon.admin.Drain(admin_pb2.DrainRequest())
                self.assertEqual(code_of(watch), grpc.StatusCode.UNAVAILABLE)
                self.assertEqual(daemon.wait(), 0, daemon.log)
                self.assertLess(time.monotonic() - began, 5)
                self.assertTrue(ended.wait(PATIENCE_SECONDS))


if __name__ == "__main__":
    unittest.main()
