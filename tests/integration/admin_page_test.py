#!/usr/bin/env python3
"""The page of the admin port, drawn by a real browser from a daemon that has served requests.

With MOED_SCREENSHOT=FILE the last test also saves what it sees.
"""
import json
import os
import re
import sys
import unittest

from browser import Browser, find_browser
from daemon import Daemon
from moed.v1 import experts_pb2, generation_pb2

TEXTS = ["Once upon a time there was a little dog.", "The king said: I want to eat a big cake.",
         "Tom and Lily went to the park."]
LAYERS, EXPERTS = 4, 8

# [layer][expert] of the drawn table: the tokens, and the text in the cell.
CELLS = """[...document.querySelectorAll("#load tbody tr")].map(
    row => [...row.querySelectorAll("td.cell")].map(
        cell => [Number(cell.dataset.tokens), cell.textContent]))"""
FIGURES = """[...document.querySelectorAll("#load tbody tr")].map(
    row => [...row.querySelectorAll("td.figure")].map(cell => cell.textContent))"""


def shows(condition):
    return f"document.body.dataset.connection == 'live' && ({condition})"


class AdminPageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--ranks", "2")
        cls.browser = Browser(find_browser())

    @classmethod
    def tearDownClass(cls):
        cls.browser.__exit__()
        cls.daemon.__exit__()

    def generate(self, max_tokens=40):
        calls = [self.daemon.generation.Generate.future(generation_pb2.GenerateRequest(
            text=text, sampling={"temperature": 1, "seed": seed, "n": 2},
            stopping={"max_tokens": max_tokens, "ignore_eos": True}))
            for seed, text in enumerate(TEXTS)]
        for call in calls:
            call.result()

    def open(self, fragment="#window=all"):
        self.browser.open(f"http://127.0.0.1:{self.daemon.admin_port}/{fragment}")

    def test_1_says_that_there_are_no_tokens_yet(self):
        self.open()
        self.browser.wait_for(shows("!document.getElementById('no-tokens').hidden"))
        cells = self.browser.evaluate(CELLS)
        self.assertEqual(cells, [[[0, ""]] * EXPERTS] * LAYERS)
        self.assertEqual(self.browser.complaints, [])

    def test_2_draws_every_layer_and_expert_with_the_numbers_of_the_metrics(self):
        self.generate()
        load = self.daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
        total = sum(load.layers[0].tokens)
        self.assertGreater(total, 0)
        self.open()
        self.browser.wait_for(shows("document.querySelector('td.cell')?.dataset.tokens == "
                                    f"'{load.layers[0].tokens[0]}'"))
        cells = self.browser.evaluate(CELLS)
        drawn = [[tokens for tokens, _ in row] for row in cells]
        self.assertEqual(drawn, [list(layer.tokens) for layer in load.layers])
        self.assertEqual(drawn, self.tokens_of_metrics())
        for row, layer in zip(cells, load.layers):
            for tokens, text in row:
                if tokens:
                    self.assertAlmostEqual(float(text), tokens * EXPERTS / total, delta=0.006)
                else:
                    self.assertEqual(text, "✕")
        for figures, layer in zip(self.browser.evaluate(FIGURES), load.layers):
            self.assertAlmostEqual(float(figures[0]), layer.max_over_mean, delta=0.006)
            self.assertAlmostEqual(float(figures[1]), layer.gini, delta=0.0006)
            self.assertAlmostEqual(float(figures[2]), layer.entropy, delta=0.0006)
            self.assertEqual(int(figures[3]), layer.dead_experts)
        self.assertEqual(self.browser.complaints, [])

    def tokens_of_metrics(self):
        """[layer][expert] of /metrics/experts."""
        tokens = [[None] * EXPERTS for _ in range(LAYERS)]
        for line in self.daemon.get("/metrics/experts")[1].splitlines():
            if not line.startswith("moed_expert_tokens_total{"):
                continue
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            value = float(line.rsplit(" ", 1)[1])
            tokens[int(labels["layer"])][int(labels["expert"])] = int(value)
        return tokens

    def test_3_says_what_model_ranks_and_phase_there_are(self):
        self.open()
        self.browser.wait_for(shows("document.querySelectorAll('.rank').length == 2"))
        self.assertEqual(self.browser.evaluate("document.getElementById('phase').textContent"),
                         "ready")
        status = json.loads(self.daemon.get("/api/status")[1])
        self.assertEqual(self.browser.evaluate("document.getElementById('model-name').textContent"),
                         status["model"]["name"])
        self.assertIn(f"{LAYERS} layers × {EXPERTS} experts",
                      self.browser.evaluate("document.getElementById('model-shape').textContent"))
        self.assertTrue(self.browser.evaluate("document.getElementById('loading').hidden"))

    def test_4_arrow_keys_walk_over_the_experts_and_tell_what_they_hold(self):
        self.open()
        self.browser.wait_for(shows("document.querySelector('td.cell') != null"))
        self.browser.evaluate("document.querySelector('td.cell').focus()")
        for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
            self.browser.press(key)
        tip = self.browser.evaluate("document.getElementById('tip').textContent")
        self.assertTrue(tip.startswith("Layer 1, expert 2 on rank "), tip)
        self.browser.press("Escape")
        self.assertTrue(self.browser.evaluate("document.getElementById('tip').hidden"))

    def test_5_goes_on_by_itself_and_then_says_that_the_daemon_has_gone(self):
        self.browser.command("Emulation.setDeviceMetricsOverride", width=1280, height=680,
                             deviceScaleFactor=1, mobile=False)
        self.open()
        self.browser.wait_for(shows("document.querySelector('td.cell') != null"))
        before = self.browser.evaluate(f"JSON.stringify({CELLS})")
        self.generate(max_tokens=100)
        self.browser.wait_for(f"JSON.stringify({CELLS}) != {json.dumps(before)}"
                              " && document.querySelector('#chart-tokens .line').getAttribute('d')")
        if "MOED_SCREENSHOT" in os.environ:
            self.browser.screenshot(os.environ["MOED_SCREENSHOT"])
        self.assertEqual(self.browser.complaints, [])
        self.assertEqual(self.daemon.stop(), 0)
        self.browser.wait_for("document.body.dataset.connection == 'lost'")
        self.assertIn("Connection lost",
                      self.browser.evaluate("document.getElementById('lost').textContent"))


if __name__ == "__main__":
    if find_browser() is None:
        print("no Chromium: skipped")
        sys.exit(77)
    unittest.main()
