"""The machines that the user owns, as inventory.yaml describes them (see inventory_file)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from sollol_tui.model.errors import NotFoundError
from sollol_tui.model.names import COORDINATOR, not_found


class ConnectionKind(StrEnum):
    SSH = "ssh"
    LOCAL = "local"


class TorchBackend(StrEnum):
    """Which build of torch a worker gets; auto chooses by what the host has. What names a GPU's
    build is for hosts with such a GPU; the others choose as with auto."""

    AUTO = "auto"
    CPU = "cpu"
    CU126 = "cu126"
    CU130 = "cu130"
    CU132 = "cu132"
    ROCM72 = "rocm7.2"
    NONE = "none"  # leave it to the index and find_links


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What jobs may use of a host; None is no limit."""

    gpu_ids: tuple[int, ...] | None = None
    cpu_cores: int | None = None
    ram_gb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One machine. What is None comes from ~/.ssh/config, where `name` is an alias like any.
    `jump_hosts` are those of proxy_jump that the inventory has, `cidr` the network that it says
    all workers share."""

    name: str
    connection: ConnectionKind = ConnectionKind.SSH
    address: str | None = None
    port: int | None = None
    user: str | None = None
    identity_file: str | None = None
    proxy_jump: str | None = None
    jump_hosts: tuple["Host", ...] = ()
    internal_ip: str | None = None
    cidr: str | None = None
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    nice: int = 0
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "~/.sollol"
    connect_timeout_s: float = 10.0
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`cidr` is the network where workers reach each other, `ports` the first and the last port
    that jobs may listen on."""

    cidr: str | None = None
    ports: tuple[int, int] = (29500, 29549)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Where workers get packages from; None is uv's own default. `wheelhouse` is a folder here,
    whose wheels are sent to them; then nothing is fetched."""

    index_url: str | None = None
    find_links: str | None = None
    wheelhouse: str | None = None
    python_mirror: str | None = None
    torch_backend: TorchBackend = TorchBackend.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """`file` is where it was read, shown in messages."""

    file: str
    hosts: tuple[Host, ...]
    groups: tuple[str, ...] = ()
    network: Network = field(default_factory=Network)
    packages: Packages = field(default_factory=Packages)

    def host(self, name: str) -> Host:
        """The host of that name. Raises NotFoundError with the names there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        names = [host.name for host in self.hosts]
        raise not_found("no host", name, names, where=f" in {self.file}")

    @property
    def coordinator(self) -> Host:
        """The machine where sollol runs, as a worker: the host with `connection: local`, or the one
        that always exists. Raises NotFoundError when several are local."""
        local = [host for host in self.hosts if host.connection is ConnectionKind.LOCAL]
        named = [host for host in local if host.name == COORDINATOR]
        if len(local) > 1 and not named:
            raise NotFoundError(
                f"{', '.join(host.name for host in local)} are all this machine",
                remedy="say which of them",
            )
        return next(iter([*named, *local]), self.with_coordinator().hosts[-1])

    def with_coordinator(self) -> "Inventory":
        """This inventory and the coordinator itself, which joins a job only when it is named."""
        if any(host.name == COORDINATOR for host in self.hosts):
            return self
        coordinator = Host(
            name=COORDINATOR, connection=ConnectionKind.LOCAL, cidr=self.network.cidr
        )
        return replace(self, hosts=(*self.hosts, coordinator))


def settings_of(host: Host) -> Iterator[str]:
    """Lines with what is said of a host, defaults and groups included; ~/.ssh/config says the
    rest."""
    said = {each.name: getattr(host, each.name) for each in fields(host)}
    said |= {f"limits.{each.name}": getattr(host.limits, each.name) for each in fields(host.limits)}
    for name, value in said.items():
        if name in ("limits", "jump_hosts") or value in (None, "", (), {}):
            continue
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        elif isinstance(value, dict):
            value = ", ".join(f"{key}={each}" for key, each in value.items())
        yield f"{name:<20} {value}"
