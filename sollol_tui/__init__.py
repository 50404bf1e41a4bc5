"""LoRA fine-tuning across the Linux machines you own, over plain SSH."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient

__all__ = ["SOLLOLClient"]


def __getattr__(name: str) -> Any:
    """Loads the client when it is asked for, so that `import sollol_tui` costs nothing."""
    if name == "SOLLOLClient":
        from sollol_tui.client import SOLLOLClient

        return SOLLOLClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
