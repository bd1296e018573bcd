"""Every kernel that the library launches, compiled for GPUs that are not here: nothing spills, everything fits."""

import importlib
import re

import numpy as np
import pytest

from minidiff import backend, train
from minidiff.bench import kernels
from minidiff.cli import main
from minidiff.errors import BadInput
from minidiff.kernels.cuda import compile, reduce
from minidiff.kernels.cuda import map as maps


def has_nvrtc():
    try:
        return bool(compile.nvrtc())
    except BadInput:
        return False


NVRTC = pytest.mark.skipif(not has_nvrtc(), reason="CuPy with NVRTC is not installed")


def test_a_preset_needs_each_kind_of_kernel_in_each_precision():
    needed = kernels.needs(["report"], batch=2)
    names = {need.name for need in needed}
    assert {"gather", "weight_gradient", "group_norm", "group_norm_backward", "matmul", "squares", "gradient", "pack", "adam",
            "average", "gradient_norm", "gather_batch", "draw", "keep"} <= names  # fmt: skip
    assert {dict(need.build.defines).get("MATH") for need in needed if need.name == "gather"} == {"FP32", "TF32", "BF16"}
    assert backend.get_kernels() != "emulated" and backend.get_precision() == "fp32", "all is as it was"


def test_nothing_is_computed_to_find_out(monkeypatch):
    from minidiff.kernels.cuda import runtime

    monkeypatch.setattr(runtime, "_emulated", lambda *_: pytest.fail("a kernel ran"))
    assert kernels.needs(["tiny"], ["bf16"], batch=2)


@NVRTC
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_no_kernel_of_any_preset_spills_or_asks_for_too_much(architecture):
    rows = list(kernels.compiled(kernels.needs(train.PRESETS), [architecture]))
    assert len(rows) > 300
    assert [f"{row.need.name} of {row.need.build}: {row.trouble}" for row in rows if row.trouble] == []
    assert max(row.resources.registers for row in rows) <= 232
    crowded = [row for row in rows if row.blocks * row.need.threads < 128]
    assert not crowded, "fewer than four warps on a multiprocessor hide no waiting"


def test_every_function_and_reduction_is_compiled_whether_or_not_a_preset_needs_it():
    found = kernels.families()
    for file, formulas, names in [("map.cu", [*maps.FORMULAS.values()], {"dense", "strided"}),
                                  ("reduce.cu", [formula for formula, _ in reduce.REDUCTIONS.values()], {"by_threads", "by_blocks"})]:  # fmt: skip
        for formula in formulas:
            assert {need.name for need in found if need.build.file == file and ("F", formula) in need.build.defines} == names
    assert {need.name for need in found} >= {"softmax", "softmax_backward", "rows", "add_rows"}


@NVRTC
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_no_function_or_reduction_spills_or_has_a_stack(architecture):
    """Not even sin of a large angle: CUDA's own would."""
    rows = list(kernels.compiled(kernels.families(), [architecture]))
    assert [f"{row.need.name} of {row.need.build}: {row.trouble}" for row in rows if row.trouble] == []
    assert max(row.resources.registers for row in rows) <= 32, "as many warps as there can be on a multiprocessor"


@NVRTC
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_attention_spills_at_no_width_that_it_takes(architecture):
    attention = importlib.import_module("minidiff.kernels.cuda.attention")
    for width in (16, 32, 40, 64):
        for dtype in (np.float32, backend.bfloat16()):
            with backend.precision("tf32"):
                kernel = attention._kernel("attention", np.empty((1, 1, width), dtype))
            found = compile.for_gpu(kernel.build, architecture).resources
            assert {name: (r.spilled, r.stack) for name, r in found.items()} == dict.fromkeys(found, (0, 0)), (width, dtype)


@NVRTC
def test_the_command_prints_a_table(capsys, tmp_path):
    record = tmp_path / "kernels.json"
    assert main(["kernels", "--arch", "sm_90", "--preset", "tiny", "--precision", "bf16", "--json", str(record)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^gather +bf16 4→32 3x3 tile 128x32x16 +\d+ +[\d.]+ KB +128 +\d+  sm_90$", out, flags=re.M)
    assert "spilled to memory: 0 bytes" in out and record.is_file()


@NVRTC
@pytest.mark.parametrize("architecture", ["sm_88", "sm_110", "sm_121"])     # one of each generation, of the less known
def test_kernels_are_compiled_for_architectures_from_ampere_on(architecture):
    rows = list(kernels.compiled(kernels.needs(["tiny"], ["bf16"], batch=2), [architecture], processes=1))
    assert rows and not any(row.trouble for row in rows)


@NVRTC
def test_every_architecture_that_nvrtc_knows_is_accepted_or_too_old():
    known = {f"sm_{number}" for number in compile.nvrtc().getSupportedArchs()}
    assert known - kernels.LIMITS.keys() <= {"sm_50", "sm_52", "sm_53", "sm_60", "sm_61", "sm_62", "sm_70", "sm_72", "sm_75"}


def test_blocks_are_no_more_than_the_architecture_has_at_a_time():
    need, little = kernels.Need(compile.Build.of("map.cu", {}), "dense", 32, 0), compile.Resources(16, 0, 0, 0)
    assert [kernels._row(need, name, little).blocks for name in ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")] == [32, 16, 24, 32, 24]
    large = kernels.Need(need.build, "dense", 1024, 0)
    assert [kernels._row(large, name, little).blocks for name in ("sm_80", "sm_86", "sm_110")] == [2, 1, 1]


@pytest.mark.parametrize(("architecture", "problem"), [
    ("sm_55", "is older than what the kernels need, Ampere or newer"), ("sm_75", "is older than what the kernels need, Ampere or newer"),
    ("75", "is older than what the kernels need, Ampere or newer"), ("sm_90a", "is unknown"), ("SM_90", "is unknown"),
    ("compute_90", "is unknown"), ("90", "is unknown"), ("", "is unknown"), ("hopper", "is unknown")])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(architecture, problem, capsys):
    assert main(["kernels", "--arch", "sm_90", architecture]) == 2
    said = capsys.readouterr().err
    assert said == f"minidiff: kernels: architecture {architecture!r} {problem}; it is one of: {', '.join(kernels.LIMITS)}\n"


@NVRTC
def test_what_nvrtc_does_not_know_is_refused_in_one_line(capsys, monkeypatch):
    """As an older NVRTC would a new architecture; on a GPU, too."""
    monkeypatch.setitem(kernels.LIMITS, "sm_999", kernels.LIMITS["sm_90"])
    assert main(["kernels", "--arch", "sm_999"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"minidiff: NVRTC [\d.]+ does not compile for sm_999, but for sm_.*; install another NVRTC \(pip install .*\)\n", said)
    with pytest.raises(BadInput, match="does not compile for sm_999"):
        compile.for_gpu(compile.Build.of("map.cu", {"N": 1}), "sm_999")


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy_backends.cuda.libs", None)
    with pytest.raises(BadInput, match=r"^CUDA kernels need CuPy and NVRTC \(.*\); pip install minidiff\[cuda13\]"):
        compile.nvrtc()
    assert main(["kernels"]) == 2


@NVRTC
def test_a_source_that_does_not_compile_shows_the_compilers_words(tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text('#include "device.h"\nKERNEL(wrong)(float* x) { *x = nothing; }\n')
    with pytest.raises(RuntimeError, match=r'wrong.cu: does not compile\n(.|\n)*identifier "nothing" is undefined'):
        compile.for_gpu(compile.Build.of(str(source), {}), "sm_90")
