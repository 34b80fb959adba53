/**
 * The mode of a policy, `weir.dev/mode` among its annotations: `enforce`, which is the default, or `audit`.
 * @module
 */
import { describe, type ManifestObject, POLICY_MODE_ANNOTATION } from "@weir/common/manifest";
import { DIRECTIONS, type Policy, type PolicyKind } from "./policy.ts";

/** Kinds that may be tried by audit; others have no rules, or tiers of their own. */
const AUDITED_KINDS: ReadonlySet<string> = new Set<PolicyKind>([
  "CiliumNetworkPolicy",
  "CiliumClusterwideNetworkPolicy",
  "NetworkPolicy",
]);

/** Whether a policy is in audit mode; what cannot be is said to the reader. */
export function isAudited(
  { metadata, reader, kind }: Pick<ManifestObject, "metadata" | "reader" | "kind">,
  { rules }: Pick<Policy, "rules">,
): boolean {
  const mode = metadata?.fields.get("annotations")?.value.fields.get(POLICY_MODE_ANNOTATION)?.value;
  if (mode === undefined || mode.scalar === "enforce") return false;
  if (mode.scalar !== "audit") {
    reader.invalid(mode, `${describe(mode)}, want audit or enforce`);
    return false;
  }
  if (!AUDITED_KINDS.has(kind)) {
    reader.unsupported(mode, "audit", `not for a ${kind}`);
    return false;
  }
  for (const { directions } of rules) {
    for (const direction of DIRECTIONS) {
      for (const port of directions[direction].sections.flatMap(({ ports }) => ports)) {
        if (port.rules === undefined) continue;
        const { path, line } = port.rules;
        reader.unsupported(
          mode,
          "audit",
          `not with L7 rules (${path}, line ${line}): nothing is sent to the L7 proxy that would not go there without the policy`,
        );
        return false;
      }
    }
  }
  return true;
}
