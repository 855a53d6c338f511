#!/usr/bin/env python3
"""Cuts a folder of tokenizer vectors (meta.json, cases.jsonl.gz, decode.jsonl.gz) down to what is committed.

usage: subset.py FOLDER > NAME.vectors.json"""
import gzip
import json
import random
import sys


def main():
    folder, rng = sys.argv[1], random.Random(1)
    read = lambda name: [json.loads(line) for line in gzip.open(f"{folder}/{name}", "rt")]
    cases, decode = read("cases.jsonl.gz"), read("decode.jsonl.gz")
    short = [c for c in cases if len(c["text"]) <= 200]
    long = [c for c in cases if len(set(c["text"])) == 1 and len(c["text"]) >= 5000]
    cases = short[:140] + long[:3] + rng.sample(short[140:], 70)
    meta = json.load(open(f"{folder}/meta.json")) | {"cases": len(cases)}
    print(json.dumps({"meta": meta, "cases": cases, "decode": rng.sample(decode, 60)}))


main()
