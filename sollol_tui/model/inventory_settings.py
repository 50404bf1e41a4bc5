"""The keys of inventory.yaml: what each takes and, in its docstring, what it means.

Editors learn both from `sollol schema inventory`; layers and names are inventory_file's."""

import difflib
import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, ClassVar, Final, Literal

from annotated_types import Ge, Le
from pydantic import BeforeValidator, WithJsonSchema

from sollol_tui.model.inventory import TorchBackend
from sollol_tui.model.names import JUMP, PORTS
from sollol_tui.model.units import DURATION, parse_duration_s

SETTING_ALIASES: Final = {
    "hostname": "address",
    "ansible_host": "address",
    "ansible_port": "port",
    "ansible_user": "user",
    "ansible_ssh_private_key_file": "identity_file",
}
SECRETS = re.compile(r"passw|secret|passphrase|(^|_)token$|api_key|(^|_)become_pass", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_SAFE_WORD = re.compile(r"[A-Za-z0-9_.:%@\[\]/,-]+")
_STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}


def _ports(value: Any) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,5})\s*-\s*(\d{1,5})\s*", str(value))
    if match is None:
        raise ValueError("write a range of ports like 29500-29549")
    first, last = int(match[1]), int(match[2])
    if not 1024 <= first <= last <= 65535:
        raise ValueError("write them from 1024 to 65535, the smaller first")
    return first, last


def _word(value: Any) -> Any:
    if isinstance(value, str) and (value.startswith("-") or not _SAFE_WORD.fullmatch(value)):
        raise ValueError(f"{value[:60]!r} is not a host name, user or address")
    return value


def _address(value: Any) -> Any:
    """A name or an IP address and nothing else: what other tools write around it is said."""
    if not isinstance(value, str) or _is_ip(_word(value)):
        return value
    user, _, rest = value.rpartition("@")
    if user:
        raise ValueError(f"write {rest}; user is its own key")
    if match := re.fullmatch(r"(\[[^\]]+\]|[^:]+):(\d+)", value):
        raise ValueError(f"write {match[1].strip('[]')}; port is its own key")
    if value.startswith("[") and _is_ip(value.strip("[]")):
        raise ValueError(f"write {value.strip('[]')}, without brackets")
    if "/" in value:
        raise ValueError(f"{value[:60]!r} is a network, and not one host")
    if re.fullmatch(r"[\d.]+", value) and value.strip("."):
        raise ValueError(f"{value[:60]!r} is no IP address")
    if not all(_LABEL.fullmatch(label) for label in value.removesuffix(".").split(".")):
        raise ValueError(
            f"{value[:60]!r} is no host name: a name has parts of 1 to 63 letters, digits and "
            "'-' between its dots"
        )
    return value


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _ip(value: Any) -> Any:
    if isinstance(value, str) and not _is_ip(value):
        raise ValueError(f"{value[:60]!r} is no IP address")
    return value


def _jumps(value: Any) -> Any:
    if not isinstance(value, str) or _word(value) == "none":
        return value
    hops = [hop for hop in value.split(",") if hop]
    if not hops:
        raise ValueError(f"{value[:60]!r} names no host")
    for hop in hops:
        match = JUMP.fullmatch(hop)
        if match is None or (match[3] and int(match[3]) not in PORTS):
            raise ValueError(f"{hop[:60]!r} is not [user@]host[:port]")
        _address(match[2].strip("[]"))
    return value


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if "/" in value:
            return str(ip_network(value, strict=False))
    except ValueError:
        pass
    raise ValueError(f"{value[:60]!r} is no network; write one like 192.0.2.0/24")


def _env(value: Any) -> Any:
    if isinstance(value, dict):
        for key in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key)):
                raise ValueError(f"{str(key)[:60]!r} is not the name of an environment variable")
            if SECRETS.search(str(key)) or str(key) == "HF_TOKEN":
                raise ValueError(
                    f"{key} is a secret and does not belong in this file; "
                    "export it where sollol runs"
                )
        return {str(key): _env_text(item) for key, item in value.items()}
    return value


def _env_text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if not isinstance(value, str | int | float) or "\0" in str(value):
        raise ValueError(f"{value!r} is not text")
    return str(value)


def _source(value: Any) -> Any:
    if isinstance(value, str) and re.match(r"[a-z+]+://[^/]*@", value, re.IGNORECASE):
        raise ValueError(
            "a URL with a user or password in it does not belong in this file, and every user "
            "of the worker would see it; put them into ~/.netrc there"
        )
    return value


def _torch_backend(value: Any) -> Any:
    known = [str(backend) for backend in TorchBackend]
    if isinstance(value, str) and value not in known:
        near = difflib.get_close_matches(value.lower(), known, cutoff=0.5)
        # cu128 is nearer to cu126 than to cu132, which has as many letters of it.
        nearest = max(near, key=lambda name: name.startswith(value[:4].lower()), default="")
        meant = f" - did you mean '{nearest}'?" if nearest else ""
        raise ValueError(f"{value[:60]!r} is none of {', '.join(known)}{meant}")
    return value


def _folder(value: Any) -> Any:
    if isinstance(value, str) and (not value or "://" in value or re.search(r"[\0\n]", value)):
        raise ValueError("write a folder of this machine, absolute or relative to this file")
    return value


def _workdir(value: Any) -> Any:
    if isinstance(value, str) and (
        not value.startswith(("/", "~/")) or re.search(r"[\0\n]", value)
    ):
        raise ValueError("write an absolute path, or one that starts with ~/")
    return value


_WORD_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^(?!-){_SAFE_WORD.pattern}$"})
Word = Annotated[str, BeforeValidator(_word), _WORD_SCHEMA]
Jumps = Annotated[str, BeforeValidator(_jumps), _WORD_SCHEMA]
Address = Annotated[
    str,
    BeforeValidator(_address),
    WithJsonSchema({"type": "string", "pattern": "^(?!-)[A-Za-z0-9_.:%-]+$"}),
]
Ip = Annotated[
    str,
    BeforeValidator(_ip),
    WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f.:]+(%[A-Za-z0-9_.-]+)?$"}),
]
Cidr = Annotated[
    str,
    BeforeValidator(_network),
    WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f.:]+/[0-9.]+$"}),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration_s),
    Ge(0.1),
    Le(3600),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^{DURATION.pattern}$"},
                {"type": "number", "minimum": 0.1, "maximum": 3600},
            ]
        }
    ),
]
Environment = Annotated[
    dict[str, str],
    BeforeValidator(_env),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": "^(?!HF_TOKEN$)[A-Za-z_][A-Za-z0-9_]*$"},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }
    ),
]
Workdir = Annotated[
    str,
    BeforeValidator(_workdir),
    WithJsonSchema({"type": "string", "pattern": "^(/|~/)"}),
]
Source = Annotated[str, BeforeValidator(_source)]
Folder = Annotated[
    str,
    BeforeValidator(_folder),
    WithJsonSchema({"type": "string", "minLength": 1, "not": {"pattern": "://"}}),
]
Torch = Annotated[TorchBackend, BeforeValidator(_torch_backend)]
Ports = Annotated[
    tuple[int, int],
    BeforeValidator(_ports),
    WithJsonSchema({"type": "string", "pattern": "^ *[0-9]{4,5} *- *[0-9]{4,5} *$"}),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What jobs may use of a host."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    gpu_ids: tuple[Annotated[int, Ge(0), Le(64)], ...] | None = None
    """The GPUs that jobs may use, as nvidia-smi numbers them; [] for none."""
    cpu_cores: Annotated[int, Ge(1)] | None = None
    """How many CPU cores jobs may use."""
    ram_gb: Annotated[float, Ge(0.1)] | None = None
    """How much memory a job may use, in GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What a host, a group and defaults may all say, in this order of strength."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    connection: Literal["ssh", "local"] | None = None
    """ssh, or local for this machine itself."""
    address: Address | None = None
    """A name or an IP address; left out, what ~/.ssh/config says of the host's name."""
    port: Annotated[int, Ge(1), Le(65535)] | None = None
    """The port of sshd."""
    user: Word | None = None
    """Who to log in as."""
    identity_file: str | None = None
    """The private key to log in with."""
    proxy_jump: Jumps | None = None
    """The host to go through: one of this file, or [user@]host[:port]; several with commas."""
    internal_ip: Ip | None = None
    """Where the other workers reach it, when that is not its address."""
    tags: tuple[Word, ...] | None = None
    """Words to choose hosts by: --workers tag:WORD."""
    limits: LimitSettings | None = None
    """What jobs may use of it; everything, when left out."""
    nice: Annotated[int, Ge(-20), Le(19)] | None = None
    """The priority of jobs: 0 as anybody else, 19 only what is left over."""
    env: Environment | None = None
    """The environment of jobs. No secrets: export those where sollol runs."""
    workdir: Workdir | None = None
    """The folder on the host for environments, models, datasets and runs."""
    connect_timeout: Duration | None = None
    """How long a connection may take: 10s, 1m, or seconds."""
    enabled: bool | None = None
    """false keeps it out of jobs that do not name it, as `sollol hosts cordon` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """How workers reach each other."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    cidr: Cidr | None = None
    """The network that they share, like 192.0.2.0/24: each is reached by the others at the address
    that it has there."""
    ports: Ports = (29500, 29549)
    """The ports that jobs may listen on, like 29500-29549; from 1024 to 65535."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSettings:
    """Where workers get their packages from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    index_url: Source | None = None
    """A package index in place of the public one."""
    find_links: Source | None = None
    """A folder of wheels on the workers, or a page of links."""
    wheelhouse: Folder | None = None
    """A folder of wheels beside this file, sent to workers, which then fetch nothing."""
    python_mirror: Source | None = None
    """Where a Python is fetched from when a host has none that fits."""
    torch_backend: Torch = TorchBackend.AUTO
    """Which build of torch: auto by what the host has, cpu, the CUDA or ROCm that hosts with such a
    GPU get, or none for what the index gives."""
