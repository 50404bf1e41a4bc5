"""LoRA fine-tuning across the Linux machines you own, over plain SSH."""
