from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Triton reads this when it is first imported: the tests run its kernels in the interpreter, on CPU tensors.
os.environ.setdefault("TRITON_INTERPRET", "1")
# Everything that transformers loads here is local; without this it may still ask the hub about it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell that starts a command in the background has it ignore Ctrl-C, and what that starts as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "default",
    deadline=None,  # the first example compiles
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def tables():  # type: ignore[no-untyped-def]
    from affectcore import lexicons

    return lexicons.load()
