"""Why a runtime failed, found in what it raises and prints."""

from __future__ import annotations

import pytest

from spu_bench.party.reasons import last_words, reason_of, unknown_operation

# as SPU 0.9.5 prints it where its compiler does not know an operation, and aborts
ABORTED = """\
loc("jit(f)/fft"(callsite("f"("model.py":17:36)))): error: failed to legalize operation 'stablehlo.fft'
loc("x"): error: 'builtin.unrealized_conversion_cast' op operation destroyed but still has uses
terminate called after throwing an instance of 'yacl::RuntimeError'
  what():  [external/spulib~/libspu/compiler/common/compilation_context.cc:26] operation destroyed but still has uses
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "what: \n\t[external/yacl~/link/context.cc:194] connect to mesh failed\nstacktrace: \n#0 f()",
            "connect to mesh failed",
        ),
        ("what:\n\tUnknown opcode: erf\nstacktrace:\n#0 f()", "Unknown opcode: erf"),
        ("\n[Enforce fail at a/b.cc:25] (x). symbol a not found", "(x). symbol a not found"),
        ("a plain sentence\nand more", "a plain sentence"),
        ("", "RuntimeError"),
    ],
)
def test_the_reason_of_an_error(text: str, reason: str) -> None:
    assert reason_of(RuntimeError(text)) == reason


def test_the_log_of_a_process_that_aborted() -> None:
    assert unknown_operation(ABORTED) == "failed to legalize operation 'stablehlo.fft'"
    assert last_words(ABORTED) == "operation destroyed but still has uses"


def test_any_other_log() -> None:
    assert unknown_operation("all is well") is None
    assert last_words("first\nImportError: no module x\n\n") == "ImportError: no module x"
    assert last_words("") == "its log is empty"
