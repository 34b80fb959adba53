/**
 * What a node may say over the network, where its certificate names it. A machine that was taken over can say anything of
 * its own endpoints; it must not be able to draw to itself, or give an identity to, what is another's.
 *
 * | it says                   | granted when                                                                             |
 * | ------------------------- | ---------------------------------------------------------------------------------------- |
 * | a prefix                  | it lies in its pod CIDR; or it is one address that no pool, other node, other entry, protected prefix or special range has |
 * | an identity for it        | the node holds it, with that identity's labels; or it is init, health, ingress, unmanaged or user-reserved |
 * | a tunnel end for it       | it is the node's own registered address                                                  |
 * | an address of its own     | no other node or entry has it, and it is not special, protected or in a pool             |
 * | a block of a named pool   | it is one of the pool's, and nobody else has it (`pool_blocks.ts`)                       |
 * | a pod CIDR                | it has it already, or it lies in the pool and is no larger than one of the pool's        |
 *
 * Callers on the unix socket and the control plane are not bound by this.
 * @module
 */
import { sql } from "kysely";
import type { Identity, IpcacheEntry, Node } from "@weir/proto/identity";
import {
  LABEL_NAMESPACE,
  LabelError,
  LabelSet,
  Prefix,
  ProblemError,
  RESERVED_IDENTITIES,
  SOURCE_KUBERNETES,
} from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import type { ClusterAddresses } from "./cluster_addresses.ts";
import type { IdentityAllocatorConfig } from "./config.ts";
import { fixedIdentity, IDENTITY_FIXED_MIN } from "./fixed_identity.ts";

/** Prefixes that one node may announce: two for each endpoint that it may have. */
export const ENTRIES_PER_NODE_MAX = 8190;

/** Reserved identities that an endpoint may have. */
const RESERVED_OF_ENDPOINTS: ReadonlySet<number> = new Set([
  RESERVED_IDENTITIES.unmanaged,
  RESERVED_IDENTITIES.health,
  RESERVED_IDENTITIES.init,
  RESERVED_IDENTITIES.ingress,
]);

/** Addresses that are no machine's, or that mean another machine everywhere. */
const SPECIAL: readonly Prefix[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "255.255.255.255/32",
  "::/127", // unspecified, loopback
  "::ffff:0:0/96",
  "fe80::/10",
  "ff00::/8",
].map((text) => Prefix.parse(text));

/** What is known of the node that speaks. */
export interface Speaker {
  readonly node: Node;
  /** Numbers that its endpoints hold. */
  readonly held: ReadonlySet<number>;
}

/** What judging needs of the cluster. */
export interface Surroundings {
  readonly addresses: ClusterAddresses;
  readonly config: IdentityAllocatorConfig;
  identity(number: number): Identity | undefined;
  /** Prefixes of the named pools. */
  podPools(): Prefix[];
}

/** The node as it is stored, with what it holds. @throws {ProblemError} NODE_UNKNOWN */
export async function fetchSpeaker(store: StoreTransaction, name: string): Promise<Speaker> {
  const node = await store.get<Node>("nodes", name);
  if (node === undefined) {
    throw new ProblemError("NODE_UNKNOWN", {
      status: 409,
      detail: `Cannot announce for node ${name}: it is not registered`,
      action: `PUT /v1/nodes/${name} first`,
    });
  }
  const { rows } = await sql<{ number: number }>`
    select distinct number from weir_holder where node = ${name}`.execute(store.tx);
  return { node, held: new Set(rows.map((row) => row.number)) };
}

/** Whether a node may announce this entry. @throws {ProblemError} of status 403 */
export function judgeEntry(entry: IpcacheEntry, speaker: Speaker, around: Surroundings): void {
  judgePrefix(Prefix.parse(entry.prefix), speaker.node, around);
  for (const key of ["nodeIpv4", "nodeIpv6"] as const) {
    const own = key === "nodeIpv4" ? speaker.node.ipv4 : speaker.node.ipv6;
    if (entry[key] !== "" && entry[key] !== own) {
      throw refused("TUNNEL_END_NOT_OWN", `Cannot announce ${entry.prefix}: its ${key} is not the node's`, {
        found: entry[key],
        expected: own || "no address",
      });
    }
  }
  judgeIdentity(entry, speaker, around);
}

function judgePrefix(prefix: Prefix, node: Node, around: Surroundings): void {
  if (ownCidrs(node).some((cidr) => cidr.contains(prefix))) return;
  const what = `Cannot announce ${prefix.text} for node ${node.name}`;
  if (!prefix.isHost) {
    throw refused("PREFIX_NOT_OWN", `${what}: it is wider than one address and not in the node's pod CIDR`, {
      found: prefix.text,
      expected: ownCidrs(node).join(", ") || "a node with a pod CIDR",
    });
  }
  judgeAddress(what, prefix, node.name, around);
}

/** An address beyond the node's pod CIDR: of a device, or of the node itself. */
function judgeAddress(
  what: string,
  address: Prefix,
  self: string,
  { addresses, config, podPools }: Pick<Surroundings, "addresses" | "config" | "podPools">,
): void {
  const reserved = SPECIAL.find((prefix) => prefix.contains(address)) ??
    config.protectedPrefixes.find((prefix) => prefix.contains(address));
  if (reserved !== undefined) {
    throw refused("PREFIX_RESERVED", `${what}: no node may have an address in ${reserved.text}`, {
      found: address.text,
    });
  }
  const node = addresses.otherNodeAt(address, self);
  if (node !== undefined) {
    throw refused("PREFIX_NOT_OWN", `${what}: it is an address, or in the pod CIDR, of node ${node}`, {
      found: address.text,
      expected: "an address of its own",
    });
  }
  const entry = addresses.otherEntryAt(address, self);
  if (entry !== undefined) {
    const owner = entry.node === "" ? "somebody outside the cluster" : `node ${entry.node}`;
    throw refused("PREFIX_NOT_OWN", `${what}: ${entry.prefix} is announced for ${owner}`, {
      found: address.text,
      expected: "an address of its own",
    });
  }
  const pool = [...poolsOf(config), ...podPools()].find((prefix) => prefix.contains(address));
  if (pool !== undefined) {
    throw refused(
      "PREFIX_NOT_OWN",
      `${what}: it lies in the pool ${pool.text}, of which the node has another part`,
      {
        found: address.text,
      },
    );
  }
}

function judgeIdentity(entry: IpcacheEntry, { node, held }: Speaker, around: Surroundings): void {
  const { identity: number, prefix } = entry;
  const isFixed = RESERVED_OF_ENDPOINTS.has(number) || (number >= IDENTITY_FIXED_MIN && number <= 255);
  if (!isFixed && !held.has(number)) {
    throw refused(
      "IDENTITY_NOT_HELD",
      `Cannot announce ${prefix}: node ${node.name} does not hold its identity`,
      {
        found: number,
        expected: "an identity that was allocated to, or claimed by, an endpoint of this node",
      },
    );
  }
  if (entry.labels.length === 0) return;
  const labels = readLabels(entry.labels);
  const known = isFixed ? undefined : around.identity(number);
  const isRight = isFixed
    ? labels !== undefined && fixedIdentity(labels)?.number === number
    // The watched table is a moment behind the database: a number that was made just now is not in it yet.
    : known === undefined || known.labels.join(";") === labels?.key;
  if (!isRight) {
    throw refused(
      "LABELS_NOT_OF_IDENTITY",
      `Cannot announce ${prefix}: its labels are not those of identity ${number}`,
      {
        found: entry.labels.join(", ").slice(0, 200),
        expected: known?.labels.join(", ").slice(0, 200) ?? "the labels of the identity",
      },
    );
  }
  const namespace = labels?.get(SOURCE_KUBERNETES, LABEL_NAMESPACE);
  if (namespace !== undefined && entry.namespace !== "" && entry.namespace !== namespace) {
    throw refused(
      "LABELS_NOT_OF_IDENTITY",
      `Cannot announce ${prefix}: its namespace is not that of identity ${number}`,
      {
        found: entry.namespace.slice(0, 200),
        expected: namespace,
      },
    );
  }
}

/** Whether a node may register with these addresses and wishes. @throws {ProblemError} of status 403 */
export function judgeNode(
  name: string,
  given: Node,
  before: Node | undefined,
  around: Pick<Surroundings, "addresses" | "config" | "podPools">,
): void {
  for (const key of ["ipv4", "ipv6"] as const) {
    const prefix = Prefix.tryParse(given[key]);
    // What is no address is refused by putNode(), in its words.
    if (prefix === undefined || given[key] === before?.[key]) continue;
    judgeAddress(`Cannot register node ${name} with ${given[key]}`, prefix, name, around);
  }
  const { podPoolV4, podLengthV4, podPoolV6, podLengthV6 } = around.config;
  for (
    const [wanted, has, pool, length] of [
      [given.podCidrV4, before?.podCidrV4, podPoolV4, podLengthV4],
      [given.podCidrV6, before?.podCidrV6, podPoolV6, podLengthV6],
    ] as const
  ) {
    if (wanted === "" || wanted === has) continue;
    const prefix = Prefix.tryParse(wanted, { bare: false });
    if (prefix === undefined) continue;
    if (pool !== "" && prefix.length >= length && Prefix.parse(pool).contains(prefix)) continue;
    throw refused("POD_CIDR_NOT_IN_POOL", `Cannot register node ${name} with pod CIDR ${prefix.text}`, {
      found: prefix.text,
      expected: pool === "" ? "none: there is no pool" : `a /${length} or less of ${pool}`,
      action: "Leave it empty to get one, or let an admin put the node with it",
    });
  }
}

/** NODE_ENTRIES_FULL: this prefix would be one more than a node may announce. */
export function entriesFull(prefix: string, node: string): ProblemError {
  return new ProblemError("NODE_ENTRIES_FULL", {
    status: 507,
    detail: `Cannot announce ${prefix}: node ${node} has announced ${ENTRIES_PER_NODE_MAX} prefixes`,
    found: ENTRIES_PER_NODE_MAX,
    expected: `fewer than ${ENTRIES_PER_NODE_MAX} prefixes of one node`,
    action: "Delete those of endpoints that are gone",
  });
}

function ownCidrs(node: Node): Prefix[] {
  return [node.podCidrV4, node.podCidrV6, ...node.pools.flatMap(({ cidrs }) => cidrs)]
    .filter((text) => text !== "").map((text) => Prefix.parse(text));
}

function poolsOf(config: IdentityAllocatorConfig): Prefix[] {
  return [config.podPoolV4, config.podPoolV6].filter((text) => text !== "").map((text) => Prefix.parse(text));
}

function readLabels(texts: string[]): LabelSet | undefined {
  try {
    return LabelSet.parse(texts);
  } catch (error) {
    if (error instanceof LabelError) return undefined;
    throw error;
  }
}

function refused(
  code: string,
  detail: string,
  more: { found: string | number; expected?: string; action?: string },
): ProblemError {
  return new ProblemError(code, {
    status: 403,
    detail,
    action: "A node announces what is its own; an admin may put the rest",
    ...more,
  });
}
