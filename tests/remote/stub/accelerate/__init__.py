"""A stand-in for accelerate that starts a rank the same way, without torch."""
