import threading
import time

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from deepaudio.serving.batch_dispatch import BatchDispatch, Closed, Full, Late, RequestQueue

MOST, SLOTS, WAITING, OF_STREAM = 3, 4, 6, 2


class AnyInterleaving(RuleBasedStateMachine):
    """Requests count up; a fake device keeps, in every slot, all that its stream has said."""

    stateful = True
    streams = Bundle("streams")
    requests = Bundle("requests")

    def __init__(self):
        super().__init__()
        self.queue = RequestQueue(
            most=MOST,
            stateful=self.stateful,
            max_streams=SLOTS,
            max_waiting=WAITING,
            max_of_stream=OF_STREAM,
        )
        self.now = 0.0
        self.number = 0
        self.open = set()
        self.asked = {}  # future: (stream, number, deadline, said before it)
        self.said = {}  # stream: numbers that were submitted
        self.slots = [None] * SLOTS
        self.batch = None
        self.patience = {}  # request's future: batches it has seen go by

    @rule(target=streams)
    def begin(self):
        if len(self.taken()) == SLOTS:
            with pytest.raises(Full):
                self.queue.open()
            return None
        stream = self.queue.open()
        assert stream.slot not in {other.slot for other in self.taken()}
        self.open.add(stream)
        self.said[stream] = []
        return stream

    def taken(self):
        running = {request.stream for request in self.batch or ()}
        return {s for s in self.said if s in self.open or s in running}

    @rule(target=requests, stream=streams, patience=st.none() | st.integers(1, 5))
    def submit(self, stream, patience):
        if stream is None:
            return None
        deadline = None if patience is None else self.now + patience
        number, self.number = self.number, self.number + 1
        held = self.waiting()
        full = self.is_full(held, stream)
        # A cancelled request may hold its place until its turn.
        full_at_most = self.is_full([*held, *(f for f in self.asked if f.cancelled())], stream)
        try:
            future = self.queue.submit(stream, number, now=self.now, deadline=deadline)
        except Closed:
            assert stream not in self.open
            return None
        except Full:
            assert full_at_most
            return None
        assert stream in self.open and not full
        self.asked[future] = stream, number, deadline, tuple(self.said[stream])
        self.said[stream].append(number)
        self.patience[future] = 0
        return future

    def is_full(self, futures, stream):
        of_stream = [future for future in futures if self.asked[future][0] is stream]
        return len(futures) >= WAITING or len(of_stream) >= OF_STREAM

    def waiting(self):
        held = {request.future for request in self.batch or ()}
        return [f for f in self.asked if not f.done() and f not in held]

    @rule(future=requests)
    def cancel(self, future):
        if future is not None:
            future.cancel()

    @rule(stream=consumes(streams))
    def close(self, stream):
        if stream is not None:
            self.queue.close(stream)
            self.open.discard(stream)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def take(self):
        if self.batch is not None:
            return
        before = self.waiting()
        self.batch = self.queue.take(self.now)
        self.jobs = self.queue.jobs(self.batch)
        assert len(self.batch) <= MOST
        self.note_dropped()
        if self.stateful:
            assert len({request.stream for request in self.batch}) == len(self.batch)
        for request in self.batch:
            _, number, deadline, _ = self.asked[request.future]
            assert request.payload == number
            assert deadline is None or self.now < deadline
            assert not request.future.cancelled()
        if len(self.batch) < MOST and self.stateful:
            # Nothing that could have been in it is left out.
            assert not {self.asked[f][0] for f in self.waiting()} - {r.stream for r in self.batch}
        for future in before:
            if not future.done() and future not in {r.future for r in self.batch}:
                self.patience[future] += 1
                # There are SLOTS streams of OF_STREAM requests at most before it.
                assert self.patience[future] <= SLOTS * OF_STREAM

    def note_dropped(self):
        """Streams that the queue has closed because a request of theirs was dropped."""
        self.open = {stream for stream in self.open if not stream.closed}

    @rule(fails=st.sampled_from([False, False, False, True]))
    def finish(self, fails):
        if self.batch is None:
            return
        batch, self.batch = self.batch, None
        error = RuntimeError("the device is lost") if fails else None
        self.queue.finish(error)
        self.note_dropped()
        for request, job in zip(batch, self.jobs, strict=True):
            stream, number, _, before = self.asked[request.future]
            if error is not None:
                request.future.set_exception(error)
                continue
            assert job.slot == stream.slot
            if self.stateful:
                history = () if job.fresh else self.slots[job.slot]
                self.slots[job.slot] = (*history, number)
                # What the slot holds is all that this stream has said, and no other's.
                assert self.slots[job.slot] == (*before, number)
            request.future.set_result(number)

    @invariant()
    def every_answer_is_its_own(self):
        for future, (_, number, _, _) in self.asked.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                assert future.result() == number

    @invariant()
    def slots_are_those_of_open_streams(self):
        assert self.queue.streams == len(self.taken())

    def teardown(self):
        self.finish(False)
        self.now += 100
        while True:
            self.take()
            if not self.batch:
                break
            self.finish(False)
        self.batch = None
        # Nothing is lost: every request has an answer, or an error that says why not.
        assert all(future.done() for future in self.asked)
        assert self.queue.waiting == 0
        for future in self.asked:
            if not future.cancelled() and (error := future.exception()) is not None:
                assert isinstance(error, Late | Closed | RuntimeError)
        for stream in self.open:
            self.queue.close(stream)
        assert self.queue.streams == 0
        assert len({self.queue.open().slot for _ in range(SLOTS)}) == SLOTS


class WithoutState(AnyInterleaving):
    stateful = False


TestAnyInterleaving = AnyInterleaving.TestCase
TestWithoutState = WithoutState.TestCase
for case in (TestAnyInterleaving, TestWithoutState):
    case.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
del case  # or pytest would find it


class Adder:
    """Adds what a stream submits; notes its batches."""

    stateful = True

    def __init__(self, sizes=(1, 2, 4)):
        self.sizes = sizes
        self.totals = {}
        self.batches = []
        self.open = threading.Event()
        self.open.set()
        self.failing = False

    def wait_for(self, batch, after):
        """Waits until the batch with that number runs."""
        end = time.monotonic() + 60
        while len(self.batches) <= after:
            assert time.monotonic() < end
            time.sleep(0.001)
        assert self.batches[after] == batch

    def run(self, jobs, size):
        self.batches.append((len(jobs), size))
        if jobs:
            assert self.open.wait(60)
            if self.failing:
                raise RuntimeError("the device is lost")
        for job in jobs:
            self.totals[job.slot] = job.payload + (0 if job.fresh else self.totals[job.slot])
        return [self.totals[job.slot] for job in jobs]

    def reset(self):
        self.totals = {}


@pytest.fixture
def dispatch():
    made = []

    def make(worker, **settings):
        made.append(
            BatchDispatch(
                worker, **{"max_streams": 8, "max_waiting": 16, "max_of_stream": 4, **settings}
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.worker.open.set()
        one.stop()


def test_all_sizes_are_warm_before_the_first_request(dispatch):
    worker = Adder()
    dispatch(worker)
    assert worker.batches == [(0, 1), (0, 2), (0, 4)]


def test_what_has_arrived_is_the_next_batch(dispatch):
    worker = Adder()
    made = dispatch(worker)
    streams = [made.open() for _ in range(6)]
    worker.open.clear()
    first = made.submit(streams[0], 1)
    worker.wait_for((1, 1), after=3)
    rest = [made.submit(stream, 10) for stream in streams[1:]]
    worker.open.set()
    assert first.result(60) == 1
    assert [future.result(60) for future in rest] == [10] * 5
    # Of five, the four that fit; then the one that was left.
    assert worker.batches[3:] == [(1, 1), (4, 4), (1, 1)]


def test_threads_that_ask_together_get_their_own_sums(dispatch, rng):
    worker = Adder()
    made = dispatch(worker)
    numbers = rng.integers(1, 1000, (8, 30))
    sums = np.zeros_like(numbers)

    def ask(row):
        stream = made.open()
        for column, number in enumerate(numbers[row].tolist()):
            sums[row, column] = made.submit(stream, number).result(30)
        made.close(stream)

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(sums, numbers.cumsum(axis=1))
    assert made.streams == made.waiting == 0


def test_a_failing_batch_ends_its_streams_and_no_others_that_come(dispatch):
    worker = Adder()
    made = dispatch(worker)
    old = made.open()
    made.submit(old, 5).result(60)
    worker.failing = True
    with pytest.raises(RuntimeError, match="the device is lost"):
        made.submit(old, 1).result(60)
    worker.failing = False
    with pytest.raises(Closed):
        made.submit(old, 1)
    assert made.submit(made.open(), 7).result(60) == 7


def test_a_request_that_waits_too_long_is_late(dispatch):
    worker = Adder(sizes=(1,))
    made = dispatch(worker)
    one, other = made.open(), made.open()
    worker.open.clear()
    running = made.submit(one, 1)
    worker.wait_for((1, 1), after=1)
    late = made.submit(other, 1, seconds=0.01)
    time.sleep(0.02)
    worker.open.set()
    assert running.result(60) == 1
    with pytest.raises(Late, match="not begun within 0.0"):
        late.result(60)


def test_stopping_fails_what_waits_and_refuses_what_comes(dispatch):
    worker = Adder(sizes=(1,))
    made = dispatch(worker)
    streams = [made.open(), made.open()]
    worker.open.clear()
    running = made.submit(streams[0], 3)
    worker.wait_for((1, 1), after=1)
    waiting = made.submit(streams[1], 3)
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    with pytest.raises(Closed, match="stopping"):
        waiting.result(60)
    worker.open.set()
    assert running.result(60) == 3
    stopping.join()
    with pytest.raises(Closed, match="stopping"):
        made.open()


def test_batches_begin_no_faster_than_the_pace(dispatch):
    made = dispatch(Adder(), pace_seconds=0.05)
    stream = made.open()
    begin = time.monotonic()
    for number in range(4):
        made.submit(stream, number).result(60)
    assert time.monotonic() - begin >= 0.15


def test_the_observer_is_told_of_batch_padding_and_waits(dispatch):
    told = []
    worker = Adder()
    made = dispatch(worker, observe=lambda *what: told.append(what))
    worker.open.clear()
    futures = [made.submit(made.open(), 1)]
    worker.wait_for((1, 1), after=3)
    futures += [made.submit(made.open(), 1) for _ in range(3)]
    worker.open.set()
    for future in futures:
        future.result(60)
    made.stop()
    assert [(jobs, size, len(waited)) for jobs, size, waited, _ in told] == [(1, 1, 1), (3, 4, 3)]
    assert all(wait >= 0 for _, _, waited, _ in told for wait in waited)


@pytest.mark.parametrize("name", ["most", "max_streams", "max_waiting", "max_of_stream"])
def test_a_limit_below_one_is_refused(name):
    limits = {"most": 1, "max_streams": 1, "max_waiting": 1, "max_of_stream": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        RequestQueue(stateful=True, **limits)
