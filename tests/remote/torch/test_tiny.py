"""The demo's model is the same whoever makes it, and its tokens are those of its dataset."""

from transformers import AutoTokenizer

from remote import tiny

STRANGE = "Zäh 木, \t{braces}\n"


def test_a_dataset_and_a_seed_always_give_the_same_files(dataset, tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        tiny.main([str(folder), "--words-of", str(dataset), "--seed", "7"])
    names = sorted(path.name for path in folders[0].iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_words_of_the_dataset_are_tokens_and_any_text_comes_back(dataset, tmp_path):
    tiny.main([str(tmp_path / "m"), "--words-of", str(dataset)])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer.tokenize("colour ultramarine") == ["colour", "Ġultramarine"]
    assert tokenizer.decode(tokenizer(STRANGE).input_ids) == STRANGE


def test_without_a_dataset_every_byte_is_a_token(tokenizer):
    assert len(tokenizer) == 260
    assert len(tokenizer(STRANGE).input_ids) == len(STRANGE.encode())
    assert tokenizer.decode(tokenizer(STRANGE).input_ids) == STRANGE
