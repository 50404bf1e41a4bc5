"""Short texts as rows of bytes, which is how they travel between ranks: nothing is pickled."""

import torch

WORD_BYTES = 1024


def row_of(word: str) -> torch.Tensor:
    content = word.encode()
    if len(content) > WORD_BYTES:
        raise ValueError(f"a word of {len(content)} bytes; {WORD_BYTES} fit")
    row = torch.zeros(WORD_BYTES, dtype=torch.uint8)
    row[: len(content)] = torch.tensor(list(content), dtype=torch.uint8)
    return row


def word_of(row: torch.Tensor) -> str:
    return bytes(row.tolist()).rstrip(b"\0").decode()
