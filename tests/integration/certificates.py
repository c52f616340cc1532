"""Certificates made for a test by the openssl command; no key is kept in the repository."""
import os
import subprocess

EXTENSIONS = "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n"


def _openssl(*arguments, text=""):
    subprocess.run(["openssl", *arguments], input=text, check=True, capture_output=True, text=True)


def _new_key(path):
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory, name):
        self._directory = directory
        self.name = name
        self.certificate = os.path.join(directory, f"{name}.pem")
        self._key = os.path.join(directory, f"{name}.key")
        _new_key(self._key)
        _openssl("req", "-x509", "-key", self._key, "-subj", f"/CN={name}", "-days", "2",
                 "-out", self.certificate)

    def issue(self, name, days=2):
        """Certificate and key as bytes, for localhost; with negative days one that has expired."""
        paths = {kind: os.path.join(self._directory, f"{name}.{kind}")
                 for kind in ("key", "request", "extensions", "pem")}
        _new_key(paths["key"])
        _openssl("req", "-new", "-key", paths["key"], "-subj", f"/CN={name}",
                 "-out", paths["request"])
        with open(paths["extensions"], "w") as file:
            file.write(EXTENSIONS)
        _openssl("x509", "-req", "-in", paths["request"], "-CA", self.certificate,
                 "-CAkey", self._key, "-CAcreateserial", "-days", str(days),
                 "-extfile", paths["extensions"], "-out", paths["pem"])
        return read(paths["pem"]), read(paths["key"])


def read(path):
    with open(path, "rb") as file:
        return file.read()


def replace(path, content):
    """Whoever reads `path` sees the old content or the new."""
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.rename(path + ".new", path)
