/**
 * Probes to every other node, and answers to theirs. Sockets, clock and randomness are given.
 *
 *     every 500 ms: read what came (answers, requests, ICMP errors) ─▶ what is overdue ─▶ send what is due, within the budget
 *
 * Nobody waits for a packet: the kernel stamps it when it comes, and an answer says how long the request waited, so that latency is the
 * network's alone. @module
 */
import { type Clock, ProblemError } from "@weir/common";
import type { Datagram, DatagramError } from "@weir/net";
import { UDP_HEADERS } from "@weir/net";
import type { NodeConfig, RemoteNode } from "@weir/proto/datapath";
import { ANSWER_MS_MAX, Channel, type Probe } from "./channel.ts";
import { decodeProbe, encodeProbe, PROBE_BYTES, PROBE_PORT } from "./packet.ts";
import { addressesOf, type PathSizes, type PathSpec, pathsTo, textOf } from "./paths.ts";

/** How often {@link Prober.tick} is to be called. */
export const TICK_MS = 500;
/** Between probes of a node that is well, and of one that may not be. */
const INTERVAL_MS = 3000, DOUBT_INTERVAL_MS = 1000;
/** Packets in a second: to nodes that are well at most half of them. What a search takes beyond is paid back. */
export const PACKETS_PER_S = 100;
/** Large packets are sent every so many turns. */
const LARGE_TURNS = 2;
/** A node that has not been well for so long is looked at as one that is. */
const DOUBT_MS_MAX = 60_000;
/** Answers in a second to one node; a search takes some thirty. */
const ANSWERS_PER_S = 64;
/** Datagrams read in one tick. */
const READS_MAX = 512;
/** A probe is remembered for so long: its answer may come when the other process goes on. */
const MEMORY_MS = 30_000;
/** Between two ticks for so long: this process stood still. */
const STOOD_STILL_MS = 1500;
const EMSGSIZE = 90, ECONNREFUSED = 111;

/** What is needed of a socket. */
export interface ProbeSocket extends Disposable {
  readonly family: 4 | 6;
  send(
    bytes: Uint8Array,
    to: { address: Uint8Array<ArrayBuffer>; port: number; source: Uint8Array<ArrayBuffer> },
  ): number;
  receive(): Datagram | undefined;
  receiveError(): DatagramError | undefined;
}

/** What a prober works with. */
export interface ProberParts {
  clock: Clock;
  /** Bits from 0 to 64 of randomness. */
  random: () => bigint;
  open: (family: 4 | 6) => ProbeSocket;
  /** Called for each latency, in seconds. */
  onLatency?: (seconds: number) => void;
}

/** Another node. */
export interface Peer {
  readonly remote: RemoteNode;
  readonly channels: readonly Channel[];
  nextMs: number;
  turn: number;
  doubtSinceMs: number | undefined;
  answers: { secondMs: number; count: number };
}

/** Counters since the process began. */
export interface ProbeCounters {
  sent: number;
  answered: number;
  answers: number;
  malformed: number;
  unknownSenders: number;
  unexpected: number;
  tooMany: number;
}

/** Probes the other nodes. */
export class Prober implements Disposable {
  readonly counters: ProbeCounters = {
    sent: 0,
    answered: 0,
    answers: 0,
    malformed: 0,
    unknownSenders: 0,
    unexpected: 0,
    tooMany: 0,
  };
  readonly #peers = new Map<string, Peer>();
  readonly #byAddress = new Map<string, Peer>();
  /** By nonce, the oldest first. */
  readonly #probes = new Map<bigint, Probe>();
  readonly #sockets = new Map<4 | 6, ProbeSocket>();
  readonly #session: bigint;
  readonly #parts: ProberParts;
  #tokens = PACKETS_PER_S;
  #tickedMs: number;
  #error = "";

  constructor(parts: ProberParts) {
    this.#parts = parts;
    this.#session = parts.random();
    this.#tickedMs = parts.clock.monotonicMs();
  }

  get peers(): readonly Peer[] {
    return [...this.#peers.values()];
  }

  /** Why nothing is probed, "" when all is well. */
  get error(): string {
    return this.#error;
  }

  /** Milliseconds between probes of a node that is well. */
  get intervalMs(): number {
    const packets = this.peers.reduce((sum, { channels }) => {
      const pod = channels.filter(({ spec }) => spec.kind === "POD").length;
      return sum + pod + channels.length / LARGE_TURNS;
    }, 0);
    return Math.max(INTERVAL_MS, 1000 * packets / (PACKETS_PER_S / 2));
  }

  /** The nodes there are. Repeatable: who stays the same goes on. Until the first is known nothing listens. */
  tell(config: NodeConfig | undefined, remotes: readonly RemoteNode[], sizes: PathSizes): void {
    if (config === undefined) return;
    const nowMs = this.#parts.clock.monotonicMs();
    const before = new Map(this.#peers);
    this.#peers.clear();
    this.#byAddress.clear();
    for (const remote of remotes) {
      const specs = this.#pathsTo(remote, config, sizes);
      const old = before.get(remote.name);
      const same = old !== undefined &&
        JSON.stringify(specs) === JSON.stringify(old.channels.map(({ spec }) => spec));
      const peer = same ? old : {
        remote,
        channels: specs.map((spec) => new Channel(spec, nowMs)),
        nextMs: nowMs + this.#part() * INTERVAL_MS,
        turn: 0,
        doubtSinceMs: undefined,
        answers: { secondMs: 0, count: 0 },
      };
      this.#peers.set(remote.name, peer);
      if (specs.length === 0) continue;
      for (const address of addressesOf(remote)) this.#byAddress.set(address, peer);
    }
    const channels = new Set(this.peers.flatMap((peer) => peer.channels));
    for (const [nonce, { channel }] of this.#probes) if (!channels.has(channel)) this.#probes.delete(nonce);
  }

  /** Reads, judges, sends. */
  tick(): void {
    const nowMs = this.#parts.clock.monotonicMs(), sinceMs = nowMs - this.#tickedMs;
    this.#tickedMs = nowMs;
    if (!this.#listen()) return;
    this.#tokens = Math.min(PACKETS_PER_S, this.#tokens + PACKETS_PER_S * sinceMs / 1000);
    for (const socket of this.#sockets.values()) this.#read(socket);
    this.#expire(nowMs, sinceMs > STOOD_STILL_MS);
    this.#send(nowMs);
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets.values()) socket[Symbol.dispose]();
    this.#sockets.clear();
  }

  /** None where something of it cannot be read: the node's own error says what. */
  #pathsTo(remote: RemoteNode, config: NodeConfig, sizes: PathSizes): PathSpec[] {
    try {
      return pathsTo(remote, config, sizes);
    } catch (error) {
      if (error instanceof ProblemError) return [];
      throw error;
    }
  }

  /** Opens what is needed. */
  #listen(): boolean {
    this.#error = "";
    const families = new Set(
      this.peers.flatMap(({ channels }) => channels.map(({ spec }) => spec.family)),
    );
    for (const family of families) {
      if (this.#sockets.has(family)) continue;
      try {
        this.#sockets.set(family, this.#parts.open(family));
      } catch (error) {
        this.#error = error instanceof Error ? error.message : String(error);
      }
    }
    return this.#sockets.size > 0;
  }

  #read(socket: ProbeSocket): void {
    for (let reads = 0; reads < READS_MAX; reads++) {
      const error = socket.receiveError();
      if (error === undefined) break;
      this.#failed(error);
    }
    for (let reads = 0; reads < READS_MAX; reads++) {
      const datagram = socket.receive();
      if (datagram === undefined) return;
      this.#take(socket, datagram);
    }
  }

  #take(socket: ProbeSocket, datagram: Datagram): void {
    const peer = this.#byAddress.get(textOf(datagram.source));
    if (peer === undefined || datagram.sourcePort !== PROBE_PORT) return void this.counters.unknownSenders++;
    const packet = datagram.truncated ? undefined : decodeProbe(datagram.bytes);
    if (packet === undefined) return void this.counters.malformed++;
    const nowMs = this.#parts.clock.monotonicMs(), { waitedMs } = datagram;
    if (packet.kind === "answer") {
      const probe = this.#probes.get(packet.nonce);
      if (
        probe === undefined || probe.channel.spec.kind !== packet.path ||
        textOf(probe.channel.spec.destination) !== textOf(datagram.source)
      ) return void this.counters.unexpected++;
      this.#probes.delete(packet.nonce);
      this.counters.answered++;
      const latencyMs = waitedMs === undefined
        ? undefined
        : latencyOf(nowMs - probe.sentMs - waitedMs - packet.holdUs / 1000);
      if (latencyMs !== undefined && probe.sample !== undefined && !probe.expired) {
        this.#parts.onLatency?.(latencyMs / 1000);
      }
      probe.channel.answered(probe, packet.session, latencyMs, nowMs);
      return;
    }
    if (packet.sequence > 0) {
      const channel = peer.channels.find(({ spec }) =>
        spec.kind === packet.path && spec.family === socket.family
      );
      channel?.hear(packet.session, packet.sequence, nowMs);
    }
    if (!mayAnswer(peer, nowMs)) return void this.counters.tooMany++;
    if (datagram.destination.length === 0) return void this.counters.malformed++;
    const answer = encodeProbe({
      ...packet,
      kind: "answer",
      session: this.#session,
      sequence: 0,
      holdUs: 1000 * (waitedMs ?? 0),
    });
    this.counters.answers++;
    socket.send(answer, { address: datagram.source, port: PROBE_PORT, source: datagram.destination });
  }

  /** An ICMP error quotes what was sent: it counts when it has the nonce. */
  #failed({ bytes, errno, mtu }: DatagramError): void {
    const packet = decodeProbe(bytes), probe = packet && this.#probes.get(packet.nonce);
    if (packet === undefined || probe === undefined) return;
    const nowMs = this.#parts.clock.monotonicMs();
    if (errno === ECONNREFUSED) probe.channel.refused(probe, nowMs);
    else if (errno === EMSGSIZE) probe.channel.tooBig(probe, mtu, nowMs);
    else return; // it is lost, as its time shows
    this.#probes.delete(packet.nonce);
  }

  #expire(nowMs: number, stoodStill: boolean): void {
    for (const [nonce, probe] of this.#probes) {
      const ageMs = nowMs - probe.sentMs;
      if (ageMs < ANSWER_MS_MAX) return;
      if (!probe.expired && stoodStill) {
        // What came meanwhile has been read; what did not may have found the socket's buffer full.
        probe.channel.forgotten(probe);
        this.#probes.delete(nonce);
      } else if (!probe.expired) {
        probe.channel.expired(probe, nowMs);
      } else if (ageMs >= MEMORY_MS) {
        this.#probes.delete(nonce);
      }
    }
  }

  #send(nowMs: number): void {
    const { intervalMs } = this;
    const due = this.peers.filter(({ nextMs }) => nextMs <= nowMs).sort((a, b) => a.nextMs - b.nextMs);
    for (const peer of due) {
      if (this.#tokens <= 0) return;
      const doubt = peer.channels.some((channel) => channel.doubt);
      peer.doubtSinceMs = doubt ? peer.doubtSinceMs ?? nowMs : undefined;
      const often = doubt && nowMs - peer.doubtSinceMs! < DOUBT_MS_MAX;
      const large = often || peer.turn++ % LARGE_TURNS === 0;
      for (const channel of peer.channels) {
        for (const size of channel.sizes(large, doubt)) this.#sendOne(channel, size);
      }
      peer.nextMs = nowMs + (often ? DOUBT_INTERVAL_MS : intervalMs) * (0.9 + 0.2 * this.#part());
    }
  }

  #sendOne(channel: Channel, size: number): void {
    const { spec } = channel, socket = this.#sockets.get(spec.family);
    if (socket === undefined) return;
    const nonce = this.#parts.random();
    const { probe, sequence } = channel.begin(size, this.#parts.clock.monotonicMs());
    const bytes = encodeProbe({
      kind: "request",
      path: spec.kind,
      nonce,
      session: this.#session,
      sequence,
      holdUs: 0,
    }, Math.max(PROBE_BYTES, size - UDP_HEADERS[spec.family]));
    this.#tokens--;
    this.counters.sent++;
    const errno = socket.send(bytes, { address: spec.destination, port: PROBE_PORT, source: spec.source });
    if (errno === EMSGSIZE) channel.tooBig(probe, 0, probe.sentMs);
    else this.#probes.set(nonce, probe); // what could not be sent is lost, in its time
  }

  /** 0 to 1. */
  #part(): number {
    return Number(this.#parts.random() & 0xffffn) / 0xffff;
  }
}

function mayAnswer({ answers }: Peer, nowMs: number): boolean {
  const secondMs = Math.floor(nowMs / 1000);
  if (answers.secondMs !== secondMs) Object.assign(answers, { secondMs, count: 0 });
  return ++answers.count <= ANSWERS_PER_S;
}

/** A clock that was set between two looks makes nonsense: that is not known. */
function latencyOf(ms: number): number | undefined {
  return ms >= 0 && ms < MEMORY_MS ? ms : undefined;
}
