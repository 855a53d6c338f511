"""One train step of a Llama in plain torch: forward, backward, AdamW; no clipping. Started by scripts/bench peers.

usage: llama.py FOLDER PRECISION eager|compile sdpa|math THREADS
FOLDER holds task.json (shape and optimizer), model.safetensors and batch.bin (int32: B·T tokens, then B·T targets).
sdpa is torch's own fused attention; math is a product, a softmax and a product, which torch.compile makes into loops of its own
and which is faster at short sequences. bf16: weights in float32, autocast around each forward pass, as one trains.
"""
from serve import serve  # first: it takes standard output for the protocol

import json
import struct
import sys
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F


warnings.filterwarnings("ignore")
folder, precision, kind, attention, threads = sys.argv[1:6]
with open(f"{folder}/task.json") as f:
    S = json.load(f)
B, T, V, D, L, H, FFN = (S[k] for k in ("batch", "seq", "vocab", "width", "layers", "heads", "ffn"))
HD = D // H


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
        out[name] = torch.frombuffer(raw, dtype=torch.float32, count=(b - a) // 4, offset=8 + n + a).view(e["shape"]).clone()
    return out


def rotary():
    inv = 1.0 / (S["theta"] ** (torch.arange(0, HD, 2).float() / HD))
    a = torch.outer(torch.arange(T).float(), inv)
    a = torch.cat([a, a], -1)
    return a.cos(), a.sin()


def rot(x):
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


class RMS(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        y = x.float()
        return self.weight * (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + S["eps"])).to(x.dtype)


class Block(nn.Module):
    def __init__(self):
        super().__init__()

        def lin(i, o):
            return nn.Linear(i, o, bias=False)

        self.input_layernorm, self.post_attention_layernorm = RMS(), RMS()
        self.self_attn = nn.ModuleDict({k: lin(D, D) for k in ("q_proj", "k_proj", "v_proj", "o_proj")})
        self.mlp = nn.ModuleDict({"gate_proj": lin(D, FFN), "up_proj": lin(D, FFN), "down_proj": lin(FFN, D)})

    def forward(self, x, cos, sin, mask):
        h, a = self.input_layernorm(x), self.self_attn
        q, k, v = (a[n](h).view(B, T, H, HD).transpose(1, 2) for n in ("q_proj", "k_proj", "v_proj"))
        q, k = (q * cos + rot(q) * sin).to(v.dtype), (k * cos + rot(k) * sin).to(v.dtype)
        if attention == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = torch.softmax((q @ k.transpose(-1, -2)).float() * HD**-0.5 + mask, -1).to(v.dtype) @ v
        x = x + a["o_proj"](y.transpose(1, 2).reshape(B, T, D))
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
        self.mask = torch.full((T, T), float("-inf")).triu(1)
        self.cos, self.sin = rotary()

    def forward(self, x, y):
        x = self.model.embed_tokens(x)
        for b in self.model.layers:
            x = b(x, self.cos, self.sin, self.mask)
        return F.cross_entropy(self.lm_head(self.model.norm(x)).float().view(-1, V), y.view(-1))


def prepare():
    torch.set_num_threads(int(threads))
    m = Llama()
    m.load_state_dict(weights())
    f = torch.compile(m) if kind == "compile" else m
    opt = torch.optim.AdamW(m.parameters(), lr=S["lr"], betas=(S["beta1"], S["beta2"]), eps=S["adam_eps"], weight_decay=S["decay"], fused=True)
    with open(f"{folder}/batch.bin", "rb") as raw:
        x, y = torch.frombuffer(bytearray(raw.read()), dtype=torch.int32).long().view(2, B, T)

    def step():
        opt.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):  # per forward: its cache of weights ends with it
            loss = f(x, y)
        loss.backward()
        opt.step()
        return loss

    losses = [step().item() for _ in range(S["warm"])]
    return {"what": f"torch {torch.__version__}", "losses": losses}, B * T, step


serve(prepare)
