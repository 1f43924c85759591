"""What commands say of compilation: on a machine's first run it takes most of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from affectcore.kernels import compilation

_displays = 0  # that tell of compilation themselves


def doing(state: compilation.State) -> str:
    """Return what is being done, with a count."""
    return f"compiling kernels for this CPU (once): {len(set(state.compiled))} of about {state.about}"


def done(n: int, seconds: float) -> str:
    """Return what has been done."""
    return f"compiled {n:,} {'kernel' if n == 1 else 'kernels'} in {seconds:.1f} s"


def uncounted(seconds: float) -> str:
    """Return what a throughput leaves out."""
    return f"compiling kernels for this CPU took {seconds:.1f} s, once; that is not counted"


class Lines:
    """Tells of compilation in two lines, one when it begins and one when what it held up goes on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._began: compilation.State | None = None

    def watch(self) -> None:
        """Look for a beginning; `compilation.watched` calls it."""
        state = compilation.state()
        if state.active and self._began is None:
            self._began = state
            self._say("compiling kernels for this CPU (once)")

    def went_on(self) -> None:
        """Say the end of what has begun, if it has ended."""
        state = compilation.state()
        if self._began is not None and not state.active:
            began, self._began = self._began, None
            self._say(done(len(set(state.compiled[len(began.compiled) :])), state.seconds - began.seconds))


@contextmanager
def display() -> Iterator[None]:
    """Hold `notes` back: something else tells of compilation."""
    global _displays
    _displays += 1
    try:
        yield
    finally:
        _displays -= 1


@contextmanager
def notes(say: Callable[[str], None]) -> Iterator[None]:
    """Tell of compilation in lines, unless there is a display that does."""
    lines = Lines(say)
    with compilation.watched(lambda: None if _displays else lines.watch()):
        yield
    lines.went_on()
