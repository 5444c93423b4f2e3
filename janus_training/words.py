"""The tokenizer of a small Janus: byte-level BPE learnt from its world, with the published marks."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from janus_core.inputs.text_tokenizer import (
    ASSISTANT,
    BEGIN_OF_IMAGE,
    BOS,
    END_OF_IMAGE,
    EOS,
    IMAGE_PLACEHOLDER,
    PAD,
    USER,
)

_MARKS = (BOS, EOS, PAD, BEGIN_OF_IMAGE, IMAGE_PLACEHOLDER, END_OF_IMAGE, USER, ASSISTANT)


def learn_tokenizer(sentences: Iterable[str], vocabulary: int) -> str:
    """Learn a tokenizer and return the content of its `tokenizer.json`.

    Args:
        sentences: what the model will read and write.
        vocabulary: ids in all, the marks included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\r\n]"), "isolated"),
            pre_tokenizers.Split(Regex(r"\s?\p{L}+"), "isolated"),
            pre_tokenizers.Split(Regex(r"\s?\p{P}+"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(_MARKS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in _MARKS])
    return tokenizer.to_str()
