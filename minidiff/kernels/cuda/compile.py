"""From a .cu file to machine code: for a GPU by NVRTC, which needs no GPU, and for a CPU by g++ and emulate.h.

A kernel is compiled once for each set of definitions (sizes and types that the compiler should know), kept on
disk under the hash of everything that went into it, and read from there afterwards. There is no other way to
a kernel in this library, so what is compiled and checked on a machine without a GPU is what runs on one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import BadInput
from ...files import atomic_path, cache_folder

HERE = Path(__file__).parent
INSTALL = "pip install minidiff[cuda13], or [cuda12] for an older driver"
INCLUDE = re.compile(r'^#include "([^"]+)".*$', flags=re.M)
OPTIONS = ("-std=c++17", "--ptxas-options=-v", "-default-device")


class Build(NamedTuple):
    """One .cu file with its definitions: what is compiled as one piece."""

    file: str                                     # "conv.cu"
    defines: tuple[tuple[str, str], ...]          # (("C", "32"), …), in alphabetical order

    @classmethod
    def of(cls, file: str, defines: Mapping[str, Any]) -> Build:
        return cls(file, tuple(sorted((name, str(value)) for name, value in defines.items())))

    def __str__(self) -> str:
        return f"{self.file} {' '.join(f'{name}={value}' for name, value in self.defines)}".strip()


class Resources(NamedTuple):
    """What one thread of a kernel, or one block, takes of a multiprocessor."""

    registers: int
    spilled: int                                  # bytes that did not fit into registers
    stack: int                                    # bytes of local memory, which lies in slow memory too
    shared: int                                   # bytes of shared memory whose size is known when compiling


class Compiled(NamedTuple):
    cubin: bytes
    resources: dict[str, Resources]               # by kernel


@functools.cache
def source(build: Build) -> str:
    """The text to compile: what the file includes from this folder, each file once, then its definitions, then the file.

    The definitions come after the headers, so that their short names (C, N, …) mean nothing there.
    """
    seen = {"emulate.h"}                          # stays an #include: only g++ reads it, from this folder

    def text(name: str) -> str:
        def header(found: re.Match[str]) -> str:
            if found.group(1) in seen:
                return found.group(0) if found.group(1) == "emulate.h" else ""
            seen.add(found.group(1))
            return text(found.group(1))

        return INCLUDE.sub(header, (HERE / name).read_text(encoding="utf-8"))

    own = (HERE / build.file).read_text(encoding="utf-8")
    headers = "\n".join(text(name) for name in INCLUDE.findall(own) if name not in seen and not seen.add(name))
    defines = "".join(f"#define {name} {value}\n" for name, value in build.defines)
    body = INCLUDE.sub("", own)
    return f'{headers}\n{defines}#line 1 "{build.file}"\n{body}'


@functools.cache
def kernels_of(file: str) -> tuple[str, ...]:
    """The names of the kernels in a .cu file."""
    return tuple(re.findall(r"^KERNEL\((\w+)\)", (HERE / file).read_text(encoding="utf-8"), flags=re.M))


# ---------------------------------------------------------------------------------------- for a GPU


def nvrtc() -> Any:
    """CuPy's binding of NVIDIA's runtime compiler. Raises BadInput where either is missing."""
    try:
        from cupy_backends.cuda.libs import nvrtc as binding

        binding.getVersion()
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"CUDA kernels need CuPy and NVRTC ({reason}); {INSTALL}") from None
    return binding


def check_known(architecture: str) -> None:
    """Raise BadInput unless the NVRTC that is installed compiles for an architecture such as "sm_90"."""
    binding = nvrtc()
    known = [f"sm_{number}" for number in binding.getSupportedArchs()]
    if architecture not in known:
        version = ".".join(map(str, binding.getVersion()))
        raise BadInput(f"NVRTC {version} does not compile for {architecture}, but for {', '.join(known)}; install another NVRTC"
                       f" ({INSTALL})")  # fmt: skip


def for_gpu(build: Build, architecture: str) -> Compiled:
    """The machine code for an architecture such as "sm_90", from disk if it is there.

    Raises BadInput where NVRTC is missing or too old for the architecture, RuntimeError with the compiler's words where the source does not compile.
    """
    binding = nvrtc()
    options, text = (f"-arch={architecture}", *OPTIONS), source(build)
    path = _cached(build, "cubin", text, *options, str(binding.getVersion()))
    report = path.with_suffix(".json")
    if path.is_file() and report.is_file():
        resources = {name: Resources(**found) for name, found in json.loads(report.read_text()).items()}
        return Compiled(path.read_bytes(), resources)
    check_known(architecture)
    compiled = _by_nvrtc(binding, build, text, options)
    with contextlib.suppress(OSError):            # a disk that cannot be written to costs time only
        _keep(report, json.dumps({name: r._asdict() for name, r in compiled.resources.items()}).encode())
        _keep(path, compiled.cubin)
    return compiled


def _by_nvrtc(binding: Any, build: Build, text: str, options: tuple[str, ...]) -> Compiled:
    program = binding.createProgram(text, build.file, [], [])
    try:
        try:
            binding.compileProgram(program, list(options))
        except binding.NVRTCError:
            raise RuntimeError(f"{build}: does not compile\n{binding.getProgramLog(program)}") from None
        return Compiled(bytes(binding.getCUBIN(program)), _resources(binding.getProgramLog(program)))
    finally:
        binding.destroyProgram(program)


def _resources(log: str) -> dict[str, Resources]:
    """What ptxas says of each kernel, read from its report."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        def number(pattern: str, text: str = part) -> int:
            match = re.search(pattern, text)
            return int(match.group(1)) if match else 0

        spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        found[part.partition("'")[0]] = Resources(
            number(r"Used (\d+) registers"), spilled, number(r"(\d+) bytes stack frame"), number(r"(\d+) bytes smem")
        )
    return found


# ---------------------------------------------------------------------------------------- for a CPU

GXX = ("-std=c++20", "-O2", "-fPIC", "-shared", "-w", "-U_FORTIFY_SOURCE", "-DEMULATE", "-ffp-contract=fast")


def for_cpu(build: Build) -> Path:
    """A library whose function `emulate` runs the file's kernels on the CPU. Raises BadInput where g++ is missing."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise BadInput("emulating CUDA kernels needs the compiler g++, which was not found; install it (apt install g++)")
    text = source(build) + _entry(build.file)
    path = _cached(build, "so", text, (HERE / "emulate.h").read_text(encoding="utf-8"), *GXX)
    if not path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "kernel.cpp").write_text(text, encoding="utf-8")
            out = Path(folder) / "kernel.so"
            command = [compiler, *GXX, f"-I{HERE}", f"{folder}/kernel.cpp", "-o", str(out)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{build}: does not compile\n{done.stderr}")
            _keep(path, out.read_bytes())
    return path


def _entry(file: str) -> str:
    """The C function that finds a kernel by its name and runs it."""
    cases = "\n".join(
        f'  if (!strcmp(name, "{name}")) return emulated::launch({name}, grid, threads, backwards, args);'
        for name in kernels_of(file)
    )
    return f"""
extern "C" const char* emulate(const char* name, unsigned gx, unsigned gy, unsigned gz, int threads, bool backwards, void** args) {{
  emulated::Size grid{{gx, gy, gz}};
{cases}
  return "there is no such kernel";
}}
"""


# ------------------------------------------------------------------------------------------ on disk


def _cached(build: Build, ending: str, *everything: str) -> Path:
    key = hashlib.sha256("\0".join((str(build), *everything)).encode()).hexdigest()[:32]
    return cache_folder("kernels", f"{Path(build.file).stem}-{key}.{ending}")


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
