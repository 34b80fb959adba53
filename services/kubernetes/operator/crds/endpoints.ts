/** CiliumIdentity, CiliumEndpoint, CiliumEndpointSlice, CiliumNode: what Weir writes for people to read. @module */
import { RESOURCES } from "../../api/resource.ts";
import { AGE, type Definition } from "./definition.ts";
import { anything, CONDITIONS, integer, listOf, mapOf, object, text } from "./schema.ts";

const number = integer(0, undefined, { format: "int64" });
const networking = object({
  addressing: listOf(object({ ipv4: text(), ipv6: text() })),
  node: text({ description: "Address of the node that the endpoint lives on." }),
}, { required: ["addressing"] });
const encryption = object({ key: integer() });
const namedPorts = listOf(object({
  name: text(),
  port: integer(0, 65535),
  protocol: text(),
}));

const identity: Definition = {
  resource: RESOURCES.CiliumIdentity,
  shortNames: ["ciliumid"],
  description: "The number of one set of security-relevant labels. Its name is the number.",
  columns: [
    {
      name: "Namespace",
      type: "string",
      jsonPath: ".metadata.labels.io\\.kubernetes\\.pod\\.namespace",
    },
    AGE,
  ],
  properties: { "security-labels": mapOf(text(), { description: "By source:key." }) },
  required: ["security-labels"],
};

const endpoint: Definition = {
  resource: RESOURCES.CiliumEndpoint,
  shortNames: ["cep", "ciliumep"],
  description: "The endpoint of one pod. Written where single endpoints are asked for; slices have them all.",
  columns: [
    { name: "Security Identity", type: "integer", jsonPath: ".status.identity.id" },
    { name: "Endpoint State", type: "string", jsonPath: ".status.state" },
    { name: "IPv4", type: "string", jsonPath: ".status.networking.addressing[0].ipv4" },
    { name: "IPv6", type: "string", jsonPath: ".status.networking.addressing[0].ipv6" },
    AGE,
  ],
  properties: {
    status: object({
      id: integer(),
      identity: object({ id: number, labels: listOf(text()) }),
      networking,
      encryption,
      policy: anything("Enforcement by direction."),
      state: text(),
      "named-ports": namedPorts,
      "service-account": text(),
      health: anything("Health by part."),
      log: listOf(anything("One change of its state.")),
      controllers: listOf(anything("One of its tasks.")),
      "external-identifiers": anything("Names that others have for it."),
    }),
  },
};

const slice: Definition = {
  resource: RESOURCES.CiliumEndpointSlice,
  shortNames: ["ces"],
  description: "Up to a hundred endpoints of one namespace.",
  columns: [
    { name: "Namespace", type: "string", jsonPath: ".namespace" },
    AGE,
  ],
  properties: {
    namespace: text(),
    endpoints: listOf(object({
      name: text(),
      id: number,
      networking,
      encryption,
      "named-ports": namedPorts,
      "service-account": text(),
    })),
  },
  required: ["endpoints"],
};

const addressOf = (type: string) => `.spec.addresses[?(@.type=="${type}")].ip`;

const node: Definition = {
  resource: RESOURCES.CiliumNode,
  shortNames: ["cn", "ciliumn"],
  description: "A node that runs Weir: its addresses and those of its pods.",
  status: true,
  columns: [
    { name: "InternalIP", type: "string", jsonPath: addressOf("InternalIP") },
    { name: "Pod CIDRs", type: "string", jsonPath: ".spec.ipam.podCIDRs" },
    { name: "Ready", type: "string", jsonPath: ".status.conditions[?(@.type=='Ready')].status" },
    AGE,
  ],
  properties: {
    spec: object({
      "instance-id": text(),
      bootid: text(),
      addresses: listOf(object({ type: text(), ip: text() })),
      health: object({ ipv4: text(), ipv6: text() }),
      ingress: object({ ipv4: text(), ipv6: text() }),
      encryption,
      ipam: object({
        podCIDRs: listOf(text()),
        pool: mapOf(anything("Of an address: who has it.")),
        pools: anything("Addresses by pool."),
      }),
      nodeidentity: number,
    }),
    status: object({ ipam: anything("Addresses in use."), conditions: CONDITIONS }),
  },
  required: ["spec"],
};

/** What is written by Weir alone. */
export const ENDPOINTS: readonly Definition[] = [identity, endpoint, slice, node];
