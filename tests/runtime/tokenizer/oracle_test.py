#!/usr/bin/python3
"""Compares the tokenizer with Debian's sentencepiece: ids, byte offsets and decoded text.

    oracle_test.py PROBE DEMO_MODEL SHARED_DATA [--seed N] [--cases N]

PROBE is the tokenizer_probe program, DEMO_MODEL the demonstration's tokenizer.model. Besides that
model it builds variants of it (whitespace rules, unused and user-defined pieces, equal scores, no
byte fallback), so that every rule meets the oracle. Where SHARED_DATA has them, Mixtral's tokenizer
and real prompts join in; without them texts are made from the seed alone. Exit status 77 means
skipped, with the reason on stdout.
"""

import argparse
import contextlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

SKIPPED = 77
MAX_BYTES_WITH_OFFSETS = 20000


def skip(reason):
    print("skipped: " + reason)
    sys.exit(SKIPPED)


try:
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as model_pb2
    from sentencepiece import sentencepiece_pb2 as text_pb2
except ImportError as error:
    skip("no sentencepiece for Python: %s" % error)


class Probe:
    """Collects requests, then asks the program for all answers at once."""

    def __init__(self, program, model_path):
        self.command = [program, model_path]
        self.requests = []

    def encode(self, data):
        self.requests.append(b"E" + struct.pack("<I", len(data)) + data)

    def decode(self, ids):
        data = struct.pack("<%di" % len(ids), *ids)
        self.requests.append(b"D" + struct.pack("<I", len(data)) + data)

    def answers(self):
        run = subprocess.run(self.command, input=b"".join(self.requests), capture_output=True)
        if run.returncode != 0:
            sys.exit("probe failed with %d: %s" % (run.returncode, run.stderr.decode()))
        position = 0
        for request in self.requests:
            (count,) = struct.unpack_from("<i", run.stdout, position)
            position += 4
            if count < 0:
                sys.exit("Encode and EncodeWithOffsets differ on %r" % request[5:205])
            if request[:1] == b"E":
                numbers = struct.unpack_from("<%di" % (3 * count), run.stdout, position)
                position += 12 * count
                yield list(zip(numbers[0::3], numbers[1::3], numbers[2::3]))
            else:
                yield run.stdout[position : position + count]
                position += count


@contextlib.contextmanager
def quiet_stderr():
    """libprotobuf prints two lines for each answer that quotes a malformed text."""
    saved = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def oracle_encode(oracle, data):
    """[(id, begin, end)], for a long text [id]."""
    if len(data) > MAX_BYTES_WITH_OFFSETS:
        return oracle.encode(data)
    text = text_pb2.SentencePieceText()
    text.ParseFromString(oracle.encode_as_serialized_proto(data))
    return [(piece.id, piece.begin, piece.end) for piece in text.pieces]


def compare(name, program, model_path, texts, id_lists):
    oracle = sentencepiece.SentencePieceProcessor(model_file=model_path)
    probe = Probe(program, model_path)
    for data in texts:
        probe.encode(data)
    for ids in id_lists:
        probe.decode(ids)
    answers = probe.answers()
    failures = 0
    num_tokens = 0
    with quiet_stderr():
        all_expected = [oracle_encode(oracle, data) for data in texts]
    for data, expected in zip(texts, all_expected):
        found = next(answers)
        if len(data) > MAX_BYTES_WITH_OFFSETS:
            found = [token[0] for token in found]
        num_tokens += len(expected)
        if expected != found:
            failures += 1
            if failures <= 5:
                report(name, "encode", data[:200], expected, found)
    for ids in id_lists:
        expected, found = oracle.decode(ids).encode(), next(answers)
        if expected != found:
            failures += 1
            if failures <= 5:
                report(name, "decode", ids[:60], [expected], [found])
    print(
        "%-28s %6d texts, %8d tokens, %6d decodes, %d differences"
        % (name, len(texts), num_tokens, len(id_lists), failures)
    )
    return failures


def report(name, what, case, expected, found):
    first = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), "length")
    print("%s: %s of %r differs at %s" % (name, what, case, first))
    print("  expected %s" % str(expected)[:400])
    print("  found    %s" % str(found)[:400])


def fixed_texts():
    texts = ["", " ", "  ", "a", " a", "a ", "\u2581", "\u2581 \u2581", "<s>", "</s>", "<unk>"]
    texts += ["[INST] <s> </s> [/INST]", "<0x0A>", "\x00", "a\x00b", "\ufeffa", "\ufffd"]
    texts += [" " * n for n in range(2, 70)] + ["a" + " " * n + "b" for n in range(1, 40)]
    texts += ["x" * n for n in (1, 2, 3, 100, 1000)] + ["\n" * n + "\t" * n for n in range(1, 20)]
    return [text.encode() for text in texts] + [
        bytes([first]) + rest for first in range(0x80, 0x100) for rest in (b"", b"\x80", b"a")
    ] + [
        b"\xc0\x80", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf",
        b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xee\x80\x80", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf",
        b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
        b"\xe6\x97", b"\xf0\x9f\x98", b"a\xe6\x97 b", b"\xe6\x97\xa5\xe6", b"\xff\xfe ok \xc3\x28",
    ]


RANGES = [
    (0x20, 0x7F), (0x20, 0x7F), (0x00, 0x20), (0xA0, 0x250), (0x370, 0x530), (0x590, 0x700),
    (0x900, 0xE80), (0x2000, 0x2070), (0x2500, 0x2600), (0x3040, 0x3100), (0x4E00, 0xA000),
    (0xAC00, 0xD7A4), (0xE000, 0xE010), (0xFF00, 0xFFF0), (0x1F300, 0x1FA00), (0x10000, 0x110000),
]


def random_text(rng, words):
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.35:
            low, high = rng.choice(RANGES)
            parts.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 8))))
        elif kind < 0.75:
            parts.append(rng.choice(words))
        elif kind < 0.85:
            parts.append(" " * rng.randint(1, 9))
        else:
            parts.append(rng.choice("\n\t.,;:!?0123456789aeinst\u2581"))
        if rng.random() < 0.4:
            parts.append(" ")
    return "".join(parts).encode("utf-8", "surrogatepass")


def random_bytes(rng, words):
    data = bytearray(random_text(rng, words))
    for _ in range(rng.randint(1, 6)):
        data.insert(rng.randrange(len(data) + 1), rng.randrange(0x80, 0x100))
        if len(data) > 2 and rng.random() < 0.5:
            del data[rng.randrange(len(data))]
    return bytes(data)


def random_id_lists(rng, model, count):
    by_type = {}
    for i, piece in enumerate(model.pieces):
        by_type.setdefault(piece.type, []).append(i)
    byte_ids = by_type.get(model_pb2.ModelProto.SentencePiece.BYTE)
    types = list(by_type)
    lists = []
    for _ in range(count):
        ids = []
        while len(ids) < rng.randint(1, 24):
            kind = rng.random()
            if kind < 0.3 and byte_ids:
                low, high = rng.choice([(0x80, 0xD800), (0x10000, 0x110000)])
                cut = chr(rng.randrange(low, high)).encode()[: rng.randint(1, 4)]
                ids += [byte_ids[byte] for byte in cut]
            elif kind < 0.5:
                ids.append(rng.choice(by_type[rng.choice(types)]))
            else:
                ids.append(rng.randrange(len(model.pieces)))
        lists.append(ids)
    return lists


def variants(base):
    """Yields (name, model) for rules that the real models do not use."""
    piece_type = model_pb2.ModelProto.SentencePiece

    def edited(name, edit):
        model = model_pb2.ModelProto()
        model.CopyFrom(base)
        edit(model, random.Random(name))
        return name, model

    def whitespace(dummy, extra):
        def edit(model, _):
            model.normalizer_spec.add_dummy_prefix = dummy
            model.normalizer_spec.remove_extra_whitespaces = extra
        return edit

    def unused(model, rng):
        for piece in model.pieces:
            if piece.type == piece_type.NORMAL and rng.random() < 0.3:
                piece.type = piece_type.UNUSED

    def user_defined(model, rng):
        texts = {piece.piece for piece in model.pieces}
        for text in ("[INST]", "[INST", "the", "th", "a b", " x", "\u2581\u2581", "\u65e5\u672c", "e"):
            if text not in texts:
                model.pieces.add(piece=text, score=0, type=piece_type.USER_DEFINED)
        for piece in model.pieces:
            if piece.type == piece_type.NORMAL and rng.random() < 0.02:
                piece.type = piece_type.USER_DEFINED

    def equal_scores(model, rng):
        for piece in model.pieces:
            if piece.type == piece_type.NORMAL:
                piece.score = -float(rng.randrange(4))

    def no_fallback(model, _):
        kept = [piece for piece in model.pieces if piece.type != piece_type.BYTE]
        del model.pieces[:]
        model.pieces.extend(kept)
        model.trainer_spec.byte_fallback = False
        model.trainer_spec.unk_surface = "<?>"

    def mixed(model, rng):
        unused(model, rng)
        user_defined(model, rng)
        equal_scores(model, rng)
        whitespace(True, True)(model, rng)

    yield edited("no dummy prefix", whitespace(False, False))
    yield edited("extra whitespace removed", whitespace(True, True))
    yield edited("bare whitespace removed", whitespace(False, True))
    yield edited("unused pieces", unused)
    yield edited("user-defined pieces", user_defined)
    yield edited("equal scores", equal_scores)
    yield edited("no byte fallback", no_fallback)
    yield edited("mixed", mixed)


def prompt_texts(shared):
    texts = []
    for name in sorted(os.listdir(os.path.join(shared, "prompts"))):
        with open(os.path.join(shared, "prompts", name), encoding="utf-8") as lines:
            for line in lines:
                stack = [json.loads(line)]
                while stack:
                    value = stack.pop()
                    if isinstance(value, str):
                        texts.append(value)
                    elif isinstance(value, dict):
                        stack.extend(value.values())
                    elif isinstance(value, list):
                        stack.extend(value)
    return texts


def long_texts(rng, prompts):
    joined = "".join("".join(prompts).split())
    million = (joined * (1000000 // len(joined) + 1))[:1000000]
    noise = "".join(chr(rng.randrange(0x21, 0x7F)) for _ in range(1000000))
    return [million.encode(), noise.encode(), b"a" * 1000000, b" " * 300000, b"\xff" * 100000]


def made_words(rng, model, count):
    """Words as they might stand in a text: pieces of the model in a row."""
    normal = [piece.piece for piece in model.pieces
              if piece.type == model_pb2.ModelProto.SentencePiece.NORMAL]
    return [
        "".join(rng.choices(normal, k=rng.randint(1, 4))).replace("\u2581", " ")
        for _ in range(count)
    ]


def read_model(path):
    model = model_pb2.ModelProto()
    with open(path, "rb") as data:
        model.ParseFromString(data.read())
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probe")
    parser.add_argument("demo_model")
    parser.add_argument("shared_data")
    parser.add_argument("--seed", type=int, default=20240607)
    parser.add_argument("--cases", type=int, default=3000)
    options = parser.parse_args()

    rng = random.Random(options.seed)
    print("seed %d" % options.seed)
    mistral = os.path.join(options.shared_data, "tokenizers/mistral-v1")
    has_shared_data = os.path.exists(mistral) and os.path.exists(
        os.path.join(options.shared_data, "prompts")
    )
    demo_model = read_model(options.demo_model)
    awkward = []
    if has_shared_data:
        prompts = prompt_texts(options.shared_data)
        words = [word for text in prompts for word in text.split()]
        with open(os.path.join(mistral, "encode_cases.json"), encoding="utf-8") as cases:
            awkward = [case["text"].encode() for case in json.load(cases)]
    else:
        print("without Mixtral's tokenizer and real prompts: none at %s" % options.shared_data)
        words = made_words(rng, demo_model, 5000)
        prompts = [" ".join(rng.choices(words, k=rng.randint(1, 200))) for _ in range(300)]
    common = fixed_texts() + awkward
    whole_prompts = [text.encode() for text in prompts]

    def seeded(count):
        return [random_text(rng, words) for _ in range(count)] + [
            random_bytes(rng, words) for _ in range(count // 2)
        ]

    failures = 0
    real = [("demo", options.demo_model, [] if has_shared_data else long_texts(rng, prompts))]
    if has_shared_data:
        path = os.path.join(mistral, "tokenizer.model")
        real.append(("mistral-v1", path, long_texts(rng, prompts)))
    for name, path, more in real:
        model = read_model(path)
        texts = common + whole_prompts + seeded(options.cases) + more
        ids = random_id_lists(rng, model, options.cases)
        failures += compare(name, options.probe, path, texts, ids)
    with tempfile.TemporaryDirectory() as folder:
        for name, model in variants(demo_model):
            path = os.path.join(folder, "variant.model")
            with open(path, "wb") as data:
                data.write(model.SerializeToString())
            texts = common + rng.sample(whole_prompts, 150) + seeded(options.cases // 3)
            ids = random_id_lists(rng, model, options.cases // 3)
            failures += compare(name, options.probe, path, texts, ids)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
