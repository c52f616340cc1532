#!/usr/bin/env python3
"""Clients that ask for odd things, do not read, vanish, cancel, are late or come in crowds: they
get what docs/errors.md says, and nobody else notices."""
import itertools
import random
import signal
import socket
import subprocess
import time
import unittest

from daemon import MOEDCTL, PATIENCE_SECONDS, wait_until
from faults import (SECRET, FaultTest, activity, is_sanitized, metric, resident_mib,
                    stream_request, text_of)
import grpc
from moed.v1 import generation_pb2, generation_pb2_grpc
from raw_http2 import RawHttp2, reset_frame, start_frames
from running_stream import RunningStream

Code = grpc.StatusCode
SEATS, QUEUE = 8, 64
MESSAGE_BYTES = 4 << 20


class RequestFaultsTest(FaultTest):
    FLAGS = ("--queue-limit", str(QUEUE))

    def fill_the_seats(self, taken=0):
        """Streams that take all the room there is to run, but for what is taken already."""
        calls = [self.generation.StreamGenerate(stream_request(sampling=dict(seed=i)))
                 for i in range(SEATS - taken)]
        wait_until(lambda: activity(self.daemon).running == SEATS, "all seats to be taken")
        return calls

    # Texts

    def test_text_comes_back_as_it_was_sent(self):
        texts = ["\0", "\ufeff\ufeffa\ufeff", "\uffff\ufffe\U0010ffff", "a" + "\u0301" * 5000,
                 "\u202e\u200d\U0001f469\u200d\U0001f680", "\r\n\t\x7f\x1b[2J", "</s><s>[INST]"]
        with self.nothing_lost():
            for text in texts:
                # Parsing a message refuses what is not UTF-8, so no delta ends within a character.
                messages = list(self.generation.StreamGenerate(
                    stream_request(3, text, response=dict(text=True, echo=True))))
                self.assertTrue(text_of(messages).startswith(text), repr(text[:20]))

    def test_a_megabyte_of_combining_marks_is_too_long_a_prompt(self):
        with self.nothing_lost():
            self.assert_error(self.generation.StreamGenerate(
                stream_request(3, "a" + "\u0301" * (1 << 19))), Code.INVALID_ARGUMENT,
                "PROMPT_TOO_LONG")

    def padded(self, size):
        """A request of so many bytes."""
        request = stream_request(3, "x", cache=dict(salt="x"))
        request.cache.salt = "x" * (size - len(request.SerializeToString()) - 5)
        request.cache.salt += "x" * (size - len(request.SerializeToString()))
        self.assertEqual(len(request.SerializeToString()), size)
        return request

    def test_a_message_has_four_mebibytes_at_most(self):
        with self.nothing_lost():
            self.assert_error(self.generation.StreamGenerate(self.padded(MESSAGE_BYTES)),
                              Code.INVALID_ARGUMENT)
            for size in (MESSAGE_BYTES + 1, 2 * MESSAGE_BYTES):
                self.assert_error(self.generation.StreamGenerate(self.padded(size)),
                                  Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
            # So much is not even read.
            self.assert_error(self.generation.StreamGenerate(self.padded(3 * MESSAGE_BYTES)),
                              Code.RESOURCE_EXHAUSTED)

    def test_errors_repeat_nothing_of_a_request(self):
        long = SECRET * 100
        refused = [
            dict(text=long * 400), dict(text="x", model=SECRET),
            dict(text="x", request_id=f"{SECRET} {SECRET}"),
            dict(chat=dict(messages=[dict(role="robot" * 100_000, content=SECRET)])),
            dict(text="x", stopping=dict(stop_strings=[SECRET, long])),
            dict(text="x", sampling=dict(bad_words=[SECRET, long])),
            dict(text="x", cache=dict(salt=long)),
        ]
        with self.nothing_lost():
            for fields in refused:
                with self.subTest(str(fields)[:80]), self.assertRaises(grpc.RpcError) as caught:
                    self.generation.Generate(generation_pb2.GenerateRequest(
                        **{"stopping": dict(max_tokens=1), **fields}))
                self.check_error(caught.exception, caught.exception.code())
            call = self.daemon.channel.unary_unary("/moed.v1.GenerationService/Generate", bytes,
                                                   bytes)
            for data in (SECRET.encode(), b"\x1a\x07" + SECRET.encode() + b"\xed\xa0"):
                with self.assertRaises(grpc.RpcError) as caught:
                    call(data)
                self.check_error(caught.exception, Code.INVALID_ARGUMENT)

    # Clients that go

    def begun(self, client):
        client.send(start_frames(1, stream_request()))
        self.assertTrue(client.wait(lambda: client.messages(1)))

    def test_a_client_that_vanishes_is_cancelled(self):
        ways = {
            "a reset connection": lambda client: client.vanish(),
            "a closed connection": lambda client: client.close(),
            "half a connection": lambda client: client.socket.shutdown(socket.SHUT_WR),
            "a reset stream": lambda client: client.send(reset_frame(1)),
        }
        with self.nothing_lost():
            for name, go in ways.items():
                with self.subTest(name), RawHttp2(self.daemon.port) as client:
                    cancelled = self.wait_for_more("moed_client_cancellations_total")
                    self.begun(client)
                    began = time.monotonic()
                    go(client)
                    cancelled()
                    self.assertLess(time.monotonic() - began, 5)

    def test_a_killed_client_is_cancelled(self):
        with self.nothing_lost():
            cancelled = self.wait_for_more("moed_client_cancellations_total")
            client = subprocess.Popen(
                [MOEDCTL, "--server", self.daemon.address, "generate", "--max-tokens", "30000",
                 SECRET], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            self.assertTrue(client.stdout.read(1))
            client.send_signal(signal.SIGKILL)
            cancelled()
            client.wait()
            client.stdout.close()

    def test_ten_thousand_starts_and_cancels_at_random_moments(self):
        rng = random.Random(11)
        # The dead leave the queue with the next step only.
        with self.nothing_lost(crowd=True), RawHttp2(self.daemon.port) as client:
            live, waiting = [], []
            count = 1_000 if is_sanitized(self.daemon) else 10_000
            for number in range(count):
                stream = 2 * number + 1
                # Some end by themselves before they are cancelled.
                waiting.append(start_frames(stream, stream_request(
                    rng.choice([1, 2, 5, 10**6]), sampling=dict(n=rng.choice([1, 1, 1, 3])))))
                live.append(stream)
                while len(live) > rng.randrange(48):
                    gone = live.pop(rng.randrange(len(live)))
                    waiting.append(reset_frame(gone) * rng.choice([1, 1, 2]))
                if rng.random() < 0.2:
                    self.assertTrue(client.send(b"".join(waiting)))
                    waiting = []
                    client.read()
                    client.data.clear()
            self.assertTrue(client.send(b"".join(waiting + [reset_frame(s) for s in live])))
            streams = itertools.count(2 * count + 1, 2)
            wait_until(lambda: self.serves(client, next(streams)), "the connection to serve")

    def serves(self, client, stream):
        """Whether it is answered; as long as the dead are in the queue that may be full."""
        client.send(start_frames(stream, stream_request(2, response=dict(text=True))))
        self.assertTrue(client.wait(lambda: client.ended(stream)))
        self.assertIn(client.status(stream), (0, Code.RESOURCE_EXHAUSTED.value[0]))
        return client.status(stream) == 0

    # Deadlines

    def test_a_deadline_that_has_passed_or_passes_in_the_queue_costs_no_work(self):
        with self.nothing_lost(witness=False), RawHttp2(self.daemon.port) as client:
            tokens = metric(self.daemon, "moed_prompt_tokens_total")
            client.send(start_frames(1, stream_request(), grpc_timeout="0n"))
            self.assertTrue(client.wait(lambda: client.ended(1)))
            self.assertEqual(metric(self.daemon, "moed_prompt_tokens_total"), tokens)
            blocking = self.fill_the_seats()
            tokens = metric(self.daemon, "moed_prompt_tokens_total")
            late = self.wait_for_more("moed_requests_total", code="DEADLINE_EXCEEDED")
            client.send(start_frames(3, stream_request(), grpc_timeout="200m"))
            self.assertTrue(client.wait(lambda: client.ended(3)))
            late()
            for call in blocking:
                call.cancel()
            self.daemon.wait_for_free_blocks()
            self.assertEqual(metric(self.daemon, "moed_prompt_tokens_total"), tokens)

    def test_a_deadline_ends_a_stream_in_its_middle(self):
        with self.nothing_lost(), RawHttp2(self.daemon.port) as client:
            # A busy machine may not come to a first token in the shorter ones.
            for stream, seconds in ((1, 0.4), (3, 4), (5, 20)):
                late = self.wait_for_more("moed_requests_total", code="DEADLINE_EXCEEDED")
                began = time.monotonic()
                client.send(start_frames(stream, stream_request(),
                                         grpc_timeout=f"{int(seconds * 1000)}m"))
                self.assertTrue(client.wait(lambda: client.ended(stream)))
                self.assertGreaterEqual(time.monotonic() - began, seconds - 0.01)
                if client.messages(stream):
                    # Transport and engine look at the same time; what the transport is first to
                    # end it calls cancelled, to a client that has no deadline of its own.
                    late()
                    return
            self.fail("no stream has begun")

    # Crowds

    def test_a_flood_is_refused_beyond_the_queue_and_those_accepted_finish(self):
        count = 300
        request = stream_request(20, sampling=dict(seed=5))
        alone = text_of(self.generation.StreamGenerate(request))
        # No witness: its coming and going would free places, and a full queue may turn it away.
        with self.nothing_lost(witness=False), grpc.insecure_channel(
                self.daemon.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            refused = self.wait_for_more("moed_requests_rejected_total", count - QUEUE,
                                         reason="queue_full")
            # Before the crowd comes, so that all of it finds the seats taken.
            other = RunningStream(channel)
            other.wait_for_more()
            blocking = self.fill_the_seats(taken=1)
            calls = [self.generation.StreamGenerate(request) for _ in range(count)]
            refused()
            other.wait_for_more()
            other.cancel()
            for call in blocking:
                call.cancel()
            turned_away = 0
            for call in calls:
                try:
                    self.assertEqual(text_of(call), alone)
                except grpc.RpcError as error:
                    self.check_error(error, Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
                    trailers = dict(error.trailing_metadata())
                    self.assertIn(b"google.rpc.RetryInfo", trailers["grpc-status-details-bin"])
                    come_back_ms = int(trailers["grpc-retry-pushback-ms"])
                    turned_away += 1
            self.assertEqual(turned_away, count - QUEUE)
            self.assertLessEqual(come_back_ms, 10_000)

    def test_nobody_starves_in_a_crowd_that_never_ends(self):
        # A full queue may turn anybody away, a witness too.
        with self.nothing_lost(witness=False), RawHttp2(self.daemon.port) as client:
            blocking = self.fill_the_seats()
            early = [self.generation.Generate.future(generation_pb2.GenerateRequest(
                text=SECRET, stopping=dict(max_tokens=100))) for _ in range(SEATS)]
            wait_until(lambda: activity(self.daemon).waiting == SEATS, "the queue")
            live, number = [], 0
            end = time.monotonic() + PATIENCE_SECONDS
            # More come all the time until the first have been served.
            while not all(call.done() for call in early):
                self.assertLess(time.monotonic(), end)
                live = [stream for stream in live if not client.ended(stream)]
                while len(live) < 1000:
                    live.append(2 * number + 1)
                    number += 1
                    client.send(start_frames(live[-1], stream_request(5)))
                client.read()
                for call in blocking:
                    call.cancel()
            for call in early:
                self.assertEqual(call.result().continuations[0].finish.usage.completion_tokens,
                                 100)
            self.assertTrue(client.wait(lambda: all(client.ended(stream) for stream in live)))


class FullBufferTest(FaultTest):
    FLAGS = ("--stream-buffer-size", "64KiB")

    def test_who_does_not_read_is_cut_off_and_told_why(self):
        evicted = self.wait_for_more("moed_slow_reader_evictions_total")
        memory = resident_mib(self.daemon)
        with self.nothing_lost():
            # A client library that guesses no larger windows.
            with grpc.insecure_channel(self.daemon.address, options=[
                    ("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]) as channel:
                # Far more than windows and buffers hold.
                call = generation_pb2_grpc.GenerationServiceStub(channel).StreamGenerate(
                    stream_request(sampling=dict(seed=3, n=8),
                                   response=dict(text=True, logprobs=20)))
                evicted()
                self.assert_error(call, Code.RESOURCE_EXHAUSTED, "SLOW_READER")
        if not is_sanitized(self.daemon):
            self.assertLess(resident_mib(self.daemon) - memory, 64)


class SlowReaderTest(FaultTest):
    # The buffer holds the whole stream: only the time runs out, and the call never gets as far as
    # its end. What others are sent fits into their windows and waits for no reader.
    FLAGS = ("--stream-buffer-size", "64MiB", "--slow-reader-timeout", "1.5")

    def test_who_never_reads_loses_the_call(self):
        evicted = self.wait_for_more("moed_slow_reader_evictions_total")
        with self.nothing_lost(), RawHttp2(self.daemon.port, reads=False) as client:
            client.send(start_frames(1, stream_request(response=dict(text=True, logprobs=20))))
            evicted()
            self.assertTrue(client.wait(lambda: 1 in client.resets))
            # What the windows hold, and no more.
            self.assertLess(len(client.data[1]), 1 << 17)


if __name__ == "__main__":
    unittest.main()
