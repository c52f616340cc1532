#!/usr/bin/env python3
"""How the daemon starts and ends: exit codes, signals, dry run."""
import json
import os
import shutil
import signal
import tempfile
import threading
import time
import unittest

from config_files import write_config
from daemon import (DEMO_MODEL, NOT_SERVING, PATIENCE_SECONDS, SERVING, Daemon, run_moed,
                    wait_until)
import grpc
from moed.v1 import generation_pb2


def long_request():
    return generation_pb2.StreamGenerateRequest(
        text="Once", stopping=dict(max_tokens=500, ignore_eos=True))


class ExitCodeTest(unittest.TestCase):
    def assert_ends(self, code, text, *flags, **options):
        result = run_moed(*flags, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertIn(text, result.stderr)

    def test_usage_is_64(self):
        self.assert_ends(64, "--model")
        self.assert_ends(64, "--ranks", "--model", "m", "--ranks", "none")
        self.assert_ends(64, "--dtype", "--model", "m", "--dtype", "int8")

    def test_a_bad_checkpoint_is_78_with_file_and_cause(self):
        listen = ("--listen", "127.0.0.1:0")
        with tempfile.TemporaryDirectory() as directory:
            self.assert_ends(78, "config.json", "--model", directory, *listen)
            for name in os.listdir(DEMO_MODEL):
                shutil.copy(os.path.join(DEMO_MODEL, name), directory)
            weights = os.path.join(directory, "model.safetensors")
            os.truncate(weights, os.path.getsize(weights) - 1)
            self.assert_ends(78, "model.safetensors", "--model", directory, *listen)
            os.remove(weights)
            self.assert_ends(78, "model.safetensors", "--model", directory, *listen)
            shutil.copy(os.path.join(DEMO_MODEL, "model.safetensors"), directory)
            with open(os.path.join(directory, "tokenizer.model"), "wb") as file:
                file.write(b"nonsense")
            self.assert_ends(78, "tokenizer.model", "--model", directory, *listen)
            with open(os.path.join(DEMO_MODEL, "config.json")) as file:
                config = json.load(file)
            config["hidden_act"] = "relu"
            with open(os.path.join(directory, "config.json"), "w") as file:
                json.dump(config, file)
            self.assert_ends(78, "hidden_act", "--model", directory, *listen)

    def test_a_taken_port_is_69(self):
        with Daemon() as first:
            self.assert_ends(69, first.address, "--model", DEMO_MODEL, "--listen", first.address)

    def test_too_little_memory_is_69_with_numbers(self):
        self.assert_ends(69, "bytes", "--model", DEMO_MODEL, "--listen", "127.0.0.1:0",
                         "--kv-cache-size", "1TiB")

    def test_version_and_help_are_0(self):
        self.assertEqual(run_moed("--version").returncode, 0)
        self.assertIn("moed --model models/demo --ranks 8", run_moed("--help").stdout)


class SignalTest(unittest.TestCase):
    def start_stream(self, daemon):
        call = daemon.generation.StreamGenerate(long_request())
        return call, [next(call)]

    def start_waiting_stream(self, daemon):
        """A stream that the daemon has taken, which its own first token cannot tell."""
        request = long_request()
        request.request_id = "waiting"
        # Of two with one id, the one that is refused tells that the other one is being served.
        refused = threading.Event()
        calls = [daemon.generation.StreamGenerate(request) for _ in range(2)]
        for call in calls:
            call.add_done_callback(lambda _: refused.set())
        self.assertTrue(refused.wait(PATIENCE_SECONDS))
        taken = [call for call in calls if not call.done()]
        self.assertEqual(len(taken), 1)
        for call in calls:
            if call is not taken[0]:
                self.assertEqual(call.code(), grpc.StatusCode.ALREADY_EXISTS)
        return taken[0]

    def test_an_idle_daemon_ends_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with Daemon() as daemon:
                daemon.send(number)
                self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_running_streams_finish_and_new_ones_are_refused(self):
        # One sequence at a time: the second stream still waits when the drain begins.
        with Daemon("--max-sequences", "1") as daemon:
            streams = [self.start_stream(daemon)]
            streams.append((self.start_waiting_stream(daemon), []))
            daemon.send(signal.SIGTERM)
            daemon.wait_for_log("draining")
            with self.assertRaises(grpc.RpcError) as caught:
                list(daemon.generation.StreamGenerate(long_request()))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            for call, messages in streams:
                messages.extend(call)
                self.assertEqual(messages[-1].finish.usage.completion_tokens, 500)
            self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_health_is_false_while_draining(self):
        with Daemon("--cpu-isa", "reference") as daemon:
            call, _ = self.start_stream(daemon)
            daemon.send(signal.SIGTERM)
            wait_until(lambda: daemon.health() == NOT_SERVING, "health to turn false")
            call.cancel()
            self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_the_drain_timeout_cuts_off(self):
        with Daemon("--drain-timeout", "0", "--cpu-isa", "reference") as daemon:
            call, _ = self.start_stream(daemon)
            daemon.send(signal.SIGTERM)
            with self.assertRaises(grpc.RpcError) as caught:
                list(call)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_a_second_signal_is_immediate(self):
        with Daemon("--drain-timeout", "600", "--cpu-isa", "reference") as daemon:
            call, _ = self.start_stream(daemon)
            daemon.send(signal.SIGTERM)
            daemon.wait_for_log("draining")
            daemon.send(signal.SIGTERM)
            with self.assertRaises(grpc.RpcError) as caught:
                list(call)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_a_second_signal_does_not_wait_for_the_running_step(self):
        # The whole prompt is one step, and plain loops take many seconds over it.
        with tempfile.TemporaryDirectory() as directory:
            config = write_config(directory, hidden_size=256, intermediate_size=1024,
                                  num_hidden_layers=4, max_position_embeddings=4096)
            with Daemon("--load-format", "dummy", "--cpu-isa", "reference", "--threads", "1",
                        "--max-batched-tokens", "4096", "--max-sequences", "1",
                        "--rank-timeout", "600", "--drain-timeout", "600",
                        model=config) as daemon:
                call = daemon.generation.StreamGenerate(generation_pb2.StreamGenerateRequest(
                    token_ids=dict(ids=[5] * 4000)))
                wait_until(lambda: daemon.kv_cache().free_blocks < daemon.kv_cache().total_blocks,
                           "the request to run")
                daemon.send(signal.SIGTERM)
                daemon.wait_for_log("draining")
                daemon.send(signal.SIGTERM)
                self.assertEqual(daemon.wait(), 0, daemon.log)
                self.assertIn("in the middle of a step", daemon.log[-1])
                with self.assertRaises(grpc.RpcError) as caught:
                    list(call)
                self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def test_a_hangup_changes_nothing(self):
        with Daemon() as daemon:
            daemon.send(signal.SIGHUP)
            daemon.wait_for_log("SIGHUP")
            self.assertEqual(daemon.health(), SERVING)
            self.assertEqual(daemon.stop(), 0, daemon.log)

    def test_loading_ends_within_five_seconds(self):
        with tempfile.TemporaryDirectory() as directory:
            config = write_config(directory, hidden_size=1024, intermediate_size=3584,
                                  num_hidden_layers=4)
            with Daemon("--load-format", "dummy", "--kv-blocks", "8", model=config,
                        wait_ready=False) as daemon:
                began = time.monotonic()
                self.assertEqual(daemon.stop(), 0, daemon.log)
                self.assertLess(time.monotonic() - began, 5)


class RankFailureTest(unittest.TestCase):
    def test_a_rank_that_takes_too_long_ends_streams_and_daemon(self):
        # Plain loops over a prompt of 400 tokens take far longer than a millisecond.
        with Daemon("--ranks", "2", "--cpu-isa", "reference", "--rank-timeout", "0.001") as daemon:
            request = generation_pb2.StreamGenerateRequest(token_ids=dict(ids=[5] * 400))
            with self.assertRaises(grpc.RpcError) as caught:
                list(daemon.generation.StreamGenerate(request))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertNotIn("rank 0", caught.exception.details())
            self.assertEqual(daemon.wait(), 75, daemon.log)
            self.assertIn("rank", daemon.log[-1])


class LogTest(unittest.TestCase):
    def test_lines_are_json_and_tell_what_runs(self):
        with Daemon("--ranks", "2") as daemon:
            daemon.stop()
            lines = [json.loads(line) for line in daemon.log]
            for line in lines:
                self.assertLessEqual({"level", "message", "time"}, set(line))
            text = "\n".join(line["message"] for line in lines)
            for part in ("backend:", "rank 0: weights", "rank 1: weights", "KV blocks",
                         "exchange:", "ready after", "stopped"):
                self.assertIn(part, text)

    def test_text_is_for_people(self):
        with Daemon("--log-format", "text") as daemon:
            daemon.stop()
            self.assertRegex(daemon.log[0], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} info ")


class DryRunTest(unittest.TestCase):
    def test_says_what_the_demonstration_model_takes(self):
        result = run_moed("--model", DEMO_MODEL, "--ranks", "8", "--dry-run")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("8 experts (top 2)", result.stdout)

    def test_a_missing_model_is_78(self):
        self.assertEqual(run_moed("--model", "no-such-directory", "--dry-run").returncode, 78)


if __name__ == "__main__":
    unittest.main()
