"""One pipeline, several callers: turns, callbacks that wait for other threads, and what a sound's time is."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_tta.errors import BackendError, Cancelled, EdgeTTAError
from edge_tta.runtime import GenerationRequest, Progress, TextToAudio
from edge_tta.runtime.turns import Turns

REQUEST = GenerationRequest("wind", seconds=0.5)


class HeldBackend:
    """Waits inside the first decoder stage until ``go_on`` is set."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.running, self.go_on = inner, threading.Event(), threading.Event()
        self.closed_while_running = False
        self._busy = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def decoder(self, latent: Any) -> Any:
        self._busy = True
        self.running.set()
        assert self.go_on.wait(30)
        self._busy = False
        return self.inner.decoder(latent)

    def close(self) -> None:
        self.closed_while_running |= self._busy
        self.inner.close()


@pytest.fixture
def model(toy_bundle: Path) -> Iterator[TextToAudio]:
    with TextToAudio.open(toy_bundle, threads=1) as opened:
        yield opened


@pytest.fixture
def held(model: TextToAudio) -> tuple[TextToAudio, HeldBackend]:
    backend = HeldBackend(model.model.backend)
    return TextToAudio(dataclasses.replace(model.model, backend=backend)), backend


class Caller:
    """``generate`` in a thread of its own."""

    def __init__(
        self, model: TextToAudio, on_progress: Callable[[Progress], bool | None] | None = None
    ) -> None:
        self.outcome: Any = None
        self._call = lambda: model.generate(REQUEST, on_progress=on_progress)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._call()
        except EdgeTTAError as error:
            self.outcome = error

    def wait(self) -> Any:
        self._thread.join(20)
        assert not self._thread.is_alive(), "deadlock"
        return self.outcome


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def joined(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "deadlock"


def test_a_callback_may_wait_for_a_thread_that_closes(toy_bundle: Path) -> None:
    model = TextToAudio.open(toy_bundle, threads=1)
    caller = Caller(model, lambda progress: joined(model.close) if progress.stage == "generator" else None)
    assert isinstance(caller.wait(), BackendError) and "the pipeline is closed" in str(caller.outcome)


def test_a_callback_may_wait_for_a_thread_that_generates(model: TextToAudio) -> None:
    expected = model.generate(REQUEST).audio.samples.tobytes()
    inner: list[bytes] = []

    def generate_inside(progress: Progress) -> None:
        if progress.stage == "generator":
            joined(lambda: inner.append(model.generate(REQUEST).audio.samples.tobytes()))

    caller = Caller(model, generate_inside)
    assert caller.wait().audio.samples.tobytes() == expected and inner == [expected]


def test_a_call_that_waits_hears_its_own_callback(
    held: tuple[TextToAudio, HeldBackend], model: TextToAudio
) -> None:
    shared, backend = held
    first = Caller(shared)
    assert backend.running.wait(20)
    asked: list[Progress] = []
    second = Caller(shared, lambda progress: bool(asked.append(progress)) or len(asked) < 4)
    assert isinstance(second.wait(), Cancelled) and str(second.outcome) == "cancelled before tokenizer"
    assert len(asked) == 4 and {progress.fraction for progress in asked} == {0.0}
    assert first.outcome is None, "only the call that asked is cancelled"
    backend.go_on.set()
    assert first.wait().audio.samples.tobytes() == model.generate(REQUEST).audio.samples.tobytes()


def test_cancel_stops_waiting_calls_too(held: tuple[TextToAudio, HeldBackend]) -> None:
    shared, backend = held
    reached = threading.Event()
    callers = [Caller(shared), Caller(shared)]
    assert backend.running.wait(20)
    until(lambda: len(shared._turns._waiting) == 1)
    waiting_callback = Caller(shared, lambda progress: reached.set())
    assert reached.wait(20)
    shared.cancel()
    assert isinstance(waiting_callback.wait(), Cancelled), "while the stage of another still runs"
    until(lambda: any(caller.outcome is not None for caller in callers))
    backend.go_on.set()
    outcomes = [caller.wait() for caller in callers]
    # A stage that runs is not interrupted, and the decoder was the last one.
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Cancelled", "GenerationResult"]
    assert shared.generate(REQUEST).audio.frames == 22050


def test_close_waits_for_the_stage_that_runs_and_stops_the_rest(
    held: tuple[TextToAudio, HeldBackend],
) -> None:
    shared, backend = held
    first = Caller(shared)
    assert backend.running.wait(20)
    second = Caller(shared)
    until(lambda: len(shared._turns._waiting) == 1)
    closing = threading.Thread(target=shared.close, daemon=True)
    closing.start()
    assert isinstance(second.wait(), BackendError)
    closing.join(0.2)
    assert closing.is_alive(), "the stage still runs"
    backend.go_on.set()
    closing.join(20)
    assert not closing.is_alive() and not backend.closed_while_running
    assert first.wait().audio.frames == 22050
    with pytest.raises(BackendError, match="the pipeline is closed"):
        shared.generate(REQUEST)


def test_neither_callbacks_nor_other_calls_count_as_time_of_a_sound(
    held: tuple[TextToAudio, HeldBackend],
) -> None:
    shared, backend = held
    backend.go_on.set()
    timings = shared.generate(REQUEST, on_progress=lambda progress: time.sleep(0.2)).timings
    stages = timings.tokenizer + timings.text_encoder + timings.generator + timings.decoder
    assert 0 < stages <= timings.total < 0.4  # five times 0.2 s asleep
    backend.go_on.clear()
    backend.running.clear()
    first = Caller(shared)
    assert backend.running.wait(20)
    second = Caller(shared)
    time.sleep(0.6)
    backend.go_on.set()
    assert first.wait().timings.decoder >= 0.6
    assert second.wait().timings.total < 0.4


def test_turns_are_given_in_the_order_they_were_asked_for() -> None:
    turns, order, threads = Turns(), [], []
    with turns.taken():
        for name in ("a", "b", "c", "close"):

            def take(name: str = name) -> None:
                with turns.taken(first=name == "close"):
                    order.append(name)

            threads.append(threading.Thread(target=take, daemon=True))
            threads[-1].start()
            until(lambda: len(turns._waiting) == len(threads))
        with turns.taken():  # the thread's own turn, taken again
            order.append("inner")
    for thread in threads:
        thread.join(20)
    assert order == ["inner", "close", "a", "b", "c"]


def test_a_turn_may_end_while_another_thread_looks_whose_it_is() -> None:
    class EndsWhenSeen(Turns):
        @property
        def _holder(self) -> Any:
            seen, self.held = self.held, None
            return seen

        @_holder.setter
        def _holder(self, held: Any) -> None:
            self.held = held

    turns = EndsWhenSeen()
    turns._holder = object(), threading.get_ident() + 1
    with turns.taken():
        pass


def test_who_gives_up_leaves_no_gap() -> None:
    turns, order = Turns(), []

    def give_up() -> None:
        raise Cancelled("enough")

    def try_it() -> None:
        with pytest.raises(Cancelled), turns.taken(give_up):
            order.append("never")

    def take() -> None:
        with turns.taken():
            order.append("taken")

    with turns.taken():
        joined(try_it)
    joined(take)
    assert order == ["taken"] and turns._holder is None


def test_an_error_inside_a_turn_ends_it() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="inside"), turns.taken():
        raise ValueError("inside")
    assert turns._holder is None and not turns._waiting
