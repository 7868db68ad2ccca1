"""Linux's netfilter queue over a raw netlink socket: it receives packets' metadata and sends verdicts.

Constants and layouts are those of linux/netfilter/nfnetlink_queue.h. Only the IPv4 header leaves the kernel, not the
payload.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import NamedTuple

from spu_bench.errors import SpuBenchError

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_SUBSYSTEM = 3 << 8
_PACKET, _VERDICT, _CONFIG, _VERDICT_BATCH = (_SUBSYSTEM | kind for kind in range(4))
_REQUEST, _ACKNOWLEDGE = 1, 4
_NLMSG_ERROR = 2
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_COMMAND_BIND, _COPY_PACKET, _FLAG_GSO = 1, 2, 4
_ATTR_PACKET_HEADER, _ATTR_VERDICT_HEADER, _ATTR_TIMESTAMP, _ATTR_PAYLOAD = 1, 2, 4, 10
_DROP, _ACCEPT = 0, 1
_IPV4_HEADER = 20
_ETHERNET_HEADER = 14
_OLDEST_NS = 100_000_000

_message_header = struct.Struct("=IHHII")
_netfilter_header = struct.Struct("!BBH")
_attribute = struct.Struct("=HH")
_verdict = struct.Struct("!II")
_timestamp = struct.Struct("!QQ")


class Packet(NamedTuple):
    """A packet that waits for its verdict: arrival in ns of the monotonic clock, `size` in bytes with headers."""

    number: int
    arrived_ns: int
    size: int
    source: bytes


class NetfilterQueue:
    """The netfilter queue `number` of this network namespace, for up to `length` packets.

    Raises SpuBenchError ("environment") where the kernel refuses the queue.
    """

    def __init__(self, number: int, *, length: int) -> None:
        self._number = number
        try:
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            self.socket.bind((0, 0))
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 * 2**20)
            self.socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
            # One socket with this option makes the kernel stamp every packet on arrival.
            self._stamping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._stamping.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._configure((_CFG_CMD, struct.pack("!BBH", _COMMAND_BIND, 0, socket.AF_INET)))
            self._configure((_CFG_PARAMS, struct.pack("!IB", _IPV4_HEADER, _COPY_PACKET)))
            self._configure((_CFG_MAXLEN, struct.pack("!I", length)))
            flags = struct.pack("!I", _FLAG_GSO)
            self._configure((_CFG_MASK, flags), (_CFG_FLAGS, flags))
        except OSError as error:
            raise SpuBenchError(
                f"The kernel refuses a netfilter queue: {error}.",
                "run as root or with NET_ADMIN, on a kernel with NFQUEUE (nfnetlink_queue) or with sch_netem.",
                "environment",
            ) from error
        self.socket.setblocking(False)

    def receive(self, most: int) -> list[Packet]:
        """Return up to `most` waiting packets, possibly none."""
        packets = []
        for _ in range(most):
            try:
                data = self.socket.recv(4096)
            except BlockingIOError:
                break
            if (packet := parse_packet(data)) is not None:
                packets.append(packet)
        return packets

    def accept_up_to(self, number: int) -> None:
        """Release every waiting packet up to and including `number`."""
        self._send_verdict(_VERDICT_BATCH, _ACCEPT, number)

    def drop(self, number: int) -> None:
        """Drop the packet `number`."""
        self._send_verdict(_VERDICT, _DROP, number)

    def _send_verdict(self, kind: int, verdict: int, number: int) -> None:
        self._send(kind, _REQUEST, _pack_attribute(_ATTR_VERDICT_HEADER, _verdict.pack(verdict, number)))

    def _configure(self, *attributes: tuple[int, bytes]) -> None:
        self._send(_CONFIG, _REQUEST | _ACKNOWLEDGE, b"".join(_pack_attribute(*each) for each in attributes))
        while True:
            answer = self.socket.recv(65536)
            if _message_header.unpack_from(answer)[1] == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", answer, _message_header.size)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return

    def _send(self, kind: int, flags: int, attributes: bytes) -> None:
        body = _netfilter_header.pack(socket.AF_UNSPEC, 0, self._number) + attributes
        self.socket.send(_message_header.pack(_message_header.size + len(body), kind, flags, 0, 0) + body)


def _pack_attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return _attribute.pack(_attribute.size + len(value), kind) + value + bytes(padding)


def parse_packet(data: bytes) -> Packet | None:
    """Read one message of the queue; None for a message that is not a packet."""
    if _message_header.unpack_from(data)[1] != _PACKET:
        return None
    now = time.monotonic_ns()
    number, age, payload = 0, 0, -1
    offset, end = _message_header.size + _netfilter_header.size, len(data)
    while offset + 4 <= end:
        length, kind = _attribute.unpack_from(data, offset)
        if kind == _ATTR_PACKET_HEADER:
            number = int.from_bytes(data[offset + 4 : offset + 8], "big")
        elif kind == _ATTR_TIMESTAMP:
            seconds, micros = _timestamp.unpack_from(data, offset + 4)
            # The stamp is of a clock that can be set: it is used as an age, and only if the age is plausible.
            age = time.time_ns() - (seconds * 1_000_000_000 + micros * 1000)
            age = age if 0 <= age < _OLDEST_NS else 0
        elif kind == _ATTR_PAYLOAD:
            payload = offset + 4
            break
        offset += (length + 3) & ~3
    if payload < 0 or end < payload + _IPV4_HEADER:
        return Packet(number, now - age, 0, b"")
    size = int.from_bytes(data[payload + 2 : payload + 4], "big") + _ETHERNET_HEADER
    return Packet(number, now - age, size, data[payload + 12 : payload + 16])
