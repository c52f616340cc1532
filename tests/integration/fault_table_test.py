#!/usr/bin/env python3
"""docs/errors.md: every row of the table of faults is held by tests that exist, and every reason
that a client can be told is explained."""
import os
import re
import unittest

SOURCE_DIR = os.environ["MOED_SOURCE_DIR"]
ROWS = range(1, 35)
# Parts of the product that do not exist yet.
LATER = (7, 22, 23)


def read(*path):
    with open(os.path.join(SOURCE_DIR, *path)) as file:
        return file.read()


def defines(source, test):
    """Whether the file has this test, Suite.Name or test_name."""
    if "." in test:
        suite, name = test.split(".")
        return re.search(rf"\bTEST(_F|_P)?\({suite},\s*{name}\)", source) is not None
    return re.search(rf"^\s+def {test}\(self\)", source, re.MULTILINE) is not None


class FaultTableTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = read("docs", "errors.md")
        cls.rows = {int(number): rest for number, rest in
                    re.findall(r"^\| (\d+) \| (.*) \|$", cls.text, re.MULTILINE)}

    def test_every_row_is_there(self):
        self.assertEqual(list(self.rows), list(ROWS))

    def test_every_row_is_held_or_for_later(self):
        for number, row in self.rows.items():
            if number in LATER:
                self.assertIn("later", row, number)
            else:
                self.assertIn("::", row, number)

    def test_what_is_named_exists(self):
        for number, row in self.rows.items():
            for name in re.findall(r"`((?:\w+/)+\w+\.\w+(?:::[\w.]+)?)`", row):
                path, _, test = name.partition("::")
                with self.subTest(row=number, name=name):
                    source = read("tests", path)
                    if test:
                        self.assertTrue(defines(source, test))

    def test_every_reason_is_explained(self):
        header = read("server", "errors", "error_details.h")
        reasons = re.findall(r'kReason\w+ = "(\w+)"', header)
        self.assertGreater(len(reasons), 5)
        for reason in reasons:
            self.assertRegex(self.text, rf"(?m)^\| `{reason}` \|")


if __name__ == "__main__":
    unittest.main()
