/**
 * HTTP/2, gRPC and WebSocket under http rules, between real clients and servers: curl, nghttp2's and gRPC's, Node's server and Deno's WebSocket. What is
 * allowed passes, what is denied is told in the protocol and the connection goes on, the server sees the client itself, and each request has its flows.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { at } from "../e2e/service.ts";
import { canRun, type Flow, Lab } from "../e2e/weir.ts";

const CACHE = Deno.env.get("WEIR_HTTP2_CACHE") ?? new URL("../../.build/http2", import.meta.url).pathname;
const PYTHON = `${CACHE}/venv/bin/python`;
const isBuilt = canRun && hasBuilt();
const peer = (name: string) => new URL(`peers/${name}`, import.meta.url).pathname;

const lab = new Lab(`h2${Deno.pid}`);
const WEB = 8080, SOCKETS = 8081, FILES = 8082, CALLS = 50_051;
/** What `files` serves. */
const folder = isBuilt ? Deno.makeTempDirSync({ prefix: `weir-http2-${Deno.pid}-` }) : "";
const pod = (name: string, node: number, app: string, command: string[]) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: shop, labels: { app: ${app} } }\n` +
  `spec: { nodeName: node-${node}, containers: [{ name: main, command: ${JSON.stringify(command)} }] }\n`;
const MANIFESTS = [
  "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n",
  pod("web", 1, "web", [Deno.execPath(), "run", "-A", peer("web_server.ts"), `${WEB}`, `${SOCKETS}`]),
  pod("files", 1, "web", ["nghttpd", "--no-tls", "--echo-upload", "-d", folder, `${FILES}`]),
  pod("calls", 1, "web", [PYTHON, peer("grpc_server.py"), `${CALLS}`]),
  pod("near", 1, "client", ["sleep", "infinity"]),
  pod("far", 2, "client", ["sleep", "infinity"]),
].join("---\n");
const PORTS = [WEB, SOCKETS, FILES, CALLS].map((port) => `{ port: "${port}", protocol: TCP }`).join(", ");
const policy = (...rules: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: web, namespace: shop }\nspec:\n` +
  `  endpointSelector: { matchLabels: { app: web } }\n` +
  `  ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }], ` +
  `toPorts: [{ ports: [${PORTS}], rules: { http: [${rules.join(", ")}] } }] }]\n`;
const PUBLIC = "{ path: '/public(/.*)?' }", CART = "{ method: POST, path: '/shop\\.Cart/.*' }";
const LIST = "cnp:shop/web spec.ingress[0].toPorts[0].rules.http";

if (isBuilt) {
  Deno.test.beforeAll(async () => {
    Deno.mkdirSync(`${folder}/public`);
    Deno.writeTextFileSync(`${folder}/public/small`, "x".repeat(200));
    Deno.writeTextFileSync(`${folder}/public/large`, "0123456789abcdef".repeat(1 << 18));
    await lab.up(2, MANIFESTS);
    await lab.inForce();
    await lab.apply(policy(PUBLIC, CART));
    for (const [name, port] of [["web", WEB], ["files", FILES]] as const) {
      const url = `http://${await addressOf(name)}:${port}/public/small`;
      await until(`${name} answers`, async () => (await curl("near", url)).status === 200);
    }
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    await Deno.remove(folder, { recursive: true });
  });
}
const real = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !isBuilt, fn: body });

/** Whether `tests/http2/build` has run. */
function hasBuilt(): boolean {
  try {
    return [...Deno.readDirSync(CACHE)].some(({ name }) => name.endsWith(".done"));
  } catch {
    return false;
  }
}

/** Address of a pod. */
async function addressOf(name: string, family: 4 | 6 = 4): Promise<string> {
  const { status } = JSON.parse(await lab.ok(["endpoint", "get", `shop/${name}`, "-o", "json"]));
  return family === 4 ? status.ipv4 : status.ipv6;
}
const inUrl = (address: string) => address.includes(":") ? `[${address}]` : address;

/** What curl says: version, status, body, and its own port. */
async function curl(from: string, url: string, ...more: string[]) {
  const format = "\\n%{http_version} %{http_code} %{local_port}";
  const { out, err } = await at(lab, { pod: `shop/${from}` }, [
    ...["curl", "-sS", "-g", "--http2-prior-knowledge", "--max-time", "30", "-w", format],
    ...more,
    url,
  ]);
  const [, body = "", version = "", status = "", port = ""] = /^([\s\S]*)\n(\S+) (\d+) (\d+)$/.exec(out) ??
    [];
  return { err, body, version, status: Number(status), port };
}

/** A client of gRPC that keeps its channel, asked line by line; see `peers/grpc_client.py`. */
class Caller implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<string>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #said = "";

  constructor(from: string, address: string) {
    const weir = new URL("../../scripts/weir", import.meta.url).pathname;
    const command = [PYTHON, peer("grpc_client.py"), `${inUrl(address)}:${CALLS}`];
    this.#child = new Deno.Command(weir, {
      args: ["--lab", lab.name, "lab", "exec", `shop/${from}`, "--", ...command],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#writer = this.#child.stdin.getWriter();
  }

  /** @returns "OK ANSWER", or the status and its text */
  async ask(line: string): Promise<string> {
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
    for (;;) {
      const end = this.#said.indexOf("\n");
      if (end >= 0) {
        const answer = this.#said.slice(0, end);
        this.#said = this.#said.slice(end + 1);
        return answer;
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

/** A peer as gRPC has it. */
const isPeer = (said: string, address: string) =>
  said.startsWith(`OK ipv${address.includes(":") ? `6:%5B${address}%5D` : `4:${address}`}:`);

real("HTTP/2: the server sees the client itself, and what no rule names gets 403", async () => {
  for (const family of [4, 6] as const) {
    const host = inUrl(await addressOf("web", family));
    for (const from of ["near", "far"]) {
      const own = await addressOf(from, family), what = `${from} by IPv${family}`;
      const allowed = await curl(from, `http://${host}:${WEB}/public/x?y=1`, "-d", "hello");
      assert.deepEqual([allowed.status, allowed.version], [200, "2"], `${what}: ${allowed.err}`);
      assert.equal(allowed.body, `${own} ${allowed.port} POST /public/x?y=1 5\n`, what);
      const denied = await curl(from, `http://${host}:${WEB}/private`, "-d", "hello");
      assert.deepEqual([denied.status, denied.version, denied.body], [403, "2", "Access denied\r\n"], what);
    }
  }
});

real(
  "HTTP/2: a connection goes on behind what is denied, and bodies pass whole in both directions",
  async () => {
    const url = `http://${await addressOf("files")}:${FILES}`;
    const { out } = await at(lab, { pod: "shop/far" }, [
      ...["nghttp", "-v", "--no-dep", `${url}/private/1`, `${url}/public/small`, `${url}/private/2`],
    ]);
    const statuses = [...out.matchAll(/:status: (\d+)/g)].map(([, status]) => status).sort();
    assert.deepEqual(statuses, ["200", "403", "403"], out);
    const sum = async (...command: string[]) =>
      (await at(lab, { pod: "shop/far" }, ["sh", "-c", `${command.join(" ")} | sha256sum`])).out;
    const file = `${folder}/public/large`, get = ["curl", "-sS", "--http2-prior-knowledge"];
    const wanted = await sum("cat", file);
    assert.equal(await sum(...get, `${url}/public/large`), wanted);
    assert.equal(await sum(...get, "--data-binary", `@${file}`, `${url}/public/echo`), wanted);
  },
);

real("HTTP/2: thousands of requests side by side on a few connections, each judged", async () => {
  const url = `http://${await addressOf("files")}:${FILES}`;
  for (const [path, kind] of [["/public/small", "2xx"], ["/private", "4xx"]]) {
    const { out, err } = await at(lab, { pod: "shop/far" }, ["h2load", "-n2000", "-c4", "-m50", url + path]);
    assert.match(out, /2000 done, /, err);
    assert.match(out, new RegExp(`status codes:.* 2000 ${kind}`), out);
  }
});

real(
  "gRPC: calls pass, in all four kinds of streams; a denied one says which policy and rule, and the channel goes on",
  async () => {
    for (const [from, family] of [["near", 4], ["far", 4], ["far", 6]] as const) {
      const own = await addressOf(from, family), what = `${from} by IPv${family}`;
      await using caller = new Caller(from, await addressOf("calls", family));
      const first = await caller.ask("unary /shop.Cart/Whoami hello");
      assert.ok(isPeer(first, own), `${what}: ${first}`);
      assert.equal(
        await caller.ask("unary /shop.Admin/Whoami"),
        `PERMISSION_DENIED Denied by policy ${LIST}: no rule allows POST /shop.Admin/Whoami`,
        what,
      );
      assert.match(await caller.ask("echo /shop.Admin/Echo 3"), /^PERMISSION_DENIED /, what);
      assert.match(await caller.ask("stream /shop.Admin/Many 3"), /^PERMISSION_DENIED /, what);
      assert.equal(await caller.ask("stream /shop.Cart/Many 2000"), "OK 2000 2048000", what);
      assert.equal(await caller.ask("echo /shop.Cart/Echo 100"), "OK 100 0", what);
      assert.equal(await caller.ask("unary /shop.Cart/Fails"), "NOT_FOUND there is none", what);
      // The same connection all the while: the server has seen one port.
      assert.equal(await caller.ask("unary /shop.Cart/Whoami hello"), first, what);
    }
  },
);

real("gRPC: each call of an open channel is judged by the newest policy", async () => {
  await using caller = new Caller("far", await addressOf("calls"));
  assert.match(await caller.ask("unary /shop.Cart/Whoami"), /^OK /);
  await lab.apply(policy(PUBLIC, "{ path: '/shop\\.Admin/Whoami' }"));
  assert.match(await caller.ask("unary /shop.Cart/Whoami"), /^PERMISSION_DENIED /);
  assert.match(await caller.ask("unary /shop.Admin/Whoami"), /^OK /);
  await lab.apply(policy(PUBLIC, CART));
});

real("each request has one flow, and its answer one: of gRPC with the call's status", async () => {
  const caller = new Caller("far", await addressOf("calls"));
  await curl("far", `http://${await addressOf("web")}:${WEB}/public/once`);
  await caller.ask("unary /shop.Cart/Fails/once");
  await caller.ask("unary /shop.Admin/once");
  await caller[Symbol.asyncDispose]();
  // deno-lint-ignore no-explicit-any
  const l7 = (flow: Flow): any => (flow as any).l7;
  const status = (flow: Flow) =>
    l7(flow).http.headers?.find(({ key }: { key: string }) => key === "grpc-status")?.value;
  for (
    const [path, verdict, code, grpc] of [
      ["/public/once", "FORWARDED", 200, undefined],
      ["/shop.Cart/Fails/once", "FORWARDED", 200, "12"],
      ["/shop.Admin/once", "DROPPED", 200, "7"],
    ] as const
  ) {
    const filter = ["-t", "l7", "--http-path", path];
    const answer = await lab.flow(
      `the answer to ${path}`,
      (flow) => l7(flow)?.type === "RESPONSE",
      ...filter,
    );
    assert.deepEqual([l7(answer).http.protocol, l7(answer).http.code, status(answer)], [
      "HTTP/2",
      code,
      grpc,
    ]);
    const flows = await lab.flows(...filter);
    assert.deepEqual(flows.map((flow) => l7(flow).type).sort(), ["REQUEST", "RESPONSE"], path);
    assert.equal(flows.find((flow) => l7(flow).type === "REQUEST")?.verdict, verdict, path);
  }
});

real("WebSocket: its request is judged, then messages pass in both directions", async () => {
  for (const from of ["near", "far"]) {
    const own = await addressOf(from), url = `ws://${await addressOf("web")}:${SOCKETS}`;
    const asked = [[`${url}/public/a`, "5"], [`${url}/private`, "5"], [`${url}/public/b`, "1000000"]];
    const { out, err } = await at(lab, { pod: `shop/${from}` }, [
      ...[Deno.execPath(), "run", "-A", peer("websocket_client.ts")],
      ...asked.flat(),
    ]);
    const lines = out.trimEnd().split("\n").map((line) => line.split(" "));
    assert.equal(lines.length, 3, err);
    assert.deepEqual(lines[1], ["refused"], out);
    for (const [line, bytes] of [[lines[0], 5], [lines[2], 1_000_000]] as const) {
      const [length, address, port] = line;
      assert.equal(address, own, out);
      assert.equal(Number(length), bytes + `${address} ${port} `.length, out);
    }
  }
});
