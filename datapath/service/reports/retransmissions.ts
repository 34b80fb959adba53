/**
 * TCP of endpoints that sends again, without a look at any packet: the kernel counts per network namespace (`RetransSegs`), and where
 * the count has grown the sockets say which connection it is.
 *
 *     a few namespaces a second ─▶ /proc/thread-self/net/snmp ─▶ grown? ─▶ sock_diag ─▶ record of a connection that is stuck
 *
 * A connection is told of once, when nothing came for two retransmissions in a row, and again only after it went on.
 * @module
 */
import type { Clock } from "@weir/common";
import { Event, EVENT_L3, REASON_UNKNOWN } from "@weir/maps";
import { NetError, Netns, type SocketState } from "@weir/net";
import type { DatapathEndpoint } from "@weir/proto/datapath";
import { EVENT, EVENT_FLAG, TROUBLE } from "@weir/proto/numbers";
import { readConnections } from "./sockets.ts";

/** Namespaces in one look: 11 ms of a second at most, on two CPUs at load 27. */
const LOOKS = 32;
/** Records of one namespace in one look. */
const RECORDS_MAX = 16;
/** Retransmissions in a row from which on a connection is stuck: one is lost now and then everywhere. */
const STUCK = 2;
const TCP = 6, ACK = 16;

interface Seen {
  /** Of this namespace, by inode: an endpoint's may be made anew. */
  inode: number;
  segments: number;
  /** Cookies of connections that are stuck. */
  stuck: ReadonlySet<bigint>;
}

/** What the looks need. */
export interface RetransmissionParts {
  clock: Clock;
  endpoints: () => DatapathEndpoint[];
  /** Monotonic time of the kernel, ns. */
  timeNs: () => bigint;
  /** Gives records to those who read events. */
  tell: (records: Uint8Array[]) => void;
}

/** Looks after the namespaces in turn. */
export class Retransmissions {
  readonly #seen = new Map<string, Seen>();
  #next = 0;
  readonly #parts: RetransmissionParts;

  constructor(parts: RetransmissionParts) {
    this.#parts = parts;
  }

  /** Segments that an endpoint's namespace has sent again since it is there; undefined: not known. */
  segmentsOf(endpoint: string): number | undefined {
    return this.#seen.get(endpoint)?.segments;
  }

  /** To be called every second. */
  look(): void {
    const endpoints = this.#parts.endpoints().filter(({ kind }) => kind === "NETNS");
    const names = new Set(endpoints.map(({ name }) => name));
    for (const name of this.#seen.keys()) if (!names.has(name)) this.#seen.delete(name);
    const records: Uint8Array[] = [];
    for (let turn = 0; turn < Math.min(LOOKS, endpoints.length); turn++) {
      const endpoint = endpoints[this.#next++ % endpoints.length];
      try {
        records.push(...this.#lookAt(endpoint));
      } catch (error) {
        // It goes away while we look, or has gone and is not attached anew yet.
        if (!(error instanceof NetError)) throw error;
        this.#seen.delete(endpoint.name);
      }
    }
    if (records.length > 0) this.#parts.tell(records);
  }

  #lookAt(endpoint: DatapathEndpoint): Uint8Array[] {
    using netns = Netns.open(endpoint.netns);
    const { inode } = netns;
    const segments = netns.enter(() =>
      retransmittedSegments(Deno.readTextFileSync("/proc/thread-self/net/snmp"))
    );
    const before = this.#seen.get(endpoint.name);
    const known = before?.inode === inode ? before : { inode, segments, stuck: new Set<bigint>() };
    if (known.segments === segments && known.stuck.size === 0) {
      this.#seen.set(endpoint.name, known);
      return [];
    }
    const stuck = readConnections(netns).connections.filter(({ state, tcp }) =>
      state === 1 && (tcp?.retransmits ?? 0) >= STUCK
    );
    this.#seen.set(endpoint.name, { inode, segments, stuck: new Set(stuck.map(({ cookie }) => cookie)) });
    const timeNs = this.#parts.timeNs();
    return stuck.filter(({ cookie }) => !known.stuck.has(cookie)).slice(0, RECORDS_MAX)
      .map((socket) => encodeRecord(endpoint, socket, timeNs));
  }
}

/** `RetransSegs` of the table that the kernel prints: a line "Tcp:" with names, one with numbers. */
export function retransmittedSegments(snmp: string): number {
  const [names, numbers] = snmp.split("\n").filter((line) => line.startsWith("Tcp:")).map((line) =>
    line.split(" ")
  );
  return Number(numbers?.[names.indexOf("RetransSegs")] ?? 0);
}

/** As the programs would tell it; the packet is made of what the socket knows. */
export function encodeRecord(
  { id, identity }: DatapathEndpoint,
  socket: SocketState,
  timeNs: bigint,
): Uint8Array {
  const payload = new Uint8Array(128);
  const lengthCaptured = writeHeaders(payload, socket);
  const six = socket.source.length === 16 && !isMapped(socket.source);
  return Event.encode({
    ...Event.decode(new Uint8Array(Event.bytes)),
    type: EVENT.TROUBLE,
    subtype: TROUBLE.RETRANSMITTED,
    sourceEndpoint: id,
    hookEndpoint: id,
    holder: id,
    sourceIdentity: identity,
    time: timeNs,
    line: Math.min(socket.tcp?.retransmits ?? 0, 0xffff),
    proxyPort: Math.min(socket.tcp?.pmtu ?? 0, 0xffff),
    reason: REASON_UNKNOWN,
    flags: EVENT_L3 | (six ? EVENT_FLAG.IPV6 : 0),
    protocol: TCP,
    lengthCaptured,
    payload,
  });
}

function isMapped(address: Uint8Array): boolean {
  return address.length === 16 && address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 255;
}

function writeHeaders(
  out: Uint8Array,
  { source, destination, sourcePort, destinationPort }: SocketState,
): number {
  const view = new DataView(out.buffer);
  const short = (address: Uint8Array) => isMapped(address) ? address.subarray(12) : address;
  const from = short(source), to = short(destination), four = from.length === 4;
  const at = four ? 20 : 40;
  if (four) {
    out.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP]);
    out.set(from, 12);
    out.set(to, 16);
  } else {
    out.set([0x60, 0, 0, 0, 0, 20, TCP, 64]);
    out.set(from, 8);
    out.set(to, 24);
  }
  view.setUint16(at, sourcePort);
  view.setUint16(at + 2, destinationPort);
  out[at + 12] = 0x50;
  out[at + 13] = ACK;
  return at + 20;
}
