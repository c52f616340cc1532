#!/usr/bin/python3
"""Logits of the tiny golden model after 4,096 and 32,768 tokens, in float64 with NumPy alone.

Independent of the program: it reads the safetensors file itself and shares only the prompt's
formula with long_context_test.cc. Writes data/long_context.json: for each position the 64 largest
logits and every 16th one, rounded to 1e-6. About a minute and 3 GB.

    /usr/bin/python3 tests/golden/long_context_reference.py
"""

import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
CHECKPOINT = HERE / "data" / "tiny"
NUM_TOKENS = 32768
POSITIONS = [4095, 32767]
QUERY_ROWS = 256  # attention is computed for this many rows at a time


def prompt(num_tokens):
    """BOS, then ids spread by Knuth's multiplicative hash; none of the three special ones."""
    index = np.arange(num_tokens, dtype=np.uint64)
    hashed = (index * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    tokens = 3 + ((hashed >> np.uint64(8)) % np.uint64(31997)).astype(np.int64)
    tokens[0] = 1
    return tokens


def load_tensors(path):
    """name -> float64 array of every BF16 or F32 tensor."""
    raw = path.read_bytes()
    header_bytes = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + header_bytes])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            bits = np.frombuffer(raw[begin:end], dtype="<u2").astype(np.uint32) << 16
            values = bits.view(np.float32)
        else:
            assert entry["dtype"] == "F32", entry
            values = np.frombuffer(raw[begin:end], dtype="<f4")
        tensors[name] = values.reshape(entry["shape"]).astype(np.float64)
    return tensors


class Model:
    def __init__(self):
        self.config = json.loads((CHECKPOINT / "config.json").read_text())
        self.tensors = load_tensors(CHECKPOINT / "model.safetensors")
        self.head_dim = self.config["head_dim"]
        self.num_heads = self.config["num_attention_heads"]
        self.num_kv_heads = self.config["num_key_value_heads"]

    def norm(self, x, name):
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + self.config["rms_norm_eps"]) * self.tensors[name]

    def rotate(self, x, positions):
        """x [tokens, heads, head_dim]; element i turns with element i + head_dim / 2."""
        half = self.head_dim // 2
        frequencies = self.config["rope_theta"] ** (-np.arange(half) * 2.0 / self.head_dim)
        angles = positions[:, None, None] * frequencies
        cos, sin = np.cos(angles), np.sin(angles)
        low, high = x[..., :half], x[..., half:]
        return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)

    def attention(self, x, layer, rows):
        """Output for `rows` of x, each over all tokens up to itself."""
        prefix = f"model.layers.{layer}.self_attn."
        positions = np.arange(len(x), dtype=np.float64)
        normed = self.norm(x, f"model.layers.{layer}.input_layernorm.weight")

        def heads(name, inputs, count):
            return (inputs @ self.tensors[prefix + name].T).reshape(-1, count, self.head_dim)

        keys = self.rotate(heads("k_proj.weight", normed, self.num_kv_heads), positions)
        values = heads("v_proj.weight", normed, self.num_kv_heads)
        queries = self.rotate(heads("q_proj.weight", normed[rows], self.num_heads), positions[rows])
        group = self.num_heads // self.num_kv_heads
        out = np.empty((len(rows), self.num_heads, self.head_dim))
        for begin in range(0, len(rows), QUERY_ROWS):
            block = rows[begin : begin + QUERY_ROWS]
            context = block[-1] + 1
            hidden_keys = np.arange(context)[None, :] > block[:, None]
            for head in range(self.num_heads):
                kv_head = head // group
                scores = queries[begin : begin + len(block), head] @ keys[:context, kv_head].T
                scores /= np.sqrt(self.head_dim)
                scores[hidden_keys] = -np.inf
                scores -= scores.max(axis=1, keepdims=True)
                np.exp(scores, out=scores)
                scores /= scores.sum(axis=1, keepdims=True)
                out[begin : begin + len(block), head] = scores @ values[:context, kv_head]
        return out.reshape(len(rows), -1) @ self.tensors[prefix + "o_proj.weight"].T

    def experts(self, x, layer):
        prefix = f"model.layers.{layer}.block_sparse_moe."
        normed = self.norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        logits = normed @ self.tensors[prefix + "gate.weight"].T
        top_k = self.config["num_experts_per_tok"]
        chosen = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
        weights = np.take_along_axis(logits, chosen, axis=1)
        weights = np.exp(weights - weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        ordered = -np.sort(-logits, axis=1)
        gap = (ordered[:, top_k - 1] - ordered[:, top_k]).min()
        print(f"layer {layer}: least gap between a chosen and an unchosen expert {gap:.2e}")
        out = np.zeros_like(x)
        for expert in range(self.config["num_local_experts"]):
            w1, w2, w3 = (self.tensors[f"{prefix}experts.{expert}.{w}.weight"] for w in
                          ("w1", "w2", "w3"))
            rows, choice = np.nonzero(chosen == expert)
            gate = normed[rows] @ w1.T
            hidden = gate / (1 + np.exp(-gate)) * (normed[rows] @ w3.T)
            out[rows] += weights[rows, choice][:, None] * (hidden @ w2.T)
        return out

    def logits(self, tokens, positions):
        x = self.tensors["model.embed_tokens.weight"][tokens]
        last = self.config["num_hidden_layers"] - 1
        for layer in range(last + 1):
            # Of the last layer only the asked-for rows are needed.
            rows = np.array(positions) if layer == last else np.arange(len(x))
            out = self.attention(x, layer, rows)
            x = x[rows] + out
            x = x + self.experts(x, layer)
        return self.norm(x, "model.norm.weight") @ self.tensors["lm_head.weight"].T


def main():
    logits = Model().logits(prompt(NUM_TOKENS), POSITIONS)
    expected = []
    for position, row in zip(POSITIONS, logits):
        top = np.argsort(-row, kind="stable")[:64]
        sampled = np.arange(0, len(row), 16)
        expected.append({
            "position": position,
            "top_ids": top.tolist(),
            "top_logits": [round(float(value), 6) for value in row[top]],
            "every_16th_logit": [round(float(value), 6) for value in row[sampled]],
        })
    text = json.dumps({"num_tokens": NUM_TOKENS, "expected": expected}, separators=(",", ":"))
    (HERE / "data" / "long_context.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
