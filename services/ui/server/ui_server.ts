/**
 * The page's server as one value: `startUi()` follows the flows, listens, and is stopped. `weir ui` runs it in the foreground with the
 * caller's rights, the agent as a process of its own with the rights of a reader.
 * @module
 */
import { Reflector, WeirClient } from "@weir/client";
import type { StatusTargets } from "@weir/client/status";
import {
  type Clock,
  type Handler,
  hostPort,
  type Logger,
  parseHostPort,
  ProblemError,
  systemClock,
} from "@weir/common";
import { Node } from "@weir/proto/identity";
import { FlowSource } from "./flow_source.ts";
import { guard, type GuardLimits } from "./guard.ts";
import { listenWeb, type WebTls } from "./web_listener.ts";
import { LivePictures } from "./live_pictures.ts";
import { NodeNames } from "./node_names.ts";
import { Past } from "./past.ts";
import { PageFiles } from "./page_files.ts";
import { apiRoutes } from "./routes.ts";
import { isLoopback } from "@weir/common";

/** Port of the page. */
export const UI_PORT = 12_000;
/** Flows wait so long for the names of nodes. */
const NAMES_MS_MAX = 3000;

/** Where everything is that the page shows. */
export interface UiServices {
  /** Sockets with Hubble's Observer, the best first: the relay's, this node's. */
  readonly flowSockets: readonly string[];
  readonly identityAllocator: string;
  readonly policyEngine: string;
  /** Address of the flow history; undefined: there is none here. */
  readonly flowHistory?: string;
  readonly status: StatusTargets;
}

/** Options of {@link startUi}. */
export interface UiOptions {
  readonly services: UiServices;
  /** ADDRESS[:12000]; port 0: any. */
  readonly listen: string;
  /** "", "/weir". */
  readonly basePath?: string;
  /** Names beside the address under which browsers come, as behind a proxy. */
  readonly hosts?: readonly string[];
  readonly token?: string;
  /** Beyond loopback. */
  readonly tls?: WebTls;
  /** Directory of the built page. */
  readonly page: string;
  readonly lab?: string;
  readonly cluster?: string;
  readonly limits?: Partial<GuardLimits>;
  readonly log: Logger;
  readonly clock?: Clock;
  readonly onRefused?: (code: string) => void;
}

/** A server that runs. */
export interface RunningUi {
  /** Where a browser finds it, without the token. */
  readonly address: string;
  stop(): Promise<void>;
}

/** @throws {ProblemError} an address that cannot be listened on, or may not; a page that is not built */
export async function startUi(options: UiOptions): Promise<RunningUi> {
  const { services, log, clock = systemClock, tls } = options;
  const base = basePathOf(options.basePath ?? "");
  const { hostname, port } = listenAddressOf(options);
  const page = PageFiles.read(options.page);
  const stop = new AbortController(), { signal } = stop;
  const allocator = new WeirClient(services.identityAllocator),
    engine = new WeirClient(services.policyEngine);
  const names = new NodeNames();
  const nodes = new Reflector(allocator.collection("nodes", Node), {
    log,
    onChange: (name, node) => names.set(name, node),
  }).start();
  const source = new FlowSource({ sockets: services.flowSockets, clock, log, signal });
  const lives = new LivePictures({ source, names, clock, signal });
  const cluster = options.cluster ?? "default";
  const past = new Past({ address: services.flowHistory, names, clock, cluster });
  const api = apiRoutes({
    past,
    lives,
    source,
    names,
    engine,
    status: services.status,
    lab: options.lab ?? "",
    cluster,
    clock,
    signal,
  });
  const listener = await listenWeb(
    guard(pageHandler(api.fetch as Handler, page, base), {
      base,
      hosts: [hostname, ...options.hosts ?? []].map((name) => name.toLowerCase()),
      loopback: isLoopback(hostname),
      token: options.token,
      tls: tls !== undefined,
      limits: options.limits,
      nowMs: () => clock.monotonicMs(),
      onRefused: options.onRefused,
    }),
    { hostname, port, tls, log, clock },
  ).catch(async (error) => {
    stop.abort();
    await nodes.stop();
    throw error;
  });
  const following = Promise.race([nodes.waitSynced(signal), clock.sleep(NAMES_MS_MAX, signal)])
    .then(() => source.follow(lives.whole.picture));
  return {
    address: `${tls === undefined ? "http" : "https"}://${hostPort(hostname, listener.port)}${base}`,
    async stop() {
      stop.abort();
      await listener.shutdown();
      await Promise.all([nodes.stop(), following]);
      past.close();
      allocator.close();
      engine.close();
    },
  };
}

/** "/weir" -> "/weir/". @throws {ProblemError} BASE_PATH_INVALID */
export function basePathOf(text: string): string {
  const path = `/${text.replace(/^\/+|\/+$/g, "")}/`.replace("//", "/");
  if (/^\/(?:[A-Za-z0-9._~-]+\/)*$/.test(path) && !path.split("/").includes("..")) return path;
  throw new ProblemError("BASE_PATH_INVALID", {
    detail: `Cannot take base path ${JSON.stringify(text)}`,
    expected: "a path of letters, digits and . _ ~ -, such as /weir",
  });
}

function listenAddressOf({ listen, tls, token }: UiOptions): { hostname: string; port: number } {
  // Port 0, any that is free, is none for others to connect to, and parseHostPort() refuses it.
  const isAny = listen.endsWith(":0");
  const address = parseHostPort(isAny ? `${listen.slice(0, -1)}1` : listen, UI_PORT);
  if (address === undefined) {
    throw new ProblemError("LISTEN_INVALID", {
      detail: `Cannot listen on ${JSON.stringify(listen)}`,
      expected: `ADDRESS[:${UI_PORT}]`,
    });
  }
  const { hostname } = address, port = isAny ? 0 : address.port;
  if (!isLoopback(hostname) && (tls === undefined || (token === undefined && tls.authority === undefined))) {
    throw new ProblemError("TCP_INSECURE", {
      detail:
        `Cannot listen on ${listen}: beyond loopback the page shows who talks to whom to nobody without a token or certificate`,
      expected:
        "a directory with node.crt, node.key and ca.crt, and a file with a token or certificates of that authority",
      action: "Give --tls-directory and --token-file, or listen on 127.0.0.1",
    });
  }
  return { hostname, port };
}

/** The API, the page's files, and the page itself for all paths of its own. */
function pageHandler(api: Handler, page: PageFiles, base: string): Handler {
  const index = page.index(base);
  return (request) => {
    const url = new URL(request.url);
    if (!url.pathname.startsWith(base)) {
      if (`${url.pathname}/` === base) {
        return new Response(null, { status: 308, headers: { location: base } });
      }
      throw notFound();
    }
    const path = url.pathname.slice(base.length);
    if (path.startsWith("api/")) {
      url.pathname = path.slice(3);
      return api(
        new Request(url, { method: request.method, headers: request.headers, signal: request.signal }),
      );
    }
    const asset = path.startsWith("assets/") ? page.asset(path) : undefined;
    if (asset !== undefined) {
      const headers = { "content-type": asset.type, "cache-control": "public, max-age=31536000, immutable" };
      return new Response(asset.bytes, { headers });
    }
    if (path.includes(".")) throw notFound();
    return new Response(index.bytes, {
      headers: { "content-type": index.type, "cache-control": "no-cache" },
    });
  };
}

function notFound(): ProblemError {
  return new ProblemError("NOT_FOUND", { status: 404, detail: "There is nothing here" });
}
