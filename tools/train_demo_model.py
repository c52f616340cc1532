#!/usr/bin/env python3
"""Trains the demonstration model: a small Mixtral-architecture mixture of experts.

Writes a Hugging Face checkpoint directory (config.json, model.safetensors in
bfloat16, tokenizer.model) that loads wherever MixtralForCausalLM loads.

    train_demo_model.py --text corpus.txt --out DIR [--minutes 60] [--resume]

Needs PyTorch, NumPy and SentencePiece. Runs on a CPU or on one GPU.
"""
import argparse
import json
import math
import os
import struct
import time

import numpy as np
import sentencepiece as spm
import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = dict(
    architectures=["MixtralForCausalLM"], model_type="mixtral", hidden_act="silu",
    vocab_size=2048, hidden_size=192, intermediate_size=224, num_hidden_layers=4,
    num_attention_heads=6, num_key_value_heads=2, head_dim=32,
    num_local_experts=8, num_experts_per_tok=2,
    max_position_embeddings=512, rope_theta=10000.0, rms_norm_eps=1e-5,
    router_aux_loss_coef=0.02, tie_word_embeddings=False, sliding_window=None,
    bos_token_id=1, eos_token_id=2, torch_dtype="bfloat16", attention_bias=False)


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        dtype = x.dtype
        x = x.float()
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return (self.weight * x).to(dtype)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.h, self.kv, self.d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        n = c["hidden_size"]
        self.q_proj = nn.Linear(n, self.h * self.d, bias=False)
        self.k_proj = nn.Linear(n, self.kv * self.d, bias=False)
        self.v_proj = nn.Linear(n, self.kv * self.d, bias=False)
        self.o_proj = nn.Linear(self.h * self.d, n, bias=False)

    def forward(self, x, cos, sin, mask):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.h, self.d).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv, self.d).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv, self.d).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k = k.repeat_interleave(self.h // self.kv, dim=1)
        v = v.repeat_interleave(self.h // self.kv, dim=1)
        w = (q @ k.transpose(-1, -2)) * self.d ** -0.5 + mask
        w = w.float().softmax(-1).to(q.dtype)
        return self.o_proj((w @ v).transpose(1, 2).reshape(b, t, -1))


class Expert(nn.Module):
    def __init__(self, n, f):
        super().__init__()
        self.w1 = nn.Linear(n, f, bias=False)
        self.w2 = nn.Linear(f, n, bias=False)
        self.w3 = nn.Linear(n, f, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class SparseMoe(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.k, n = c["num_experts_per_tok"], c["hidden_size"]
        self.gate = nn.Linear(n, c["num_local_experts"], bias=False)
        self.experts = nn.ModuleList(
            Expert(n, c["intermediate_size"]) for _ in range(c["num_local_experts"]))

    def forward(self, x):
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        probs = self.gate(x).float().softmax(-1)
        weight, index = probs.topk(self.k, dim=-1)
        weight = (weight / weight.sum(-1, keepdim=True)).to(x.dtype)
        out = torch.zeros_like(x)
        for e, expert in enumerate(self.experts):
            token, slot = torch.where(index == e)
            if token.numel():
                weighted = expert(x[token]) * weight[token, slot, None]
                out = out.index_add(0, token, weighted.to(out.dtype))
        # Switch-style balance loss: E * sum_e fraction_routed(e) * mean_probability(e).
        routed = F.one_hot(index, probs.shape[-1]).float().sum(1).mean(0) / self.k
        balance = probs.shape[-1] * (routed * probs.mean(0)).sum()
        return out.view(shape), balance


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.block_sparse_moe = Attention(c), SparseMoe(c)
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        y, balance = self.block_sparse_moe(self.post_attention_layernorm(x))
        return x + y, balance


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])


class Mixtral(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, self.model = c, Model(c)
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02
                if name.endswith(("o_proj.weight", "w2.weight")):
                    std /= math.sqrt(2 * c["num_hidden_layers"])
                nn.init.normal_(p, std=std)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.02)

    def forward(self, ids):
        t, d = ids.shape[1], self.c["head_dim"]
        inv = self.c["rope_theta"] ** (-torch.arange(0, d, 2, device=ids.device).float() / d)
        angle = torch.arange(t, device=ids.device).float()[:, None] * inv
        angle = torch.cat((angle, angle), -1)
        x = self.model.embed_tokens(ids)
        mask = torch.full((t, t), float("-inf"), device=ids.device).triu(1)
        balance = 0.0
        for layer in self.model.layers:
            x, b = layer(x, angle.cos(), angle.sin(), mask)
            balance = balance + b
        return self.lm_head(self.model.norm(x)), balance / len(self.model.layers)


def save_safetensors(path, state):
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in state.items():
        bits = tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.int16)
        blob = bits.numpy().tobytes()
        header[name] = dict(dtype="BF16", shape=list(tensor.shape),
                            data_offsets=[offset, offset + len(blob)])
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(blobs)


def load_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        raw = f.read()
    header.pop("__metadata__", None)
    state = {}
    for name, t in header.items():
        a, b = t["data_offsets"]
        bits = np.frombuffer(raw[a:b], np.int16).reshape(t["shape"]).copy()
        state[name] = torch.from_numpy(bits).view(torch.bfloat16).float()
    return state


def train_tokenizer(text, out, vocab):
    spm.SentencePieceTrainer.train(
        input=text, model_prefix=os.path.join(out, "tokenizer"), vocab_size=vocab, model_type="bpe",
        byte_fallback=True, character_coverage=0.9995, normalization_rule_name="identity",
        add_dummy_prefix=True, remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        input_sentence_size=400000, shuffle_input_sentence=True, max_sentence_length=16384,
        num_threads=2)
    return spm.SentencePieceProcessor(model_file=os.path.join(out, "tokenizer.model"))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", required=True,
                        help="UTF-8 corpus; documents separated by <|endoftext|>")
    parser.add_argument("--out", required=True, help="directory of the checkpoint")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=16, help="sequences per step")
    parser.add_argument("--context", type=int, default=256, help="tokens per sequence")
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="start from OUT/model.safetensors")
    parser.add_argument("--log", type=int, default=200, help="steps between lines of progress")
    return parser.parse_args()


def load_token_ids(tok, text, out):
    """The corpus as one array of ids, each document in <s> ... </s>; cached in OUT/ids.npy."""
    cache = os.path.join(out, "ids.npy")
    if os.path.exists(cache):
        return np.load(cache)
    with open(text, encoding="utf-8") as f:
        docs = [d.strip() for d in f.read().split("<|endoftext|>")]
    encoded = tok.encode([d for d in docs if d])
    ids = np.concatenate([np.array([1] + x + [2], np.uint16) for x in encoded])
    np.save(cache, ids)
    return ids


def print_samples(model, tok, device):
    for prompt in ("Once upon a time", "The king", "One day, a little fox"):
        x = torch.tensor([[1] + tok.encode(prompt)], device=device)
        with torch.no_grad():
            for _ in range(100):
                logits = model(x)[0][0, -1].float()
                nxt = torch.multinomial((logits / 0.7).softmax(-1), 1)
                if nxt.item() == 2:
                    break
                x = torch.cat((x, nxt[None]), 1)
        print("---", tok.decode(x[0].tolist()), flush=True)


def train(model, ids, args, device, weights):
    c = model.c
    rng = np.random.default_rng(args.seed)
    held, ids = ids[:65536], ids[65536:]
    print(f"{len(ids)/1e6:.2f} M training tokens", flush=True)
    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    opt = torch.optim.AdamW(
        [dict(params=decay, weight_decay=0.1), dict(params=plain, weight_decay=0.0)],
        lr=args.lr, betas=(0.9, 0.95))

    def batch(source, n):
        at = rng.integers(0, len(source) - args.context - 1, n)
        rows = np.stack([source[i:i + args.context + 1] for i in at]).astype(np.int64)
        rows = torch.from_numpy(rows).to(device)
        return rows[:, :-1], rows[:, 1:]

    def loss_of(x, y):
        with torch.autocast(device, dtype=torch.bfloat16):
            logits, balance = model(x)
        return F.cross_entropy(logits.float().view(-1, c["vocab_size"]), y.reshape(-1)), balance

    def held_out_loss():
        keep = rng.bit_generator.state  # so that logging does not change what is trained on
        with torch.no_grad():
            loss = sum(loss_of(*batch(held, 16))[0].item() for _ in range(4)) / 4
        rng.bit_generator.state = keep
        return loss

    start, step, seen = time.time(), 0, 0
    while True:
        done = (time.time() - start) / (args.minutes * 60)
        if done >= 1:
            return
        warm = min(1.0, (step + 1) / 200)
        lr = args.lr * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        for g in opt.param_groups:
            g["lr"] = lr
        loss, balance = loss_of(*batch(ids, args.batch))
        opt.zero_grad(set_to_none=True)
        (loss + c["router_aux_loss_coef"] * balance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step, seen = step + 1, seen + args.batch * args.context
        if step % args.log == 0:
            print(f"step {step} seen {seen/1e6:.1f}M {seen/(time.time()-start):.0f} tok/s "
                  f"loss {loss.item():.3f} held-out {held_out_loss():.3f} "
                  f"balance {float(balance):.3f} lr {lr:.2e}", flush=True)
        if step % 2000 == 0:
            save_safetensors(weights, model.state_dict())


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    tokenizer_path = os.path.join(args.out, "tokenizer.model")
    if os.path.exists(tokenizer_path):
        tok = spm.SentencePieceProcessor(model_file=tokenizer_path)
    else:
        tok = train_tokenizer(args.text, args.out, CONFIG["vocab_size"])
    ids = load_token_ids(tok, args.text, args.out)

    model = Mixtral(CONFIG).to(device)
    weights = os.path.join(args.out, "model.safetensors")
    if args.resume:
        model.load_state_dict(load_safetensors(weights))
    print(f"{sum(p.numel() for p in model.parameters())/1e6:.2f} M parameters", flush=True)

    train(model, ids, args, device, weights)
    save_safetensors(weights, model.state_dict())
    with open(os.path.join(args.out, "config.json"), "w", encoding="utf-8") as f:
        json.dump(CONFIG, f, indent=2)
    print_samples(model, tok, device)


if __name__ == "__main__":
    main()
