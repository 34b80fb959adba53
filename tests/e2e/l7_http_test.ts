/**
 * HTTP rules from the manifest to the answer: who may ask for what, on one node and across two, with rules at one end and at both; what the server sees;
 * what a policy that changes does to a connection that is kept; what happens when the proxy is killed; the flows.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { at, program } from "./service.ts";
import { hubble, isBuilt } from "../hubble/real_client.ts";
import { canRun, Lab, run } from "./weir.ts";

const lab = new Lab(`http${Deno.pid}`);
const PORT = 8080;
const pod = (name: string, node: number, labels: string, command: string[], ports = "") =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { ${labels} } }\n` +
  `spec: { nodeName: node-${node}, containers: [{ name: main, command: ${
    JSON.stringify(command)
  }${ports} }] }\n`;
const MANIFESTS = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  pod("web", 1, "app: web", ["python3", program("http_server.py"), `${PORT}`]),
  pod("near", 1, "app: client", ["sleep", "infinity"]),
  pod("far", 2, "app: client", ["sleep", "infinity"]),
  pod("stranger", 2, "app: stranger", ["sleep", "infinity"]),
  `apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\n` +
  `spec: { clusterIP: 10.96.0.77, selector: { app: web }, ports: [{ name: http, port: 80, targetPort: ${PORT} }] }\n`,
].join("---\n");
const ports = `toPorts: [{ ports: [{ port: "${PORT}", protocol: TCP }]`;
/** A policy of the server: clients may ask for these. */
const ingress = (...rules: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: web, namespace: shop }\nspec:\n` +
  `  endpointSelector: { matchLabels: { app: web } }\n` +
  `  ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }], ${ports}, rules: { http: [${
    rules.join(", ")
  }] } }] }]\n`;
/** Likewise of the clients. */
const egress = (...rules: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: clients, namespace: shop }\nspec:\n` +
  `  endpointSelector: { matchLabels: { app: client } }\n` +
  `  egress: [{ toEndpoints: [{ matchLabels: { app: web } }], ${ports}, rules: { http: [${
    rules.join(", ")
  }] } }] }]\n`;
const GET_PUBLIC = "{ method: GET, path: '/public(/.*)?' }";

if (canRun) {
  Deno.test.beforeAll(async () => {
    await lab.up(2, MANIFESTS);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => await lab.down());
}
const e2e = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

/** Address of a pod. */
async function addressOf(name: string, family: 4 | 6 = 4): Promise<string> {
  const { status } = JSON.parse(await lab.ok(["endpoint", "get", `shop/${name}`, "-o", "json"]));
  return family === 4 ? status.ipv4 : status.ipv6;
}

/** What curl says: the status, the body, and its own port. */
async function curl(from: string, url: string, ...more: string[]) {
  const format = "\\n%{http_code} %{local_port}";
  const ran = await at(lab, { pod: `shop/${from}` }, [
    "curl",
    "-sS",
    "-g",
    "--max-time",
    "20",
    "-w",
    format,
    ...more,
    url,
  ]);
  const [, body = "", status = "", port = ""] = /^([\s\S]*)\n(\d+) (\d+)$/.exec(ran.out) ?? [];
  return { code: ran.code, err: ran.err, body, status: Number(status), port: Number(port) };
}

/** A client that keeps its connection, asked line by line. */
class KeptClient implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<string>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #said = "";

  constructor(from: string, address: string) {
    const weir = new URL("../../scripts/weir", import.meta.url).pathname;
    this.#child = new Deno.Command(weir, {
      args: [
        "--lab",
        lab.name,
        "lab",
        "exec",
        `shop/${from}`,
        "--",
        "python3",
        program("http_keep.py"),
        address,
        `${PORT}`,
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#writer = this.#child.stdin.getWriter();
  }

  /** @returns "STATUS PORT" or "closed" */
  async ask(path: string): Promise<string> {
    await this.#writer.write(new TextEncoder().encode(`${path}\n`));
    for (;;) {
      const end = this.#said.indexOf("\n");
      if (end >= 0) {
        const line = this.#said.slice(0, end);
        this.#said = this.#said.slice(end + 1);
        return line;
      }
      const { done, value } = await this.#reader.read();
      if (done) return "ended";
      this.#said += value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    await this.#reader.cancel();
    await this.#child.status;
  }
}

e2e(
  "an http rule lets through what it names, answers 403 to all else, and the server sees the client itself",
  async () => {
    await lab.apply(ingress(GET_PUBLIC));
    for (const family of [4, 6] as const) {
      const address = await addressOf("web", family), host = family === 4 ? address : `[${address}]`;
      for (const from of ["near", "far"]) {
        const own = await addressOf(from, family), what = `${from} by IPv${family}`;
        const allowed = await curl(from, `http://${host}:${PORT}/public/x?y=1`);
        assert.equal(allowed.status, 200, `${what}: ${allowed.err}`);
        // The client's own address and port, though a proxy stands between.
        assert.equal(allowed.body, `${own} ${allowed.port} GET /public/x?y=1 0\n`, what);
        for (
          const [path, ...more] of [["/private"], ["/public", "-X", "POST", "-d", "x"], [
            "/public/../private",
            "--path-as-is",
          ]]
        ) {
          const denied = await curl(from, `http://${host}:${PORT}${path}`, ...more);
          assert.deepEqual([denied.status, denied.body], [403, "Access denied\r\n"], `${what} ${path}`);
        }
      }
    }
    // Whom no rule means is refused before a byte is read.
    const stranger = await at(lab, { pod: "shop/stranger" }, [
      "curl",
      "-sS",
      "--max-time",
      "3",
      `http://${await addressOf("web")}:${PORT}/public`,
    ]);
    assert.notEqual(stranger.code, 0);
    // By the service's address too.
    const service = await curl("far", "http://10.96.0.77/public");
    assert.equal(service.status, 200, service.err);
    assert.match(
      service.body,
      new RegExp(`^${(await addressOf("far")).replaceAll(".", "\\.")} ${service.port} `),
    );
  },
);

e2e("rules at both ends are both asked, on one node and on two", async () => {
  await lab.apply(ingress("{ path: '/public(/.*)?' }") + "---\n" + egress("{ method: GET }"));
  const address = await addressOf("web");
  for (const from of ["near", "far"]) {
    const asked = async (path: string, ...more: string[]) =>
      (await curl(from, `http://${address}:${PORT}${path}`, ...more)).status;
    assert.equal(await asked("/public"), 200, from);
    assert.equal(await asked("/public", "-X", "POST", "-d", "x"), 403, `${from}: its own rules`);
    assert.equal(await asked("/private"), 403, `${from}: the server's rules`);
    const { body, port } = await curl(from, `http://${address}:${PORT}/public`);
    assert.equal(body, `${await addressOf(from)} ${port} GET /public 0\n`);
  }
  await lab.drop("cnp:shop/clients");
});

e2e("each request of a kept connection is judged by the newest policy", async () => {
  await lab.apply(ingress(GET_PUBLIC));
  const address = await addressOf("web");
  await using near = new KeptClient("near", address);
  await using far = new KeptClient("far", address);
  for (const client of [near, far]) {
    const [status, port] = (await client.ask("/public")).split(" ");
    assert.equal(status, "200");
    assert.equal(await client.ask("/other"), `403 ${port}`);
  }
  await lab.apply(ingress("{ path: /other }"));
  for (const client of [near, far]) {
    assert.match(await client.ask("/other"), /^200 /);
    assert.match(await client.ask("/public"), /^403 /);
  }
});

e2e("weir explain --http says what the proxy then does, and which rule", async () => {
  await lab.apply(ingress(GET_PUBLIC) + "---\n" + egress("{ path: '/public/.*' }"));
  const address = await addressOf("web");
  const rule = (policy: string) =>
    `cnp:shop/${policy} spec.${policy === "web" ? "in" : "e"}gress[0].toPorts[0].rules.http`;
  const cases: [method: string, path: string, denies: string][] = [
    ["GET", "/public/x?y=1", ""],
    ["GET", "/public", "clients"],
    ["POST", "/public/x", "web"],
    ["GET", "/private", "clients"],
  ];
  for (const [method, path, denies] of cases) {
    const what = `${method} ${path}`;
    const asked = ["--from", "shop/far", "--to", "shop/web", "-p", `${PORT}`, "--http", what];
    for (const command of [["explain"], ["policy", "explain"]]) {
      const { code, out } = await lab.weir([...command, ...asked]);
      assert.equal(code, denies === "" ? 0 : 3, `${what}: ${out}`);
      assert.ok(out.includes(`${PORT}, ${what}: ${denies === "" ? "ALLOWED" : "DENIED"}\n`), out);
      const says = denies === ""
        ? [`Allowed by ${rule("clients")}[0] `, `Allowed by ${rule("web")}[0] `]
        : [`Denied: no HTTP rule of ${rule(denies)} `, ` allows ${what}\n`, "to allow it Add {"];
      for (const one of says) assert.ok(out.includes(one), `${what}: no ${JSON.stringify(one)} in\n${out}`);
    }
    const { status } = await curl("far", `http://${address}:${PORT}${path}`, "-X", method);
    assert.equal(status === 403, denies !== "", `${what}: the proxy answers ${status}`);
  }
  await lab.drop("cnp:shop/clients");
});

e2e("flows of type L7 say who asked for what, and which policy let it through or did not", async () => {
  await lab.apply(ingress(GET_PUBLIC));
  const address = await addressOf("web");
  await curl("far", `http://${address}:${PORT}/public/flow?a=b`);
  await curl("far", `http://${address}:${PORT}/denied`, "-X", "PUT", "-d", "x");
  // deno-lint-ignore no-explicit-any
  const seen = (what: string, wanted: (flow: any) => boolean, ...filters: string[]) =>
    // deno-lint-ignore no-explicit-any
    lab.flow(what, wanted, "-t", "l7", ...filters) as Promise<any>;
  const request = await seen(
    "the request",
    ({ l7 }) => l7?.type === "REQUEST",
    "--http-path",
    "/public/flow",
    "--http-method",
    "GET",
  );
  assert.equal(request.verdict, "FORWARDED");
  assert.deepEqual([request.source.pod_name, request.destination.pod_name, request.Type], [
    "far",
    "web",
    "L7",
  ]);
  assert.equal(request.l7.http.url, `http://${address}:${PORT}/public/flow?a=b`);
  assert.equal(request.l7.http.protocol, "HTTP/1.1");
  assert.equal(request.ingress_allowed_by[0].name, "web");
  const answer = await seen(
    "the answer",
    ({ l7 }) => l7?.type === "RESPONSE",
    "--http-path",
    "/public/flow",
    "--http-status",
    "200",
  );
  assert.deepEqual([answer.source.pod_name, answer.is_reply], ["web", true]);
  assert.ok(Number(answer.l7.latency_ns) > 0);
  const denied = await seen(
    "the denial",
    ({ l7 }) => l7?.type === "REQUEST",
    "--http-path",
    "/denied",
    "--verdict",
    "DROPPED",
  );
  assert.equal(denied.ingress_denied_by[0].name, "web");
  await seen("its answer", ({ l7 }) => l7?.http?.code === 403, "--http-path", "/denied");
});

Deno.test({
  name: "the real hubble command finds requests by status, method and path",
  ignore: !canRun || !isBuilt,
  async fn() {
    await lab.apply(ingress(GET_PUBLIC));
    const address = await addressOf("web"), server = `unix:///run/weir/${lab.name}-node-1/hubble.sock`;
    await curl("far", `http://${address}:${PORT}/public/real?a=b`);
    const said = (...filters: string[]) =>
      hubble(server, "observe", "--type", "l7", "--last", "50", "--http-path", "/public/real", ...filters);
    await until("the answer", async () => (await said("--http-status", "2+")).includes("/public/real"));
    assert.match(
      await said("--http-method", "GET", "--from-pod", "shop/far"),
      /shop\/far:\d+ .*-> shop\/web:8080 .*http-request FORWARDED.*\(HTTP\/1\.1 GET http:\/\/.*\/public\/real\?a=b\)/,
    );
    assert.match(
      await said("--http-status", "200"),
      /shop\/far:\d+ .*<- shop\/web:8080 .*http-response FORWARDED.*\(HTTP\/1\.1 200 \d+ms \(GET /,
    );
    assert.doesNotMatch(await said("--http-status", "404"), /public/);
  },
});

e2e(
  "a proxy that is killed is back by itself, judges by what it kept, and lets nothing through meanwhile",
  async () => {
    await lab.apply(ingress(GET_PUBLIC));
    const address = await addressOf("web");
    const pidOf = async () => {
      const [listed] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
      return listed.processes.find((one: { role: string; node: string }) =>
        one.role === "l7-proxy" && one.node === "node-1"
      ).pid as number;
    };
    const before = await pidOf();
    Deno.kill(before, "SIGKILL");
    // Refused, or judged again; never past the rules.
    for (let tries = 0; tries < 5; tries++) {
      const denied = await curl("near", `http://${address}:${PORT}/private`, "--max-time", "5");
      assert.ok(denied.code !== 0 || denied.status === 403, `${denied.status} ${denied.body}`);
    }
    await until(
      "the proxy judges again",
      async () => (await curl("near", `http://${address}:${PORT}/public`)).status === 200,
    );
    assert.notEqual(await pidOf(), before);
    assert.equal((await curl("near", `http://${address}:${PORT}/private`)).status, 403);
  },
);

e2e(
  "the datapath tells the proxy whose a connection is before it comes, and is asked where it did not",
  async () => {
    await lab.apply(ingress(GET_PUBLIC));
    const url = `http://${await addressOf("web")}:${PORT}/public`;
    const socket = `/run/weir/${lab.name}-node-1/l7-proxy.sock`;
    const handles = async (by: string) => {
      const { out } = await run("curl", ["-sS", "--unix-socket", socket, "http://l7-proxy/metrics"]);
      return Number(new RegExp(`^weir_l7_handles_total\\{by="${by}"\\} (\\d+)`, "m").exec(out)?.[1] ?? 0);
    };
    const isTold = async () => {
      const before = await handles("told");
      assert.equal((await curl("near", url)).status, 200);
      return await handles("told") > before;
    };
    await until("a connection's handle is told", isTold);
    // Its stream ends; who connects meanwhile is asked for, for as long as it takes to be back.
    const [listed] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
    const { pid } = listed.processes.find((one: { role: string; node: string }) =>
      one.role === "datapath" && one.node === "node-1"
    );
    Deno.kill(pid, "SIGKILL");
    await until("connections go on", async () => (await curl("near", url)).status === 200);
    await until("handles are told again", isTold);
  },
);
