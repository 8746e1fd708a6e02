"""Every fault that SECURITY.md lists is withstood by tests that bear its number."""

import re

from paths import REPOSITORY

TABLE = re.compile(r"^\| (\d+) \|.*\| `test_case_(\d\d)_…` \|$", re.MULTILINE)
TEST = re.compile(r"^def test_case_(\d\d)_", re.MULTILINE)


def test_each_fault_has_a_test() -> None:
    policy = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    listed = [(int(number), int(test)) for number, test in TABLE.findall(policy)]
    numbers = range(1, len(listed) + 1)
    assert len(listed) >= 48
    assert listed == [(number, number) for number in numbers]
    files = (REPOSITORY / "tests").rglob("test_*.py")
    texts = [path.read_text(encoding="utf-8") for path in files]
    tested = {int(number) for text in texts for number in TEST.findall(text)}
    assert [number for number in numbers if number not in tested] == []
    assert tested <= {*numbers}


def test_each_fault_of_a_gguf_file_has_a_test() -> None:
    policy = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    [(path, table)] = re.findall(
        r"`(tests/\S+_gguf\.py)`.*?\n\n(\| Fault .*?)\n\n", policy, re.DOTALL
    )
    _, _, *rows = table.splitlines()
    assert len(rows) >= 11
    tests = re.findall(r"^def (\w+)", (REPOSITORY / path).read_text(), re.MULTILINE)
    for row in rows:
        [name] = re.findall(r"\| `(test_\w+)` \|$", row)
        assert name in tests
