/**
 * One process of the bench of DNS: `dns_process.ts MODE PORT|SOCKET [SOCKET]`, which says when it listens. MODE is `pass` (datagrams go on as they are), `judge` (a hundred names
 * and two patterns), `record` (the same, and records go to the flow exporter at SOCKET), or `exporter` (listens at SOCKET, and throws records away).
 * @module
 */
import { WeirClient } from "@weir/client";
import { ApiServer, MetricsRegistry, systemClock } from "@weir/common";
import { DnsDatagrams, DnsShared, HandlePrefixes, Proxy, RecordSender, RuleBook } from "@weir/l7-proxy";
import { Handle, L7RecordBatch, RuleSet } from "@weir/proto/l7";
import { DATAGRAM } from "@weir/proto/numbers";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";

const [mode, at, exporterPath] = Deno.args;
if (mode === "exporter") exporter();
else {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: Number(at) });
  console.log(at);
  if (mode === "pass") await pass(socket);
  else await datagrams().serve(socket);
}

/** A flow exporter that reads records and keeps none. */
function exporter(): void {
  const server = new ApiServer({ name: "flow-exporter" });
  server.action({
    path: "/v1/l7records:add",
    request: L7RecordBatch,
    response: L7RecordBatch,
    handle: () => L7RecordBatch.create({}),
  });
  Deno.serve({ path: at, onListen: () => console.log(at) }, server.fetch);
}

/** What the kernel and Deno take alone: each datagram goes to the other leg. */
async function pass(socket: Deno.DatagramConn): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const [bytes, from] = await socket.receive(buffer);
    const { hostname, port } = from as Deno.NetAddr;
    const to = port === DATAGRAM.CLIENT_PORT ? DATAGRAM.SERVER_PORT : DATAGRAM.CLIENT_PORT;
    void socket.send(bytes.slice(), { transport: "udp", hostname, port: to });
  }
}

function datagrams(): DnsDatagrams {
  const metrics = new MetricsRegistry(), book = new RuleBook("");
  const records = new RecordSender({
    exporter: mode === "record" ? new WeirClient({ socket: exporterPath }) : undefined,
    metrics,
    clock: systemClock,
  });
  records.start();
  book.putPolicy(
    "p",
    ProxyPolicy.create({
      enforceEgress: true,
      entries: [
        MapStateEntry.create({
          direction: "EGRESS",
          protocol: 17,
          port: 53,
          portPrefixLength: 16,
          ruleSet: 1,
          precedence: 1,
        }),
      ],
      ruleSets: [
        RuleSet.create({
          id: 1,
          kind: "DNS",
          dns: [
            ...Array.from({ length: 100 }, (_, at) => ({ matchName: `name-${at}.example.org` })),
            { matchPattern: "*.cluster.local" },
            { matchPattern: "*.example.com" },
          ],
        }),
      ],
    }),
  );
  book.putEndpoint("e", ProxyEndpoint.create({ id: 1, policy: "p" }));
  const handle = (number: number) =>
    Promise.resolve(Handle.create({
      number,
      protocol: 17,
      serverPort: 53,
      clientAddress: "10.0.0.1",
      serverAddress: "10.0.0.2",
      egress: { endpoint: 1 },
    }));
  const shared = new DnsShared({ clock: systemClock, metrics });
  const prefixes = new HandlePrefixes(["127.0.0.0/8"]);
  const proxy = new Proxy({
    prefixes,
    book,
    records,
    dns: shared,
    handleOf: handle,
    connect: () => Promise.reject(new Error("none")),
    metrics,
    clock: systemClock,
  });
  return new DnsDatagrams({ prefixes, shared, handleOf: handle, flowOf: (one) => proxy.flow(one) });
}
