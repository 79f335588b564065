#!/usr/bin/env python3
"""Makes the fixtures of calibration, here.

    make.py GOLDEN_STICK

GOLDEN_STICK: the folder `mindspore_gs` of the unpacked wheel mindspore-gs 0.6.0, whose own data set classes make the samples
(stand-ins take MindSpore's place: they only wrap). The statistics are those of `tools/gather_statistics.py`, which runs
transformers on the samples. Needs torch, transformers, tokenizers, safetensors.
"""
import json
import pathlib
import sys
import types

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tools"))


def golden_stick(folder):
    """The package's data sets, without MindSpore."""
    ms, ds = types.ModuleType("mindspore"), types.ModuleType("mindspore.dataset")
    transforms, package = types.ModuleType("mindspore.dataset.transforms"), types.ModuleType("mindspore_gs")
    common = types.ModuleType("mindspore_gs.common")

    class GeneratorDataset:
        def __init__(self, source, column_names):
            pass

    ds.GeneratorDataset, ds.Dataset, ds.transforms = GeneratorDataset, object, transforms
    ms.dtype, ms.Tensor, ms.dataset = types.SimpleNamespace(int32=None), lambda x, dtype=None: x, ds
    package.__path__, common.logger = [folder], types.SimpleNamespace(info=lambda *_: None)
    sys.modules.update({"mindspore": ms, "mindspore.dataset": ds, "mindspore.dataset.transforms": transforms,
                        "mindspore_gs": package, "mindspore_gs.common": common})
    from mindspore_gs.datasets.boolq import BoolQDataset
    from mindspore_gs.datasets.squad import SQuADDataset
    from mindspore_gs.datasets.wikitext2 import WikiText2Dataset

    return BoolQDataset, SQuADDataset, WikiText2Dataset


TEXT = """ = The Lighthouse of Orr = 

 The lighthouse of Orr stands on a low @-@ lying island ; it was built in 1 @,@ 871 ( or , some say , 1872 ) by the
 harbour 's own masons . Its lamp " burned oil " until 1 @.@ 5 decades later .

 = = The keepers = = 

 Seven keepers served there : the first , Ada Holm , kept a log [ now lost ] of every ship . The keepers ' boats were
 painted green ! Was it for luck ? Nobody wrote that down .

 In winter the sea froze at − 4 ° and supplies came over the ice , by sledge . One keeper wrote : ' we have N lamps ' .
"""
QUESTIONS = [
    ("is orr an island", "Lighthouse of Orr", "The lighthouse of Orr stands on a low-lying island.", True),
    ("was the lamp electric at first", "Lighthouse of Orr", "Its lamp burned oil for fifteen years.", False),
    ("did ada holm keep a \"log\"", "Keepers", "Ada Holm kept a log of every ship.\nIt is lost: caf\u00e9, na\u00efve.", True),
]


def write_data():
    (HERE / "wikitext2.txt").write_text(TEXT, encoding="utf-8")
    rows = [json.dumps(dict(zip(("question", "title", "passage", "answer"), q))) for q in QUESTIONS]
    (HERE / "boolq.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    asked = lambda q, text: {"id": q, "question": q, "answers": [{"text": text, "answer_start": 0}, {"text": "no", "answer_start": 1}]}
    paragraphs = [{"context": p, "qas": [asked(f"What of {t}?", w), asked("Not asked", "x")]} for _, t, p, _ in QUESTIONS for w in [t]]
    squad = {"version": "1.1", "data": [{"title": "a", "paragraphs": paragraphs[:2]}, {"title": "b", "paragraphs": paragraphs[2:]}]}
    (HERE / "squad1.1.json").write_text(json.dumps(squad, indent=1), encoding="utf-8")


def make_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)
    return tokenizer


class Marked:
    """A tokenizer as golden-stick uses one: it sets two attributes to have texts begun and ended. Keeps what it was given."""

    def __init__(self, tokenizer):
        self.tokenizer, self.add_bos_token, self.add_eos_token, self.pad_token_id, self.texts = tokenizer, False, False, 0, []

    def encode(self, text, add_special_tokens):
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        if not add_special_tokens:
            return ids
        self.texts.append(text)
        return [0] * self.add_bos_token + ids + [1] * self.add_eos_token

    def __call__(self, text, add_special_tokens):
        return {"input_ids": self.encode(text, add_special_tokens)}


LENGTH = 32


def samples(folder, tokenizer):
    """Of each data set the texts that golden-stick has tokenized, and its samples."""
    boolq, squad, wikitext = golden_stick(folder)
    made = {}
    for name, build in {
        "boolq": lambda t: boolq(str(HERE / "boolq.jsonl"), "train", 2048, t, need_pad=False).input_ids,
        "squad1.1": lambda t: squad(str(HERE / "squad1.1.json"), "train", 2048, t, need_pad=False).input_ids,
        "wikitext2": lambda t: wikitext(str(HERE / "wikitext2.txt"), LENGTH + 1, 1, t, need_pad=False).content,
    }.items():
        marked = Marked(tokenizer)
        ids = [[int(i) for i in sample] for sample in build(marked)]
        made[name] = {"texts": marked.texts, "ids": ids}
    (HERE / "samples.json").write_text(json.dumps(made, indent=None), encoding="utf-8")
    return made


def model(kind, hidden, ffn, layers, seed):
    """A small model with random weights that fp16 holds, of 4 heads and 2 kv heads; saved as Hugging Face does."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config, built = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
                     "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM)}[kind]
    made = built(config(hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
                        vocab_size=280, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1)).eval()
    for name, parameter in made.named_parameters():
        spread = 0.2 if "norm" in name else 0.5 if "embed" in name or "bias" in name else 1.5 / hidden**0.5
        parameter.data = (torch.randn(parameter.shape) * spread + ("norm" in name)).half().float()
    folder = HERE / kind
    made.half().save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # Read anew: halving it has rounded the rotary embedding's frequencies, which are no parameters.
    return built.from_pretrained(folder, torch_dtype=torch.float32).eval()


def main():
    import torch
    import gather_statistics

    write_data()
    made = samples(sys.argv[1], make_tokenizer())

    class Prepared:
        """Answers the tokens of the sample with this number."""

        def __init__(self, ids):
            self.ids = ids

        def __call__(self, number, **_):
            return types.SimpleNamespace(input_ids=torch.tensor([self.ids[number]]))

    for kind, hidden, ffn, layers, seed, sets in (("llama", 48, 64, 2, 1, ("boolq", "squad1.1", "wikitext2")), ("qwen2", 32, 48, 1, 2, ("boolq",))):
        network = model(kind, hidden, ffn, layers, seed)
        for name in sets:
            ids = made[name]["ids"]
            tensors = gather_statistics.gather(network, Prepared(ids), range(len(ids)), None)
            gather_statistics.save(tensors, HERE / f"{kind}.{name}.safetensors")


if __name__ == "__main__":
    main()
