/** How requests reach a service: a unix socket, TCP, or a handler in this process. @module */
import type { Handler } from "@weir/common";

/** Where a service is. Exactly one of the three. */
export type Target =
  /** Path of its unix socket. */
  | { socket: string }
  /** Base URL, e.g. "https://10.0.0.1:9901"; `ca` are PEM certificates to trust. */
  | { url: string; token?: string; ca?: string[] }
  /** Handler of a service in this process, for tests. */
  | { handler: Handler };

/** Sends requests to one service. */
export interface Transport {
  /** For messages: "unix:/run/weir/x.sock". */
  readonly address: string;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  close(): void;
}

/** Options that Deno takes and the DOM's type does not know. */
type DenoInit = RequestInit & { client?: Deno.HttpClient };

/** The transport for a target. A text is a URL or, with a slash at its beginning or "unix:", a socket. */
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
    return {
      address: `unix:${target.socket}`,
      fetch: (path, init) => fetch(`http://localhost${path}`, { ...init, client } as DenoInit),
      close: () => client.close(),
    };
  }
  const client = target.ca === undefined ? undefined : Deno.createHttpClient({ caCerts: target.ca });
  const base = target.url.replace(/\/+$/, "");
  return {
    address: base,
    fetch: (path, init) => {
      const headers = new Headers(init?.headers);
      if (target.token !== undefined) headers.set("authorization", `Bearer ${target.token}`);
      return fetch(base + path, { ...init, headers, client } as DenoInit);
    },
    close: () => client?.close(),
  };
}

function targetOf(text: string): Target {
  if (text.startsWith("unix:")) return { socket: text.slice("unix:".length).replace(/^\/\/(?=\/)/, "") };
  return text.startsWith("/") ? { socket: text } : { url: text.includes("://") ? text : `http://${text}` };
}
