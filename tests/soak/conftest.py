"""The long, counted forms of claims whose short form is in `make test`. Seeds are printed.

Those of training run in a worker's environment, the others in the coordinator's.
"""

from importlib.util import find_spec

if find_spec("torch") is None:
    from tests.jobs.conftest import bench, installed_hosts

    __all__ = ["bench", "installed_hosts"]
    collect_ignore = ["test_killed_training.py"]
else:
    from tests.remote.torch.fixtures import *  # noqa: F403

    collect_ignore = ["test_elastic_storm.py", "test_random_moments.py"]
