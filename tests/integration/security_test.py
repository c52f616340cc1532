#!/usr/bin/env python3
"""Who may do what: keys and roles on every method and route, keys exchanged under load, and what the
daemon listens on."""
import base64
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import unittest

from daemon import MOED, SERVING, Daemon, run_moed, wait_until
import grpc
from moed.v1 import admin_pb2, admin_pb2_grpc, experts_pb2, experts_pb2_grpc, generation_pb2
from moed.v1 import generation_pb2_grpc, model_pb2, model_pb2_grpc, tokenizer_pb2
from moed.v1 import tokenizer_pb2_grpc
from running_stream import RunningStream

ROLES = ("user", "monitor", "admin")
KEYS = {role: f"{role}-key-5d1f" for role in ROLES}
WRONG = "no-key-77aa"
GENERATE, MONITOR, ADMIN = {"user", "monitor", "admin"}, {"monitor", "admin"}, {"admin"}
STUBS = {
    "GenerationService": (generation_pb2, generation_pb2_grpc),
    "TokenizerService": (tokenizer_pb2, tokenizer_pb2_grpc),
    "ModelService": (model_pb2, model_pb2_grpc),
    "ExpertService": (experts_pb2, experts_pb2_grpc),
    "AdminService": (admin_pb2, admin_pb2_grpc),
}
ALLOWED = {
    **{name: GENERATE for name in (
        "GenerationService/StreamGenerate", "GenerationService/Generate",
        "TokenizerService/Tokenize", "TokenizerService/Detokenize", "TokenizerService/RenderChat",
        "ModelService/GetModel", "ModelService/ListModels")},
    **{name: MONITOR for name in (
        "ExpertService/GetExpertLoad", "ExpertService/GetExpertTokens",
        "ExpertService/WatchExpertLoad", "ExpertService/GetPlacement",
        "AdminService/ListRanks", "AdminService/WatchRanks")},
    **{name: ADMIN for name in (
        "AdminService/AbortRequest", "AdminService/Drain", "AdminService/SetLogLevel")},
}
OPEN_ROUTES = ("/livez", "/readyz", "/startupz")
KEYED_ROUTES = ("/", "/app.js", "/app.css", "/api/status", "/metrics", "/metrics/experts")
NULL_MODEL = ("--null-step-time", "0.005")


def bearer(key):
    return f"Bearer {key}"


def metadata(key):
    return [("authorization", bearer(key))] if key else []


def key_lines(keys):
    """`keys`: role and key of each name."""
    return "".join(f"{role} {name} sha256:{hashlib.sha256(key.encode()).hexdigest()}\n"
                   for name, (role, key) in keys.items())


class KeyFile:
    def __init__(self):
        self._directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self._directory.name, "keys")
        self.write(key_lines({f"the-{role}": (role, key) for role, key in KEYS.items()}))

    def write(self, text):
        with open(self.path + ".new", "w") as file:
            file.write(text)
        os.chmod(self.path + ".new", 0o600)
        os.rename(self.path + ".new", self.path)

    def close(self):
        self._directory.cleanup()


def every_method():
    for service, (messages, _) in STUBS.items():
        for method in messages.DESCRIPTOR.services_by_name[service].methods:
            yield f"{service}/{method.name}", method


def call_method(daemon, name, method, key):
    """The status of a call with an empty request; the first message is enough of a stream."""
    service, rpc = name.split("/")
    messages, stubs = STUBS[service]
    request = getattr(messages, method.input_type.name)()
    call = getattr(getattr(stubs, service + "Stub")(daemon.channel), rpc)
    try:
        answer = call(request, metadata=metadata(key), timeout=30)
        if method.server_streaming:
            next(answer)
            answer.cancel()
        return grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        return error.code(), error.details()


class RolesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.keys = KeyFile()
        cls.addClassCleanup(cls.keys.close)
        cls.daemon = cls.enterClassContext(
            Daemon("--key-file", cls.keys.path, *NULL_MODEL, model="null"))

    def test_every_method_asks_for_its_role(self):
        self.assertEqual({name for name, _ in every_method()}, set(ALLOWED))
        for name, method in every_method():
            for key in (None, WRONG):
                code, text = call_method(self.daemon, name, method, key)
                self.assertEqual(code, grpc.StatusCode.UNAUTHENTICATED, f"{name} {key}: {text}")
            for role, key in KEYS.items():
                if role in ALLOWED[name] and name == "AdminService/Drain":
                    continue  # would end the daemon
                code, text = call_method(self.daemon, name, method, key)
                with self.subTest(name=name, role=role, code=code, text=text):
                    if role in ALLOWED[name]:
                        self.assertNotIn(code, (grpc.StatusCode.UNAUTHENTICATED,
                                                grpc.StatusCode.PERMISSION_DENIED))
                    else:
                        self.assertEqual(code, grpc.StatusCode.PERMISSION_DENIED)

    def test_a_refusal_says_nothing_of_the_inside(self):
        texts = [call_method(self.daemon, name, method, key)[1]
                 for name, method in every_method() for key in (None, WRONG, KEYS["user"])
                 if "Generation" not in name]
        texts += [self.daemon.get(path, {"Authorization": bearer(key)})[1]
                  for path in KEYED_ROUTES for key in (WRONG, KEYS["user"])]
        for text in texts:
            for secret in ("127.0.0.1", self.keys.path, "the-", "sha256", WRONG, KEYS["user"]):
                self.assertNotIn(secret, text)

    def test_two_keys_are_none(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.daemon.models.ListModels(model_pb2.ListModelsRequest(),
                                          metadata=2 * metadata(KEYS["user"]))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAUTHENTICATED)

    def test_health_and_probes_need_no_key(self):
        self.assertEqual(self.daemon.health(), SERVING)
        for path in OPEN_ROUTES:
            self.assertEqual(self.daemon.get(path)[0], 200, path)

    def test_every_route_asks_for_a_monitor(self):
        basic = base64.b64encode(f"anyone:{KEYS['monitor']}".encode()).decode()
        for path in KEYED_ROUTES:
            for headers, expected in (({}, 401),
                                      ({"Authorization": bearer(WRONG)}, 401),
                                      ({"Authorization": KEYS["monitor"]}, 401),
                                      ({"Authorization": bearer(KEYS["user"])}, 403),
                                      ({"Authorization": bearer(KEYS["monitor"])}, 200),
                                      ({"Authorization": bearer(KEYS["admin"])}, 200),
                                      ({"Authorization": f"Basic {basic}"}, 200)):
                with self.subTest(path=path, headers=headers):
                    self.assertEqual(self.daemon.get(path, headers)[0], expected)

    def test_keys_are_in_no_log(self):
        call_method(self.daemon, *next(every_method()), WRONG)
        for line in list(self.daemon.log):
            for key in (WRONG, *KEYS.values()):
                self.assertNotIn(key, line)
                self.assertNotIn(hashlib.sha256(key.encode()).hexdigest(), line)


class ReloadTest(unittest.TestCase):
    """Reliability row 18."""

    def setUp(self):
        self.keys = KeyFile()
        self.addCleanup(self.keys.close)
        self.daemon = self.enterContext(
            Daemon("--key-file", self.keys.path, "--max-sequences", "16", *NULL_MODEL,
                   model="null"))

    def code(self, key):
        try:
            self.daemon.models.ListModels(model_pb2.ListModelsRequest(), metadata=metadata(key))
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            return error.code()

    def reloads(self, result):
        _, text = self.daemon.get("/metrics", {"Authorization": bearer(KEYS["admin"])})
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith("moed_reloads_total{") and 'what="keys"' in line and
                   f'result="{result}"' in line)

    def test_keys_are_exchanged_without_dropping_a_stream(self):
        streams = [RunningStream(self.daemon.channel, metadata(KEYS["user"])) for _ in range(8)]
        for stream in streams:
            self.addCleanup(stream.cancel)
            stream.wait_for_more()
        new = {"new": ("user", "new-key-93be"), "the-admin": ("admin", KEYS["admin"])}
        self.keys.write(key_lines(new))
        for _ in range(50):
            self.daemon.send(signal.SIGHUP)
        wait_until(lambda: self.code("new-key-93be") == grpc.StatusCode.OK, "the new key")
        self.assertEqual(self.code(KEYS["user"]), grpc.StatusCode.UNAUTHENTICATED)
        for stream in streams:
            stream.wait_for_more()

    def test_a_bad_file_keeps_the_keys_and_is_counted(self):
        self.keys.write("user broken sha256:12\n")
        before = self.reloads("failure")
        self.daemon.send(signal.SIGHUP)
        wait_until(lambda: self.reloads("failure") > before, "the failure to be counted")
        self.assertEqual(self.code(KEYS["user"]), grpc.StatusCode.OK)
        self.daemon.wait_for_log("line 1: the key must be sha256:")


class StartTest(unittest.TestCase):
    def test_a_key_file_that_cannot_be_used_is_78(self):
        keys = KeyFile()
        self.addCleanup(keys.close)

        def start():
            return run_moed("--model", "null", "--listen", "127.0.0.1:0", "--key-file", keys.path)

        def assert_refused(text):
            result = start()
            self.assertEqual(result.returncode, 78, result.stderr)
            self.assertIn(keys.path, result.stderr)
            self.assertIn(text, result.stderr)

        os.chmod(keys.path, 0o622)
        assert_refused("may be written by others")
        keys.write("user a secret-in-the-clear\n")
        assert_refused("line 1")
        self.assertNotIn("secret-in-the-clear", start().stderr)
        os.remove(keys.path)
        assert_refused("No such file")


def own_address():
    """An address of this machine that is not loopback, None without one. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


class WithoutKeysTest(unittest.TestCase):
    def test_this_machine_may_do_all(self):
        with Daemon(*NULL_MODEL, model="null") as daemon:
            for name, method in every_method():
                if name != "AdminService/Drain":
                    code, text = call_method(daemon, name, method, None)
                    self.assertNotIn(code, (grpc.StatusCode.UNAUTHENTICATED,
                                            grpc.StatusCode.PERMISSION_DENIED), (name, text))
            for path in OPEN_ROUTES + KEYED_ROUTES:
                self.assertEqual(daemon.get(path)[0], 200, path)

    def test_another_machine_may_only_generate(self):
        address = own_address()
        if address is None:
            self.skipTest("this machine has no address but loopback")
        with Daemon("--listen", f"{address}:0", *NULL_MODEL, model="null") as daemon:
            ports = [port for host, port in listening(daemon.process.pid) if host == address]
            daemon.channel.close()
            daemon.channel = grpc.insecure_channel(f"{address}:{ports[0]}")
            for name, method in every_method():
                code, text = call_method(daemon, name, method, None)
                if ALLOWED[name] is GENERATE:
                    self.assertNotEqual(code, grpc.StatusCode.PERMISSION_DENIED, name)
                else:
                    self.assertEqual(code, grpc.StatusCode.PERMISSION_DENIED, name)
                    self.assertIn("key file", text)
                    self.assertNotIn(address, text)


def inodes(pid):
    """Of the sockets that the process holds."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:["):-1])
    return found


def listening(pid):
    """Address and port of everything that others could connect or send to: TCP sockets that listen,
    UDP sockets, named Unix sockets."""
    own, found = inodes(pid), set()
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open(f"/proc/{pid}/net/{kind}") as file:
                rows = [line.split() for line in file][1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for row in rows:
            if row[9] in own and (kind.startswith("udp") or row[3] == "0A"):
                host, port = row[1].split(":")
                words = [bytes.fromhex(host[i:i + 8])[::-1] for i in range(0, len(host), 8)]
                family = socket.AF_INET if len(host) == 8 else socket.AF_INET6
                found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    with open(f"/proc/{pid}/net/unix") as file:
        for row in [line.split() for line in file][1:]:
            if row[6] in own and len(row) > 7:
                found.add(("unix", row[7]))
    return found


class ListeningTest(unittest.TestCase):
    def test_only_what_flags_named(self):
        with Daemon(*NULL_MODEL, model="null") as daemon:
            self.assertEqual(listening(daemon.process.pid),
                             {("127.0.0.1", daemon.port), ("127.0.0.1", daemon.admin_port)})

    def test_no_admin_port_where_none_is_wanted(self):
        with tempfile.TemporaryDirectory() as directory:
            port_file = os.path.join(directory, "ports")
            process = subprocess.Popen(
                [MOED, "--model", "null", "--listen", "127.0.0.1:0", "--admin-listen", "none",
                 "--port-file", port_file], stderr=subprocess.DEVNULL)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            wait_until(lambda: os.path.exists(port_file), "the port file")
            with open(port_file) as file:
                ports = file.read().split()
            self.assertEqual(listening(process.pid), {("127.0.0.1", int(port)) for port in ports})
            self.assertEqual(len(ports), 1)

    def test_the_defaults_are_loopback(self):
        self.assertIn("127.0.0.1:9000", run_moed("--help").stdout)
        self.assertIn("127.0.0.1:9400", run_moed("--help").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
