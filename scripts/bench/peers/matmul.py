"""Matrix products as nn.Linear makes them, x·wᵀ, or with nn plain x·w. usage: matmul.py PRECISION nt|nn M N K THREADS

f32 is the library's default, full precision. bf16 is bfloat16 in and out; cast is float32 in and out with the operands rounded
and the result widened inside what is timed.
"""
from serve import serve  # first: it takes standard output for the protocol

import sys

import torch


precision, form = sys.argv[1:3]
M, N, K, threads = map(int, sys.argv[3:7])


def prepare():
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    x, w = torch.randn(M, K), torch.randn(N, K)
    b = w.t().contiguous()
    if precision == "bf16":
        x, w, b = x.bfloat16(), w.bfloat16(), b.bfloat16()
    out = torch.empty(M, N, dtype=x.dtype)
    if precision == "cast":
        turn = lambda: torch.nn.functional.linear(x.bfloat16(), w.bfloat16()).float()
    elif form == "nt":
        turn = lambda: torch.nn.functional.linear(x, w)
    else:
        turn = lambda: torch.mm(x, b, out=out)
    for _ in range(5):
        turn()
    return {"what": f"torch {torch.__version__}"}, 2e-9 * M * N * K, turn


with torch.no_grad():
    serve(prepare)
