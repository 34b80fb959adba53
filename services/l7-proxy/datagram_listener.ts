/** The socket at which redirected datagrams arrive. @module */
import { type Clock, errorText, type Health, type Logger } from "@weir/common";
import type { DnsDatagrams } from "./dns/mod.ts";

/** What {@link listenForDatagrams} needs. */
export interface DatagramListenOptions {
  readonly port: number;
  readonly datagrams: DnsDatagrams;
  /** Without handles of IPv6 the socket is IPv4's alone: that is all the process may speak. */
  readonly hasIpv6: boolean;
  readonly health: Health;
  readonly clock: Clock;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

const RETRY_MS = 500;
const SWEEP_MS = 1000;

/**
 * Takes datagrams at every address of the node until `signal` aborts. Of several processes each has a port of its own, and the datapath sends both legs of
 * a flow to one: by a shared port the kernel would divide the legs.
 */
export async function listenForDatagrams(options: DatagramListenOptions): Promise<void> {
  const { datagrams, health, clock, log, signal, port } = options;
  let said = "";
  const sweeping = sweep(options);
  while (!signal.aborted) {
    try {
      const socket = open(options);
      const close = () => socket.close();
      signal.addEventListener("abort", close, { once: true });
      said = "";
      health.ok("datagrams", `port ${port}`);
      try {
        await datagrams.serve(socket);
      } finally {
        signal.removeEventListener("abort", close);
        if (!signal.aborted) close();
      }
    } catch (error) {
      if (signal.aborted) break;
      const text = errorText(error);
      health.waitFor("datagrams", text);
      if (text !== said) log.warn("Cannot take datagrams", { port, error });
      said = text;
    }
    await clock.sleep(RETRY_MS, signal);
  }
  await sweeping;
}

async function sweep({ datagrams, clock, signal }: DatagramListenOptions): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(SWEEP_MS, signal);
    datagrams.sweep();
  }
}

/** One socket for both families, but where the kernel has no IPv6. Without `reusePort`: both legs of a flow must come here. */
function open({ port, hasIpv6 }: DatagramListenOptions): Deno.DatagramConn {
  try {
    if (hasIpv6) return Deno.listenDatagram({ transport: "udp", hostname: "::", port });
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) throw error;
  }
  return Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port });
}
