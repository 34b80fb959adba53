/**
 * One proxy of datagrams for the bench, in a process of its own: `dns_process.ts MODE PORT`, which says when it listens. MODE is `pass` (datagrams go on as they are), or
 * `dns` (a hundred names and two patterns, records sent to a flow exporter that throws them away).
 * @module
 */
import { WeirClient } from "@weir/client";
import { ApiServer, MetricsRegistry, systemClock } from "@weir/common";
import { DnsDatagrams, DnsShared, HandlePrefixes, Proxy, RecordSender, RuleBook } from "@weir/l7-proxy";
import { Handle, L7RecordBatch, RuleSet } from "@weir/proto/l7";
import { DATAGRAM } from "@weir/proto/numbers";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";

const [mode, port] = Deno.args;
const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: Number(port) });
console.log(port);
if (mode === "dns") await datagrams().serve(socket);
else await pass();

/** What the kernel and Deno take alone: each datagram goes to the other leg. */
async function pass(): Promise<void> {
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
  const exporter = new ApiServer({ name: "flow-exporter" });
  exporter.action({
    path: "/v1/l7records:add",
    request: L7RecordBatch,
    response: L7RecordBatch,
    handle: () => L7RecordBatch.create({}),
  });
  const records = new RecordSender({
    exporter: new WeirClient({ handler: exporter.fetch }),
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
