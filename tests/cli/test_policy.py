"""`r3s3 policy`: the graph, questions to it and rules; on system files as shipped, and made worse."""

from __future__ import annotations

import json
import xml.etree.ElementTree as xml
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vmm.cli.command import CommandError
from vmm.cli.compile import compile_policy
from vmm.cli.main import main

ROOT = Path(__file__).parents[2]
DEFAULT, STRICT = (str(ROOT / f"images/{name}.toml") for name in ("default", "strict"))
SYSTEMS = sorted(str(file) for file in (ROOT / "images").glob("*.toml"))
Output = pytest.CaptureFixture[str]


def ask(output: Output, *words: str) -> tuple[int, str]:
    """Exit status and output, or complaint, of `r3s3 policy` with `words`."""
    status = main(["policy", *words])
    captured = output.readouterr()
    return status, captured.out or captured.err


def answer(output: Output, *words: str) -> Any:
    """What --json says."""
    return json.loads(ask(output, *words, "--json")[1])


def test_graph_says_who_influences_whom(capsys: Output) -> None:
    found = answer(capsys, "graph", DEFAULT)
    edges = {(each["source"], each["target"], each["by"]): each["what"] for each in found["edges"]}
    assert edges["file_server", "disk_driver", "request"] == ["blk@1.info", "blk@1.read"]
    assert edges["cat", "file_server", "request"] == ["fs@1.open", "fs@1.close", "fs@1.read", "sees /"]
    assert edges["disk0", "file_server", "dma"] == ["pool of 64 x 128 KiB"]
    assert ("file_server", "disk0", "dma") not in edges  # the disk is read only
    assert edges["disk_driver", "disk0", "device"] == ["virtio-blk: read"]
    assert ("disk_driver", "file_server", "grant") not in edges
    supervised = {target for source, target, by in edges if by == "supervision"}
    assert supervised == {"console", "disk_driver", "file_server"}
    assert not [edge for edge in edges if edge[1] == "reincarnation_server"]
    assert found["left_out"] == ["edu", "store", "tone"]
    status, text = ask(capsys, "graph", DEFAULT)
    assert status == 0
    assert "cat, reader, sha256sum  file_server             request      fs@1.open close read sees /" in text


def test_graph_says_what_is_open_to_a_client(capsys: Output) -> None:
    found = answer(capsys, "graph", str(ROOT / "images/store.toml"))
    request = next(each["what"] for each in found["edges"] if each["by"] == "request")
    assert request[-2:] == ["reads /", "writes /"]
    assert request[0] == "store@1.set"


def test_picture_is_whole_and_always_the_same(capsys: Output) -> None:
    status, picture = ask(capsys, "graph", DEFAULT, "--svg")
    assert status == 0
    assert ask(capsys, "graph", DEFAULT, "--svg") == (0, picture)
    svg = "{http://www.w3.org/2000/svg}"
    top = xml.fromstring(picture)
    boxes = [
        tuple(float(each.attrib[key]) for key in ("x", "y", "width", "height"))
        for each in top.iter(f"{svg}rect") if "rx" in each.attrib
    ]  # fmt: skip
    assert len(boxes) == 9  # four programs, four components, the disk
    for one in boxes:
        assert 0 <= one[0] <= float(top.attrib["width"]) - one[2]
        assert 0 <= one[1] <= float(top.attrib["height"]) - one[3]
        for other in boxes:
            apart = abs(one[0] - other[0]) >= one[2] or abs(one[1] - other[1]) >= one[3]
            assert one is other or apart, "boxes lie on each other"
    texts = [each.text for each in top.iter(f"{svg}text")]
    assert {"file_server", "disk0", "disk_driver: blk@1 info, read", "cat, reader, sha256sum"} <= set(texts)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("cat", "disk0"), "cat -request-> file_server -request-> disk_driver -device-> disk0"),
        (("disk_driver", "file_server"), "disk_driver -reply-> file_server"),
        (("disk0", "console"), "disk0 -dma-> file_server -reply-> cat -request-> console"),
        (
            ("disk0", "cat", "--by", "interrupt", "--by", "reply"),
            "disk0 -interrupt-> disk_driver -reply-> file_server -reply-> cat",
        ),
        (("reincarnation_server", "disk_driver"), "reincarnation_server -supervision-> disk_driver"),
        (("cat", "ls"), "cat -request-> file_server -reply-> ls"),
        (("program", "program", "--without", "file_server", "--without", "console"), None),
        (("cat", "disk0", "--without", "file_server"), None),
        (("disk_driver", "console", "--by", "request"), None),
        (("program", "reincarnation_server"), None),
    ],
)
def test_reach(capsys: Output, words: tuple[str, ...], path: str | None) -> None:
    expected = path or f"{words[0]} cannot influence {words[1]}"
    assert ask(capsys, "reach", *words[:2], DEFAULT, *words[2:]) == (0 if path else 1, f"{expected}\n")


def test_closure_has_everything_that_can_be_reached(capsys: Output) -> None:
    found = answer(capsys, "closure", "cat", DEFAULT)
    assert set(found) <= {each["name"] for each in answer(capsys, "graph", DEFAULT)["nodes"]}
    for node in ("disk0", "ls", "reincarnation_server"):
        assert (ask(capsys, "reach", "cat", node, DEFAULT)[0] == 0) == (node in found)
    assert [len(path) for path in found.values()] == sorted(len(path) for path in found.values())
    for target, path in found.items():
        assert (path[0]["source"], path[-1]["target"]) == ("cat", target)
        assert all(one["target"] == next_["source"] for one, next_ in pairwise(path))
    assert "3  disk0        cat -request-> file_server" in ask(capsys, "closure", "cat", DEFAULT)[1]


def test_diff(capsys: Output) -> None:
    assert ask(capsys, "diff", DEFAULT, DEFAULT) == (0, "both allow the same\n")
    found = answer(capsys, "diff", DEFAULT, STRICT)
    request = {"source": "file_server", "target": "disk_driver", "by": "request"}
    assert {**request, "what": "blk@1.read_grant"} in found["gained"]
    assert {**request, "what": "blk@1.read"} in found["lost"]
    assert {"source": "file_server", "target": "", "by": "has", "what": "hypercall grant"} in found["gained"]
    back = answer(capsys, "diff", STRICT, DEFAULT)
    assert (back["gained"], back["lost"]) == (found["lost"], found["gained"])
    assert ask(capsys, "diff", DEFAULT, STRICT)[0] == 1


def test_shipped_rules_hold(capsys: Output) -> None:
    assert ask(capsys, "check", *SYSTEMS)[0] == 0
    for each in answer(capsys, "check", *SYSTEMS):
        assert each["rules"], f"{each['file']} has no rule"


def changed(folder: Path, source: str, *changes: tuple[str, str], name: str = "system.toml") -> str:
    """A copy of a shipped system file, with other texts in it, that works from `folder`."""
    text = Path(source).read_text(encoding="utf-8").replace('"../', f'"{ROOT}/')
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_broken_rule_is_found_by_the_command_and_before_the_start(capsys: Output, tmp_path: Path) -> None:
    """Whoever wires the store's program to a disk in this system finds out."""
    program = tmp_path / "programs/raw"
    program.mkdir(parents=True)
    text = (ROOT / "guests/programs/cat/manifest.toml").read_text(encoding="utf-8")
    raw = '[uses.blk]\nprotocol = "blk@1"\noperations = ["info", "read"]\n\n[uses.log]'
    (program / "manifest.toml").write_text(text.replace('"cat"', '"raw"').replace("[uses.log]", raw))
    file = changed(
        tmp_path, DEFAULT, (f'["{ROOT}/guests/programs"]', '["programs"]'),
        ('"program.log"', '"program.blk" = "disk_driver.blk"\n"program.log"'),
    )  # fmt: skip
    lines = Path(file).read_text(encoding="utf-8").split("\n")
    line = next(number for number, each in enumerate(lines, 1) if each.startswith("[rules.disk_"))
    complaint = (
        f"{file}:{line}: rules.disk_through_file_server: raw reaches disk0 other than through file_server: "
        "raw -request-> disk_driver -device-> disk0; take away one step of this path: a route, or an "
        "operation in [uses]"
    )
    assert ask(capsys, "check", file) == (1, f"{complaint}\n")
    assert answer(capsys, "check", file) == [{"file": file, "rules": [], "error": complaint}]
    with pytest.raises(CommandError) as caught:
        compile_policy(file, "raw", 1, [])
    assert str(caught.value) == complaint


WRONG = {
    "unknown": (
        'from = ["file_servr"]\nto = ["console"]',
        'last.from: no such name "file_servr"; did you mean "file_server"?',
    ),
    "nobody": (
        'from = []\nto = ["console"]',
        "last.from: the rule names nobody; name somebody, or remove the rule",
    ),
    "missing": ('from = ["console"]', 'last: "to" is missing; add to = ["a", "b"]'),
    "both": (
        'from = ["console"]\nto = ["console"]',
        'last.to: "console" is on both sides; remove it from one of the two',
    ),
    "end": (
        'from = ["console"]\nto = ["disk0"]\nthrough = ["disk0"]',
        'last.through: "disk0" is an end of the path; name who is between',
    ),
    "by": (
        'from = ["console"]\nto = ["disk0"]\nby = ["replies"]',
        'last.by: no such name "replies"; did you mean "reply"?',
    ),
    "by nothing": (
        'from = ["console"]\nto = ["disk0"]\nby = []',
        "last.by: no influence is named; leave it out to mean all of them",
    ),
    "key": (
        'from = ["console"]\nto = ["disk0"]\nacross = []',
        "last.across: unknown key; known keys: by, from, operations, through, to",
    ),
    "kinds": (
        'from = ["console"]\nto = ["disk0"]\nthrough = ["file_server"]\noperations = []',
        'last.through: "operations" is about direct requests, not about paths; write two rules',
    ),
    "contradiction": (
        'from = ["cat"]\nto = ["disk0"]',
        "last: it contradicts rules.disk_through_file_server about "
        "cat and disk0; let one rule speak of each pair: join the two, or narrow one of them",
    ),
    "path": (
        'from = ["file_server"]\nto = ["disk0"]\nby = ["request", "device"]',
        "last: file_server reaches "
        "disk0: file_server -request-> disk_driver -device-> disk0; take away one step of this path: "
        "a route, or an operation in [uses]",
    ),
    "operation": (
        'from = ["cat"]\nto = ["file_server"]\noperations = ["open", "read"]',
        "last: cat may ask "
        "file_server for fs@1.close; remove it from [uses] of the manifest of cat, or allow it here",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_rules_are_explained(case: str, capsys: Output, tmp_path: Path) -> None:
    rule, complaint = WRONG[case]
    file = changed(tmp_path, DEFAULT)
    with Path(file).open("a", encoding="utf-8") as stream:
        stream.write(f"\n[rules.last]\n{rule}\n")
    status, text = ask(capsys, "check", file)
    assert status == 1
    place, _, rest = text.strip().partition(": rules.")
    assert rest == complaint
    number = int(place.removeprefix(f"{file}:"))
    start = Path(file).read_text(encoding="utf-8").split("\n").index("[rules.last]") + 1
    assert start <= number <= start + 4


def test_a_rule_may_name_kinds_of_influence(capsys: Output, tmp_path: Path) -> None:
    """The disk influences what is read from it, but not by requests."""
    rule = '\n[rules.last]\nfrom = ["disk0"]\nto = ["program"]\nby = ["request"]\n'
    file = changed(tmp_path, DEFAULT, ("[rules.files_only_read]", f"{rule}\n[rules.files_only_read]"))
    assert ask(capsys, "check", file)[0] == 0
    assert ask(capsys, "check", changed(tmp_path, file, ('by = ["request"]\n', "")))[0] == 1


def test_grants_groups_and_equal_names(capsys: Output, tmp_path: Path) -> None:
    """What no shipped system has: a server that maps grants, a group, a device called like a component."""
    for part in ("disk_driver", "file_server"):
        name = "manifest_strict" if part == "file_server" else "manifest"
        text = (ROOT / f"components/{part}/{name}.toml").read_text(encoding="utf-8")
        text = text.replace('"dma_open", "dma_close"', '"map_grant"')
        (tmp_path / f"{part}.toml").write_text(text.replace("[restart]\n", '[restart]\ngroup = "disk"\n'))
    file = changed(
        tmp_path, STRICT, (f"{ROOT}/components/disk_driver/manifest.toml", "disk_driver.toml"),
        (f"{ROOT}/components/file_server/manifest_strict.toml", "file_server.toml"),
        ("[devices.disk0]", "[devices.console]"), ('"disk0", ', ""),
        ("read_only = true", "read_only = false"),
    )  # fmt: skip
    found = answer(capsys, "graph", file)
    edges = {(each["source"], each["target"], each["by"]) for each in found["edges"]}
    for one, other in (("disk_driver", "file_server"), ("file_server", "disk_driver")):
        assert {(one, other, "grant"), (one, other, "group")} <= edges
    assert not [edge for edge in edges if edge[2] == "dma"]  # without dma_open
    assert ("disk_driver", "devices.console", "device") in edges
    assert ask(capsys, "graph", file, "--svg")[0] == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("reach", "ct", "disk0", DEFAULT),
            'nobody is called "ct" in the system default; did you mean "cat"?',
        ),
        (
            ("closure", "tone", DEFAULT),
            'nobody is called "tone" in the system default: no route serves that program; '
            "add one under [routes]",
        ),
        (
            ("reach", "cat", "disk0", DEFAULT, "--without", "fileserver"),
            'nobody is called "fileserver" in the system default; did you mean "file_server"?',
        ),
        (("graph", "--svg", "--json", DEFAULT), "--svg and --json exclude each other; leave one out"),
        (("graph", "nowhere.toml"), "nowhere.toml: No such file or directory; check the path"),
        (("reach", "a"), "the following arguments are required: B; see r3s3 policy reach --help"),
        (("check",), "the following arguments are required: FILE; see r3s3 policy check --help"),
    ],
)
def test_bad_input(capsys: Output, words: tuple[str, ...], complaint: str) -> None:
    assert ask(capsys, *words) == (125, f"r3s3: {complaint}\n")
