"""LoRA fine-tuning across the Linux machines you own, over plain SSH."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sollol_tui.async_client import AsyncSOLLOLClient
    from sollol_tui.client import SOLLOLClient

__all__ = ["AsyncSOLLOLClient", "SOLLOLClient"]


def __getattr__(name: str) -> Any:
    """Loads a client when it is asked for, so that `import sollol_tui` costs nothing."""
    if name == "SOLLOLClient":
        from sollol_tui.client import SOLLOLClient

        return SOLLOLClient
    if name == "AsyncSOLLOLClient":
        from sollol_tui.async_client import AsyncSOLLOLClient

        return AsyncSOLLOLClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
