/**
 * Endpoints in the kernel: device, record, programs, routes. Attaching is a link and a few map writes; nothing is compiled
 * or verified.
 *
 *     device (down) ─▶ weir_addresses ─▶ weir_endpoints[id] ─▶ weir_ifindex ─▶ programs on the device ─▶ device up, routes
 *
 * @module
 */
import { type Clock, ProblemError } from "@weir/common";
import { expedited } from "@weir/loader";
import {
  Endpoint,
  ENDPOINT_CGROUP,
  ENDPOINT_HOST,
  ENDPOINT_PEER,
  ENDPOINTS_MAX,
  GC_ADDRESS,
  GC_ENDPOINT,
  IDENTITY_HOST,
} from "@weir/maps";
import { deviceAt, listDevices, type NetlinkSocket, Netns, netnsCookie, parseMac } from "@weir/net";
import { type DatapathEndpoint, DatapathEndpointStatus } from "@weir/proto/datapath";
import { hex, ipv4Number, mapped } from "../kernel/addresses.ts";
import { cgroupId } from "../kernel/cgroup.ts";
import type { Attachments } from "../hooks/attachments.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { IdentityMoves, isMove, WIRE_HOLD_MS } from "../kernel/identity_moves.ts";
import {
  ensureDevice,
  type PodDevice,
  type PodNetworkConfig,
  raise,
  removeDevice,
  silenceDevice,
} from "./pod_network.ts";
import type { PolicyStore } from "./policies.ts";

interface Held {
  desired: DatapathEndpoint;
  device?: PodDevice;
  /** Of its network namespace, where it has one of its own. */
  cookie?: bigint;
  cgroupId: bigint;
  addresses: string[];
}

/** What the store works on. */
export interface EndpointStoreParts {
  kernel: Kernel;
  clock: Clock;
  attachments: Attachments;
  policies: PolicyStore;
  socket: NetlinkSocket;
  /** Undefined until the node is configured. */
  network: () => PodNetworkConfig | undefined;
  /** An endpoint's number is free again: what was counted for it is to be forgotten. */
  onForgotten?: (id: number) => void;
}

/** As the host is; an older version may have left a pod's record under its number. */
const isPlaceless = ({ ifindex, cgroupId }: Endpoint) => ifindex === 0 && cgroupId === 0n;

/** Endpoints in the kernel. */
export class EndpointStore {
  readonly #held = new Map<string, Held>();
  /** Ids of endpoints whose packets through the tunnel name their identity of before. */
  readonly #moves = new IdentityMoves<number>(WIRE_HOLD_MS);
  adopted = 0;
  rebuilt = 0;
  readonly #parts: EndpointStoreParts;

  constructor(parts: EndpointStoreParts) {
    this.#parts = parts;
  }

  /** Slot of the policy that is in force for the host; 0: it is open. */
  get hostSlot(): number {
    const record = this.#parts.kernel.endpoints.get(ENDPOINT_HOST);
    return record !== undefined && isPlaceless(record) ? record.policy : 0;
  }
  has(name: string): boolean {
    return this.#held.has(name);
  }
  get ids(): Set<number> {
    return new Set([...this.#held.values()].map(({ desired }) => desired.id));
  }
  nameOf(id: number): string {
    for (const [name, { desired }] of this.#held) if (desired.id === id) return name;
    return "";
  }

  /** Makes the kernel have this endpoint. Repeatable. @throws {ProblemError} @throws {NetError} @throws {BpfError} */
  apply(desired: DatapathEndpoint): DatapathEndpointStatus {
    const started = performance.now();
    this.#check(desired);
    const before = this.#held.get(desired.name);
    if (before !== undefined && before.desired.id !== desired.id) this.remove(desired.name);
    const slot = this.#slotOf(desired);
    if (desired.kind === "HOST") return this.#applyHost(desired, slot, started);
    return desired.kind === "CGROUP"
      ? this.#applyCgroup(desired, slot, started)
      : this.#applyDevice(desired, slot, started);
  }

  /** Points every endpoint of a policy at its new slot. */
  switchPolicy(policy: string, slot: number): void {
    for (const { desired } of this.#held.values()) {
      if (desired.policy !== policy) continue;
      if (desired.kind === "HOST") this.#writeHost(slot);
      const record = this.#parts.kernel.endpoints.get(desired.id);
      if (record !== undefined && desired.kind !== "HOST") {
        this.#writeRecord(desired.id, { ...record, policy: slot });
      }
    }
  }

  /** Ends the time of identities of before. */
  tick(): void {
    const { kernel, clock } = this.#parts;
    for (const id of this.#moves.takeEnded(clock.monotonicMs())) {
      const record = kernel.endpoints.get(id);
      // No verdict depends on it.
      if (record !== undefined) kernel.endpoints.put(id, { ...record, wire: 0 });
    }
  }

  /** The identity that packets of a device's endpoint go on to name in the tunnel; 0: its own. */
  #wireOf(id: number, record: Endpoint, present: Endpoint | undefined): number {
    if (present === undefined || present.ifindex === 0 || record.ifindex === 0) {
      this.#moves.delete(id);
      return 0;
    }
    const nowMs = this.#parts.clock.monotonicMs();
    if (!isMove(present.identity, record.identity)) {
      if (present.wire !== 0 && !this.#moves.has(id)) this.#moves.note(id, nowMs);
      return present.wire;
    }
    // What a process before left counts from now on; what is over and not cleared yet does not, for receivers.
    const isNamed = !this.#moves.has(id) || this.#moves.isNamed(id, nowMs);
    this.#moves.note(id, nowMs);
    return (isNamed && present.wire) || present.identity;
  }

  /** Removes an endpoint from the kernel; false when it is not known. */
  remove(name: string): boolean {
    const held = this.#held.get(name);
    if (held === undefined) return false;
    const { kernel, attachments, socket } = this.#parts;
    const { desired, device, cgroupId } = held;
    if (device !== undefined) silenceDevice(socket, desired.kind, device.ifindex, kernel.pins.alias(name));
    // From here on its processes are the host's.
    if (held.cookie !== undefined) kernel.netnsCookies.delete(held.cookie);
    if (cgroupId !== 0n) {
      attachments.removeCgroup(cgroupId);
      kernel.cgroups.delete(cgroupId);
    }
    this.#forget(desired.id, held.addresses);
    if (desired.kind === "HOST") kernel.reviseAll();
    if (device !== undefined) this.#releaseDevice(desired, device.ifindex, name);
    this.#held.delete(name);
    return true;
  }

  /** Of a device that is silent and whose record is cleared. */
  #releaseDevice(
    endpoint: { kind: string; ipv4: string; ipv6: string },
    ifindex: number,
    name: string,
  ): void {
    const { kernel, attachments, socket } = this.#parts;
    attachments.removeDevice(ifindex);
    kernel.ifindexes.delete(ifindex);
    removeDevice(socket, endpoint, ifindex, kernel.pins.alias(name));
  }

  /** Endpoints whose device somebody took away or changed. */
  lost(): string[] {
    const { kernel, socket } = this.#parts;
    const aliases = new Map(listDevices(socket).map((device) => [device.ifindex, device.alias]));
    return [...this.#held].filter(([name, { device }]) =>
      device !== undefined && aliases.get(device.ifindex) !== kernel.pins.alias(name)
    ).map(([name]) => name);
  }

  /** Own objects in the kernel that no endpoint stands for: devices, and records by id (those of the devices too). */
  leftovers(): { devices: { ifindex: number; name: string; endpoint: string }[]; ids: number[] } {
    const { kernel, socket } = this.#parts;
    const prefix = kernel.pins.alias("");
    const devices = listDevices(socket)
      .filter((device) => device.alias.startsWith(prefix))
      .map((device) => ({
        ifindex: device.ifindex,
        name: device.name,
        endpoint: device.alias.slice(prefix.length),
      }))
      .filter((device) => device.endpoint !== "overlay" && !this.#held.has(device.endpoint));
    const held = this.ids;
    const ids = kernel.endpoints.entries()
      .filter(([id, record]) =>
        id !== 0 && !held.has(id) &&
        (record.ifindex !== 0 || record.cgroupId !== 0n || (id === ENDPOINT_HOST && record.policy !== 0))
      )
      .map(([id]) => id);
    return { devices, ids };
  }

  /** How many endpoints of the process before are left. */
  get leftoverCount(): number {
    const { devices, ids } = this.leftovers();
    const indexes = new Set(devices.map((device) => device.ifindex));
    return devices.length +
      ids.filter((id) => !indexes.has(this.#parts.kernel.endpoints.get(id)?.ifindex ?? 0)).length;
  }

  /** Removes the leftovers. @returns how many endpoints */
  sweep(): number {
    const { kernel, attachments, socket } = this.#parts;
    const swept = this.leftoverCount;
    const { devices, ids } = this.leftovers();
    for (const device of devices) {
      silenceDevice(socket, kindOf(device), device.ifindex, kernel.pins.alias(device.endpoint));
    }
    const known = this.ids;
    for (const [cookie, id] of kernel.netnsCookies.entries()) {
      if (!known.has(id)) kernel.netnsCookies.delete(cookie);
    }
    for (const id of ids) {
      const addresses = kernel.addresses.entries().filter(([, owner]) => owner.endpoint === id);
      const record = kernel.endpoints.get(id)!;
      if (record.cgroupId !== 0n) {
        attachments.removeCgroup(record.cgroupId);
        kernel.cgroups.delete(record.cgroupId);
      }
      kernel.ifindexes.delete(record.ifindex);
      this.#forget(id, addresses.map(([address]) => hex(address)));
    }
    for (const device of devices) {
      this.#releaseDevice({ kind: kindOf(device), ipv4: "", ipv6: "" }, device.ifindex, device.endpoint);
    }
    return swept;
  }

  #check(desired: DatapathEndpoint): void {
    const wrong = (field: string, found: unknown, expected: string) =>
      new ProblemError("ENDPOINT_INVALID", {
        status: 422,
        detail: `Cannot attach endpoint ${desired.name}: ${field} is ${
          JSON.stringify(found)
        }, not ${expected}`,
        found: String(found),
        expected,
      });
    if (!(desired.id >= 1 && desired.id < ENDPOINTS_MAX)) {
      throw wrong("id", desired.id, `1 to ${ENDPOINTS_MAX - 1}`);
    }
    const other = this.nameOf(desired.id);
    if (other !== "" && other !== desired.name) throw wrong("id", desired.id, `free (${other} has it)`);
    const isHost = desired.kind === "HOST";
    if (isHost !== (desired.id === ENDPOINT_HOST)) {
      throw wrong("id", desired.id, isHost ? `${ENDPOINT_HOST}` : "another, this one is the host's");
    }
    const place =
      { NETNS: desired.netns, DEVICE: desired.device, CGROUP: desired.cgroup }[desired.kind as "NETNS"];
    if (place === undefined && !isHost) throw wrong("kind", desired.kind, "NETNS, DEVICE, CGROUP or HOST");
    if (place === "") throw wrong(desired.kind.toLowerCase(), place, "a place");
    if (desired.mac !== "") parseMac(desired.mac);
    mapped(desired.ipv4);
    mapped(desired.ipv6);
  }

  #slotOf(desired: DatapathEndpoint): number {
    if (desired.policy === "") return 0;
    const slot = this.#parts.policies.slotOf(desired.policy);
    if (slot !== undefined) return slot;
    throw new ProblemError("POLICY_NOT_FOUND", {
      status: 409,
      detail: `Cannot attach endpoint ${desired.name}: policy ${desired.policy} is not in the kernel`,
      found: "nothing",
      expected: desired.policy,
      action: `PUT /v1/policies/${desired.policy} first`,
    });
  }

  #applyDevice(desired: DatapathEndpoint, slot: number, started: number): DatapathEndpointStatus {
    const { kernel, attachments, socket } = this.#parts;
    const network = this.#parts.network();
    if (network === undefined) {
      throw new ProblemError("NODE_NOT_CONFIGURED", {
        status: 409,
        detail: `Cannot attach endpoint ${desired.name}: the node is not configured`,
        action: "PUT /v1/nodeconfig/node first",
      });
    }
    const first = !this.#held.has(desired.name);
    const previous = kernel.endpoints.get(desired.id);
    const device = ensureDevice(socket, desired, network, kernel.pins);
    if (previous !== undefined && previous.ifindex !== 0 && previous.ifindex !== device.ifindex) {
      // The device before is gone (its number may come again for somebody else's), or the endpoint has moved to another.
      const before = deviceAt(socket, previous.ifindex);
      const kind = before === undefined ? "" : kindOf(before);
      silenceDevice(socket, kind, previous.ifindex, kernel.pins.alias(desired.name));
      const { ipv4, ipv6 } = this.#held.get(desired.name)?.desired ?? desired;
      this.#releaseDevice({ kind, ipv4, ipv6 }, previous.ifindex, desired.name);
    }
    this.#writeMaps(desired, {
      ifindex: device.ifindex,
      identity: desired.identity,
      revision: 0,
      policy: slot,
      flags: device.peer ? ENDPOINT_PEER : 0,
      mac: parseMac(device.mac),
      hostMac: parseMac(device.hostMac),
      wire: 0,
      ipv4Be: ipv4Number(desired.ipv4),
      netns: (device.netnsId ?? -1) + 1,
      ipv6: mapped(desired.ipv6),
      cgroupId: 0n,
    });
    if (kernel.ifindexes.get(device.ifindex) !== desired.id) kernel.ifindexes.put(device.ifindex, desired.id);
    const outcomes = expedited(() => [
      attachments.device("from_endpoint", device.ifindex, device.hostDevice, "ingress"),
      attachments.device("to_endpoint", device.ifindex, device.hostDevice, "egress"),
    ]);
    raise(socket, device, desired);
    const cookie = this.#noteSockets(desired);
    this.#held.set(desired.name, { desired, device, cookie, cgroupId: 0n, addresses: addressesOf(desired) });
    const adopted = device.adopted && outcomes.every((outcome) => outcome !== "created");
    if (first) this.#count(adopted, device.adopted || (previous !== undefined && previous.ifindex !== 0));
    return DatapathEndpointStatus.create({
      ready: true,
      ifindex: device.ifindex,
      hostDevice: device.hostDevice,
      mac: device.mac,
      hostMac: device.hostMac,
      identity: desired.identity,
      adopted,
      attachMs: performance.now() - started,
    });
  }

  /** Tells the programs whose the sockets of its namespace are. @returns its cookie */
  #noteSockets({ kind, netns: path, id, name }: DatapathEndpoint): bigint | undefined {
    const { netnsCookies } = this.#parts.kernel;
    if (kind !== "NETNS") return undefined;
    using netns = Netns.open(path);
    const cookie = netnsCookie(netns), before = this.#held.get(name)?.cookie;
    // The namespace was made anew.
    if (before !== undefined && before !== cookie) netnsCookies.delete(before);
    if (cookie !== undefined && netnsCookies.get(cookie) !== id) netnsCookies.put(cookie, id);
    return cookie;
  }

  #applyCgroup(desired: DatapathEndpoint, slot: number, started: number): DatapathEndpointStatus {
    const { kernel, attachments } = this.#parts;
    const id = cgroupId(desired.cgroup);
    const first = !this.#held.has(desired.name);
    const previous = kernel.endpoints.get(desired.id);
    this.#writeMaps({ ...desired, ipv4: "", ipv6: "" }, {
      ifindex: 0,
      identity: desired.identity,
      revision: 0,
      policy: slot,
      flags: ENDPOINT_CGROUP,
      mac: new Uint8Array(6),
      hostMac: new Uint8Array(6),
      wire: 0,
      ipv4Be: 0,
      netns: 0,
      ipv6: new Uint8Array(16),
      cgroupId: id,
    });
    if (kernel.cgroups.get(id) !== desired.id) kernel.cgroups.put(id, desired.id);
    const outcomes = [
      attachments.cgroup("cgroup_ingress", id, desired.cgroup, "ingress"),
      attachments.cgroup("cgroup_egress", id, desired.cgroup, "egress"),
    ];
    this.#held.set(desired.name, { desired, cgroupId: id, addresses: [] });
    const adopted = previous?.cgroupId === id && outcomes.every((outcome) => outcome !== "created");
    if (first) this.#count(adopted, previous !== undefined && previous.cgroupId !== 0n);
    return DatapathEndpointStatus.create({
      ready: true,
      identity: desired.identity,
      adopted,
      attachMs: performance.now() - started,
    });
  }

  #applyHost(desired: DatapathEndpoint, slot: number, started: number): DatapathEndpointStatus {
    const adopted = !this.#writeHost(slot);
    this.#held.set(desired.name, { desired, cgroupId: 0n, addresses: [] });
    return DatapathEndpointStatus.create({
      ready: true,
      identity: IDENTITY_HOST,
      adopted,
      attachMs: performance.now() - started,
    });
  }

  /**
   * The host's record: who it is to others never changes. A policy that closes no direction is none: then nothing of the host's is looked
   * at. @returns whether anything was written
   */
  #writeHost(slot: number): boolean {
    const { kernel } = this.#parts, slotBefore = this.hostSlot;
    const closes = kernel.policySlots.get(slot)?.directions.some(({ enforce }) => enforce !== 0) ?? false;
    const policy = closes ? slot : 0;
    const empty = Endpoint.decode(new Uint8Array(Endpoint.bytes));
    const present = kernel.endpoints.get(ENDPOINT_HOST) ?? empty;
    const record = { ...empty, identity: IDENTITY_HOST, policy, revision: present.revision };
    if (sameRecord(present, record)) return false;
    this.#writeRecord(ENDPOINT_HOST, record);
    // Endpoints' flows with the host know of its record only if there was a policy.
    if ((slotBefore === 0) !== (policy === 0)) kernel.reviseAll();
    return true;
  }

  #count(adopted: boolean, wasThere: boolean): void {
    if (adopted) this.adopted++;
    else if (wasThere) this.rebuilt++;
  }

  /** Addresses and record. @returns whether the record was as wanted already */
  #writeMaps(desired: DatapathEndpoint, record: Endpoint): boolean {
    const { kernel } = this.#parts;
    const wanted = addressesOf(desired);
    const before = this.#held.get(desired.name)?.addresses ?? [];
    const moved: string[] = [];
    for (const address of wanted) {
      const key = Uint8Array.fromHex(address) as Uint8Array<ArrayBuffer>;
      if (kernel.addresses.get(key)?.endpoint === desired.id) continue;
      kernel.addresses.put(key, { endpoint: desired.id, flags: 0 });
      moved.push(address);
    }
    for (const address of before) {
      if (wanted.includes(address)) continue;
      kernel.addresses.delete(Uint8Array.fromHex(address) as Uint8Array<ArrayBuffer>);
      moved.push(address);
    }
    kernel.revise(moved.map(placeOf));
    const present = kernel.endpoints.get(desired.id);
    const wire = this.#wireOf(desired.id, record, present);
    if (present !== undefined && sameRecord(present, { ...record, wire })) return true;
    this.#writeRecord(desired.id, { ...record, wire, revision: present?.revision ?? 0 });
    return false;
  }

  /** First the record, then its revision: a verdict that is cached with the new revision was given by the new policy. */
  #writeRecord(id: number, record: Endpoint): void {
    this.#parts.kernel.endpoints.put(id, record);
    this.#parts.kernel.endpoints.put(id, { ...record, revision: (record.revision + 1) >>> 0 });
  }

  /** Clears an endpoint's record and addresses and ends its flows. The revision goes on. */
  #forget(id: number, addresses: readonly string[]): void {
    const { kernel } = this.#parts;
    for (const address of addresses) {
      kernel.addresses.delete(Uint8Array.fromHex(address) as Uint8Array<ArrayBuffer>);
    }
    const present = kernel.endpoints.get(id);
    const empty = Endpoint.decode(new Uint8Array(Endpoint.bytes));
    this.#moves.delete(id);
    kernel.endpoints.put(id, { ...empty, revision: ((present?.revision ?? 0) + 1) >>> 0 });
    this.#parts.onForgotten?.(id);
    kernel.revise(addresses.map(placeOf));
    kernel.collect({ mode: GC_ENDPOINT, endpoint: id });
    for (const address of addresses) {
      kernel.collect({ mode: GC_ADDRESS, address: Uint8Array.fromHex(address) as Uint8Array<ArrayBuffer> });
    }
  }
}

/** A veth that we made goes; a device that we found (a VM's tap) loses the mark. */
function kindOf(device: { name: string }): string {
  return device.name.startsWith("lxc") ? "NETNS" : "DEVICE";
}

function addressesOf(desired: DatapathEndpoint): string[] {
  return [desired.ipv4, desired.ipv6].filter((text) => text !== "").map((text) => hex(mapped(text)));
}

function placeOf(address: string) {
  return { address: Uint8Array.fromHex(address) as Uint8Array<ArrayBuffer>, prefixlen: 128 };
}

function sameRecord(a: Endpoint, b: Endpoint): boolean {
  const image = (record: Endpoint) => hex(Endpoint.encode({ ...record, revision: 0 }));
  return image(a) === image(b);
}
