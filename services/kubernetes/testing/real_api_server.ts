/**
 * A real API server on a real etcd, of this machine alone: for tests of what no server of ours would do by itself. The
 * programs are those that `tests/kubernetes` builds.
 * @module
 */
import { type ApiAccess, certificatesOf, FixedToken } from "../api/access.ts";
import { ApiClient } from "../api/client.ts";

const PROJECT = new URL("../../../", import.meta.url).pathname.replace(/\/$/, "");
const CACHE = Deno.env.get("WEIR_KUBERNETES_CACHE") || `${PROJECT}/.build/kubernetes`;
const KUBE = `${CACHE}/bin/kube`, ETCD = `${CACHE}/packages/usr/bin/etcd`;
const START_MS_MAX = 90_000;
/** Of the user `admin`, who may do everything. */
const ADMIN_TOKEN = "admin-token";

/** Why a test with the real one cannot run here; undefined when it can. */
export function missingPrograms(): string | undefined {
  const missing = [KUBE, ETCD].filter((path) => {
    try {
      return !Deno.statSync(path).isFile;
    } catch {
      return true;
    }
  });
  return missing.length === 0 ? undefined : `not built: ${missing.join(", ")} (tests/kubernetes/build)`;
}

/** What is not usual of a {@link RealApiServer}. */
export interface RealApiServerOptions {
  /** Names of users without any right, by their tokens. */
  users?: Record<string, string>;
  /** Whether every request is written down, see {@link RealApiServer.audit}. */
  audit?: boolean;
}

/** One request as the API server wrote it down. */
export interface AuditEvent {
  verb: string;
  user: { username: string };
  objectRef?: {
    apiGroup?: string;
    resource?: string;
    subresource?: string;
    namespace?: string;
    name?: string;
  };
  responseStatus?: { code?: number };
}

/** Starts with {@link RealApiServer.start}; dispose of it with `await using`. */
export class RealApiServer implements AsyncDisposable {
  #etcd: Deno.ChildProcess | undefined;
  #kube: Deno.ChildProcess | undefined;
  #authorities: string[] = [];
  readonly #clients: ApiClient[] = [];

  private constructor(
    readonly options: RealApiServerOptions,
    readonly directory: string,
    readonly etcdPort: number,
    readonly peerPort: number,
    readonly port: number,
  ) {}

  static async start(options: RealApiServerOptions = {}): Promise<RealApiServer> {
    const directory = await Deno.makeTempDir({ prefix: "weir-api-server-" });
    const server = new RealApiServer(options, directory, freePort(), freePort(), freePort());
    try {
      await Deno.writeTextFile(
        `${directory}/tokens.csv`,
        [
          `${ADMIN_TOKEN},admin,1,"system:masters"\n`,
          ...Object.entries(options.users ?? {}).map(([token, user]) => `${token},${user},${user},"users"\n`),
        ].join(""),
      );
      const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
        "sign",
        "verify",
      ]);
      await Deno.writeTextFile(`${directory}/sa.key`, await pem("pkcs8", "PRIVATE KEY", keys.privateKey));
      await Deno.writeTextFile(`${directory}/sa.pub`, await pem("spki", "PUBLIC KEY", keys.publicKey));
      server.startEtcd();
      server.startKube();
      await server.waitReady();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** As an administrator, or with the token of somebody else. */
  access(token = ADMIN_TOKEN): ApiAccess {
    return {
      server: `https://127.0.0.1:${this.port}`,
      authorities: this.#authorities,
      token: new FixedToken(token),
    };
  }

  client(token?: string): ApiClient {
    const client = new ApiClient(this.access(token));
    this.#clients.push(client);
    return client;
  }

  /** @param data folder of the store; another one: an older copy */
  startEtcd(data = `${this.directory}/etcd`): void {
    const url = `http://127.0.0.1:${this.etcdPort}`, peer = `http://127.0.0.1:${this.peerPort}`;
    this.#etcd = this.#spawn("etcd", ETCD, [
      "--data-dir",
      data,
      "--listen-client-urls",
      url,
      "--advertise-client-urls",
      url,
      "--listen-peer-urls",
      peer,
      "--initial-advertise-peer-urls",
      peer,
      "--initial-cluster",
      `default=${peer}`,
      "--unsafe-no-fsync",
    ]);
  }

  startKube(): void {
    this.#kube = this.#spawn("kube-apiserver", KUBE, [
      "kube-apiserver",
      `--etcd-servers=http://127.0.0.1:${this.etcdPort}`,
      "--bind-address=127.0.0.1",
      // Nobody goes there; without one it looks for a route, which a network of its own has not.
      "--advertise-address=192.0.2.1",
      `--secure-port=${this.port}`,
      `--cert-dir=${this.directory}/certificates`,
      `--token-auth-file=${this.directory}/tokens.csv`,
      `--service-account-key-file=${this.directory}/sa.pub`,
      `--service-account-signing-key-file=${this.directory}/sa.key`,
      "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
      "--service-cluster-ip-range=10.96.0.0/16",
      "--authorization-mode=RBAC",
      "--disable-admission-plugins=ServiceAccount",
      ...this.#auditArguments(),
    ]);
  }

  async waitReady(): Promise<void> {
    const endMs = performance.now() + START_MS_MAX;
    let last: unknown;
    while (performance.now() < endMs) {
      const ended = await Promise.race([
        this.#kube?.status,
        new Promise<void>((resolve) => setTimeout(resolve, 200)),
      ]);
      if (ended) break;
      try {
        this.#authorities = certificatesOf(
          Deno.readTextFileSync(`${this.directory}/certificates/apiserver.crt`),
        );
        const client = new ApiClient(this.access());
        try {
          if ((await client.text("/readyz", { deadlineMs: 2000 })) === "ok") return;
        } finally {
          client.close();
        }
      } catch (error) {
        last = error;
      }
    }
    throw new Error(`The API server does not get ready: ${last}\n${this.log("kube-apiserver")}`);
  }

  /** What was asked so far; a watch appears when it begins and when it ends. */
  audit(): AuditEvent[] {
    return Deno.readTextFileSync(`${this.directory}/audit.log`).trim().split("\n").map((line) =>
      JSON.parse(line)
    );
  }

  #auditArguments(): string[] {
    if (!this.options.audit) return [];
    Deno.writeTextFileSync(
      `${this.directory}/audit.yaml`,
      "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n",
    );
    return [
      `--audit-policy-file=${this.directory}/audit.yaml`,
      `--audit-log-path=${this.directory}/audit.log`,
    ];
  }

  /** The end of what a program said. */
  log(name: string): string {
    return Deno.readTextFileSync(`${this.directory}/${name}.log`).slice(-3000);
  }

  async stopKube(): Promise<void> {
    await end(this.#kube);
    this.#kube = undefined;
  }

  async stopEtcd(): Promise<void> {
    await end(this.#etcd);
    this.#etcd = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.stopKube();
    await this.stopEtcd();
    await Deno.remove(this.directory, { recursive: true });
  }

  /** Ends with this process too, however that ends. */
  #spawn(name: string, command: string, args: string[]): Deno.ChildProcess {
    const log = `${this.directory}/${name}.log`;
    return new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "sh", "-c", `exec "$0" "$@" >>${log} 2>&1`, command, ...args],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }
}

async function end(process: Deno.ChildProcess | undefined): Promise<void> {
  if (process === undefined) return;
  try {
    process.kill("SIGKILL");
  } catch {
    // It has ended by itself.
  }
  await process.status;
}

async function pem(format: "pkcs8" | "spki", words: string, key: CryptoKey): Promise<string> {
  const der = new Uint8Array(await crypto.subtle.exportKey(format, key));
  const base64 = btoa(String.fromCharCode(...der)).replace(/.{64}/g, "$&\n");
  return `-----BEGIN ${words}-----\n${base64}\n-----END ${words}-----\n`;
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
