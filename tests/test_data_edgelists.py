"""What a text file of edges or pairs is understood as."""

from __future__ import annotations

import logging

import pytest

from graphlore.data import (
    GraphError,
    catalogue,
    karate,
    load,
    parse_edge_list,
    read_graph,
    read_pairs,
)

MESSY = (
    "\ufeffperson;friend;hours\r\n"
    '"Müller, Ann";Bob;1,5\r\n'
    "\r\n"
    'Bob;"Müller, Ann";0,5\r\n'
    "% a comment\r\n"
    "Bob;Bob;2\r\n"
    'Łukasz;"Zoë ""Z"" K.";3\r\n'
    "Bob;Łukasz;4\r\n"
)


@pytest.fixture
def write(tmp_path):
    def call(text, name="friends.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return call


def test_a_messy_file_is_understood(write):
    path = write(MESSY)
    found = parse_edge_list(path, weights=True)
    assert found.separator == ";"
    assert found.titles == ["person", "friend", "hours"]
    assert found.ends[0] == ("Müller, Ann", "Bob")
    assert found.ends[3] == ("Łukasz", 'Zoë "Z" K.')
    assert found.lines == [2, 4, 6, 7, 8]
    assert found.weights.tolist() == [1.5, 0.5, 2.0, 3.0, 4.0], "with a decimal comma"
    assert found.repeats() == (1, 1)
    assert found.repeats(directed=True) == (1, 0)
    graph = read_graph(path, weights=True, clean=True)
    assert set(graph.names) == {"Müller, Ann", "Bob", "Łukasz", 'Zoë "Z" K.'}
    weights = {
        frozenset((graph.names[i], graph.names[j])): w
        for (i, j), w in zip(graph.edge_index.T.tolist(), graph.weights.tolist(), strict=True)
    }
    assert weights == {
        frozenset(("Müller, Ann", "Bob")): 2.0,
        frozenset(("Łukasz", 'Zoë "Z" K.')): 3.0,
        frozenset(("Bob", "Łukasz")): 4.0,
    }


@pytest.mark.parametrize(
    ("text", "separator", "titles", "first"),
    [
        ("Ann;Bob;1,5\nBob;Cy;2,5\n", ";", None, ("Ann", "Bob")),
        ("Ann,Bob,red;blue\nBob,Cy,red\n", ",", None, ("Ann", "Bob")),
        ('"Lee; A",Bob\n"Lee; A",Cy\n', ",", None, ("Lee; A", "Bob")),
        ('"Ann Lee"  Bob\nBob "Cy Dee"\n', None, None, ("Ann Lee", "Bob")),
        ("Person,Friend\nAnn,Bob\n", ",", ["Person", "Friend"], ("Ann", "Bob")),
        ("left,right,count\nAnn,Bob,3\n", ",", ["left", "right", "count"], ("Ann", "Bob")),
        ("Ann,Bob,\nBob,Cy,2\n", ",", None, ("Ann", "Bob")),
        ("Ann\tBob\nBob\tCy\n", "\t", None, ("Ann", "Bob")),
    ],
)
def test_separator_and_header_are_found_out(write, text, separator, titles, first):
    found = parse_edge_list(write(text))
    assert (found.separator, found.titles, found.ends[0]) == (separator, titles, first)
    assert not found.integers


def test_what_was_understood_in_words(write):
    words = parse_edge_list(write("who,whom,hours\nAnn,Bob,1\nBob,Cy,2\n")).describe()
    for part in ("commas", "who, whom, hours", "2 lines of two names", "not read: hours"):
        assert part in words


def test_a_header_nobody_knows_is_warned_of(write, caplog):
    with caplog.at_level(logging.WARNING):
        graph = read_graph(write("vorname,kennt\nAnn,Bob\nBob,Cy\n"))
    assert graph.num_nodes == 5
    assert "vorname and kennt" in caplog.text
    caplog.clear()
    assert read_graph(write("vorname,kennt\nAnn,Bob\nBob,Cy\n"), header=True).num_nodes == 3
    assert read_graph(write("Ann,Bob\nBob,Cy\n")).num_nodes == 3
    assert not caplog.text


def test_another_encoding_says_what_to_do(write):
    path = write("Müller,Bob\n", encoding="latin-1")
    for read in (read_graph, lambda p: read_pairs(p, karate())):
        with pytest.raises(GraphError, match="UTF-8"):
            read(path)


@pytest.mark.parametrize("head", ["", "one,other\n", "source,target\n"])
def test_pairs_by_name(write, head):
    graph = read_graph(write("Ann,Bob\nBob,Cy\nCy,Dee\n"))
    pairs = read_pairs(write(f"{head}Dee,Ann\n\nAnn,Cy\n", "pairs.csv"), graph)
    names = [[graph.names[i] for i in row] for row in pairs.T.tolist()]
    assert names == [["Dee", "Ann"], ["Ann", "Cy"]]


def test_pairs_by_id_where_nodes_have_no_names(write):
    graph = read_graph(write("0,1\n1,2\n2,3\n"))
    assert read_pairs(write("a,b\n3,0\n0,2\n", "pairs.csv"), graph).tolist() == [[3, 0], [0, 2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ann,Bob\nAnn,Bop\n", ("pairs.csv", "line 2", "'Bop'", "Did you mean 'Bob'?")),
        ("Ann,Bob\nBob,Bob\n", ("line 2", "itself")),
        ("Ann\n", ("line 1", "two columns")),
        ("# nothing\n", ("no pairs",)),
    ],
)
def test_bad_pairs(write, text, words):
    graph = read_graph(write("Ann,Bob\nBob,Cy\n"))
    with pytest.raises(GraphError) as error:
        read_pairs(write(text, "pairs.csv"), graph)
    for word in words:
        assert word in str(error.value)


def test_no_file_of_pairs(tmp_path):
    with pytest.raises(GraphError, match="No such file"):
        read_pairs(tmp_path / "none.csv", karate())


def test_the_catalogue_is_what_load_knows():
    known = catalogue()
    with pytest.raises(GraphError) as error:
        load("nosuch")
    for name in known:
        assert name in str(error.value)
    graph = karate()
    stated = known["karate"]
    assert (stated["nodes"], stated["edges"]) == (graph.num_nodes, graph.num_edges)
    assert stated["classes"] == len(graph.label_names)


def test_repeats_are_refused_by_name_and_line(write):
    path = write("Ann,Bob\n\nBob,Ann\nBob,Cy\nCy,Cy\n")
    with pytest.raises(GraphError) as error:
        read_graph(path)
    for words in ("'Cy' in line 5", "'Bob' and 'Ann' in line 3", "self-loop", "clean=True"):
        assert words in str(error.value)
    assert read_graph(path, clean=True).num_edges == 2
    assert read_graph(write("Ann,Bob\nBob,Ann\n"), directed=True).num_edges == 2
