import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import {
  credentialPaths,
  guardAccess,
  Health,
  listenTls,
  Logger,
  ProblemError,
  problemResponse,
  readCredentials,
  readMembership,
  systemClock,
  TlsFiles,
  TrustTable,
} from "@weir/common";
import { WeirClient } from "@weir/client";
import { CreateTokenRequest, CreateTokenResponse } from "@weir/proto/certificate";
import { EnrollmentRequest, EnrollmentResponse } from "@weir/proto/kubernetes";
import { type CertificateAuthority, createCertificateAuthority } from "../certificate-authority/mod.ts";
import { Database } from "../common/state.ts";
import { ACCESS } from "./access.ts";
import { CertificateKeeper } from "./certificate_keeper.ts";
import { readJoinDirectory } from "./join_directory.ts";
import { KubernetesJoin } from "./kubernetes_join.ts";
import { OWNER } from "./testing/joined.ts";

/** A control plane on a port of its own: a real authority, and enrollments for who shows the right token. */
class Plane implements AsyncDisposable {
  readonly #directory = Deno.makeTempDirSync();
  readonly #database = new Database("sqlite::memory:");
  readonly ca: CertificateAuthority = createCertificateAuthority({
    database: this.#database,
    config: { cluster: "c1" },
  });
  readonly #listeners: { shutdown(): Promise<void> }[] = [];
  enrollments = 0;
  address = "";

  static async make(): Promise<Plane> {
    const plane = new Plane();
    await plane.ca.start();
    const port = freePort();
    plane.address = `127.0.0.1:${port}`;
    await new CertificateKeeper({
      directory: plane.#directory,
      owner: OWNER,
      node: "plane",
      cluster: "c1",
      plane: { authority: { handler: plane.ca.api.fetch }, listen: plane.address },
      clock: systemClock,
      health: new Health(),
      log: Logger.silent(),
    }).step();
    const rows = [{ roles: ["anonymous" as const], methods: ["POST"], path: "/v1/enrollments" }];
    for (
      const [offset, handler] of [
        [0, guardAccess(plane.ca.api.fetch, ACCESS["certificate-authority"])],
        [4, guardAccess((request) => plane.#enroll(request), rows)],
      ] as const
    ) {
      const trust = new TrustTable();
      trust.pending = undefined;
      plane.#listeners.push(
        await listenTls(handler, {
          hostname: "127.0.0.1",
          port: port + offset,
          files: new TlsFiles(credentialPaths(plane.#directory)),
          trust,
          clock: systemClock,
          log: Logger.silent(),
        }),
      );
    }
    return plane;
  }

  async #enroll(request: Request): Promise<Response> {
    const { token, node } = EnrollmentRequest.decode(new Uint8Array(await request.arrayBuffer()));
    this.enrollments++;
    if (token !== "right") {
      return problemResponse(new ProblemError("TOKEN_REFUSED", { status: 403, detail: "Cannot enroll" }));
    }
    const client = new WeirClient({ handler: this.ca.api.fetch });
    const { text } = await client.call("/v1/tokens", {
      request: { message: CreateTokenRequest, value: { kind: "join", role: "node", uses: 1 } },
      response: CreateTokenResponse,
    });
    client.close();
    const answer = { joinToken: text, node, cluster: "c1", addresses: [this.address] };
    return new Response(EnrollmentResponse.encode(answer) as Uint8Array<ArrayBuffer>, {
      headers: { "content-type": "application/x-protobuf" },
    });
  }

  get authorityPem(): string {
    return Deno.readTextFileSync(credentialPaths(this.#directory).authority);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const listener of this.#listeners) await listener.shutdown();
    await this.ca.stop();
    await this.#database.close();
    await Deno.remove(this.#directory, { recursive: true });
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** A directory as the kubelet makes it. */
function tell(from: string, told: Record<string, string>): void {
  for (const [name, text] of Object.entries(told)) Deno.writeTextFileSync(`${from}/${name}`, text);
}

Deno.test("a node's pod joins by its token, once, follows the control plane's addresses, and joins anew under another authority", async () => {
  await using first = await Plane.make();
  await using second = await Plane.make();
  const from = await Deno.makeTempDir(), directory = await Deno.makeTempDir();
  const join = new KubernetesJoin({
    from,
    directory,
    owner: OWNER,
    node: "node-1",
    clock: systemClock,
    log: Logger.silent(),
  });
  try {
    await rejects(join.step(), { code: "JOIN_DIRECTORY_INVALID" });
    tell(from, {
      token: "wrong",
      cluster: "c1",
      addresses: first.address,
      "authority.crt": first.authorityPem,
    });
    await rejects(join.step(), { code: "TOKEN_REFUSED" });
    equal(readMembership(directory), undefined);
    tell(from, { token: "right\n" });
    equal(await join.step(), "joined");
    deepEqual(readMembership(directory), {
      version: 1,
      cluster: "c1",
      node: "node-1",
      role: "node",
      addresses: [first.address],
    });
    equal(readCredentials(credentialPaths(directory)).facts.peer.node, "node-1");
    equal(await join.step(), "unchanged");
    equal(first.enrollments, 2);
    // A member needs nobody to answer.
    tell(from, { addresses: `192.0.2.1:7440,${first.address}` });
    equal(await join.step(), "moved");
    deepEqual(readMembership(directory)!.addresses, ["192.0.2.1:7440", first.address]);

    // Whoever answers is not the authority that is named: nothing is told to it, and the membership stays.
    tell(from, { addresses: first.address, "authority.crt": second.authorityPem });
    await rejects(join.step(), { code: "UNREACHABLE" });
    equal(first.enrollments, 2);
    equal(readMembership(directory)!.node, "node-1");
    tell(from, { addresses: second.address });
    equal(await join.step(), "joined");
    equal(Deno.readTextFileSync(credentialPaths(directory).authority), second.authorityPem);
  } finally {
    for (const one of [from, directory]) await Deno.remove(one, { recursive: true });
  }
});

Deno.test("KubernetesJoin.ensure() says what it waits for, and ends when it is told to", async () => {
  const from = await Deno.makeTempDir(), directory = await Deno.makeTempDir();
  const stop = new AbortController(), waited: string[] = [];
  const join = new KubernetesJoin({
    from,
    directory,
    owner: OWNER,
    node: "node-1",
    clock: systemClock,
    log: Logger.silent(),
    onWait: (text) => {
      waited.push(text);
      stop.abort();
    },
  });
  try {
    await join.ensure(stop.signal);
    match(waited[0], /Cannot join by .*token: /);
  } finally {
    for (const one of [from, directory]) await Deno.remove(one, { recursive: true });
  }
});

Deno.test("readJoinDirectory() names the file that is wrong", async () => {
  const from = await Deno.makeTempDir();
  const good = { token: "t", cluster: "c", addresses: "10.0.0.1:7440" };
  try {
    for (
      const [told, expected] of [
        [{}, /\/token/],
        [{ ...good, addresses: "10.0.0.1:7440,a b" }, /addresses: "a b" is no address/],
        [good, /authority\.crt/],
        [{ ...good, "authority.crt": "none" }, /authority\.crt: there is no certificate in it/],
      ] as const
    ) {
      tell(from, told);
      throws(() => readJoinDirectory(from), {
        code: "JOIN_DIRECTORY_INVALID",
        message: expected,
      });
    }
  } finally {
    await Deno.remove(from, { recursive: true });
  }
});
