/** CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy. @module */
import { RESOURCES } from "../../api/resource.ts";
import { AGE, type Definition, type PrinterColumn } from "./definition.ts";
import { ruleSchema } from "./rule_schema.ts";
import { anything, CONDITIONS, listOf, mapOf, object } from "./schema.ts";

const condition = (type: string) => `.status.conditions[?(@.type=='${type}')]`;

const COLUMNS: PrinterColumn[] = [
  AGE,
  {
    name: "Valid",
    type: "string",
    jsonPath: `${condition("Valid")}.status`,
    description: "Whether Weir can read it.",
  },
  {
    name: "In force",
    type: "string",
    jsonPath: `${condition("InForce")}.status`,
    description: "Whether every node has it.",
  },
  { name: "Message", type: "string", jsonPath: `${condition("Valid")}.message`, priority: 1 },
  { name: "Nodes", type: "string", jsonPath: `${condition("InForce")}.message`, priority: 1 },
];

const STATUS = object({
  conditions: CONDITIONS,
  derivativePolicies: mapOf(anything("Policies that were made of this one.")),
});

function policy(
  resource: Definition["resource"],
  shortNames: string[],
  more: { description: string; nodeSelector: boolean },
): Definition {
  const rule = ruleSchema(more);
  return {
    resource,
    shortNames,
    description: more.description,
    status: true,
    columns: COLUMNS,
    properties: { spec: rule, specs: listOf(rule), status: STATUS },
  };
}

/** Policies of a namespace, and of the whole cluster. */
export const POLICIES: readonly Definition[] = [
  policy(RESOURCES.CiliumNetworkPolicy, ["cnp", "ciliumnp"], {
    description: "What endpoints of this namespace may be reached by, and may reach.",
    nodeSelector: false,
  }),
  policy(RESOURCES.CiliumClusterwideNetworkPolicy, ["ccnp"], {
    description: "What endpoints of all namespaces, or nodes, may be reached by, and may reach.",
    nodeSelector: true,
  }),
];
