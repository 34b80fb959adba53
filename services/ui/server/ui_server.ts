/** The page's server in a process of somebody's own, with that one's rights: `startUi()` opens the page, listens, and is stopped. @module */
import { randomBytes } from "node:crypto";
import { hostPort, isLoopback, systemClock } from "@weir/common";
import { guard, type GuardLimits } from "./guard.ts";
import { readPageAddress } from "./listen_address.ts";
import { openPage, type PageOptions } from "./page_server.ts";
import { SESSION_KEY_BYTES, Sessions } from "./sessions.ts";
import { listenWeb, type WebTls } from "./web_listener.ts";

/** Options of {@link startUi}. */
export interface UiOptions extends Omit<PageOptions, "clock"> {
  readonly clock?: PageOptions["clock"];
  /** ADDRESS[:12000]; port 0: any. */
  readonly listen: string;
  /** Names beside the address under which browsers come, as behind a proxy. */
  readonly hosts?: readonly string[];
  /** What must be shown; undefined: nothing, and every user of the machine may read. */
  readonly token?: string;
  /** Beyond loopback. */
  readonly tls?: WebTls;
  readonly limits?: Partial<GuardLimits>;
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
  const { log, clock = systemClock, tls, token, hosts = [] } = options;
  const isGuarded = tls !== undefined && (token !== undefined || tls.authority !== undefined);
  const address = readPageAddress(options.listen, isGuarded);
  const page = openPage({ ...options, clock });
  try {
    const listener = await listenWeb(
      guard(page.handler, {
        base: page.base,
        hosts: [address.hostname, ...hosts].map((name) => name.toLowerCase()),
        loopback: isLoopback(address.hostname),
        token,
        takesCertificates: tls?.authority !== undefined,
        sessions: new Sessions({ key: randomBytes(SESSION_KEY_BYTES), nowS: () => clock.nowMs() / 1000 }),
        tls: tls !== undefined,
        limits: options.limits,
        nowMs: () => clock.monotonicMs(),
        onRefused: options.onRefused,
      }),
      { address, tls, log, clock },
    );
    return {
      address: `${tls === undefined ? "http" : "https"}://${
        hostPort(address.hostname, listener.port)
      }${page.base}`,
      async stop() {
        await Promise.all([listener.shutdown(), page.stop()]);
      },
    };
  } catch (error) {
    await page.stop();
    throw error;
  }
}
