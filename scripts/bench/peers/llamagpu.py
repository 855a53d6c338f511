"""One train step of a Llama in plain torch on a card: forward, backward, AdamW; no clipping. Started by scripts/bench gpu.

usage: llamagpu.py FOLDER eager|compile DEVICE
FOLDER holds config.json (the shape), task.json (batch and optimizer), model.safetensors and batch.bin (int32: B·T tokens, then B·T
targets). Weights are float32, products bfloat16 by autocast, attention is torch's own (scaled_dot_product_attention), AdamW fused.
"""
from serve import serve  # first: it takes standard output for the protocol

import json
import math
import struct
import sys
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F


warnings.filterwarnings("ignore")
folder, kind, card = sys.argv[1], sys.argv[2], torch.device(sys.argv[3])  # cuda:0; cpu only to check what it computes
with open(f"{folder}/task.json") as f:
    S = json.load(f)
with open(f"{folder}/config.json") as f:
    C = json.load(f)
B, T = S["batch"], S["seq"]
V, D, L, FFN, EPS = C["vocab_size"], C["hidden_size"], C["num_hidden_layers"], C["intermediate_size"], C["rms_norm_eps"]
H = C["num_attention_heads"]
KV, HD = C.get("num_key_value_heads", H), C.get("head_dim", D // H)
TIED = C.get("tie_word_embeddings", False)


def weights():
    """model.safetensors as a dict; our own few lines, so that the environment needs torch only."""
    with open(f"{folder}/model.safetensors", "rb") as f:
        raw = bytearray(f.read())
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, e in json.loads(raw[8 : 8 + n]).items():
        if name == "__metadata__":
            continue
        assert e["dtype"] == "F32", e
        a, b = e["data_offsets"]
        out[name] = torch.frombuffer(raw, dtype=torch.float32, count=(b - a) // 4, offset=8 + n + a).view(e["shape"])
    return out


def frequencies():
    inv = 1.0 / (C["rope_theta"] ** (torch.arange(0, HD, 2).float() / HD))
    r = C.get("rope_scaling")
    if not r:
        return inv
    assert r.get("rope_type", r.get("type")) == "llama3", r
    low, high, old = r["low_freq_factor"], r["high_freq_factor"], r["original_max_position_embeddings"]
    wave = 2 * math.pi / inv
    smooth = ((old / wave - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * inv / r["factor"] + smooth * inv


def rotary():
    a = torch.outer(torch.arange(T).float(), frequencies())
    a = torch.cat([a, a], -1).to(card)
    return a.cos(), a.sin()


def rot(x):
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


def attend(q, k, v):
    if KV == H:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    try:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    except TypeError:  # torch before 2.5
        return F.scaled_dot_product_attention(q, k.repeat_interleave(H // KV, 1), v.repeat_interleave(H // KV, 1), is_causal=True)


class RMS(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        y = x.float()
        return (self.weight * (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + EPS))).to(torch.bfloat16)


class Block(nn.Module):
    def __init__(self):
        super().__init__()

        def lin(i, o):
            return nn.Linear(i, o, bias=False)

        self.input_layernorm, self.post_attention_layernorm = RMS(), RMS()
        self.self_attn = nn.ModuleDict({"q_proj": lin(D, H * HD), "k_proj": lin(D, KV * HD), "v_proj": lin(D, KV * HD), "o_proj": lin(H * HD, D)})
        self.mlp = nn.ModuleDict({"gate_proj": lin(D, FFN), "up_proj": lin(D, FFN), "down_proj": lin(FFN, D)})

    def forward(self, x, cos, sin):
        h, a = self.input_layernorm(x), self.self_attn
        q, k, v = (a[n](h).view(B, T, heads, HD).transpose(1, 2) for n, heads in (("q_proj", H), ("k_proj", KV), ("v_proj", KV)))
        q, k = (q * cos + rot(q) * sin).to(v.dtype), (k * cos + rot(k) * sin).to(v.dtype)
        x = x + a["o_proj"](attend(q, k, v).transpose(1, 2).reshape(B, T, H * HD))
        h, m = self.post_attention_layernorm(x), self.mlp
        return x + m["down_proj"](F.silu(m["gate_proj"](h)) * m["up_proj"](h))


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens, self.layers, self.norm = nn.Embedding(V, D), nn.ModuleList(Block() for _ in range(L)), RMS()


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.model, self.lm_head = Body(), nn.Linear(D, V, bias=False)

    def forward(self, x, y):
        x = self.model.embed_tokens(x).to(torch.bfloat16)
        for b in self.model.layers:
            x = b(x, self.cos, self.sin)
        return F.cross_entropy(self.lm_head(self.model.norm(x)).float().view(-1, V), y.view(-1))


def prepare():
    with torch.device("meta"):
        m = Llama()
    m = m.to_empty(device=card)
    if TIED:
        m.lm_head.weight = m.model.embed_tokens.weight
    m.cos, m.sin = rotary()
    w = weights()
    with torch.no_grad():
        for name, p in m.named_parameters():  # of tied matrices once
            p.copy_(w[name])
    f = torch.compile(m) if kind == "compile" else m
    opt = torch.optim.AdamW(m.parameters(), lr=S["lr"], betas=(S["beta1"], S["beta2"]), eps=S["adam_eps"], weight_decay=S["decay"], fused=True)
    with open(f"{folder}/batch.bin", "rb") as raw:
        x, y = torch.frombuffer(bytearray(raw.read()), dtype=torch.int32).long().view(2, B, T).to(card)

    def step():
        opt.zero_grad(set_to_none=True)
        with torch.autocast(card.type, dtype=torch.bfloat16):  # per forward: its cache of weights ends with it
            loss = f(x, y)
        loss.backward()
        opt.step()
        return loss.item()  # on the host, as ours

    losses = [step() for _ in range(S["warm"])]
    taken = f", {torch.cuda.max_memory_allocated(card) / 1e9:.1f} GB of the card" if card.type == "cuda" else ""
    return {"what": f"torch {torch.__version__}{taken}", "losses": losses}, B * T, step


serve(prepare)
