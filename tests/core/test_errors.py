from __future__ import annotations

import inspect
import re

from layerclock import errors
from layerclock.errors import LayerclockError, MissingExtraError, TooNoisyError, UnknownNameError


def _drawn_tree() -> dict[str, str]:
    """Error to parent, as the module's docstring draws them: four columns a level."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([|` -]*)(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            parents[found[2]] = above[depth - 1] if depth else "Exception"
            above[depth:] = [found[2]]
    return parents


def test_the_docstring_draws_the_tree_that_the_code_has() -> None:
    classes = {name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert _drawn_tree() == {name: error.__bases__[0].__name__ for name, error in classes.items()}
    assert sorted(classes) == sorted(errors.__all__)


def test_every_error_is_one_of_ours_and_ends_with_the_documented_code() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, LayerclockError), name
        assert error.exit_code == (3 if error is TooNoisyError else 1), name


def test_the_hint_follows_the_message() -> None:
    error = LayerclockError("it broke", "mend it")
    assert (str(error), error.message, error.hint) == ("it broke (mend it)", "it broke", "mend it")
    assert str(LayerclockError("it broke")) == "it broke"
    assert str(MissingExtraError("torch", "export", "exporting")) == (
        "exporting needs the package 'torch', which is not installed (pip install 'layerclock[export]')"
    )


def test_an_unknown_name_suggests_the_near_ones_whatever_their_case() -> None:
    known = ["openvino:CPU", "onnxruntime:cpu", "fake:cpu"]
    assert str(UnknownNameError("device", "openvno:cpu", known)).startswith("unknown device 'openvno:cpu' (did you mean openvino:CPU")
    assert UnknownNameError("device", "fake", known).hint == "did you mean fake:cpu?"
    assert UnknownNameError("device", "zzz", known).hint == "known: fake:cpu, onnxruntime:cpu, openvino:CPU"
    assert UnknownNameError("device", "zzz", []).hint == "known: none"
