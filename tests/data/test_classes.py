import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.data.classes import find_classes, natural_order
from minidiff.errors import BadInput

DIGITS = tuple("0123456789")
NUMBERS = tuple(str(k) for k in range(1, 12))
ODD = ("a", "a-b", "b", "b-c", "c", "New York, NY", "none", "index:1", 'say "x"', " space ")


@pytest.mark.parametrize("names", [["-2", "-1", "0.25", "0.5", "2", "10"], ["img2", "img10", "img10b"], ["7", "8", "x1", "x01a"]])
def test_natural_order_is_by_the_value_of_numbers(names):
    assert sorted(reversed(names), key=natural_order) == names


@pytest.mark.parametrize("text, labels", [
    ("3", [3]), ("0-4", [0, 1, 2, 3, 4]), ("1,4,0-2", [1, 4, 0, 2]), (" 2 , 2", [2]), ("none", [-1]), ("none,1", [-1, 1]), ("5 - 6", [5, 6])])
def test_digits_are_asked_for_as_before(text, labels):
    assert find_classes("sample", text, DIGITS) == labels


@pytest.mark.parametrize("text, labels", [("1", [0]), ("1-3", [0, 1, 2]), ("9-11", [8, 9, 10]), ("index:0", [0]), ("index:1-3", [1, 2, 3]), ("index:-1", [-1])])
def test_numbers_are_names_and_an_index_has_its_own_spelling(text, labels):
    assert find_classes("sample", text, NUMBERS) == labels


@pytest.mark.parametrize("text, labels", [
    ("New York, NY", [5]), ("a,New York, NY,c", [0, 5, 4]), ('"New York, NY",c', [5, 4]), ("none", [6]), ("none,index:-1", [6, -1]), ("index:1", [7]),
    ("index:0", [0]), ('say "x"', [8]), ('"say ""x""",a', [8, 0]), (" space ", [9]), ('"a-b"', [1]), ('"a"-"b"', [0, 1, 2]), ('"a" - "b",c', [0, 1, 2, 4])])
def test_any_name_can_be_asked_for(text, labels):
    assert find_classes("sample", text, ODD) == labels


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), min_size=1, max_size=6, unique=True), st.data())
def test_quoted_names_have_one_meaning_whatever_the_names_are(names, data):
    chosen = data.draw(st.lists(st.sampled_from(range(len(names))), min_size=1, unique=True))
    names = tuple(name.replace('"', "'") for name in names)          # a name that has the quotes itself would be met as it stands
    if len(set(names)) == len(names):
        assert find_classes("sample", ",".join(f'"{names[k]}"' for k in chosen), names) == chosen


@pytest.mark.parametrize("text, classes, message", [
    ("a-b", ODD, 'a-b has two meanings: "a-b"; or "a", "a-b", "b"; write names in quotes, as here'),
    ("a-b-c", ODD, 'a-b-c has two meanings: "a", "a-b", "b", "b-c"; or "a-b", "b", "b-c", "c"; write names in quotes, as here'),
    ("a,b", ("a", "b", "a,b"), 'a,b has two meanings: "a", "b"; or "a,b"; write names in quotes, as here'),
    ("none,a,b", ("a", "b", "a,b"), 'none,a,b has two meanings: no class, "a", "b"; or no class, "a,b"; write names in quotes, as here'),
    ("0", NUMBERS, "class 0 is not in this model; it knows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11; index:0 means 1"),
    ("12", DIGITS, "class 12 is not in this model; it knows 0-9"),
    ("8-12", DIGITS, "class 12 is not in this model; it knows 0-9"),
    ("3-1", DIGITS, "class range '3-1' runs backwards; write 1-3"),
    ("10-9", NUMBERS, "class range '10-9' runs backwards; write 9-10"),
    ("1,", DIGITS, 'class "" is not in this model; it knows 0-9'),
    ("new york", ("cat", "dog"), 'class "new york" is not in this model; it knows cat, dog'),
    ("index:2", ("cat", "dog"), "class index:2 is not in this model; it knows cat, dog"),
    ("1", ("cat", "dog"), "class 1 is not in this model; it knows cat, dog; index:1 means dog"),
    ("x", tuple(f"c{k}" for k in range(22)), f"class x is not in this model; it knows {', '.join(f'c{k}' for k in range(20))} and 2 more"),
])
def test_what_has_no_meaning_or_two_is_refused(text, classes, message):
    with pytest.raises(BadInput, match=f"^sample: {re.escape(message)}$"):
        find_classes("sample", text, classes)
