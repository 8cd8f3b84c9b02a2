"""Which token a text starts with: the tokenizer's post-processor says, otherwise the model."""

import dataclasses

import pytest
from random_models import random_model
from tamale.config import Config
from tamale_model import imagefile
from tokenizers import Tokenizer, models, processors

CONFIG = Config(name="test", max_context=64, memory_bytes=1 << 20)


def template(single, name):
    number = {"<s>": 1, "</s>": 2}[name]
    return processors.TemplateProcessing(single, pair=None, special_tokens=[(name, number)])


@pytest.mark.parametrize(
    ("processor", "bos"),
    [
        (None, 5),
        (template("<s> $A", "<s>"), 1),
        (template("$A </s>", "</s>"), 0xFFFFFFFF),
        (processors.ByteLevel(), 0xFFFFFFFF),
    ],
)
def test_start(tmp_path, processor, bos):
    tokenizer = Tokenizer(models.BPE({"a": 0, "<s>": 1, "</s>": 2}, []))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    if processor:
        tokenizer.post_processor = processor
    model = random_model(1, vocabulary=3, tokenizer=tokenizer.to_str())
    model = dataclasses.replace(model, graph=dataclasses.replace(model.graph, bos=5))
    imagefile.build(CONFIG, model, tmp_path / "image")
    assert imagefile.load(tmp_path / "image").fields["bos"] == bos
