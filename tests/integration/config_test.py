#!/usr/bin/env python3
"""Settings, the log and the service manager, through the program itself."""
import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import tomllib
import unittest

from daemon import (DEMO_MODEL, MOED, PATIENCE_SECONDS, SOURCE_DIR, Daemon, run_moed, wait_until)
from moed.v1 import generation_pb2

NULL_MODEL = ("--model", "null", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")


class FileTest(unittest.TestCase):
    """With a directory and a config file in it."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.config = os.path.join(self.directory, "moed.toml")

    def write(self, text, name="moed.toml"):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path


class PrintConfigTest(FileTest):
    def print_config(self, *flags, env=None):
        result = run_moed("--print-config", *flags, env=env)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(self):
        self.write("ranks = 2\nthreads = 2\nmax-sequences = 2\n")
        text = self.print_config("--config", self.config, "--ranks", "4",
                                 env={"MOED_RANKS": "3", "MOED_THREADS": "3"})
        # Python's parser shares no code with ours.
        settings = tomllib.loads(text)
        self.assertEqual([settings[key] for key in
                          ("ranks", "threads", "max-sequences", "block-size")], [4, 3, 2, 16])
        self.assertIn("ranks = 4  # flag --ranks", text)
        self.assertIn("threads = 3  # environment MOED_THREADS", text)
        self.assertIn("max-sequences = 2  # file", text)
        self.assertIn("block-size = 16  # default", text)

    def test_what_it_prints_reads_back(self):
        first = self.print_config("--model", 'a "b" \\ c', "--kv-cache-size", "3GiB",
                                  "--rank-timeout", "0.1", "--admin-listen", "none",
                                  "--listen", "127.0.0.1:1", "--listen", "[::1]:2",
                                  "--no-access-log")
        self.write(first)
        second = self.print_config("--config", self.config)
        self.assertEqual(tomllib.loads(second), tomllib.loads(first))
        self.assertEqual(tomllib.loads(second)["model"], 'a "b" \\ c')

    def test_the_files_that_are_shown_are_good(self):
        with open(os.path.join(SOURCE_DIR, "docs", "operations.md")) as file:
            [example] = re.findall(r"^```toml\n(.*?)^```$", file.read(), re.M | re.S)
        self.write(example)
        deployed = os.path.join(SOURCE_DIR, "deploy", "systemd", "moed.toml")
        for path in (self.config, deployed):
            self.assertIn("  # file", self.print_config("--config", path))

    def test_every_option_of_the_help_is_there(self):
        flags = set(re.findall(r"^  --([a-z-]+)", run_moed("--help").stdout, re.M))
        flags -= {"help", "version", "config", "dry-run", "check-config", "print-config"}
        printed = set(re.findall(r"^(?:# )?([a-z-]+)(?: =|: not set)", self.print_config(), re.M))
        self.assertGreater(len(flags), 50)
        self.assertEqual(printed, flags)


class CheckConfigTest(FileTest):
    def check(self, *flags, env=None):
        return run_moed("--check-config", *flags, env=env)

    def test_a_good_configuration_is_0(self):
        key = self.write("user a sha256:" + "0" * 64 + "\n", "keys")
        os.chmod(key, 0o600)
        result = self.check("--model", DEMO_MODEL, "--key-file", key,
                            "--port-file", os.path.join(self.directory, "ports"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("good", result.stdout)
        self.assertEqual(os.listdir(self.directory), ["keys"])
        self.assertEqual(self.check("--model", "null").returncode, 0)

    def test_all_that_is_wrong_is_named(self):
        keys = self.write("nonsense\n", "keys")
        os.chmod(keys, 0o600)
        certificate = self.write("no certificate", "cert.pem")
        result = self.check("--model", "no-such-model", "--key-file", keys,
                            "--tls-certificate", certificate, "--tls-key", "no-such-key",
                            "--port-file", "/no-such-directory/ports",
                            "--listen", "[not-an-address]:1")
        self.assertEqual(result.returncode, 78, result.stderr)
        for part in ("no-such-model", keys, self.directory, "--port-file", "not-an-address"):
            self.assertIn(part, result.stderr)
        self.assertGreaterEqual(result.stderr.count("moed: "), 5)

    def test_wrong_settings_do_not_hide_wrong_files(self):
        self.write("rank = 2\n")
        result = self.check("--config", self.config, "--model", "no-such-model")
        self.assertEqual(result.returncode, 78)
        self.assertIn("did you mean ranks?", result.stderr)
        self.assertIn("no-such-model", result.stderr)
        self.assertEqual(self.check("--model", DEMO_MODEL, "--ranks", "0").returncode, 64)


class BadFileTest(FileTest):
    def assert_refused(self, content, part):
        self.write(content)
        result = run_moed("--config", self.config, "--model", "null")
        self.assertEqual(result.returncode, 78, result.stderr)
        self.assertIn(self.config, result.stderr)
        self.assertIn(part, result.stderr)
        self.assertLess(len(result.stderr), 8192)

    def test_hostile_files_are_refused_without_a_crash(self):
        for content, part in (
                (b"ranks = 1\nranks = 2\n", "line 2"),
                (b"a = " + b"[" * 60000, "line 1"),
                (b"a." * 30000 + b"a = 1", "dots"),
                (b"model-name = '\xff\xfe'\n", "line 1"),
                (b"\0" * 1000, "line 1"),
                (b"#" * (10 << 20), "too large"),
                (b"".join(b"k%d = 1\n" % i for i in range(5000)), "more"),
                (os.urandom(1000) + b"\xff", "line"),
                (b"ranks = 99999999999999999999\n", "line 1"),
                (b"ranks = '2'\n", ":1: ranks: must be a whole number, got a text"),
                (b"kv_blocks = 2\n", "did you mean kv-blocks?")):
            with self.subTest(part):
                self.assert_refused(content, part)

    def test_a_file_that_is_not_there_is_78(self):
        for flags, env in ((("--config", "/no/such.toml"), {}),
                           ((), {"MOED_CONFIG": "/no/such.toml"})):
            result = run_moed("--model", "null", *flags, env=env)
            self.assertEqual(result.returncode, 78)
            self.assertIn("/no/such.toml", result.stderr)

    def test_a_bad_variable_is_78_and_a_bad_flag_is_64(self):
        result = run_moed("--model", "null", env={"MOED_RANKS": "many"})
        self.assertEqual(result.returncode, 78)
        self.assertIn("MOED_RANKS: must be a whole number", result.stderr)
        result = run_moed("--model", "null", "--ranks", "many")
        self.assertEqual(result.returncode, 64)
        self.assertIn("--ranks: must be a whole number", result.stderr)

    def test_options_that_contradict_each_other_are_64(self):
        result = run_moed("--model", "null", "--tls-key", "k")
        self.assertEqual(result.returncode, 64)
        self.assertIn("--tls-key needs --tls-certificate", result.stderr)


class ExitCodeTest(unittest.TestCase):
    def test_a_taken_admin_port_is_69(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            result = run_moed("--model", "null", "--listen", "127.0.0.1:0",
                              "--admin-listen", address)
            self.assertEqual(result.returncode, 69, result.stderr)
            self.assertIn(address, result.stderr)

    def test_a_machine_that_gives_no_thread_is_70(self):
        def no_threads():
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            if os.getuid() == 0:
                os.setresuid(65534, 65534, 65534)  # root has no such limit
        if os.getuid() == 0:
            reachable = subprocess.run([MOED, "--version"], capture_output=True, user=65534)
            if reachable.returncode != 0:
                self.skipTest("another user cannot run the program")
        result = subprocess.run([MOED, *NULL_MODEL], stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, timeout=PATIENCE_SECONDS, preexec_fn=no_threads)
        self.assertEqual(result.returncode, 70, result.stderr)
        self.assertIn("internal error", result.stderr)


def serves_and_ends(test, directory, stderr):
    """A daemon with this standard error answers, and ends with 0 when it is told to."""
    ports = os.path.join(directory, "ports")
    process = subprocess.Popen([MOED, *NULL_MODEL, "--port-file", ports], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=stderr,
                               preexec_fn=None if stderr is not None else lambda: os.close(2))
    try:
        wait_until(lambda: os.path.exists(ports), "the port file")
        with open(ports) as file:
            port = int(file.readlines()[1])

        def ready():
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                    return b" 200 " in connection.recv(100)
            return False
        wait_until(ready, "readiness")
        if stderr is None:
            # Not a connection, which would get what is logged.
            test.assertEqual(os.readlink(f"/proc/{process.pid}/fd/2"), os.devnull)
        process.send_signal(signal.SIGTERM)
        test.assertEqual(process.wait(timeout=PATIENCE_SECONDS), 0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class LogThatCannotBeWrittenTest(FileTest):
    def test_what_was_asked_for_and_cannot_be_written_is_an_error(self):
        with open("/dev/full", "wb", buffering=0) as full:
            result = subprocess.run([MOED, "--print-config"], stdout=full, stderr=subprocess.PIPE,
                                    timeout=PATIENCE_SECONDS)
        self.assertEqual(result.returncode, 69)
        self.assertIn(b"standard output", result.stderr)

    def test_a_full_pipe_that_nobody_reads(self):
        reader, writer = os.pipe()
        try:
            os.set_blocking(writer, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writer, b"x" * fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writer, b"x")
            os.set_blocking(writer, True)
            serves_and_ends(self, self.directory, writer)
        finally:
            os.close(reader)
            os.close(writer)

    def test_a_full_disk(self):
        with open("/dev/full", "wb", buffering=0) as full:
            serves_and_ends(self, self.directory, full)

    def test_a_reader_that_has_gone(self):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            serves_and_ends(self, self.directory, writer)
        finally:
            os.close(writer)

    def test_a_closed_standard_error(self):
        serves_and_ends(self, self.directory, None)


class ServiceManagerTest(FileTest):
    """One daemon under a service manager that is a socket of ours."""

    def receive(self, manager, wanted):
        """The next message that is not the watchdog's."""
        while True:
            message = manager.recv(4096).decode()
            if message == "WATCHDOG=1":
                self.watchdog += 1
            elif not message.startswith("STATUS="):
                self.assertTrue(message.startswith(wanted), message)
                return

    def test_it_is_told_of_the_start_a_reload_and_the_end(self):
        self.watchdog = 0
        name = os.path.join(self.directory, "notify")
        self.write("log-level = 'info'\n")
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(name)
        manager.settimeout(PATIENCE_SECONDS)
        environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}
        with manager, Daemon("--config", self.config, model="null", env=environment) as daemon:
            self.receive(manager, "READY=1")
            self.generate(daemon, "first")
            daemon.wait_for_log('"request_id":"first"')

            self.write("log-level = 'warning'\n")
            daemon.send(signal.SIGHUP)
            self.receive(manager, "RELOADING=1\nMONOTONIC_USEC=")
            self.receive(manager, "READY=1")
            self.generate(daemon, "second")

            self.write("log-level = 'loud'\n")
            daemon.send(signal.SIGHUP)
            self.receive(manager, "RELOADING=1")
            self.receive(manager, "READY=1")
            daemon.wait_for_log("log-level: must be one of")

            self.write("log-level = 'info'\n")
            daemon.send(signal.SIGHUP)
            self.receive(manager, "RELOADING=1")
            self.receive(manager, "READY=1")
            self.generate(daemon, "third")
            daemon.wait_for_log('"request_id":"third"')
            self.check_limits(daemon)

            daemon.send(signal.SIGTERM)
            self.receive(manager, "STOPPING=1")
            self.assertEqual(daemon.wait(), 0, daemon.log)
            self.assertGreater(self.watchdog, 0)
            self.check_access_lines(daemon)

    def generate(self, daemon, request_id):
        daemon.generation.Generate(generation_pb2.GenerateRequest(
            request_id=request_id, token_ids=dict(ids=[300] * 7), stopping=dict(max_tokens=3)))

    def check_limits(self, daemon):
        with open(f"/proc/{daemon.process.pid}/limits") as file:
            limits = re.search(r"^Max open files +(\w+) +(\w+)", file.read(), re.M)
        self.assertEqual(limits[1], limits[2])

    def check_access_lines(self, daemon):
        lines = [json.loads(line) for line in daemon.log]
        requests = {line["request_id"]: line for line in lines
                    if line["message"] == "request" and line["method"] == "Generate"}
        self.assertEqual(set(requests), {"first", "third"})
        line = requests["first"]
        self.assertEqual((line["code"], line["finish_reason"]), ("OK", "length"))
        self.assertEqual((line["prompt_tokens"], line["completion_tokens"]), (7, 3))
        self.assertEqual(line["client"], "127.0.0.1")
        self.assertGreaterEqual(line["total_seconds"], line["first_token_seconds"])
        [limit] = [line for line in lines if line["message"] == "file descriptors"]
        self.assertGreaterEqual(limit["limit"], limit["limit_before"])


if __name__ == "__main__":
    unittest.main()
