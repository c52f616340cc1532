"""Reads the files of deploy/: the few parts of Dockerfile, kustomize and systemd that they use."""
import configparser
import json
import os
import re
import shlex

import yaml

SOURCE_DIR = os.environ["MOED_SOURCE_DIR"]
DEPLOY = os.path.join(SOURCE_DIR, "deploy")
KUBERNETES = os.path.join(DEPLOY, "kubernetes")


def read(*path):
    with open(os.path.join(*path)) as file:
        return file.read()


def documents(path):
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(read(path)) if document is not None]


def merge(base, patch):
    """Strategic merge, as far as our patches go: mappings merge, lists of named things merge by
    name, everything else is replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: merge(base[key], value) if key in base else value
                           for key, value in patch.items()}}
    if _is_named(base) and _is_named(patch):
        merged = {item["name"]: item for item in base}
        for item in patch:
            merged[item["name"]] = merge(merged.get(item["name"], {}), item)
        return list(merged.values())
    return patch


def _is_named(value):
    return isinstance(value, list) and bool(value) and \
        all(isinstance(item, dict) and "name" in item for item in value)


class Kustomization:
    """A folder with a kustomization.yaml, what it refers to read and patches applied."""

    def __init__(self, folder):
        self.folder = folder
        self.document, = documents(os.path.join(folder, "kustomization.yaml"))
        self.config_files = {}  # name of the map: {key: text}
        self.resources = {}     # (kind, name): document
        for entry in self.document.get("resources", []):
            path = os.path.normpath(os.path.join(folder, entry))
            if os.path.isdir(path):
                base = Kustomization(path)
                self.resources.update(base.resources)
                self.config_files.update(base.config_files)
            else:
                for document in documents(path):
                    self.resources[document["kind"], document["metadata"]["name"]] = document
        for patch in self.document.get("patches", []):
            for document in documents(os.path.join(folder, patch["path"])):
                key = document["kind"], document["metadata"]["name"]
                self.resources[key] = merge(self.resources[key], document)
        for generator in self.document.get("configMapGenerator", []):
            self.config_files[generator["name"]] = {
                name: read(folder, name) for name in generator["files"]}

    def one(self, kind, name="moed"):
        return self.resources[kind, name]

    @property
    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self):
        container, = self.pod["containers"]
        return container


class Stage:
    """FROM ... AS name, and the instructions up to the next one."""

    def __init__(self, base, name):
        self.base, self.name, self.instructions = base, name, []

    def all(self, instruction):
        return [value for name, value in self.instructions if name == instruction]

    def command(self, instruction):
        """The words of the last one, which must be in the form that no shell reads."""
        return json.loads(self.all(instruction)[-1])


def dockerfile(path):
    """The stages in their order."""
    stages = []
    text = re.sub(r"^\s*#.*\n", "", read(path), flags=re.M).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        instruction, value = line.strip().split(None, 1)
        if instruction == "FROM":
            base, _, name = value.split()
            stages.append(Stage(base, name))
        else:
            stages[-1].instructions.append((instruction, value))
    return stages


def unit(path):
    """Sections of a systemd unit; an option that comes again is a list."""
    class Lists(dict):
        def __setitem__(self, key, value):
            if key in self and isinstance(value, list):
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Lists, comment_prefixes=("#", ";"))
    parser.optionxform = str
    parser.read_string(read(path))
    return parser


def seconds(text):
    """A time as systemd writes it: "90", "30min"."""
    number, suffix = re.fullmatch(r"(\d+)(s|min|h)?", text).groups()
    return int(number) * {None: 1, "s": 1, "min": 60, "h": 3600}[suffix]


def words(text):
    return shlex.split(text)
