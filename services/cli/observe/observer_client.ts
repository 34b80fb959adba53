/**
 * `weir observe --server tls://ADDRESS:4245`: the flows of a relay, a node, or any other server with Hubble's API, over gRPC.
 *
 * @module
 */
import { readInputTextSync } from "@weir/common/input-file";
import { hostPort, parseHostPort } from "@weir/common/join-token";
import {
  GetAgentEventsRequest,
  GetAgentEventsResponse,
  GetFlowsRequest,
  GetFlowsResponse,
} from "@weir/proto/observer";
import { ProblemError } from "@weir/common/problem";
import type { Message } from "@weir/proto";
import { UsageError } from "../context.ts";

const HINT = "weir help observe";
const FILE_BYTES_MAX = 1 << 20;
/** Port of a relay, as with `hubble`. */
const PORT_DEFAULT = 4245;

/** What is shown to a server, and whom it is to be. */
export interface ServerFlags {
  /** TLS was asked for, by a flag or an address. */
  readonly isTls: boolean;
  readonly isInsecure: boolean;
  readonly authorityFiles: readonly string[];
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly serverName?: string;
  readonly timeoutMs: number;
}

/** A server of Hubble's API. */
export interface ObserverServer {
  readonly address: { readonly hostname: string; readonly port: number } | { readonly path: string };
  readonly isTls: boolean;
  readonly flags: ServerFlags;
}

/**
 * The server that `--server` means, if it is one of Hubble's API: `tls://ADDRESS[:4245]`, `ADDRESS:PORT`, or a unix socket whose
 * name begins with hubble. Undefined: it is none, or one of Weir's own services. @throws {UsageError}
 */
export function observerServer(server: string | undefined, flags: ServerFlags): ObserverServer | undefined {
  if (server === undefined) {
    if (flags.isTls) throw new UsageError("The flags --tls... are for --server tls://ADDRESS:4245", HINT);
    return undefined;
  }
  const path = /^unix:(?:\/\/(?=\/))?(\/.*)$/.exec(server)?.[1];
  if (path !== undefined) {
    return /\/hubble[^/]*$/.test(path) ? { address: { path }, isTls: false, flags } : undefined;
  }
  const [, scheme, rest] = /^([a-z]+):\/\/(.*)$/.exec(server) ?? [undefined, "", server];
  if (scheme !== "" && scheme !== "tls") {
    if (flags.isTls) {
      throw new UsageError(`--server is "${server}": expected tls://ADDRESS:4245 beside --tls...`, HINT);
    }
    return undefined;
  }
  const address = parseHostPort(rest, PORT_DEFAULT);
  if (address === undefined) {
    throw new UsageError(
      `--server is "${server}": expected tls://ADDRESS:${PORT_DEFAULT} or ADDRESS:PORT`,
      HINT,
    );
  }
  return {
    address: { hostname: address.hostname.replace(/^\[|\]$/g, ""), port: address.port },
    isTls: flags.isTls || scheme === "tls",
    flags,
  };
}

/** Flows as the server sends them. @throws {Error} with the server's words */
export async function* observerFlows(
  server: ObserverServer,
  query: Readonly<Record<string, readonly string[]>>,
  { follow, signal }: { follow: boolean; signal: AbortSignal },
): AsyncGenerator<GetFlowsResponse> {
  const { readFlowsQuery } = await import("@weir/flow-filter");
  const parameters = new URLSearchParams(
    Object.entries(query).flatMap(([name, values]) => values.map((value) => [name, value])),
  );
  const request = { ...readFlowsQuery(parameters, Date.now()), follow };
  const isOpen = follow || request.since !== undefined || request.until !== undefined;
  if (!request.number && !isOpen) request.number = FLOWS_ASKED;
  yield* stream(server, "GetFlows", GetFlowsRequest.encode(request), GetFlowsResponse, signal);
}
/** What a server is asked for where nobody says how many, as `hubble` does. */
const FLOWS_ASKED = 20;

/** Events of a node's agent as the server sends them. @throws {Error} with the server's words */
export async function* observerEvents(
  server: ObserverServer,
  query: Readonly<Record<string, readonly string[]>>,
  { follow, signal }: { follow: boolean; signal: AbortSignal },
): AsyncGenerator<GetAgentEventsResponse> {
  const { readEventsQuery } = await import("@weir/flow-filter");
  const parameters = new URLSearchParams(
    Object.entries(query).flatMap(([name, values]) => values.map((value) => [name, value])),
  );
  const request = { ...readEventsQuery(parameters, Date.now()), follow };
  if (!request.number && !request.since && !request.until) request.number = FLOWS_ASKED;
  yield* stream(
    server,
    "GetAgentEvents",
    GetAgentEventsRequest.encode(request),
    GetAgentEventsResponse,
    signal,
  );
}

async function* stream<T>(
  { address, isTls, flags }: ObserverServer,
  method: string,
  request: Uint8Array,
  message: Message<T>,
  signal: AbortSignal,
): AsyncGenerator<T> {
  const { connectGrpc, GrpcError } = await import("@weir/grpc");
  const text = "path" in address ? `unix://${address.path}` : hostPort(address.hostname, address.port);
  try {
    const connection = await connectGrpc(address, {
      signal,
      limits: { connectMsMax: flags.timeoutMs },
      ...(isTls ? { tls: tlsOf(flags) } : {}),
    });
    try {
      for await (const batch of connection.stream(`/observer.Observer/${method}`, request, { signal })) {
        for (const bytes of batch) yield message.decode(bytes);
      }
    } finally {
      connection.close();
    }
  } catch (error) {
    if (!(error instanceof GrpcError)) throw error;
    if (signal.aborted && error.status !== "INVALID_ARGUMENT") return;
    const isOurs = error.status === "INVALID_ARGUMENT";
    throw new ProblemError(isOurs ? "QUERY_INVALID" : "OBSERVER_FAILED", {
      status: isOurs ? 400 : 503,
      detail: `${text}: ${error.message}`,
      ...(error.status === "UNAVAILABLE" && !isTls && !("path" in address)
        ? {
          action:
            "A server beyond loopback wants TLS: --server tls://..., --tls-ca-cert-files and a client certificate",
        }
        : {}),
      cause: error,
    });
  }
}

function tlsOf({ authorityFiles, certFile, keyFile, serverName, isInsecure }: ServerFlags) {
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new UsageError("--tls-client-cert-file and --tls-client-key-file go together", HINT);
  }
  const read = (path: string) => readInputTextSync(path, { bytesMax: FILE_BYTES_MAX });
  return {
    ...(certFile === undefined ? {} : { cert: read(certFile), key: read(keyFile!) }),
    ...(authorityFiles.length === 0 ? {} : { authority: authorityFiles.map(read).join("\n") }),
    ...(serverName === undefined ? {} : { serverName }),
    isInsecure,
  };
}
