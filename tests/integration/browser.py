"""A headless Chromium, told what to do over the DevTools protocol's pipe."""
import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

PATIENCE_SECONDS = 120
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_browser():
    """The path of one, None where there is none."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class Browser:
    """One page. Use as a context manager."""

    def __init__(self, program, width=1360, height=900):
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._messages, messages = os.pipe()
        # The browser reads commands from descriptor 3 and writes to 4: out of the way first.
        commands_high, messages_high = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10)
                                        for fd in (commands, messages))

        def give_pipes():
            os.dup2(commands_high, 3)
            os.dup2(messages_high, 4)

        self._process = subprocess.Popen(
            [program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
             f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=give_pipes, pass_fds=(3, 4), start_new_session=True)
        for fd in (commands, messages, commands_high, messages_high):
            os.close(fd)
        self._changed = threading.Condition()
        self._answers = {}
        self._ended = False
        self._next_id = 0
        self._session = None
        self.complaints = []  # errors and warnings of the console, failed loads, exceptions
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target,
                                     flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def _read(self):
        rest = b""
        while True:
            piece = os.read(self._messages, 1 << 16)
            if not piece:
                break
            *whole, rest = (rest + piece).split(b"\0")
            for message in map(json.loads, whole):
                with self._changed:
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        self._on_event(message.get("method"), message.get("params", {}))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _on_event(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning",
                                                                         "assert"):
            self.complaints.append(params["args"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"])

    def command(self, method, **params):
        with self._changed:
            self._next_id += 1
            number = self._next_id
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data):]
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._answers or self._ended,
                                          PATIENCE_SECONDS) or number not in self._answers:
                raise AssertionError(f"the browser does not answer {method}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, url):
        """Loads it anew, even where it is open already; returns when it has loaded."""
        for address in ("about:blank", url):
            self.command("Page.navigate", url=address)
            self.wait_for(f"location.href == {json.dumps(address)} && "
                          "document.readyState == 'complete'")

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True,
                              awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression):
        """Until the expression is true."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if self.evaluate(expression):
                return
            time.sleep(0.05)
        raise AssertionError(f"waited {PATIENCE_SECONDS} s for {expression} on the page; "
                             f"complaints: {self.complaints}")

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path):
        data = self.command("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PATIENCE_SECONDS)
        os.close(self._commands)
        os.close(self._messages)
        self._profile.cleanup()
