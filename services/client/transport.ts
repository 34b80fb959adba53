/** Where a service is, and what sends requests to it. @module */
import type { Clock } from "@weir/common/clock";
import type { Handler } from "@weir/common/handler";

/** Where a service is. Exactly one of the three. */
export type Target =
  /** Path of its unix socket; `host`: in the URLs, for whom Deno does not let speak to the default `localhost:2`. */
  | { socket: string; host?: string }
  /** One or several services of the same state, by URL. */
  | UrlTarget
  /** Handler of a service in this process, for tests. */
  | { handler: Handler };

/** A service on TCP. */
export interface UrlTarget {
  /** Base URLs of replicas, comma-separated: "https://10.0.0.1:7441,https://10.0.0.2:7441". */
  url: string;
  /** Bearer token, where this machine has no certificate. */
  token?: string;
  /** PEM certificates to trust, where there is no directory. */
  ca?: string[];
  /** Directory with node.crt, node.key and ca.crt: mutual TLS, with the files as they are now. */
  tlsDirectory?: string;
  clock?: Clock;
  /** Index of the URL to begin with; default: any. */
  first?: number;
  /** How one URL is asked; default: the runtime's `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** Sends requests to one service. */
export interface Transport {
  /** For messages: "unix:/run/weir/x.sock". */
  readonly address: string;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  close(): void;
}
