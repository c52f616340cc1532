#!/usr/bin/env python3
"""moedctl as a person or a script uses it."""
import fcntl
import hashlib
import json
import os
import pty
import re
import socket
import struct
import subprocess
import tempfile
import termios
import unittest

from certificates import Authority, replace
from daemon import MOEDCTL, PATIENCE_SECONDS, Daemon, run_moedctl, wait_until
import grpc
from moed.v1 import generation_pb2, tokenizer_pb2

# Steps of 5 ms without compute.
NULL_MODEL = ("--null-step-time", "0.005")


def run_on_a_terminal(daemon, *arguments, rows=40, columns=160):
    """What moedctl shows on a terminal."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen([MOEDCTL, "--server", daemon.address, *arguments], stdout=end,
                          stderr=end, stdin=subprocess.DEVNULL, env=environment) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                piece = os.read(terminal, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
    os.close(terminal)
    assert process.returncode == 0, shown
    return shown.decode()


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
        rows = [line for line in text.splitlines() if re.match(r" +\d+  [·▁▂▃▄▅▆▇]", line)]
        self.assertEqual(len(rows), 4)
        self.assertIn("4 layers of 8 experts, 2 for each token", text)
        self.assertIn("at random 0.125, 0.464", text)
        self.assertNotIn("\033", text)
        load = json.loads(self.run_ok("experts", "--json"))
        self.assertEqual(len(load["layers"]), 4)
        recent = json.loads(self.run_ok("experts", "--window", "1000", "--json"))
        self.assertGreater(recent["window_seconds"], 0)
        self.assertLessEqual(recent["window_seconds"], 1100)

    def test_experts_watches_in_frames_below_each_other_in_a_pipe(self):
        text = self.run_ok("experts", "--watch", "--interval", "0.1", "--frames", "3")
        self.assertEqual(text.count("layer  "), 3)
        self.assertNotIn("\033", text)
        lines = self.run_ok("experts", "--watch", "--interval", "0.1", "--frames", "2",
                            "--window", "60", "--json").splitlines()
        self.assertEqual([len(json.loads(line)["layers"]) for line in lines], [4, 4])

    def test_experts_watches_in_place_and_in_colour_on_a_terminal(self):
        self.run_ok("generate", "Once", "--max-tokens", "4")
        shown = run_on_a_terminal(self.daemon, "experts", "--watch", "--interval", "0.1",
                                  "--frames", "3")
        self.assertEqual(shown.count("\033[2J"), 1)  # cleared once
        self.assertEqual(shown.count("\033[H"), 3)
        self.assertIn("\033[97;48;5;", shown)
        narrow = run_on_a_terminal(self.daemon, "experts", columns=60)
        self.assertIn("layer  experts", narrow)
        low = run_on_a_terminal(self.daemon, "experts", "--watch", "--frames", "1", rows=5)
        self.assertIn("too low", low)

    def test_experts_shows_the_rank_of_each(self):
        lines = self.run_ok("experts", "--placement").splitlines()
        self.assertEqual(lines[1].split(), ["0"] + ["0", "1"] * 4)
        self.assertEqual(lines[-1], "experts on each of 2 ranks: 16, 16")
        placement = json.loads(self.run_ok("experts", "--placement", "--json"))
        self.assertEqual(placement["num_ranks"], 2)

    def test_ranks_shows_a_row_for_each(self):
        self.run_ok("generate", "Once", "--max-tokens", "4")
        text = self.run_ok("ranks")
        self.assertRegex(text, r"^ready; 0 running, 0 waiting; 2 ranks on \S")
        rows = [line for line in text.splitlines() if re.match(r" +[01]  up ", line)]
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertRegex(row, r"[█▒░]{16} +\d+ %  [█▒░]{16} +\d+ % +\d+ % ")
        answer = json.loads(self.run_ok("ranks", "--json"))
        self.assertEqual((answer["phase"], len(answer["ranks"])), ("DAEMON_PHASE_READY", 2))
        frames = self.run_ok("ranks", "--watch", "--interval", "0.1", "--frames", "2")
        self.assertIn("since the start", frames.split("\n\nready")[0])
        self.assertIn("  now ", frames)
        self.assertIn("\033[32mup", run_on_a_terminal(self.daemon, "ranks"))

    def test_abort_ends_a_request_and_says_where_there_is_none(self):
        absent = run_moedctl(self.daemon, "abort", "never")
        self.assertEqual(absent.returncode, 65)
        self.assertIn("NOT_FOUND", absent.stderr)
        with Daemon(*NULL_MODEL, model="null") as daemon:
            call = daemon.generation.StreamGenerate(generation_pb2.StreamGenerateRequest(
                request_id="mine", text="Once", stopping=dict(max_tokens=400, ignore_eos=True)))
            next(call)
            result = run_moedctl(daemon, "abort", "mine")
            self.assertEqual((result.returncode, result.stdout), (0, "ended mine\n"))
            with self.assertRaises(grpc.RpcError) as caught:
                list(call)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.ABORTED)
            self.drain(daemon)

    def drain(self, daemon):
        """With a stream that runs: it finishes, then the daemon ends, then moedctl."""
        call = daemon.generation.StreamGenerate(generation_pb2.StreamGenerateRequest(
            text="Once", stopping=dict(max_tokens=100, ignore_eos=True)))
        messages = [next(call)]
        result = run_moedctl(daemon, "drain", "--wait", "--within", "60")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout,
                         "draining: 1 running and 0 waiting may finish\nthe daemon has gone\n")
        self.assertIn("draining: 1 running, 0 waiting", result.stderr)
        messages.extend(call)
        self.assertEqual(messages[-1].finish.usage.completion_tokens, 100)
        self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_log_level(self):
        self.assertIn("logs info", self.run_ok("log-level", "info"))
        refused = run_moedctl(self.daemon, "log-level", "loud")
        self.assertEqual(refused.returncode, 65)
        self.assertIn("INVALID_ARGUMENT", refused.stderr)

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
        self.assertEqual(piped.stderr.count("INVALID_ARGUMENT: sampling.top_p"), 1)

    def test_errors_are_readable_and_have_codes(self):
        refused = run_moedctl(self.daemon, "generate", "Once", "--top-p", "2")
        self.assertEqual(refused.returncode, 65)
        self.assertIn("INVALID_ARGUMENT: sampling.top_p", refused.stderr)
        self.assertIn("\n  field: sampling.top_p\n", refused.stderr)
        self.assertEqual(refused.stdout, "")
        machine = json.loads(run_moedctl(self.daemon, "generate", "Once", "--top-p", "2",
                                         "--json").stderr)
        self.assertEqual(machine["code"], 3)
        self.assertEqual(machine["details"][0]["field_violations"][0]["field"], "sampling.top_p")
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


class KeysAndTlsTest(unittest.TestCase):
    """A daemon with keys, which wants to see a client's certificate too."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        path = cls.directory.name
        cls.servers, cls.clients = Authority(path, "servers"), Authority(path, "clients")
        for name, authority in (("server", cls.servers), ("client", cls.clients)):
            for kind, content in zip(("pem", "key"), authority.issue(name)):
                replace(os.path.join(path, f"{name}.{kind}"), content)
        with open(os.path.join(path, "keys"), "w") as file:
            for role in ("user", "admin"):
                file.write(f"{role} the-{role} sha256:"
                           f"{hashlib.sha256(f'{role}-key'.encode()).hexdigest()}\n")
        os.chmod(os.path.join(path, "keys"), 0o600)
        with open(os.path.join(path, "admin-key"), "w") as file:
            file.write("admin-key\n")
        cls.daemon = Daemon(
            "--key-file", cls.file("keys"), "--tls-certificate", cls.file("server.pem"),
            "--tls-key", cls.file("server.key"), "--tls-client-ca", cls.clients.certificate,
            model="null", wait_ready=False)
        cls.tls = ("--tls-ca", cls.servers.certificate, "--tls-certificate",
                   cls.file("client.pem"), "--tls-key", cls.file("client.key"),
                   "--tls-server-name", "localhost")
        wait_until(lambda: cls.run_moedctl("model", key="user-key").returncode == 0, "readiness")

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()
        cls.directory.cleanup()

    @classmethod
    def file(cls, name):
        return os.path.join(cls.directory.name, name)

    @classmethod
    def run_moedctl(cls, *arguments, key=None, tls=None):
        environment = {**os.environ, **({"MOEDCTL_KEY": key} if key else {})}
        return subprocess.run(
            [MOEDCTL, "--server", cls.daemon.address, *(cls.tls if tls is None else tls),
             *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS,
            stdin=subprocess.DEVNULL, env=environment)

    def test_a_key_comes_from_the_environment_or_a_file(self):
        self.assertEqual(self.run_moedctl("generate", "Once", "--max-tokens", "2",
                                          key="user-key").returncode, 0)
        result = self.run_moedctl("ranks", "--key-file", self.file("admin-key"), key="user-key")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.run_moedctl("ranks", "--watch", "--frames", "1",
                                          key="admin-key").returncode, 0)

    def test_a_missing_key_and_one_that_may_not_exit_with_77(self):
        for key, arguments, reason in ((None, ("model",), "KEY_MISSING"),
                                       ("wrong", ("model",), "KEY_INVALID"),
                                       ("user-key", ("ranks",), "ROLE_REQUIRED"),
                                       ("user-key", ("ranks", "--watch"), "ROLE_REQUIRED"),
                                       ("user-key", ("drain",), "ROLE_REQUIRED")):
            result = self.run_moedctl(*arguments, key=key)
            self.assertEqual(result.returncode, 77, result.stderr)
            self.assertIn(f"reason: {reason}", result.stderr)
            self.assertNotIn(key or "user-key", result.stderr)

    def test_without_the_right_certificates_there_is_no_connection(self):
        for tls in ((), ("--tls",), ("--tls-ca", self.servers.certificate)):
            result = self.run_moedctl("--timeout", "20", "model", key="user-key", tls=tls)
            self.assertEqual(result.returncode, 69, result.stderr)
        self.assertEqual(self.run_moedctl("model", "--tls-ca", "/no/file").returncode, 64)


if __name__ == "__main__":
    unittest.main()
