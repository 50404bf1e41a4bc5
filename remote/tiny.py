"""Makes the demo's model: a tiny Llama with random weights and a byte-level tokenizer.

Fetches nothing. Run it with `python -P -m remote.tiny OUT_DIR [--words-of DATASET] [--seed N]`;
the same dataset and seed always write the same files.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from remote.data.examples import Conversation, read_examples
from remote.data.rows import Problem

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{% else %}{{ '<|user|>' + message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MAX_LENGTH = 1024
VOCABULARY = 1024


def learn_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Four special tokens, the 256 bytes, and the most frequent sequences of bytes in `texts` up to
    VOCABULARY tokens; without texts every byte is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in (PAD, END, USER, ASSISTANT)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def texts_of(dataset: Path) -> Iterator[str]:
    """What is asked and answered in a dataset; rows that break its format are left out."""
    for item in read_examples(dataset, "auto"):
        if isinstance(item, Conversation):
            yield from (turn.content for turn in item.turns)
        elif not isinstance(item, Problem):
            yield item.content


def tiny_llama(vocabulary: int, pad_id: int, end_id: int, seed: int) -> LlamaForCausalLM:
    """Shallow, because its random layers stay as they are and only their adapters learn."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.05,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end_id,
        pad_token_id=pad_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=end_id, pad_token_id=pad_id)
    return model


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="remote.tiny", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="OUT_DIR")
    parser.add_argument("--words-of", type=Path, metavar="DATASET", help="learn its tokens")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = learn_tokenizer(texts_of(options.words_of) if options.words_of else ())
    model = tiny_llama(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, options.seed)
    model.save_pretrained(options.folder)
    tokenizer.save_pretrained(options.folder)
    print(f"{options.folder}: {model.num_parameters():,} parameters, {len(tokenizer)} tokens")


if __name__ == "__main__":
    main(sys.argv[1:])
