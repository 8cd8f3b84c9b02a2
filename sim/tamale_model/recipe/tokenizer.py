"""Byte-level BPE tokenizer of the demonstration model, trained with the `tokenizers` library."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 1024
BOS, EOS = 0, 1
SPECIALS = ["<s>", "</s>"]


def train_tokenizer(texts):
    """Train on `texts` (an iterable of strings) and return a `Tokenizer` of exactly 1024 entries.

    Entry 0 is `<s>` (start of a sequence), 1 is `</s>` (end of a chapter), then the 256 bytes, then
    merges. No post-processor: whoever runs the model puts id 0 in front of the prompt.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"vocabulary has {tokenizer.get_vocab_size()!r} entries, not {VOCABULARY}")
    return tokenizer
