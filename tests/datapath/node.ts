/**
 * One node's programs and maps, loaded from the real object and filled like the datapath service fills them, with
 * endpoints on devices of their own: packets go in by BPF_PROG_TEST_RUN, verdicts, packets, counters, flows and events come out.
 * @module
 */
import { type BpfMap, type BpfObject, type BpfProgram, createMap, MapType, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { LoadedNode } from "./loaded_node.ts";
import { address, type Bytes, ipv4Number, macBytes } from "./packet.ts";

export interface Rule {
  /** Of a policy in audit mode. */
  audit?: boolean;
  direction: "ingress" | "egress";
  /** Remote identity, 0 any. */
  identity?: number;
  protocol?: number;
  port?: number;
  /** Default 16 with a port, else 0. */
  prefixLength?: number;
  deny?: boolean;
  precedence?: number;
  cookie?: number;
  /** Allowed by way of the proxy. */
  redirect?: boolean;
  /** POLICY_ENTRY_* beside the deny. */
  flags?: number;
  standsFor?: number;
}
export interface Policy {
  /** The endpoint is in audit mode. */
  audit?: boolean;
  enforceIngress?: boolean;
  enforceEgress?: boolean;
  rules: Rule[];
  ingressCookie?: number;
  egressCookie?: number;
}
export interface EndpointSpec {
  id: number;
  identity: number;
  ipv4?: string;
  ipv6?: string;
  mac?: string;
  hostMac?: string;
  ifindex: number;
  policy?: number;
  flags?: number;
  cgroupId?: bigint;
  /** Id of its network namespace; default unknown. */
  netnsId?: number;
}
export interface Run {
  verdict: number;
  data: Bytes;
  mark: number;
  events: abi.Event[];
}

/** Reasons, directions and verdicts that tests speak of. */
export const PASS = 0, SHOT = 2, REDIRECT = 7;
export const GATEWAY_V4 = "10.0.1.1", GATEWAY_V6 = "fd00:1::1";

/** Layout of `struct __sk_buff` in ctx_in: 192 bytes, mark at 8, ifindex at 40. */
function skb(ifindex: number, mark: number): Bytes {
  const ctx = new Uint8Array(192);
  const view = new DataView(ctx.buffer);
  view.setUint32(8, mark, true);
  view.setUint32(40, ifindex, true);
  return ctx;
}

export class TestNode implements Disposable {
  readonly config: abi.Config;
  readonly #loaded: LoadedNode;
  readonly #endpoints = new Map<number, abi.Endpoint>();

  private constructor(loaded: LoadedNode) {
    this.#loaded = loaded;
    this.config = {
      flags: abi.CONFIG_TUNNEL,
      hz: 0,
      tunnelIfindex: 1,
      outerIfindex: 1,
      ipv4Be: ipv4Number("192.0.2.1"),
      gatewayIpv4Be: ipv4Number(GATEWAY_V4),
      worldV4: 9,
      worldV6: 10,
      ipv6: address("2001:db8::1"),
      gatewayIpv6: address(GATEWAY_V6),
      mtu: 1500,
      tunnelPort: 8472,
      aggregation: 3,
      timeoutTcp: 8000,
      timeoutSyn: 60,
      timeoutClosing: 10,
      timeoutOther: 60,
      timeoutUnanswered: 30,
      reportInterval: 5,
      natPortMin: 32768,
      natPortMax: 65535,
      loopbackIpv4Be: ipv4Number("169.254.42.1"),
      loopbackIpv6: address("fd00:5745:4952::1"),
      netnsCookie: 0n,
      handleIpv4Be: 0,
      handleMaskIpv4: 0,
      handleIpv6: 0n,
      proxyUid: 0,
      proxyPort: 0,
      proxySockets: 0,
      proxyCgroup: 0n,
    };
  }

  /** Builds and loads if needed. `entriesMax` sizes maps, e.g. `{ weir_ct: 64 }`. */
  static async open(entriesMax: Record<string, number> = {}): Promise<TestNode> {
    const loaded = await LoadedNode.take(entriesMax);
    try {
      const node = new TestNode(loaded);
      node.config.hz = hz ??= await node.measureHz();
      node.writeConfig();
      node.setShares(true);
      node.bumpIpcache();
      for (const own of ["192.0.2.1", "2001:db8::1", GATEWAY_V4, GATEWAY_V6]) {
        node.setAddress(own, { endpoint: 0, flags: abi.ADDRESS_HOST });
      }
      return node;
    } catch (error) {
      loaded.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#loaded.giveBack();
  }

  /** The object with the maps, and the names of all programs. */
  get object(): BpfObject {
    return this.#loaded.object;
  }
  map(name: string): BpfMap {
    return this.#loaded.map(name);
  }
  program(name: string): BpfProgram {
    return this.#loaded.program(name);
  }

  /** A device without addresses, down; gone with the file's last test. */
  addDevice(): number {
    return this.#loaded.addDevice();
  }

  async measureHz(): Promise<number> {
    const sample = () => {
      const ctx = new Uint8Array(16);
      return abi.ClockSample.decode(this.program("weir_clock").testRun({ ctx }).ctx);
    };
    const first = sample();
    await new Promise((done) => setTimeout(done, 120));
    const second = sample();
    const hz = Number(second.jiffies - first.jiffies) / (Number(second.time - first.time) / 1e9);
    return [100, 250, 300, 1000].reduce((a, b) => Math.abs(a - hz) < Math.abs(b - hz) ? a : b);
  }

  writeConfig(change: Partial<abi.Config> = {}): void {
    Object.assign(this.config, change);
    this.map("weir_config").update(u32(0), abi.Config.encode(this.config));
  }
  /** Off: who comes first takes all, until a table is full. */
  setShares(on: boolean): void {
    const limits = {
      ctEntriesMax: on ? this.map("weir_ct").info.entriesMax : 0,
      natEntriesMax: on ? this.map("weir_nat").info.entriesMax : 0,
      handlesMax: this.#loaded.handlesMax,
    };
    this.map("weir_limits").update(u32(0), abi.Limits.encode(limits));
  }
  bumpIpcache(): void {
    this.revise(new Uint8Array(16), 0);
  }
  /** As the datapath service does after a change. @returns how many elements of weir_revisions */
  revise(prefix: Bytes, prefixlen: number): number {
    const ctx = abi.RevisionRequest.encode({ address: prefix, prefixlen, revised: 0 });
    return abi.RevisionRequest.decode(this.program("weir_revise").testRun({ ctx }).ctx).revised;
  }
  setAddress(text: string, owner: abi.AddressOwner): void {
    this.map("weir_addresses").update(address(text), abi.AddressOwner.encode(owner));
  }
  /** `prefix` "10.0.2.0/24" or a single address. */
  setIpcache(prefix: string, identity: number, node?: string, flags = 0, movedFrom = 0): void {
    const [text, length] = prefix.split("/");
    const value = abi.IpcacheEntry.encode({
      identity,
      flags,
      movedFrom,
      node: node ? address(node) : new Uint8Array(16),
    });
    if (length === undefined) {
      this.map("weir_ipcache_exact").update(address(text), value);
      this.revise(address(text), 128);
    } else {
      const bits = Number(length) + (text.includes(":") ? 0 : 96);
      const key = abi.IpcachePrefix.encode({ prefixlen: bits, address: address(text) });
      this.map("weir_ipcache").update(key, value);
      this.revise(address(text), bits);
    }
  }

  addEndpoint(spec: EndpointSpec): void {
    const before = this.#endpoints.get(spec.id);
    const record: abi.Endpoint = {
      ifindex: spec.ifindex,
      identity: spec.identity,
      revision: (before?.revision ?? 0) + 1,
      policy: spec.policy ?? 0,
      flags: spec.flags ?? abi.ENDPOINT_PEER,
      mac: macBytes(spec.mac ?? `02:00:00:00:01:${spec.id.toString(16).padStart(2, "0")}`),
      hostMac: macBytes(spec.hostMac ?? `02:00:00:00:02:${spec.id.toString(16).padStart(2, "0")}`),
      wire: 0,
      ipv4Be: spec.ipv4 ? ipv4Number(spec.ipv4) : 0,
      netns: (spec.netnsId ?? -1) + 1,
      ipv6: spec.ipv6 ? address(spec.ipv6) : new Uint8Array(16),
      cgroupId: spec.cgroupId ?? 0n,
    };
    this.#endpoints.set(spec.id, record);
    this.map("weir_endpoints").update(u32(spec.id), abi.Endpoint.encode(record));
    for (const own of [spec.ipv4, spec.ipv6]) {
      if (own) this.setAddress(own, { endpoint: spec.id, flags: 0 });
    }
    if (spec.ifindex) this.map("weir_ifindex").update(u32(spec.ifindex), u32(spec.id));
    if (spec.cgroupId) {
      this.map("weir_cgroups").update(
        new Uint8Array(new BigUint64Array([spec.cgroupId]).buffer),
        u32(spec.id),
      );
    }
  }
  /** Changes a record as README says: content first, then the revision. */
  /** Whether a policy for the host is in force. */
  get hostGuarded(): boolean {
    return abi.Endpoint.decode(this.map("weir_endpoints").lookup(u32(abi.ENDPOINT_HOST))!).policy !== 0;
  }

  changeEndpoint(id: number, change: Partial<abi.Endpoint>): void {
    const record = { ...this.#endpoints.get(id)!, ...change };
    this.map("weir_endpoints").update(u32(id), abi.Endpoint.encode(record));
    record.revision++;
    this.map("weir_endpoints").update(u32(id), abi.Endpoint.encode(record));
    this.#endpoints.set(id, record);
  }

  /** Writes a policy into a slot: inner map, then its header. */
  setPolicy(slot: number, policy: Policy, entriesMax = 16384): void {
    const inner = createMap({
      type: MapType.HASH ?? 1,
      name: `policy_${slot}`,
      keySize: 8,
      valueSize: 12,
      entriesMax,
      flags: 1,
    });
    const directions = [POLICY_INGRESS, POLICY_EGRESS].map((direction) => ({
      enforce: (direction === POLICY_EGRESS ? policy.enforceEgress : policy.enforceIngress) ? 1 : 0,
      defaultCookie: (direction === POLICY_EGRESS ? policy.egressCookie : policy.ingressCookie) ?? 0,
      identity: new Set<number>(),
      any: new Set<number>(),
    }));
    try {
      for (const rule of policy.rules) {
        const length = rule.port === undefined ? 0 : rule.prefixLength ?? 16;
        const shape = rule.protocol ? length : abi.SHAPE_ANY_PROTOCOL;
        const direction = directions[rule.direction === "egress" ? POLICY_EGRESS : POLICY_INGRESS];
        (rule.identity ? direction.identity : direction.any).add(shape);
        const key = abi.PolicyKey.encode({
          identity: rule.identity ?? 0,
          port: rule.port ?? 0,
          protocol: rule.protocol ?? 0,
          shape: shape | (rule.direction === "egress" ? abi.SHAPE_EGRESS : 0) |
            (rule.audit ? abi.SHAPE_AUDIT : 0),
        });
        const value = abi.PolicyEntry.encode({
          standsFor: rule.standsFor ?? 0,
          precedence: rule.precedence ?? (rule.deny ? 255 : 1),
          cookie: rule.cookie ?? 0,
          flags: (rule.deny ? abi.POLICY_ENTRY_DENY : 0) | (rule.redirect ? abi.POLICY_ENTRY_REDIRECT : 0) |
            (rule.flags ?? 0),
        });
        inner.update(key, value);
      }
      this.map("weir_policies").update(u32(slot), u32(inner.fd));
    } finally {
      inner.close();
    }
    const shapes = (set: Set<number>) => {
      const order = (shape: number) => shape & abi.SHAPE_ANY_PROTOCOL ? -1 : shape & abi.SHAPE_LENGTH;
      const list = [...set].sort((a, b) => order(b) - order(a));
      return Uint8Array.from([...list, ...Array(abi.SHAPES_MAX - list.length).fill(0)]);
    };
    const header = abi.PolicySlot.encode({
      directions: directions.map((d, at) => {
        const rules = policy.rules.filter((rule) => (rule.direction === "egress") === (at === POLICY_EGRESS));
        return {
          enforce: d.enforce,
          identityShapesCount: d.identity.size,
          anyShapesCount: d.any.size,
          flags: (rules.some(({ redirect }) => redirect) ? abi.POLICY_DIRECTION_REDIRECTS : 0) |
            (rules.some(({ audit }) => audit) ? abi.POLICY_DIRECTION_AUDITED : 0) |
            (policy.audit ? abi.POLICY_DIRECTION_AUDIT : 0),
          defaultCookie: d.defaultCookie,
          identityShapes: shapes(d.identity),
          anyShapes: shapes(d.any),
        };
      }),
    });
    this.map("weir_policy_slots").update(u32(slot), header);
  }

  /** Runs a program once on a packet that came by a device. */
  run(program: string, data: Bytes, ifindex = 1, mark = 0): Run {
    this.drainEvents();
    const result = this.program(program).testRun({ data, ctx: skb(ifindex, mark), dataOutBytesMax: 70000 });
    return {
      verdict: result.retval,
      data: result.data.slice(),
      mark: new DataView(result.ctx.buffer, result.ctx.byteOffset).getUint32(8, true),
      events: this.drainEvents(),
    };
  }

  /** Runs a program again and again; what it reports stays in the ring. */
  flood(program: string, data: Bytes, repeat: number, ifindex = 1): void {
    this.program(program).testRun({ data, ctx: skb(ifindex, 0), repeat });
  }

  /** Takes what is in the ring, or the first `bytesMax` of it. */
  drainEvents(bytesMax = Infinity): abi.Event[] {
    const events: abi.Event[] = [];
    const take = () => bytesMax > 0 ? this.#loaded.ring.drain(Math.min(bytesMax, 1 << 20)) : undefined;
    for (let batch = take(); batch; batch = take()) {
      const bytes = batch.records;
      bytesMax -= bytes.length;
      for (let at = 0; at + 4 <= bytes.length;) {
        const length = new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0, true);
        events.push(abi.Event.decode(bytes.subarray(at + 4, at + 4 + length)));
        at += (4 + length + 7) & ~7;
      }
    }
    return events;
  }

  /** Packets counted for a reason, over all CPUs and directions (or one). */
  counted(reason: number, direction?: number): number {
    let packets = 0;
    for (const d of direction === undefined ? [0, 1, 2, 3] : [direction]) {
      for (const cpu of this.map("weir_metrics").lookupPerCpu(u32(reason << 2 | d))!) {
        packets += Number(abi.Metric.decode(cpu).packets);
      }
    }
    return packets;
  }
  endpointCounters(id: number): abi.EndpointCounters {
    const total: abi.EndpointCounters = {
      txPackets: 0n,
      txBytes: 0n,
      rxPackets: 0n,
      rxBytes: 0n,
      droppedPackets: 0n,
      droppedBytes: 0n,
    };
    for (const cpu of this.map("weir_counters").lookupPerCpu(u32(id))!) {
      const value = abi.EndpointCounters.decode(cpu);
      for (const name of Object.keys(total) as (keyof abi.EndpointCounters)[]) total[name] += value[name];
    }
    return total;
  }
  /** What a holder's events came to, over all CPUs. */
  eventCounts(holder: number): { made: number; refused: number; lost: number } {
    const sum = { made: 0, refused: 0, lost: 0 };
    for (const cpu of this.map("weir_event_counts").lookupPerCpu(u32(holder))!) {
      const { made, refused, lost } = abi.EventCounts.decode(cpu);
      sum.made += Number(made);
      sum.refused += Number(refused);
      sum.lost += Number(lost);
    }
    return sum;
  }
  lost(type: number): number {
    return this.map("weir_lost").lookupPerCpu(u32(type))!
      .reduce((sum, cpu) => sum + Number(new DataView(cpu.buffer, cpu.byteOffset).getBigUint64(0, true)), 0);
  }
  /** Entries that a share holds, as the programs count them. */
  held(share: number, nat = false): number {
    return abi.Holding.decode(this.map("weir_holdings").lookup(u32((nat ? abi.SHARES_MAX : 0) + share))!).now;
  }
  refused(share: number): abi.Refused {
    return abi.Refused.decode(this.map("weir_refused").lookup(u32(share))!);
  }
  flows(): { key: abi.CtKey; entry: abi.CtEntry }[] {
    return this.map("weir_ct").entries().map(([key, value]) => ({
      key: abi.CtKey.decode(key),
      entry: abi.CtEntry.decode(value),
    }));
  }
  /** Jiffies as entries have them. */
  get now(): number {
    const ctx = new Uint8Array(16);
    return Number(
      abi.ClockSample.decode(this.program("weir_clock").testRun({ ctx }).ctx).jiffies & 0xffffffffn,
    );
  }
  /** The configured time (s) that its last packet gave an entry to live, however long ago its first one was. */
  lifetime({ created, expires }: { created: number; expires: number }): number {
    const { hz, timeoutTcp, timeoutSyn, timeoutOther, timeoutUnanswered, timeoutClosing } = this.config;
    const most = (expires - created) >>> 0, elapsed = (this.now - created) >>> 0;
    return [timeoutTcp, timeoutSyn, timeoutOther, timeoutUnanswered, timeoutClosing].find((time) =>
      time * hz < most + hz / 2 && time * hz > most - elapsed - hz / 2
    ) ?? most / hz;
  }
  /** Makes every flow look as if it had expired `seconds` ago. */
  expireFlows(seconds = 5): void {
    const { now } = this;
    for (const [key, value] of this.map("weir_ct").entries()) {
      const entry = abi.CtEntry.decode(value);
      entry.expires = (now - seconds * this.config.hz) >>> 0;
      this.map("weir_ct").update(key, abi.CtEntry.encode(entry));
    }
  }
  gc(
    mode: number,
    options: { endpoint?: number; address?: string; age?: number; ageOver?: number; heldMax?: number } = {},
  ): abi.GcRequest {
    const ctx = abi.GcRequest.encode({
      mode,
      endpoint: options.endpoint ?? 0,
      address: options.address ? address(options.address) : new Uint8Array(16),
      age: options.age ?? 0,
      ageOver: options.ageOver ?? options.age ?? 0,
      heldMax: options.heldMax ?? 0,
      visited: 0,
      deleted: 0,
      live: 0,
      natVisited: 0,
      natDeleted: 0,
      natLive: 0,
    });
    const result = this.program("weir_gc").testRun({ ctx });
    if (result.retval !== 0) throw new Error(`weir_gc answered ${result.retval}`);
    return abi.GcRequest.decode(result.ctx);
  }
}
const POLICY_INGRESS = abi.POLICY_INGRESS, POLICY_EGRESS = abi.POLICY_EGRESS;
/** Of this kernel. */
let hz: number | undefined;
