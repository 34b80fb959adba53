/** Nodes that probe each other over a network that tests make bad. @module */
import type { Clock } from "@weir/common";
import type { Datagram, DatagramError } from "@weir/net";
import { NodeConfig, type NodePath, RemoteNode } from "@weir/proto/datapath";
import { PROBE_PORT } from "./packet.ts";
import { textOf } from "./paths.ts";
import { Prober, type ProbeSocket, TICK_MS } from "./prober.ts";
import { probesReport } from "./report.ts";

/** What becomes of a packet. Names are of nodes; `size` is of the whole packet. */
export type Fate = "arrives" | "lost" | "refused" | { tooBig: number };
export interface Packet {
  from: string;
  to: string;
  size: number;
  /** Address it is sent to. */
  address: string;
  bytes: Uint8Array;
}

type Waiting = Datagram & { atMs: number };

/** A node of the network. */
export class FakeNode {
  readonly inbox: Waiting[] = [];
  readonly errors: DatagramError[] = [];
  prober: Prober;
  /** The process runs. */
  running = true;
  readonly config: NodeConfig;
  readonly remote: RemoteNode;

  constructor(readonly network: FakeNetwork, readonly name: string, index: number) {
    this.config = NodeConfig.create({
      nodeName: name,
      ipv4: `192.0.2.${index}`,
      gatewayV4: `10.0.${index}.1`,
      podCidrV4: `10.0.${index}.0/24`,
      routingMode: "TUNNEL",
    });
    const { ipv4, podCidrV4 } = this.config;
    this.remote = RemoteNode.create({ name, ipv4, podCidrV4 });
    this.prober = this.start();
  }

  get addresses(): string[] {
    return [this.config.ipv4, this.config.gatewayV4];
  }

  /** A fresh process. */
  start(): Prober {
    const { network } = this;
    this.inbox.length = 0;
    this.prober = new Prober({
      clock: network.clock,
      random: () => network.random(),
      open: () => this.#socket(),
    });
    return this.prober;
  }

  /** The ways to another node as this one sees them: to pods, and the underlay. */
  paths(to: string): { pod: NodePath; underlay: NodePath } {
    const paths = probesReport(this.prober, this.network.clock).paths.filter(({ node }) => node === to);
    return {
      pod: paths.find(({ kind }) => kind === "POD")!,
      underlay: paths.find(({ kind }) => kind === "UNDERLAY")!,
    };
  }

  #socket(): ProbeSocket {
    const { inbox, errors, network } = this;
    return {
      family: 4,
      send: (bytes, to) => network.send(this, textOf(to.source), textOf(to.address), bytes.slice()),
      receive: () => {
        const at = inbox.findIndex(({ atMs }) => atMs <= network.clock.monotonicMs());
        if (at < 0) return undefined;
        const [{ atMs, ...datagram }] = inbox.splice(at, 1);
        return { ...datagram, waitedMs: network.clock.monotonicMs() - atMs };
      },
      receiveError: () => errors.shift(),
      [Symbol.dispose]: () => {},
    };
  }
}

/** The network, and the time. Everything is as the seed says. */
export class FakeNetwork {
  nowMs = 10_000;
  wallMs = 1_700_000_000_000;
  latencyMs = 0.2;
  fate: (packet: Packet) => Fate = () => "arrives";
  readonly nodes: FakeNode[] = [];
  readonly sizes: { request: number; answer: number }[] = [];
  #seed: number;

  constructor(nodes: number, seed = 1) {
    this.#seed = seed;
    for (let i = 1; i <= nodes; i++) this.nodes.push(new FakeNode(this, `node-${i}`, i));
    for (const node of this.nodes) this.meet(node);
  }

  readonly clock: Clock = {
    nowMs: () => this.wallMs + this.nowMs,
    monotonicMs: () => this.nowMs,
    sleep: () => Promise.resolve(),
  };

  meet(node: FakeNode): void {
    const others = this.nodes.filter((other) => other !== node).map(({ remote }) => remote);
    node.prober.tell(node.config, others, { podMtu: 1450, overhead: 50 });
  }

  random(): bigint {
    let value = 0n;
    for (let i = 0; i < 4; i++) value = value << 16n | BigInt(Math.floor(this.part() * 65_536));
    return value;
  }

  /** 0 to 1: mulberry32. */
  part(): number {
    this.#seed = this.#seed + 0x6d2b79f5 | 0;
    let t = Math.imul(this.#seed ^ this.#seed >>> 15, 1 | this.#seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  }

  send(from: FakeNode, source: string, address: string, bytes: Uint8Array): number {
    const to = this.nodes.find(({ addresses }) => addresses.includes(address));
    const fate = to === undefined
      ? "lost"
      : this.fate({ from: from.name, to: to.name, size: bytes.length + 28, address, bytes });
    const destination = four(address);
    if (fate === "lost" || to === undefined) return 0;
    if (fate === "refused") from.errors.push({ bytes, destination, errno: 111, mtu: 0 });
    else if (fate === "arrives") this.deliver(to, source, address, bytes);
    else from.errors.push({ bytes, destination, errno: 90, mtu: fate.tooBig });
    return 0;
  }

  deliver(to: FakeNode, source: string, address: string, bytes: Uint8Array, port = PROBE_PORT): void {
    to.inbox.push({
      bytes,
      truncated: false,
      source: four(source),
      sourcePort: port,
      destination: four(address),
      waitedMs: 0,
      atMs: this.nowMs + this.latencyMs,
    });
  }

  /** Lets time go on. */
  run(seconds: number): void {
    for (let ms = 0; ms < seconds * 1000; ms += TICK_MS) {
      this.nowMs += TICK_MS;
      for (const { running, prober } of this.nodes) if (running) prober.tick();
    }
  }
}

function four(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text.split("."), Number);
}
