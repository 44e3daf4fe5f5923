"""What a linter would ask of the Dockerfile, and that the CPU variant drops CUDA and nothing else."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "cluster" / "container"


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continuation lines joined; `stage` counts FROMs."""

    word: str
    rest: str
    stage: int


def parse(text: str) -> list[Instruction]:
    """Instructions of a Dockerfile, comments left out."""
    found: list[Instruction] = []
    stage, lines = (
        0,
        [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")],
    )
    for logical in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, rest = logical.strip().partition(" ")
        stage += word.upper() == "FROM"
        found.append(Instruction(word.upper(), rest.strip(), stage))
    return found


def problems(text: str) -> list[str]:
    """Rules that a Dockerfile breaks, after hadolint's DL numbers where it has one."""
    found, instructions = [], parse(text)
    defaults = dict(
        i.rest.split("=", 1) for i in instructions if i.word == "ARG" and i.stage == 0 and "=" in i.rest
    )
    stages: set[str] = set()
    last = {}
    for i in instructions:
        if i.word == "FROM":
            parts = i.rest.split()
            image = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], ""), parts[0])
            if image not in stages and not re.search(r":\d+\.\d+\.\d+", image):
                found.append(f"DL3006 {image or parts[0]} is not pinned to a version")
            if image.endswith(":latest"):
                found.append("DL3007 latest")
            stages |= {parts[2]} if len(parts) == 3 else set()
        elif i.word == "ADD":
            found.append(f"DL3020 ADD {i.rest}")
        elif i.word == "RUN":
            if "apt-get install" in i.rest:
                found += [] if "--no-install-recommends" in i.rest else ["DL3015 recommended packages"]
                found += [] if "rm -rf /var/lib/apt/lists/*" in i.rest else ["DL3009 apt lists stay"]
                found += [] if "apt-get update" in i.rest else ["DL3009 no apt-get update in the same RUN"]
            if re.search(r"(curl|wget)\b.*\|\s*(ba)?sh", i.rest):
                found.append("DL4006 runs what it downloads")
            if re.search(r"\bsudo\b", i.rest):
                found.append("DL3004 sudo")
            for command in re.split("&&|;", i.rest):
                if "pip install" in command and not re.search(r"==| -r |\.whl\b", command):
                    found.append("DL3013 pip install without versions")
        elif i.word in ("ENV", "ARG") and re.search(r"(PASSWORD|TOKEN|SECRET)\w*=", i.rest):
            found.append(f"a secret in {i.word}")
        elif i.word == "WORKDIR" and not i.rest.startswith("/"):
            found.append("DL3000 relative WORKDIR")
        if i.word == "USER":
            last[i.stage] = i.rest
    for i in instructions:
        if i.word == "CMD" or i.word == "ENTRYPOINT":
            if last.get(i.stage, "root").partition(":")[0] in ("root", "0"):
                found.append("DL3002 a final stage runs as root")
            if not any(other.word == "HEALTHCHECK" and other.stage == i.stage for other in instructions):
                found.append("no HEALTHCHECK in a final stage")
    return found


def test_the_dockerfile_breaks_no_rule() -> None:
    assert problems((CONTAINER / "Dockerfile").read_text()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("FROM python\n", "DL3006 python is not pinned to a version"),
        ("FROM a:1.2.3\nADD https://x.example/f /\n", "DL3020 ADD https://x.example/f /"),
        ("FROM a:1.2.3\nRUN apt-get update \\\n  && apt-get install --yes wget\n", "DL3009 apt lists stay"),
        ("FROM a:1.2.3\nUSER 1000\nUSER root\nCMD x\n", "DL3002 a final stage runs as root"),
        ("FROM a:1.2.3\nRUN pip install torch\n", "DL3013 pip install without versions"),
        ("FROM a:1.2.3\nENV RAY_AUTH_TOKEN=x\n", "a secret in ENV"),
    ],
)
def test_the_rules_find_what_they_are_for(text: str, problem: str) -> None:
    assert problem in problems(text)


def test_what_is_copied_exists_and_is_let_into_the_build() -> None:
    allowed = [
        line[1:]
        for line in (CONTAINER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copies = [i.rest for i in parse((CONTAINER / "Dockerfile").read_text()) if i.word == "COPY"]
    sources = [path for rest in copies if "--from" not in rest for path in shlex.split(rest)[:-1]]
    assert sorted(sources) == sorted(allowed)
    assert all((ROOT / path).exists() for path in sources)


def _names(text: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE))


def _cpu(*options: str) -> str:
    command = ["awk", "-f", str(CONTAINER / "cpu_constraints.awk"), *options, str(ROOT / "constraints.txt")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_cpu_variant_leaves_out_torch_and_cuda_alone() -> None:
    everything, kept = _names((ROOT / "constraints.txt").read_text()), _names(_cpu())
    left_out = {
        n for n in everything if n in ("torch", "torchvision", "triton") or n.startswith(("nvidia-", "cuda-"))
    }
    assert len(left_out) > 10
    assert kept == everything - left_out
    lines = _cpu().splitlines()
    # Every package keeps its hashes, and no hash is left without its package.
    assert all(after.startswith("    --hash=") for line, after in itertools.pairwise(lines) if "==" in line)
    pins = [
        line.split()[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.startswith("torch")
    ]
    assert _cpu("-v", "torch=1").split() == pins
