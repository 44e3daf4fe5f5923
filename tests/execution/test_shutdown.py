"""Ray's end does not take the study's process with it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

# Garbage that holds Ray references, and a thread that collects it while Ray shuts down: without care the core then ends
# the process with status 1.
SCRIPT = """
    import gc, logging, threading, time
    import ray
    from ipgl.execution.engine import _shut_down

    class Cycle:
        pass

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    gc.disable()
    for number in range(20_000):
        cycle = Cycle()
        cycle.itself = cycle
        cycle.reference = ray.put(number) if number % 10 == 0 else None
    begun, done = threading.Event(), threading.Event()

    def collect():
        begun.wait()
        time.sleep(0.05)  # by then Ray's core is going down
        while not done.is_set():
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    begun.set()
    {shut_down}()
    done.set()
    thread.join()
    print("alive")
"""


def run(shut_down: str) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(SCRIPT).format(shut_down=shut_down)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)


@pytest.mark.slow
@pytest.mark.ray
def test_garbage_that_is_collected_meanwhile_does_no_harm() -> None:
    done = run("_shut_down")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("alive\n")
