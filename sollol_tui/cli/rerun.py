"""`sollol rerun`: a new job from what was asked for in an old one."""

import click

from sollol_tui.cli.params import JOB
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.train import prepare, run_prepared


@click.command()
@click.argument("job", type=JOB)
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of a job file, changed."
)
@click.option(
    "--from-checkpoint",
    is_flag=False,
    flag_value="newest",
    metavar="[N]",
    help="Begin at a checkpoint of it, by default the newest.",
)
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it is submitted.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--no-queue", is_flag=True, help="Refuse when its workers are not free now.")
@pass_session
def rerun(
    session: Session,
    job: str,
    settings: tuple[str, ...],
    from_checkpoint: str | None,
    detach: bool,
    dry_run: bool,
    no_queue: bool,
) -> int:
    """Runs a job once more, with changes, as a new one; the old one stays as it is.

    From a checkpoint it goes on at the same sample, as far as the samples are the same; where they
    are not it begins with the weights alone, and says why.

    \b
    Example: sollol rerun j-7f3a --set epochs=2 --from-checkpoint
    """
    from sollol_tui.model.job_file import changed, parse_setting

    changes = dict(parse_setting(setting) for setting in settings)
    with session.client(acts=not dry_run) as client:
        old = client.get_job_status(job).id
        resume = f"{old}:{from_checkpoint}" if from_checkpoint else None
        spec = changed(client.job_spec(old), changes)
        prepared = prepare(client, spec, queue=not no_queue, resume=resume)
        return run_prepared(session, client, prepared, detach=detach, dry_run=dry_run)
