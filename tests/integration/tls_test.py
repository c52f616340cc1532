#!/usr/bin/env python3
"""TLS as clients of the real daemon find it: reliability row 17."""
import http.client
import os
import signal
import socket
import ssl
import tempfile
import unittest

from certificates import Authority, read, replace
from daemon import Daemon, run_moed, wait_until
import grpc
from moed.v1 import model_pb2, model_pb2_grpc
from running_stream import RunningStream

NULL_MODEL = ("--null-step-time", "0.005")


class Server:
    """Files of a server and of its clients, with an authority for each side."""

    def __init__(self, directory):
        self.servers = Authority(directory, "servers")
        self.clients = Authority(directory, "clients")
        self.certificate = os.path.join(directory, "tls.crt")
        self.key = os.path.join(directory, "tls.key")
        self.write(*self.servers.issue("first"))
        self.client = self.clients.issue("client")

    def write(self, certificate, key):
        replace(self.certificate, certificate)
        replace(self.key, key)

    @property
    def flags(self):
        return ("--tls-certificate", self.certificate, "--tls-key", self.key,
                "--tls-client-ca", self.clients.certificate)

    def channel(self, daemon, client=None, authority=None):
        certificate, key = client or (None, None)
        credentials = grpc.ssl_channel_credentials(
            read((authority or self.servers).certificate), key, certificate)
        # The channels of a process share connections; these must be their own.
        return grpc.secure_channel(f"localhost:{daemon.port}", credentials,
                                   [("grpc.use_local_subchannel_pool", 1)])

    def code(self, daemon, client=None, authority=None):
        """How a call ends that brings the client's certificate and trusts the authority."""
        with self.channel(daemon, client, authority) as channel:
            return call(channel)

    def shown(self, daemon, directory):
        """The name in the certificate that a new gRPC connection is shown."""
        context = ssl.create_default_context(cafile=self.servers.certificate)
        chain = os.path.join(directory, "client_chain")
        replace(chain, self.client[0] + self.client[1])
        context.load_cert_chain(chain)
        context.set_alpn_protocols(["h2"])
        return name_shown(context, daemon.port)

    def shown_by_admin(self, daemon):
        return name_shown(ssl.create_default_context(cafile=self.servers.certificate),
                          daemon.admin_port)


def name_shown(context, port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            return dict(pair[0] for pair in connection.getpeercert()["subject"])["commonName"]


def call(channel):
    try:
        model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(),
                                                            timeout=30)
        return grpc.StatusCode.OK
    except grpc.RpcError as error:
        return error.code()


class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.server = Server(cls.directory)
        cls.daemon = cls.enterClassContext(
            Daemon(*cls.server.flags, "--admin-tls", *NULL_MODEL, model="null", wait_ready=False))
        wait_until(lambda: cls.get("/readyz")[0] == 200, "readiness")

    @classmethod
    def get(cls, path):
        """Over TLS, without a certificate of our own."""
        context = ssl.create_default_context(cafile=cls.server.servers.certificate)
        connection = http.client.HTTPSConnection("localhost", cls.daemon.admin_port,
                                                 context=context, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def failures(self):
        return sum(float(line.split()[-1]) for line in self.get("/metrics")[1].splitlines()
                   if line.startswith("moed_reloads_total{") and
                   'what="certificates"' in line and 'result="failure"' in line)

    def test_only_clients_with_a_valid_certificate_are_served(self):
        strangers = Authority(self.directory, "strangers")
        code = self.server.code
        self.assertEqual(code(self.daemon, self.server.client), grpc.StatusCode.OK)
        for what, client in (("none", None), ("of another authority", strangers.issue("stranger")),
                             ("expired", self.server.clients.issue("late", days=-1))):
            with self.subTest(what=what):
                self.assertEqual(code(self.daemon, client), grpc.StatusCode.UNAVAILABLE)
        self.assertEqual(code(self.daemon, self.server.client, authority=strangers),
                         grpc.StatusCode.UNAVAILABLE)
        with grpc.insecure_channel(self.daemon.address) as channel:
            self.assertEqual(call(channel), grpc.StatusCode.UNAVAILABLE)

    def test_the_admin_port_speaks_tls_and_asks_for_no_certificate(self):
        self.assertEqual(self.get("/livez")[0], 200)
        plain = http.client.HTTPConnection("127.0.0.1", self.daemon.admin_port, timeout=60)
        self.addCleanup(plain.close)
        with self.assertRaises((http.client.HTTPException, OSError)):
            plain.request("GET", "/livez")
            plain.getresponse()

    def test_a_pair_is_exchanged_without_a_signal_under_a_stream(self):
        channel = self.enterContext(self.server.channel(self.daemon, self.server.client))
        stream = RunningStream(channel)
        self.addCleanup(stream.cancel)
        stream.wait_for_more()
        certificate, key = self.server.servers.issue("second")
        # Half of the new pair: the old one is shown as before, and somebody is told.
        before = self.failures()
        replace(self.server.certificate, certificate)
        wait_until(lambda: self.failures() > before, "the failure to be counted")
        self.assertEqual(self.server.shown(self.daemon, self.directory), "first")
        self.assertEqual(self.server.shown_by_admin(self.daemon), "first")
        self.daemon.wait_for_log("does not belong to the certificate")
        # The other half.
        replace(self.server.key, key)
        wait_until(lambda: self.server.shown(self.daemon, self.directory) == "second", "the pair")
        # The two ports are told one after the other.
        wait_until(lambda: self.server.shown_by_admin(self.daemon) == "second", "the admin port")
        stream.wait_for_more()
        # By signal it is at once.
        self.server.write(*self.server.servers.issue("third"))
        self.daemon.send(signal.SIGHUP)
        wait_until(lambda: self.server.shown(self.daemon, self.directory) == "third", "the signal")
        self.server.write(*self.server.servers.issue("first"))
        wait_until(lambda: self.server.shown(self.daemon, self.directory) == "first", "the first")


class StartTest(unittest.TestCase):
    def test_what_cannot_be_used_is_78_with_its_file(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        server = Server(directory)
        good = read(server.certificate), read(server.key)
        late = server.servers.issue("late", days=-1)
        cases = (
            ((b"nothing", good[1]), server.certificate, "holds no PEM certificate"),
            (late, server.certificate, "has expired"),
            ((good[0], late[1]), server.key, "does not belong"),
            ((good[0], b"nothing"), server.key, "holds no PEM private key"),
        )
        for pair, path, text in cases:
            server.write(*pair)
            result = run_moed("--model", "null", "--listen", "127.0.0.1:0", *server.flags)
            with self.subTest(text=text):
                self.assertEqual(result.returncode, 78, result.stderr)
                self.assertIn(path, result.stderr)
                self.assertIn(text, result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
