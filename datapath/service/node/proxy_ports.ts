/**
 * Who has a port of the proxy's and is not the proxy: programs keep it from everybody else (bpf_socket.c, bind), but not from who had it before they
 * hung there.
 * @module
 */
import { ProblemError } from "@weir/common";
import type { Config } from "@weir/maps";
import { NetError, openSockDiag, readSocketStates, SOCKET_STATES, type SocketState } from "@weir/net";

const AF_INET = 2, AF_INET6 = 10, TCP = 6, UDP = 17;
const SOCKETS_READ_MAX = 1000;

/** @throws {ProblemError} PROXY_PORT_TAKEN: what is sent to the proxy would be somebody else's */
export function refuseTakenPorts(
  { proxyPort, proxySockets, proxyUid, proxyCgroup }: Pick<
    Config,
    "proxyPort" | "proxySockets" | "proxyUid" | "proxyCgroup"
  >,
): void {
  const isProxys = ({ uid, cgroupId }: SocketState) =>
    uid === proxyUid && (proxyCgroup === 0n || cgroupId === undefined || cgroupId === proxyCgroup);
  for (let at = 0; at < Math.max(proxySockets, 1); at++) {
    const port = proxyPort + at;
    for (const protocol of at === 0 ? [TCP, UDP] : [UDP]) {
      const stranger = socketsAt(protocol, port).find((socket) => !isProxys(socket));
      if (stranger === undefined) continue;
      const name = protocol === TCP ? "TCP" : "UDP";
      throw new ProblemError("PROXY_PORT_TAKEN", {
        status: 409,
        detail: `Cannot send anything to the L7 proxy: another process has its port, ${name} ${port}`,
        found: `a socket of user ${stranger.uid}, inode ${stranger.inode}`,
        expected: `the proxy's, user ${proxyUid} in its control group, or nobody's`,
        action: `End that process (ss -${
          protocol === TCP ? "tlnp" : "ulnp"
        } sport = :${port}), or set another port`,
      });
    }
  }
}

/** Sockets that take what is sent there. None where the kernel does not tell. */
function socketsAt(protocol: number, sourcePort: number): SocketState[] {
  const states = protocol === TCP ? ["LISTEN"] : SOCKET_STATES.filter((name) => name !== "");
  try {
    return [AF_INET, AF_INET6].flatMap((family) => {
      using diag = openSockDiag();
      return readSocketStates(diag, { family, protocol, states, sourcePort }, SOCKETS_READ_MAX);
    });
  } catch (error) {
    if (error instanceof NetError) return [];
    throw error;
  }
}
