/**
 * One proxy for the bench, in a process of its own: `proxy_process.ts MODE ORIGIN_PORT`, which prints its port. MODE is `splice` (bytes pass as they are), or
 * `http` (two regular expressions, records sent to a flow exporter that throws them away).
 * @module
 */
import { ApiServer, MetricsRegistry, systemClock } from "@weir/common";
import { WeirClient } from "@weir/client";
import { HandlePrefixes, Inflow, Proxy, RecordSender, RuleBook } from "@weir/l7-proxy";
import { splice } from "@weir/l7-proxy/splice";
import { Handle, L7RecordBatch, RuleSet } from "@weir/proto/l7";
import { MapStateEntry } from "@weir/proto/policy";
import { ProxyEndpoint, ProxyPolicy } from "@weir/proto/proxy";
import { HTTP_RULES } from "./rules.ts";

const [mode, origin] = Deno.args;
const connect = async () => {
  const socket = await Deno.connect({ hostname: "127.0.0.1", port: Number(origin) });
  socket.setNoDelay(true);
  return socket;
};

/** Rules for the ingress of one endpoint, as a policy has them. */
function rules(): RuleBook {
  const book = new RuleBook("");
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
      ruleSets: [
        RuleSet.create({
          id: 1,
          kind: "HTTP",
          http: [...HTTP_RULES],
        }),
      ],
    }),
  );
  book.putEndpoint("e", ProxyEndpoint.create({ id: 1, policy: "p" }));
  return book;
}

const exporter = new ApiServer({ name: "flow-exporter" });
exporter.action({
  path: "/v1/l7records:add",
  request: L7RecordBatch,
  response: L7RecordBatch,
  handle: () => L7RecordBatch.create({}),
});
const records = new RecordSender({
  exporter: new WeirClient({ handler: exporter.fetch }),
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
  if (mode === "http") void proxy.serve({ socket, address: "240.0.0.1" });
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
