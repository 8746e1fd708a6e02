"""What `make golden` relies on: with --no-skip, a test that is skipped has failed."""

import pytest

pytest_plugins = ["pytester"]

SKIPPING = """
import pytest
def test_that_skips_itself():
    pytest.skip("nothing to test with")
@pytest.mark.skipif(True, reason="nothing to test with")
def test_that_is_skipped():
    pass
"""


@pytest.mark.slow
def test_no_skip(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SKIPPING)
    pytester.runpytest("-p", "conftest").assert_outcomes(skipped=2)
    strict = pytester.runpytest("-p", "conftest", "--no-skip")
    strict.assert_outcomes(failed=1, errors=1)
