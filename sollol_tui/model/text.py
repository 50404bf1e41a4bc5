"""The one sanitizer: every byte that came from a host passes here before a person sees it.

What is left holds no escape sequence, no control character and no bidirectional override, so no
terminal, title, clipboard or file can be steered by a worker's output. It is never markup: whoever
shows it says so (`Text(...)`, `markup=False`).
"""

import re

# CSI; then OSC, DCS, SOS, PM, APC with their strings up to ST or BEL (or the end); then the short
# escapes. Both 7-bit and C1 spellings. ECMA-48, section 8.3.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
# What is worth stealing: tokens of the Hub and of APIs, and private keys.
_TOKENS = re.compile(r"(hf_)[A-Za-z0-9]{20,}|(?<![A-Za-z0-9])(sk-)[A-Za-z0-9_-]{20,}")
_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)"
)
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----$")
_KEY_GOES_ON = re.compile(r"[A-Za-z0-9+/=]*|(?:Proc-Type|DEK-Info): .*")
MAX_LINE = 4096


def clean(raw: str | bytes, *, limit: int = MAX_LINE) -> str:
    """One line, safe to show: what follows the last carriage return, at most `limit` characters.
    Tokens and private keys are `***`."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    text = text.rstrip("\r\n")
    text = text[text.rfind("\r") + 1 :]
    # Cut before the expensive part; a sequence may be twice as long as what it leaves.
    text = _SEQUENCES.sub("", text[: 2 * limit])
    text = _UNSEEN.sub("", text.replace("\t", "    ").replace("\n", " "))
    text = _TOKENS.sub(lambda match: f"{match[1] or match[2]}***", _KEY.sub("***", text))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean_lines(raw: str | bytes, *, limit: int = MAX_LINE) -> list[str]:
    """The lines of a block of output, each clean; carriage-return progress keeps its last state."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    shown, in_key = [], False
    for line in lines:
        in_key = in_key and _KEY_GOES_ON.fullmatch(line[:MAX_LINE].strip()) is not None
        shown.append("***"[:limit] if in_key else clean(line, limit=limit))
        in_key = in_key or _KEY_BEGINS.search(line[-MAX_LINE:].rstrip()) is not None
    return shown
