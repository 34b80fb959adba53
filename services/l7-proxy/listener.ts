/** The port at which redirected connections arrive. @module */
import { type Clock, errorText, type Health, type Logger } from "@weir/common";
import type { Accepted } from "./proxy.ts";

/** What {@link listen} needs. */
export interface ListenOptions {
  readonly port: number;
  /** Other processes of this user may take connections there too. */
  readonly isShared?: boolean;
  readonly serve: (accepted: Accepted) => Promise<void>;
  readonly health: Health;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

const RETRY_MS = 500;
/** Accepting fails for want of files, or for what a peer did: the next one may succeed. */
const ACCEPT_RETRY_MS = 20;

/** Listens on every address of the node, of both families, and accepts until `signal` aborts. */
export async function listen(options: ListenOptions): Promise<void> {
  const { health, clock, log, signal, port } = options;
  health.waitFor("listener", `waits for port ${port}`);
  while (!signal.aborted) {
    try {
      using listener = open(port, options.isShared);
      const close = () => listener.close();
      signal.addEventListener("abort", close, { once: true });
      health.ok("listener", `port ${port}`);
      await accept(listener, options);
      signal.removeEventListener("abort", close);
    } catch (error) {
      if (signal.aborted) return;
      health.waitFor("listener", errorText(error));
      log.warn("Cannot listen", { port, error });
    }
    await clock.sleep(RETRY_MS, signal);
  }
}

/** One socket for both families, but where the kernel has no IPv6. */
function open(port: number, reusePort = false): Deno.TcpListener {
  try {
    return Deno.listen({ hostname: "::", port, reusePort });
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) throw error;
    return Deno.listen({ hostname: "0.0.0.0", port, reusePort });
  }
}

async function accept(
  listener: Deno.TcpListener,
  { serve, clock, log, signal }: ListenOptions,
): Promise<void> {
  let fails = 0;
  while (!signal.aborted) {
    try {
      const socket = await listener.accept();
      fails = 0;
      socket.setNoDelay(true);
      const { remoteAddr } = socket;
      void serve({
        socket,
        address: unmapped(socket.localAddr.hostname),
        peer: { address: unmapped(remoteAddr.hostname), port: remoteAddr.port },
      });
    } catch (error) {
      if (signal.aborted) return;
      if (++fails > 100) throw error;
      log.warn("Cannot accept a connection", { error });
      await clock.sleep(ACCEPT_RETRY_MS, signal);
    }
  }
}

/** What came by IPv4 has its address within IPv6's. */
function unmapped(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, "");
}
