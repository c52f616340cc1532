#!/usr/bin/env python3
"""Both pages of metrics, read by those who will read them: the official parser, promtool and a
real Prometheus, while the daemon serves."""
import collections
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import unittest

try:
    from prometheus_client.parser import text_string_to_metric_families
    import yaml  # noqa: F401  (prometheus_server)
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
for program in ("prometheus", "promtool"):
    if shutil.which(program) is None:
        print(f"skipped: there is no {program}")
        sys.exit(77)

from daemon import SOURCE_DIR, Daemon, grpc, wait_until
from moed.v1 import generation_pb2, tokenizer_pb2
from prometheus_server import PrometheusServer

LAYERS, EXPERTS, TOP_K = 4, 8, 2
PAGES = ("/metrics", "/metrics/experts")
# Without TLS there is no certificate.
WITHOUT_DATA = "moed_certificate_expiry_timestamp_seconds"


class Samples(dict):
    """(name, sorted labels) to value."""

    def total(self, name, **labels):
        """The sum over the series of this name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (found, series), value in self.items()
                   if found == name and wanted <= set(series))


def request(prompt, **groups):
    return generation_pb2.GenerateRequest(text=prompt, **groups)


class MetricsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--ranks", "2", "--max-sequences", "8", "--kv-blocks", "24")
        cls.prometheus = PrometheusServer(f"127.0.0.1:{cls.daemon.admin_port}")

    @classmethod
    def tearDownClass(cls):
        cls.prometheus.__exit__()
        code = cls.daemon.stop()
        cls.daemon.__exit__()
        assert code == 0, (code, cls.daemon.log)

    def families(self, page, daemon=None):
        status, text = (daemon or self.daemon).get(page)
        self.assertEqual(status, 200, text)
        return list(text_string_to_metric_families(text))

    def samples(self, daemon=None):
        return Samples({(sample.name, tuple(sorted(sample.labels.items()))): sample.value
                        for page in PAGES for family in self.families(page, daemon)
                        for sample in family.samples})

    def quiet(self, daemon=None):
        """The samples once nothing waits or runs."""
        def idle():
            samples = self.samples(daemon)
            return samples if self.in_engine(samples) == self.in_progress(samples) == 0 else None
        return wait_until(idle, "a quiet daemon")

    @staticmethod
    def in_engine(samples):
        return samples.total("moed_requests_waiting") + samples.total("moed_requests_running")

    @staticmethod
    def in_progress(samples):
        return samples.total("moed_requests_accepted_total") - samples.total("moed_requests_total")

    def grown(self, before, after, name, **labels):
        return after.total(name, **labels) - before.total(name, **labels)

    def test_the_official_parser_finds_what_the_documentation_lists(self):
        with open(os.path.join(SOURCE_DIR, "docs", "metrics.md")) as file:
            documented = {}
            for line in file:
                match = re.match(r"\| `(\w+)` \| (\w+) \|[^|]*\| (.*?) \| ", line)
                if match:
                    documented[match[1]] = (match[2], set(re.findall(r"`(\w+)`", match[3])))
        self.assertGreater(len(documented), 50)
        for page in PAGES:
            for family in self.families(page):
                # The parser takes the ending off a counter's name.
                name = family.name + "_total" if family.type == "counter" else family.name
                kind, labels = documented[name]
                self.assertEqual(family.type, kind, name)
                for sample in family.samples:
                    self.assertEqual(set(sample.labels) - {"le"}, labels, sample)
                    self.assertTrue(sample.labels.keys() <= labels | {"le"}, sample)

    def test_promtool_has_no_complaint(self):
        for page in PAGES:
            text = self.daemon.get(page)[1]
            check = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                                   capture_output=True, timeout=60)
            self.assertEqual((check.returncode, check.stdout, check.stderr), (0, "", ""), page)

    def test_expert_totals_are_what_the_tokens_served_account_for(self):
        before = self.quiet()
        stopping = {"max_tokens": 20, "ignore_eos": True}
        # The first fill the cache, then come some that use it, continuations, and so many long ones
        # that some are preempted.
        calls = []
        for number in range(3):
            calls.append(self.daemon.generation.Generate(request(
                f"Once upon a time there was a little dog with {number} friends. " * 2,
                stopping=stopping)))
        waves = [
            [request("Once upon a time there was a little dog with 1 friends. " * 2,
                     stopping=stopping) for _ in range(2)],
            [request("The king said:", stopping=stopping, sampling={"n": 3})],
            [request(f"{number} dogs", stopping={"max_tokens": 120, "ignore_eos": True})
             for number in range(8)],
        ]
        for wave in waves:
            futures = [self.daemon.generation.Generate.future(each) for each in wave]
            calls += [future.result() for future in futures]
        after = self.quiet()

        prompt = cached = generated = fed_back = preemptions = 0
        for call in calls:
            prompt += call.prompt.prompt_tokens
            cached += call.prompt.cached_tokens
            for continuation in call.continuations:
                generated += continuation.finish.usage.completion_tokens
                fed_back += continuation.finish.usage.completion_tokens - 1
                preemptions += continuation.finish.timing.preemptions
        recomputed = self.grown(before, after, "moed_recomputed_tokens_total")
        self.assertGreater(cached, 0)
        self.assertGreater(preemptions, 0)
        self.assertGreater(recomputed, 0)
        self.assertEqual(self.grown(before, after, "moed_prompt_tokens_total"), prompt)
        self.assertEqual(self.grown(before, after, "moed_cached_tokens_total"), cached)
        self.assertEqual(self.grown(before, after, "moed_generation_tokens_total"), generated)
        self.assertEqual(self.grown(before, after, "moed_preemptions_total"), preemptions)

        computed = prompt - cached + recomputed + fed_back
        self.assertEqual(self.grown(before, after, "moed_step_tokens_sum"), computed)
        for layer in range(LAYERS):
            experts = [self.grown(before, after, "moed_expert_tokens_total", layer=str(layer),
                                  expert=str(expert)) for expert in range(EXPERTS)]
            self.assertEqual(sum(experts), TOP_K * computed)
            self.assertEqual(self.grown(before, after, "moed_layer_expert_tokens_total",
                                        layer=str(layer)), TOP_K * computed)
        routed = self.grown(before, after, "moed_rank_routed_tokens_total")
        self.assertEqual(routed, LAYERS * TOP_K * computed)
        self.assertEqual(self.grown(before, after, "moed_time_to_first_token_seconds_count"),
                         len(calls))

    def test_accepted_is_finished_aborted_and_running(self):
        with Daemon("--null-step-time", "0.01", model="null") as daemon:
            self.check_accepted(daemon)

    def check_accepted(self, daemon):
        endless = {"max_tokens": 3000}
        streams = [daemon.generation.StreamGenerate(generation_pb2.StreamGenerateRequest(
            text="dog", stopping=endless)) for _ in range(4)]
        finishing = [daemon.generation.Generate.future(request("dog", stopping={"max_tokens": 20}))
                     for _ in range(2)]

        def agree():
            samples = self.samples(daemon)
            return self.in_engine(samples) == self.in_progress(samples) >= 4
        wait_until(agree, "the engine to have what was accepted and has not ended")
        with self.assertRaises(grpc.RpcError) as late:
            daemon.generation.Generate(request("dog", stopping=endless), timeout=0.2)
        self.assertEqual(late.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        for stream in streams:
            stream.cancel()
        for call in finishing:
            call.result()
        with self.assertRaises(grpc.RpcError):
            daemon.generation.Generate(request("", stopping={"max_tokens": 1}))
        daemon.tokenizer.Tokenize(tokenizer_pb2.TokenizeRequest(text="dog"))

        samples = self.quiet(daemon)
        self.assertIn(samples.total("moed_requests_accepted_total"), (6, 7))  # the late one or not
        self.assertEqual(samples.total("moed_requests_total", code="OK", finish_reason="length"),
                         2)
        cancelled = samples.total("moed_requests_total", code="CANCELLED", finish_reason="aborted")
        self.assertGreaterEqual(cancelled, 4)
        self.assertEqual(samples.total("moed_client_cancellations_total"), cancelled)
        self.assertEqual(samples.total("moed_requests_rejected_total", reason="invalid_argument"),
                         1)
        self.assertEqual(samples.total("moed_calls_total", method="Tokenize", code="OK"), 1)
        self.assertEqual(samples.total("moed_request_duration_seconds_count"),
                         samples.total("moed_requests_total"))

    def test_every_query_of_dashboard_rules_and_alerts_runs_on_a_loaded_daemon(self):
        stop = threading.Event()
        loaders = [threading.Thread(target=self.load, args=(stop,)) for _ in range(3)]
        for loader in loaders:
            loader.start()
        unanswered = dashboard_queries()

        def ask():
            unanswered[:] = [query for query in unanswered if not self.has_data(query)]
            return not unanswered
        try:
            wait_until(ask, unanswered)
        finally:
            stop.set()
            for loader in loaders:
                loader.join()
        self.check_rules()
        self.check_totals()

    def load(self, stop):
        while not stop.is_set():
            self.daemon.generation.Generate(request("The dog", stopping={"max_tokens": 30}))
            try:
                self.daemon.generation.Generate(request("", stopping={"max_tokens": 1}))
            except grpc.RpcError:
                pass

    def has_data(self, query):
        samples = self.prometheus.query(query)
        return any(math.isfinite(value) for _, value in samples) or WITHOUT_DATA in query

    def check_rules(self):
        groups = wait_until(self.evaluated_rules, "all rules to have been evaluated")
        rules = [rule for group in groups for rule in group["rules"]]
        kinds = collections.Counter(rule["type"] for rule in rules)
        self.assertGreaterEqual(kinds["alerting"], 15)
        self.assertGreaterEqual(kinds["recording"], 5)
        for rule in rules:
            self.assertEqual((rule["health"], rule.get("lastError", "")), ("ok", ""), rule["name"])
            self.prometheus.query(rule["query"])
            if rule["type"] == "recording":
                wait_until(lambda rule=rule: self.prometheus.query(rule["name"]), rule["name"])
        firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
        self.assertEqual(firing, [], "a daemon under even load fires alerts")

    def evaluated_rules(self):
        groups = self.prometheus.get("rules")["groups"]
        unknown = [rule for group in groups for rule in group["rules"]
                   if rule["health"] == "unknown"]
        return None if unknown else groups

    def check_totals(self):
        samples = self.quiet()
        page = {str(layer): samples.total("moed_expert_tokens_total", layer=str(layer))
                for layer in range(LAYERS)}
        self.assertGreater(page["0"], 0)

        def scraped():
            found = self.prometheus.query("sum by (layer) (moed_expert_tokens_total)")
            return {labels["layer"]: value for labels, value in found} == page
        wait_until(scraped, f"Prometheus to have {page}")


def dashboard_queries():
    with open(os.path.join(SOURCE_DIR, "deploy", "grafana", "moed_experts.json")) as file:
        dashboard = json.load(file)
    queries = [target["expr"] for panel in dashboard["panels"]
               for target in panel.get("targets", [])]
    assert len(queries) > 40, queries
    for variable in ("instance", "layer"):
        queries = [query.replace(f"${variable}", ".*") for query in queries]
    queries = [query.replace("$__rate_interval", "10s") for query in queries]
    assert not any("$" in query for query in queries), queries
    return queries


if __name__ == "__main__":
    unittest.main()
