"""What the packages export, and that looking at them is cheap."""

import subprocess
import sys

import pytest

import cronqueue
import cronsched


@pytest.mark.parametrize("package", [cronqueue, cronsched], ids=["cronqueue", "cronsched"])
def test_every_exported_name_can_be_imported(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None


@pytest.mark.parametrize("package", [cronqueue, cronsched], ids=["cronqueue", "cronsched"])
def test_a_name_that_is_not_exported_is_an_attribute_error(package: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        package.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_the_lazy_names_are_the_exported_ones() -> None:
    assert set(cronqueue._HOMES) | {"__version__"} == set(cronqueue.__all__)


@pytest.mark.parametrize("package", ["cronqueue", "cronsched"])
def test_importing_a_package_loads_neither_sqlalchemy_nor_croniter(package: str) -> None:
    heavy = "{'sqlalchemy', 'alembic', 'croniter', 'apscheduler', 'rich', 'click'}"
    program = f"import sys, {package}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("absent", ["greenlet", "psycopg"])
def test_the_library_needs_none_of_its_extras(absent: str) -> None:
    program = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "import cronqueue\n"
        "for name in cronqueue.__all__: getattr(cronqueue, name)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
