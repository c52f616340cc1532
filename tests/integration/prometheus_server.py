"""A real Prometheus that scrapes a daemon as deploy/prometheus says, only faster."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request

import yaml

from daemon import PATIENCE_SECONDS, SOURCE_DIR, wait_until

DEPLOY = os.path.join(SOURCE_DIR, "deploy", "prometheus")


class PrometheusServer:
    """Use as a context manager. `prometheus` must be in the PATH."""

    def __init__(self, target):
        self._directory = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [shutil.which("prometheus"), "--config.file", self._write_config(target),
             "--storage.tsdb.path", os.path.join(self._directory.name, "data"),
             "--web.listen-address", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.log = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            port = wait_until(self._port, "Prometheus's port")
            self._url = f"http://127.0.0.1:{port}"
            wait_until(lambda: any("Server is ready" in line for line in self.log), "Prometheus")
        except BaseException:
            self.process.kill()
            raise

    def _write_config(self, target):
        with open(os.path.join(DEPLOY, "prometheus.yml")) as file:
            config = yaml.safe_load(file)
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [os.path.join(DEPLOY, name) for name in config["rule_files"]]
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [target]}]
        path = os.path.join(self._directory.name, "prometheus.yml")
        with open(path, "w") as file:
            yaml.safe_dump(config, file)
        return path

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def _port(self):
        if self.process.poll() is not None:
            raise AssertionError("Prometheus ended:\n" + "\n".join(self.log))
        for line in self.log:
            match = re.search(r'msg="Listening on" address=127\.0\.0\.1:(\d+)', line)
            if match:
                return match[1]
        return None

    def get(self, path, **parameters):
        """The data of an answer of Prometheus's HTTP API."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression):
        """What the query has now: a list of (labels, value)."""
        return [(sample["metric"], float(sample["value"][1]))
                for sample in self.get("query", query=expression)["result"]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join()
        self.process.stderr.close()
        self._directory.cleanup()
