"""Who may take the next step, from what every rank says about itself: fencing, majority, healing.
Pure: no torch, no network, no clock; every rank rules alone and all come to the same ruling."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from remote.engine.voice import GATHERING, Record, Voice


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """No step may be taken now. `absent` are the slots without which none may be."""

    reason: str
    absent: tuple[int, ...] = ()
    at_once: bool = False  # the others are busy for an instant: asking again is enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A higher generation lives: what this rank holds no longer counts."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A later process has taken over this rank's slot: this one has nothing left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unequal:
    """A rank that would train something else."""

    voice: Voice
    reference: Voice
    what: str

    @property
    def sentence(self) -> str:
        return (
            f"{self.voice.name} has other {self.what} than {self.reference.name}: "
            f"{self.voice.terms.get(self.what)} against {self.reference.terms[self.what]}; they "
            "must be equal on all workers before a step can be shared"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink:
    """All who are here take this record, in which those who leave no longer count, and ask again.
    It binds nobody before a majority of the old members is seen to hold it. Those who stay greet
    the keeper of the sidelight at which they will meet."""

    record: Record
    keeper: Voice


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The others go on without this rank, and do not need it for their majority."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """These ranks take the next step, in the order of their slots, from the state of `source`."""

    members: tuple[Voice, ...]
    source: Voice
    record: Record
    attempt: int
    fresh_group: bool
    patients: tuple[Voice, ...] = ()  # healed from the source before they compute
    aside: bool = False  # asks at the sidelight where all of them are counted, and who left is not


Ruling = Wait | Superseded | Replaced | Unequal | Shrink | Left | Go


def rule(voices: Iterable[Voice], own: Voice) -> Ruling:
    """What `own` does next. `voices` is the lighthouse's answer, the same for all who are in it."""
    heard = [voice for voice in voices if voice.job == own.job]
    newest = max((voice.record for voice in heard), key=lambda record: record.generation)
    if own.generation < newest.generation:
        return Superseded(record=newest)
    present = _incarnations(voice for voice in heard if voice.generation == own.generation)
    if present[own.slot].replica != own.replica:
        return Replaced()
    if busy := [voice for voice in present.values() if voice.doing != GATHERING]:
        return Wait(reason=f"{busy[0].name} is still adding up a step", at_once=True)
    source = _source(list(present.values()))
    for voice in sorted(present.values(), key=lambda voice: voice.slot):
        if differing := _difference(voice, source):
            if not source.holds or voice.replica == own.replica:
                return Unequal(voice=voice, reference=source, what=differing)
            del present[voice.slot]  # its own rank refuses to go on; nobody waits for that
    record = max(
        (present[slot].record for slot in sorted(present)),
        key=lambda record: (record.attempt, record.is_confirmed),
    )
    if absent := _missing(record, present):
        return Wait(
            reason="those who are here are not enough to commit a step",
            absent=absent,
        )
    members = tuple(present[slot] for slot in sorted(present))
    attempt = max(voice.attempt for voice in members)
    record = _confirmed(record, source, members)
    leavers = _leavers(members)
    aside = False
    if leavers and record.is_confirmed:
        stayers = tuple(voice for voice in members if voice.slot not in leavers)
        rest = tuple(slot for slot in record.members if slot not in leavers)
        if rest == record.members and _version(_source(stayers)) == _version(source):
            if own.slot in leavers:
                return Left(record=record)
            members, source = stayers, _source(stayers)
            aside = all(voice.greeted == stayers[0].replica for voice in stayers)
        elif rest not in ((), record.members) and _are_one(source, members):
            return Shrink(record=record.after_commit(attempt + 1, rest), keeper=stayers[0])
    return Go(
        members=members,
        source=source,
        record=replace(record, group=tuple(voice.slot for voice in members)),
        attempt=attempt,
        fresh_group=not _is_group(members),
        patients=_patients(source, members),
        aside=aside,
    )


def missing_from(voices: Iterable[Voice], own: Voice, group: Sequence[Voice]) -> list[Voice]:
    """Who of a group has not computed its part of the sum that `own` is about to add up."""
    ready = {
        voice.replica
        for voice in voices
        if (voice.job, voice.group, voice.doing) == (own.job, own.group, own.doing)
    }
    return [member for member in group if member.replica not in ready]


def is_majority(slots: Iterable[int], of: Sequence[int]) -> bool:
    """More than half of `of`, or exactly half with its lowest slot."""
    there = set(of) & set(slots)
    return 2 * len(there) > len(of) or (2 * len(there) == len(of) and min(of) in there)


def _incarnations(voices: Iterable[Voice]) -> dict[int, Voice]:
    """One voice a slot: of a process and its successor the successor counts."""
    present: dict[int, Voice] = {}
    for voice in voices:
        other = present.get(voice.slot)
        if other is None or (other.launch, other.replica) < (voice.launch, voice.replica):
            present[voice.slot] = voice
    return present


def _source(voices: Sequence[Voice]) -> Voice:
    """Whose state stands: the highest step, of its versions the one with the highest attempt, of
    equal ones the lowest slot. What a rank loaded from its disk counts only while nobody has
    more."""
    holders = [voice for voice in voices if voice.holds] or voices
    return max(holders, key=lambda voice: (*_version(voice)[1:], -voice.slot))


def _version(voice: Voice) -> tuple[bool, int, int]:
    """What tells its state from others of the same run."""
    return voice.holds, voice.step, voice.record.attempt


def _difference(voice: Voice, reference: Voice) -> str:
    for what, value in reference.terms.items():
        if voice.terms.get(what) != value:
            return what
    return ""


def _missing(record: Record, present: Mapping[int, Voice]) -> tuple[int, ...]:
    """The slots without which nothing may be committed, or none.

    A rank that lost its memory is no witness of what was committed. It counts only where every slot
    is present that may know of more: then nobody else can be committing, either.
    """
    holders = [slot for slot, voice in present.items() if voice.holds]
    if is_majority(holders, record.members) and is_majority(holders, record.before):
        return ()
    everyone = {*record.members, *record.before, *record.group}
    return tuple(sorted(everyone - set(present)))


def _confirmed(record: Record, source: Voice, members: Sequence[Voice]) -> Record:
    """The record, without `before` once a majority of both is seen to hold its step."""
    holding = [
        voice.slot
        for voice in members
        if voice.holds and (voice.step, voice.record.attempt) == (source.step, record.attempt)
    ]
    if is_majority(holding, record.members) and is_majority(holding, record.before):
        return replace(record, before=record.members)
    return record


def _leavers(members: Sequence[Voice]) -> set[int]:
    """Who may be let go now. The last one stays, or nobody would have what was learnt."""
    leavers = {voice.slot for voice in members if voice.leaving}
    return leavers if len(leavers) < len(members) else set()


def _are_one(source: Voice, members: Sequence[Voice]) -> bool:
    """Whether all hold the same state, so that a new record says nothing new about anybody's."""
    return all(voice.holds for voice in members) and not _patients(source, members)


def _is_group(members: Sequence[Voice]) -> bool:
    """Whether these ranks, all of them and nobody else, already have a group that works."""
    first = members[0]
    return first.group_size == len(members) and all(
        voice.group == first.group != "" for voice in members
    )


def _patients(source: Voice, members: Sequence[Voice]) -> tuple[Voice, ...]:
    """Who is healed. Digests are compared within one kind of numerics only; where one of a kind
    needs it all of the kind are healed, for it could not be made equal to the others alone."""
    behind = {voice.replica for voice in members if voice.step != source.step}
    pioneers = {source.numerics: source}
    for voice in members:
        if voice.replica not in behind:
            pioneer = pioneers.setdefault(voice.numerics, voice)
            if voice.digest != pioneer.digest:
                behind.add(voice.replica)
    kinds = {voice.numerics for voice in members if voice.replica in behind}
    kinds.discard(source.numerics)
    return tuple(voice for voice in members if voice.replica in behind or voice.numerics in kinds)
