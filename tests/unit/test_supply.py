"""What natsmedic is made of: one version of everything, each file of it known by its hash."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
HASHED = (ROOT / "deploy" / "constraints.hashed.txt").read_text(encoding="utf-8")


def normal(name: str) -> str:
    """The one spelling of a package's name (packaging.python.org, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(text: str) -> dict[str, str]:
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}


def test_the_hashed_file_names_the_versions_that_were_tested_together() -> None:
    tested = versions(CONSTRAINTS)
    assert {name: tested.get(name) for name in versions(HASHED)} == versions(HASHED)


def test_every_run_time_dependency_is_in_the_hashed_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["otel"], *extras["postgres"]]
    names = {normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in wanted}
    assert names - versions(HASHED).keys() == set()


def test_every_version_in_the_hashed_file_has_a_sha256_and_nothing_is_fetched_from_elsewhere() -> None:
    entries = re.split(r"\n(?=[\w.-])", re.sub(r"^#.*\n", "", HASHED, flags=re.MULTILINE).strip())
    assert len(entries) == len(versions(HASHED))
    entry = re.compile(r"[\w.-]+==[^\s;]+(?: ; [^\\\n]+?)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+")
    assert [text.splitlines()[0] for text in entries if not entry.fullmatch(text)] == []
    assert "://" not in HASHED
