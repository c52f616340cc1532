"""The demonstration model in float64 with NumPy alone: what the daemon's answers are held against.

It shares nothing with the program but the checkpoint's file.
"""
import functools
import json
import os

import numpy as np

from daemon import DEMO_MODEL


def load_tensors(path):
    """name -> float64 array, of a file with bfloat16 tensors."""
    with open(path, "rb") as file:
        raw = file.read()
    begin = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:begin]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16", entry
        first, last = entry["data_offsets"]
        bits = np.frombuffer(raw[begin + first:begin + last], "<u2").astype(np.uint32) << 16
        tensors[name] = bits.view(np.float32).reshape(entry["shape"]).astype(np.float64)
    return tensors


class Forward:
    """What a pass over some tokens gave."""

    def __init__(self):
        self.logits = None  # [tokens, vocab]
        self.experts = []   # [layers][tokens, k], the most likely first; dropped ones included
        self.dropped = 0    # pairs that the capacity left out
        self.margin = np.inf  # least gap between the scores of a chosen and an unchosen expert


class ReferenceModel:
    def __init__(self, directory=DEMO_MODEL):
        with open(os.path.join(directory, "config.json")) as file:
            self.config = json.load(file)
        self.tensors = load_tensors(os.path.join(directory, "model.safetensors"))
        self.vocab = self.config["vocab_size"]
        self.num_layers = self.config["num_hidden_layers"]
        self.num_experts = self.config["num_local_experts"]
        self.top_k = self.config["num_experts_per_tok"]

    def norm(self, x, name):
        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        return x / scale * self.tensors[name]

    def attention(self, x, layer):
        names = f"model.layers.{layer}.self_attn."
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        width = self.config["head_dim"]
        normed = self.norm(x, f"model.layers.{layer}.input_layernorm.weight")

        def project(name, count):
            return (normed @ self.tensors[f"{names}{name}.weight"].T).reshape(-1, count, width)

        def rotate(y):
            half = width // 2
            speed = self.config["rope_theta"] ** (-np.arange(half) * 2 / width)
            angle = np.arange(len(y))[:, None, None] * speed
            low, high = y[..., :half], y[..., half:]
            return np.concatenate([low * np.cos(angle) - high * np.sin(angle),
                                   high * np.cos(angle) + low * np.sin(angle)], axis=-1)

        group = heads // kv_heads
        queries = rotate(project("q_proj", heads))
        keys = np.repeat(rotate(project("k_proj", kv_heads)), group, axis=1)
        values = np.repeat(project("v_proj", kv_heads), group, axis=1)
        scores = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(width)
        scores[:, np.triu(np.ones((len(x), len(x)), bool), 1)] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", scores, values).reshape(len(x), -1)
        return mixed @ self.tensors[f"{names}o_proj.weight"].T

    def mixture(self, x, layer, top_k, capacity, result):
        names = f"model.layers.{layer}.block_sparse_moe."
        normed = self.norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        scores = normed @ self.tensors[f"{names}gate.weight"].T
        order = np.argsort(-scores, axis=1, kind="stable")
        chosen = order[:, :top_k]
        result.experts.append(chosen)
        ranked = np.take_along_axis(scores, order, axis=1)
        result.margin = min(result.margin, (ranked[:, :-1] - ranked[:, 1:])[:, :top_k].min())
        weights = np.exp(ranked[:, :top_k] - ranked[:, :1])
        weights /= weights.sum(axis=1, keepdims=True)
        kept = self.serve(chosen, capacity)
        result.dropped += int((~kept).sum())
        out = np.zeros_like(x)
        for expert in range(self.num_experts):
            w1, w2, w3 = (self.tensors[f"{names}experts.{expert}.{w}.weight"]
                          for w in ("w1", "w2", "w3"))
            rows, choice = np.nonzero((chosen == expert) & kept)
            gate = normed[rows] @ w1.T
            hidden = gate / (1 + np.exp(-gate)) * (normed[rows] @ w3.T)
            out[rows] += weights[rows, choice][:, None] * (hidden @ w2.T)
        return out

    def serve(self, chosen, capacity):
        """Which pairs an expert takes: all first choices in the order of the rows, then the second
        ones (Lepikhin et al. 2021, "GShard", algorithm 1)."""
        kept = np.ones(chosen.shape, bool)
        if capacity is None:
            return kept
        served = [0] * self.num_experts
        for choice in range(chosen.shape[1]):
            for row in range(len(chosen)):
                expert = chosen[row, choice]
                kept[row, choice] = served[expert] < capacity
                served[expert] += kept[row, choice]
        return kept

    def forward(self, tokens, top_k=None, capacity=None):
        """All tokens at once; `capacity` pairs of an expert at most."""
        result = Forward()
        x = self.tensors["model.embed_tokens.weight"][list(tokens)]
        for layer in range(self.num_layers):
            x = x + self.attention(x, layer)
            x = x + self.mixture(x, layer, top_k or self.top_k, capacity, result)
        result.logits = self.norm(x, "model.norm.weight") @ self.tensors["lm_head.weight"].T
        return result


@functools.lru_cache(maxsize=None)
def reference_model():
    return ReferenceModel()


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
