import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { nodeTest, rowsOf, run, type TestNode } from "./testing.ts";

const PAYLOAD = 3_000_000;

/** Takes what comes on TCP and UDP port 80 and, on TCP, says how much that was. */
const SERVER = `
import socket, threading
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::", 80))
def datagrams():
    while True:
        data, who = u.recvfrom(65536)
        if data.startswith(b"last"): u.sendto(b"thanks", who)
threading.Thread(target=datagrams, daemon=True).start()
s = socket.socket(socket.AF_INET6); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", 80)); s.listen(8)
while True:
    c, _ = s.accept()
    n = 0
    while part := c.recv(1 << 20): n += len(part)
    c.sendall(b"%d" % n); c.close()
`;
const TCP = `
import socket, sys
c = socket.create_connection((sys.argv[1], 80), source_address=(sys.argv[2], 0))
c.sendall(bytes(${PAYLOAD})); c.shutdown(socket.SHUT_WR)
assert c.recv(100) == b"${PAYLOAD}"
assert c.recv(100) == b""
`;
/** 40 datagrams of 1,000 bytes, then one that is answered, and again until it is. */
const UDP = `
import socket, sys
c = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
c.bind((sys.argv[2], 4002)); c.connect((sys.argv[1], 80)); c.settimeout(60)
for i in range(40): c.send(bytes(1000))
c.send(b"last"); assert c.recv(100) == b"thanks"
`;

interface Counted {
  packets: [number, number];
  bytes: [number, number];
}

/** What conntrack has counted of the connection to an address. */
async function counted(node: TestNode, protocol: string, to: string): Promise<Counted> {
  const rows = (await rowsOf(node, "ct")).filter((row) =>
    row.protocol === protocol && row.destination === to
  );
  assert.equal(rows.length, 1, `${protocol} ${to}: ${JSON.stringify(rows)}`);
  const pair = (text: string) => text.split("/").map(Number) as [number, number];
  return { packets: pair(rows[0].packets), bytes: pair(rows[0].bytes) };
}

/** Packets of TCP and their payload are what was sent: each has an IP header, and one of TCP with time stamps; a SYN has 8 bytes more. */
function isTransfer({ packets, bytes }: Counted, ipHeader: number, retransmitted: number): void {
  const header = ipHeader + 32;
  const payload = bytes[0] - packets[0] * header - 8;
  assert.ok(payload >= PAYLOAD, `${payload} bytes of payload in ${packets[0]} packets`);
  if (retransmitted === 0) assert.equal(payload, PAYLOAD);
  // (What the server says is 7 digits.)
  if (retransmitted === 0) assert.equal(bytes[1] - packets[1] * header - 8, `${PAYLOAD}`.length);
  assert.ok(
    packets[0] >= PAYLOAD / 1460,
    `${packets[0]} packets: segments are counted, not what the host makes of them`,
  );
}

/** Segments that were sent again by all of a namespace. */
async function retransmissions(netns: string): Promise<number> {
  const text = await run("ip", "netns", "exec", netns, "nstat", "-asz", "TcpRetransSegs");
  return Number(/TcpRetransSegs\s+(\d+)/.exec(text)![1]);
}

nodeTest("a record tells what a connection has carried, soon after its end", async (node) => {
  const a = await node.pod("a"), b = await node.pod("b");
  await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a));
  await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b));
  const server = new Deno.Command("ip", { args: ["netns", "exec", b, "python3", "-c", SERVER] }).spawn();
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path: node.socket } });
  try {
    await until(
      "the server listens",
      async () => /:80\b/.test(await run("ip", "netns", "exec", b, "ss", "-ltn")),
    );
    const request = { client, headers: { accept: "application/json" } } as RequestInit;
    const response = await fetch("http://localhost/v1/events?watch=true", request);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    await run("ip", "netns", "exec", a, "python3", "-c", TCP, "10.44.0.11", "10.44.0.10");
    const before = await counted(node, "TCP", "10.44.0.11");
    let told: bigint[] | undefined, text = "";
    while (told === undefined) {
      const { value, done } = await reader.read();
      assert.ok(!done, "the stream goes on");
      const lines = (text + value).split("\n");
      text = lines.pop()!;
      for (const line of lines.filter((line) => line !== "")) {
        const bytes = Uint8Array.fromBase64(JSON.parse(line).records ?? "");
        const view = new DataView(bytes.buffer);
        for (let at = 0; at < bytes.length; at += (4 + view.getUint32(at, true) + 7) & ~7) {
          const record = at + 4;
          // TRAFFIC, over, IPv4 (made headers), TCP
          if (bytes[record] !== 202 || bytes[record + 1] !== 1 || bytes[record + 64 + 9] !== 6) continue;
          assert.deepEqual([...bytes.subarray(record + 64 + 12, record + 64 + 20)], [
            10,
            44,
            0,
            10,
            10,
            44,
            0,
            11,
          ]);
          told = [0, 1, 2, 3].map((index) => view.getBigUint64(record + 64 + 96 + 8 * index, true));
        }
      }
    }
    await reader.cancel();
    const { packets, bytes } = before;
    assert.deepEqual(told.map(Number), [packets[0], bytes[0], packets[1], bytes[1]]);
  } finally {
    client.close();
    server.kill("SIGKILL");
    await server.status;
  }
});

nodeTest("conntrack counts each packet of a connection once, by direction, as on the wire", async (node) => {
  const a = await node.pod("a"), b = await node.pod("b");
  await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a));
  await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b));
  const server = new Deno.Command("ip", { args: ["netns", "exec", b, "python3", "-c", SERVER] }).spawn();
  const host = new Deno.Command("ip", { args: ["netns", "exec", node.netns, "python3", "-c", SERVER] })
    .spawn();
  try {
    for (const netns of [b, node.netns]) {
      await until(
        "a server listens",
        async () => /:80\b/.test(await run("ip", "netns", "exec", netns, "ss", "-ltn")),
      );
    }
    const cases = [
      { to: "10.44.0.11", from: "10.44.0.10", ip: 20, what: "pod to pod" },
      { to: "fd44::b", from: "fd44::a", ip: 40, what: "pod to pod, IPv6" },
      { to: "10.44.0.1", from: "10.44.0.10", ip: 20, what: "pod to host" },
    ];
    for (const { to, from, ip, what } of cases) {
      console.log(what);
      const before = await retransmissions(a);
      await run("ip", "netns", "exec", a, "python3", "-c", TCP, to, from);
      isTransfer(await counted(node, "TCP", to), ip, await retransmissions(a) - before);
      await run("ip", "netns", "exec", a, "python3", "-c", UDP, to, from);
      assert.deepEqual(await counted(node, "UDP", to), {
        packets: [41, 1],
        bytes: [40 * 1000 + 4 + 41 * (ip + 8), 6 + ip + 8],
      });
    }
    // Another process goes on with the same entries.
    const list = async () => {
      const rows = (await rowsOf(node, "ct")).filter(({ protocol }) => protocol === "UDP");
      return rows.map(({ destination, bytes }) => `${destination} ${bytes}`).sort();
    };
    const before = await list();
    await node.stop("SIGKILL");
    await node.start();
    assert.deepEqual(await list(), before);
  } finally {
    for (const child of [server, host]) {
      child.kill("SIGKILL");
      await child.status;
    }
  }
});
