#!/usr/bin/env python3
"""moed_step_bench as docs/cuda.md and docs/performance.md have it: it finds its plugin, and prints a
row for each kind of step."""
import os
import subprocess
import unittest

BENCH = os.environ["MOED_STEP_BENCH"]
HOST_PLUGIN = os.environ["MOED_CUDA_HOST_PLUGIN"]
REAL_PLUGIN = os.environ.get("MOED_CUDA_PLUGIN", "")
MODEL = os.path.join(os.environ["MOED_SOURCE_DIR"], "models", "demo")
SMALL = ("--batches", "1,2", "--prompts", "4", "--context", "16", "--runs", "1")
COLUMNS = ("step", "batch", "tokens", "wall ms", "device ms", "GB/s", "TFLOP/s", "floor ms",
           "floor %")


def run(*flags):
    return subprocess.run([BENCH, "--model", MODEL, *SMALL, *flags], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=240)


class StepBenchTest(unittest.TestCase):
    def assert_times_steps(self, *flags):
        result = run(*flags, "--bandwidth", "100", "--flops", "1")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        header = next(i for i, line in enumerate(lines) if line.startswith("step "))
        self.assertRegex(lines[header], r"\s+".join(COLUMNS))
        rows = [line.split() for line in lines[header + 1:]]
        self.assertEqual([row[:3] for row in rows],
                         [["decode", "1", "16"], ["decode", "2", "16"], ["prompt", "1", "4"]])
        for row in rows:
            self.assertEqual(len(row), len(COLUMNS), row)
            for wall_or_device in row[3:5]:
                self.assertGreater(float(wall_or_device), 0, row)
            self.assertGreater(float(row[7]), 0, row)  # the floor

    def test_on_the_processor(self):
        self.assert_times_steps("--device", "cpu", "--threads", "1")

    def test_on_a_device(self):
        for exchange in ("gather", "exact"):
            self.assert_times_steps("--device", "cuda", "--gpu-plugin", HOST_PLUGIN,
                                    "--exchange", exchange)

    def test_one_rank_of_eight_on_a_device(self):
        self.assert_times_steps("--device", "cuda", "--gpu-plugin", HOST_PLUGIN,
                                "--emulate-rank", "0/8")

    @unittest.skipUnless(REAL_PLUGIN, "the CUDA plugin is not in this build")
    def test_the_plugin_of_the_build_is_found(self):
        result = run("--device", "cuda")
        self.assertNotIn("there is no GPU plugin", result.stderr)
        if result.returncode != 0:
            self.assertIn("--device cpu", result.stderr)  # no driver, or no device


if __name__ == "__main__":
    unittest.main()
