/**
 * DNS by UDP. One socket has all of it: where a datagram comes from says whose it is, and where one is sent says to whom.
 *
 *     handle's address, port 1 ─▶ of the client        ─▶ handle's address, port 1: to the client, from the server
 *     handle's address, port 2 ─▶ of the server        ─▶ handle's address, port 2: to the server, from the client
 *
 * @module
 */
import type { Handle } from "@weir/proto/l7";
import { DATAGRAM } from "@weir/proto/numbers";
import type { HandlePrefixes } from "../handle_address.ts";
import type { RedirectedConnection } from "../redirected_connection.ts";
import { DnsFlow } from "./dns_flow.ts";
import type { DnsShared } from "./dns_shared.ts";
import {
  DATAGRAM_FLOW_MS,
  DATAGRAM_FLOWS_MAX,
  DATAGRAM_QUESTION_BYTES_MAX,
  DATAGRAMS_EARLY_MAX,
} from "./limits.ts";

const { CLIENT_PORT, SERVER_PORT } = DATAGRAM;
/** Datagrams that are handed to the kernel and not taken yet. */
const SENDING_MAX = 4096;
/** Flows of which it is not known yet whose they are. */
const ASKING_MAX = 1024;
/** The oldest flows that are looked at for one that nothing waits for. */
const EVICTION_TRIES = 64;

/** What is needed of a socket; `Deno.DatagramConn` is one. */
export interface DatagramSocket {
  receive(buffer: Uint8Array<ArrayBuffer>): Promise<[Uint8Array, Deno.Addr]>;
  send(bytes: Uint8Array, to: Deno.Addr): Promise<number>;
}

/** What {@link DnsDatagrams} is made of. */
export interface DnsDatagramsParts {
  readonly prefixes: HandlePrefixes;
  readonly shared: DnsShared;
  /** Whose the flow with this number is; undefined: nobody's any more. */
  readonly handleOf: (number: number) => Promise<Handle | undefined>;
  /** What judges and records it. */
  readonly flowOf: (handle: Handle) => RedirectedConnection;
  readonly flowsMax?: number;
}

interface Flow {
  /** Undefined while it is not known whose it is. */
  dns: DnsFlow | undefined;
  /** What came of the client meanwhile. */
  early: Uint8Array[];
  movedMs: number;
}

/** All flows of datagrams. */
export class DnsDatagrams {
  #sending = 0;
  #asking = 0;
  #socket: DatagramSocket | undefined;
  /** The time, read once for all that comes between two sweeps: flows need no finer one. */
  #nowMs: number;
  /** By the handle's address as the socket tells it, those that moved last at the end. */
  readonly #flows = new Map<string, Flow>();
  readonly #parts: DnsDatagramsParts;

  constructor(parts: DnsDatagramsParts) {
    this.#parts = parts;
    this.#nowMs = parts.shared.clock.monotonicMs();
  }

  /** Flows that are known. */
  get flows(): number {
    return this.#flows.size;
  }

  /** Serves a socket until it fails or is closed. @throws what `receive` does */
  async serve(socket: DatagramSocket): Promise<void> {
    const buffer = new Uint8Array(64 * 1024);
    this.#socket = socket;
    try {
      for (;;) {
        const [bytes, from] = await socket.receive(buffer);
        const { hostname, port } = from as Deno.NetAddr;
        this.#take(bytes, hostname, port);
      }
    } finally {
      this.#socket = undefined;
      this.end();
    }
  }

  /** Forgets flows that nobody uses. To be called each second: time goes on by it. */
  sweep(): void {
    this.#nowMs = this.#parts.shared.clock.monotonicMs();
    const beforeMs = this.#nowMs - DATAGRAM_FLOW_MS;
    for (const [address, { dns, movedMs }] of this.#flows) {
      if (movedMs > beforeMs) break;
      // Its questions are given up after as long.
      if (dns !== undefined && dns.questions === 0) this.#forget(address);
    }
  }

  /** Forgets all. */
  end(): void {
    for (const address of [...this.#flows.keys()]) this.#forget(address);
  }

  #take(bytes: Uint8Array, address: string, port: number): void {
    const { shared } = this.#parts;
    if (port !== CLIENT_PORT && port !== SERVER_PORT) return shared.dropped("not-redirected");
    let flow = this.#flows.get(address);
    if (flow === undefined) {
      // What comes late of a server has nobody to go to.
      if (port === SERVER_PORT) return shared.dropped("nobody-asked");
      flow = this.#begin(address);
      if (flow === undefined) return;
      this.#flows.set(address, flow);
    } else if (flow.movedMs !== this.#nowMs) {
      this.#flows.delete(address);
      this.#flows.set(address, flow);
    }
    flow.movedMs = this.#nowMs;
    if (flow.dns === undefined) {
      if (port === SERVER_PORT) shared.dropped("nobody-asked");
      else if (flow.early.length >= DATAGRAMS_EARLY_MAX) shared.dropped("unknown-handle");
      else flow.early.push(bytes.slice());
    } else if (port === CLIENT_PORT) flow.dns.fromClient(bytes);
    else flow.dns.fromServer(bytes);
  }

  #begin(address: string): Flow | undefined {
    const { prefixes, shared, flowsMax = DATAGRAM_FLOWS_MAX } = this.#parts;
    const number = prefixes.numberOf(address);
    if (number === undefined) return shared.dropped("not-redirected") as undefined;
    if (this.#asking >= ASKING_MAX || this.#flows.size >= flowsMax && !this.#evict()) {
      return shared.dropped("flows-full") as undefined;
    }
    const flow: Flow = { dns: undefined, early: [], movedMs: 0 };
    void this.#learnWhose(address, number, flow);
    return flow;
  }

  async #learnWhose(address: string, number: number, flow: Flow): Promise<void> {
    const { handleOf, flowOf, shared } = this.#parts;
    let handle: Handle | undefined;
    this.#asking++;
    try {
      handle = await handleOf(number);
    } catch {
      // As if nobody had it: the client asks again.
    }
    this.#asking--;
    if (this.#flows.get(address) !== flow) return;
    if (handle === undefined) {
      this.#flows.delete(address);
      for (let left = flow.early.length; left > 0; left--) shared.dropped("unknown-handle");
      return;
    }
    const connection = flowOf(handle);
    connection.kind = "DNS";
    const toServer = { hostname: address, port: SERVER_PORT, transport: "udp" } as const;
    const toClient = { hostname: address, port: CLIENT_PORT, transport: "udp" } as const;
    flow.dns = new DnsFlow({
      handle,
      judge: connection.judge,
      counted: (verdict) => connection.counted(verdict),
      record: (record) => connection.record(record),
      fault: (code, reason) => connection.fault(code, reason),
      questionBytesMax: DATAGRAM_QUESTION_BYTES_MAX,
      toServer: (message) => this.#send(message, toServer),
      toClient: (message) => this.#send(message, toClient),
    }, shared);
    for (const message of flow.early) flow.dns.fromClient(message);
    flow.early = [];
  }

  #send(message: Uint8Array, to: Deno.NetAddr): void {
    const { shared } = this.#parts;
    if (this.#socket === undefined || this.#sending >= SENDING_MAX) return shared.dropped("not-sent");
    this.#sending++;
    this.#socket.send(message, to).then(this.#sent, this.#notSent);
  }

  readonly #sent = () => void this.#sending--;
  readonly #notSent = () => {
    this.#sending--;
    this.#parts.shared.dropped("not-sent");
  };

  /** Makes room for a flow. @returns false when there is none */
  #evict(): boolean {
    let tries = EVICTION_TRIES;
    for (const [address, { dns }] of this.#flows) {
      if (tries-- === 0) return false;
      if (dns !== undefined && dns.questions === 0) {
        this.#forget(address);
        return true;
      }
    }
    return false;
  }

  #forget(address: string): void {
    this.#flows.get(address)?.dns?.end();
    this.#flows.delete(address);
  }
}
