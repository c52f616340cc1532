"""Requests in short, and a daemon whose answers the reference model can check."""
import itertools

import sentencepiece

from daemon import DEMO_MODEL, Daemon
from moed.v1 import generation_pb2

PROMPT = "Once upon a time there was a little girl who"
# Of what the daemon computes in float32 against float64: logarithms of probabilities.
LOGPROB_TOLERANCE = 2e-4
BOS, EOS = 1, 2

tokenizer = sentencepiece.SentencePieceProcessor(f"{DEMO_MODEL}/tokenizer.model")


def encode(text):
    """A prompt's ids."""
    return [BOS] + tokenizer.encode(text)


def exact_daemon(*flags):
    return Daemon("--dtype", "float32", *flags)


def request(prompt=PROMPT, kind=generation_pb2.GenerateRequest, **groups):
    """`prompt`: a text or ids. Token ids are sent back unless `response` says otherwise."""
    groups.setdefault("response", {}).setdefault("token_ids", True)
    fields = {"text": prompt} if isinstance(prompt, str) else {"token_ids": {"ids": prompt}}
    return kind(**fields, **groups)


def ask(daemon, prompt=PROMPT, **groups):
    """The whole answer."""
    return daemon.generation.Generate(request(prompt, **groups))


def one(daemon, prompt=PROMPT, **groups):
    """The only continuation."""
    answer = ask(daemon, prompt, **groups)
    assert len(answer.continuations) == 1, answer
    return answer.continuations[0]


def greedy(daemon, prompt=PROMPT, max_tokens=24, sampling=None, stopping=None, **groups):
    """The ids that are most likely after `sampling`'s changes."""
    return list(one(daemon, prompt, sampling={"temperature": 0, **(sampling or {})},
                    stopping={"max_tokens": max_tokens, "ignore_eos": True, **(stopping or {})},
                    **groups).token_ids)


def first_tokens(daemon, count, prompt=PROMPT, sampling=None, **groups):
    """`count` first tokens: of seeds in order, sixteen of each."""
    seeds = range((count + 15) // 16)
    calls = [daemon.generation.Generate.future(request(
        prompt, sampling={"temperature": 1, **(sampling or {}), "seed": seed, "n": 16},
        stopping={"max_tokens": 1}, **groups)) for seed in seeds]
    draws = [c.token_ids[0] for call in calls for c in call.result().continuations]
    return list(itertools.islice(draws, count))
