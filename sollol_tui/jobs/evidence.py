"""Reads from the state what a job's ranks measured and compared, beside what its plan promised."""

from sollol_tui.jobs.database import told_if_damaged
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.records import load
from sollol_tui.jobs.store import Store
from sollol_tui.model.evidence import EVIDENCE, Evidence, Said, speed_of, weights_of
from sollol_tui.model.plan import Plan


@told_if_damaged
def read_evidence(store: Store, job: str) -> Evidence:
    said = [
        Said(
            kind=event.kind,
            host=event.host,
            slot=event.slot,
            generation=event.generation,
            data=event.data,
        )
        for event in read_events(store, job, EVIDENCE)
    ]
    speeds = (speed_of(each.data) for each in reversed(said) if each.kind == "speed")
    prediction = load(Plan, store.job(job).plan).prediction
    return Evidence(
        speed=next((speed for speed in speeds if speed is not None), None),
        weights=weights_of(said),
        predicted_speedup=prediction.speedup if prediction else None,
        predicted_efficiency=prediction.efficiency if prediction else None,
        prediction=prediction.as_data() if prediction else None,
    )
