"""Writes tiny random T5 encoders in the Hugging Face layout and what the public packages make of some texts with them.

    python make_t5.py

Needs torch, transformers, safetensors and sentencepiece. Writes models/tiny-t5/ (v1.1: gated GELU; stored in f32; its
spiece.model is trained here and serves all), t5/v10/ (v1.0: ReLU, other buckets, stored in f16 under the other name of
the embedding), t5/expected.safetensors (hidden states, in double precision from the stored weights), and sentencepiece/
(bytes.model, which spells unknown characters by their bytes, cases.json: token ids, and seeds of the fuzz target).
"""
import contextlib
import io
import json
import os
import random
import tempfile

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel, T5Tokenizer

here = os.path.dirname(os.path.abspath(__file__))
model_folder = os.path.join(here, "models", "tiny-t5")

sentences = """a photo of the ankle boot
a photo of a T-shirt/top, a trouser and a pullover
the dress, the coat, the sandal and the sneaker
a bag beside an ankle boot on the table
A small dataset is condensed for the training of a diffusion model.
Each image is scored by how hard the model finds it: the score is the mean of the errors.
interval sampling takes every k-th image of the ranking, from the easiest to the hardest
Café naïve résumé Straße über façade señor
translate English to German: the house is wonderful
summarize: state authorities dispatched emergency crews tuesday to survey the damage
stsb sentence1: A man is playing a large flute. sentence2: A man is playing a flute.
running runs runner walked walking talks talking sampling sampled samples
2024 100 64 3.14159 50,000 images at 256x256 pixels (8-bit)
日本 語 中文 漢字
Привет мир
golden retriever, tabby cat, tench, goldfish, great white shark, hammerhead, stingray
airplane automobile bird cat deer dog frog horse ship truck
tiger shark, electric ray, stingray, cock, hen, ostrich, brambling, goldfinch, house finch, junco, indigo bunting
American robin, bulbul, jay, magpie, chickadee, American dipper, kite, bald eagle, vulture, great grey owl
fire salamander, smooth newt, spotted salamander, axolotl, American bullfrog, tree frog, tailed frog
loggerhead sea turtle, leatherback sea turtle, mud turtle, terrapin, box turtle, banded gecko, green iguana
triceratops, worm snake, ring-necked snake, garter snake, water snake, vine snake, night snake, boa constrictor
English springer spaniel, Welsh springer spaniel, cocker spaniel, Irish setter, Gordon setter, Scottish terrier
acoustic guitar, aircraft carrier, airliner, airship, altar, ambulance, amphibious vehicle, analog clock, apiary
backpack, bakery, balance beam, balloon, ballpoint pen, banjo, barbell, barber chair, barn, barometer, barrel
a photograph of one coral reef; a drawing of several lakeside houses, a painting of mountains and volcanoes
photographed, photographing, photography, photographer; painter, painting, paintings, painted, draw, drawn
The networks are written once and run on every device, in single precision or in half of that.
Whoever reads this sentence finds nothing in it that another sentence would not have told as well.""".split("\n")

hard = [
    "", " ", " \t\r\n ", "a", "  a  b  ", "a photo of the ankle boot", "A Photo of the T-shirt/top.",
    "Café NAÏVE résumé Straße ẞ İstanbul ıI", "e\u0301 E\u0301\u0327 \u0301 a\u0308\u0304b \u212b", "ﬁ ﬂ ﬃ ½ ① ² ™ ℃ ㍿ ﷺ ﷲ",
    "ＡＢＣ ａｂｃ １２３ ｶﾀｶﾅ ﾊﾟ", "日本語 中文abc漢字 𠀀x \uf900 ニホン かん 가각한", "Привет γειά Σ שָׁלוֹם سَلَام ไทย शीशा",
    "😀 ❤\ufe0f 👍🏽 👨\u200d👩\u200d👧 🇩🇪", "a\u0001b\u001fc\u007fd\u0080e\u00adf\u200bg\u200eh\ufeffi\ufffdj\ue000k",
    "a\u00a0b\u2003c\u2028d\u2029e\u3000f\u0085g\u000bh\u1680i\u202fj", "\u2581a \u2581\u2581b ~ \uff5e \u2026",
    "x!y\"z#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ «q» – — “q” €5 £6 7° © ×", "<extra_id> <extra_id_> <extra_id_100> <extra_id_00> <s>",
]
broken = [b"\xff", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80x", b"\xf4\x90\x80\x80", b" \xff ", b"\xe2\x96", b"ok \x80\x80 ok", b"\xf0\x9f\x98"]
long = [("a", 10000), ("日", 10000), ("hello world ", 900), ("\u0301", 300), (" ", 5000), ("ﷺ", 500), ("zq", 3000)]
special = ["a <extra_id_0> b", "<extra_id_99><extra_id_1>c </s>", "x</s>y<unk>z <pad>", "photo of <extra_id_42>,"]
pools = [
    "abcdefghijklmnopqrstuvwxyz ", "ABCDEFGH xyz.,;!?'-0123456789  ", " \t\n\u00a0\u2003\u3000\u200b\u2028", "àéîõüÿçñßøæœÀÉÎİıſ",
    "e\u0301a\u0308\u0327o\u0323\u0302\u0345", "日本語中文漢字ｶﾀｶﾅひらがなﾊﾟ가각한글ᄀ\u1161\u11a8", "😀❤\ufe0f👍🏽👨\u200d👩🇩🇪✨",
    "ﬁﬂﬀﬃﬄ①②½¼²³ＡＢＣａｂｃ１２３™℃Ω\u212b㍿㌀ﷺﷲ", "שלוםسلامไทยशीशाпривет", "\u2581_~\uff5e\u2026\u00ad\ufeff\ufffd\u0001\u007f\u200e",
]
prompts = [
    (16, "a photo of the ankle boot"),
    (16, ""),
    (8, "A photo of the T-shirt/top and a sneaker, a dress, a coat"),
    (64, "Café NAÏVE 日本語 привет 😀 ﬁne １２３ <extra_id_7>"),
    (1, "hello"),
    (120, "running samples of the hammerhead, " * 20),
]


def train(name, **options):
    model = io.BytesIO()
    with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences * 3), model_writer=model, model_type="unigram", pad_id=0, eos_id=1, unk_id=2,
            bos_id=-1, num_threads=1, character_coverage=1.0, minloglevel=3, hard_vocab_limit=False, **options)
    with open(name, "wb") as file:
        file.write(model.getvalue())


def random_text():
    kind = random.random()
    if kind < 0.3:
        return " ".join(random.choice(" ".join(sentences).split()) for _ in range(random.randint(1, 10)))
    if kind < 0.6:
        return "".join(random.choice(random.choice(pools)) for _ in range(random.randint(1, 30)))
    pool = random.choice(pools)
    return "".join(random.choice(pool) for _ in range(random.randint(1, 25)))


def case(text, times, ids):
    total = 0
    for i, token in enumerate(ids):
        total = (total + token * (i + 1)) % 1000003
    return {"hex": text.hex(), "times": times, "count": len(ids), "sum": total, "ids": ids[:40]}


def write_cases():
    random.seed(11)
    texts = [(text.encode(), 1) for text in hard + [random_text() for _ in range(250)]] + [(text, 1) for text in broken]
    texts += [(text.encode(), times) for text, times in long]
    cases = {}
    for name, path in (("t5", os.path.join(model_folder, "spiece.model")), ("bytes", os.path.join(here, "sentencepiece", "bytes.model"))):
        processor = sentencepiece.SentencePieceProcessor(model_file=path)
        cases[name] = [case(text, times, processor.encode(text * times) + [1]) for text, times in texts]
    tokenizer = T5Tokenizer.from_pretrained(model_folder)
    cases["special"] = [case(text.encode(), 1, tokenizer(text)["input_ids"]) for text in special]
    cases["cut"] = [
        {"hex": text.encode().hex(), "times": 1, "capacity": n, "ids": tokenizer(text, truncation=True, max_length=n)["input_ids"]}
        for n in (1, 2, 5, 16) for text in ("", "a photo of the ankle boot", "the <extra_id_3> dress, the coat")]
    with open(os.path.join(here, "sentencepiece", "cases.json"), "w") as file:
        lines = [json.dumps(name) + ":[" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in part) + "]" for name, part in cases.items()]
        file.write("{" + ",\n".join(lines) + "}\n")


def write_seeds():
    """Of fuzz_sentencepiece: options, a text, a zero byte, a small file; its table is of a few rules."""
    folder = os.path.join(here, "sentencepiece", "seeds")
    os.makedirs(folder, exist_ok=True)
    rules = ["FB01\t66 69", "A0\t20", "200B\t", "65 301\tE9", "41\t61", "42\t62"]
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "model")
        with open(os.path.join(scratch, "rules.tsv"), "w") as file:
            file.write("".join(rule + "\n" for rule in rules))
        for name, options in (("plain", {}), ("bytes", {"byte_fallback": True, "remove_extra_whitespaces": False})):
            train(path, vocab_size=90 if name == "plain" else 350, normalization_rule_tsv=file.name, **options)
            with open(path, "rb") as model, open(os.path.join(folder, name), "wb") as out:
                out.write(b"\x10" + " A photo\u00a0of <extra_id_3>e\u0301 \ufb01t </s> 日".encode() + b"\0" + model.read())


def make_model(seed, **options):
    torch.manual_seed(seed)
    model = T5EncoderModel(T5Config(d_model=24, d_kv=8, num_heads=4, d_ff=40, num_layers=3, **options)).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn_like(value) * 0.35 + (1.0 if name.endswith("layer_norm.weight") else 0.0))
            if "relative_attention_bias" in name:
                value.mul_(3)
    return model


def save_model(model, folder, embedding, dtype):
    config = {k: v for k, v in model.config.to_dict().items() if k != "transformers_version"}
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1, sort_keys=True)
    tensors = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    shared = tensors["shared.weight"]
    for name in ("shared.weight", "encoder.embed_tokens.weight"):
        tensors.pop(name, None)
    tensors[embedding] = shared
    tensors["decoder.final_layer_norm.weight"] = torch.ones(4, dtype=dtype)
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    return model.to(dtype).double()


def main():
    v10_folder = os.path.join(here, "t5", "v10")
    for folder in (model_folder, v10_folder, os.path.join(here, "sentencepiece")):
        os.makedirs(folder, exist_ok=True)
    train(os.path.join(model_folder, "spiece.model"), vocab_size=300, normalization_rule_name="nmt_nfkc")
    train(os.path.join(here, "sentencepiece", "bytes.model"), vocab_size=420, normalization_rule_name="identity", byte_fallback=True,
          add_dummy_prefix=False, remove_extra_whitespaces=False)
    write_cases()
    write_seeds()

    tokenizer = T5Tokenizer.from_pretrained(model_folder)
    models = {
        "v11": save_model(make_model(3, vocab_size=416, feed_forward_proj="gated-gelu"), model_folder, "shared.weight", torch.float32),
        "v10": save_model(make_model(4, vocab_size=416, feed_forward_proj="relu", relative_attention_num_buckets=12,
                                     relative_attention_max_distance=40), v10_folder, "encoder.embed_tokens.weight", torch.float16),
    }
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
    bucket = models["v10"].encoder.block[0].layer[0].SelfAttention._relative_position_bucket
    distances = torch.arange(-600, 601)
    for buckets, most in ((32, 128), (12, 40), (64, 300)):
        expected[f"bucket.{buckets}.{most}"] = bucket(distances, True, buckets, most).int()
    save_file(expected, os.path.join(here, "t5", "expected.safetensors"), metadata=metadata)


main()
