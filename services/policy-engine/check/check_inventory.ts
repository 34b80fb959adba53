/**
 * What is wrong or odd in manifests, before anybody applies them: every policy is held against the others, and against the pods, services
 * and nodes that come along. Pure.
 * @module
 */
import type { Inventory } from "../offline/inventory.ts";
import { coveredAddresses, Essentials } from "./essential_traffic.ts";
import { CHECKS, type Finding, finding, sortFindings } from "./finding.ts";
import { meantNobody, unselected, unservedPorts } from "./meant_peers.ts";
import { sectionsOf } from "./placed_section.ts";
import { shadowedRules } from "./shadowed_rules.ts";
import { Who } from "./who.ts";

/** What was found. */
export interface CheckResult {
  readonly findings: readonly Finding[];
  /** Policies that were looked at; those with faults are not among them. */
  readonly policies: number;
  /** Workloads that selectors were held against. */
  readonly workloads: number;
  /** There were too many rules to hold each against all others. */
  readonly isCut: boolean;
}

/** Options of {@link checkInventory}. */
export interface CheckOptions {
  /** Name of the cluster; default `default`. */
  readonly cluster?: string;
}

/** Checks all that there is, faults of the texts included. */
export function checkInventory(
  inventory: Inventory,
  { cluster = "default" }: CheckOptions = {},
): CheckResult {
  const policies = inventory.policies.filter(({ kind }) => kind !== "ServicePeers");
  const who = new Who(inventory),
    sections = sectionsOf(policies),
    essentials = new Essentials(inventory, cluster);
  const shadowed = shadowedRules(sections);
  const findings = [
    ...inventory.faults.map(({ file, line, column, path, detail }): Finding => ({
      ...{ id: "fault", severity: CHECKS.fault.severity, file, line, column, policy: "", path, says: detail },
      action: "Correct it: nothing of this object is judged or applied",
    })),
    ...policies.flatMap((policy) =>
      policy.warnings.map(({ path, detail }) =>
        finding({
          ...{ id: "no-effect", policy, line: policy.line, path, says: detail },
          action: "Take it out, or write what is meant",
        })
      )
    ),
    ...unselected(policies, who),
    ...sections.flatMap((section) => [
      ...meantNobody(section, who, inventory.policies),
      ...unservedPorts(section, who, inventory),
      ...coveredAddresses(section, inventory),
      ...essentials.denied(section),
    ]),
    ...essentials.closedDns(sections, who),
    ...shadowed.findings,
  ];
  return {
    findings: sortFindings(findings),
    policies: policies.length,
    workloads: inventory.workloads.length,
    isCut: shadowed.isCut,
  };
}
