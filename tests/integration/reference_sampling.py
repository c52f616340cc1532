"""How a row of logits becomes a token, written down a second time, with what tells two
distributions apart. Sources are those of docs/sampling.md; nothing is shared with the program."""
import math

import numpy as np


def adjusted(logits, prompt=(), drawn=(), logit_bias=None, repetition_penalty=1.0,
             frequency_penalty=0.0, presence_penalty=0.0, allowed=None, suppressed=()):
    """Steps 1 to 4: a row of logits, -inf for what may not be drawn."""
    row = np.array(logits, dtype=np.float64)
    for token, bias in (logit_bias or {}).items():
        row[token] += bias
    for token in set(prompt) | set(drawn):
        row[token] = row[token] / repetition_penalty if row[token] > 0 \
            else row[token] * repetition_penalty
    for token in set(drawn):
        row[token] -= frequency_penalty * list(drawn).count(token) + presence_penalty
    if allowed is not None:
        row[[t for t in range(len(row)) if t not in set(allowed)]] = -np.inf
    row[list(suppressed)] = -np.inf
    return row


def forbidden_by(bad_words, drawn):
    """Last ids of the words (lists of ids) whose other ids have just been drawn."""
    drawn = list(drawn)
    return {word[-1] for word in bad_words
            if len(word) == 1 or drawn[-(len(word) - 1):] == list(word[:-1])}


def probabilities(row, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0):
    """Step 5: the probability of each token."""
    scaled = row / temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()

    def keep(tokens):
        nonlocal weights
        kept = np.zeros_like(weights)
        kept[tokens] = weights[tokens]
        weights = kept / kept.sum()

    def until(order, total):
        """The tokens in this order up to the one with which the sum reaches `total`."""
        sums = np.cumsum(weights[order])
        return order[:int(np.searchsorted(sums, total)) + 1]

    def falling():
        order = np.argsort(-weights, kind="stable")
        return order[weights[order] > 0]

    if top_k > 0:
        keep(falling()[:top_k])
    if top_p < 1:
        keep(until(falling(), top_p))
    if min_p > 0:
        keep(np.nonzero(weights >= min_p * weights.max())[0])
    if typical_p < 1:
        order = falling()
        surprise = -np.log(weights[order])
        entropy = (weights[order] * surprise).sum()
        keep(until(order[np.argsort(np.abs(surprise - entropy), kind="stable")], typical_p))
    return weights


def chi_square(draws, expected):
    """(statistic, limit) of `draws` (tokens) against probabilities; tokens that are to be expected
    fewer than five times are taken together. The limit is passed by chance once in 100,000 times
    (the approximation of Wilson and Hilferty, 1931)."""
    counts = np.bincount(draws, minlength=len(expected)).astype(np.float64)
    means = expected * len(draws)
    often = means >= 5
    observed = np.append(counts[often], counts[~often].sum())
    means = np.append(means[often], means[~often].sum())
    if means[-1] < 5:  # too rare to be a bin of its own
        rest = means[-1]
        observed[-2] += observed[-1]
        means[-2] += rest
        observed, means = observed[:-1], means[:-1]
    freedom = len(means) - 1
    if freedom == 0:
        return 0.0, 0.0
    statistic = float(((observed - means) ** 2 / means).sum())
    z = 4.265  # of the normal distribution, one-sided 1e-5
    limit = freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic, limit
