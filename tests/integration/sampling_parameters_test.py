#!/usr/bin/env python3
"""Each field of SamplingParams against a computation of its own: the demonstration model in NumPy
(reference_model.py) and the rules written down a second time (reference_sampling.py)."""
import unittest

from asking import EOS, PROMPT, ask, encode, exact_daemon, first_tokens, greedy, one, tokenizer
import numpy as np
from reference_model import reference_model
from reference_sampling import adjusted, chi_square, forbidden_by, probabilities

DRAWS = 2000
# Two logits closer than this may be told apart differently by float32 and float64.
TIE = 2e-3


class SamplingParametersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = exact_daemon("--ranks", "2")
        cls.prompt = encode(PROMPT)
        cls.logits = reference_model().forward(cls.prompt).logits[-1]

    @classmethod
    def tearDownClass(cls):
        cls.daemon.__exit__()

    def logits_after(self, drawn):
        """[len(drawn), vocab]: what each token was drawn from."""
        logits = reference_model().forward(self.prompt + drawn[:-1]).logits
        return logits[len(self.prompt) - 1:]

    def assert_drawn_from(self, expected, draws, what):
        outside = [t for t in draws if expected[t] == 0]
        self.assertEqual(outside, [], f"{what}: drawn, but must not be")
        statistic, limit = chi_square(draws, expected)
        self.assertLessEqual(statistic, limit, what)

    def assert_not_drawn_from(self, other, draws, what):
        """The test can tell the difference."""
        statistic, limit = chi_square(draws, other)
        self.assertTrue(statistic > limit or any(other[t] == 0 for t in draws), what)

    def assert_most_likely(self, rows, drawn, what):
        """Each token is the largest of its row, as far as float32 can tell."""
        for position, (row, token) in enumerate(zip(rows, drawn)):
            self.assertGreater(row[token], row.max() - TIE,
                               f"{what}: token {position} is {token}, not {row.argmax()}")

    def check_distribution(self, what, sampling, row=None, **cuts):
        """Draws are from `cuts` of the row, and not from the whole."""
        row = self.logits if row is None else row
        draws = first_tokens(self.daemon, DRAWS, sampling=sampling)
        self.assert_drawn_from(probabilities(row, **cuts), draws, what)
        self.assert_not_drawn_from(probabilities(self.logits), draws, what)

    # --- drawing ---------------------------------------------------------------------------------

    def test_temperature_1_draws_from_the_models_distribution(self):
        draws = first_tokens(self.daemon, DRAWS)
        self.assert_drawn_from(probabilities(self.logits), draws, "temperature 1")
        self.assert_not_drawn_from(probabilities(self.logits, temperature=1.3), draws, "as 1.3")

    def test_temperature_divides_the_logits(self):
        for temperature in (0.6, 1.8):
            self.check_distribution(f"temperature {temperature}", {"temperature": temperature},
                                    temperature=temperature)

    def test_temperature_0_takes_the_most_likely_token(self):
        drawn = greedy(self.daemon, max_tokens=48)
        self.assert_most_likely(self.logits_after(drawn), drawn, "greedy")
        # What cuts the distribution leaves its largest part.
        cut = {"top_k": 3, "top_p": 0.1, "min_p": 0.9, "typical_p": 0.2, "seed": 9}
        self.assertEqual(greedy(self.daemon, max_tokens=48, sampling=cut), drawn)

    def test_top_k(self):
        for top_k in (1, 5):
            self.check_distribution(f"top_k {top_k}", {"top_k": top_k}, top_k=top_k)

    def test_top_p(self):
        sums = np.cumsum(-np.sort(-probabilities(self.logits)))
        for kept in (2, 4):
            # A little less than the sum of `kept` tokens keeps these, a little more one further.
            for near, count in ((0.999, kept), (1.001, kept + 1)):
                top_p = float(sums[kept - 1] * near)
                self.assertEqual((probabilities(self.logits, top_p=top_p) > 0).sum(), count)
                self.check_distribution(f"top_p {top_p}", {"top_p": top_p}, top_p=top_p)

    def test_min_p(self):
        falling = -np.sort(-probabilities(self.logits))
        for kept in (3, 5):
            for near, count in ((0.999, kept), (1.001, kept - 1)):
                min_p = float(falling[kept - 1] / falling[0] * near)
                self.assertEqual((probabilities(self.logits, min_p=min_p) > 0).sum(), count)
                self.check_distribution(f"min_p {min_p}", {"min_p": min_p}, min_p=min_p)

    def test_typical_p(self):
        for typical_p in (0.2, 0.6):
            self.check_distribution(f"typical_p {typical_p}", {"typical_p": typical_p},
                                    typical_p=typical_p)
        # Not the most likely ones: what carries about as much information as is to be expected.
        kept = probabilities(self.logits, typical_p=0.2)
        self.assertEqual(kept[self.logits.argmax()], 0, "choose a prompt that shows the difference")

    def test_seed_draws_the_same_again_and_another_does_not(self):
        def drawn(seed):
            return list(one(self.daemon, sampling={"temperature": 1, "seed": seed},
                            stopping={"max_tokens": 24, "ignore_eos": True}).token_ids)
        self.assertEqual(drawn(5), drawn(5))
        self.assertNotEqual(drawn(5), drawn(6))
        self.assertNotEqual(drawn(5), drawn(5 + 2**63))
        without = [list(one(self.daemon, sampling={"temperature": 1},
                            stopping={"max_tokens": 24, "ignore_eos": True}).token_ids)
                   for _ in range(2)]
        self.assertNotEqual(*without)

    # --- n ---------------------------------------------------------------------------------------

    def test_n_gives_distinct_continuations_of_which_the_first_is_the_only_one_without(self):
        stopping = {"max_tokens": 24, "ignore_eos": True}
        answer = ask(self.daemon, sampling={"temperature": 1, "seed": 7, "n": 16},
                     stopping=stopping)
        self.assertEqual([c.index for c in answer.continuations], list(range(16)))
        drawn = [tuple(c.token_ids) for c in answer.continuations]
        self.assertEqual(len(set(drawn)), 16)
        for n in (1, 3):
            fewer = ask(self.daemon, sampling={"temperature": 1, "seed": 7, "n": n},
                        stopping=stopping)
            self.assertEqual([tuple(c.token_ids) for c in fewer.continuations], drawn[:n])

    def test_n_are_drawn_independently(self):
        # Of each seed the pair (a, b) of two continuations: the table is the product of its sums.
        draws = first_tokens(self.daemon, DRAWS, sampling={"top_k": 3})
        ids = list(np.argsort(-self.logits, kind="stable")[:3])
        first, second = draws[0::16], draws[5::16]
        pairs = [3 * ids.index(a) + ids.index(b) for a, b in zip(first, second)]
        single = probabilities(self.logits, top_k=3)[ids]
        statistic, limit = chi_square(pairs, np.outer(single, single).ravel())
        self.assertLess(statistic, limit)

    def test_n_at_temperature_0_are_equal_and_the_prompt_is_computed_once(self):
        with exact_daemon("--ranks", "1", "--no-prefix-cache") as daemon:
            before = rows_of_layers(daemon)
            answer = ask(daemon, sampling={"temperature": 0, "n": 4},
                         stopping={"max_tokens": 10, "ignore_eos": True})
            drawn = [list(c.token_ids) for c in answer.continuations]
            self.assertEqual(drawn, [drawn[0]] * 4)
            # A continuation's last token is not read; two experts a row.
            rows = len(self.prompt) + 4 * 9
            self.assertEqual([after - b for b, after in zip(before, rows_of_layers(daemon))],
                             [2 * rows] * 4)

    # --- penalties and what may be drawn ---------------------------------------------------------

    def check_greedy(self, what, sampling, max_tokens=48, **changes):
        """The most likely tokens with `changes` to each row, which differ from those without."""
        drawn = greedy(self.daemon, sampling=sampling, max_tokens=max_tokens)
        rows = [adjusted(row, self.prompt, drawn[:i], **changes)
                for i, row in enumerate(self.logits_after(drawn))]
        self.assert_most_likely(rows, drawn, what)
        self.assertNotEqual(drawn, greedy(self.daemon, max_tokens=max_tokens), what)
        return drawn

    def test_presence_penalty(self):
        for penalty in (1.5, -2.0):
            self.check_greedy(f"presence_penalty {penalty}", {"presence_penalty": penalty},
                              presence_penalty=penalty)

    def test_frequency_penalty(self):
        for penalty in (0.7, -0.8):
            self.check_greedy(f"frequency_penalty {penalty}", {"frequency_penalty": penalty},
                              frequency_penalty=penalty)

    def test_repetition_penalty(self):
        for penalty in (1.4, 0.8):
            self.check_greedy(f"repetition_penalty {penalty}", {"repetition_penalty": penalty},
                              repetition_penalty=penalty)

    def test_repetition_penalty_looks_at_the_prompt(self):
        prompt = encode("the king the king the king the king the king the")
        logits = reference_model().forward(prompt).logits[-1]
        row = adjusted(logits, prompt, repetition_penalty=3.0)
        self.assertNotEqual(row.argmax(), logits.argmax())
        drawn = greedy(self.daemon, prompt, 1, sampling={"repetition_penalty": 3.0})
        self.assert_most_likely([row], drawn, "repetition_penalty 3 of the prompt")
        # The other two look at the continuation only.
        plain = greedy(self.daemon, prompt, 1)
        for field in ("presence_penalty", "frequency_penalty"):
            self.assertEqual(greedy(self.daemon, prompt, 1, sampling={field: 2.0}), plain)

    def test_repetition_penalty_multiplies_what_is_negative(self):
        least = np.argsort(self.logits)
        seen = [int(t) for t in least if t in self.prompt and self.logits[t] < 0][:4]
        self.assertGreater(len(seen), 1, "choose a prompt that has unlikely tokens")
        middle = self.logits[seen].mean()
        unseen = [int(t) for t in np.argsort(np.abs(self.logits - middle))
                  if t not in self.prompt and self.logits[t] < 0][:4]
        row = adjusted(self.logits, self.prompt, repetition_penalty=1.7, allowed=seen + unseen)
        draws = first_tokens(self.daemon, DRAWS, sampling={
            "allowed_token_ids": seen + unseen, "repetition_penalty": 1.7})
        self.assert_drawn_from(probabilities(row), draws, "negative logits")
        divided = adjusted(self.logits, allowed=seen + unseen)
        divided[seen] /= 1.7
        self.assert_not_drawn_from(probabilities(divided), draws, "divided")

    def test_logit_bias_is_added(self):
        best = [int(t) for t in np.argsort(-self.logits)[:8]]
        bias = {best[0]: -3.5, best[4]: 1.25, best[7]: 2.0}
        self.check_distribution("logit_bias", {"logit_bias": bias},
                                row=adjusted(self.logits, logit_bias=bias))
        self.check_greedy("logit_bias", {"logit_bias": bias}, logit_bias=bias)

    def test_logit_bias_of_100_decides(self):
        self.assertEqual(greedy(self.daemon, max_tokens=6, sampling={"logit_bias": {777: 100}}),
                         [777] * 6)

    def test_allowed_token_ids(self):
        best = [int(t) for t in np.argsort(-self.logits)[:40]]
        allowed = best[1::4]
        row = adjusted(self.logits, allowed=allowed)
        self.check_distribution("allowed_token_ids",
                                {"allowed_token_ids": allowed[::-1] + allowed[:2]}, row=row)
        self.check_greedy("allowed_token_ids", {"allowed_token_ids": allowed}, allowed=allowed)

    def words_of(self, drawn):
        """Words of a continuation that are spelled in at least two tokens."""
        text = tokenizer.decode(drawn)
        return [word for word in text.replace(".", " ").replace(",", " ").split()
                if len(tokenizer.encode(word)) > 1 and word.isalpha()]

    def test_bad_words_of_one_and_of_several_tokens(self):
        plain = greedy(self.daemon, max_tokens=64)
        long_word = self.words_of(plain)[0]
        short_word = next(word for word in tokenizer.decode(plain).split()
                          if len(tokenizer.encode(word)) == 1)
        for words in ([long_word], [short_word], [long_word, short_word]):
            drawn = greedy(self.daemon, max_tokens=64, sampling={"bad_words": words})
            # At the beginning of a word, and inside one: the ids that follow a foreign character.
            ids = [tokenizer.encode(word) for word in words]
            ids += [tokenizer.encode("\x01" + word)[2:] for word in words]
            rows = [adjusted(row, suppressed=forbidden_by(ids, drawn[:i]))
                    for i, row in enumerate(self.logits_after(drawn))]
            self.assert_most_likely(rows, drawn, f"bad_words {words}")
            self.assertNotEqual(drawn, plain)
            for word in words:
                self.assertNotIn(f" {word} ", f" {tokenizer.decode(drawn)} ")

    # --- order -----------------------------------------------------------------------------------

    def test_all_at_once_apply_in_the_documented_order(self):
        best = [int(t) for t in np.argsort(-self.logits)]
        old = max(self.prompt, key=lambda token: self.logits[token])
        # After the penalty this one of the prompt's is about as likely as the best.
        bias = {best[0]: -1.0, best[1]: -0.5, best[9]: 2.5,
                old: float(1.6 * self.logits[best[1]] - self.logits[old])}
        allowed = best[:60] + self.prompt
        word = tokenizer.id_to_piece(best[2]).replace("\u2581", "")
        ids = [tokenizer.encode(word), tokenizer.encode("\x01" + word)[2:]]
        row = adjusted(self.logits, self.prompt, logit_bias=bias, repetition_penalty=1.6,
                       allowed=allowed, suppressed=forbidden_by(ids, []))
        cuts = {"temperature": 1.4, "top_k": 25, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.8}
        draws = first_tokens(self.daemon, DRAWS, sampling={
            "logit_bias": bias, "allowed_token_ids": allowed, "bad_words": [word],
            "repetition_penalty": 1.6, "presence_penalty": 1.0, "frequency_penalty": 1.0, **cuts})
        self.assert_drawn_from(probabilities(row, **cuts), draws, "all at once")
        # Were the bias added after the penalty, the prompt's token would be more likely.
        other = adjusted(self.logits, self.prompt, repetition_penalty=1.6, allowed=allowed,
                         suppressed=forbidden_by(ids, []))
        for token, value in bias.items():
            other[token] += value
        self.assert_not_drawn_from(probabilities(other, **cuts), draws, "the bias last")
        # Were the temperature applied after the cuts, more would be cut.
        late = probabilities(row, **{**cuts, "temperature": 1.0}) ** (1 / 1.4)
        self.assert_not_drawn_from(late / late.sum(), draws, "the temperature last")

    def test_penalties_apply_in_the_documented_order(self):
        changes = {"repetition_penalty": 1.2, "frequency_penalty": 0.4, "presence_penalty": 0.6,
                   "logit_bias": {EOS: -4.0, self.prompt[2]: 3.0}}
        self.check_greedy("all penalties", changes, **changes)


def rows_of_layers(daemon):
    from moed.v1 import experts_pb2
    load = daemon.experts.GetExpertLoad(experts_pb2.GetExpertLoadRequest())
    return [sum(layer.tokens) for layer in load.layers]


if __name__ == "__main__":
    unittest.main()
