"""The elastic engine's parts by themselves: shares by speed, states as vectors, patience."""

import socket
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
import torch

from remote.control import Action
from remote.data.order import deal
from remote.engine import DismissedError, Tally
from remote.engine.group import SLACK_S, Group, GroupLostError, OwnStore, Pace
from remote.engine.heal import copy_over, pack, unpack
from remote.engine.lighthouse import NoLighthouseError, serve
from remote.engine.loading import tell_loading, who_is_loading
from remote.engine.lookout import Lookout
from remote.engine.orders import Orders
from remote.engine.shares import Shares, redealt, step_time
from remote.run import Lighthouse
from tests.ports import unused_port


def test_shares_follow_speeds_where_that_saves_more_than_a_twentieth():
    assert redealt(32, (1, 1), (30, 10)) == (30, 10)
    assert redealt(1000, (1, 1), (10.2, 10)) == (1, 1)
    assert redealt(8, (1, 1), (10.5, 9)) == (1, 1)  # no share of 8 would change


def test_who_was_not_measured_counts_as_usual():
    assert redealt(30, (1, 1, 1), (20, 0, 10)) == (20, 15, 10)
    assert redealt(30, (1, 1), (0, 0)) == (1, 1)


def test_shares_by_speed_take_less_time_than_equal_ones():
    speeds = (100.0, 50.0, 25.0)
    weights = redealt(70, (1, 1, 1), speeds)
    assert step_time(70, weights, speeds) == pytest.approx(0.4)
    assert step_time(70, (1, 1, 1), speeds) > 0.9
    assert sum(share.stop - share.start for share in deal(70, weights)) == 70


def test_speed_is_that_of_steps_and_not_of_other_sums():
    now = [0.0]
    shares = Shares(12, [0.0, 0.0], clock=lambda: now[0])
    shares.begin_step()
    now[0] = 2.0
    assert shares.with_speed(Tally(samples=6), 1).speeds == (0.0, pytest.approx(3.0))
    now[0] = 50.0
    assert shares.with_speed(Tally(samples=600), 1).speeds == (0.0, pytest.approx(3.0))
    shares.begin_step()
    now[0] = 51.0
    assert shares.with_speed(Tally(samples=6), 1).speeds == (0.0, pytest.approx(3.9))
    shares.begin_step()
    now[0] = 99.0
    assert shares.with_speed(Tally(samples=0), 1).speeds == (0.0, pytest.approx(3.9))


def test_speeds_travel_in_the_tally_unrounded():
    tally = Tally(samples=3, tokens=2**40 + 1, loss_sum=0.1, speeds=(0.1, 7e9))
    assert Tally.of_vector(tally.vector()) == tally


def test_a_state_comes_out_of_its_vector_bit_for_bit():
    tensors = [torch.randn(3, 5), torch.tensor([float("inf"), -0.0])]
    note = {"samples_done": 2**53 - 1, "history": [{"loss": 0.1, "at": "grün"}]}
    flat = pack(tensors, note)
    assert flat.dtype is torch.float32
    numbers, said = unpack(flat)
    assert said == note
    assert torch.equal(numbers, torch.cat([tensor.reshape(-1) for tensor in tensors]))


def test_whoever_gave_up_too_early_waits_longer_until_a_sum_comes_together():
    pace = Pace()
    first = pace.limit_s(1 << 20)
    pace.gave_up()
    assert pace.limit_s(1 << 20) == 2 * first
    pace.add(1 << 20, 0.5)
    assert pace.limit_s(1 << 20) == pytest.approx(2 * 0.5 + SLACK_S)
    pace.add(100, 9.0)  # latency says nothing about bandwidth
    assert pace.limit_s(1 << 20) == pytest.approx(2 * 0.5 + SLACK_S)


def pair(key: str = "1/1/1") -> tuple[Group, Group]:
    """Two ranks in this process."""
    store = OwnStore("127.0.0.1")
    groups: dict[int, Group] = {}

    def meet(rank: int) -> None:
        groups[rank] = Group(key, "127.0.0.1", store.port, "127.0.0.1", rank, 2)

    both = [threading.Thread(target=meet, args=(rank,)) for rank in (0, 1)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    return groups[0], groups[1]


def test_a_large_state_travels_in_pieces():
    sender, receiver = pair()
    flat = pack([torch.randn((1 << 21) + 77)], {"step": 3})
    received: list[torch.Tensor] = []
    reading = threading.Thread(target=lambda: received.append(copy_over(receiver, None, Pace())))
    reading.start()
    copy_over(sender, flat, Pace())
    reading.join()
    assert torch.equal(received[0].view(torch.int32), flat.view(torch.int32))


def test_a_silent_peer_is_given_up_in_time_and_gloo_keeps_the_buffer():
    group, _silent = pair()
    buffer = torch.ones(8)
    with pytest.raises(GroupLostError, match="no end after") as lost:
        group.sum(buffer, limit_s=0.2)
    assert lost.value.gave_up
    assert group._buffers == (buffer,)


def test_a_lighthouse_does_without_torch():
    loaded = (
        "import sys, remote.engine.lighthouse as l; l.coordination(); print('torch' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", loaded],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "False\n"


def test_a_lighthouse_says_that_it_cannot_listen():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NoLighthouseError, match=rf"can listen on 127\.0\.0\.1:{port}"):
            serve("127.0.0.1", port)


def test_a_rank_that_finds_no_lighthouse_says_where_it_looked():
    said: list[str] = []

    def leave_once_it_is_said() -> None:
        if said:
            raise DismissedError(Action.KILL)

    with socket.socket() as closed:  # bound, but nobody listens there
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        lookout = Lookout(
            [Lighthouse(host="w1", address="127.0.0.1", port=port)], "0.1.x", said.append
        )
        with pytest.raises(DismissedError):
            lookout.begin(60, leave_once_it_is_said)
        lookout.close()
    assert lookout.where == f"w1 (127.0.0.1:{port})"
    assert said == ["the lighthouse on w1 is passed over: nobody listens there"]


def test_a_call_that_fails_late_takes_no_client_from_the_one_that_is_made():
    answered = SimpleNamespace(quorum_id=7, participants=[])
    client = SimpleNamespace(quorum=lambda *arguments, **more: answered)
    lookout = Lookout([Lighthouse(host="w1", address="127.0.0.1", port=1)], "0.1.x", print)

    class Taken(tuple):
        def __getitem__(self, place):
            lookout._asker = None  # by the late one, whichever instant it finds
            return super().__getitem__(place)

    lookout._asker = Taken((0, client))
    answer = SimpleQueue()
    lookout._call(0, SimpleNamespace(step=1, holds=True, data=dict), answer)
    assert answer.get_nowait().quorum_id == 7


def test_a_rank_that_no_lighthouse_answers_in_time_is_told_so():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        light = Lighthouse(host="w1", address="127.0.0.1", port=closed.getsockname()[1])
        lookout = Lookout([light], "0.1.x", lambda message: None)
        assert not lookout.begin(0.0, lambda: None)
        lookout.close()


def obeyed(orders: Orders, **how: bool) -> bool:
    try:
        orders.obey(**how)
    except DismissedError:
        return True
    return False


def test_a_waiting_rank_obeys_at_once_or_gives_the_others_time_and_counts_each_wait_anew():
    now, wanted = [100.0], [Action.RUN]
    orders = Orders(lambda: wanted[0], lambda: now[0])

    def wait(seconds: float) -> bool:
        """Whether it leaves within so long, asked ever again."""
        end = now[0] + seconds
        while now[0] < end:
            now[0] += 0.1
            if obeyed(orders):
                return True
        return False

    assert not wait(60)
    wanted[0] = Action.STOP
    assert not wait(1.5)
    now[0] += 30  # a step was taken meanwhile
    assert not wait(1.5)
    assert wait(1.0)
    now[0] += 1
    assert obeyed(orders, alone=True)
    wanted[0] = Action.LEAVE
    now[0] += 1
    assert not obeyed(orders, alone=True)
    assert not wait(9)
    assert wait(1.5)
    now[0] += 1
    assert not obeyed(orders, awaited=True)
    wanted[0] = Action.KILL
    now[0] += 1
    assert obeyed(orders, awaited=True)
    assert wait(0.5)


def test_who_is_loading_is_told_at_all_lighthouses_of_the_job():
    servers = [serve("127.0.0.1", 0) for _ in range(2)]
    lights = [
        Lighthouse(host="w1", address="127.0.0.1", port=int(server.address().rpartition(":")[2]))
        for server in servers
    ]
    gone = Lighthouse(host="w3", address="127.0.0.1", port=unused_port())
    tell_loading([gone, *lights], "j-1.abc", 3)
    tell_loading([lights[1]], "j-2.abc", 4)
    for light in lights:
        assert who_is_loading([gone, light], "j-1.abc", 20) == {3}
    assert who_is_loading(lights, "j-1.abc", 0) == set()
    for server in servers:
        server.shutdown()
