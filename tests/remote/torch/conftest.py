"""A tiny model, a dataset, and worlds of real ranks that start without importing torch anew."""

from importlib.util import find_spec

if find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]  # the worker's environment runs these
else:
    from tests.remote.torch.fixtures import *  # noqa: F403
    from tests.remote.torch.scorers import scorers, teacher_model  # noqa: F401
