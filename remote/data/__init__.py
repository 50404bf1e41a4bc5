"""Datasets on a worker: files become rows, conversations, tokens, and the samples of a step."""
