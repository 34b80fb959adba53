/** A port of loopback that leads elsewhere, as long as a command runs. @module */
import { connect, createServer, type Socket } from "node:net";
import { errorText } from "@weir/common/log";
import { hostPort } from "@weir/common/join-token";
import { ProblemError } from "@weir/common/problem";
import { readPageAddress } from "@weir/ui/listen-address";

const CONNECTIONS_MAX = 256;

/** Leads one connection on, and ends it when its other side ends. What it answers is disposed of when the connection ends. */
export type Lead = (local: Socket) => Disposable;

/** Options of {@link forwardPort}. */
export interface ForwardOptions {
  /** ADDRESS[:12000] of loopback; port 0: any. */
  readonly listen: string;
  /** Takes another port where this one is taken. */
  readonly isAnyPort?: boolean;
  /** Where each connection is led to. */
  readonly lead: Lead;
}

/** A port that is led. */
export interface Forward {
  /** "127.0.0.1:12000". */
  readonly address: string;
  stop(): Promise<void>;
}

/** To a unix socket. Who is behind it may come and go. */
export function toSocket(path: string): Lead {
  return (local) => {
    const service = connect({ path });
    service.on("error", () => {});
    service.on("close", () => local.destroy());
    local.pipe(service).pipe(local);
    return { [Symbol.dispose]: () => void service.destroy() };
  };
}

/** Listens. @throws {ProblemError} LISTEN_INVALID, TCP_INSECURE, TCP_FAILED */
export async function forwardPort({ listen, isAnyPort = false, lead }: ForwardOptions): Promise<Forward> {
  const { hostname, port } = readPageAddress(listen, false), open = new Set<Socket>();
  const server = createServer((local) => {
    open.add(local);
    local.on("error", () => {});
    const led = lead(local);
    local.on("close", () => {
      open.delete(local);
      led[Symbol.dispose]();
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  const bind = (to: number) =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(to, hostname, () => {
        server.off("error", reject);
        resolve();
      });
    });
  try {
    await bind(port).catch((error) => isAnyPort ? bind(0) : Promise.reject(error));
  } catch (cause) {
    throw new ProblemError("TCP_FAILED", {
      detail: `Cannot listen on ${hostPort(hostname, port)}: ${errorText(cause)}`,
      action: "Choose another port with --listen",
      cause,
    });
  }
  return {
    address: hostPort(hostname, (server.address() as { port: number }).port),
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const one of open) one.destroy();
      await closed;
    },
  };
}
