/**
 * Connected UDP sockets of the node whose backend is gone. A connected socket passes no hook when it sends, so nothing can
 * lead it elsewhere: it is ended, its owner gets ECONNABORTED, and connecting again leads to a backend that is there.
 *
 *     sockets of the namespace ─▶ weir_sockets (cookie, backend) ─▶ weir_backends: gone? ─▶ SOCK_DESTROY
 *
 * It looks at what the kernel holds and remembers nothing, so what died while nobody looked is found too. TCP
 * connections are left to their ends.
 *
 * @module
 */
import { type BpfMap, u32 } from "@weir/loader";
import { Backend, BACKEND_GONE, type Bytes, SOCKET_REVERSE, SocketKey, SocketPeer } from "@weir/maps";
import {
  AF_INET,
  AF_INET6,
  cannotDestroySockets,
  destroySocket,
  type InetSocket,
  listSockets,
  type NetlinkSocket,
} from "@weir/net";
import { hex } from "../kernel/addresses.ts";

const UDP = 17;

/** What a look at the sockets gave. */
export interface Reaped {
  /** Connected sockets that were looked at. */
  sockets: number;
  ended: number;
}

/** Connected UDP sockets of the node whose backend is gone. */
export class SocketReaper {
  /** Whether the kernel can end sockets; "cannot tell" until one was to be ended. */
  able: "yes" | "no" | "cannot tell" = "cannot tell";
  readonly #parts: { sockets: BpfMap; backends: BpfMap; diag: NetlinkSocket };

  /** @param parts the maps weir_sockets and weir_backends, and a sock_diag socket in the node's namespace */
  constructor(parts: { sockets: BpfMap; backends: BpfMap; diag: NetlinkSocket }) {
    this.#parts = parts;
  }

  /** Ends what must be ended. Repeatable. @throws {NetError} */
  reap(): Reaped {
    const reaped: Reaped = { sockets: 0, ended: 0 };
    if (this.able === "no") return reaped;
    for (const family of [AF_INET, AF_INET6]) {
      for (const socket of listSockets(this.#parts.diag, { family, protocol: UDP })) {
        if (socket.destinationPort === 0) continue;
        reaped.sockets++;
        if (!this.#isStranded(socket)) continue;
        try {
          if (destroySocket(this.#parts.diag, socket)) reaped.ended++;
          this.able = "yes";
        } catch (error) {
          if (!cannotDestroySockets(error)) throw error;
          this.able = "no";
          return reaped;
        }
      }
    }
    return reaped;
  }

  #isStranded(socket: InetSocket): boolean {
    const address = mapped(socket.destination);
    const key = SocketKey.encode({
      cookie: socket.cookie,
      address,
      portBe: socket.destinationPort,
      direction: SOCKET_REVERSE,
    });
    const found = this.#parts.sockets.lookup(key);
    if (found === undefined) return false;
    const record = this.#parts.backends.lookup(u32(SocketPeer.decode(found).backend));
    if (record === undefined) return true;
    const backend = Backend.decode(record);
    return backend.state === BACKEND_GONE || hex(backend.address) !== hex(address) ||
      backend.portBe !== socket.destinationPort;
  }
}

function mapped(bytes: Bytes): Bytes {
  if (bytes.length === 16) return bytes;
  const address = new Uint8Array(16);
  address.set([0xff, 0xff], 10);
  address.set(bytes, 12);
  return address;
}
