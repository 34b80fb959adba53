import assert from "node:assert/strict";
import { Logger, systemClock } from "@weir/common";
import { GrpcError, type GrpcMethods, GrpcServer, unary } from "@weir/grpc";
import type { Init } from "@weir/proto";
import {
  GetFlowsRequest,
  GetFlowsResponse,
  ServerStatusRequest,
  ServerStatusResponse,
} from "@weir/proto/observer";
import { Node } from "@weir/proto/identity";
import { getFlows } from "./get_flows.ts";
import { NodeLinks } from "./node_links.ts";
import { relayMethods } from "./observer.ts";

type Answer = (request: GetFlowsRequest, signal: AbortSignal) => AsyncIterable<readonly Uint8Array[]>;

/** Nodes that answer as they are told, on sockets in a directory of their own, and a relay that follows them. */
class Cluster implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync();
  readonly links = new NodeLinks({
    targetOf: ({ name }) => ({ address: { path: `${this.directory}/${name}` } }),
    clock: systemClock,
    log: Logger.silent(),
  });
  readonly asked = new Map<string, GetFlowsRequest[]>();
  readonly #servers = new Map<string, GrpcServer>();

  async start(name: string, answer: Answer): Promise<void> {
    const methods: GrpcMethods = {
      "/observer.Observer/GetFlows": {
        open: (bytes, { signal }) => {
          const request = GetFlowsRequest.decode(bytes);
          this.asked.set(name, [...this.asked.get(name) ?? [], request]);
          return answer(request, signal);
        },
      },
      "/observer.Observer/ServerStatus": unary(
        ServerStatusRequest,
        ServerStatusResponse,
        () => ServerStatusResponse.create({ num_flows: 3, max_flows: 10, seen_flows: 100 }),
      ),
    };
    const server = new GrpcServer({ methods });
    await server.listen({ path: `${this.directory}/${name}` });
    this.#servers.set(name, server);
    this.links.set(name, Node.create({ name, cluster: "c" }));
  }

  async stop(name: string): Promise<void> {
    await this.#servers.get(name)!.stop(0);
  }

  ask(request: Init<GetFlowsRequest>, signal: AbortSignal = new AbortController().signal) {
    const parts = { links: this.links, nodeName: "relay-1", clock: systemClock };
    return getFlows(GetFlowsRequest.encode(request), parts, signal);
  }

  async all(request: Init<GetFlowsRequest>): Promise<string[]> {
    const out: string[] = [];
    for await (const batch of this.ask(request)) out.push(...batch.map(said));
    return out;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.links.close();
    for (const name of this.#servers.keys()) await this.stop(name);
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** A response in a few words. */
function said(bytes: Uint8Array): string {
  const { flow, node_status, node_name } = GetFlowsResponse.decode(bytes);
  if (node_status === undefined) return `${node_name} ${flow?.uuid}`;
  const { state_change, node_names, message } = node_status;
  assert.equal(node_name, "relay-1");
  return `${state_change} ${node_names.join()}${message === "" ? "" : ` (${message})`}`;
}

const flow = (node: string, uuid: string, unixMs: number) =>
  GetFlowsResponse.encode({
    flow: { uuid },
    node_name: `c/${node}`,
    time: { seconds: Math.floor(unixMs / 1000), nanos: Math.floor((unixMs % 1000) * 1e6) },
  });
const history = (node: string, ...times: number[]): Answer =>
  async function* () {
    yield await Promise.resolve(times.map((time) => flow(node, `${time}`, time)));
  };
const forever = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));

Deno.test("what is over is merged by time, and the request reaches each node as it came", async () => {
  await using cluster = new Cluster();
  await cluster.start("a", history("a", 1000, 3000.25, 5000));
  await cluster.start("b", history("b", 2000, 3000.5, 9000));
  const whitelist = [{ source_pod: ["shop/"] }];
  assert.deepEqual(await cluster.all({ number: 5, whitelist }), [
    "NODE_CONNECTED c/a,c/b",
    ...["c/a 1000", "c/b 2000", "c/a 3000.25", "c/b 3000.5", "c/a 5000", "c/b 9000"],
  ]);
  for (const name of ["a", "b"]) {
    const [{ number, whitelist: [filter] }] = cluster.asked.get(name)!;
    assert.deepEqual([number, filter.source_pod], [5, ["shop/"]]);
  }
});

Deno.test("nodes that are away, refuse, break or lie are named, and the others' flows come", async () => {
  await using cluster = new Cluster();
  await cluster.start("good", history("good", 1000));
  await cluster.start("liar", history("good", 2000));
  await cluster.start("broken", async function* () {
    yield await Promise.resolve([new Uint8Array([0x0a, 0x7f, 1])]);
  });
  await cluster.start("older", () => {
    throw new GrpcError("INVALID_ARGUMENT", "no such filter");
  });
  cluster.links.set("gone", Node.create({ name: "gone", cluster: "c" }));
  const out = await cluster.all({ number: 5 });
  assert.ok(out.includes("c/good 1000"), `${out}`);
  assert.ok(!out.some((one) => one.includes("2000")), "nobody speaks for another");
  for (
    const what of [
      /NODE_CONNECTED c\/broken,c\/good,c\/liar,c\/older/,
      /NODE_UNAVAILABLE c\/gone \(c\/gone: cannot connect/,
      /NODE_ERROR c\/liar \(c\/liar: it speaks for c\/good/,
      /NODE_ERROR c\/broken \(c\/broken: a field is cut off/,
      /NODE_ERROR c\/older \(c\/older: no such filter/,
    ]
  ) {
    assert.ok(out.some((one) => what.test(one)), `${what} is not in ${out.join("\n")}`);
  }
});

Deno.test("a request that every node refuses is refused", async () => {
  await using cluster = new Cluster();
  const refuse = () => {
    throw new GrpcError("INVALID_ARGUMENT", "no such filter");
  };
  await cluster.start("a", refuse);
  await cluster.start("b", refuse);
  await assert.rejects(cluster.all({}), { status: "INVALID_ARGUMENT", message: "no such filter" });
  await assert.rejects(cluster.all({ follow: true }), { status: "INVALID_ARGUMENT" });
});

Deno.test("a node that comes back while flows are followed is asked for what was missed, and no more", async () => {
  await using cluster = new Cluster();
  const stop = new AbortController(), out: string[] = [];
  const live = (node: string, time: number): Answer =>
    async function* (_, signal) {
      yield [flow(node, `${time}`, time)];
      await forever(signal);
    };
  await cluster.start("a", live("a", 1_795_000_000_000.25));
  await cluster.start("b", live("b", 1_795_000_000_001));
  const until = async (what: RegExp) => {
    for (let tries = 0; !out.some((one) => what.test(one)); tries++) {
      assert.ok(tries < 300, `${what} is not in\n${out.join("\n")}`);
      await systemClock.sleep(50);
    }
  };
  const reading = (async () => {
    for await (const batch of cluster.ask({ follow: true, number: 7 }, stop.signal)) {
      out.push(...batch.map(said));
    }
  })();
  await until(/c\/b 1795000000001$/);
  assert.ok(out.indexOf("c/a 1795000000000.25") < out.indexOf("c/b 1795000000001"), "in the order of time");
  await cluster.stop("a");
  await until(/NODE_UNAVAILABLE c\/a /);
  await cluster.start("a", live("a", 1_795_000_000_500));
  await until(/c\/a 1795000000500/);
  assert.ok(out.lastIndexOf("NODE_CONNECTED c/a") > out.findIndex((one) => /UNAVAILABLE c\/a/.test(one)));
  const [first, again] = cluster.asked.get("a")!;
  assert.deepEqual([first.number, first.since], [7, undefined]);
  assert.deepEqual([again.number, again.follow], [0, true]);
  assert.equal(again.since!.seconds, 1_795_000_000);
  const { nanos } = again.since!;
  assert.ok(nanos > 250_000 && nanos < 252_000, `${nanos}: after the newest that came`);
  cluster.links.set("b", undefined);
  await until(/NODE_GONE c\/b/);
  stop.abort();
  await reading;
});

Deno.test("a caller who reads nothing lets the nodes stand still", async () => {
  await using cluster = new Cluster();
  let made = 0;
  await cluster.start("a", async function* (_, signal) {
    for (; !signal.aborted; made++) {
      yield Array.from({ length: 64 }, (_, n) => flow("a", "x".repeat(900), made * 64 + n));
      await Promise.resolve();
    }
  });
  for (const follow of [false, true]) {
    const stop = new AbortController(), flows = cluster.ask({ follow, number: 1e9 }, stop.signal);
    await flows.next();
    const start = made;
    for (let last = -1; last !== made; await systemClock.sleep(200)) last = made;
    assert.ok(made - start < 1500, `${made - start} batches of 64 KB were made for nobody`);
    await flows.return(undefined);
  }
});

Deno.test("relayMethods() sum up what the nodes say", async () => {
  await using cluster = new Cluster();
  await cluster.start("a", history("a"));
  await cluster.start("b", history("b"));
  cluster.links.set("gone", Node.create({ name: "gone", cluster: "c" }));
  const methods = relayMethods({
    links: cluster.links,
    nodeName: "relay-1",
    clock: systemClock,
    isSynced: () => true,
  });
  const call = { signal: new AbortController().signal, header: () => undefined };
  for await (const [bytes] of methods["/observer.Observer/ServerStatus"].open(new Uint8Array(0), call)) {
    const status = ServerStatusResponse.decode(bytes);
    assert.deepEqual([status.num_flows, status.max_flows, status.seen_flows], [6, 20, 200]);
    assert.deepEqual([status.num_connected_nodes?.value, status.num_unavailable_nodes?.value], [2, 1]);
    assert.deepEqual(status.unavailable_nodes, ["c/gone"]);
  }
});
