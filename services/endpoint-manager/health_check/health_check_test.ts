import assert from "node:assert/strict";
import type { Init } from "@weir/proto";
import { Backend, ServicePort } from "@weir/proto/loadbalancer";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { until } from "@weir/common/testing/until";
import { emptyState, type ServiceState } from "../service_delta.ts";
import { TestNode } from "../testing.ts";
import { type HealthAnswer, healthAnswerOf, httpAnswer } from "./health_answer.ts";
import {
  HEALTH_CHECK_CONNECTIONS_MAX,
  HEALTH_CHECK_DEADLINE_MS,
  HealthCheckServer,
  listenEverywhere,
} from "./health_check_server.ts";

const place = { nodeName: "node-1", zone: "", labels: ["tier=edge"] };
function state(id: number, backends: Init<Backend>[], init: Init<ServicePort> = {}): ServiceState {
  const port = ServicePort.create({
    id,
    namespace: "shop",
    service: "web",
    healthCheckNodePort: 31_000,
    ...init,
  });
  return {
    ...emptyState(),
    port,
    given: {},
    backends: new Map(backends.map((one, i) => [`${i}`, Backend.create({ state: "ACTIVE", ...one })])),
  };
}

Deno.test("healthAnswerOf() counts the ready backends of this node once, whatever ports and families they have", () => {
  const here = { node: "node-1" };
  const cases: [string, ServiceState[], [number, boolean] | undefined][] = [
    ["nobody", [state(1, [])], [0, true]],
    ["elsewhere", [state(1, [{ address: "10.0.0.1", node: "node-2" }, { address: "192.0.2.1" }])], [0, true]],
    ["two ports", [1, 2].map((id) => state(id, [{ address: "10.0.0.1", ...here }])), [1, true]],
    [
      "two families",
      [state(1, ["10.0.0.1", "fd00::1", "fd00::2"].map((address) => ({ address, ...here })))],
      [2, true],
    ],
    ["ending", [state(1, [{ address: "10.0.0.1", ...here, state: "TERMINATING", serving: true }])], [
      0,
      true,
    ]],
    ["held back", [state(1, [{ address: "10.0.0.1", ...here, state: "MAINTENANCE" }])], [0, true]],
    ["not in the kernel", [{ ...state(1, [{ address: "10.0.0.1", ...here }]), given: undefined }], [
      1,
      false,
    ]],
    ["for other nodes", [state(1, [], { nodeSelector: ["tier=core"] })], undefined],
    ["for this node", [state(1, [], { nodeSelector: ["tier=edge"] })], [0, true]],
    ["gone", [emptyState()], undefined],
  ];
  for (const [name, states, expected] of cases) {
    const answer = healthAnswerOf(states, place);
    assert.deepEqual(answer && [answer.localEndpoints, answer.isServed], expected, name);
  }
});

Deno.test("httpAnswer() is 200 with local backends and 503 without, in kube-proxy's words", () => {
  const answer: HealthAnswer = { namespace: "shop", name: "web", localEndpoints: 2, isServed: true };
  const { status, headers, body } = httpAnswer(answer);
  assert.equal(status, 200);
  assert.ok(headers.includes("X-Load-Balancing-Endpoint-Weight: 2"));
  assert.deepEqual(JSON.parse(body), {
    service: { namespace: "shop", name: "web" },
    localEndpoints: 2,
    serviceProxyHealthy: true,
  });
  assert.equal(httpAnswer({ ...answer, localEndpoints: 0 }).status, 503);
  assert.equal(httpAnswer({ ...answer, isServed: false }).status, 503);
});

/** A server that is to answer on `ports`; each is made of a port of the machine that is free. */
class Bench implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly wanted = new Map<number, HealthAnswer>();
  readonly real = new Map<number, number>();
  readonly server = new HealthCheckServer({
    wanted: () => new Map(this.wanted),
    answer: (port) => this.wanted.get(port),
    listen: (port) => {
      const listener = listenEverywhere(this.real.get(port) ?? 0);
      this.real.set(port, (listener.addr as Deno.NetAddr).port);
      return listener;
    },
    clock: this.clock,
    onResult: () => {},
  });

  async want(port: number, localEndpoints: number): Promise<void> {
    this.wanted.set(port, { namespace: "shop", name: "web", localEndpoints, isServed: true });
    this.server.look();
    await this.server.idle();
  }
  async connect(port: number, hostname = "127.0.0.1"): Promise<Deno.Conn> {
    return await Deno.connect({ hostname, port: this.real.get(port)! });
  }
  async ask(port: number, text: string): Promise<string> {
    using connection = await this.connect(port);
    await connection.write(new TextEncoder().encode(text));
    return await readAll(connection);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop();
  }
}

async function readAll(connection: Deno.Conn): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(4096);
  for (;;) {
    const length = await connection.read(buffer).catch(() => null);
    if (length === null) return text;
    text += new TextDecoder().decode(buffer.subarray(0, length));
  }
}

Deno.test("HealthCheckServer answers what is so at that moment on both families, and no longer when the service goes", async () => {
  await using bench = new Bench();
  await bench.want(31_000, 1);
  const get = async (host: string) => {
    const response = await fetch(`http://${host}:${bench.real.get(31_000)}/anything`);
    return [
      response.status,
      response.headers.get("x-load-balancing-endpoint-weight"),
      (await response.json()).localEndpoints,
    ];
  };
  assert.deepEqual(await get("127.0.0.1"), [200, "1", 1]);
  assert.deepEqual(await get("[::1]"), [200, "1", 1]);
  bench.wanted.set(31_000, { ...bench.wanted.get(31_000)!, localEndpoints: 0 });
  assert.deepEqual(await get("127.0.0.1"), [503, "0", 0]);
  assert.match(await bench.ask(31_000, "HEAD / HTTP/1.0\r\n\r\n"), /^HTTP\/1\.1 503 [^{]*\r\n\r\n$/);
  bench.wanted.clear();
  bench.server.look();
  await until("nobody listens", () => bench.connect(31_000).then((one) => (one.close(), false), () => true));
  assert.equal(bench.server.status(31_000), undefined);
});

Deno.test("HealthCheckServer closes who is silent, says too much or comes in crowds, and answers the others", async () => {
  await using bench = new Bench();
  await bench.want(31_000, 1);
  assert.match(await bench.ask(31_000, "\x16\x03\x01\r\n\r\n"), /^HTTP\/1\.1 400 /);
  assert.match(
    await bench.ask(31_000, `GET / HTTP/1.1\r\nX: ${"x".repeat(10_000)}`),
    /^(HTTP\/1\.1 400 .*)?/s,
  );
  const silent: Deno.Conn[] = [];
  while (silent.length < HEALTH_CHECK_CONNECTIONS_MAX) silent.push(await bench.connect(31_000));
  const { refused } = bench.server.totals;
  await until("one too many is closed", async () => {
    using connection = await bench.connect(31_000);
    void connection.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")).catch(() => {});
    return await readAll(connection) === "";
  });
  assert.ok(bench.server.totals.refused > refused);
  await bench.clock.advance(HEALTH_CHECK_DEADLINE_MS);
  for (const connection of silent) {
    assert.equal(await readAll(connection), "");
    connection.close();
  }
  await until(
    "an answer",
    async () => (await bench.ask(31_000, "GET / HTTP/1.1\r\n\r\n")).startsWith("HTTP/1.1 200"),
  );
});

Deno.test("HealthCheckServer says of a port that another process has, and takes it when it is free", async () => {
  await using bench = new Bench();
  const other = Deno.listen({ hostname: "0.0.0.0", port: 0 });
  bench.real.set(31_000, other.addr.port);
  await bench.want(31_000, 1);
  const status = bench.server.status(31_000)!;
  assert.equal(status.listening, false);
  assert.match(
    status.error!.error,
    /health checks of shop\/web on port 31000: another process of this node has it/,
  );
  other.close();
  await bench.clock.advance(10_000);
  await bench.server.idle();
  assert.equal(bench.server.status(31_000)!.listening, true);
  assert.equal(bench.server.status(31_000)!.error, undefined);
});

Deno.test("EndpointManager listens for the services that it hears of, and follows what they become", async () => {
  await using node = new TestNode({ services: true });
  const listened = new Map<number, Deno.Listener<Deno.Conn>>();
  node.healthCheckListen = (port) => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    listened.set(port, listener);
    return listener;
  };
  await node.restart();
  const { portTable, backendTable } = node.neighbours;
  const put = (healthCheckNodePort: number) =>
    portTable.put(
      "7",
      ServicePort.create({
        id: 7,
        name: "7",
        namespace: "shop",
        service: "web",
        protocol: "TCP",
        frontends: [{ kind: "LOAD_BALANCER", address: "198.51.100.1", port: 80 }],
        externalTrafficPolicy: "LOCAL",
        healthCheckNodePort,
      }),
    );
  put(31_000);
  backendTable.put(
    "7/10.0.0.9/80",
    Backend.create({ service: 7, address: "10.0.0.9", port: 80, state: "ACTIVE", node: "node-1" }),
  );
  await node.settle();
  const shown = () => node.manager.services.get(7)?.status?.healthCheck;
  assert.deepEqual([shown()?.port, shown()?.listening, shown()?.localEndpoints], [31_000, true, 1]);
  put(31_001);
  await node.settle();
  assert.deepEqual([[...listened.keys()], shown()?.port], [[31_000, 31_001], 31_001]);
  portTable.delete("7");
  await node.settle();
  assert.equal(node.manager.healthChecks!.ports, 0);
});
