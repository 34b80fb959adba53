/** What tests of the agent share. @module */
import { equal } from "node:assert/strict";
import {
  type CertificateFacts,
  type Clock,
  credentialPaths,
  guardAccess,
  Health,
  type Listener,
  listenTls,
  Logger,
  readCredentials,
  readerDirectory,
  systemClock,
  TlsFiles,
  TrustTable,
  writeCredentials,
  writeMembership,
} from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { WeirClient } from "@weir/client";
import { Authority, IssueRequest } from "@weir/proto/certificate";
import { type CertificateAuthority, createCertificateAuthority } from "../../certificate-authority/mod.ts";
import { Database } from "../../common/state.ts";
import { ACCESS } from "../access.ts";
import { CertificateKeeper } from "../certificate_keeper.ts";

/** Who runs the tests. */
export const OWNER = { uid: Deno.uid()!, gid: Deno.gid()! };

/** A machine that joined, its authority behind a port with mutual TLS, and a clock that is set. */
export class Joined implements AsyncDisposable {
  readonly directory = Deno.makeTempDirSync();
  readonly #planeDirectory = Deno.makeTempDirSync();
  #database: Database;
  ca: CertificateAuthority;
  readonly trust = new TrustTable();
  readonly clock: Clock;
  aheadMs = 0;
  #listener: Listener | undefined;

  private constructor(readonly databaseFile: string) {
    this.clock = { ...systemClock, nowMs: () => Date.now() + this.aheadMs };
    this.#database = new Database(`sqlite:${databaseFile}`);
    this.ca = this.#authority();
  }

  #authority(): CertificateAuthority {
    return createCertificateAuthority({
      database: this.#database,
      clock: this.clock,
      config: { certificateLifetimeMs: 400_000 },
    });
  }

  /** The authority ends, something is done to its database, and it starts. */
  async restart(between: () => void): Promise<void> {
    await this.ca.stop();
    await this.#database.close();
    between();
    this.#database = new Database(`sqlite:${this.databaseFile}`);
    this.ca = this.#authority();
    await this.ca.start();
  }

  static async make(): Promise<Joined> {
    const made = new Joined(await Deno.makeTempFile());
    const { ca, clock } = made;
    const free = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = free.addr;
    free.close();
    await ca.start();
    await new CertificateKeeper({
      ...made.#common(made.#planeDirectory),
      node: "plane",
      plane: { authority: { handler: ca.api.fetch }, listen: `127.0.0.1:${port}` },
    }).step();
    made.trust.pending = undefined;
    made.#listener = await listenTls(
      guardAccess((request) => made.ca.api.fetch(request), ACCESS["certificate-authority"]),
      {
        hostname: "127.0.0.1",
        port,
        files: new TlsFiles(credentialPaths(made.#planeDirectory)),
        trust: made.trust,
        clock,
      },
    );
    await made.join();
    return made;
  }

  /** `weir join`, with a local caller's certificate. */
  async join(): Promise<void> {
    const { keyPem, requestPem } = await createCertificateRequest("n");
    const answer = await this.ca.issue(IssueRequest.create({ requestPem, node: "n", role: "node" }), {});
    writeCredentials(this.directory, {
      cert: answer.certificatePem,
      key: keyPem,
      authority: answer.authorityPem,
    }, OWNER);
    writeMembership(this.directory, {
      version: 1,
      cluster: "default",
      node: "n",
      role: "node",
      addresses: [new URL(this.address).host],
    });
  }

  keeper(): CertificateKeeper {
    return new CertificateKeeper({ ...this.#common(this.directory), node: "n" });
  }

  get address(): string {
    return this.#listener!.address;
  }

  reader(): CertificateFacts {
    return readCredentials(credentialPaths(readerDirectory(this.directory))).facts;
  }

  /** Whether the listener believes these files. */
  async isBelieved(directory: string): Promise<boolean> {
    const client = new WeirClient({ url: this.address, tlsDirectory: directory });
    try {
      // A reader that is believed may not ask this.
      return await client.call("/v1/authority", { response: Authority }).then(
        () => true,
        ({ code }) => {
          if (code !== "CERTIFICATE_REMOVED") equal(code, "FORBIDDEN");
          return code === "FORBIDDEN";
        },
      );
    } finally {
      client.close();
    }
  }

  #common(directory: string) {
    return {
      directory,
      owner: OWNER,
      cluster: "default",
      clock: this.clock,
      health: new Health(),
      log: Logger.silent(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener?.shutdown(0);
    await this.ca.stop();
    await this.#database.close();
    await Deno.remove(this.directory, { recursive: true });
    await Deno.remove(this.#planeDirectory, { recursive: true });
    await Deno.remove(this.databaseFile);
  }
}
