/**
 * Policies in the kernel: one slot per policy, shared by every endpoint of it. A changed policy is a new slot, so no packet
 * sees half of it; endpoints are switched, then the old slot is freed. Slots are recognised after a restart by what is in
 * them.
 *
 *     entries ─▶ new inner map ─▶ weir_policies[slot] ─▶ weir_policy_slots[slot] ─▶ endpoints name the slot
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type BpfMap, u32 } from "@weir/loader";
import {
  DESTINATION_FIRST,
  POLICY_DIRECTION_AUDIT,
  POLICY_DIRECTION_AUDITED,
  POLICY_DIRECTION_REDIRECTS,
  POLICY_EGRESS,
  POLICY_ENTRY_BEFORE,
  POLICY_ENTRY_BEHIND,
  POLICY_ENTRY_DEFAULT,
  POLICY_ENTRY_DENY,
  POLICY_ENTRY_NOBODY,
  POLICY_ENTRY_REDIRECT,
  POLICY_INGRESS,
  POLICY_SLOTS_MAX,
  type PolicyDirection,
  PolicyEntry,
  PolicyKey,
  PolicySlot,
  SHAPE_ANY_PROTOCOL,
  SHAPE_AUDIT,
  SHAPE_EGRESS,
  SHAPE_LENGTH,
  SHAPES_MAX,
} from "@weir/maps";
import {
  IpAddress,
  PRECEDENCE_ALLOW,
  PRECEDENCE_ALLOW_ALL,
  PRECEDENCE_AUDIT_DEFAULT,
  Prefix,
  ProblemError,
  tierOf,
} from "@weir/common";
import { DatapathPolicy, LeftPolicy } from "@weir/proto/datapath";
import { MapStateEntry } from "@weir/proto/policy";
import type { Kernel } from "../kernel/kernel.ts";
import { DestinationTable, flattenPolicy } from "./policy_destinations.ts";

/** Key and value; `destination` has a number that goes in place of the identity. */
export type ImageEntry = readonly [key: PolicyKey, value: Uint8Array<ArrayBuffer>, destination?: string];

/** Of an entry that was read from the kernel, which keeps only whether there is a rule set. */
const RULE_SET_UNKNOWN = 0xffff_ffff;

/** A policy in the kernel's form. */
export interface PolicyImage {
  slot: PolicySlot;
  entries: ImageEntry[];
  /** Equal for equal contents. */
  hash: string;
}

interface HeldPolicy {
  slot: number;
  hash: string;
  /** Slots of before that endpoints may still name, because a switch was cut short. */
  before: number[];
}

/** Policies in the kernel. */
export class PolicyStore {
  readonly #slots = new Map<string, HeldPolicy>();
  readonly #used = new Set<number>();
  /** Slots that the process before filled, by contents; taken over when a policy with these comes. */
  readonly #found = new Map<string, number[]>();
  /** Those of them that were taken over: endpoints that nobody has given to this process may name them. */
  readonly #adopted = new Set<number>();
  readonly #destinations: DestinationTable;
  /** Numbers of destinations that a slot uses. */
  readonly #numbers = new Map<number, number[]>();
  adopted = 0;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel, readonly entriesMax: number) {
    this.#kernel = kernel;
    // Slots that no endpoint names are garbage of a switch that was cut short.
    const named = new Set(kernel.endpoints.entries().map(([, endpoint]) => endpoint.policy));
    const outer = kernel.map("weir_policies");
    this.#destinations = new DestinationTable(kernel.map("weir_policy_destinations"));
    for (const key of outer.keys()) {
      const slot = new DataView(key.buffer).getUint32(0, true);
      const inner = outer.lookupInner(key);
      if (inner === undefined || slot === 0) continue;
      using map = inner;
      this.#used.add(slot);
      const header = kernel.policySlots.get(slot);
      if (!named.has(slot) || header === undefined) continue;
      const hash = hashOf(header, this.#read(slot, map.entries()));
      this.#found.set(hash, [...this.#found.get(hash) ?? [], slot]);
    }
  }

  /** Slot of a policy, undefined when it is not there. */
  slotOf(name: string): number | undefined {
    return this.#slots.get(name)?.slot;
  }
  get size(): number {
    return this.#slots.size;
  }
  names(): string[] {
    return [...this.#slots.keys()];
  }
  nameOf(slot: number): string {
    for (const [name, held] of this.#slots) if (held.slot === slot) return name;
    return "";
  }
  /** Slots of the process before that nothing took over. */
  leftovers(): number[] {
    return [...this.#found.values()].flat();
  }

  /** The same as they could be given again, with the numbers of the endpoints that have them. */
  left(): LeftPolicy[] {
    const endpoints = Map.groupBy(this.#kernel.endpoints.entries(), ([, endpoint]) => endpoint.policy);
    const left: LeftPolicy[] = [];
    for (const slot of this.leftovers()) {
      const header = this.#kernel.policySlots.get(slot),
        inner = this.#kernel.map("weir_policies").lookupInner(u32(slot));
      if (inner === undefined || header === undefined) continue;
      using map = inner;
      const policy = policyOf(`left:${slot}`, header, this.#read(slot, map.entries()));
      left.push(LeftPolicy.create({ policy, endpoints: endpoints.get(slot)?.map(([id]) => id) }));
    }
    return left;
  }

  /**
   * Writes a policy. `switchTo` is called with the new slot when it is another than before, and must make every endpoint
   * of the policy name it; the old slot is freed afterwards. Repeatable: equal contents change nothing.
   * @throws {ProblemError} POLICY_MAP_FULL, POLICY_SLOTS_FULL, before anything is written
   */
  put(policy: DatapathPolicy, switchTo: (slot: number) => void): number {
    const image = imageOf(policy);
    this.#refuseOverflow(policy, image);
    let held = this.#slots.get(policy.name);
    if (held?.hash !== image.hash) {
      const slot = this.#adopt(image.hash) ?? this.#write(policy.name, image);
      const before = held === undefined ? [] : [held.slot, ...held.before];
      this.#slots.set(policy.name, held = { slot, hash: image.hash, before });
    }
    if (held.before.length > 0) {
      switchTo(held.slot);
      for (; held.before.length > 0; held.before.shift()) {
        // An endpoint that nobody has given again yet goes on with it; the sweep frees it.
        if (!this.#isStillNamed(held.before[0])) this.#free(held.before[0]);
      }
    }
    return held.slot;
  }

  /** Removes a policy that no endpoint names any more; false when there is none. */
  delete(name: string): boolean {
    const held = this.#slots.get(name);
    if (held === undefined) return false;
    for (const slot of [...held.before, held.slot]) if (this.#used.has(slot)) this.#free(slot);
    this.#slots.delete(name);
    return true;
  }

  /** Frees what no policy took over. @returns how many slots */
  sweep(): number {
    const held = new Set([...this.#slots.values()].flatMap(({ slot, before }) => [slot, ...before]));
    let swept = 0;
    for (const slot of [...this.#used]) {
      if (held.has(slot)) continue;
      this.#free(slot);
      swept++;
    }
    this.#found.clear();
    return swept + this.#destinations.sweep();
  }

  #refuseOverflow(policy: DatapathPolicy, image: PolicyImage): void {
    const destinations = image.entries.flatMap(([, , destination]) => destination ?? []);
    this.#destinations.refuseOverflow(policy.name, new Set(destinations));
    if (image.entries.length <= this.entriesMax) return;
    const excess = policy.entries.slice(this.entriesMax, this.entriesMax + 3).map(describeEntry).join("; ");
    throw new ProblemError("POLICY_MAP_FULL", {
      status: 507,
      detail:
        `Cannot write policy ${policy.name}: it has ${image.entries.length} of at most ${this.entriesMax} entries; ` +
        `nothing was written. Beyond the limit: ${excess}`,
      found: image.entries.length,
      expected: `at most ${this.entriesMax}`,
      action: "Use fewer or wider rules, or raise --policy-entries-max",
    });
  }

  #isStillNamed(slot: number): boolean {
    if (!this.#adopted.has(slot)) return false;
    return this.#kernel.endpoints.entries().some(([, endpoint]) => endpoint.policy === slot);
  }

  #adopt(hash: string): number | undefined {
    const slots = this.#found.get(hash);
    const slot = slots?.shift();
    if (slots?.length === 0) this.#found.delete(hash);
    if (slot !== undefined) {
      this.#adopted.add(slot);
      this.adopted++;
    }
    return slot;
  }

  #write(name: string, image: PolicyImage): number {
    const slot = this.#freeSlot(name);
    using inner: BpfMap = this.#kernel.createPolicyMap(Math.max(1, image.entries.length));
    this.#used.add(slot);
    try {
      inner.updateBatch(image.entries.map(([key, value, destination]) => {
        const identity = destination === undefined ? key.identity : this.#claim(slot, destination);
        return [PolicyKey.encode({ ...key, identity }), value];
      }));
      this.#kernel.map("weir_policies").update(u32(slot), u32(inner.fd));
      this.#kernel.policySlots.put(slot, image.slot);
    } catch (error) {
      // Nobody names the slot yet. What the kernel does not take back stays taken until the next sweep.
      try {
        this.#empty(slot);
      } catch { /* the first error tells more */ }
      throw error;
    }
    return slot;
  }

  #claim(slot: number, destination: string): number {
    const number = this.#destinations.claim(destination), numbers = this.#numbers.get(slot);
    if (numbers === undefined) this.#numbers.set(slot, [number]);
    else numbers.push(number);
    return number;
  }

  /** Entries of a slot as they are in an image. A number that nobody has any more makes it like none. */
  #read(slot: number, entries: readonly (readonly [Uint8Array, Uint8Array])[]): ImageEntry[] {
    return entries.map(([rawKey, value]) => {
      const key = PolicyKey.decode(rawKey);
      if (key.identity < DESTINATION_FIRST) return [key, value as Uint8Array<ArrayBuffer>];
      const destination = this.#destinations.keyOf(key.identity) ?? `${key.identity}`;
      if (this.#destinations.keyOf(key.identity) !== undefined) this.#claim(slot, destination);
      const identity = Number(destination.split(" ")[1] ?? 0);
      return [{ ...key, identity }, value as Uint8Array<ArrayBuffer>, destination];
    });
  }

  #freeSlot(name: string): number {
    for (let slot = 1; slot < POLICY_SLOTS_MAX; slot++) if (!this.#used.has(slot)) return slot;
    throw new ProblemError("POLICY_SLOTS_FULL", {
      status: 507,
      detail: `Cannot write policy ${name}: all ${POLICY_SLOTS_MAX - 1} slots are taken`,
      found: this.#used.size,
      expected: `fewer than ${POLICY_SLOTS_MAX - 1}`,
    });
  }

  #free(slot: number): void {
    // A packet that is on its way may still read the slot: it must find a policy that denies, never one that allows.
    const closed = directionOf([], true, 0);
    this.#kernel.policySlots.put(slot, { directions: [closed, closed] });
    this.#empty(slot);
  }

  /** Takes the map out of a slot that no packet can read. */
  #empty(slot: number): void {
    this.#kernel.map("weir_policies").delete(u32(slot));
    for (const number of this.#numbers.get(slot) ?? []) this.#destinations.release(number);
    this.#numbers.delete(slot);
    this.#used.delete(slot);
    this.#adopted.delete(slot);
  }
}

/** A policy as the kernel holds it. Pure. */
function imageOf(policy: DatapathPolicy): PolicyImage {
  const flat = flattenPolicy(policy.entries);
  const entries = flat.map(({ entry, flags, standsFor, destination }): ImageEntry => [
    {
      identity: entry.identity,
      port: entry.port,
      protocol: entry.protocol,
      shape: shapeOf(entry) | (entry.direction === "EGRESS" ? SHAPE_EGRESS : 0) |
        (entry.audit ? SHAPE_AUDIT : 0),
    },
    PolicyEntry.encode({
      precedence: entry.precedence,
      cookie: entry.cookie,
      flags: flags | (entry.ruleSet === 0 ? 0 : POLICY_ENTRY_REDIRECT) | placeFlag(entry),
      standsFor,
    }),
    destination,
  ]);
  const written = flat.map(({ entry }) => entry);
  const directions: PolicyDirection[] = [];
  directions[POLICY_INGRESS] = directionOf(
    written.filter((entry) => entry.direction === "INGRESS"),
    policy.enforceIngress,
    policy.ingressDefaultCookie,
    policy.audit,
  );
  directions[POLICY_EGRESS] = directionOf(
    written.filter((entry) => entry.direction === "EGRESS"),
    policy.enforceEgress,
    policy.egressDefaultCookie,
    policy.audit,
  );
  const slot = { directions };
  return { slot, entries, hash: hashOf(slot, entries) };
}

/** The policy of which {@link imageOf} makes this. Pure. */
export function policyOf(
  name: string,
  { directions }: PolicySlot,
  entries: readonly ImageEntry[],
): DatapathPolicy {
  const ingress = directions[POLICY_INGRESS], egress = directions[POLICY_EGRESS];
  return DatapathPolicy.create({
    name,
    enforceIngress: ingress.enforce !== 0,
    enforceEgress: egress.enforce !== 0,
    audit: (ingress.flags & POLICY_DIRECTION_AUDIT) !== 0,
    ingressDefaultCookie: ingress.defaultCookie,
    egressDefaultCookie: egress.defaultCookie,
    entries: entries.flatMap(([key, value, destination]) => {
      const { flags, standsFor, precedence, cookie } = PolicyEntry.decode(value);
      // Made by the flattening, and made again by it.
      if (standsFor !== 0 || flags & POLICY_ENTRY_NOBODY) return [];
      const anyProtocol = (key.shape & SHAPE_ANY_PROTOCOL) !== 0;
      return [MapStateEntry.create({
        direction: key.shape & SHAPE_EGRESS ? "EGRESS" : "INGRESS",
        identity: key.identity,
        protocol: anyProtocol ? 0 : key.protocol,
        port: key.port,
        portPrefixLength: anyProtocol ? 0 : key.shape & SHAPE_LENGTH,
        deny: (flags & POLICY_ENTRY_DENY) !== 0,
        precedence,
        // Which one it is only the proxy needs to know.
        ruleSet: flags & POLICY_ENTRY_REDIRECT ? RULE_SET_UNKNOWN : 0,
        audit: (key.shape & SHAPE_AUDIT) !== 0,
        passedTo: key.shape & SHAPE_AUDIT ? 0 : passedTo(flags, precedence),
        cookie,
        addresses: destination === undefined
          ? []
          : [Prefix.host(IpAddress.parse(destination.split(" ")[0])).text],
      })];
    }),
  });
}

/** Where what decides stands towards ordinary policies, for those in audit mode among them. */
function placeFlag({ audit, precedence, passedTo }: MapStateEntry): number {
  if (audit) return precedence === PRECEDENCE_AUDIT_DEFAULT ? POLICY_ENTRY_DEFAULT : 0;
  const tier = tierOf(passedTo || precedence);
  return tier === "Ordinary" ? 0 : tier === "Admin" ? POLICY_ENTRY_BEFORE : POLICY_ENTRY_BEHIND;
}

/** What {@link placeFlag} was made of, as far as it counts. */
function passedTo(flags: number, precedence: number): number {
  if (tierOf(precedence) !== "Admin" || flags & POLICY_ENTRY_BEFORE) return 0;
  return flags & POLICY_ENTRY_BEHIND ? PRECEDENCE_ALLOW_ALL : PRECEDENCE_ALLOW;
}

/** Any protocol, or the length of the port prefix. */
function shapeOf(entry: MapStateEntry): number {
  return entry.protocol === 0 ? SHAPE_ANY_PROTOCOL : entry.portPrefixLength;
}

/** Shapes that occur, most specific first: long port prefixes before short ones, any protocol last. */
function directionOf(
  entries: readonly MapStateEntry[],
  enforce: boolean,
  defaultCookie: number,
  audit = false,
): PolicyDirection {
  const shapes = (wanted: (entry: MapStateEntry) => boolean) =>
    [...new Set(entries.filter(wanted).map(shapeOf))]
      .sort((a, b) => (a === SHAPE_ANY_PROTOCOL ? 99 : 16 - a) - (b === SHAPE_ANY_PROTOCOL ? 99 : 16 - b));
  const identityShapes = shapes((entry) => entry.identity !== 0),
    anyShapes = shapes((entry) => entry.identity === 0);
  const padded = (list: number[]) => Uint8Array.from({ length: SHAPES_MAX }, (_, i) => list[i] ?? 0);
  return {
    enforce: enforce ? 1 : 0,
    identityShapesCount: identityShapes.length,
    anyShapesCount: anyShapes.length,
    flags: (entries.some(({ ruleSet }) => ruleSet !== 0) ? POLICY_DIRECTION_REDIRECTS : 0) |
      (entries.some(({ audit }) => audit) ? POLICY_DIRECTION_AUDITED : 0) |
      (audit ? POLICY_DIRECTION_AUDIT : 0),
    defaultCookie,
    identityShapes: padded(identityShapes),
    anyShapes: padded(anyShapes),
  };
}

function hashOf(slot: PolicySlot, entries: readonly ImageEntry[]): string {
  const hash = createHash("sha256").update(PolicySlot.encode(slot));
  const lines = entries.map(([key, value, destination]) =>
    `${PolicyKey.encode(key).toHex()}${value.toHex()}${destination ?? ""}`
  );
  for (const line of lines.sort()) hash.update(line);
  return hash.digest("hex");
}

function describeEntry(entry: MapStateEntry): string {
  return `${entry.direction.toLowerCase()} identity ${entry.identity} protocol ${entry.protocol} port ${entry.port}`;
}
