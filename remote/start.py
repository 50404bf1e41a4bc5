"""What a rank does before its first step: load, tokenise, warm up, agree with the others, resume.

Trains nothing. Whatever would make ranks train apart is refused here, by name.
"""

import gc
import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from remote.agreement import agree_to_start, terms
from remote.base import ModelError, load_tokenizer
from remote.batches import Layout
from remote.beginning import begin
from remote.checkpoint import Checkpoints, damage
from remote.control import read_control
from remote.cores import threads_of_rank
from remote.data.render import DataError
from remote.data.tokenising import tokenise
from remote.data.tokens import Dataset
from remote.distill.reading import TeacherScores
from remote.engine import Engine, WorldError
from remote.engine.elastic import ElasticEngine
from remote.engine.static import StaticEngine
from remote.events import EventWriter
from remote.fit import check_reach, choose_layout, warm_up
from remote.model import FlatGradients, Model, load_model
from remote.presence import Presence
from remote.reports import check_reports
from remote.run import Rank, Run
from remote.session import Cursor, Say, Session, order_of, speaker
from remote.state import Learnt, make_moments
from remote.watchdog import Trend

ENGINES = ("static", "elastic")
FORESEEN = (ModelError, DataError, WorldError)  # their sentences say what to do


def start(
    run: Run, own: Rank, run_dir: Path, events: EventWriter
) -> tuple[Session, Cursor, Learnt]:
    """Brings one rank to its first step: everything that can be refused is refused here."""
    say = speaker(events)
    # A wrong world is refused before minutes go into loading.
    engine = start_engine(run, own, run_dir, events.attempt, say)
    device = device_of(own)
    check_reports(run.train.report_to, own.host)
    with Presence(engine, events, f"{run.model} and {Path(run.dataset).name}") as presence:
        model, data = load(run, run_dir, device, say)
        rows = data.training
        presence.doing = "the longest micro-batch, to see that it fits"
        share = -(-run.train.global_batch // len(run.world))
        layout = choose_layout(run, model, rows, share, say)
        session = assemble(run, own, run_dir, events, engine, model, data, layout)
        warm_up(session, say)
        if engine.heals:
            make_moments(session.optimizer)
            agreed = terms(model, rows)  # of the first weights, so before a checkpoint is loaded
            cursor = resume(session, say)
            learnt = Learnt(model, session.optimizer, cursor, agreed)
        presence.doing = "waiting for the other ranks"
        spare_collections()
        engine.join()
        if engine.heals:
            engine.settle(learnt)  # who came before us tells where the run is
    if not engine.heals:
        cursor = resume(session, say)
        agreed = terms(model, rows)
        agree_to_start(engine, agreed)
        learnt = Learnt(model, session.optimizer, cursor, agreed)
    events.emit(
        "ready",
        rank=own.rank,
        step=cursor.step,
        world_size=len(engine.members().ranks),
        device=str(device),
        torch=torch.__version__,
        digest=model.digest(),
        rows=len(rows),
        tokens=int(rows.lengths.sum()),
        parameters=model.network.num_parameters() - model.trained_count,
        rows_skipped=rows.skipped,
        rows_truncated=rows.truncated,
        template=rows.template,
        trainable_params=model.trained_count,
    )
    return session, cursor, learnt


def assemble(
    run: Run,
    own: Rank,
    run_dir: Path,
    events: EventWriter,
    engine: Engine,
    model: Model,
    data: Dataset,
    layout: Layout,
) -> Session:
    settings = run.train
    return Session(
        run=run,
        own=own,
        run_dir=run_dir,
        events=events,
        engine=engine,
        model=model,
        rows=data.training,
        validation=data.validation if len(data.validation) else None,
        layout=layout,
        gradients=FlatGradients(model.parameters),
        optimizer=torch.optim.AdamW(
            model.parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        ),
        checkpoints=Checkpoints(
            run_dir / "checkpoints", settings.save_total_limit, model.write_config
        ),
        scores=TeacherScores(workdir_of(run_dir), run.distill, data.training, model.device, events)
        if run.distill
        else None,
    )


def start_engine(run: Run, own: Rank, run_dir: Path, launch: int, say: Say) -> Engine:
    match run.engine:
        case "static":
            return StaticEngine(run, own)
        case "elastic":
            return ElasticEngine(
                run,
                own,
                run_dir=run_dir,
                launch=launch,
                lighthouses=run.lighthouses,
                say=say,
                wanted=partial(read_control, run_dir),
            )
        case _:
            raise WorldError(
                f"this payload has no engine {run.engine!r}; it has {', '.join(ENGINES)}: set "
                "engine to one of these"
            )


def spare_collections() -> None:
    """What was imported and loaded stays: Python's collector looks it over no more. It stops every
    thread for 0.3 s of CPU, which on a busy host is longer than a rank may be silent."""
    gc.collect()
    gc.freeze()


def keep_to_cores(run: Run) -> None:
    """As many threads as this rank has cores, unless the user has said how many."""
    if "OMP_NUM_THREADS" not in run.env:
        torch.set_num_threads(threads_of_rank(run))


def device_of(own: Rank) -> torch.device:
    if own.gpu is None:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise WorldError(
            f"slot {own.slot} was planned on GPU {own.gpu} of {own.host}, where torch "
            f"{torch.__version__} sees none; check the driver, or provision {own.host} again"
        )
    return torch.device("cuda", 0)  # the agent shows each rank its one GPU


def quieten() -> None:
    """Keeps out of the log what nobody who reads it can change."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # peft calls what transformers will drop one day.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def tokens_of(run: Run, run_dir: Path, tokenizer: Any, say: Say) -> Dataset:
    """The run's dataset as this tokenizer writes it."""
    settings = run.train
    data = tokenise(
        run.dataset,
        settings.format,
        tokenizer,
        settings.max_length,
        folder=workdir_of(run_dir) / "tokens",
        processes=threads_of_rank(run) * len(run.own_ranks),  # the host's other ranks wait for us
        val_size=settings.val_size,
        say=say,
    )
    rows = data.training
    say(
        f"{Path(run.dataset).name}: {len(rows):,} rows, {len(rows.tokens):,} tokens, of which "
        f"{int(rows.label_counts.sum()):,} are learnt; {rows.truncated:,} cut at "
        f"{settings.max_length}, of which {rows.shortened:,} lose tokens of their answer; "
        f"{rows.skipped:,} skipped, which have no answer within that"
    )
    if settings.val_size and not len(data.validation):
        say(
            f"no row is held out: val_size {settings.val_size:g} of {len(rows):,} rows took none, "
            "because a row's side follows from its text; raise val_size for a held-out loss"
        )
    elif settings.val_size:
        say(f"{len(data.validation):,} rows are held out (val_size {settings.val_size:g})")
    if rows.template == "plain":
        say("plain headings mark questions and answers, because the tokenizer has no chat template")
    return data


def load(run: Run, run_dir: Path, device: torch.device, say: Say) -> tuple[Model, Dataset]:
    quieten()
    tokenizer = load_tokenizer(run.model)
    data = tokens_of(run, run_dir, tokenizer, say)
    model = load_model(run, tokenizer, device)
    check_reach(model, data, say)
    begin(model, run_dir, say)
    whole = model.network.num_parameters()
    trained = f"{model.trained_count:,} of them trained"
    say(f"{run.base_name}: {whole:,} parameters, {trained}, on {device}")
    if model.autocast is not None:
        say(f"computing in {model.autocast} with fp32 adapters, because {device} supports it")
    return model, data


def workdir_of(run_dir: Path) -> Path:
    """Where tokens and scores lie, which all jobs share; the run itself where it lies in none."""
    return run_dir.parents[2] if run_dir.parents[1].name == "runs" else run_dir


def resume(session: Session, say: Say) -> Cursor:
    """Continues from the newest checkpoint that verifies on every rank, or from the start. Where
    the engine heals it is the newest of this rank alone."""
    engine, checkpoints = session.engine, session.checkpoints
    sound = []
    for step in checkpoints.steps():
        if reason := damage(checkpoints.path(step)):
            say(f"checkpoint-{step} is passed over: {reason}")
        else:
            sound.append(step)
    common = set(sound)
    if not engine.heals:
        offers = engine.exchange(json.dumps(sound[:100]))
        common = set.intersection(*(set(json.loads(offer)) for offer in offers.values()))
    if not common:
        return Cursor()
    step = max(common)
    snapshot = checkpoints.load(step)
    was, order = snapshot.cursor["order"], order_of(session.run, session.rows)
    short = snapshot.cursor["samples_done"] % order["global_batch"]  # of the last step of its run
    free = () if short else ("epochs",)  # more or fewer of them leave the order as it is
    if changed := [
        key for key, value in order.items() if was.get(key) != value and key not in free
    ]:
        key = changed[0]
        raise WorldError(
            f"checkpoint-{step} was made with {key} {was.get(key)} and this run has {order[key]}, "
            "so its cursor would mean other samples; start a new job for changed settings or data"
        )
    session.model.load_adapter(snapshot.adapter)
    session.optimizer.load_state_dict(snapshot.optimizer)
    holders = "this rank" if engine.heals else "every rank"
    say(f"continuing from checkpoint-{step}, the newest that {holders} holds whole")
    return Cursor(
        step=step,
        samples_done=snapshot.cursor["samples_done"],
        history=snapshot.state["log_history"],
        trend=Trend.of_history(snapshot.state["log_history"]),
    )
