#!/usr/bin/env python3
"""The dry run of Mixtral 8x7B, from its config and index; exits with 77 where these are not here."""
import os
import sys
import unittest

from daemon import SHARED_DATA, run_moed

SKIPPED = 77
MODEL = os.path.join(SHARED_DATA, "mixtral-8x7b-meta")


class MixtralTest(unittest.TestCase):
    def test_a_dry_run_tells_the_truth(self):
        result = run_moed("--model", MODEL, "--ranks", "8", "--rank-memory", "80GiB", "--dry-run")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("46,702,792,704 parameters", result.stdout)
        self.assertIn("14.49 GB per rank", result.stdout)


if __name__ == "__main__":
    if not os.path.isdir(MODEL):
        print(f"skipped: no shared test data at {MODEL}")
        sys.exit(SKIPPED)
    unittest.main()
