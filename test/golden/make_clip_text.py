"""Writes a tiny random CLIP in the Hugging Face layout and what transformers makes of some texts with it.

    python make_clip_text.py

Needs torch, transformers and safetensors. Writes models/tiny-clip/ (a CLIPTextModel, quick GELU; vocab.json and merges.txt
serve all), clip/whole/ (a CLIPModel, text and vision, erf GELU, stored in f16), clip/expected.safetensors (hidden states,
in double precision from the stored weights), clip/cases.json (token ids) and clip_bpe/seeds/ (of fuzz_clip_bpe).
"""
import collections
import json
import os
import random

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

here = os.path.dirname(os.path.abspath(__file__))
model_folder = os.path.join(here, "models", "tiny-clip")
whole_folder = os.path.join(here, "clip", "whole")
START, END = "<|startoftext|>", "<|endoftext|>"

sample = """a photo of the ankle boot a photo of a t-shirt/top a trouser and a pullover the dress the coat the sandal the sneaker
a bag beside an ankle boot on the table a photo of one tiger shark a painting of two spotted salamanders it's they're we've
running runs runner walked walking talks talking sampling sampled samples 2024 100 naïve café straße señor 日本 привет 😀"""

texts = [
    "", " ", " \t\r\n ", "a", "  a  b  ", "a photo of the ankle boot", "A Photo of the T-shirt/top.", "it's IT'S they're we'll I'd i'm don't we've 'sx ''s 's",
    "Café NAÏVE résumé Straße ẞ İstanbul ıI ΟΔΟΣ", "e\u0301 E\u0301\u0327 \u0301 a\u0308\u0304b \u212b", "ﬁ ﬂ ½ ① ² ™ ℃ ㍿ ﷺ", "ＡＢＣ １２３ ｶﾀｶﾅ",
    "日本語 中文abc漢字 𠀀x ニホン かん 가각한", "Привет γειά Σ שָׁלוֹם سَلَام ไทย शीशा", "😀 ❤\ufe0f 👍🏽 👨\u200d👩\u200d👧 🇩🇪!?",
    "a\u0001b\u001fc\u007fd\u0080e\u00adf\u200bg\u200eh\ufeffi\ufffdj\ue000k", "a\u00a0b\u2003c\u2028d\u2029e\u3000f\u0085g\u000bh\u1680i\u202fj\u001cl",
    "x!y\"z#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ «q» – — “q” €5 £6 7° © ×", "2024 20x24 1,000.5 ٣ Ⅷ", "<|startoftext|> a <|endoftext|>b<|END", "<|EndOfText|>!! <|STARTOFTEXT|>?",
    "!<|STARTOFTEXT|>", "<|startoftext", "zzzqqqxxx running", "don’t “quote” it´s", "\u01c5 \u1f88 \u0345 \ufb2c \u1e9b\u0323 Ⅳ Ⓐ",
]
long = [("a", 3000), ("日", 500), ("hello world ", 300), ("\u0301", 200), ("the", 700), ("!", 500), ("9", 100)]
pools = [
    "abcdefghijklmnopqrstuvwxyz ", "ABCDEFGH xyz.,;!?'-0123456789  ", " \t\n\u00a0\u2003\u3000\u200b\u2028", "àéîõüÿçñßøæœÀÉÎİıſ",
    "e\u0301a\u0308\u0327o\u0323\u0302\u0345", "日本語中文漢字ｶﾀｶﾅひらがなﾊﾟ가각한글ᄀ\u1161\u11a8", "😀❤\ufe0f👍🏽👨\u200d👩🇩🇪✨",
    "ﬁﬂﬀﬃﬄ①②½¼²³ＡＢＣａｂｃ１２３™℃Ω\u212b㍿㌀ﷺﷲ", "שלוםسلامไทยशीशाпривет", "'stremvld ’", "<|startofxend>",
]
prompts = [
    (16, "a photo of the ankle boot"),
    (16, ""),
    (8, "A photo of the T-shirt/top and a sneaker, a dress, a coat"),
    (77, "Café NAÏVE 日本語 привет 😀 it's 2024 <|endoftext|> tiger"),
    (2, "hello"),
    (77, "running samples of the tiger shark, " * 20),
]


def byte_characters():
    """The character that stands for each byte, in the order of CLIP's vocabulary."""
    seen = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    hidden = [b for b in range(256) if b not in seen]
    characters = {b: chr(b) for b in seen} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    return characters


def train_merges(count):
    """The most frequent pair of the sample's words becomes one, again and again."""
    characters = byte_characters()
    words = collections.Counter(sample.split())
    split = {w: [characters[b] for b in w.encode()] for w in words}
    for pieces in split.values():
        pieces[-1] += "</w>"
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, pieces in split.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += words[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for pieces in split.values():
            i = 0
            while i + 1 < len(pieces):
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
                i += 1
    return merges


def write_tokenizer(folder):
    merges = train_merges(150)
    characters = list(byte_characters().values())
    tokens = characters + [c + "</w>" for c in characters] + ["".join(pair) for pair in merges] + [START, END]
    with open(os.path.join(folder, "vocab.json"), "w") as file:
        json.dump({token: i for i, token in enumerate(dict.fromkeys(tokens))}, file, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w") as file:
        file.write("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges))


def random_text():
    kind = random.random()
    if kind < 0.3:
        return " ".join(random.choice(sample.split()) for _ in range(random.randint(1, 10)))
    if kind < 0.6:
        return "".join(random.choice(random.choice(pools)) for _ in range(random.randint(1, 30)))
    pool = random.choice(pools)
    return "".join(random.choice(pool) for _ in range(random.randint(1, 25)))


def case(tokenizer, text, times):
    ids = tokenizer(text * times)["input_ids"]
    total = 0
    for i, token in enumerate(ids):
        total = (total + token * (i + 1)) % 1000003
    return {"hex": text.encode().hex(), "times": times, "count": len(ids), "sum": total, "ids": ids[:40]}


def write_cases(tokenizer):
    random.seed(12)
    cases = [case(tokenizer, text, 1) for text in texts + [random_text() for _ in range(250)]] + [case(tokenizer, *one) for one in long]
    for n in (2, 3, 16):
        for text in ("", "a photo of the ankle boot", "the <|endoftext|> dress, the coat"):
            ids = tokenizer(text, truncation=True, max_length=n)["input_ids"]
            cases.append({"hex": text.encode().hex(), "times": 1, "capacity": n, "ids": ids})
    with open(os.path.join(here, "clip", "cases.json"), "w") as file:
        file.write("[" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "]\n")


def write_seeds():
    """Options, a text, a zero byte, vocab.json, a zero byte, merges.txt; the target adds the special tokens."""
    folder = os.path.join(here, "clip_bpe", "seeds")
    os.makedirs(folder, exist_ok=True)
    words = ["a", "b", "c", "a</w>", "b</w>", "c</w>", "ab", "ab</w>", "abc</w>", "Ã", "©</w>", "Ã©</w>", "'", "s</w>", "'s</w>"]
    vocabulary = json.dumps({word: i for i, word in enumerate(words)}, ensure_ascii=False)
    merges = "#version: 0.2\na b\na b</w>\nab c</w>\nÃ ©</w>\n' s</w>\n"
    for name, text in (("plain", "abc ab aabbcc"), ("hard", "É é it's <|endoftext|>ab <|EndOfText|> 12 \u0130")):
        with open(os.path.join(folder, name), "wb") as out:
            out.write(b"\x10" + text.encode() + b"\0" + vocabulary.encode() + b"\0" + merges.encode())


def randomize(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value.copy_(torch.randn_like(value) * (0.4 if value.ndim > 1 else 0.3) + centre)
    return model.eval()


def save_model(model, folder, dtype):
    config = {k: v for k, v in model.config.to_dict().items() if k != "transformers_version"}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1, sort_keys=True, default=str)
    tensors = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    if not any(name.startswith("text_model.") for name in tensors):
        tensors = {"text_model." + name: value for name, value in tensors.items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    return model.to(dtype).double()


def main():
    for folder in (model_folder, whole_folder):
        os.makedirs(folder, exist_ok=True)
    write_tokenizer(model_folder)
    tokenizer = CLIPTokenizer.from_pretrained(model_folder)
    write_cases(tokenizer)
    write_seeds()

    size = len(tokenizer)
    text = dict(vocab_size=size, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, projection_dim=16,
                bos_token_id=size - 2, eos_token_id=size - 1)
    vision = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)
    alone = CLIPTextModel(CLIPTextConfig(**text, hidden_act="quick_gelu"))
    whole = CLIPModel(CLIPConfig(text_config=dict(text, hidden_act="gelu"), vision_config=vision, projection_dim=16))
    alone = save_model(randomize(alone, 5), model_folder, torch.float32)
    whole = save_model(randomize(whole, 6), whole_folder, torch.float16)
    models = {"alone": alone, "whole": whole.text_model}

    expected, metadata = {}, {}
    for i, (tokens, prompt) in enumerate(prompts):
        batch = tokenizer(prompt, padding="max_length", truncation=True, max_length=tokens, return_tensors="pt")
        mask = batch["attention_mask"]
        for name, model in models.items():
            with torch.no_grad():
                hidden = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
            expected[f"{name}.{i}.hidden"] = (hidden * mask[..., None])[0].float().contiguous()
        expected[f"{i}.mask"] = mask[0].float().contiguous()
        metadata[f"{i}.prompt"] = prompt
    save_file(expected, os.path.join(here, "clip", "expected.safetensors"), metadata=metadata)


main()
