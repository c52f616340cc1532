#!/usr/bin/python3
"""What the tiny golden model says of four prompts in one step, in float64 with NumPy alone.

Each prompt has its own number of experts per token; once all pairs are served, once an expert
serves only so many as the capacity factor allows (Lepikhin et al. 2021, "GShard", algorithm 1, over
all rows of the step). Independent of the program. Writes data/prompts.json: for every token but the
first its log probability and the most likely ones, the routed experts, and the pairs dropped.

    /usr/bin/python3 tests/golden/prompt_reference.py
"""

import json
import math

import numpy as np

from long_context_reference import HERE, Model

LENGTHS_AND_EXPERTS = [(9, 2), (14, 1), (6, 3), (11, 8)]
CAPACITY_FACTORS = [0, 0.75]
NUM_TOP = 5
SEED = 5


class PromptModel(Model):
    def __init__(self):
        super().__init__()
        self.least_gap = math.inf

    def keep_served(self, chosen, num_chosen, factor):
        """Which pairs stay: [rows, most experts] of bool."""
        num_experts = self.config["num_local_experts"]
        is_pair = np.arange(chosen.shape[1])[None, :] < num_chosen[:, None]
        if factor == 0:
            return is_pair
        capacity = math.ceil(factor * int(num_chosen.sum()) / num_experts)
        served = [0] * num_experts
        kept = np.zeros_like(is_pair)
        for choice in range(chosen.shape[1]):
            for row in range(len(chosen)):
                expert = chosen[row, choice]
                if is_pair[row, choice] and served[expert] < capacity:
                    served[expert] += 1
                    kept[row, choice] = True
        return kept

    def experts_with_capacity(self, x, layer, num_chosen, factor):
        prefix = f"model.layers.{layer}.block_sparse_moe."
        normed = self.norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        logits = normed @ self.tensors[prefix + "gate.weight"].T
        chosen = np.argsort(-logits, axis=1, kind="stable")
        kept = self.keep_served(chosen, num_chosen, factor)
        out = np.zeros_like(x)
        for row in range(len(x)):
            ids = chosen[row, : num_chosen[row]]
            ordered = logits[row, chosen[row]]
            gaps = (ordered[:-1] - ordered[1:])[: num_chosen[row]]
            self.least_gap = min(self.least_gap, gaps.min(initial=math.inf))
            weights = np.exp(logits[row, ids] - logits[row, ids].max())
            weights /= weights.sum()
            for choice, expert in enumerate(ids):
                if not kept[row, choice]:
                    continue
                w1, w2, w3 = (self.tensors[f"{prefix}experts.{expert}.{w}.weight"]
                              for w in ("w1", "w2", "w3"))
                gate = w1 @ normed[row]
                out[row] += weights[choice] * (w2 @ (gate / (1 + np.exp(-gate)) *
                                                     (w3 @ normed[row])))
        dropped = num_chosen - kept.sum(axis=1)
        return out, chosen, dropped

    def step(self, prompts, num_experts, factor):
        """Logits, choices [layers][rows] and dropped pairs [rows] of all rows of all prompts."""
        starts = np.cumsum([0] + [len(prompt) for prompt in prompts])
        num_chosen = np.repeat(num_experts, [len(prompt) for prompt in prompts])
        x = self.tensors["model.embed_tokens.weight"][np.concatenate(prompts)]
        choices = []
        dropped = np.zeros(len(x), dtype=np.int64)
        for layer in range(self.config["num_hidden_layers"]):
            x = x + np.concatenate([
                self.attention(x[begin:end], layer, np.arange(end - begin))
                for begin, end in zip(starts[:-1], starts[1:])])
            out, chosen, lost = self.experts_with_capacity(x, layer, num_chosen, factor)
            x = x + out
            choices.append(chosen)
            dropped += lost
        logits = self.norm(x, "model.norm.weight") @ self.tensors["lm_head.weight"].T
        return starts, logits, choices, dropped


def describe(logits, prompt):
    shifted = logits - logits.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    described = []
    for row, token in zip(logprobs[:-1], prompt[1:]):
        top = np.argsort(-row, kind="stable")[:NUM_TOP]
        described.append({"logprob": round(float(row[token]), 7),
                          "top_ids": top.tolist(),
                          "top_logprobs": [round(float(row[id]), 7) for id in top]})
    return described


def main():
    model = PromptModel()
    random = np.random.default_rng(SEED)
    prompts = [random.integers(3, model.config["vocab_size"], length)
               for length, _ in LENGTHS_AND_EXPERTS]
    num_experts = [experts for _, experts in LENGTHS_AND_EXPERTS]
    steps = []
    for factor in CAPACITY_FACTORS:
        starts, logits, choices, dropped = model.step(prompts, num_experts, factor)
        described = []
        for prompt, experts, begin, end in zip(prompts, num_experts, starts[:-1], starts[1:]):
            described.append({
                "tokens": prompt.tolist(),
                "experts_per_token": experts,
                "following": describe(logits[begin:end], prompt),
                "routed_experts": [layer[row, :experts].tolist()
                                   for row in range(begin, end) for layer in choices],
                "dropped_pairs": int(dropped[begin:end].sum()),
            })
        steps.append({"capacity_factor": factor, "prompts": described})
        print(f"factor {factor}: {int(dropped.sum())} pairs dropped")
    print(f"least gap between two experts that a row orders: {model.least_gap:.2e}")
    text = json.dumps({"steps": steps}, separators=(",", ":"))
    (HERE / "data" / "prompts.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
