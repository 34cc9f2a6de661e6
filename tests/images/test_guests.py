"""The builder of guest programs, on a small tree of its own."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from images import guests, rustc

RT = """#![no_std]
#[cfg(not(host_test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
pub fn half(number: u32) -> u32 { number / 2 }
"""
PROTOCOLS = "#![no_std]\npub fn two() -> u32 { rt::half(4) }\n"
MAIN = """#![no_std]
#![no_main]
mod pure;
#[no_mangle]
pub extern "C" fn _start() -> ! {
    unsafe { core::ptr::write_volatile(0x6000_0000 as *mut u32, protocols::two() + pure::one()) }
    loop {}
}
"""
GLUE = """#![no_std]
#![no_main]
extern "C" { fn answer() -> u32; }
#[no_mangle]
pub extern "C" fn _start() -> ! {
    unsafe { core::ptr::write_volatile(0x6000_0000 as *mut u32, protocols::two() + answer()) }
    loop {}
}
"""
MAIN_C = """#include "answer.h"
#include "abi.h"
#ifndef KILL_POINTS
#define KILL_POINTS 0
#endif
uint32_t answer(void) { return half() + KILL_POINTS; }
"""
ANSWER_H = '#include "abi.h"\n#define ANSWER 84\nuint32_t half(void), answer(void);\n'
PURE = "pub fn one() -> u32 { 1 }\n"
HOST_TESTS = "mod pure;\n#[test]\nfn sum() { assert_eq!(pure::one() + protocols::two(), 3); }\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "guests/rt/src/lib.rs": RT,
        "guests/rt/link.ld": "ENTRY(_start)\nSECTIONS { . = 0x200000; .text : { *(.text*) } }\n",
        "components/protocols/generated/lib.rs": PROTOCOLS,
        "components/adder/src/main.rs": MAIN,
        "components/adder/src/pure.rs": PURE,
        "components/adder/src/host_tests.rs": HOST_TESTS,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(guests, "REPOSITORY", tmp_path)
    return tmp_path


def build(tree: Path, *names: str) -> list[str]:
    """What the builder says it has built."""
    said: list[str] = []
    guests.build(names, output=tree / "out", report=said.append)
    return said


def test_only_what_changed_is_rebuilt(tree: Path) -> None:
    everything = ["lib/librt.rlib", "lib/libprotocols.rlib", "adder.elf"]
    assert build(tree) == [f"built out/{name}" for name in everything]
    image = (tree / "out/adder.elf").read_bytes()
    assert image[:4] == b"\x7fELF"
    os.utime(tree / "components/adder/src/pure.rs")
    assert build(tree) == []
    (tree / "components/adder/src/pure.rs").write_text("pub fn one() -> u32 { 7 }\n", encoding="utf-8")
    assert build(tree) == ["built out/adder.elf"]
    assert (tree / "out/adder.elf").read_bytes() != image
    (tree / "guests/rt/link.ld").write_text(
        "ENTRY(_start)\nSECTIONS { . = 0x300000; .text : { *(.text*) } }\n", encoding="utf-8"
    )
    assert build(tree) == ["built out/adder.elf"]


def test_failed_build_keeps_the_old_product_and_says_where(tree: Path) -> None:
    build(tree)
    (tree / "components/adder/src/pure.rs").write_text("pub fn one() -> u32 { nothing }\n", encoding="utf-8")
    message = r"(?s)components/adder/src/main\.rs does not compile:.*nothing"
    with pytest.raises(rustc.CompilerError, match=message):
        build(tree)
    assert (tree / "out/adder.elf").is_file()


def test_host_tests_run_and_fail_loudly(tree: Path) -> None:
    said: list[str] = []
    guests.run_host_tests(output=tree / "out", report=said.append)
    assert said[-1].startswith("components/adder/src/host_tests.rs: ok. 1 passed")
    (tree / "components/adder/src/pure.rs").write_text("pub fn one() -> u32 { 2 }\n", encoding="utf-8")
    with pytest.raises(rustc.CompilerError, match=r"(?s)host_tests\.rs: exit status 101.*left: `?4"):
        guests.run_host_tests(output=tree / "out", report=said.append)


def test_unknown_name_lists_the_known_ones(tree: Path) -> None:
    with pytest.raises(guests.GuestError, match=r"^no guest is called subtractor; there are: adder$"):
        build(tree, "subtractor")


def test_two_programs_of_one_name(tree: Path) -> None:
    shutil.copytree(tree / "components/adder", tree / "guests/programs/adder")
    with pytest.raises(guests.GuestError, match="two guests are called adder: "):
        build(tree)


def test_missing_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RUSTC", raising=False)
    with pytest.raises(rustc.CompilerError, match=r"^no Rust compiler: rustc not found; install one with"):
        rustc.find()


def test_old_or_foreign_compiler_is_refused(tmp_path: Path) -> None:
    fake = tmp_path / "rustc"
    fake.write_text("#!/bin/sh\necho 'rustc 1.48.0 (old)'\n", encoding="ascii")
    fake.chmod(0o755)
    with pytest.raises(rustc.CompilerError, match=r"is version 1\.48, 1\.63 is needed; install one"):
        rustc.find(str(fake))
    fake.write_text("#!/bin/sh\necho hello\n", encoding="ascii")
    with pytest.raises(rustc.CompilerError, match="is not a Rust compiler: it says 'hello"):
        rustc.find(str(fake))


@pytest.fixture
def c_tree(tree: Path) -> Path:
    """The same with a program in C."""
    files = {
        "guests/c/glue.rs": GLUE,
        "hypervisor/abi/abi.h": "#include <stdint.h>\n",
        "components/counter/src/main.c": MAIN_C,
        "components/counter/src/half.c": '#include "answer.h"\nuint32_t half(void) { return ANSWER / 2; }\n',
        "components/counter/src/answer.h": ANSWER_H,
    }
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tree


def test_a_program_in_c(c_tree: Path) -> None:
    """It is built again when a file of its own, a header of others or the glue has changed."""
    build(c_tree)
    product, source = c_tree / "out/counter.elf", c_tree / "components/counter/src"
    assert build(c_tree, "counter") == []
    for path, old, new in [
        (source / "answer.h", "84", "86"),
        (source / "half.c", "/ 2", "/ 2u"),
        (c_tree / "hypervisor/abi/abi.h", "stdint", "stddef.h>\n#include <stdint"),
        (c_tree / "guests/c/glue.rs", "0x6000_0000", "0x6000_1000"),
    ]:
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        assert build(c_tree, "counter") == ["built out/counter.elf"]
    plain = product.read_bytes()
    guests.build(["counter"], output=c_tree / "out", report=lambda _: None, cfgs=["kill_points"])
    assert product.read_bytes() != plain


def test_c_that_does_not_compile(c_tree: Path) -> None:
    """Warnings are errors, and the message is the compiler's."""
    build(c_tree)
    path = c_tree / "components/counter/src/half.c"
    path.write_text(path.read_text(encoding="utf-8") + "static int unused;\n", encoding="utf-8")
    message = (
        r"(?s)^components/counter/src does not compile:\ncomponents/counter/src/half\.c:3:12: error: .*unused"
    )
    with pytest.raises(rustc.CompilerError, match=message):
        build(c_tree, "counter")
    assert (c_tree / "out/counter.elf").is_file()


def test_nothing_is_put_where_others_build(tree: Path) -> None:
    """Neither into the tree, where every build is started, nor beside the product."""
    before, seen, ended = set(tree.rglob("*")), set[Path](), threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.update(each for each in tree.iterdir() if each not in before)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        guests.build(["adder"], output=tree / "build/one", report=lambda _: None)
    finally:
        ended.set()
        looking.join()
    assert {each.name for each in seen} <= {"build"}
    left = {each.name for each in (tree / "build/one").iterdir()}
    assert left == {".lock", "lib", "adder.elf", "adder.elf.json"}
