"""The long, counted forms of claims whose short form is in `make test`. Seeds are printed."""

from tests.jobs.conftest import bench, installed_hosts

__all__ = ["bench", "installed_hosts"]
