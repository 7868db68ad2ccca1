"""What is exported stays the same to the byte: records of measurements are found by its fingerprint."""

import fixed_programs
import jax
import pytest


@pytest.mark.parametrize("name", fixed_programs.PROGRAMS)
def test_an_exported_program_is_the_committed_one(name):
    expected = fixed_programs.committed().get(jax.__version__)
    if expected is None:
        pytest.skip(f"no fingerprints of JAX {jax.__version__}: add them with {fixed_programs.__file__}")
    assert fixed_programs.fingerprint(name) == expected[name]


def test_all_fingerprints_differ():
    for version, expected in fixed_programs.committed().items():
        assert expected.keys() == fixed_programs.PROGRAMS.keys(), version
        assert len(set(expected.values())) == len(expected), version
