"""Sends one VXLAN packet that a kernel's tunnel did not make.

    vxlan_send.py HOW FROM TO VNI INNER_FROM INNER_TO INNER_PORT [options]

HOW: udp (a socket, FROM "-": its own address), raw (a raw socket that writes the IP header), frame DEVICE DESTINATION_MAC (a
packet socket). Options: fragments (raw and udp: outer datagram in fragments), mark=N (SO_MARK). The inner packet is a UDP datagram.
"""
import ipaddress
import socket
import struct
import sys


def checksum(data):
    data += b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(text):
    return ipaddress.ip_address(text).packed


def ip(source, destination, protocol, payload, ident=1, fragment=0):
    source, destination = packed(source), packed(destination)
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + source + destination + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(source, destination, sport, dport, payload):
    length = 8 + len(payload)
    head = struct.pack("!HHHH", sport, dport, length, 0)
    pseudo = packed(source) + packed(destination) + struct.pack("!IHBB", length, 0, 0, 17)
    return head[:6] + struct.pack("!H", checksum(pseudo + head + payload) or 0xFFFF) + payload


how, source, target, vni, inner_source, inner_target, port, *options = sys.argv[1:]
mark = next((int(option[5:], 0) for option in options if option.startswith("mark=")), 0)
content = b"forged" + (b"x" * 2000 if "fragments" in options else b"")
inner = ip(inner_source, inner_target, 17, udp(inner_source, inner_target, 7777, int(port), content))
kind = 0x86DD if ":" in inner_source else 0x0800
vxlan = struct.pack("!II", 8 << 24, int(vni) << 8) + b"\2\0\0\0\2\2\2\0\0\0\1\1" + struct.pack("!H", kind) + inner
family = socket.AF_INET6 if ":" in target else socket.AF_INET


def outer():
    datagram = udp(source, target, 50000, 8472, vxlan)
    if "fragments" not in options:
        return [ip(source, target, 17, datagram)]
    return [ip(source, target, 17, datagram[:1400], 9, 0x2000), ip(source, target, 17, datagram[1400:], 9, 175)]


if how == "udp":
    s = socket.socket(family, socket.SOCK_DGRAM)
    if mark:
        s.setsockopt(socket.SOL_SOCKET, 36, mark)
    if source != "-":
        s.bind((source, 0))
    s.sendto(vxlan, (target, 8472))
elif how == "raw":
    s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    if mark:
        s.setsockopt(socket.SOL_SOCKET, 36, mark)
    for packet in outer():
        s.sendto(packet, (target, 0))
else:
    device, mac = how.split("/")[1:]
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((device, 0))
    if mark:
        s.setsockopt(socket.SOL_SOCKET, 36, mark)
    for packet in outer():
        try:
            s.send(bytes.fromhex(mac.replace(":", "")) + b"\2\0\0\0\2\2" + struct.pack("!H", 0x86DD if ":" in target else 0x0800) + packet)
        except OSError as error:
            # A packet socket hears that its packet was dropped.
            if error.errno != 105:
                raise
