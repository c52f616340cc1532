#!/usr/bin/env python3
"""What the front end alone can do: the daemon without a model, and a client beside it.

    tests/bench/front_end_bench.py [--build build/release] [--runs 5] [--json FILE]

Two tables. Throughput: streamed tokens per second of 1 to 1,000 streams, from steps that take no
time, and from steps of 10 ms, in which 1,000 streams are 100,000 tokens a second. Neighbours: how
much longer the time between two messages of a stream gets while 50 readers do not read, and while
both metric pages are scraped 20 times a second. Runs take turns, what is told are medians; a
machine that does something else makes all of it slower, hence its load.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

SOURCE_DIR = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOAL_TOKENS_PER_SECOND = 100_000
STEP_SECONDS = 0.01
SCRAPES_PER_SECOND = 20
PAGES = ("/metrics", "/metrics/experts")


class Daemon:
    """moed --model null, on ports of its own choice."""

    def __init__(self, binary, *flags):
        self._directory = tempfile.TemporaryDirectory()
        port_file = os.path.join(self._directory.name, "ports")
        self.process = subprocess.Popen(
            [binary, "--model", "null", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
             "--port-file", port_file, "--max-sequences", "1000", "--max-batched-tokens", "1024",
             "--log-level", "error", *flags], stdin=subprocess.DEVNULL)
        try:
            while not os.path.exists(port_file):
                if self.process.poll() is not None:
                    raise SystemExit(f"the daemon ended with {self.process.returncode}")
                time.sleep(0.01)
            with open(port_file) as file:
                port, admin_port = file.read().split()
            self.address = f"127.0.0.1:{port}"
            self.admin = f"http://127.0.0.1:{admin_port}"
            while not self.is_ready():
                time.sleep(0.01)
        except BaseException:
            self.process.kill()
            raise

    def is_ready(self):
        try:
            return urllib.request.urlopen(self.admin + "/readyz").status == 200
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self._directory.cleanup()


class Scraper:
    """Reads the metric pages as often as a gateway might."""

    def __init__(self, daemon):
        self._daemon = daemon
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0

    def _run(self):
        due = time.monotonic()
        while not self._stop.is_set():
            for page in PAGES:
                with urllib.request.urlopen(self._daemon.admin + page) as answer:
                    answer.read()
                self.count += 1
            due += 1 / SCRAPES_PER_SECOND
            self._stop.wait(max(0, due - time.monotonic()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


class Stalled:
    """Clients, in a process of their own, that ask and never read."""

    def __init__(self, binary, daemon, streams):
        self._command = [binary, "--server", daemon.address, "--streams", str(streams), "--stall",
                         "5", "--duration", "3600", "--tokens", "30000"]

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


class Bench:
    def __init__(self, arguments):
        self.moed = os.path.join(arguments.build, "server", "moed")
        self.client = os.path.join(arguments.build, "tests", "bench", "stream_load")
        self.runs = arguments.runs
        self.seconds = arguments.seconds
        self.report = {"load_before": os.getloadavg()[0], "processors": os.cpu_count()}

    def load(self, daemon, streams, tokens, duration=0):
        command = [self.client, "--server", daemon.address, "--streams", str(streams), "--tokens",
                   str(tokens), "--duration", str(duration), "--daemon-pid",
                   str(daemon.process.pid)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    @staticmethod
    def medians(results):
        """Of each figure over the runs."""
        first = results[0]
        if isinstance(first, dict):
            return {key: Bench.medians([result[key] for result in results]) for key in first}
        return first if isinstance(first, str) else statistics.median(results)

    def throughput(self, step_seconds):
        sizes = (1, 10, 100, 1000)
        results = {streams: [] for streams in sizes}
        with Daemon(self.moed, "--null-step-time", str(step_seconds)) as daemon:
            for _ in range(self.runs):
                for streams in sizes:
                    results[streams].append(self.load(daemon, streams, 400, self.seconds))
        print(f"\nSteps of {step_seconds * 1000:g} ms; goal {GOAL_TOKENS_PER_SECOND:,} tokens/s")
        print("streams   tokens/s  messages/s  tokens/  us CPU per message    ms between      "
              "ms to first\n"
              "                                  message   daemon  client     p50     p99     "
              "p50     p99")
        table = []
        for streams in sizes:
            r = self.medians(results[streams])
            between, first = r["between_messages_seconds"], r["first_message_seconds"]
            print(f"{streams:7} {r['tokens_per_second']:10,.0f} {r['messages_per_second']:11,.0f} "
                  f"{r['tokens'] / r['messages']:8.2f} "
                  f"{1e6 * r['daemon_cpu_seconds'] / r['messages']:8.1f} "
                  f"{1e6 * r['client_cpu_seconds'] / r['messages']:7.1f} "
                  f"{1e3 * between['p50']:7.2f} {1e3 * between['p99']:7.2f} "
                  f"{1e3 * first['p50']:7.1f} {1e3 * first['p99']:7.1f}", flush=True)
            table.append(r)
        return table

    def neighbours(self):
        """The same load alone, beside readers that do not read, and beside scrapes, in turns."""
        kinds = ("alone", "50 stalled readers", "20 Hz scrapes", "alone again")
        results = {kind: [] for kind in kinds}
        scrapes = 0
        with Daemon(self.moed, "--null-step-time", str(STEP_SECONDS)) as daemon:
            for _ in range(self.runs):
                for kind in kinds:
                    def load():
                        results[kind].append(self.load(daemon, 100, 100, self.seconds))
                    if kind == "50 stalled readers":
                        with Stalled(self.client, daemon, 50):
                            load()
                    elif kind == "20 Hz scrapes":
                        with Scraper(daemon) as scraper:
                            load()
                        scrapes += scraper.count
                    else:
                        load()
        print(f"\n100 streams, steps of {STEP_SECONDS * 1000:g} ms: ms between two messages; "
              f"ratio to 'alone' of the same turn ({scrapes} pages scraped)")
        table = {}
        for kind in kinds:
            row = {}
            for which in ("p50", "p99"):
                times = [r["between_messages_seconds"][which] for r in results[kind]]
                alone = [r["between_messages_seconds"][which] for r in results["alone"]]
                row[which] = statistics.median(times)
                row[which + "_ratio"] = statistics.median(t / a for t, a in zip(times, alone))
            table[kind] = row
            print(f"{kind:20} p50 {1e3 * row['p50']:7.3f} ({row['p50_ratio']:.3f})   "
                  f"p99 {1e3 * row['p99']:7.3f} ({row['p99_ratio']:.3f})", flush=True)
        return table

    def run(self):
        print(f"load {self.report['load_before']:.2f} on {self.report['processors']} processors, "
              f"{self.runs} runs of {self.seconds} s each")
        self.report["no_step_time"] = self.throughput(0)
        self.report["paced"] = self.throughput(STEP_SECONDS)
        self.report["neighbours"] = self.neighbours()
        self.report["load_after"] = os.getloadavg()[0]
        print(f"\nload {self.report['load_after']:.2f} at the end, this benchmark's own included")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(SOURCE_DIR, "build", "release"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--json", help="write all figures to this file")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    bench.run()
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(bench.report, file, indent=2)


if __name__ == "__main__":
    main()
