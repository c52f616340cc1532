#!/usr/bin/env python3
"""A client that knows nothing but reflection finds the services and calls one."""
import unittest

from daemon import Daemon
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
FILE_CONTAINING_SYMBOL, LIST_SERVICES = 4, 7  # of ServerReflectionRequest
FILE_DESCRIPTORS, SERVICES = 4, 6             # of ServerReflectionResponse


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


class ReflectionTest(unittest.TestCase):
    def test_calls_a_method_that_it_only_knows_from_reflection(self):
        with Daemon() as daemon:
            services = {dict(fields(value))[1].decode()
                        for _, value in fields(ask(daemon.channel, LIST_SERVICES, "*"))}
            self.assertLessEqual({"moed.v1.GenerationService", "moed.v1.TokenizerService",
                                  "moed.v1.ModelService", "moed.v1.ExpertService"}, services)
            pool = descriptor_pool.DescriptorPool()
            answer = ask(daemon.channel, FILE_CONTAINING_SYMBOL, "moed.v1.ModelService")
            for _, data in reversed(list(fields(answer))):
                pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
            method = pool.FindServiceByName("moed.v1.ModelService").FindMethodByName("ListModels")
            factory = message_factory.MessageFactory(pool)
            call = daemon.channel.unary_unary(
                "/moed.v1.ModelService/ListModels",
                request_serializer=factory.GetPrototype(method.input_type).SerializeToString,
                response_deserializer=factory.GetPrototype(method.output_type).FromString)
            response = call(factory.GetPrototype(method.input_type)())
            self.assertEqual([model.name for model in response.models], ["demo"])

    def test_is_not_offered_beyond_this_machine(self):
        with Daemon("--listen", "0.0.0.0:0") as daemon:
            with self.assertRaises(grpc.RpcError) as caught:
                ask(daemon.channel, LIST_SERVICES, "*")
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
        with Daemon("--listen", "0.0.0.0:0", "--grpc-reflection") as daemon:
            self.assertTrue(ask(daemon.channel, LIST_SERVICES, "*"))


if __name__ == "__main__":
    unittest.main()
