#!/usr/bin/env python3
"""Each field of StoppingParams against text decoded here and tokens counted here."""
import unittest

from asking import EOS, PROMPT, encode, exact_daemon, greedy, one, request, tokenizer
from moed.v1 import generation_pb2

STOP = generation_pb2.FINISH_REASON_STOP
LENGTH = generation_pb2.FINISH_REASON_LENGTH
TIME_LIMIT = generation_pb2.FINISH_REASON_TIME_LIMIT
ALWAYS_EOS = {"logit_bias": {EOS: 100}}


def text_of(drawn):
    """What the ids add to the prompt's text."""
    return tokenizer.decode(encode(PROMPT)[1:] + list(drawn))[len(PROMPT):]


def cut(drawn, stops, min_tokens=0):
    """(text, ids, stop) of a continuation that ends at the first of `stops`: with the first token
    after which the text has one, of several the one that is complete first, then the longest."""
    past = len(text_of(drawn[:min_tokens])) if min_tokens else 0
    for count in range(min_tokens + 1, len(drawn) + 1):
        text = text_of(drawn[:count])
        # One that ends in the text of the first min_tokens tokens is not looked at.
        found = [(text.find(stop, max(0, past - len(stop) + 1)), stop) for stop in stops]
        found = [(at + len(stop), at, stop) for at, stop in found if at >= 0]
        if found:
            _, at, stop = min(found)
            return text[:at], drawn[:count], stop
    return text_of(drawn), drawn, ""


class StoppingParametersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = exact_daemon("--ranks", "2", "--default-max-tokens", "37")
        cls.drawn = greedy(cls.daemon, max_tokens=80)
        cls.text = text_of(cls.drawn)

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def ask(self, sampling=None, response=None, **stopping):
        """The most likely continuation with text and ids, past the end of sequence."""
        return one(self.daemon, sampling={"temperature": 0, **(sampling or {})},
                   stopping={"ignore_eos": True, "max_tokens": 80, **stopping},
                   response={"text": True, **(response or {})})

    def test_max_tokens(self):
        for count in (1, 2, 33):
            answer = self.ask(max_tokens=count)
            self.assertEqual(list(answer.token_ids), self.drawn[:count])
            self.assertEqual(answer.finish.reason, LENGTH)
            self.assertEqual(answer.finish.usage.completion_tokens, count)
        default = one(self.daemon, sampling={"temperature": 0}, stopping={"ignore_eos": True})
        self.assertEqual(list(default.token_ids), self.drawn[:37])

    def test_the_end_of_sequence_ends_and_ignore_eos_goes_on(self):
        answer = self.ask(sampling=ALWAYS_EOS, ignore_eos=False)
        self.assertEqual(list(answer.token_ids), [EOS])
        self.assertEqual((answer.finish.reason, answer.finish.token_id), (STOP, EOS))
        self.assertEqual(answer.text, "")
        answer = self.ask(sampling=ALWAYS_EOS, max_tokens=9)
        self.assertEqual(list(answer.token_ids), [EOS] * 9)
        self.assertEqual(answer.finish.reason, LENGTH)

    def test_min_tokens_keeps_the_end_away(self):
        # Until then the most likely tokens but the end of sequence; then nothing else.
        for count in (1, 7):
            answer = self.ask(sampling=ALWAYS_EOS, min_tokens=count, ignore_eos=False)
            self.assertEqual(list(answer.token_ids), self.drawn[:count] + [EOS])
            self.assertEqual(answer.finish.reason, STOP)

    def test_min_tokens_keeps_stop_tokens_away(self):
        stop = self.drawn[3]
        later = self.ask(stop_token_ids=[stop], min_tokens=8)
        self.assertNotIn(stop, later.token_ids[:8])
        self.assertEqual(list(later.token_ids[:3]), self.drawn[:3])

    def test_min_tokens_does_not_look_for_stop_strings(self):
        stop = self.text[1:3]
        self.assertGreater(self.text.count(stop), 1)
        for count in (0, 5, 20):
            text, drawn, found = cut(self.drawn, [stop], count)
            answer = self.ask(stop_strings=[stop], min_tokens=count)
            self.assertEqual((answer.text, list(answer.token_ids)), (text, drawn))
            self.assertEqual(answer.finish.stop_string, found)

    def stops(self):
        """Parts of the text: inside a token, of several, and with one that never comes."""
        return [[self.text[at:at + size]] for at, size in ((0, 1), (9, 2), (20, 12), (41, 30))] + [
            ["never this", self.text[30:44]], [self.text[25:29], self.text[24:40]],
            [self.text[10:18], self.text[11:14], self.text[12:14]], ["\u2603", "never this"]]

    def test_stop_strings_end_where_they_first_appear(self):
        for stops in self.stops():
            text, drawn, found = cut(self.drawn, stops)
            answer = self.ask(stop_strings=stops)
            self.assertEqual((answer.text, list(answer.token_ids)), (text, drawn), stops)
            self.assertEqual(answer.finish.stop_string, found)
            self.assertEqual(answer.finish.reason, STOP if found else LENGTH)
            self.assertEqual(answer.finish.usage.completion_tokens, len(drawn))

    def test_a_streamed_stop_string_is_never_seen(self):
        for stops in self.stops():
            stream = self.daemon.generation.StreamGenerate(request(
                kind=generation_pb2.StreamGenerateRequest, sampling={"temperature": 0},
                stopping={"ignore_eos": True, "max_tokens": 80, "stop_strings": stops}))
            # response.token_ids is set, so that text is sent by default as well.
            self.assertEqual("".join(m.text_delta for m in stream), cut(self.drawn, stops)[0])

    def test_include_stop_keeps_the_stop_string(self):
        for stops in self.stops():
            text, _, found = cut(self.drawn, stops)
            self.assertEqual(self.ask(stop_strings=stops, include_stop=True).text, text + found)

    def test_stop_token_ids_end_with_themselves(self):
        for position in (0, 5, 40):
            stop = self.drawn[position]
            first = self.drawn.index(stop)
            answer = self.ask(stop_token_ids=[stop, 2047])
            self.assertEqual(list(answer.token_ids), self.drawn[:first + 1])
            self.assertEqual((answer.finish.reason, answer.finish.token_id), (STOP, stop))
            self.assertEqual(answer.text, text_of(self.drawn[:first]))
            kept = self.ask(stop_token_ids=[stop], include_stop=True)
            self.assertEqual(kept.text, text_of(self.drawn[:first + 1]))

    def test_include_stop_writes_a_special_token_where_those_are_shown(self):
        for skipped, text in ((True, ""), (False, "</s>")):
            answer = self.ask(sampling=ALWAYS_EOS, ignore_eos=False, include_stop=True,
                              response={"skip_special_tokens": skipped})
            self.assertEqual(answer.text, text)

    def test_time_limit_ends_with_what_there_is(self):
        prompt = encode("Once")
        whole = greedy(self.daemon, prompt, max_tokens=500)
        for milliseconds in (1, 20, 60):
            # Sixteen at a time take longer than the limit.
            answer = self.daemon.generation.Generate(request(
                prompt, sampling={"temperature": 0, "n": 16},
                stopping={"max_tokens": 500, "ignore_eos": True, "time_limit_ms": milliseconds}))
            self.assertEqual(len(answer.continuations), 16)
            for continuation in answer.continuations:
                drawn = list(continuation.token_ids)
                self.assertEqual(continuation.finish.reason, TIME_LIMIT)
                self.assertEqual(drawn, whole[:len(drawn)])
                self.assertEqual(continuation.finish.usage.completion_tokens, len(drawn))
                self.assertGreaterEqual(continuation.finish.timing.total_seconds,
                                        milliseconds / 1000)
        self.assertEqual(greedy(self.daemon, prompt, 3, stopping={"time_limit_ms": 86400000}),
                         whole[:3])
        self.daemon.wait_for_free_blocks()


if __name__ == "__main__":
    unittest.main()
