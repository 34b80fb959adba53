import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { connect } from "node:tls";
import type { TLSSocket } from "node:tls";
import { Authority, createAuthority } from "../certificate-authority/authority.ts";
import { guardAccess } from "./access_control.ts";
import { createCertificateRequest } from "./certificate_request.ts";
import type { Handler } from "./handler.ts";
import type { Listener } from "./listener.ts";
import { type Peer, peerOf } from "./peer.ts";
import { systemClock } from "./clock.ts";
import { credentialPaths, TlsFiles } from "./tls_files.ts";
import { listenTls, type TlsLimits } from "./tls_listener.ts";
import { TrustTable } from "./trust.ts";
import { Token } from "@weir/proto/certificate";

const HOUR_MS = 3_600_000;
const NODE: Peer = { role: "node", node: "node-2" };
const SERVER: Peer = { role: "control-plane", node: "node-1" };

interface Identity {
  cert: string;
  key: string;
}

/** A cluster's authority and a listener of its control plane on loopback. */
class Fixture {
  readonly trust = new TrustTable();
  authority!: Authority;
  listener!: Listener;
  directory = "";
  /** How far the listener's clock is ahead. */
  aheadMs = 0;
  handler: Handler = (request) => Response.json(peerOf(request) ?? null);
  #clients: Deno.HttpClient[] = [];

  static async make(options: { limits?: Partial<TlsLimits>; handler?: Handler } = {}): Promise<Fixture> {
    const self = new Fixture();
    self.authority = await authorityOf("default");
    self.directory = await Deno.makeTempDir();
    await self.renew(SERVER);
    self.trust.pending = undefined;
    if (options.handler !== undefined) self.handler = options.handler;
    self.listener = await listenTls((request) => self.handler(request), {
      hostname: "127.0.0.1",
      port: 0,
      files: new TlsFiles(credentialPaths(self.directory), { everyMs: 0 }),
      trust: self.trust,
      clock: { ...systemClock, nowMs: () => Date.now() + self.aheadMs },
      limits: { checkEveryMs: 20, ...options.limits },
    });
    return self;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.listener.shutdown(100);
    await Deno.remove(this.directory, { recursive: true });
  }

  /** Writes the server's files. */
  async renew(peer: Peer): Promise<void> {
    const { cert, key } = await identity(this.authority, peer, { hosts: ["127.0.0.1"] });
    const paths = credentialPaths(this.directory);
    await Deno.writeTextFile(paths.key, key);
    await Deno.writeTextFile(paths.cert, cert);
    await Deno.writeTextFile(paths.authority, this.authority.certificatePem);
  }

  async ask(
    path: string,
    options: { identity?: Identity; authority?: Authority } & RequestInit = {},
  ): Promise<Response> {
    const caCerts = [(options.authority ?? this.authority).certificatePem];
    const client = Deno.createHttpClient({ caCerts, ...options.identity });
    this.#clients.push(client);
    return await fetch(this.listener.address + path, { ...options, client } as RequestInit);
  }

  async codeOf(options: { identity?: Identity } & RequestInit = {}): Promise<string> {
    const answer = await this.ask("/", options);
    const { code, role } = await answer.json();
    return code ?? role;
  }
}

async function authorityOf(cluster: string, nowMs = Date.now()): Promise<Authority> {
  return await Authority.load(cluster, await createAuthority(cluster, nowMs));
}

async function identity(
  authority: Authority,
  peer: Peer,
  options: { hosts?: string[]; nowMs?: number; lifetimeMs?: number } = {},
): Promise<Identity> {
  const { keyPem, requestPem } = await createCertificateRequest(peer.node);
  const { certificatePem } = await authority.issue(requestPem, {
    peer,
    hosts: [],
    nowMs: Date.now(),
    lifetimeMs: HOUR_MS,
    ...options,
  });
  return { cert: certificatePem, key: keyPem };
}

Deno.test("listenTls() tells the handler who asks: certificate, token, nobody", async () => {
  await using f = await Fixture.make();
  const secret = "s".repeat(43);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret)));
  f.trust.setToken(
    "t1",
    Token.create({ id: "t1", kind: "access", role: "viewer", name: "eva", secretHash: hash }),
  );
  const bearer = (text: string) => ({ headers: { authorization: `Bearer ${text}` } });
  deepEqual(await (await f.ask("/", { identity: await identity(f.authority, NODE) })).json(), NODE);
  deepEqual(await (await f.ask("/", bearer(`weir_t1_${secret}`))).json(), { role: "viewer", node: "eva" });
  deepEqual(await (await f.ask("/")).json(), { role: "anonymous", node: "" });
  for (const text of ["", "weir_t1_wrong", `weir_t2_${secret}`, "x".repeat(9000), secret]) {
    equal(await f.codeOf(bearer(text)), "UNAUTHENTICATED", text.slice(0, 20));
  }
  f.trust.setToken(
    "t1",
    Token.create({
      id: "t1",
      kind: "access",
      role: "viewer",
      secretHash: hash,
      expiresUnixS: Date.now() / 1000 - 1,
    }),
  );
  equal(await f.codeOf(bearer(`weir_t1_${secret}`)), "UNAUTHENTICATED");
  f.trust.setToken("t1", Token.create({ id: "t1", kind: "access", role: "control-plane", secretHash: hash }));
  equal(await f.codeOf(bearer(`weir_t1_${secret}`)), "UNAUTHENTICATED");
});

Deno.test("listenTls() refuses a stranger's certificate, an expired one, another cluster's, one from the future", async () => {
  await using f = await Fixture.make();
  const other = await authorityOf("default"), elsewhere = await authorityOf("elsewhere");
  const now = Date.now();
  const cases: [string, Identity, string][] = [
    ["another authority of the same name", await identity(other, NODE), "CERTIFICATE_UNKNOWN"],
    ["another cluster", await identity(elsewhere, NODE), "CERTIFICATE_UNKNOWN"],
    ["expired", await identity(f.authority, NODE, { nowMs: now - 2 * HOUR_MS }), "CERTIFICATE_EXPIRED"],
    ["not yet valid", await identity(f.authority, NODE, { nowMs: now + HOUR_MS }), "CLOCK_SKEW"],
    [
      "no such role",
      await identity(f.authority, { role: "root" as never, node: "x" }),
      "CERTIFICATE_INVALID",
    ],
    ["anonymous", await identity(f.authority, { role: "anonymous", node: "x" }), "CERTIFICATE_INVALID"],
    ["good", await identity(f.authority, NODE), "node"],
  ];
  for (const [what, who, code] of cases) equal(await f.codeOf({ identity: who }), code, what);
  // The same authority's key under another cluster's name.
  const stored = await createAuthority("default", now);
  const renamed = await Authority.load("elsewhere", stored);
  await using g = await Fixture.make();
  g.authority = await Authority.load("default", stored);
  await g.renew(SERVER);
  const renewed = await identity(g.authority, NODE);
  // Until the files are taken the server shows what the other authority signed.
  await until(async () => await g.codeOf({ identity: renewed }).catch(() => "") === "node");
  equal(await g.codeOf({ identity: await identity(renamed, NODE) }), "CERTIFICATE_UNKNOWN");
});

Deno.test("listenTls() refuses a certificate whose key the caller has not", async () => {
  await using f = await Fixture.make();
  const victim = await identity(f.authority, NODE),
    mine = await identity(f.authority, { role: "node", node: "evil" });
  const forged = { cert: victim.cert, key: spliceKey(victim.key, mine.key) };
  const asked = async (who: Identity) => {
    const directory = await Deno.makeTempDir();
    await Deno.writeTextFile(`${directory}/crt`, who.cert);
    await Deno.writeTextFile(`${directory}/key`, who.key);
    const process = new Deno.Command("openssl", {
      args: [
        "s_client",
        "-quiet",
        "-connect",
        `127.0.0.1:${f.listener.port}`,
        "-cert",
        `${directory}/crt`,
        "-key",
        `${directory}/key`,
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = process.stdin.getWriter();
    await writer.write(new TextEncoder().encode("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
      .catch(() => {});
    const { stdout, stderr } = await process.output();
    writer.abort().catch(() => {});
    await Deno.remove(directory, { recursive: true });
    return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  };
  match(await asked(victim), /"role":"node","node":"node-2"/);
  equal(/HTTP/.test(await asked(forged)), false);
});

Deno.test("a removed machine is refused at once, and its open streams are cut; later certificates of its name are good", async () => {
  let cancelled = 0;
  await using f = await Fixture.make({
    handler: () =>
      new Response(
        new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(8)), cancel: () => void cancelled++ }),
      ),
  });
  const before = await identity(f.authority, NODE),
    bystander = await identity(f.authority, { role: "node", node: "node-3" });
  const stream = (await f.ask("/", { identity: before })).body!.getReader();
  const beside = (await f.ask("/", { identity: bystander })).body!.getReader();
  await stream.read();
  await beside.read();
  f.trust.setMember("node-2", { removedUnixS: Date.now() / 1000 } as never);
  await rejects(async () => void await stream.read());
  await until(() => cancelled === 1);
  f.handler = (request) => Response.json(peerOf(request));
  equal(await f.codeOf({ identity: before }), "CERTIFICATE_REMOVED");
  equal(await f.codeOf({ identity: await identity(f.authority, NODE, { nowMs: Date.now() + 1 }) }), "node");
  equal(cancelled, 1);
});

Deno.test("a withdrawn token and a certificate that expires end the streams they began", async () => {
  await using f = await Fixture.make({
    handler: () => new Response(new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(8)) })),
  });
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("secret")));
  f.trust.setToken("a", Token.create({ id: "a", kind: "access", role: "admin", secretHash: hash }));
  const withToken = (await f.ask("/", { headers: { authorization: "Bearer weir_a_secret" } })).body!
    .getReader();
  const short = (await f.ask("/", { identity: await identity(f.authority, NODE) })).body!.getReader();
  await withToken.read();
  await short.read();
  f.trust.setToken("a", undefined);
  await rejects(async () => void await withToken.read());
  f.aheadMs = HOUR_MS;
  await rejects(async () => void await short.read());
});

Deno.test("nobody is believed before members and tokens were read", async () => {
  await using f = await Fixture.make();
  f.trust.pending = "waiting";
  equal(await f.codeOf({ identity: await identity(f.authority, NODE) }), "NOT_READY");
  equal(await f.codeOf({ headers: { authorization: "Bearer weir_a_b" } }), "NOT_READY");
  equal(await f.codeOf(), "anonymous");
});

Deno.test("new certificate files are taken without a restart; halves of a pair are not", async () => {
  await using f = await Fixture.make();
  const serverName = () =>
    new Promise<string>((resolve, reject) => {
      const socket: TLSSocket = connect(
        { host: "127.0.0.1", port: f.listener.port!, ca: [f.authority.certificatePem] },
        () => {
          resolve(String(socket.getPeerCertificate().subjectaltname));
          socket.end();
        },
      );
      socket.on("error", reject);
    });
  match(await serverName(), /control-plane\/node-1/);
  const paths = credentialPaths(f.directory), whole = await Deno.readTextFile(paths.key);
  await Deno.writeTextFile(paths.key, whole.slice(0, 60));
  await systemClock.sleep(100);
  match(await serverName(), /control-plane\/node-1/);
  await f.renew({ role: "control-plane", node: "renewed" });
  await until(async () => /control-plane\/renewed/.test(await serverName()));
});

Deno.test("listenTls() streams both ways, waits for slow readers, and cancels when the client goes", async () => {
  let pulled = 0, cancelled = false;
  await using f = await Fixture.make({
    handler: async (request) => {
      if (request.method === "POST") {
        let bytes = 0;
        for await (const chunk of request.body!) bytes += chunk.length;
        return Response.json({ bytes });
      }
      return new Response(
        new ReadableStream({
          pull: (controller) => {
            pulled++;
            controller.enqueue(new Uint8Array(65_536));
          },
          cancel: () => void (cancelled = true),
        }),
      );
    },
  });
  const who = await identity(f.authority, NODE);
  const sent = await f.ask("/", { identity: who, method: "POST", body: new Uint8Array(3_000_000) });
  deepEqual(await sent.json(), { bytes: 3_000_000 });
  const reader = (await f.ask("/", { identity: who })).body!.getReader();
  await reader.read();
  let before = -1;
  await until(async () => {
    const same = pulled === before;
    before = pulled;
    await systemClock.sleep(50);
    return same;
  });
  ok(pulled * 65_536 < 64 << 20, `${pulled} chunks were made for a client that reads none`);
  await reader.cancel();
  await until(() => cancelled);
});

Deno.test("listenTls() bounds handshakes, headers, idle connections and header sizes", async () => {
  await using f = await Fixture.make({
    limits: {
      handshakeMsMax: 200,
      headersMsMax: 200,
      requestMsMax: 400,
      idleMsMax: 200,
      headerBytesMax: 4096,
    },
    handler: async (request) => {
      if (request.method !== "GET") await request.bytes();
      if (new URL(request.url).pathname === "/slow") await systemClock.sleep(1500);
      return Response.json(peerOf(request) ?? null);
    },
  });
  const port = f.listener.port!;
  const endOf = async (conn: Deno.Conn) => {
    const buffer = new Uint8Array(1000);
    let text = "";
    try {
      for (let n; (n = await conn.read(buffer)) !== null;) {
        text += new TextDecoder().decode(buffer.subarray(0, n));
      }
    } catch {
      // Cut is an end too.
    }
    conn.close();
    return text;
  };
  const raw = () => Deno.connect({ hostname: "127.0.0.1", port });
  const tls = () => Deno.connectTls({ hostname: "127.0.0.1", port, caCerts: [f.authority.certificatePem] });
  const say = async (conn: Deno.Conn, text: string) => void await conn.write(new TextEncoder().encode(text));
  await endOf(await raw()); // no handshake
  await endOf(await tls()); // no request
  const half = await tls();
  await say(half, "GET / HTTP/1.1\r\nhost: x\r\n"); // headers that never end
  await endOf(half);
  const body = await tls();
  await say(body, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab"); // a body that never ends
  await endOf(body);
  const idle = await tls();
  await say(idle, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"); // and nothing more
  match(await endOf(idle), /^HTTP\/1\.1 200/);
  const large = await tls();
  await say(large, `GET / HTTP/1.1\r\nhost: x\r\na: ${"b".repeat(9000)}\r\n\r\n`).catch(() => {});
  match(await endOf(large), /^(HTTP\/1\.1 431|$)/);
  for (const target of ["GET http://other/v1 HTTP/1.1", "OPTIONS * HTTP/1.1"]) {
    const odd = await tls();
    await say(odd, `${target}\r\nhost: x\r\nconnection: close\r\n\r\n`);
    match(await endOf(odd), /^HTTP\/1\.1 400[\s\S]*REQUEST_INVALID/);
  }
  // A slow answer is no slow request.
  equal((await f.ask("/slow", { identity: await identity(f.authority, NODE) })).status, 200);
});

Deno.test("listenTls() lets a member in behind an address of silent strangers, the oldest of whom goes", async () => {
  await using f = await Fixture.make({
    limits: { handshakeMsMax: 600_000, strangersPerAddressMax: 3, strangersMax: 4 },
  });
  const crowd: Deno.Conn[] = [];
  const ended: number[] = [];
  for (let i = 0; i < 5; i++) {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: f.listener.port! });
    crowd.push(conn);
    conn.read(new Uint8Array(1)).catch(() => null).then(() => ended.push(i));
  }
  const who = await identity(f.authority, NODE);
  equal(await f.codeOf({ identity: who }), "node");
  await until(() => ended.length === 3);
  deepEqual(ended.toSorted(), [0, 1, 2]);
  for (const conn of crowd) conn.close();
});

Deno.test("listenTls() cuts nobody who showed a token for the sake of a stranger", async () => {
  let cut = false;
  await using f = await Fixture.make({
    limits: { strangersPerAddressMax: 1 },
    handler: (request) =>
      new URL(request.url).pathname === "/stream"
        ? new Response(
          new ReadableStream({
            start: (controller) => controller.enqueue(new Uint8Array(1)),
            cancel: () => void (cut = true),
          }),
        )
        : Response.json(peerOf(request) ?? null),
  });
  const secret = "s".repeat(43);
  const secretHash = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret)),
  );
  f.trust.setToken("t1", Token.create({ id: "t1", kind: "access", role: "viewer", name: "eva", secretHash }));
  const stream = await f.ask("/stream", { headers: { authorization: `Bearer weir_t1_${secret}` } });
  const reader = stream.body!.getReader();
  await reader.read();
  equal(await f.codeOf().catch(() => "refused"), "refused");
  equal(cut, false);
  await reader.cancel();
  await until(async () => await f.codeOf().catch(() => "") === "anonymous");
});

Deno.test("listenTls() behind a table: a viewer who writes, a node that lies", async () => {
  const rows = [
    { roles: ["viewer", "node"] as const, methods: ["GET"], path: "/v1/nodes" },
    { roles: ["node"] as const, methods: ["PUT"], path: "/v1/nodes/{name}", own: "name" as const },
  ];
  await using f = await Fixture.make({ handler: guardAccess(() => new Response("done"), rows) });
  const who = await identity(f.authority, NODE);
  const put = async (name: string) => {
    const answer = await f.ask(`/v1/nodes/${name}`, {
      identity: who,
      method: "PUT",
      body: "x".repeat(100_000),
    });
    await answer.body?.cancel();
    return answer.status;
  };
  deepEqual([await put("node-2"), await put("node-1"), await put("node-2")], [200, 403, 200]);
  equal((await f.ask("/v1/nodes")).status, 401);
});

Deno.test("a node's certificate cannot serve: clients refuse whoever poses as the control plane with it", async () => {
  await using f = await Fixture.make();
  const { cert, key } = await identity(f.authority, NODE);
  const paths = credentialPaths(f.directory);
  await Deno.writeTextFile(paths.key, key);
  await Deno.writeTextFile(paths.cert, cert);
  await until(async () => {
    const error = await f.ask("/").then(() => undefined, (error) => error);
    return /certificate/.test(String(error?.cause ?? error));
  });
});

/** `to`'s public half with `from`'s private number, as an attacker would who saw only a certificate. */
function spliceKey(to: string, from: string): string {
  const bytes = (pem: string) =>
    Uint8Array.from(atob(pem.replace(/-----[^-]+-----|\s/g, "")), (char) => char.charCodeAt(0));
  const out = bytes(to), source = bytes(from);
  // PKCS #8 of a P-256 key: the private number is the OCTET STRING of 32 bytes (04 20) in the inner sequence.
  const at = (key: Uint8Array) => key.findIndex((byte, i) => byte === 0x04 && key[i + 1] === 0x20) + 2;
  out.set(source.subarray(at(source), at(source) + 32), at(out));
  return `-----BEGIN PRIVATE KEY-----\n${
    btoa(String.fromCharCode(...out)).replace(/.{64}/g, "$&\n")
  }\n-----END PRIVATE KEY-----\n`;
}

/** Waits as long as it takes: the test runner's own limit ends a condition that never comes. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!await condition()) await systemClock.sleep(20);
}

Deno.test("listenTls() gives one certificate's holder its share of connections and no more", async () => {
  await using f = await Fixture.make({ limits: { connectionsPerHolderMax: 2 } });
  const node = await identity(f.authority, NODE);
  const other = await identity(f.authority, { role: "node", node: "node-3" });
  for (let i = 0; i < 2; i++) await (await f.ask("/", { identity: node })).body?.cancel();
  const renewed = await identity(f.authority, NODE);
  await rejects(f.ask("/", { identity: renewed }));
  equal(await f.codeOf({ identity: other }), "node");
});
