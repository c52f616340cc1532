#!/usr/bin/env python3
"""The daemon with a GPU plugin: the one whose device is the emulation of tests/cuda_host, and, where
it was built, the real one on a machine without a GPU."""
import os
import tempfile
import unittest

from asking import PROMPT, greedy, one, request
from daemon import DEMO_MODEL, Daemon, run_moed
import grpc
from moed.v1 import generation_pb2

PLUGIN = os.environ["MOED_CUDA_HOST_PLUGIN"]
REAL_PLUGIN = os.environ.get("MOED_CUDA_PLUGIN", "")
NO_PLUGIN = "/nonexistent/libmoed_cuda.so"
ON_DEVICE = ("--device", "cuda", "--gpu-plugin", PLUGIN, "--dtype", "float32")
HAS_DRIVER = os.path.exists("/dev/nvidiactl")

# What a step of eight ranks on float32 cannot do without, over both exchanges.
STEP_KERNELS = {
    "ChooseTokenKernel", "CombineKernel", "CountChoicesKernel", "EmbedKernel",
    "GatherShortRowsKernel", "GroupByExpertKernel", "IndexStaticSlotsKernel", "LogSoftmaxKernel",
    "PlanSendKernel", "RmsNormKernel", "RotaryCacheWriteKernel", "RouteKernel", "StreamGemm"}


def text_of(daemon, max_tokens=20):
    """A greedy story as it streams."""
    messages = list(daemon.generation.StreamGenerate(request(
        PROMPT, generation_pb2.StreamGenerateRequest, sampling={"temperature": 0},
        stopping={"max_tokens": max_tokens, "ignore_eos": True}, response={"text": True})))
    assert [m.sequence for m in messages] == list(range(len(messages))), messages
    return "".join(m.text_delta for m in messages)


def launches(path):
    """By kernel, once the process has ended."""
    with open(path) as file:
        return {kernel: int(count) for count, kernel in (line.split() for line in file)}


def launches_of_a_start(*flags):
    """How many there are before the first request."""
    with tempfile.TemporaryDirectory() as directory:
        log = os.path.join(directory, "launches")
        with Daemon(*flags, env={"MOED_CUDA_HOST_LAUNCH_LOG": log}) as daemon:
            assert daemon.stop() == 0, daemon.log
        return sum(launches(log).values())


class EmulatedDeviceTest(unittest.TestCase):
    def test_eight_ranks_tell_the_processors_story(self):
        with Daemon("--device", "cpu", "--dtype", "float32") as daemon:
            story = text_of(daemon)
            drawn = greedy(daemon, max_tokens=6, sampling={"repetition_penalty": 1.3})
        self.assertGreater(len(story), 20)
        with tempfile.TemporaryDirectory() as directory:
            log = os.path.join(directory, "launches")
            with Daemon(*ON_DEVICE, "--ranks", "8",
                        env={"MOED_CUDA_HOST_LAUNCH_LOG": log}) as daemon:
                self.assertEqual(text_of(daemon), story)
                self.assertEqual(
                    greedy(daemon, max_tokens=6, sampling={"repetition_penalty": 1.3}), drawn)
                # More rows than the exchange of static slots is taken for.
                one(daemon, PROMPT * 8, stopping={"max_tokens": 1})
                self.assertTrue(any("device: host emulation" in line for line in daemon.log),
                                daemon.log)
                self.assertEqual(daemon.stop(), 0, daemon.log)
            counts = launches(log)
        self.assertEqual({k for k in STEP_KERNELS if counts[k] == 0}, set())
        # bfloat16 was not asked for, nor were dummy weights or a capacity.
        for kernel in ("FillSeededKernel", "LimitLoadKernel", "SplitAttentionBf16Kernel"):
            self.assertEqual(counts[kernel], 0, kernel)

    def test_deterministic_answers_do_not_depend_on_the_ranks(self):
        def kept(ranks):
            with Daemon(*ON_DEVICE, "--deterministic", "--ranks", ranks) as daemon:
                answer = one(daemon, sampling={"temperature": 1, "seed": 5},
                             stopping={"max_tokens": 5, "ignore_eos": True},
                             response={"token_ids": True, "logprobs": 3})
                self.assertEqual(daemon.stop(), 0, daemon.log)
            return list(answer.token_ids), [e.SerializeToString() for e in answer.logprobs]
        self.assertEqual(kept("1"), kept("4"))

    def test_a_device_that_is_too_small_is_69_with_numbers(self):
        result = run_moed("--model", DEMO_MODEL, "--listen", "127.0.0.1:0", *ON_DEVICE,
                          env={"MOED_CUDA_HOST_MEMORY": str(4 << 20)})
        self.assertEqual(result.returncode, 69, result.stderr)
        self.assertRegex(result.stderr, r"replicated weights [0-9,]+")
        self.assertIn("4,194,304", result.stderr)

    def test_a_device_that_is_not_there_is_69(self):
        result = run_moed("--model", DEMO_MODEL, "--listen", "127.0.0.1:0", *ON_DEVICE,
                          "--gpu-device", "3")
        self.assertEqual(result.returncode, 69, result.stderr)
        self.assertIn("--gpu-device 3: there is no such device, the machine has 1", result.stderr)

    def test_dummy_weights_are_made_on_the_device(self):
        with tempfile.TemporaryDirectory() as directory:
            log = os.path.join(directory, "launches")
            with Daemon(*ON_DEVICE, "--load-format", "dummy", "--ranks", "2",
                        env={"MOED_CUDA_HOST_LAUNCH_LOG": log}) as daemon:
                on_device = greedy(daemon, max_tokens=4)
                self.assertEqual(daemon.stop(), 0, daemon.log)
            self.assertGreater(launches(log)["FillSeededKernel"], 0)
        with Daemon("--device", "cpu", "--dtype", "float32", "--load-format", "dummy") as daemon:
            self.assertEqual(greedy(daemon, max_tokens=4), on_device)

    def assert_ends_with_75(self, daemon, cause):
        """A stream ends, told nothing of the inside, and so does the daemon, whose log has the
        cause. How many tokens there were until then."""
        tokens = []
        with self.assertRaises(grpc.RpcError) as caught:
            for message in daemon.generation.StreamGenerate(request(
                    PROMPT, generation_pb2.StreamGenerateRequest, stopping={"ignore_eos": True})):
                tokens.extend(message.token_ids)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertNotRegex(caught.exception.details().lower(), r"cuda|rank \d|kernel|719")
        self.assertEqual(daemon.wait(), 75, daemon.log)
        self.assertIn(cause, daemon.log[-1])
        return len(tokens)

    def test_a_device_that_fails_ends_the_stream_and_the_daemon(self):
        ranks = (*ON_DEVICE, "--ranks", "2")
        nth = launches_of_a_start(*ranks) + 300  # a few steps
        # After an error of a kernel CUDA refuses everything in the process.
        with Daemon(*ranks, env={"MOED_CUDA_HOST_FAIL": f"launch_kernel:{nth}:719"}) as daemon:
            self.assertGreater(self.assert_ends_with_75(daemon, "cudaErrorLaunchFailure"), 0)

    def test_a_rank_that_takes_too_long_ends_the_stream_and_the_daemon(self):
        with Daemon(*ON_DEVICE, "--ranks", "2", "--rank-timeout", "0.001") as daemon:
            self.assert_ends_with_75(daemon, "ranks have failed")

    def test_a_driver_that_fails_stops_even_auto(self):
        for device in ("cuda", "auto"):
            result = run_moed("--model", DEMO_MODEL, "--listen", "127.0.0.1:0", "--device", device,
                              "--gpu-plugin", PLUGIN, env={"MOED_CUDA_HOST_DRIVER_ERROR": "719"})
            self.assertEqual(result.returncode, 70, result.stderr)
            self.assertIn("719", result.stderr)

    def test_auto_takes_the_device_that_is_there(self):
        with Daemon("--gpu-plugin", PLUGIN, "--dtype", "float32") as daemon:
            self.assertTrue(any("device: host emulation" in line for line in daemon.log))
            self.assertEqual(len(greedy(daemon, max_tokens=2)), 2)


class NoDeviceTest(unittest.TestCase):
    def assert_serves_on_the_processor(self, why, *flags, **options):
        with Daemon(*flags, **options) as daemon:
            told = [line for line in daemon.log if "device: the CPU, for " in line]
            self.assertEqual(len(told), 1, daemon.log)
            self.assertIn(why, told[0])
            self.assertEqual(len(greedy(daemon, max_tokens=4)), 4)

    def assert_ends(self, code, text, *flags, **options):
        result = run_moed("--model", DEMO_MODEL, "--listen", "127.0.0.1:0", *flags, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertIn(text, result.stderr)

    def test_cuda_without_a_plugin_is_69_naming_it(self):
        self.assert_ends(69, f"--device cuda: there is no GPU plugin {NO_PLUGIN}",
                         "--device", "cuda", "--gpu-plugin", NO_PLUGIN)

    def test_auto_without_a_plugin_says_why_and_serves(self):
        self.assert_serves_on_the_processor(NO_PLUGIN, "--gpu-plugin", NO_PLUGIN)

    def test_a_machine_without_a_driver(self):
        env = {"MOED_CUDA_HOST_DRIVER_ERROR": "35"}
        self.assert_ends(69, "driver", "--device", "cuda", "--gpu-plugin", PLUGIN, env=env)
        self.assert_serves_on_the_processor("driver", "--gpu-plugin", PLUGIN, env=env)

    def test_a_device_that_is_too_old(self):
        env = {"MOED_CUDA_HOST_COMPUTE": "75"}
        why = "device 0 (host emulation) has compute capability 7.5; the kernels need 8.0"
        self.assert_ends(69, f"--device cuda: {why}", "--device", "cuda", "--gpu-plugin", PLUGIN,
                         env=env)
        self.assert_serves_on_the_processor(why, "--gpu-plugin", PLUGIN, env=env)

    def test_what_does_not_go_together_is_64(self):
        self.assert_ends(64, "--cpu-isa", "--device", "cuda", "--cpu-isa", "portable")
        self.assert_ends(64, "--threads", "--device", "cuda", "--threads", "2")
        self.assert_ends(64, "--gpu-plugin", "--device", "cpu", "--gpu-plugin", PLUGIN)
        self.assert_ends(64, "--device", "--device", "gpu")

    @unittest.skipUnless(REAL_PLUGIN, "the CUDA plugin is not in this build")
    @unittest.skipIf(HAS_DRIVER, "this machine has a driver")
    def test_the_real_plugin_without_a_driver(self):
        self.assert_ends(69, "--device cuda: this machine has no NVIDIA driver: install one",
                         "--device", "cuda", "--gpu-plugin", REAL_PLUGIN)
        self.assert_serves_on_the_processor("no NVIDIA driver", "--gpu-plugin", REAL_PLUGIN)


class EmulatedRankTest(unittest.TestCase):
    def test_one_rank_of_eight_answers_and_warns(self):
        with Daemon("--device", "cpu", "--emulate-rank", "0/8") as daemon:
            warnings = [line for line in daemon.log if "--emulate-rank 0/8" in line]
            self.assertEqual(len(warnings), 1, daemon.log)
            self.assertIn("answers mean nothing", warnings[0])
            self.assertEqual(len(greedy(daemon, max_tokens=8)), 8)
            self.assertEqual(daemon.stop(), 0, daemon.log)

    def test_one_rank_of_eight_on_a_device(self):
        with Daemon(*ON_DEVICE, "--emulate-rank", "7/8") as daemon:
            self.assertEqual(len(greedy(daemon, max_tokens=2)), 2)
            self.assertEqual(daemon.stop(), 0, daemon.log)

    def test_a_rank_outside_its_group_is_64(self):
        for flags in (("8/8",), ("x",), ("0/8", "--ranks", "2")):
            result = run_moed("--model", DEMO_MODEL, "--emulate-rank", *flags)
            self.assertEqual(result.returncode, 64, result.stderr)
            self.assertIn("--emulate-rank", result.stderr)


if __name__ == "__main__":
    unittest.main()
