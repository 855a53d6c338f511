#!/usr/bin/env python3
"""Makes the vectors of this folder with the tokenizers library (pip install tokenizers==0.23.3).

usage: make.py BASE.json SEED CASES < texts.jsonl > variants.jsonl

BASE is llama3.json (unpacked). A variant is that file with some of its top-level keys, or of those of its model, replaced;
each gets CASES texts: random ones made of what splitters stumble over, and some of the input ({"text": ...} a line).
Texts with marks younger than the library's own normalisation tables (about Unicode 9) are left out of the NFC variants: it
does not know their combining classes."""
import json
import random
import sys
import unicodedata

from tokenizers import Tokenizer

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = QWEN2.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT2_SHORT = GPT2.replace("'s|'t|'re|'ve|'m|'ll|'d", "'(?:[sdmt]|ll|ve|re)")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT4 = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
NEMO = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
REGEX = LEVEL | {"use_regex": True}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def chain(*steps):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}


def added(id, content, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | flags


PLAIN = [added(4092, "<|a|>"), added(4093, "<|a|>b"), added(4094, "  ", special=False), added(4095, "ñandú", special=False)]
STRIP = [added(4092, "<|l|>", lstrip=True), added(4093, "<|r|>", rstrip=True), added(4094, "<|lr|>", lstrip=True, rstrip=True), added(4095, "\t", special=False, rstrip=True)]
NORMAL = [added(4092, "<|a|>"), added(4093, "   ", normalized=True, special=False), added(4094, "\u00e9x", normalized=True), added(4095, "\u00e9y", special=False)]
VARIANTS = {
    "qwen2": chain(split(QWEN2), LEVEL) | {"normalizer": {"type": "NFC"}, "post_processor": LEVEL},
    "qwen3.5": chain(split(QWEN35), LEVEL),
    "o200k": chain(split(O200K), LEVEL),
    "gpt4": chain(split(GPT4), LEVEL),
    "nemo": chain(split(NEMO), LEVEL),
    "gpt2-split": chain(split(GPT2), LEVEL),
    "gpt2-short": chain(split(GPT2_SHORT, "Removed", True), LEVEL),
    "digits-one": chain({"type": "Digits", "individual_digits": True}, REGEX),
    "digits-run": chain({"type": "Digits", "individual_digits": False}, chain(split(LLAMA3), LEVEL)["pre_tokenizer"]),
    "nfc-only": {"pre_tokenizer": LEVEL, "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}},
    "added": {"added_tokens": PLAIN, "post_processor": None},
    "strip": {"added_tokens": STRIP, "post_processor": None},
    "normalized": {"added_tokens": NORMAL, "normalizer": {"type": "NFC"}, "post_processor": None, "pre_tokenizer": REGEX},
    "merge-all": {"model.ignore_merges": False},
}
ALPHABET = list("aabcdelmrstvxABDELRSTV  \t\n\r''''019!./_-<|>") + [
    "'s", "'LL", "'Re", "ſ", "é", "e\u0301", "\u0301", "\u0323", "\u0327", "İ", "ǅ", "ʰ", "ª", "字", "中文", "가", "\u1100\u1161\u11a8", "\u11a8", "٣", "½", "Ⅷ",
    "\u00a0", "\u3000", "\u0085", "\u2028", "\u200b", "\ufeff", "👩", "\u0e33", "\u0903", "\u0915\u094d", "\u0344", "\u1e9b\u0323", "Å", "\ufb01", "\x00",
    "<|a|>", "<|a|>b", "<|l|>", "<|r|>", "<|lr|>", "ñandú", "ex", "e\u0301x", "e\u0301y", "éy", "  ", "   ", "<|begin_of_text|>", " ÷÷÷", "zzyzx"]


def patched(base, patch):
    out = json.loads(json.dumps(base))
    for key, value in patch.items():
        model = key.removeprefix("model.")
        (out["model"] if model != key else out)[model] = value
    return Tokenizer.from_str(json.dumps(out))


def main():
    base = json.load(open(sys.argv[1]))
    rng, cases = random.Random(int(sys.argv[2])), int(sys.argv[3])
    texts = [json.loads(line)["text"] for line in sys.stdin]
    for name, patch in VARIANTS.items():
        tok, out = patched(base, patch), []
        for i in range(cases):
            if i % 4 == 0 and texts:
                text = rng.choice(texts)[:120]
            elif i % 16 == 1:  # more marks than the stream-safe format allows
                text = "a" + "".join(rng.choice(["\u0301", "\u0323", "\u0327", "\u0344"]) for _ in range(rng.randrange(25, 45))) + "b"
            else:
                text = "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(1, 24)))
            if tok.normalizer and tok.normalizer.normalize_str(text) != unicodedata.normalize("NFC", text):
                continue
            ids = tok.encode(text, add_special_tokens=False).ids
            case = {"text": text, "ids": ids}
            tok.encode_special_tokens = True
            if (got := tok.encode(text, add_special_tokens=False).ids) != ids:
                case["as_text"] = got
            tok.encode_special_tokens = False
            for key, skip in ("decoded", False), ("decoded_skip_special", True):
                if (got := tok.decode(ids, skip_special_tokens=skip)) != text:
                    case[key] = got
            out.append(case)
        print(json.dumps({"name": name, "patch": patch, "vocab_size": tok.get_vocab_size(), "cases": out}))


main()
