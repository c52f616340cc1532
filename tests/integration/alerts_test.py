#!/usr/bin/env python3
"""The rules for Prometheus, without one: promtool's tests of them, and that they hold together with
the metrics there are and the flags that their texts name."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

try:
    import yaml
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
if shutil.which("promtool") is None:
    print("skipped: there is no promtool")
    sys.exit(77)

SOURCE_DIR = os.environ["MOED_SOURCE_DIR"]
DEPLOY = os.path.join(SOURCE_DIR, "deploy", "prometheus")
TESTS = sorted(glob.glob(os.path.join(DEPLOY, "tests", "*.yml")))
HISTOGRAM_ENDINGS = re.compile(r"_(bucket|sum|count)$")


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], cwd=DEPLOY, capture_output=True, text=True,
                          timeout=120)


def read(*path):
    with open(os.path.join(SOURCE_DIR, *path)) as file:
        return file.read()


def rules(name):
    groups = yaml.safe_load(read("deploy", "prometheus", name))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metric_names(query):
    return {HISTOGRAM_ENDINGS.sub("", name) for name in re.findall(r"(?<![:\w])moed_\w+(?![:\w])", query)}


class AlertsTest(unittest.TestCase):
    def test_promtool_accepts_configuration_and_rules(self):
        check = promtool("check", "config", "prometheus.yml")
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def test_alerts_fire_when_they_should_and_only_then(self):
        check = promtool("test", "rules", *TESTS)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def test_every_alert_has_a_test_a_severity_and_what_to_do(self):
        tested = "".join(read(path) for path in TESTS)
        for rule in rules("alerts.yml"):
            with self.subTest(rule["alert"]):
                self.assertIn(f'ALERTS{{alertname="{rule["alert"]}", alertstate="firing", severity',
                              tested)
                self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                self.assertTrue(rule["annotations"]["summary"])
                self.assertTrue(rule["annotations"]["runbook"])

    def test_only_metrics_that_exist_are_asked_for(self):
        documented = set(re.findall(r"^\| `(\w+)`", read("docs", "metrics.md"), re.M))
        queries = [rule["expr"] for name in ("rules.yml", "alerts.yml") for rule in rules(name)]
        dashboard = json.loads(read("deploy", "grafana", "moed_experts.json"))
        queries += [target["expr"] for panel in dashboard["panels"]
                    for target in panel.get("targets", [])]
        queries += [variable["query"]["query"] for variable in dashboard["templating"]["list"]
                    if variable["type"] == "query"]
        recorded = {rule["record"] for rule in rules("rules.yml")}
        for query in queries:
            with self.subTest(query):
                self.assertTrue(metric_names(query) <= documented,
                                metric_names(query) - documented)
                self.assertTrue(set(re.findall(r"\w+:\w+:\w+", query)) <= recorded)

    def test_flags_and_metrics_that_texts_name_exist(self):
        documented = set(re.findall(r"^\| `(\w+)`", read("docs", "metrics.md"), re.M))
        help_text = subprocess.run([os.environ["MOED_BINARY"], "--help"], capture_output=True,
                                   text=True, timeout=60).stdout
        for rule in rules("alerts.yml"):
            text = rule["annotations"]["runbook"]
            with self.subTest(rule["alert"]):
                for flag in re.findall(r"--[a-z-]+", text):
                    self.assertIn(flag, help_text)
                self.assertTrue(metric_names(text) <= documented, metric_names(text))

    def test_panels_do_not_overlap(self):
        taken = {}
        for panel in json.loads(read("deploy", "grafana", "moed_experts.json"))["panels"]:
            grid = panel["gridPos"]
            self.assertLessEqual(grid["x"] + grid["w"], 24, panel["title"])
            for x in range(grid["x"], grid["x"] + grid["w"]):
                for y in range(grid["y"], grid["y"] + grid["h"]):
                    self.assertNotIn((x, y), taken, (panel["title"], taken.get((x, y))))
                    taken[x, y] = panel["title"]


if __name__ == "__main__":
    unittest.main()
