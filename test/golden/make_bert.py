"""Writes a tiny random BERT in the Hugging Face layout and what transformers makes of some texts with it.

    python make_bert.py

Needs torch, transformers and safetensors. Writes models/tiny-bert/ (the model), bert/expected.safetensors (hidden
states and pooled vectors) and wordpiece/cases.json (token ids).
"""
import json
import os

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizer

here = os.path.dirname(os.path.abspath(__file__))
model_folder = os.path.join(here, "models", "tiny-bert")

words = """a photo of the ankle boot t - shirt / top trouser pull ##over dress coat sandal sneaker bag image un ##aff
##able running ##ning run cat dog strasse naive cafe resume hello world new york 2024 20 ##24 ##s ##ing ##ed
日 本 語 中 文 字 漢 𠀀 ! " # $ % & ' ( ) * + , . : ; < = > ? @ [ \\ ] ^ _ ` { | } ~ « » … – — “ ” € £ ° © ™ 😀 ❤ 👍
ニ ##ホ ##ン か ##ん 가 ᄀ ##ᅡ ##ᆨ ᄒ ##ᅡ ##ᆫ привет при ##вет γεια ς ##ς σ ##σ ω ##ω ß ##ß ẞ æ ø ı İ i ##̇ Straße Café NEW
शी ##शा שלום سلام ไทย ไ ##ท ##ย""".split()
vocabulary = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
for word in words + [c for c in "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"]:
    for token in (word, "##" + word.lstrip("#") if len(word.lstrip("#")) == 1 else word):
        if token not in vocabulary:
            vocabulary.append(token)

texts = [
    "",
    " \t\r\n ",
    "a photo of the ankle boot",
    "A Photo of the T-shirt/top.",
    "unaffable running runs",
    "Café NAÏVE résumé Straße STRASSE ẞ ß İstanbul ıI",
    "e\u0301 E\u0301\u0327 \u0301 a\u0308\u0304b Å Å ﬁ ½ ①",
    "日本語 中文abc漢字 𠀀x \uf900 ニホン かん 가각한 ABC",
    "Привет γειά Σ ΟΔΟΣ שָׁלוֹם سَلَام ไทย शीशा",
    "😀 ❤\ufe0f 👍🏽 👨\u200d👩\u200d👧 🇩🇪",
    "a\u0000b".replace("\u0000", "") + "c\u0001d\u001fe\u007ff\u0080g\u00adh\u200bi\u200ej\ufeffk\ufffdl\ue000m",
    "a\u00a0b\u2003c\u2028d\u2029e\u3000f\u0085g\u000bh\u1680i\u202fj",
    "x!y\"z#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ «quoted» … – — “q” €5 £6 7° © ™ ×",
    "[SEP] a [CLS]b[MASK] [sep] [UNK] [PAD][[SEP]] [SEP",
    "zzz qqqq ##ing ## # a##b",
    "2024 20 024 hello2024world new york",
    "a" * 100,
    "a" * 101,
    "日" * 101,
    "\u0301" * 200,
    "hello " * 1666 + "end.",
    "x" * 10000,
    "\u1e9b\u0323 \u212b \u01c5 \u0130 \u1f88 \u0345 \ufb2c",
]
prompts = [
    (16, "a photo of the ankle boot"),
    (16, ""),
    (8, "A photo of the T-shirt/top and a sneaker, a dress, a coat"),
    (64, "Café NAÏVE 日本語 привет 😀 unaffable"),
    (2, "hello"),
    (80, "hello world " * 60),
]


def make_model():
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=80,
        type_vocab_size=2,
    )
    model = BertModel(config, add_pooling_layer=True).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            wide = 0.5 if value.ndim > 1 else 0.3
            value.copy_(torch.randn_like(value) * wide + (1.0 if name.endswith("LayerNorm.weight") else 0.0))
    return model


def main():
    os.makedirs(model_folder, exist_ok=True)
    with open(os.path.join(model_folder, "vocab.txt"), "w", encoding="utf-8", newline="\n") as file:
        file.write("".join(token + "\n" for token in vocabulary))
    with open(os.path.join(model_folder, "tokenizer_config.json"), "w") as file:
        json.dump({"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 80}, file)

    model = make_model()
    config = {k: v for k, v in model.config.to_dict().items() if k != "transformers_version"}
    with open(os.path.join(model_folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1, sort_keys=True)
    tensors = {"bert." + name: value.contiguous() for name, value in model.state_dict().items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(80).reshape(1, 80)
    save_file(tensors, os.path.join(model_folder, "model.safetensors"), metadata={"format": "pt"})

    tokenizers = {
        lower: BertTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, do_lower_case=lower)
        for lower in (True, False)
    }
    cases = []
    for text in texts:
        case = {"text": text}
        for lower, name in ((True, "lower"), (False, "cased")):
            for capacity in (2, 3, 16, 512):
                ids = tokenizers[lower](text, truncation=True, max_length=capacity)["input_ids"]
                case[f"{name}{capacity}"] = ids
        cases.append(case)
    with open(os.path.join(here, "wordpiece", "cases.json"), "w") as file:
        file.write("[" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]\n")

    expected, metadata = {}, {}
    for i, (tokens, prompt) in enumerate(prompts):
        batch = tokenizers[True](prompt, padding="max_length", truncation=True, max_length=tokens, return_tensors="pt")
        mask = batch["attention_mask"].float()
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1e-9)
        expected[f"{i}.hidden"] = (hidden * mask[..., None])[0].contiguous()
        expected[f"{i}.mask"] = mask[0].contiguous()
        expected[f"{i}.pooled"] = torch.nn.functional.normalize(mean, dim=1)[0].contiguous()
        metadata[f"{i}.prompt"] = prompt
    save_file(expected, os.path.join(here, "bert", "expected.safetensors"), metadata=metadata)


main()
