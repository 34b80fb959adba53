/** Where the page is served, as people write it. Light: the agent checks its options with it. @module */
import { parseHostPort } from "@weir/common/join-token";
import { isLoopback } from "@weir/common/listener";
import { UI_PORT } from "@weir/common/membership";
import { ProblemError } from "@weir/common/problem";

/** An address of this machine. */
export interface PageAddress {
  readonly hostname: string;
  /** 0: any that is free. */
  readonly port: number;
}

/**
 * Reads `ADDRESS[:12000]`; port 0 is any.
 * @param isGuarded there are TLS, and a token or certificates of browsers
 * @throws {ProblemError} LISTEN_INVALID; TCP_INSECURE: beyond loopback, and not guarded
 */
export function readPageAddress(listen: string, isGuarded: boolean): PageAddress {
  // Port 0 is none for others to connect to, and parseHostPort() refuses it.
  const isAny = listen.endsWith(":0");
  const address = parseHostPort(isAny ? `${listen.slice(0, -1)}1` : listen, UI_PORT);
  if (address === undefined) {
    throw new ProblemError("LISTEN_INVALID", {
      detail: `Cannot listen on ${JSON.stringify(listen)}: expected ADDRESS[:${UI_PORT}]`,
    });
  }
  const { hostname } = address;
  if (!isGuarded && !isLoopback(hostname.replace(/^\[|\]$/g, ""))) {
    throw new ProblemError("TCP_INSECURE", {
      detail:
        `Cannot listen on ${listen}: beyond loopback the page shows who talks to whom to nobody without a token or certificate`,
      expected:
        "a directory with node.crt, node.key and ca.crt, and a file with a token or certificates of that authority",
      action: "Give a directory of certificates and a file with a token, or listen on 127.0.0.1",
    });
  }
  return { hostname, port: isAny ? 0 : address.port };
}
