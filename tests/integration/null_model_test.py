#!/usr/bin/env python3
"""The daemon without a model: requests are served like any other."""
import re
import unittest

from daemon import Daemon, run_moed
from moed.v1 import chat_pb2, generation_pb2, model_pb2

WORDS = re.compile(r"( [bdfgklmnprstv][aeiou][bdfgklmnprstv][aeiou])*")


class NullModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--max-sequences", "32", model="null")

    @classmethod
    def tearDownClass(cls):
        code = cls.daemon.stop()
        cls.daemon.__exit__()
        assert code == 0, (code, cls.daemon.log)

    def ask(self, max_tokens=12, prompt="Hello", stopping=None, **groups):
        return self.daemon.generation.Generate(generation_pb2.GenerateRequest(
            text=prompt, stopping={"max_tokens": max_tokens, **(stopping or {})}, **groups))

    def text(self, *arguments, **groups):
        return self.ask(*arguments, **groups).continuations[0].text

    def test_says_what_it_is(self):
        model = self.daemon.models.GetModel(model_pb2.GetModelRequest()).model
        self.assertEqual(model.name, "null")
        self.assertTrue(any("nothing is computed" in line for line in self.daemon.log))

    def test_text_is_words_up_to_max_tokens(self):
        answer = self.ask(response={"text": True, "token_ids": True}).continuations[0]
        self.assertRegex(answer.text, WORDS)
        self.assertEqual(len(answer.text), 5 * 12)
        self.assertEqual(len(answer.token_ids), 12)
        self.assertEqual(answer.finish.reason, generation_pb2.FINISH_REASON_LENGTH)

    def test_a_seed_repeats_and_another_does_not(self):
        first = self.text(sampling={"seed": 5})
        self.assertEqual(self.text(sampling={"seed": 5}), first)
        self.assertNotEqual(self.text(sampling={"seed": 6}), first)

    def test_continuations_differ_and_the_first_is_what_one_gives(self):
        texts = [c.text for c in self.ask(sampling={"seed": 5, "n": 4}).continuations]
        self.assertEqual(len(set(texts)), 4)
        self.assertEqual(texts[0], self.text(sampling={"seed": 5}))

    def test_a_stop_string_ends_the_text_before_it(self):
        text = self.text(sampling={"seed": 5})
        stop = text[23:27]  # within a word and across its end
        answer = self.ask(sampling={"seed": 5}, stopping={"stop_strings": [stop]}).continuations[0]
        self.assertEqual(answer.text, text[:text.index(stop)])
        self.assertEqual(answer.finish.reason, generation_pb2.FINISH_REASON_STOP)
        self.assertEqual(answer.finish.stop_string, stop)

    def test_a_stream_gives_the_same_text(self):
        whole = self.text(200, sampling={"seed": 8})
        request = generation_pb2.StreamGenerateRequest(
            text="Hello", sampling={"seed": 8}, stopping={"max_tokens": 200})
        messages = list(self.daemon.generation.StreamGenerate(request))
        self.assertEqual("".join(message.text_delta for message in messages), whole)
        self.assertEqual([message.sequence for message in messages], list(range(len(messages))))

    def test_chats_are_served(self):
        answer = self.daemon.generation.Generate(generation_pb2.GenerateRequest(
            chat=chat_pb2.ChatPrompt(messages=[{"role": "user", "content": "Hi"}]),
            stopping={"max_tokens": 3}))
        self.assertEqual(len(answer.continuations[0].text), 15)

    def test_what_means_nothing_is_refused(self):
        run = run_moed("--model", "null", "--dtype", "float32", "--listen", "127.0.0.1:0")
        self.assertEqual(run.returncode, 64)
        self.assertIn("--dtype", run.stderr)


if __name__ == "__main__":
    unittest.main()
