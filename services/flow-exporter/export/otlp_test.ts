import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { Health, Logger, MetricsRegistry, systemClock } from "@weir/common";
import type { Init } from "@weir/proto";
import { Flow } from "@weir/proto/flow";
import { metricsRequests } from "./otlp_json.ts";
import { OtlpLogs, type OtlpLogsParts } from "./otlp_logs.ts";
import { sendMetrics } from "./otlp_metrics.ts";
import { readOtlp } from "./otlp_options.ts";
import { sendOtlp } from "./otlp_sender.ts";
import { readPrometheusText } from "./prometheus_text.ts";

const TIME = { seconds: 1_796_000_000, nanos: 5 };
const flow = (init: Init<Flow> = {}) =>
  Flow.create({ verdict: "FORWARDED", node_name: "c/n", time: TIME, uuid: "u", ...init });

interface Received {
  readonly path: string;
  readonly headers: Headers;
  // deno-lint-ignore no-explicit-any
  readonly body: any;
}
async function bodyOf(request: Request): Promise<Received["body"]> {
  const isPacked = request.headers.get("content-encoding") === "gzip";
  const body = isPacked ? request.body!.pipeThrough(new DecompressionStream("gzip")) : request.body;
  return await new Response(body).json();
}

/** The flows' ids in a request. */
const uuids = ({ body }: Received): string[] =>
  body.resourceLogs[0].scopeLogs[0].logRecords.map((record: { body: { stringValue: string } }) =>
    JSON.parse(record.body.stringValue).uuid
  );

/** An endpoint that answers as it is told, one after the other; then 200. */
async function withEndpoint(
  answers: ((request: Received) => Response | Promise<Response>)[],
  test: (endpoint: string, received: Received[], taken: Received[]) => Promise<void>,
): Promise<void> {
  const received: Received[] = [], taken: Received[] = [], stop = new AbortController();
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, signal: stop.signal, onListen() {} },
    async (request) => {
      const one = {
        path: new URL(request.url).pathname,
        headers: request.headers,
        body: await bodyOf(request),
      };
      received.push(one);
      const response = await (answers.shift() ?? (() => Response.json({})))(one);
      if (response.ok) taken.push(one);
      return response;
    },
  );
  try {
    await test(`http://127.0.0.1:${(server.addr as Deno.NetAddr).port}`, received, taken);
  } finally {
    stop.abort();
    await server.finished.catch(() => {});
  }
}

function logsTo(endpoint: string, more: Partial<OtlpLogsParts> = {}) {
  const metrics = new MetricsRegistry(), health = new Health();
  const logs = new OtlpLogs({
    ...{ metrics, health, log: Logger.silent(), clock: systemClock, nodeName: "c/n", passes: () => true },
    target: { endpoint, headers: { authorization: "Bearer x" }, compression: "gzip" },
    retryMsMin: 1,
    ...more,
  });
  const said = () => health.list().find(({ name }) => name === "export otlp")?.message ?? "";
  const count = (what: string) =>
    Number(new RegExp(`^weir_flow_export_${what} (\\d+)$`, "m").exec(metrics.render())?.[1] ?? 0);
  return { logs, said, count, metrics };
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    ok(tries < 3000, "it has not come to hold");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test("OtlpLogs sends flows as log records, with the headers that it was given", async () => {
  await withEndpoint([], async (endpoint, received) => {
    const { logs, count } = logsTo(endpoint);
    const TCP = { source_port: 4000, destination_port: 80 };
    logs.offer(flow({
      verdict: "DROPPED",
      drop_reason_desc: "POLICY_DENIED",
      IP: { source: "10.0.0.1", destination: "10.0.0.2", ipVersion: "IPv4" },
      l4: { TCP },
      source: { namespace: "shop", pod_name: "cart", identity: 4000 },
      trace_context: { parent: { trace_id: "0af7651916cd43dd8448eb211c80319c" } },
    }));
    logs.lost(3);
    await until(() => count('flows_total\\{export="otlp"\\}') === 2);
    await logs.stop();
    const [{ path, headers, body }] = received;
    equal(path, "/v1/logs");
    equal(headers.get("authorization"), "Bearer x");
    equal(headers.get("content-type"), "application/json");
    const records = received.flatMap((one) => one.body.resourceLogs[0].scopeLogs[0].logRecords);
    equal(body.resourceLogs[0].resource.attributes[0].value.stringValue, "weir-flow-exporter");
    const [record, lost] = records;
    equal(record.timeUnixNano, "1796000000000000005");
    deepEqual([record.severityText, record.severityNumber], ["WARN", 13]);
    equal(record.traceId, "0af7651916cd43dd8448eb211c80319c");
    equal(JSON.parse(record.body.stringValue).IP.source, "10.0.0.1");
    const attributes = Object.fromEntries(
      record.attributes.map((one: { key: string; value: object }) => [one.key, Object.values(one.value)[0]]),
    );
    deepEqual(attributes, {
      "hubble.verdict": "DROPPED",
      "hubble.drop_reason": "POLICY_DENIED",
      "network.transport": "tcp",
      "network.type": "ipv4",
      "source.address": "10.0.0.1",
      "source.port": "4000",
      "destination.address": "10.0.0.2",
      "destination.port": "80",
      "hubble.source.namespace": "shop",
      "hubble.source.pod_name": "cart",
      "hubble.source.identity": "4000",
    });
    equal(lost.eventName, "hubble.lost_events");
    equal(count('lost_total\\{export="otlp",why="ring"\\}'), 3);
  });
});

Deno.test("OtlpLogs tries again what may be tried again, each flow once and in order", async () => {
  const later = (status: number) => () => new Response("busy", { status });
  await withEndpoint(
    [later(503), later(429), later(502), later(504)],
    async (endpoint, received, taken) => {
      const { logs, said, count } = logsTo(endpoint);
      for (let n = 0; n < 1500; n++) logs.offer(flow({ uuid: `${n}` }));
      await until(() => count('flows_total\\{export="otlp"\\}') === 1500);
      deepEqual(taken.flatMap(uuids), Array.from({ length: 1500 }, (_, n) => `${n}`));
      ok(received.every((one) => uuids(one).length <= 512));
      equal(count('errors_total\\{export="otlp"\\}'), 4);
      equal(said(), `sends flows to ${endpoint}`);
      await logs.stop();
    },
  );
});

Deno.test("OtlpLogs drops what is refused, says so and goes on", async () => {
  await withEndpoint(
    [
      () => new Response("broken", { status: 500 }),
      () => Response.json({ partialSuccess: { rejectedLogRecords: "2", errorMessage: "too old" } }),
      () => new Response(null, { status: 307, headers: { location: "http://127.0.0.1:1/" } }),
    ],
    async (endpoint, received) => {
      const { logs, said, count } = logsTo(endpoint);
      for (const uuid of ["a", "b", "c"]) logs.offer(flow({ uuid }));
      await until(() => /answered 500: broken/.test(said()));
      equal(count('lost_total\\{export="otlp",why="refused"\\}'), 3);
      for (const uuid of ["d", "e", "f"]) logs.offer(flow({ uuid }));
      await until(() => /refused 2 of 3 flows: too old/.test(said()));
      logs.offer(flow({ uuid: "g" }));
      await until(() => /answered 307/.test(said()));
      logs.offer(flow({ uuid: "h" }));
      await until(() => said() === `sends flows to ${endpoint}`);
      equal(count('lost_total\\{export="otlp",why="refused"\\}'), 6);
      equal(count('flows_total\\{export="otlp"\\}'), 2);
      equal(received.length, 4);
      await logs.stop();
    },
  );
});

Deno.test("OtlpLogs makes smaller requests of what is too large, and drops only a flow that is too large alone", async () => {
  const tooLarge = (one: Received) =>
    uuids(one).length > 3 || uuids(one).includes("5") && uuids(one).length > 0
      ? new Response("", { status: 413 })
      : Response.json({});
  await withEndpoint(Array(200).fill(tooLarge), async (endpoint, _received, taken) => {
    const { logs, count } = logsTo(endpoint);
    for (let n = 0; n < 20; n++) logs.offer(flow({ uuid: `${n}` }));
    await until(() => count('lost_total\\{export="otlp",why="refused"\\}') === 1);
    await until(() => count('flows_total\\{export="otlp"\\}') === 19);
    deepEqual(taken.flatMap(uuids), Array.from({ length: 20 }, (_, n) => `${n}`).filter((n) => n !== "5"));
    await logs.stop();
  });
});

Deno.test("OtlpLogs holds so much and no more for an endpoint that refuses connections, and goes on when it is there", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = listener.addr as Deno.NetAddr;
  listener.close();
  const { logs, said, count } = logsTo(`http://127.0.0.1:${port}`, { queueCharsMax: 20_000 });
  for (let n = 0; n < 1000; n++) logs.offer(flow({ uuid: `${n}` }));
  ok(logs.queued < 22_000, `${logs.queued}`);
  const lost = count('lost_total\\{export="otlp",why="queue full"\\}');
  ok(lost > 800 && lost < 1000, `${lost}`);
  await until(() => /Connection refused.*flows wait/i.test(said()));
  const taken: string[] = [], stop = new AbortController();
  const server = Deno.serve(
    { hostname: "127.0.0.1", port, signal: stop.signal, onListen() {} },
    async (request) => {
      taken.push(...uuids({ path: "", headers: request.headers, body: await bodyOf(request) }));
      return Response.json({});
    },
  );
  await until(() => taken.length === 1000 - lost);
  await logs.stop();
  stop.abort();
  await server.finished;
});

Deno.test("OtlpLogs gives up a request that hangs or drips, and ends all the same", async () => {
  const hang = () => new Promise<Response>(() => {});
  const drip = () => new Response(new ReadableStream({ pull: () => new Promise(() => {}) }));
  await withEndpoint([hang, drip], async (endpoint, _received, taken) => {
    const { logs, said, count } = logsTo(endpoint, { deadlineMs: 300 });
    logs.offer(flow({ uuid: "a" }));
    await until(() => /no answer within 0.3 s/.test(said()));
    await until(() => count('flows_total\\{export="otlp"\\}') === 1);
    equal(count('errors_total\\{export="otlp"\\}'), 2);
    deepEqual(uuids(taken.at(-1)!), ["a"]);
    await logs.stop();
  });
  await withEndpoint([hang], async (endpoint, received) => {
    const { logs, count } = logsTo(endpoint);
    logs.offer(flow());
    await until(() => received.length === 1);
    await logs.stop();
    equal(count('lost_total\\{export="otlp",why="stopped"\\}'), 1);
  });
});

Deno.test("sendOtlp() reads Retry-After as seconds and as a date, and waits for none longer than five minutes", async () => {
  const date = new Date(Date.now() + 60_000).toUTCString();
  const answer = (after: string) => () =>
    new Response("", { status: 429, headers: { "retry-after": after } });
  await withEndpoint(
    ["7", date, "99999999", "-3", "soon"].map(answer),
    async (endpoint) => {
      const found: (number | undefined)[] = [];
      for (let n = 0; n < 5; n++) {
        const outcome = await sendOtlp({ endpoint, headers: {}, compression: "none" }, "logs", "{}", {
          clock: systemClock,
        });
        equal(outcome.kind, "later");
        found.push(outcome.kind === "later" ? outcome.afterMs : undefined);
      }
      equal(found[0], 7000);
      ok(found[1]! > 0 && found[1]! <= 60_000, `${found[1]}`);
      equal(found[2], 300_000);
      deepEqual(found.slice(4), [undefined]);
    },
  );
});

const TEXT = `# HELP hubble_drop_total Number of drops
# TYPE hubble_drop_total counter
hubble_drop_total{reason="POLICY_DENIED",odd="a\\"b\\\\c\\nd,e=\\"}"} 3
hubble_drop_total{reason="X"} 1
# TYPE weir_up gauge
weir_up 1
weir_bad NaN
# TYPE t_seconds histogram
t_seconds_bucket{m="GET",le="0.1"} 2
t_seconds_bucket{m="GET",le="1"} 5
t_seconds_bucket{m="GET",le="+Inf"} 6
t_seconds_sum{m="GET"} 9.5
t_seconds_count{m="GET"} 6
# TYPE some_count gauge
some_count 4
`;

Deno.test("readPrometheusText() and metricsRequests() carry every kind of metric", () => {
  const requests = metricsRequests({}, readPrometheusText(TEXT), {
    startMs: 1000,
    nowMs: 2000,
    pointsMax: 100,
  });
  equal(requests.length, 1);
  const { metrics } = JSON.parse(requests[0]).resourceMetrics[0].scopeMetrics[0];
  deepEqual(metrics.map(({ name }: { name: string }) => name), [
    "hubble_drop_total",
    "weir_up",
    "t_seconds",
    "some_count",
  ]);
  const [drops, up, histogram] = metrics;
  equal(drops.description, "Number of drops");
  deepEqual([drops.sum.isMonotonic, drops.sum.aggregationTemporality], [true, 2]);
  deepEqual(drops.sum.dataPoints[0], {
    attributes: [
      { key: "reason", value: { stringValue: "POLICY_DENIED" } },
      { key: "odd", value: { stringValue: 'a"b\\c\nd,e="}' } },
    ],
    startTimeUnixNano: "1000000000",
    timeUnixNano: "2000000000",
    asDouble: 3,
  });
  equal(up.gauge.dataPoints[0].asDouble, 1);
  const [point] = histogram.histogram.dataPoints;
  deepEqual(
    [point.count, point.sum, point.bucketCounts, point.explicitBounds],
    ["6", 9.5, ["2", "3", "1"], [0.1, 1]],
  );
  // In parts, with no point lost.
  const parts = metricsRequests({}, readPrometheusText(TEXT), {
    startMs: undefined,
    nowMs: 2000,
    pointsMax: 2,
  });
  equal(parts.length, 3);
});

Deno.test("sendMetrics() sends what Prometheus would read of every service, and again when it could not", async () => {
  const busy = () => new Response("", { status: 503 });
  await withEndpoint([busy], async (endpoint, received, taken) => {
    const metrics = new MetricsRegistry(), health = new Health(), stop = new AbortController();
    metrics.counter("hubble_x_total", "X").increment({ a: "b" });
    const datapath = { exchange: () => Promise.resolve({ bytes: new TextEncoder().encode(TEXT) }) } as never;
    const away = { exchange: () => Promise.reject(new Error("it is away")) } as never;
    const running = sendMetrics({
      ...{ metrics, health, log: Logger.silent(), clock: systemClock, nodeName: "c/n", retryMsMin: 1 },
      target: { endpoint, headers: {}, compression: "gzip" },
      services: { "policy-engine": away, datapath },
      intervalMs: 3_600_000,
    }, stop.signal);
    const said = () => health.list()[0]?.message ?? "";
    await until(() => /policy-engine has no metrics: it is away/.test(said()));
    equal(received.length, 3);
    deepEqual(
      taken.map(({ path, body }) => [path, body.resourceMetrics[0].resource.attributes[0].value.stringValue]),
      [["/v1/metrics", "weir-flow-exporter"], ["/v1/metrics", "weir-datapath"]],
    );
    const own = taken[0].body.resourceMetrics[0].scopeMetrics[0].metrics;
    ok(own.some(({ name }: { name: string }) => name === "hubble_x_total"));
    stop.abort();
    await running;
  });
});

const OPTIONS = {
  otlpEndpoint: "http://127.0.0.1:4318/",
  otlpHeaders: "",
  otlpSignals: [],
  otlpAllowlist: "",
  otlpDenylist: "",
  otlpFieldmask: "",
  otlpCompression: "gzip",
  otlpCaFile: "",
  otlpMetricsIntervalS: 60,
};

Deno.test("readOtlp() reads what is sent where, and refuses what is wrong without telling secrets", () => {
  const spec = readOtlp({
    ...OPTIONS,
    otlpHeaders: "Authorization=Bearer%20s3cret, x-scope=a",
    otlpSignals: ["logs"],
  })!;
  deepEqual(spec.target, {
    endpoint: "http://127.0.0.1:4318",
    headers: { authorization: "Bearer s3cret", "x-scope": "a" },
    compression: "gzip",
  });
  deepEqual([spec.sendsLogs, spec.sendsMetrics], [true, false]);
  equal(readOtlp({ ...OPTIONS, otlpEndpoint: "" }), undefined);
  for (
    const [options, message] of [
      [{ otlpEndpoint: "127.0.0.1:4318" }, /--otlp-endpoint/],
      [{ otlpEndpoint: "ftp://x" }, /--otlp-endpoint/],
      [{ otlpEndpoint: "http://x/?a=b" }, /--otlp-endpoint/],
      [{ otlpSignals: ["traces"] }, /--otlp-signals: found traces, expected logs, metrics/],
      [{ otlpHeaders: "s3cret" }, /header 1 that cannot be sent/],
      [{ otlpHeaders: "a=b,c=s3cret%0d%0ax: y" }, /header 2 that cannot be sent/],
      [{ otlpHeaders: "content-type=s3cret" }, /header 1/],
      [{ otlpHeaders: "a=%s3cret" }, /header 1/],
      [{ otlpAllowlist: "{" }, /--otlp-allowlist/],
      [{ otlpCompression: "zstd" }, /--otlp-compression: found zstd, expected gzip or none/],
      [{ otlpCaFile: "/ca.crt" }, /--otlp-ca-file: found \/ca.crt, expected an --otlp-endpoint of https/],
      [{ otlpCaFile: "ca.crt" }, /--otlp-ca-file: found ca.crt, expected an absolute path/],
      [{ otlpFieldmask: "nothing" }, /--otlp-fieldmask/],
    ] as const
  ) {
    throws(() => readOtlp({ ...OPTIONS, ...options }), (error: Error) => {
      match(error.message, message);
      equal(error.message.includes("s3cret"), false, error.message);
      return true;
    });
  }
});
