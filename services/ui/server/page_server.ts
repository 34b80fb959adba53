/** What the page's requests are answered from: the flows that are followed, the API, and the page's own files. @module */
import { Reflector, WeirClient } from "@weir/client";
import type { StatusTargets } from "@weir/client/status";
import { type Clock, type Handler, type Logger, ProblemError } from "@weir/common";
import { Node } from "@weir/proto/identity";
import { FlowSource } from "./flow_source.ts";
import { LivePictures } from "./live_pictures.ts";
import { NodeNames } from "./node_names.ts";
import { PageFiles } from "./page_files.ts";
import { Past } from "./past.ts";
import { apiRoutes } from "./routes.ts";

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

/** Options of {@link openPage}. */
export interface PageOptions {
  readonly services: UiServices;
  /** "", "/weir". */
  readonly basePath?: string;
  /** Directory of the built page. */
  readonly page: string;
  readonly lab?: string;
  readonly cluster?: string;
  /** Flows are followed so long after the last question, and the last stream that was read; default 5 minutes. */
  readonly idleMs?: number;
  readonly log: Logger;
  readonly clock: Clock;
}

/** A page that answers whoever is let in. */
export interface OpenPage {
  /** "/" or "/weir/". */
  readonly base: string;
  readonly handler: Handler;
  stop(): Promise<void>;
}

/** Follows the flows from the first question on, while somebody looks. @throws {ProblemError} BASE_PATH_INVALID, PAGE_MISSING */
export function openPage({ services, log, clock, ...options }: PageOptions): OpenPage {
  const base = basePathOf(options.basePath ?? ""), page = PageFiles.read(options.page);
  const stop = new AbortController(), { signal } = stop;
  const allocator = new WeirClient(services.identityAllocator),
    engine = new WeirClient(services.policyEngine);
  const names = new NodeNames();
  const nodes = new Reflector(allocator.collection("nodes", Node), {
    log,
    onChange: (name, node) => names.set(name, node),
  }).start();
  const source = new FlowSource({ sockets: services.flowSockets, clock, log, signal });
  const cluster = options.cluster ?? "default";
  const past = new Past({ address: services.flowHistory, names, clock, cluster });
  const named = Promise.race([nodes.waitSynced(signal), clock.sleep(NAMES_MS_MAX, signal)]).catch(() => {});
  const lives = new LivePictures({
    source,
    names,
    named,
    idleMs: options.idleMs,
    onRest() {
      source.rest();
      past.rest();
    },
    clock,
    signal,
  });
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
  return {
    base,
    handler: pageHandler(api.fetch as Handler, page, { base, onLook: () => lives.look() }),
    async stop() {
      stop.abort();
      await Promise.all([nodes.stop(), lives.ended()]);
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

/** The API, the page's files, and the page itself for all paths of its own. Whoever asks for either but files looks. */
function pageHandler(
  api: Handler,
  page: PageFiles,
  { base, onLook }: { base: string; onLook: () => void },
): Handler {
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
      onLook();
      url.pathname = path.slice(3);
      const { method, headers, body, signal } = request;
      return api(new Request(url, { method, headers, body, signal }));
    }
    const asset = path.startsWith("assets/") ? page.asset(path) : undefined;
    if (asset !== undefined) {
      const headers = { "content-type": asset.type, "cache-control": "public, max-age=31536000, immutable" };
      return new Response(asset.bytes, { headers });
    }
    if (path.includes(".")) throw notFound();
    // Flows are there when the page's scripts ask for them.
    onLook();
    return new Response(index.bytes, {
      headers: { "content-type": index.type, "cache-control": "no-cache" },
    });
  };
}

function notFound(): ProblemError {
  return new ProblemError("NOT_FOUND", { status: 404, detail: "There is nothing here" });
}
