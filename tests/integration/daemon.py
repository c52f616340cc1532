"""Starts the real daemon by its command line and talks to it over gRPC."""
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, os.environ["MOED_PROTO_PYTHON"])

import grpc  # noqa: E402
from moed.v1 import admin_pb2_grpc, experts_pb2_grpc, generation_pb2_grpc  # noqa: E402
from moed.v1 import model_pb2  # noqa: E402
from moed.v1 import model_pb2_grpc, tokenizer_pb2_grpc  # noqa: E402

MOED = os.environ["MOED_BINARY"]
MOEDCTL = os.environ["MOEDCTL_BINARY"]
SOURCE_DIR = os.environ["MOED_SOURCE_DIR"]
DEMO_MODEL = os.path.join(SOURCE_DIR, "models", "demo")
SHARED_DATA = os.environ.get("MOED_SHARED_DATA") or os.path.join(SOURCE_DIR, "..", "shared", "data")
# Sanitizers and a busy machine make everything slower; a test that hangs must still end.
PATIENCE_SECONDS = 120

SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"


def wait_until(condition, what):
    """Polls `condition` until it is true and returns its value."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE_SECONDS} s for {what}")


def device_settings(model, flags):
    """The processor, whatever the machine has, unless the flags are about devices."""
    if model == "null" or {"--device", "--gpu-plugin"} & set(flags):
        return {}
    return {"MOED_DEVICE": "cpu"}


class Daemon:
    """A moed process that listens on a port of its own choice. Use as a context manager."""

    def __init__(self, *flags, model=DEMO_MODEL, wait_ready=True, env=None):
        self._directory = tempfile.TemporaryDirectory()
        port_file = os.path.join(self._directory.name, "port")
        self.process = subprocess.Popen(
            [MOED, "--model", model, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
             "--port-file", port_file, *flags],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, **device_settings(model, flags), **(env or {})})
        self.log = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            ports = wait_until(lambda: self._read_ports(port_file), "the port file")
            # With further --listen and --admin-listen flags there are more of both.
            self.port, self.admin_port = int(ports[0]), int(ports[-1])
            self.address = f"127.0.0.1:{self.port}"
            self.channel = grpc.insecure_channel(self.address)
            self.generation = generation_pb2_grpc.GenerationServiceStub(self.channel)
            self.tokenizer = tokenizer_pb2_grpc.TokenizerServiceStub(self.channel)
            self.models = model_pb2_grpc.ModelServiceStub(self.channel)
            self.experts = experts_pb2_grpc.ExpertServiceStub(self.channel)
            self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)
            if wait_ready:
                wait_until(lambda: self._alive() and self.health() == SERVING, "readiness")
        except BaseException:
            self.process.kill()
            raise

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def _alive(self):
        if self.process.poll() is not None:
            raise AssertionError("the daemon ended:\n" + "\n".join(self.log))
        return True

    def _read_ports(self, path):
        self._alive()
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return file.read().split()

    def get(self, path, headers=None):
        """Status and text of a page of the admin port."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}",
                                         headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def health(self, service=""):
        """The bytes of a grpc.health.v1.HealthCheckResponse."""
        call = self.channel.unary_unary("/grpc.health.v1.Health/Check",
                                        request_serializer=bytes, response_deserializer=bytes)
        name = service.encode()
        request = b"\x0a" + bytes([len(name)]) + name if name else b""
        return call(request, wait_for_ready=True, timeout=PATIENCE_SECONDS)

    def kv_cache(self):
        return self.models.GetModel(model_pb2.GetModelRequest()).kv_cache

    def wait_for_free_blocks(self):
        """Until every KV block is free again; the blocks there are."""
        def free():
            cache = self.kv_cache()
            return cache.total_blocks if cache.free_blocks == cache.total_blocks else 0
        return wait_until(free, "all KV blocks to be free")

    def wait_for_log(self, text):
        wait_until(lambda: any(text in line for line in self.log), f"'{text}' in the log")

    def send(self, number):
        self.process.send_signal(number)

    def wait(self):
        """The exit code."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        self._reader.join()
        return code

    def stop(self):
        self.send(signal.SIGTERM)
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join()
        self.process.stderr.close()
        self._directory.cleanup()


def run_moed(*flags, env=None):
    """Runs a daemon that is expected to end by itself; without an admin port unless asked for."""
    return subprocess.run([MOED, *flags], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=PATIENCE_SECONDS,
                          env={**os.environ, "MOED_ADMIN_LISTEN": "none", **(env or {})})


def run_moedctl(daemon, *arguments, text=None):
    return subprocess.run([MOEDCTL, "--server", daemon.address, *arguments], input=text or "",
                          capture_output=True, text=True, timeout=PATIENCE_SECONDS)
