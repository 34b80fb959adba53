/**
 * One proxy for the bench, in a process of its own: `proxy_process.ts MODE ORIGIN_PORT`, which prints its port. MODE is `splice` (bytes pass as they are), or
 * what its rules are about: `http` (two regular expressions), `cassandra`, `kafka`. Records are sent to a flow exporter that throws them away.
 * @module
 */
import { MetricsRegistry, systemClock } from "@weir/common";
import { WeirClient } from "@weir/client";
import { KAFKA_ROLES } from "@weir/l7-rules";
import { HandlePrefixes, Inflow, Proxy, RecordSender, RuleBook } from "@weir/l7-proxy";
import { splice } from "@weir/l7-proxy/splice";
import type { Init } from "@weir/proto";
import { Handle, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { HTTP_RULES } from "./rules.ts";

const [mode, origin] = Deno.args;
const connect = async () => {
  const socket = await Deno.connect({ hostname: "127.0.0.1", port: Number(origin) });
  socket.setNoDelay(true);
  return socket;
};

const RULE_SETS: Readonly<Record<string, Init<RuleSet>>> = {
  http: { kind: "HTTP", http: [...HTTP_RULES] },
  // Drivers read the system's tables first, so that their rule stands first.
  cassandra: {
    kind: "CASSANDRA",
    cassandra: [
      { queryAction: "select", queryTable: "^system(_schema)?\\." },
      { queryAction: "select", queryTable: "^shop\\.cart$" },
      { queryAction: "insert", queryTable: "^shop\\.cart$" },
    ],
  },
  kafka: {
    kind: "KAFKA",
    kafka: ["produce", "consume"].map((role) => ({ apiKeys: [...KAFKA_ROLES[role]], topic: "orders" })),
  },
};

/** Rules for the ingress of one endpoint, as a policy has them. */
function rules(): RuleBook {
  const book = new RuleBook("");
  if (mode === "splice") return book;
  book.putPolicy(
    "p",
    ProxyPolicy.create({
      enforceIngress: true,
      entries: [
        MapStateEntry.create({
          direction: "INGRESS",
          protocol: 6,
          port: 80,
          portPrefixLength: 16,
          ruleSet: 1,
          precedence: 1,
        }),
      ],
      ruleSets: [RuleSet.create({ id: 1, ...RULE_SETS[mode] })],
    }),
  );
  book.putEndpoint("e", ProxyEndpoint.create({ id: 1, policy: "p" }));
  return book;
}

/** Another process in truth: what it does with the records is none of the proxy's time. */
const exporter = async (request: Request) => {
  await request.bytes();
  return new Response();
};
const records = new RecordSender({
  exporter: new WeirClient({ handler: exporter }),
  metrics: new MetricsRegistry(),
  clock: systemClock,
});
records.start();
const handle = Handle.create({
  number: 1,
  protocol: 6,
  serverPort: 80,
  clientAddress: "10.0.0.1",
  serverAddress: "10.0.0.2",
  ingress: { endpoint: 1 },
});
const proxy = new Proxy({
  prefixes: new HandlePrefixes(["240.0.0.0/8"]),
  book: rules(),
  records,
  handleOf: () => Promise.resolve(handle),
  connect,
  metrics: new MetricsRegistry(),
  clock: systemClock,
});

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
for await (const socket of listener) {
  socket.setNoDelay(true);
  if (mode !== "splice") void proxy.serve({ socket, address: "240.0.0.1" });
  else void pass(socket);
}

async function pass(client: Deno.TcpConn): Promise<void> {
  const server = await connect();
  await Promise.allSettled([
    splice(new Inflow(client), server, () => {}),
    splice(new Inflow(server), client, () => {}),
  ]);
  client.close();
  server.close();
}
