#!/usr/bin/env python3
"""A client that knows nothing but reflection finds the services and drives every method."""
import unittest

from daemon import PATIENCE_SECONDS, Daemon
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
FILE_CONTAINING_SYMBOL, LIST_SERVICES = 4, 7  # of ServerReflectionRequest
FILE_DESCRIPTORS, SERVICES = 4, 6             # of ServerReflectionResponse
# What a method says to a request without any field; the others answer it.
REFUSALS = {"StreamGenerate": "INVALID_ARGUMENT", "Generate": "INVALID_ARGUMENT",
            "RenderChat": "INVALID_ARGUMENT", "GetExpertTokens": "FAILED_PRECONDITION",
            "AbortRequest": "INVALID_ARGUMENT", "SetLogLevel": "INVALID_ARGUMENT"}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(number, bytes) of every length-delimited field."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            yield tag >> 3, data[at:at + value]
            at += value


def ask(channel, field, text):
    request = bytes([field << 3 | 2, len(text)]) + text.encode()
    call = channel.stream_stream(METHOD, bytes, bytes)
    answer = next(call(iter([request])))
    call_fields = dict(fields(answer))
    return call_fields.get(FILE_DESCRIPTORS, call_fields.get(SERVICES))


class Reflected:
    """The services of a daemon as reflection tells them."""

    def __init__(self, channel):
        self._channel = channel
        self.services = {dict(fields(value))[1].decode()
                         for _, value in fields(ask(channel, LIST_SERVICES, "*"))}
        self._pool = descriptor_pool.DescriptorPool()
        self._factory = message_factory.MessageFactory(self._pool)
        self._files = set()

    def methods(self, service):
        answer = ask(self._channel, FILE_CONTAINING_SYMBOL, service)
        for _, data in reversed(list(fields(answer))):
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            if file.name not in self._files:
                self._files.add(file.name)
                self._pool.Add(file)
        return self._pool.FindServiceByName(service).methods

    def first_answer(self, method, **request_fields):
        """The answer, or the first one of a stream."""
        # This Protobuf's descriptors do not tell which methods stream.
        proto = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(proto)
        request_type = self._factory.GetPrototype(method.input_type)
        make = self._channel.unary_stream if proto.server_streaming else self._channel.unary_unary
        call = make(f"/{method.containing_service.full_name}/{method.name}",
                    request_serializer=request_type.SerializeToString,
                    response_deserializer=self._factory.GetPrototype(method.output_type).FromString)
        answer = call(request_type(**request_fields), timeout=PATIENCE_SECONDS)
        if not proto.server_streaming:
            return answer
        first = next(answer)
        answer.cancel()
        return first


class ReflectionTest(unittest.TestCase):
    def test_drives_every_method_that_it_only_knows_from_reflection(self):
        with Daemon() as daemon:
            reflected = Reflected(daemon.channel)
            ours = {name for name in reflected.services if name.startswith("moed.v1.")}
            self.assertEqual(ours, {f"moed.v1.{name}Service" for name in (
                "Generation", "Tokenizer", "Model", "Expert", "Admin")})
            self.assertIn("grpc.health.v1.Health", reflected.services)
            methods = {method.name: method for service in sorted(ours)
                       for method in reflected.methods(service)}
            drain = methods.pop("Drain")
            for name, method in methods.items():
                with self.subTest(method=name):
                    if name not in REFUSALS:
                        reflected.first_answer(method)
                        continue
                    with self.assertRaises(grpc.RpcError) as caught:
                        reflected.first_answer(method)
                    self.assertEqual(caught.exception.code().name, REFUSALS[name])
            models = reflected.first_answer(methods["ListModels"]).models
            self.assertEqual([model.name for model in models], ["demo"])
            text = reflected.first_answer(methods["Generate"], text="Once", stopping=dict(
                max_tokens=4, ignore_eos=True)).continuations[0].text
            self.assertTrue(text)
            self.assertTrue(reflected.first_answer(methods["StreamGenerate"], text="Once").prompt)
            reflected.first_answer(methods["SetLogLevel"], level="info")
            reflected.first_answer(drain)
            self.assertEqual(daemon.wait(), 0, daemon.log)

    def test_is_not_offered_beyond_this_machine(self):
        with Daemon("--listen", "0.0.0.0:0", model="null") as daemon:
            with self.assertRaises(grpc.RpcError) as caught:
                ask(daemon.channel, LIST_SERVICES, "*")
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
        with Daemon("--listen", "0.0.0.0:0", "--grpc-reflection", model="null") as daemon:
            self.assertTrue(ask(daemon.channel, LIST_SERVICES, "*"))


if __name__ == "__main__":
    unittest.main()
