"""Both ends of every connection between pods, in one process: sockets keep the network namespace in which they were made.

Reads one JSON object a line and answers with one. First the pods and their ports; then rounds of probes, each of which is one
connection of TCP or one datagram that is answered. What is to pass is tried again until it does, or its time is over; what is not
to pass is tried once, and listened for as long as the round takes and longer: a datagram that comes late names its round.

  {"pods": [{"netns": PATH, "4": ADDRESS, "6": ADDRESS}], "ports": [["TCP", 80]]}      -> {"listening": N}
  {"round": N, "probes": [[FROM, TO, FAMILY, PROTOCOL, PORT, PASSES]], "patience": S}
      -> {"wrong": [[INDEX, WHAT]], "again": N, "late": [[ROUND, INDEX]], "seconds": S}
"""
import ctypes
import errno
import json
import os
import resource
import select
import socket
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
LISTEN_ON = {4: "0.0.0.0", 6: "::"}
# After the last of a round was sent, so long is listened for what must not arrive.
GRACE_S = 0.06
# What did not pass by then is tried again, then half as often each time.
AGAIN_S = 0.25
RESET = struct.pack("ii", 1, 0)

libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
home = os.open("/proc/self/ns/net", os.O_RDONLY)
poll = select.epoll()
# What to do when a socket can be read or written, by its descriptor.
handlers = {}


def enter(fd):
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def watch(sock, events, handler):
    sock.setblocking(False)
    handlers[sock.fileno()] = handler
    poll.register(sock.fileno(), events)


def close(sock):
    fd = sock.fileno()
    if fd >= 0:
        poll.unregister(fd)
        del handlers[fd]
        sock.close()


def abort(sock):
    """Closes a connection without a state that waits."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    close(sock)


class Prober:
    def __init__(self, pods, ports):
        self.pods = pods
        self.namespaces = [os.open(pod["netns"], os.O_RDONLY) for pod in pods]
        self.round, self.late, self.old = 0, [], []
        # Probe by what the server sees of it: port, address and port of the client.
        self.by_client, self.state, self.sockets = {}, {}, {}
        self.listening = 0
        for number, fd in enumerate(self.namespaces):
            enter(fd)
            for family in FAMILIES:
                for protocol, port in ports:
                    self.listen(number, family, protocol, port)
        enter(home)

    def listen(self, pod, family, protocol, port):
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        sock = socket.socket(FAMILIES[family], kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((LISTEN_ON[family], port))
        if protocol == "TCP":
            sock.listen(512)
            watch(sock, select.EPOLLIN, lambda: self.accept(sock, pod, port))
        else:
            watch(sock, select.EPOLLIN, lambda: self.answer(sock, pod, port))
        self.listening += 1

    def accept(self, sock, pod, port):
        while True:
            try:
                connection, client = sock.accept()
            except BlockingIOError:
                return
            except OSError:
                continue
            self.arrived(self.by_client.get((pod, port, client[0], client[1])))
            connection.close()

    def answer(self, sock, pod, port):
        while True:
            try:
                said, client = sock.recvfrom(64)
            except OSError:
                return
            self.datagram(said, self.arrived)
            try:
                sock.sendto(said, client)
            except OSError:
                pass

    def datagram(self, said, tell):
        round_, index = struct.unpack("!II", said)
        if round_ == self.round:
            tell(index)
        else:
            self.late.append([round_, index])

    def arrived(self, index):
        if index is not None and self.state[index] == "silent":
            self.state[index] = "arrived"

    def passed(self, index):
        self.state[index] = "passed"

    def client(self, pod, family):
        """The socket of a round from which a pod's datagrams of a family go."""
        if (pod, family) not in self.sockets:
            sock = self.new(pod, family, socket.SOCK_DGRAM)
            self.sockets[pod, family] = sock

            def read():
                while True:
                    try:
                        self.datagram(sock.recv(64), self.passed)
                    except OSError:
                        return

            watch(sock, select.EPOLLIN, read)
        return self.sockets[pod, family]

    def new(self, pod, family, kind):
        enter(self.namespaces[pod])
        sock = socket.socket(FAMILIES[family], kind)
        enter(home)
        return sock

    def send(self, index, probe):
        source, target, family, protocol, port, _ = probe
        address = self.pods[target][str(family)]
        try:
            if protocol == "UDP":
                self.client(source, family).sendto(struct.pack("!II", self.round, index), (address, port))
                return
            sock = self.new(source, family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.bind((self.pods[source][str(family)], 0))
            self.by_client[target, port, *sock.getsockname()[:2]] = index
            result = sock.connect_ex((address, port))
            if result not in (0, errno.EINPROGRESS):
                raise OSError(result, "connect")

            def connected():
                failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failure == 0:
                    self.passed(index)
                elif self.state[index] == "silent":
                    self.state[index] = errno.errorcode[failure]
                abort(sock)

            watch(sock, select.EPOLLOUT, connected)
            self.connections.append(sock)
        except OSError as error:
            self.state[index] = errno.errorcode.get(error.errno, str(error))

    def turn(self, wait):
        for fd, _ in poll.poll(wait):
            if fd in handlers:
                handlers[fd]()

    def run(self, number, probes, patience):
        start = time.monotonic()
        self.round, self.connections = number, []
        self.by_client.clear()
        self.state = {index: "silent" for index in range(len(probes))}
        for index, probe in enumerate(probes):
            self.send(index, probe)
            if index % 64 == 0:
                self.turn(0)
        sent, again, after = time.monotonic(), 0, AGAIN_S
        while True:
            self.turn(0.01)
            now = time.monotonic()
            missing = [i for i, probe in enumerate(probes) if probe[5] and self.state[i] != "passed"]
            if not missing and now - sent > GRACE_S:
                break
            if now - start > patience:
                break
            if missing and now - sent > after:
                for index in missing:
                    self.state[index] = "silent"
                    self.send(index, probes[index])
                again += len(missing)
                sent, after = time.monotonic(), after * 2
        wrong = [[i, self.state[i]] for i, probe in enumerate(probes)
                 if (self.state[i] == "passed") != probe[5] or (not probe[5] and self.state[i] != "silent")]
        for sock in self.connections:
            if sock.fileno() >= 0:
                abort(sock)
        # Sockets of datagrams stay for one more round: what comes late is heard.
        for sock in self.old:
            close(sock)
        self.old, self.sockets = list(self.sockets.values()), {}
        late, self.late = self.late, []
        return {"wrong": wrong, "again": again, "late": late, "seconds": time.monotonic() - start}


prober = None
for line in sys.stdin:
    asked = json.loads(line)
    if prober is None:
        prober = Prober(asked["pods"], asked["ports"])
        print(json.dumps({"listening": prober.listening}), flush=True)
    else:
        print(json.dumps(prober.run(asked["round"], asked["probes"], asked["patience"])), flush=True)
