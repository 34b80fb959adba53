"""Sends frames, given as hex, by a device: frames.py DEVICE [MARK] < lines. Frames that the device does not take are an error."""
import socket
import sys

s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
if len(sys.argv) > 2:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(sys.argv[2]))
s.bind((sys.argv[1], 0))
for line in sys.stdin:
    s.send(bytes.fromhex(line))
