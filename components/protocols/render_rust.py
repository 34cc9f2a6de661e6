"""Rust of a protocol: values, server trait, dispatch and clients, over crate `rt`. Builds with rustc 1.63."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from components.protocols.description import SLOT, Field, Operation, Protocol, Record
from components.protocols.text import camel, notice, wrapped

WORDS = 5
_USIZE_MAX = "usize::MAX"


def library(protocols: Sequence[Protocol]) -> str:
    """`lib.rs` of crate `protocols`."""
    lines = [f"//! {notice('*')}", "//!", "//! The protocols between components: one module each.", ""]
    lines += ["#![no_std]", ""]
    lines += [f"pub mod {protocol.name};" for protocol in sorted(protocols, key=lambda each: each.name)]
    return "\n".join(lines) + "\n"


def module(protocol: Protocol) -> str:
    """`NAME.rs`."""
    return "\n".join(_module(protocol)) + "\n"


def _module(protocol: Protocol) -> Iterator[str]:
    yield f"//! {notice(protocol.name)}"
    yield "//!"
    yield from wrapped(protocol.doc, "//! ")
    yield ""
    yield "use rt::server::{Event, Request};"
    yield "use rt::{Answer, Call, ClientId, Error, Operation, Protocol, ServerPort, Tag, Ticket};"
    yield ""
    yield (
        f'pub const PROTOCOL: Protocol = Protocol {{ name: "{protocol.name}", number: {protocol.number}, '
        f"version: {protocol.version} }};"
    )
    yield ""
    yield from _constants(protocol)
    ids = {operation.name: operation.id for operation in protocol.operations}
    for operation in protocol.operations:
        yield from _operation(operation, ids)
    yield "/// All of them, by id."
    names = ", ".join(f"&{operation.name.upper()}" for operation in protocol.operations)
    yield f"pub static OPERATIONS: [&Operation; {len(protocol.operations)}] = [{names}];"
    for operation in protocol.operations:
        for suffix, fields in (("Args", operation.args), ("Returns", operation.returns)):
            if fields:
                yield from _values(operation, suffix, fields)
    for record in protocol.records:
        yield from _record(record)
    yield from _server(protocol)
    yield from _client(protocol)


def _constants(protocol: Protocol) -> Iterator[str]:
    for name, value in protocol.constants.items():
        yield f"pub const {name.upper()}: {'u32' if value < 1 << 32 else 'u64'} = {value};"
    for enum, members in protocol.enums.items():
        yield ""
        yield f"// {enum}"
        for name, value in members.items():
            yield f"pub const {enum.upper()}_{name.upper()}: u32 = {value};"
    yield ""


def _operation(operation: Operation, ids: Mapping[str, int]) -> Iterator[str]:
    key = operation.args[0].size if operation.args else 0
    yield from wrapped(operation.doc, "/// ")
    yield f"pub static {operation.name.upper()}: Operation = Operation {{"
    yield f"    id: {operation.id},"
    yield f'    name: "{operation.name}",'
    yield f"    idempotent: {str(operation.idempotent).lower()},"
    yield f"    exactly_once: {str(operation.exactly_once).lower()},"
    yield f"    sticky: {str(operation.sticky).lower()},"
    yield f"    ends: {f'Some({ids[operation.ends]})' if operation.ends else 'None'},"
    yield f"    key_mask: {hex((1 << 8 * key) - 1) if operation.sticky or operation.ends else '0'},"
    yield f"    input_max: {_USIZE_MAX if operation.input == SLOT else operation.input},"
    yield f"    output_max: {_USIZE_MAX if operation.output == SLOT else operation.output},"
    yield "};"
    yield ""


def _word(field: Field) -> str:
    """The field as its part of a 64-bit argument word."""
    shift = field.offset % 8 * 8
    value = f"self.{field.name}"
    if field.type.startswith("i"):
        value = f"({value} as u{8 * field.size})"
    if field.size < 8:
        value = f"u64::from({value})"
    return f"{value} << {shift}" if shift else value


def _values(operation: Operation, suffix: str, fields: Sequence[Field]) -> Iterator[str]:
    name = camel(operation.name) + suffix
    words = [" | ".join(_word(f) for f in fields if f.offset // 8 == at) or "0" for at in range(WORDS)]
    yield ""
    yield f"/// {'Arguments' if suffix == 'Args' else 'Returned values'} of `{operation.name}`."
    yield "#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]"
    yield f"pub struct {name} {{"
    for field in fields:
        yield f"    pub {field.name}: {field.type},"
    yield "}"
    yield ""
    yield f"impl {name} {{"
    yield "    /// As a slot carries it."
    yield "    pub fn pack(&self) -> [u64; 5] {"
    yield "        ["
    for word in words:
        yield f"            {word},"
    yield "        ]"
    yield "    }"
    yield ""
    yield f"    pub fn unpack(args: &[u64; 5]) -> {name} {{"
    yield f"        {name} {{"
    for field in fields:
        shift = field.offset % 8 * 8
        word = f"args[{field.offset // 8}]"
        word = f"({word} >> {shift})" if shift else word
        yield f"            {field.name}: {word}{'' if field.type == 'u64' else f' as {field.type}'},"
    yield "        }"
    yield "    }"
    yield "}"


def _record(record: Record) -> Iterator[str]:
    name = camel(record.name) + "Record"
    yield ""
    yield from wrapped(record.doc, "/// ")
    yield "#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]"
    yield f"pub struct {name} {{"
    for field in record.fields:
        if field.note:
            yield f"    /// {field.note}"
        yield f"    pub {field.name}: {field.type},"
    yield "}"
    yield ""
    yield f"impl {name} {{"
    yield f"    pub const SIZE: usize = {record.size};"
    yield ""
    yield f"    pub fn pack(&self) -> [u8; {record.size}] {{"
    yield f"        let mut bytes = [0; {record.size}];"
    for field in record.fields:
        end = field.offset + field.size
        yield f"        bytes[{field.offset}..{end}].copy_from_slice(&self.{field.name}.to_le_bytes());"
    yield "        bytes"
    yield "    }"
    yield ""
    yield "    /// From the first bytes; None if there are too few."
    yield f"    pub fn unpack(bytes: &[u8]) -> Option<{name}> {{"
    yield f"        if bytes.len() < {record.size} {{"
    yield "            return None;"
    yield "        }"
    yield f"        Some({name} {{"
    for field in record.fields:
        parts = ", ".join(f"bytes[{field.offset + at}]" for at in range(field.size))
        yield f"            {field.name}: {field.type}::from_le_bytes([{parts}]),"
    yield "        })"
    yield "    }"
    yield "}"


def _returns(operation: Operation) -> str:
    return f"{camel(operation.name)}Returns" if operation.returns else "()"


def _server(protocol: Protocol) -> Iterator[str]:
    yield ""
    named = f"{protocol.name}@{protocol.version}"
    yield f"/// A service that speaks {named}; what it does not do answers `nosys`."
    yield "#[allow(unused_variables)]"
    yield "pub trait Server {"
    for operation in protocol.operations:
        yield from wrapped(operation.doc, "    /// ")
        if operation.errors:
            yield from wrapped(f"Errors: {', '.join(operation.errors)}.", "    /// ")
        parameters = "&mut self, call: &mut Call<'_>"
        if operation.args:
            parameters += f", args: {camel(operation.name)}Args"
        yield f"    fn {operation.name}({parameters}) -> Answer<{_returns(operation)}> {{"
        yield "        Answer::Failed(Error::NOSYS)"
        yield "    }"
        yield ""
    if any(operation.exactly_once for operation in protocol.operations):
        doc = (
            "The answer that a request which must be done exactly once has been given before, if it has: "
            "`replies.find(call)` of the state, where `replies.keep` has put it."
        )
        yield from wrapped(doc, "    /// ")
        yield "    fn answered(&mut self, call: &Call<'_>) -> Option<Answer<[u64; 5]>>;"
        yield ""
    yield "    /// A client is gone: drop what belongs to it. Its tickets are stale."
    yield "    fn session_ended(&mut self, client: ClientId) {}"
    yield "}"
    yield ""
    yield "/// Serves one bounded round of requests; how many events there were."
    yield "pub fn serve<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S) -> usize {"
    yield "    port.begin_round();"
    yield "    let mut events = 0;"
    yield "    while let Some(event) = port.next() {"
    yield "        events += 1;"
    yield "        match event {"
    yield "            Event::Request(request) => dispatch(port, service, request),"
    yield "            Event::Ended(client) => service.session_ended(client),"
    yield "        }"
    yield "    }"
    yield "    events"
    yield "}"
    yield ""
    yield "/// Hands one request to the service, and its answer to the client."
    yield "pub fn dispatch<S: Server + ?Sized>(port: &mut ServerPort, service: &mut S, request: Request) {"
    yield "    let ticket = request.ticket;"
    yield "    let operation = match OPERATIONS.iter().find(|operation| operation.id == request.op) {"
    yield "        Some(operation) => operation,"
    yield "        None => return port.answer(ticket, Answer::Failed(Error::NOSYS)),"
    yield "    };"
    yield "    if request.length as usize > operation.input_max {"
    yield "        return port.answer(ticket, Answer::Failed(Error::TOOBIG));"
    yield "    }"
    yield "    let mut call = Call::new(port, request, operation);"
    yield "    match request.op {"
    for operation in protocol.operations:
        args = f", {camel(operation.name)}Args::unpack(&request.args)" if operation.args else ""
        yield f"        {operation.id} => {{"
        if operation.exactly_once:
            yield "            if let Some(answer) = service.answered(&call) {"
            yield "                return port.answer(ticket, answer);"
            yield "            }"
        yield f"            let answer = service.{operation.name}(&mut call{args});"
        yield f"            answer_{operation.name}(port, ticket, answer)"
        yield "        }"
    yield "        _ => {}"
    yield "    }"
    yield "}"
    for operation in protocol.operations:
        yield ""
        yield f"/// Answers a `{operation.name}` kept for later; nothing happens if its client is gone."
        yield (
            f"pub fn answer_{operation.name}(port: &mut ServerPort, ticket: Ticket, "
            f"answer: Answer<{_returns(operation)}>) {{"
        )
        pack = "|values| values.pack()" if operation.returns else "|()| [0; 5]"
        yield f"    port.answer(ticket, answer.map({pack}))"
        yield "}"


def _client(protocol: Protocol) -> Iterator[str]:
    yield ""
    yield f"/// A client of {protocol.name}@{protocol.version}. Everything `rt::Client` can do, and a pair of"
    yield "/// methods per operation: one that waits (for programs), one that only submits."
    yield "pub struct Client(rt::Client);"
    yield ""
    yield "impl core::ops::Deref for Client {"
    yield "    type Target = rt::Client;"
    yield ""
    yield "    fn deref(&self) -> &rt::Client {"
    yield "        &self.0"
    yield "    }"
    yield "}"
    yield ""
    yield "impl core::ops::DerefMut for Client {"
    yield "    fn deref_mut(&mut self) -> &mut rt::Client {"
    yield "        &mut self.0"
    yield "    }"
    yield "}"
    yield ""
    yield "impl Client {"
    yield "    /// The client end of this interface. Requests wait until it has a server."
    yield "    pub fn connect(interface: &str) -> Result<Client, Error> {"
    yield "        rt::Client::open(&PROTOCOL, interface).map(Client)"
    yield "    }"
    yield ""
    yield "    /// The client end that is channel `index`."
    yield "    pub fn attach(index: u32) -> Result<Client, Error> {"
    yield "        rt::Client::attach(&PROTOCOL, index).map(Client)"
    yield "    }"
    for operation in protocol.operations:
        yield from _client_methods(operation)
    yield "}"


def _client_methods(operation: Operation) -> Iterator[str]:
    parameters = "&mut self"
    if operation.args:
        parameters += f", args: &{camel(operation.name)}Args"
    if operation.input:
        parameters += ", input: &[u8]"
    packed = "args.pack()" if operation.args else "[0; 5]"
    given = "input" if operation.input else "&[]"
    static = f"&{operation.name.upper()}"
    returns = _returns(operation)
    unpacked = f"{returns}::unpack(&reply.args)" if operation.returns else "()"
    yield ""
    yield from wrapped(operation.doc, "    /// ")
    if operation.output:
        result = f"({returns}, usize)" if operation.returns else "usize"
        value = "length" if not operation.returns else f"({unpacked}, length)"
        yield "    /// Output goes to `output` as far as it fits; how many bytes that were is returned last."
        yield (f"    pub fn {operation.name}({parameters}, output: &mut [u8]) -> Result<{result}, Error> {{")
        yield f"        let reply = self.0.call({static}, {packed}, {given}, output)?;"
        yield "        let length = output.len().min(reply.length as usize);"
        yield f"        Ok({value})"
    elif operation.returns:
        yield f"    pub fn {operation.name}({parameters}) -> Result<{returns}, Error> {{"
        yield f"        let reply = self.0.call({static}, {packed}, {given}, &mut [])?;"
        yield f"        Ok({unpacked})"
    else:
        yield f"    pub fn {operation.name}({parameters}) -> Result<(), Error> {{"
        yield f"        self.0.call({static}, {packed}, {given}, &mut []).map(drop)"
    yield "    }"
    yield ""
    yield f"    /// Submits `{operation.name}`: `poll` tells when it is done."
    yield f"    pub fn submit_{operation.name}({parameters}) -> Result<Tag, Error> {{"
    yield f"        self.0.submit({static}, {packed}, {given})"
    yield "    }"
