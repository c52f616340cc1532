#!/usr/bin/env python3
"""moedctl as a person or a script uses it."""
import json
import os
import pty
import socket
import subprocess
import unittest

from daemon import MOEDCTL, PATIENCE_SECONDS, Daemon, run_moedctl
from moed.v1 import generation_pb2, tokenizer_pb2


class MoedctlTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--ranks", "2", "--expert-token-statistics", "--allow-routed-experts")

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def run_ok(self, *arguments, **options):
        result = run_moedctl(self.daemon, *arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_generate_prints_the_text_and_a_newline(self):
        request = generation_pb2.GenerateRequest(
            text="Once upon a time", sampling=dict(seed=3), stopping=dict(max_tokens=20))
        text = self.daemon.generation.Generate(request).continuations[0].text
        arguments = ("generate", "Once upon a time", "--seed", "3", "--max-tokens", "20")
        self.assertEqual(self.run_ok(*arguments), text + "\n")
        self.assertEqual(self.run_ok(*arguments, "--echo"), "Once upon a time" + text + "\n")
        self.assertEqual(
            self.run_ok("generate", "-", "--seed", "3", "--max-tokens", "20",
                        text="Once upon a time"), text + "\n")

    def test_generate_streams(self):
        lines = self.run_ok("generate", "Once", "--max-tokens", "9", "--ignore-eos", "--json",
                            "--logprobs", "2").splitlines()
        messages = [json.loads(line) for line in lines]
        self.assertGreater(len(messages), 1)
        self.assertEqual(messages[-1]["finish"]["reason"], "FINISH_REASON_LENGTH")
        self.assertEqual(sum(len(m["logprobs"]) for m in messages), 9)

    def test_stats_go_to_stderr(self):
        result = run_moedctl(self.daemon, "generate", "Once", "--max-tokens", "4", "--ignore-eos",
                             "--stats")
        self.assertIn("4 tokens, LENGTH", result.stderr)

    def test_tokenize_and_back(self):
        table = self.run_ok("tokenize", "The cat").splitlines()
        self.assertRegex(table[0], r'^ +1  \[0, 0\)  ""$')
        ids = json.loads(self.run_ok("tokenize", "The cat", "--json"))["token_ids"]
        self.assertEqual(len(ids), len(table))
        joined = ",".join(str(i) for i in ids)
        self.assertEqual(self.run_ok("tokenize", "--decode", joined, "--no-special-tokens"),
                         "The cat\n")
        self.assertIn("<s>", self.run_ok("tokenize", "--decode", joined))
        self.assertIn("[INST] The cat [/INST]", self.run_ok("tokenize", "The cat", "--chat"))

    def test_model_tells_what_is_served(self):
        text = self.run_ok("model")
        for part in ("demo (MixtralForCausalLM)", "8 a layer, 2 for each token", "512 tokens"):
            self.assertIn(part, text)
        self.assertEqual(json.loads(self.run_ok("model", "--json"))["model"]["num_ranks"], 2)

    def test_experts_shows_a_row_for_each_layer_without_colour_in_a_pipe(self):
        self.run_ok("generate", "Once", "--max-tokens", "4")
        text = self.run_ok("experts")
        self.assertEqual(len(text.splitlines()), 6)
        self.assertIn("at random 0.125, 0.464", text)
        self.assertNotIn("\033", text)
        load = json.loads(self.run_ok("experts", "--json"))
        self.assertEqual(len(load["layers"]), 4)
        recent = json.loads(self.run_ok("experts", "--window", "1000", "--json"))
        self.assertGreater(recent["window_seconds"], 0)
        self.assertLessEqual(recent["window_seconds"], 1100)

    def test_experts_shows_the_tokens_of_each(self):
        self.run_ok("generate", "Once upon a time", "--max-tokens", "20", "--ignore-eos")
        text = self.run_ok("experts", "--tokens", "--limit", "2")
        self.assertEqual(len([line for line in text.splitlines() if line.startswith("  e")]), 32)
        self.assertIn("\u2581", text)
        tokens = json.loads(self.run_ok("experts", "--tokens", "--limit", "1", "--json"))
        self.assertEqual([len(layer["experts"]) for layer in tokens["layers"]], [8] * 4)
        for layer in tokens["layers"]:
            self.assertTrue(all(len(expert["tokens"]) <= 1 for expert in layer["experts"]))

    def test_generate_prints_each_of_several_continuations(self):
        arguments = ("generate", "Once", "--seed", "3", "--max-tokens", "9", "--ignore-eos")
        lines = sorted(self.run_ok(*arguments, "-n", "3").splitlines())
        self.assertEqual([line[:4] for line in lines], ["[0] ", "[1] ", "[2] "])
        self.assertEqual(lines[0][4:], self.run_ok(*arguments).rstrip("\n"))

    def test_generate_passes_every_group_of_options_on(self):
        arguments = ("generate", "Once upon a time", "--temperature", "0", "--max-tokens", "8",
                     "--ignore-eos")
        piece = self.daemon.tokenizer.Detokenize(
            tokenizer_pb2.DetokenizeRequest(token_ids=[777])).text
        self.assertEqual(self.run_ok(*arguments, "--logit-bias", "777=100", "--allowed-tokens",
                                     "777,778", "--no-cache").split(), [piece] * 8)
        result = run_moedctl(self.daemon, *arguments, "--experts-per-token", "1", "--stats",
                             "--priority", "5", "--home-rank", "1", "--cache-salt", "mine")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("1 experts a token", result.stderr)
        self.assertNotEqual(result.stdout, self.run_ok(*arguments))
        messages = [json.loads(line) for line in self.run_ok(
            *arguments, "--routed-experts", "--prompt-logprobs", "1",
            "--show-token-ids").splitlines()]
        self.assertTrue(messages[0]["prompt"]["prompt_logprobs"])
        self.assertEqual(sum(len(m["token_ids"]) for m in messages), 8)
        self.assertTrue(any("routed_experts" in m for m in messages))
        ended = run_moedctl(self.daemon, "generate", "Once", "--ignore-eos", "--time-limit-ms",
                            "20", "--stats")
        self.assertIn("TIME_LIMIT", ended.stderr)

    def test_stats_tell_of_cached_tokens(self):
        prompt = "Once upon a time there was a king. " * 6
        arguments = ("generate", prompt, "--max-tokens", "2", "--ignore-eos", "--stats")
        self.run_ok(*arguments)
        self.assertRegex(run_moedctl(self.daemon, *arguments).stderr,
                         r"prompt tokens \(\d+ cached\)")
        self.assertRegex(self.run_ok("model"), r"prefix cache +\d+ blocks kept; [1-9]\d* of \d+")

    def test_chat_answers_once_or_line_by_line(self):
        once = self.run_ok("chat", "Hello", "--max-tokens", "8", "--temperature", "0")
        self.assertTrue(once.strip())
        lines = self.run_ok("chat", "--max-tokens", "8", "--temperature", "0",
                            text="Hello\n\nTell me more\n")
        self.assertTrue(lines.startswith(once))
        self.assertGreater(len(lines), len(once))

    def test_a_chat_on_a_terminal_survives_an_error(self):
        terminal, end = pty.openpty()
        with os.fdopen(terminal, "wb", buffering=0) as keyboard, os.fdopen(end) as stdin:
            keyboard.write(b"Hello\nAgain\n\x04")
            result = subprocess.run([MOEDCTL, "--server", self.daemon.address, "chat", "--top-p",
                                     "2"], stdin=stdin, capture_output=True, text=True,
                                    timeout=PATIENCE_SECONDS)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.count("INVALID_ARGUMENT: sampling.top_p"), 2)
        piped = run_moedctl(self.daemon, "chat", "--top-p", "2", text="Hello\nAgain\n")
        self.assertEqual(piped.returncode, 65)
        self.assertEqual(piped.stderr.count("sampling.top_p"), 1)

    def test_errors_are_readable_and_have_codes(self):
        refused = run_moedctl(self.daemon, "generate", "Once", "--top-p", "2")
        self.assertEqual(refused.returncode, 65)
        self.assertIn("INVALID_ARGUMENT: sampling.top_p", refused.stderr)
        self.assertEqual(refused.stdout, "")
        other = run_moedctl(self.daemon, "--model", "gpt", "model")
        self.assertEqual(other.returncode, 65)
        late = run_moedctl(self.daemon, "generate", "Once", "--ignore-eos", "--timeout", "0.01")
        self.assertEqual(late.returncode, 75)
        self.assertEqual(run_moedctl(self.daemon, "dance").returncode, 64)

    def test_an_absent_daemon_is_unavailable(self):
        with socket.socket() as unused:  # bound, but nobody listens
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
            result = subprocess.run([MOEDCTL, "--server", address, "model"], capture_output=True,
                                    text=True)
        self.assertEqual(result.returncode, 69)
        self.assertIn("UNAVAILABLE", result.stderr)


if __name__ == "__main__":
    unittest.main()
