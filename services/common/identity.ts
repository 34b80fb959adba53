/**
 * Numeric security identities: which numbers mean what, and the identities that always exist.
 *
 * ```
 *  31      24 23      16 15             0
 * +----------+----------+----------------+
 * |  scope   | cluster  |       id       |   scope 0: on the wire; 1: prefixes and selectors of names; 2: addresses of names
 * +----------+----------+----------------+
 * ```
 * @module
 */
import { LabelSet, makeLabel, SOURCE_CIDR, SOURCE_RESERVED } from "./labels.ts";
import type { IpAddress } from "./address.ts";
import type { Prefix } from "./prefix.ts";

/** Reserved identities by name. The numbers are on the wire and in the eBPF programs: append-only. */
export const RESERVED_IDENTITIES = {
  "unknown": 0,
  "host": 1,
  "world": 2,
  "unmanaged": 3,
  "health": 4,
  "init": 5,
  "remote-node": 6,
  "kube-apiserver": 7,
  "ingress": 8,
  "world-ipv4": 9,
  "world-ipv6": 10,
  "overlay-to-encrypt": 11,
  // Ours: no machine, but many, this host's sockets among them. Far from Cilium's own (0-11 and from 100 on).
  "multicast": 64,
  "broadcast": 65,
} as const;

/** Name of a reserved identity. */
export type ReservedIdentityName = keyof typeof RESERVED_IDENTITIES;

export const IDENTITY_HOST = 1;
export const IDENTITY_WORLD = 2;
export const IDENTITY_INIT = 5;
export const IDENTITY_REMOTE_NODE = 6;
export const IDENTITY_WORLD_IPV4 = 9;
export const IDENTITY_WORLD_IPV6 = 10;
export const IDENTITY_MULTICAST = 64;
export const IDENTITY_BROADCAST = 65;

/** Range of identities that the allocator hands out in one cluster (both ends belong to it). */
export const IDENTITY_ALLOCATED_MIN = 256;
export const IDENTITY_ALLOCATED_MAX = 65535;
/** Cluster id of a number, bits 16 to 23. */
export const IDENTITY_CLUSTER_SHIFT = 16;
/** Identities of prefixes and of selectors of names (both ends belong to it), the same on every node; in no tunnel's header. */
export const IDENTITY_LOCAL_MIN = 0x0100_0000;
export const IDENTITY_LOCAL_MAX = 0x01ff_ffff;
/** Identities that one node gives addresses because of their names (both ends belong to it). */
export const IDENTITY_FQDN_MIN = 0x0200_0000;
export const IDENTITY_FQDN_MAX = 0x02ff_ffff;

const NAMES = new Map<number, ReservedIdentityName>(
  Object.entries(RESERVED_IDENTITIES).map(([name, number]) => [number, name as ReservedIdentityName]),
);

/** True for 0 to 255: reserved and user-reserved numbers. */
export function isReservedIdentity(identity: number): boolean {
  return identity >= 0 && identity < IDENTITY_ALLOCATED_MIN;
}

/** True for numbers that stand for prefixes or names: no pod and no node has one, and no tunnel's header. */
export function isLocalIdentity(identity: number): boolean {
  return identity >= IDENTITY_LOCAL_MIN && identity <= IDENTITY_FQDN_MAX;
}

/** True for numbers that this node gave addresses because of their names: elsewhere they mean nothing. */
export function isFqdnIdentity(identity: number): boolean {
  return identity >= IDENTITY_FQDN_MIN && identity <= IDENTITY_FQDN_MAX;
}

/** Name of the page of `mapstates` that says whether policies were made with the identity. */
export function knownPageOf(identity: number): string {
  return `${KNOWN_PAGE}${identity >>> 8}`;
}

/** Whether an object of `mapstates` is a page of known identities. */
export function isKnownPage(name: string): boolean {
  return name.startsWith(KNOWN_PAGE);
}

const KNOWN_PAGE = "known-";

/** Name of a reserved identity, or undefined. */
export function reservedIdentityName(identity: number): ReservedIdentityName | undefined {
  return NAMES.get(identity);
}

/** Number of a reserved identity, or undefined for a name that is none. */
export function reservedIdentityNumber(name: string): number | undefined {
  return Object.hasOwn(RESERVED_IDENTITIES, name)
    ? RESERVED_IDENTITIES[name as ReservedIdentityName]
    : undefined;
}

/** Labels of a reserved identity (`reserved:host`; kube-apiserver is a remote node too). */
export function reservedIdentityLabels(identity: number): LabelSet | undefined {
  const name = NAMES.get(identity);
  if (name === undefined) return undefined;
  const labels = [makeLabel(SOURCE_RESERVED, name)];
  if (name === "kube-apiserver") labels.push(makeLabel(SOURCE_RESERVED, "remote-node"));
  return LabelSet.from(labels);
}

/**
 * Labels of the identity of a prefix outside the cluster: `cidr:a.b.c.d/n` and the world label of its family. The
 * prefix of length 0 is the world itself and carries the world label only.
 */
export function cidrIdentityLabels(prefix: Prefix): LabelSet {
  const world = makeLabel(SOURCE_RESERVED, prefix.family === 4 ? "world-ipv4" : "world-ipv6");
  return LabelSet.from(prefix.length === 0 ? [world] : [makeLabel(SOURCE_CIDR, prefix.text), world]);
}

/**
 * Identity of an address by its bits alone, as the eBPF programs have it (identity_of_many() in ipcache.h): groups and "everybody"
 * are no part of the world, whatever prefixes cover them. Undefined: one machine's address.
 */
export function identityOfMany(address: IpAddress): number | undefined {
  const [first] = address.bytes;
  if (address.family === 6) return first === 0xff ? IDENTITY_MULTICAST : undefined;
  if (address.bytes.every((byte) => byte === 0xff)) return IDENTITY_BROADCAST;
  return first >> 4 === 0xe ? IDENTITY_MULTICAST : undefined;
}

/** `number` or `number (name)` for people. */
export function formatIdentity(identity: number): string {
  const name = NAMES.get(identity);
  return name === undefined ? `${identity}` : `${identity} (${name})`;
}
