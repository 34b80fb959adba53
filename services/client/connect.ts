/** How requests reach a service: a unix socket, TCP, or a handler in this process. @module */
import { systemClock } from "@weir/common/clock";
import { credentialPaths, TlsFiles } from "@weir/common/tls-files";
import { ReplicaTransport } from "./replica_transport.ts";
import type { Target, Transport, UrlTarget } from "./transport.ts";

/** Options that Deno takes and the DOM's type does not know. */
type DenoInit = RequestInit & { client?: Deno.HttpClient };

/**
 * The transport for a target. As a text: a path or "unix:PATH" is a socket, everything else URLs of replicas; what stands
 * after `#` is the directory of certificates: `https://10.0.0.1:7441,https://10.0.0.2:7441#/var/lib/weir/host`.
 */
export function connectTo(target: Target | string): Transport {
  if (typeof target === "string") return connectTo(targetOf(target));
  if ("handler" in target) {
    const { handler } = target;
    return {
      address: "in-process",
      fetch: async (path, init) => {
        const answer = await handler(new Request(`http://localhost${path}`, init));
        if (!init?.signal || answer.body === null) return answer;
        // Without a socket between, nothing else ends the handler's stream when the caller aborts.
        return new Response(answer.body.pipeThrough(new TransformStream(), { signal: init.signal }), answer);
      },
      close() {},
    };
  }
  if ("socket" in target) {
    const client = Deno.createHttpClient({ proxy: { transport: "unix", path: target.socket } });
    // Deno asks for the right to this host, and looks its name up. Port 2 is nobody's, and none that fetch() refuses.
    const { host = "localhost:2" } = target;
    return {
      address: `unix:${target.socket}`,
      fetch: (path, init) => fetch(`http://${host}${path}`, { ...init, client } as DenoInit),
      close: () => client.close(),
    };
  }
  return new ReplicaTransport(
    target.url.split(",").map((url) => url.trim().replace(/\/+$/, "")).filter((url) => url !== ""),
    {
      clock: target.clock ?? systemClock,
      token: target.token,
      ca: target.ca,
      first: target.first,
      fetch: target.fetch,
      files: target.tlsDirectory === undefined
        ? undefined
        : new TlsFiles(credentialPaths(target.tlsDirectory)),
    },
  );
}

/** Reads a target's text form, see {@link connectTo}. */
export function targetOf(text: string): { socket: string } | UrlTarget {
  if (text.startsWith("unix:")) return { socket: text.slice("unix:".length).replace(/^\/\/(?=\/)/, "") };
  if (text.startsWith("/")) return { socket: text };
  const [urls, tlsDirectory] = text.split("#", 2);
  const url = urls.split(",").map((one) => one.includes("://") ? one : `http://${one}`).join(",");
  return { url, ...(tlsDirectory ? { tlsDirectory } : {}) };
}
