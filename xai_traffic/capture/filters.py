"""Compile packet filters: a subset of the BPF language (pcap-filter(7)) to postfix instructions.

    expression  = ["not" | "!"] term { ("and" | "&&" | "or" | "||") ["not" | "!"] term }
    term        = "(" expression ")" | primitive
    primitive   = "ip" | "ip6" | "tcp" | "udp" | "sctp" | "icmp" | "icmp6"
                | ["ip" | "ip6"] "proto" PROTOCOL          number 0-255, or one of PROTOCOLS
                | ["ip" | "ip6"] [side] "host" ADDRESS     IPv4 or IPv6, no host names
                | ["ip" | "ip6"] [side] "net" NETWORK      10.0.0.0/8, 10, 192.168, 2001:db8::/32
                | ["tcp" | "udp" | "sctp"] [side] "port" N
                | ["tcp" | "udp" | "sctp"] [side] "portrange" N-M
                | "less" N | "greater" N                   wire length <= N, >= N
    side        = "src" | "dst" | "src or dst" | "src and dst"

As in tcpdump, "and" and "or" bind equally tight, from left to right: `tcp or udp and port 53` is
`(tcp or udp) and port 53`. "not" binds tighter. A bare value takes the words of the value before
it within the same parentheses: `port 67 or 68`, `port (67 or 68)`; a first bare address means
`host`. Without a side either side may match. `port` matches TCP, UDP and SCTP only. The empty
expression matches every packet. In a tunnelled packet all but the wire length is that of the
headers that make its session.

Not in the subset, and refused: host and service names, `ether`, `vlan`, `gateway`, byte
arithmetic such as `tcp[13]`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import struct

from xai_traffic.capture.records import ICMP, ICMP6, SCTP, TCP, UDP
from xai_traffic.errors import ConfigError

INSTRUCTION = struct.Struct("<4BI16s")
"""Operation, side, family, prefix length, value, address: 24 bytes."""

MAX_INSTRUCTIONS = 1024
MAX_DEPTH = 64
"""Most values on the stack, so that the C core can keep it in the bits of one integer."""

AND, OR, NOT, PROTOCOL, FAMILY, NET, PORT, LESS, GREATER = range(1, 10)
EITHER, SOURCE, DESTINATION, BOTH = range(4)
PROTOCOLS = {
    "icmp": ICMP,
    "igmp": 2,
    "tcp": TCP,
    "udp": UDP,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmp6": ICMP6,
    "pim": 103,
    "vrrp": 112,
    "sctp": SCTP,
}

_TOKEN = re.compile(r"[()!]|&&|\|\||[^\s()!&|]+|[&|]")
_SIDES = {"src": SOURCE, "dst": DESTINATION}
_AND, _OR, _NOT = ("and", "&&"), ("or", "||"), ("not", "!")
_WORDS = {*_AND, *_OR, *_NOT, *_SIDES, *PROTOCOLS, "(", ")", "ip", "ip6", "proto"}
_WORDS |= {"host", "net", "port", "portrange", "less", "greater"}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled filter.

    Args:
        expression: what it was compiled from.
        code: postfix INSTRUCTIONs, which both cores evaluate; empty matches everything.

    Raises:
        ConfigError: the code is too long or too deep, or no valid program.
    """

    expression: str
    code: bytes = b""
    _instructions: tuple = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.code)
        instructions = tuple(
            (operation, side, family, bits, value, int.from_bytes(address, "big"))
            for operation, side, family, bits, value, address in INSTRUCTION.iter_unpack(self.code)
        )
        object.__setattr__(self, "_instructions", instructions)

    def matches(
        self,
        protocol: int,
        family: int,
        source: bytes,
        destination: bytes,
        source_port: int,
        destination_port: int,
        wire: int,
    ) -> bool:
        """Tell whether a packet passes; addresses are 4 or 16 bytes, ports 0 where there is none,
        `wire` is the whole packet's length in bytes.
        """
        stack: list[bool] = []
        for operation, side, wanted, bits, value, address in self._instructions:
            if operation == NOT:
                stack.append(not stack.pop())
            elif operation in (AND, OR):
                last, first = stack.pop(), stack.pop()
                stack.append(first and last if operation == AND else first or last)
            elif operation == PROTOCOL:
                stack.append(protocol == value)
            elif operation == FAMILY:
                stack.append(family == wanted)
            elif operation == LESS:
                stack.append(wire <= value)
            elif operation == GREATER:
                stack.append(wire >= value)
            elif operation == PORT:
                low, high = value & 0xFFFF, value >> 16
                has_ports = protocol in (TCP, UDP, SCTP)
                ends = (low <= port <= high for port in (source_port, destination_port))
                stack.append(has_ports and _sides(side, *ends))
            else:
                width = 32 if wanted == 4 else 128
                low = address >> (128 - bits)
                ends = (
                    int.from_bytes(end, "big") >> (width - bits) == low
                    for end in (source, destination)
                )
                stack.append(family == wanted and _sides(side, *ends))
        return stack.pop() if stack else True


def compile_filter(expression: str) -> Program:
    """Compile a filter of the grammar above.

    Raises:
        ConfigError: with the position (1-based) and the token that does not fit.
    """
    return _Parser(expression).program()


def _sides(side: int, source: bool, destination: bool) -> bool:
    if side == EITHER:
        return source or destination
    if side == BOTH:
        return source and destination
    return source if side == SOURCE else destination


def _check(code: bytes) -> None:
    """Refuse code that the C core would refuse, so that the error comes early and by name."""
    if len(code) % INSTRUCTION.size:
        raise ConfigError("a filter program must be a whole number of instructions")
    if len(code) > MAX_INSTRUCTIONS * INSTRUCTION.size:
        raise ConfigError(f"the filter is too long: at most {MAX_INSTRUCTIONS} operations")
    depth = 0
    for operation, side, family, bits, _, _ in INSTRUCTION.iter_unpack(code):
        if not AND <= operation <= GREATER or side > BOTH:
            raise ConfigError(f"a filter program has no operation {operation} on side {side}")
        if operation in (FAMILY, NET) and family not in (4, 6):
            raise ConfigError(f"a filter program names IP version {family}")
        if operation == NET and bits > (32 if family == 4 else 128):
            raise ConfigError(f"a filter program has a prefix of {bits} bits for IP {family}")
        needed = 2 if operation in (AND, OR) else 1 if operation == NOT else 0
        if depth < needed:
            raise ConfigError("a filter program takes more values than it has")
        depth += 1 - needed
        if depth > MAX_DEPTH:
            raise ConfigError(f"the filter is nested too deep: at most {MAX_DEPTH} values wait")
    if code and depth != 1:
        raise ConfigError("a filter program must leave one value")


@dataclasses.dataclass(frozen=True)
class _Words:
    """The words before a value, which the next bare value takes over."""

    layer: str = ""
    side: int = EITHER
    kind: str = "host"


class _Parser:
    def __init__(self, expression: str):
        self.expression = expression
        self.tokens = [(match.group(), match.start()) for match in _TOKEN.finditer(expression)]
        self.next = 0
        self.nesting = 0
        self.words = _Words()
        self.code: list[bytes] = []

    def program(self) -> Program:
        if self.tokens:
            self.parse_expression()
            if self.next < len(self.tokens):
                raise self.error("expected 'and' or 'or' before it")
        return Program(self.expression, b"".join(self.code))

    def error(self, reason: str, index: int | None = None) -> ConfigError:
        index = self.next if index is None else index
        if index < len(self.tokens):
            token, start = self.tokens[index]
            where = f"position {start + 1}, {token!r}"
        else:
            where = f"position {len(self.expression) + 1}, its end"
        return ConfigError(f"filter {self.expression!r}, {where}: {reason}")

    def peek(self, ahead: int = 0) -> str:
        index = self.next + ahead
        return self.tokens[index][0] if index < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.peek()
        if token and (not wanted or token in wanted):
            self.next += 1
            return token
        return ""

    def emit(self, operation, *, side=0, family=0, bits=0, value=0, address=b"") -> None:
        if len(self.code) == MAX_INSTRUCTIONS:
            raise self.error(f"the filter is too long: at most {MAX_INSTRUCTIONS} operations")
        self.code.append(INSTRUCTION.pack(operation, side, family, bits, value, address))

    def parse_expression(self) -> None:
        self.parse_operand(self.parse_term)
        self.parse_rest(self.parse_term)

    def parse_rest(self, parse_one) -> None:
        while operator := self.take(*_AND, *_OR):
            self.parse_operand(parse_one)
            self.emit(AND if operator in _AND else OR)

    def parse_operand(self, parse_one) -> None:
        negations = 0
        while self.take(*_NOT):
            negations += 1
        parse_one()
        if negations % 2:
            self.emit(NOT)

    def parse_group(self, parse_inside) -> None:
        opened = self.next
        self.take("(")
        self.nesting += 1
        if self.nesting >= MAX_DEPTH:
            raise self.error(f"nested too deep: at most {MAX_DEPTH - 1} parentheses", opened)
        parse_inside()
        if not self.take(")"):
            if self.next == len(self.tokens):
                raise self.error("this parenthesis is never closed", opened)
            raise self.error("expected 'and', 'or' or ')' before it")
        self.nesting -= 1

    def parse_term(self) -> None:
        if self.peek() == "(":
            outside, self.words = self.words, _Words()
            self.parse_group(self.parse_expression)
            self.words = outside
        elif self.peek() in _WORDS:
            self.parse_primitive()
        elif not re.fullmatch(r"[0-9a-fA-F:./-]*[0-9:][0-9a-fA-F:./-]*", self.peek()):
            raise self.error("expected a primitive such as 'tcp', 'host', 'net' or 'port'")
        else:
            self.parse_value()

    def parse_primitive(self) -> None:
        first = self.next
        layer = self.take("ip", "ip6", "tcp", "udp", "sctp", "icmp", "icmp6")
        if word := self.take("less", "greater"):
            if layer:
                raise self.error(f"{word!r} stands alone: write '{layer} and {word} N'", first + 1)
            self.emit(LESS if word == "less" else GREATER, value=self.number(0xFFFFFFFF))
            return
        side = self.parse_side()
        kind = self.take("host", "net", "port", "portrange", "proto")
        if not kind and side is None:
            if not layer:
                raise self.error("expected a primitive such as 'tcp', 'host', 'net' or 'port'")
            self.emit_layer(layer)
            return
        if kind == "proto" and side is not None:
            raise self.error("'proto' has no side", self.next - 1)
        kind = kind or "host"
        fitting = ("tcp", "udp", "sctp") if kind in ("port", "portrange") else ("ip", "ip6")
        if layer and layer not in fitting:
            raise self.error(f"does not go with {kind!r}: write '{layer} and {kind} ...'", first)
        self.words = _Words(layer, side or EITHER, kind)
        if self.peek() == "(":
            self.parse_group(self.parse_values)
        else:
            self.parse_value()

    def parse_side(self) -> int | None:
        first = self.take(*_SIDES)
        if not first:
            return None
        if self.peek() in (*_AND, *_OR) and self.peek(1) in _SIDES:
            operator, second = self.take(), self.take()
            if second != first:
                return BOTH if operator in _AND else EITHER
            raise self.error("the same side twice", self.next - 1)
        return _SIDES[first]

    def parse_values(self) -> None:
        self.parse_operand(self.parse_value)
        self.parse_rest(self.parse_value)

    def parse_value(self) -> None:
        layer, side, kind = self.words.layer, self.words.side, self.words.kind
        if not self.peek() or (self.peek() in _WORDS and kind != "proto"):
            raise self.error(f"expected a value for {kind!r}")
        if kind == "proto":
            name = self.peek().removeprefix("\\")
            if name in PROTOCOLS:
                self.take()
            self.emit(PROTOCOL, value=PROTOCOLS[name] if name in PROTOCOLS else self.number(255))
        elif kind == "port":
            port = self.number(65535)
            self.emit(PORT, side=side, value=port | port << 16)
        elif kind == "portrange":
            low, dash, high = self.peek().partition("-")
            if not (dash and _small(low, 65535) and _small(high, 65535) and int(low) <= int(high)):
                raise self.error("expected a range of ports such as 6000-6008")
            self.take()
            self.emit(PORT, side=side, value=int(low) | int(high) << 16)
        else:
            network = self.network(kind)
            if layer and network.version != (4 if layer == "ip" else 6):
                raise self.error(f"is no address of {layer!r}", self.next - 1)
            self.emit(
                NET,
                side=side,
                family=network.version,
                bits=network.prefixlen,
                address=network.network_address.packed,
            )
            return
        if layer:
            self.emit_layer(layer)
            self.emit(AND)

    def emit_layer(self, layer: str) -> None:
        if layer in ("ip", "ip6"):
            self.emit(FAMILY, family=4 if layer == "ip" else 6)
            return
        self.emit(PROTOCOL, value=PROTOCOLS[layer])
        if layer in ("icmp", "icmp6"):
            self.emit(FAMILY, family=4 if layer == "icmp" else 6)
            self.emit(AND)

    def number(self, most: int) -> int:
        if not _small(self.peek(), most):
            raise self.error(f"expected a number from 0 to {most}")
        return int(self.take())

    def network(self, kind: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        text = self.peek()
        digits, slash, bits = text.partition("/")
        if kind == "net" and re.fullmatch(r"\d{1,3}(\.\d{1,3}){0,2}", digits, re.ASCII):
            # BPF's short form: 10 is 10.0.0.0/8, 192.168/17 is 192.168.0.0/17.
            parts = digits.count(".") + 1
            text = digits + ".0" * (4 - parts) + "/" + (bits if slash else str(8 * parts))
        elif kind == "host" and "/" in text:
            raise self.error("a host has no prefix length: write 'net'")
        elif "%" in text:
            raise self.error("expected an address without a zone")
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise self.error(f"expected an IPv4 or IPv6 {kind}: {error}") from None
        self.take()
        return network


def _small(text: str, most: int) -> bool:
    return bool(re.fullmatch(r"\d{1,10}", text, re.ASCII)) and int(text) <= most
