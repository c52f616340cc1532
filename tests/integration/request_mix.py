"""Seeded requests with every parameter that there is, what an answer comes to however it was cut
into messages, and whether part of one fits the whole."""
import collections

from moed.v1 import generation_pb2

OPENINGS = ["Once upon a time", "The king", "A little dog", "In the forest", "Tom said",
            "It was a dark night and", "\"Who are you?\"", "She", "The big red ball", "One day,"]
WORDS = ["the", "and", "was", "dog", "little", "happy", "to play", "said", "big tree"]
STOPS = [" the", ".", "and", " happy", "\n", "She said", "never to be seen"]
VOCABULARY = 2048
# Flags of a daemon that takes all of the requests.
FLAGS = ("--allow-routed-experts", "--max-experts-per-token", "4")


def maybe(rng, probability, value):
    """`value()` or nothing."""
    return value() if rng.random() < probability else None


def some_ids(rng, count):
    return [rng.randrange(3, VOCABULARY) for _ in range(count)]


def shared_prefixes(rng, count):
    """Beginnings that several requests have in common, of up to about 120 tokens."""
    return [" ".join(rng.choice(OPENINGS) for _ in range(rng.randint(4, 24)))
            for _ in range(count)]


def sampling(rng):
    fields = dict(
        temperature=rng.choice([0, 0, 0.7, 1.0, 1.5]), seed=rng.getrandbits(64),
        top_k=maybe(rng, 0.3, lambda: rng.choice([0, 1, 5, 40])),
        top_p=maybe(rng, 0.3, lambda: rng.uniform(0.3, 1)),
        min_p=maybe(rng, 0.2, lambda: rng.uniform(0, 0.2)),
        typical_p=maybe(rng, 0.2, lambda: rng.uniform(0.2, 1)),
        n=maybe(rng, 0.3, lambda: rng.randint(1, 4)),
        presence_penalty=maybe(rng, 0.2, lambda: rng.uniform(-2, 2)),
        frequency_penalty=maybe(rng, 0.2, lambda: rng.uniform(-1, 2)),
        repetition_penalty=maybe(rng, 0.2, lambda: rng.uniform(0.8, 1.6)),
        logit_bias=maybe(rng, 0.15, lambda: {i: rng.uniform(-5, 5) for i in some_ids(rng, 30)}),
        allowed_token_ids=maybe(rng, 0.1, lambda: some_ids(rng, 300)),
        bad_words=maybe(rng, 0.2, lambda: rng.sample(WORDS, 3)))
    return {name: value for name, value in fields.items() if value is not None}


def stopping(rng):
    max_tokens = rng.choice([1, 2, rng.randint(3, 40), rng.randint(40, 100)])
    fields = dict(
        max_tokens=max_tokens, ignore_eos=rng.random() < 0.6,
        min_tokens=maybe(rng, 0.2, lambda: rng.randint(0, max_tokens)),
        stop_strings=maybe(rng, 0.3, lambda: rng.sample(STOPS, rng.randint(1, 3))),
        stop_token_ids=maybe(rng, 0.2, lambda: some_ids(rng, 4)),
        include_stop=maybe(rng, 0.3, lambda: rng.random() < 0.5))
    return {name: value for name, value in fields.items() if value is not None}


def response(rng):
    fields = dict(
        text=True, token_ids=True,
        logprobs=maybe(rng, 0.3, lambda: rng.choice([0, 1, 5, 20])),
        prompt_logprobs=maybe(rng, 0.1, lambda: rng.choice([0, 3, 20])),
        echo=maybe(rng, 0.15, lambda: True),
        skip_special_tokens=maybe(rng, 0.2, lambda: rng.random() < 0.5),
        routed_experts=maybe(rng, 0.1, lambda: True))
    return {name: value for name, value in fields.items() if value is not None}


def make_request(rng, prefixes, long=0.0):
    """What decides the answer: nothing of when and where it is computed. A part `long` of them has
    up to 250 tokens."""
    text = rng.choice(OPENINGS) if rng.random() < 0.3 else rng.choice(prefixes)
    if rng.random() < 0.6:
        text += " " + " ".join(rng.choice(OPENINGS) for _ in range(rng.randint(1, 6)))
    request = generation_pb2.StreamGenerateRequest(
        text=text, sampling=sampling(rng), stopping=stopping(rng), response=response(rng))
    if rng.random() < long:
        request.stopping.max_tokens = rng.randint(100, 250)
        request.sampling.n = min(request.sampling.n or 1, 2)
    if rng.random() < 0.2:
        request.moe.experts_per_token = rng.randint(1, 4)
    return request


def anywhere(rng, request, ranks):
    """The same with a place in the order, a home and a way to use the cache."""
    result = generation_pb2.StreamGenerateRequest()
    result.CopyFrom(request)
    if rng.random() < 0.5:
        result.scheduling.priority = rng.randint(-3, 3)
    if rng.random() < 0.2:
        result.scheduling.home_rank = rng.randrange(ranks)
    result.cache.bypass = rng.random() < 0.1
    result.cache.salt = rng.choice(["", "", "", "other"])
    return result


def as_messages(response):
    """A whole answer as the messages of a stream that was never cut."""
    messages = []
    for c in response.continuations:
        messages.append(generation_pb2.StreamGenerateResponse(
            request_id=response.request_id, sequence=len(messages), index=c.index,
            text_delta=c.text, token_ids=c.token_ids, logprobs=c.logprobs, finish=c.finish,
            prompt=None if messages else response.prompt,
            routed_experts=c.routed_experts if c.HasField("routed_experts") else None))
    return messages


class Whole:
    """An answer, or what there is of it; by index where there are several continuations."""

    def __init__(self, messages):
        self.prompt = [m.prompt for m in messages if m.HasField("prompt")]
        self.texts = collections.defaultdict(str)
        self.lists = collections.defaultdict(list)
        self.finishes = collections.defaultdict(list)
        for m in messages:
            self.texts[m.index] += m.text_delta
            self.lists["ids", m.index] += m.token_ids
            self.lists["logprobs", m.index] += [e.SerializeToString() for e in m.logprobs]
            self.lists["experts", m.index] += m.routed_experts.expert_ids
            if m.HasField("finish"):
                self.finishes[m.index].append(m.finish)

    def outcome(self):
        """All that is to be the same whenever the request is."""
        finishes = {index: [(f.reason, f.stop_string, f.token_id, f.usage.prompt_tokens,
                             f.usage.completion_tokens, f.experts_per_token, f.dropped_pairs)
                            for f in finishes] for index, finishes in self.finishes.items()}
        prompt = [(p.prompt_tokens, [e.SerializeToString() for e in p.prompt_logprobs])
                  for p in self.prompt]
        return (prompt, dict(self.texts), dict(self.lists), finishes)

    def begins(self, other):
        """Whether `other` may go on as this begins."""
        return (all(other.texts[i].startswith(text) for i, text in self.texts.items()) and
                all(other.lists[i][:len(part)] == part for i, part in self.lists.items()))

    def completion_tokens(self):
        return sum(f.usage.completion_tokens for part in self.finishes.values() for f in part)

    def preemptions(self):
        return sum(f.timing.preemptions for part in self.finishes.values() for f in part)
