"""Many hosts asked at once."""

from pathlib import Path

from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.jobs.home import Home, open_home
from sollol_tui.jobs.probe import ask
from sollol_tui.model.inventory import ConnectionKind, Host


async def test_a_defect_that_shows_on_one_host_keeps_no_other_from_answering(
    tmp_path: Path,
) -> None:
    home: Home = open_home(tmp_path / "home")
    hosts = [
        Host(name=name, connection=ConnectionKind.LOCAL, workdir=str(tmp_path / name))
        for name in ("odd", "sound")
    ]

    async def question(connection: HostConnection) -> str:
        if connection.host.name == "odd":
            raise LookupError("nobody foresaw this")
        return connection.host.name

    answers = await ask(home, hosts, question)
    assert answers.said == {"sound": "sound"}
    assert "LookupError: nobody foresaw this" in str(answers.errors["odd"])
    assert "defect of sollol" in answers.reasons()["odd"]
