/**
 * The policies of administrators as rules: AdminNetworkPolicy and BaselineAdminNetworkPolicy (v1alpha1), and ClusterNetworkPolicy (v1alpha2),
 * which says the same with a tier of its own.
 * @module
 */
import { TIER_PRIORITY_MAX, tierPriority } from "@weir/common";
import type { ManifestNode, ManifestReader } from "@weir/common/manifest";
import type { PolicyContext } from "./cilium_policy.ts";
import {
  type Direction,
  DIRECTIONS,
  type PolicyKind,
  type PolicyRule,
  type PolicyTier,
  type RuleDirection,
  type RuleSection,
} from "./policy.ts";
import { readTieredPeers, readTieredSubject } from "./tiered_peer.ts";
import { readTieredPorts } from "./tiered_port.ts";

/** What the API of each kind has. */
export interface TieredSyntax {
  /** Names of actions, and whether they allow, deny or pass. */
  readonly actions: Readonly<Record<string, "allow" | "deny" | "pass">>;
  /** Most rules in one direction, and most items in one list of a rule. */
  readonly rulesMax: number;
  readonly itemsMax: number;
  /** The field of a rule that has its ports. */
  readonly portsField: "ports" | "protocols";
  /** The tier, where the kind has only one. */
  readonly tier?: PolicyTier["tier"];
  /** Whether the policy has a priority. */
  readonly hasPriority: boolean;
  /** Whether a rule may name domains. */
  readonly hasDomains: boolean;
}

/** The kinds. */
export type TieredKind = Extract<
  PolicyKind,
  "AdminNetworkPolicy" | "BaselineAdminNetworkPolicy" | "ClusterNetworkPolicy"
>;

const SYNTAX: Readonly<Record<TieredKind, TieredSyntax>> = {
  AdminNetworkPolicy: {
    actions: { Allow: "allow", Deny: "deny", Pass: "pass" },
    rulesMax: 100,
    itemsMax: 100,
    portsField: "ports",
    tier: "Admin",
    hasPriority: true,
    hasDomains: true,
  },
  BaselineAdminNetworkPolicy: {
    actions: { Allow: "allow", Deny: "deny" },
    rulesMax: 100,
    itemsMax: 100,
    portsField: "ports",
    tier: "Baseline",
    hasPriority: false,
    hasDomains: false,
  },
  ClusterNetworkPolicy: {
    actions: { Accept: "allow", Deny: "deny", Pass: "pass" },
    rulesMax: 25,
    itemsMax: 25,
    portsField: "protocols",
    hasPriority: true,
    hasDomains: true,
  },
};

/** Longest name of a rule. */
const RULE_NAME_MAX = 100;
/** The one name that a BaselineAdminNetworkPolicy may have. */
const BASELINE_NAME = "default";

/** What is read of a document. */
export interface TieredDocument {
  readonly kind: TieredKind;
  readonly name: string;
  readonly root: ManifestNode;
}

/** Reads `spec`: one rule for each direction that has some, or none after a fault. */
export function readTieredRules(
  reader: ManifestReader,
  { kind, name, root }: TieredDocument,
  context: PolicyContext,
): PolicyRule[] {
  const syntax = SYNTAX[kind];
  if (kind === "BaselineAdminNetworkPolicy" && name !== BASELINE_NAME && name !== "") {
    const place = root.fields.get("metadata")?.value.fields.get("name")?.value ?? root;
    reader.invalid(place, `${JSON.stringify(name)}, want ${BASELINE_NAME}: there is one of this kind`);
  }
  const spec = root.fields.get("spec")?.value;
  if (!spec || spec.kind === "null") return reader.invalid(root, "spec is missing") ?? [];
  const fields = reader.map(spec, [
    ...syntax.tier === undefined ? ["tier"] : [],
    ...syntax.hasPriority ? ["priority"] : [],
    "subject",
    "ingress",
    "egress",
  ]);
  if (!fields) return [];
  const tier = readTier(reader, spec, fields, syntax);
  const subjectNode = fields.get("subject");
  const subject = subjectNode
    ? readTieredSubject(reader, subjectNode, context)
    : reader.invalid(spec, "subject is missing");
  const rules = DIRECTIONS.flatMap((direction): PolicyRule[] => {
    const node = fields.get(direction === "INGRESS" ? "ingress" : "egress");
    const sections = readSections(reader, node, { direction, syntax, context, tier });
    if (node === undefined || sections.length === 0 || !subject || !tier) return [];
    return [{
      path: spec.path,
      line: spec.line,
      subject,
      description: "",
      labels: [],
      directions: {
        INGRESS: directionOf(node, direction === "INGRESS" ? sections : []),
        EGRESS: directionOf(node, direction === "EGRESS" ? sections : []),
      },
      tier,
    }];
  });
  if (rules.length === 0) context.warn(spec.path, "has no effect: neither ingress nor egress has a rule");
  return rules;
}

/** What no rule decides about is left to the next tier, and in the end allowed. */
function directionOf({ path, line }: ManifestNode, sections: readonly RuleSection[]): RuleDirection {
  return { applies: sections.length > 0, defaultDeny: false, path, line, sections };
}

function readTier(
  reader: ManifestReader,
  spec: ManifestNode,
  fields: ReadonlyMap<string, ManifestNode>,
  syntax: TieredSyntax,
): PolicyTier | undefined {
  let { tier } = syntax;
  if (tier === undefined) {
    const node = fields.get("tier"), text = reader.string(node, 32);
    if (node === undefined) reader.invalid(spec, "tier is missing, want Admin or Baseline");
    else if (text === "Admin" || text === "Baseline") tier = text;
    else if (text !== undefined) reader.invalid(node, `${JSON.stringify(text)}, want Admin or Baseline`);
  }
  let priority: number | undefined = 0;
  if (syntax.hasPriority) {
    const node = fields.get("priority");
    priority = reader.integer(node, 0, TIER_PRIORITY_MAX);
    if (node === undefined) reader.invalid(spec, `priority is missing, want 0 to ${TIER_PRIORITY_MAX}`);
  }
  return tier === undefined || priority === undefined ? undefined : { tier, priority };
}

interface SectionContext {
  readonly direction: Direction;
  readonly syntax: TieredSyntax;
  readonly context: PolicyContext;
  readonly tier: PolicyTier | undefined;
}

function readSections(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  { direction, syntax, context, tier }: SectionContext,
): RuleSection[] {
  const word = direction === "INGRESS" ? "from" : "to";
  return (reader.list(node, syntax.rulesMax) ?? []).flatMap((item, index) => {
    const fields = reader.map(item, ["name", "action", word, syntax.portsField]);
    if (!fields) return [];
    const name = reader.string(fields.get("name"), RULE_NAME_MAX);
    const action = readAction(reader, item, fields.get("action"), syntax);
    const ports = readTieredPorts(reader, fields.get(syntax.portsField), syntax);
    const peersNode = fields.get(word);
    if (!peersNode) return reader.invalid(item, `${word} is missing, want at least one peer`) ?? [];
    const peers = readTieredPeers(reader, peersNode, {
      ...context,
      itemsMax: syntax.itemsMax,
      isEgress: direction === "EGRESS",
      domains: !syntax.hasDomains ? "unknown" : action === "allow" ? "allowed" : "refused",
    });
    const addressed = peers.find(({ selector: { type }, path }) =>
      type !== "labels" || path.includes(".nodes")
    );
    if (addressed && ports.some(({ name }) => name !== "")) {
      const place = fields.get(syntax.portsField)!;
      return reader.invalid(place, `a named port cannot stand beside ${addressed.path}, which has none`) ??
        [];
    }
    return [{
      path: item.path,
      line: item.line,
      deny: action === "deny",
      pass: action === "pass",
      name,
      priority: tierPriority(tier?.tier ?? "Admin", tier?.priority ?? 0, index),
      peers,
      ports,
    }];
  });
}

function readAction(
  reader: ManifestReader,
  item: ManifestNode,
  node: ManifestNode | undefined,
  { actions }: TieredSyntax,
): "allow" | "deny" | "pass" | undefined {
  const wanted = Object.keys(actions).join(", ").replace(/, (\w+)$/, " or $1");
  if (node === undefined) return reader.invalid(item, `action is missing, want ${wanted}`);
  const text = reader.string(node, 32);
  if (text === undefined) return undefined;
  return Object.hasOwn(actions, text)
    ? actions[text]
    : reader.invalid(node, `${JSON.stringify(text)}, want ${wanted}`);
}
