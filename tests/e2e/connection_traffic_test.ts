/**
 * Packets and bytes of connections, as `weir observe connections` shows them: those that were sent.
 * @module
 */
import assert from "node:assert/strict";
import { at, client, program, service } from "./service.ts";
import { pod } from "../faults/faulty_lab.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`ctt${Deno.pid}`);
const server = (name: string, node: number) =>
  pod(name, node, `python3, "${program("server.py")}", "80/TCP", "53/UDP"`);
const manifests = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  client("client", 1),
  server("near-1", 1),
  server("far-1", 2),
  service("all", "clusterIP: 10.96.0.1, selector: { app: far }, ports: [{ port: 80 }]").replaceAll(
    "shop",
    "default",
  ),
].join("---\n");

if (canRun) {
  Deno.test.beforeAll(() => lab.up(2, manifests));
  Deno.test.afterAll(() => lab.down());
}

interface Connection {
  sourcePort: number;
  trafficKnown?: boolean;
  packets: string;
  bytes: string;
  replyPackets: string;
  replyBytes: string;
  nodes: string[];
}

async function send(address: string, port: number, how: "tcp" | "udp", times: number, size: number) {
  const words = ["python3", program("echoed.py"), address, `${port}`, how, `${times}`, `${size}`];
  const ran = await at(lab, { pod: "shop/client" }, words);
  assert.equal(ran.code, 0, `${words.join(" ")}: ${ran.out}${ran.err}`);
  return JSON.parse(ran.out) as { port: number; sent: number; received: number };
}

async function connection(
  protocol: string,
  sourcePort: number,
): Promise<Record<"packets" | "bytes" | "replyPackets" | "replyBytes", number>> {
  const words = [
    "observe",
    "connections",
    "--protocol",
    protocol,
    "--from-pod",
    "shop/client",
    "-o",
    "json",
    "--limit",
    "1000",
  ];
  const { connections }: { connections: Connection[] } = JSON.parse(await lab.ok(words));
  const found = connections.filter((one) => one.sourcePort === sourcePort);
  assert.equal(found.length, 1, JSON.stringify(connections));
  const { trafficKnown, packets, bytes, replyPackets, replyBytes } = found[0];
  assert.ok(trafficKnown, JSON.stringify(found[0]));
  return {
    packets: Number(packets),
    bytes: Number(bytes),
    replyPackets: Number(replyPackets),
    replyBytes: Number(replyBytes),
  };
}

Deno.test({
  name:
    "weir observe connections has the packets and bytes that were sent, on one node, on two, and through a service",
  ignore: !canRun,
  async fn() {
    const endpoints: { name: string; status: { ipv4: string } }[] = JSON.parse(
      await lab.ok(["endpoint", "list", "-o", "json"]),
    );
    const ip = (name: string) => endpoints.find((one) => one.name.includes(name))!.status.ipv4;
    for (
      const [what, address] of [["one node", ip("near-1")], ["two nodes", ip("far-1")], [
        "a service",
        "10.96.0.1",
      ]]
    ) {
      const { port, sent } = await send(address, 80, "tcp", 200, 4000);
      const tcp = await connection("TCP", port);
      // Each packet has 52 bytes of headers, with time stamps; a SYN has 8 more. What was sent again was sent twice.
      const there = tcp.bytes - 52 * tcp.packets - 8, back = tcp.replyBytes - 52 * tcp.replyPackets - 8;
      console.log(what, JSON.stringify({ sent, there, back, ...tcp }));
      assert.ok(there >= sent && there < 1.2 * sent, `${what}: ${there} bytes of payload, ${sent} were sent`);
      assert.ok(
        back >= sent && back < 1.2 * sent,
        `${what}: ${back} bytes of payload came back, ${sent} were sent`,
      );
      if (what === "a service") continue;
      const udp = await send(address, 53, "udp", 60, 1000);
      const counted = await connection("UDP", udp.port);
      assert.deepEqual([counted.packets, counted.bytes], [udp.sent / 1000, udp.sent / 1000 * 1028], what);
      assert.ok(
        counted.replyBytes >= udp.received / 1000 * 1028 && counted.replyBytes <= counted.bytes,
        what,
      );
    }
    const table = await lab.ok(["observe", "connections", "--from-pod", "shop/client"]);
    assert.match(table, /PACKETS +BYTES/);
    assert.match(table, /8\d\d\.\d kB/);
  },
});
