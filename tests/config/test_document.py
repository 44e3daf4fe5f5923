from __future__ import annotations

import math
from pathlib import Path

import pytest
from narrowing import of_kind

from ipgl.config import Document, DocumentError, parse_document, read_document


def value_of(scalar: str) -> object:
    return parse_document(f"a: {scalar}").data["a"]


def refusal(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        parse_document(text, "f.yaml")
    return str(caught.value)


class TestScalars:
    @pytest.mark.parametrize("word", ["off", "on", "yes", "no", "Off", "YES", "y", "n"])
    def test_words_that_yaml_1_1_reads_as_truth_values_are_words(self, word: str) -> None:
        assert value_of(word) == word

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("FALSE", False)])
    def test_truth_values(self, text: str, value: bool) -> None:
        assert value_of(text) is value

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-3", 0.001),
            ("1e3", 1000.0),
            ("-2.5E+2", -250.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+1.5", 1.5),
            ("-.inf", -math.inf),
            (".inf", math.inf),
        ],
    )
    def test_real_numbers(self, text: str, value: float) -> None:
        assert value_of(text) == value
        assert isinstance(value_of(text), float)

    def test_not_a_number(self) -> None:
        assert math.isnan(of_kind(value_of(".nan"), float))

    @pytest.mark.parametrize(
        ("text", "value"),
        [("12", 12), ("-3", -3), ("+7", 7), ("010", 10), ("0o10", 8), ("0x1F", 31), ("0", 0)],
    )
    def test_whole_numbers(self, text: str, value: int) -> None:
        assert value_of(text) == value
        assert isinstance(value_of(text), int)

    # YAML 1.1 reads these as a date, 90 (base 60), 1000 and 2 (base 2).
    @pytest.mark.parametrize("text", ["2001-01-01", "1:30", "1_000", "0b10", "e3", "1e", ".", "-x"])
    def test_what_is_no_number_is_text(self, text: str) -> None:
        assert value_of(text) == text

    @pytest.mark.parametrize("text", ["null", "~", ""])
    def test_nothing(self, text: str) -> None:
        assert value_of(text) is None

    def test_quotes_make_text_of_anything(self) -> None:
        assert value_of("'1e-3'") == "1e-3"
        assert value_of('"true"') == "true"


class TestLines:
    def test_every_value_knows_its_line(self) -> None:
        document = parse_document("a: 1\nb:\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n")
        assert document.data == {"a": 1, "b": {"c": ["x", {"d": 2, "e": 3}]}}
        assert document.lines == {
            (): 1,
            ("a",): 1,
            ("b",): 2,
            ("b", "c"): 3,
            ("b", "c", 0): 4,
            ("b", "c", 1): 5,
            ("b", "c", 1, "d"): 5,
            ("b", "c", 1, "e"): 6,
        }

    @pytest.mark.parametrize(
        ("path", "line"),
        [(("b", "c"), 4), (("b", "missing"), 3), (("b", "c", "deeper", 3), 4), (("zzz",), 2), ((), 2)],
    )
    def test_a_path_that_the_file_lacks_stands_where_its_nearest_parent_does(
        self, path: tuple[str | int, ...], line: int
    ) -> None:
        document = parse_document("# a comment comes first\na: 1\nb:\n  c: 2\n")
        assert document.line_of(path) == line

    def test_the_text_is_kept_byte_for_byte(self) -> None:
        text = "a:   1  # why\n\n"
        assert parse_document(text, "f.yaml") == Document("f.yaml", text, {"a": 1}, {(): 1, ("a",): 1})


class TestRefusals:
    def test_a_key_twice_in_one_mapping(self) -> None:
        assert refusal("a:\n  b: 1\n  c: 2\n  b: 3\n") == (
            "f.yaml:4: a.b: a key may stand once in its mapping, but it already stands on line 2; "
            "remove one of the two"
        )

    def test_the_same_key_in_two_mappings_is_no_duplicate(self) -> None:
        assert parse_document("a: {b: 1}\nc: {b: 2}").data == {"a": {"b": 1}, "c": {"b": 2}}

    def test_a_duplicate_inside_a_list(self) -> None:
        assert refusal("a: [{b: 1}, {b: 1, b: 2}]").startswith("f.yaml:1: a.1.b: a key may stand once")

    @pytest.mark.parametrize(
        ("key", "kind"), [("1", "int"), ("true", "bool"), ("1.5", "float"), ("null", "null")]
    )
    def test_a_key_that_is_not_text(self, key: str, kind: str) -> None:
        assert refusal(f"x: 1\na:\n  {key}: 2\n") == (
            f"f.yaml:3: a.{key}: a key is text, but {key!r} reads as {kind}; put it in quotes"
        )

    def test_a_quoted_number_is_a_key(self) -> None:
        assert parse_document("'1': 2").data == {"1": 2}

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("a: 1\nb: [1, 2", "f.yaml:2: not valid YAML: expected ',' or ']'"),
            ("a: 1\n\nb: c: d", "f.yaml:3: not valid YAML: mapping values are not allowed here"),
            ("a: *nowhere", "f.yaml:1: not valid YAML: found undefined alias 'nowhere'"),
            ("a: 1\n---\nb: 2", "f.yaml:2: not valid YAML: but found another document"),
            ("a: 1\n? [x, y]\n: 3", "f.yaml:2: not valid YAML: found unhashable key"),
            ("a: x\x07y", "f.yaml: not valid YAML: unacceptable character #x0007"),
            ("a: x\x00y", "f.yaml: not valid YAML: unacceptable character #x0000"),
        ],
    )
    def test_not_yaml(self, text: str, place: str) -> None:
        assert refusal(text).startswith(place)

    @pytest.mark.parametrize(
        "tag", ["!!python/object/apply:os.getcwd []", "!!timestamp x", "!!binary eA==", "!!set {x}", "!own x"]
    )
    def test_tags_beyond_plain_data(self, tag: str) -> None:
        message = refusal(f"a: 1\nb: {tag}")
        assert message.startswith("f.yaml:2: not valid YAML: could not determine a constructor for the tag")

    @pytest.mark.parametrize("scalar", ["!!int x", "!!float x", "!!bool x", "1" + 5000 * "0"])
    def test_a_value_that_cannot_be_read_as_its_type(self, scalar: str) -> None:
        assert refusal(f"a: {scalar}").startswith("f.yaml: a value cannot be read as its type: ")

    @pytest.mark.parametrize("text", ["a: &x {b: *x}", "a: &x [*x]", "a: " + 5000 * "[" + 5000 * "]"])
    def test_a_value_that_contains_itself_or_has_no_end(self, text: str) -> None:
        assert refusal(text) == "f.yaml: a value contains itself, or nests too deeply"

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", "nothing"),
            ("# a comment\n", "nothing"),
            ("- a\n- b\n", "a list"),
            ("hello", "a single value"),
        ],
    )
    def test_no_mapping(self, text: str, found: str) -> None:
        assert refusal(text) == (
            f"f.yaml: a study file is a mapping of keys to values, but this one holds {found}; "
            "begin with `name: my-study`"
        )


class TestFiles:
    def test_reads_a_file_and_keeps_its_name(self, tmp_path: Path) -> None:
        file = tmp_path / "f.yaml"
        file.write_text("name: schön", encoding="utf-8")
        document = read_document(file)
        assert (document.source, document.data) == (str(file), {"name": "schön"})

    def test_a_byte_order_mark_is_no_part_of_the_first_key(self, tmp_path: Path) -> None:
        file = tmp_path / "f.yaml"
        file.write_bytes(b"\xef\xbb\xbfname: s\n")
        assert read_document(file).data == {"name": "s"}

    def test_missing(self, tmp_path: Path) -> None:
        file = tmp_path / "absent.yaml"
        with pytest.raises(DocumentError) as caught:
            read_document(file)
        assert str(caught.value) == f"{file}: cannot read the study file: No such file or directory"

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DocumentError) as caught:
            read_document(tmp_path)
        assert str(caught.value) == f"{tmp_path}: cannot read the study file: Is a directory"

    def test_not_utf_8(self, tmp_path: Path) -> None:
        file = tmp_path / "f.yaml"
        file.write_bytes("name: schön".encode("latin-1"))  # the ö is byte 9
        with pytest.raises(DocumentError) as caught:
            read_document(file)
        assert str(caught.value) == f"{file}: a study file is UTF-8 text, but byte 9 is not"
